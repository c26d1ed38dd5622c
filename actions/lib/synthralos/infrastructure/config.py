"""The entry `infrastructure` of the pack's configuration, with defaults and refusals that name it.
"""

import datetime
from dataclasses import dataclass, field
from typing import Optional

from synthralos.config.reader import default_if_none, read_int, read_seconds
from synthralos.config.settings import Connection, connection
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name, require_identifier
from synthralos.escalation.config import CHANNELS

QUERY, LABEL = "up == 0", "instance"
ALERT_LABELS = ("node", "instance", "host", "hostname", "device", "pod", "service")
MAX_QUERY_CHARS = 2000
NONE, REQUIRED = APPROVALS = ("none", "required")
MAX_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Prometheus:
    """:ivar query: PromQL that gives one sample for each node that is down.
    :ivar label: the label of a sample that names the node.
    """

    connection: Connection
    query: str = QUERY
    label: str = LABEL


@dataclass(frozen=True)
class Crew:
    """Who repairs: people who are told, or an action of StackStorm.

    :ivar channels: of escalation, on which its people are told.
    :ivar mail_to: its addresses; the ones of escalation.mail where there are none.
    :ivar action: `pack.action`, or None for people; node_parameter: which of its parameters gets
        the node's name; parameters: what it gets besides.
    :ivar approval: REQUIRED: the action runs once a person has approved it; NONE: at once.
    :ivar seconds: how long an execution of the action is waited for.
    :ivar capacity: most nodes at a time, or None.
    """

    name: str
    channels: tuple = ()
    mail_to: tuple = ()
    action: Optional[str] = None
    node_parameter: str = "node"
    parameters: dict = field(default_factory=dict)
    approval: str = REQUIRED
    seconds: float = 60.0
    skills: tuple = ()
    zone: Optional[str] = None
    capacity: Optional[int] = None
    available: bool = True

    @property
    def requires_approval(self):
        return self.action is not None and self.approval == REQUIRED


@dataclass(frozen=True)
class Weather:
    """:ivar path: below the address; {location} stands for a zone."""

    connection: Connection
    path: str


@dataclass(frozen=True)
class InfrastructureConfig:
    """What infrastructure_repair knows of the world.

    :ivar topology: the nodes as they are configured; topology.Topology reads them.
    :ivar topology_from: the datastore key that holds more of them, as JSON.
    :ivar allowed_actions: the actions that crews may be.
    :ivar busy_seconds: how long an assignment counts as load of its crew; 0 is for the run only.
    :ivar settle_seconds: the wait before new failures are looked for.
    :ivar travel_seconds: {zone: {zone: seconds}}, either way.
    :ivar fallback: whether rules plan when the LLM cannot.
    :ivar max_tool_calls: most tools that the LLM may use for one plan.
    """

    prometheus: Optional[Prometheus] = None
    alert_labels: tuple = ALERT_LABELS
    topology: tuple = ()
    topology_from: Optional[str] = None
    allowed_actions: tuple = ()
    crews: tuple = ()
    busy_seconds: int = 3600
    settle_seconds: int = 15
    travel_seconds: dict = field(default_factory=dict)
    holidays: tuple = ()
    weather: Optional[Weather] = None
    fallback: bool = True
    max_tool_calls: int = 10

    @classmethod
    def from_config(cls, entry):
        """From the mapping under `infrastructure`. InvalidInput names the entry that is wrong."""
        entry = _object("infrastructure", entry)
        planner = _object("infrastructure.planner", entry.get("planner"))
        allowed = tuple(_names("infrastructure.allowed_actions", entry.get("allowed_actions")))
        crews = tuple(
            _crew("infrastructure.crews[%d]" % n, crew, allowed)
            for n, crew in enumerate(_list("infrastructure.crews", entry.get("crews")))
        )
        for crew in crews:
            if sum(crew.name == other.name for other in crews) > 1:
                way_out = "Give each crew a name of its own"
                raise InvalidInput("infrastructure.crews", crew.name, "stands there twice", way_out)
        labels = _names("infrastructure.alert_labels", entry.get("alert_labels"))
        return cls(
            prometheus=_prometheus(entry.get("prometheus")),
            alert_labels=tuple(labels) or ALERT_LABELS,
            topology=tuple(_list("infrastructure.topology", entry.get("topology"))),
            topology_from=entry.get("topology_from") or None,
            allowed_actions=allowed,
            crews=crews,
            busy_seconds=read_int(entry, "busy_seconds", 3600, 0, MAX_SECONDS, "infrastructure."),
            settle_seconds=read_int(entry, "settle_seconds", 15, 0, 3600, "infrastructure."),
            travel_seconds=_travel(entry.get("travel_seconds")),
            holidays=tuple(_dates("infrastructure.holidays", entry.get("holidays"))),
            weather=_weather(entry.get("weather")),
            fallback=bool(default_if_none(planner.get("fallback"), True)),
            max_tool_calls=read_int(
                planner, "max_tool_calls", 10, 0, 50, "infrastructure.planner."
            ),
        )

    def crew(self, name):
        """The Crew of that name, or None."""
        return next((crew for crew in self.crews if crew.name == name), None)


def configuration(env):
    """Infrastructure of the environment's settings; its secrets are masked from now on."""
    config = InfrastructureConfig.from_config(env.settings.infrastructure)
    for source in (config.prometheus, config.weather):
        if source is not None:
            env.redactor.add(source.connection.secret)
            for value in source.connection.headers.values():
                env.redactor.add(value)
    return config


def _prometheus(entry):
    where = "infrastructure.prometheus"
    entry = _object(where, entry)
    if entry.get("base_url") is None:
        return None
    return Prometheus(
        connection=connection(entry, where, "token", 10.0, 5.0),
        query=query(where + ".query", entry.get("query") or QUERY),
        label=_label(where + ".label", entry.get("label") or LABEL),
    )


def query(where, value):
    """`value` when it may be a PromQL query, else InvalidInput."""
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_QUERY_CHARS:
        way_out = "Write PromQL, such as up == 0, of at most %d characters" % MAX_QUERY_CHARS
        raise InvalidInput(where, value, "is no query", way_out)
    return value


def _label(where, value):
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(where, value, "is no label", "Name a label of the samples")
    return value


def _weather(entry):
    where = "infrastructure.weather"
    entry = _object(where, entry)
    if entry.get("base_url") is None:
        return None
    path = entry.get("path") or "/{location}"
    if not isinstance(path, str) or "{location}" not in path:
        why = "has no place for {location}"
        raise InvalidInput(where + ".path", path, why, "Write it as /{location}")
    return Weather(connection(entry, where, "token", 5.0, 5.0), path)


def _crew(where, entry, allowed):
    entry = _object(where, entry)
    action, approval = entry.get("action") or None, entry.get("approval") or REQUIRED
    if action is not None and action not in allowed:
        known = ", ".join(allowed) or "none"
        way_out = "Add it to infrastructure.allowed_actions (now: %s)" % known
        raise InvalidInput(where + ".action", action, "is not allowed", way_out)
    if approval not in APPROVALS:
        way_out = "Use one of " + ", ".join(APPROVALS)
        raise InvalidInput(where + ".approval", approval, "is invalid", way_out)
    channels = tuple(_names(where + ".channels", entry.get("channels")))
    for channel in channels:
        if channel not in CHANNELS:
            way_out = "Use one of " + ", ".join(CHANNELS)
            raise InvalidInput(where + ".channels", channel, "is no channel", way_out)
    if bool(channels) == (action is not None):
        why = "has %s channels %s an action" % (("both", "and") if channels else ("neither", "nor"))
        raise InvalidInput(where, entry.get("name"), why, "Give it one of the two")
    mail_to = [_address(where, one) for one in _list(where + ".mail_to", entry.get("mail_to"))]
    zone, capacity = entry.get("zone"), entry.get("capacity")
    if capacity is not None:
        capacity = read_int(entry, "capacity", None, 0, 10_000, where + ".")
    return Crew(
        name=require_identifier(where + ".name", entry.get("name")),
        channels=channels,
        mail_to=tuple(mail_to),
        action=action,
        node_parameter=require_identifier(
            where + ".node_parameter", entry.get("node_parameter") or "node"
        ),
        parameters=_object(where + ".parameters", entry.get("parameters")),
        approval=approval,
        seconds=read_seconds(entry, where + ".seconds", 60.0),
        skills=tuple(_names(where + ".skills", entry.get("skills"))),
        zone=None if zone is None else require_identifier(where + ".zone", zone),
        capacity=capacity,
        available=bool(default_if_none(entry.get("available"), True)),
    )


def _address(where, value):
    name, at, host = value.rpartition("@") if isinstance(value, str) else ("", "", "")
    if not name or not host or not value.isprintable() or " " in value:
        way_out = "Write it as name@example.com"
        raise InvalidInput(where + ".mail_to", value, "is no e-mail address", way_out)
    return value


def _travel(entry):
    where = "infrastructure.travel_seconds"
    found = {}
    for origin, below in _object(where, entry).items():
        for destination, value in _object("%s.%s" % (where, origin), below).items():
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not good or not is_name(origin) or not is_name(destination):
                place = "%s.%s.%s" % (where, origin, destination)
                raise InvalidInput(
                    place, value, "is no number of seconds", "Write {zone: {zone: 1800}}"
                )
            found.setdefault(origin, {})[destination] = value
    return found


def _dates(where, value):
    for n, one in enumerate(_list(where, value)):
        # YAML reads 2025-12-25 as a date of its own accord.
        text = one.isoformat() if isinstance(one, datetime.date) else one
        try:
            yield datetime.date.fromisoformat(text).isoformat()
        except (TypeError, ValueError) as error:
            way_out = "Write it as 2025-12-25"
            raise InvalidInput("%s[%d]" % (where, n), one, "is no date", way_out) from error


def _names(where, value):
    return [
        require_identifier("%s[%d]" % (where, n), one) for n, one in enumerate(_list(where, value))
    ]


def _list(where, value):
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(where, value, "is no list", "See config.schema.yaml")
    return value


def _object(where, value):
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(where, value, "is not an object", "See config.schema.yaml")
    return value
