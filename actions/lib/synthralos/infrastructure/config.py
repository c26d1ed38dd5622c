"""Reads and validates the entry `infrastructure` of the pack's configuration."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from synthralos.config.connection import Connection, connection
from synthralos.config.reader import default_if_none, read_int, read_seconds, require_object
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name, require_identifier
from synthralos.escalation.config import CHANNELS
from synthralos.infrastructure.parameter_names import holds_command
from synthralos.infrastructure.parameter_templates import variables_in
from synthralos.infrastructure.promql import require_query
from synthralos.infrastructure.runbooks import (
    REQUIRED,
    Runbook,
    parse_runbooks,
    read_approval,
    read_outlines,
)
from synthralos.sensing.alert_subjects import SubjectRules

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

QUERY, LABEL = "up == 0", "instance"
MAX_SECONDS = 7 * 24 * 3600
# Prometheus scrapes each minute by default: earlier, its last sample may be older than the repair.
SETTLE_SECONDS = 60


@dataclass(frozen=True)
class Prometheus:
    """How to ask Prometheus which nodes are down.

    :ivar query: PromQL that returns one sample for each node that is down.
    :ivar label: the label of a sample that names the node.
    :ivar check: PromQL that returns one sample for each healthy node; None to derive it from the
        query.
    """

    connection: Connection
    query: str = QUERY
    label: str = LABEL
    check: Optional[str] = None


@dataclass(frozen=True)
class Crew:
    """A repair crew: people who are notified, or a StackStorm action.

    :ivar channels: the escalation channels on which its people are notified.
    :ivar mail_to: its mail addresses; empty for those of escalation.mail.
    :ivar action: `pack.action`, or None for people.
    :ivar node_parameter: the parameter of the action that receives the node's name; None for the
        step of a runbook.
    :ivar parameters: the action's other parameters.
    :ivar approval: REQUIRED if a person must approve the action before it runs, else NONE.
    :ivar seconds: how long to wait for an execution of the action.
    :ivar capacity: the maximum number of nodes at a time, or None for any number.
    """

    name: str
    channels: tuple[str, ...] = ()
    mail_to: tuple[str, ...] = ()
    action: Optional[str] = None
    node_parameter: Optional[str] = "node"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    approval: str = REQUIRED
    seconds: float = 60.0
    skills: tuple[str, ...] = ()
    zone: Optional[str] = None
    capacity: Optional[int] = None
    available: bool = True

    @property
    def requires_approval(self) -> bool:
        return self.action is not None and self.approval == REQUIRED


@dataclass(frozen=True)
class Weather:
    """The weather service of the planner.

    :ivar path: relative to the base URL; {location} is replaced by a zone.
    """

    connection: Connection
    path: str


@dataclass(frozen=True)
class InfrastructureConfig:
    """The configuration of infrastructure_repair.

    :ivar alert_rules: which labels of an alert name the failed node.
    :ivar topology: the configured nodes as mappings; topology.Topology parses them.
    :ivar topology_from: the datastore key of further nodes, as JSON.
    :ivar allowed_actions: the actions that a crew or a step of a runbook may run.
    :ivar runbooks: for an alert, the first one that matches it counts.
    :ivar busy_seconds: how long an assignment counts as load of its crew; 0: only during its run.
    :ivar settle_seconds: seconds after which a repair is checked, and for which a node must then
        have been healthy.
    :ivar silence_alerts: whether a run silences, at Alertmanager, the alerts that it works on.
    :ivar travel_seconds: {zone: {zone: seconds}}, valid in both directions.
    :ivar fallback: whether the rules plan when the LLM cannot.
    :ivar max_tool_calls: the maximum number of tool calls of the LLM for one plan.
    """

    prometheus: Optional[Prometheus] = None
    alert_rules: SubjectRules = SubjectRules()
    topology: tuple[Any, ...] = ()
    topology_from: Optional[str] = None
    allowed_actions: tuple[str, ...] = ()
    crews: tuple[Crew, ...] = ()
    runbooks: tuple[Runbook, ...] = ()
    busy_seconds: int = 3600
    settle_seconds: int = SETTLE_SECONDS
    silence_alerts: bool = False
    travel_seconds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    holidays: tuple[str, ...] = ()
    weather: Optional[Weather] = None
    fallback: bool = True
    max_tool_calls: int = 10

    @classmethod
    def from_config(cls, entry: object) -> "InfrastructureConfig":
        """Parse the mapping under `infrastructure`.

        :raises InvalidInput: an entry is invalid; the error names it.
        """
        fields = require_object("infrastructure", entry)
        planner = require_object("infrastructure.planner", fields.get("planner"))
        allowed = tuple(_names("infrastructure.allowed_actions", fields.get("allowed_actions")))
        crews = tuple(
            _crew("infrastructure.crews[%d]" % n, crew, allowed)
            for n, crew in enumerate(_list("infrastructure.crews", fields.get("crews")))
        )
        for crew in crews:
            if sum(crew.name == other.name for other in crews) > 1:
                hint = "Crew names must be unique"
                raise InvalidInput("infrastructure.crews", crew.name, "duplicate crew name", hint)
        return cls(
            prometheus=_prometheus(fields.get("prometheus")),
            alert_rules=_alert_rules(fields),
            topology=tuple(_list("infrastructure.topology", fields.get("topology"))),
            topology_from=_key(fields, "topology_from"),
            allowed_actions=allowed,
            crews=crews,
            runbooks=parse_runbooks(
                _list("infrastructure.runbooks", fields.get("runbooks")),
                allowed,
                [crew.name for crew in crews],
            ),
            busy_seconds=read_int(fields, "busy_seconds", 3600, 0, MAX_SECONDS, "infrastructure."),
            settle_seconds=read_int(
                fields, "settle_seconds", SETTLE_SECONDS, 0, 3600, "infrastructure."
            ),
            silence_alerts=_boolean(fields, "silence_alerts"),
            travel_seconds=_travel(fields.get("travel_seconds")),
            holidays=tuple(_dates("infrastructure.holidays", fields.get("holidays"))),
            weather=_weather(fields.get("weather")),
            fallback=bool(default_if_none(planner.get("fallback"), True)),
            max_tool_calls=read_int(
                planner, "max_tool_calls", 10, 0, 50, "infrastructure.planner."
            ),
        )

    def crew(self, name: str) -> Optional[Crew]:
        """Return the crew with this name, or None if there is none."""
        return next((crew for crew in self.crews if crew.name == name), None)


def load_config(env: "Environment") -> InfrastructureConfig:
    """Return the configuration of `env`, and mask its secrets from now on."""
    config = InfrastructureConfig.from_config(env.settings.infrastructure)
    for source in (config.prometheus, config.weather):
        if source is not None:
            env.redactor.add(source.connection.secret)
            for value in source.connection.headers.values():
                env.redactor.add(value)
    return config


def load_config_or_default(env: "Environment") -> InfrastructureConfig:
    """Return the configuration of `env`; if an entry is invalid, what decides about alerts.

    It is for what must go on then: no alert may be lost, and a run of infrastructure_repair reports
    the invalid entry. So the runbooks are still matched, with their modes; they have no steps.
    """
    try:
        return InfrastructureConfig.from_config(env.settings.infrastructure)
    except InvalidInput:
        return _readable_parts(env.settings.infrastructure)


def _readable_parts(entry: object) -> InfrastructureConfig:
    if not isinstance(entry, dict):
        return InfrastructureConfig()
    topology, topology_from = entry.get("topology"), entry.get("topology_from")
    return InfrastructureConfig(
        alert_rules=_readable_alert_rules(entry),
        topology=tuple(topology) if isinstance(topology, list) else (),
        topology_from=topology_from if topology_from and isinstance(topology_from, str) else None,
        runbooks=read_outlines(entry.get("runbooks")),
    )


def _readable_alert_rules(entry: Mapping[str, Any]) -> SubjectRules:
    try:
        return _alert_rules(entry)
    except InvalidInput:
        return SubjectRules()


def _alert_rules(entry: Mapping[str, Any]) -> SubjectRules:
    return SubjectRules(
        labels=_texts(entry, "alert_labels"),
        exporters=_texts(entry, "alert_exporters"),
        clusters=_texts(entry, "alert_cluster_labels"),
        replicas=_texts(entry, "alert_replica_labels"),
    )


def _prometheus(raw_entry: object) -> Optional[Prometheus]:
    path = "infrastructure.prometheus"
    entry = require_object(path, raw_entry)
    if entry.get("base_url") is None:
        return None
    return Prometheus(
        connection=connection(entry, path, "token", 10.0, 5.0),
        query=require_query(path + ".query", entry.get("query") or QUERY),
        label=_label(path + ".label", entry.get("label") or LABEL),
        check=None if not entry.get("check") else require_query(path + ".check", entry["check"]),
    )


def _label(path: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(path, value, "is not a valid label", "Name a label of the samples")
    return value


def _weather(raw_entry: object) -> Optional[Weather]:
    config_path = "infrastructure.weather"
    entry = require_object(config_path, raw_entry)
    if entry.get("base_url") is None:
        return None
    path = entry.get("path") or "/{location}"
    if not isinstance(path, str) or "{location}" not in path:
        reason = "does not contain {location}"
        raise InvalidInput(config_path + ".path", path, reason, "Write it as /{location}")
    return Weather(connection(entry, config_path, "token", 5.0, 5.0), path)


def _crew(path: str, raw_entry: object, allowed: tuple[str, ...]) -> Crew:
    entry = require_object(path, raw_entry)
    action = entry.get("action") or None
    if action is not None and action not in allowed:
        allowed_names = ", ".join(allowed) or "none"
        hint = "Add it to infrastructure.allowed_actions (now: %s)" % allowed_names
        raise InvalidInput(path + ".action", action, "is not allowed", hint)
    approval = read_approval(path, entry)
    channels = tuple(_names(path + ".channels", entry.get("channels")))
    for channel in channels:
        if channel not in CHANNELS:
            hint = "Use one of " + ", ".join(CHANNELS)
            raise InvalidInput(path + ".channels", channel, "is not a channel", hint)
    if bool(channels) == (action is not None):
        reason = "has %s channels %s an action" % (
            ("both", "and") if channels else ("neither", "nor")
        )
        raise InvalidInput(path, entry.get("name"), reason, "Set exactly one of the two")
    mail_to = [
        _address(path, address) for address in _list(path + ".mail_to", entry.get("mail_to"))
    ]
    zone, capacity = entry.get("zone"), entry.get("capacity")
    if capacity is not None:
        capacity = read_int(entry, "capacity", None, 0, 10_000, path + ".")
    node_parameter = require_identifier(
        path + ".node_parameter", entry.get("node_parameter") or "node"
    )
    if holds_command(node_parameter):
        # The name of a node comes from an alert.
        reason = "is named like a command line, code or a credential, which takes no node"
        hint = "Name a parameter that receives the name of a node, such as node"
        raise InvalidInput(path + ".node_parameter", node_parameter, reason, hint)
    parameters = require_object(path + ".parameters", entry.get("parameters"))
    if node_parameter in variables_in(parameters):
        reason = "is inserted into a template of the crew's parameters"
        hint = "Write the values in the parameters: the name of a node is never a part of a text"
        raise InvalidInput(path + ".node_parameter", node_parameter, reason, hint)
    return Crew(
        name=require_identifier(path + ".name", entry.get("name")),
        channels=channels,
        mail_to=tuple(mail_to),
        action=action,
        node_parameter=node_parameter,
        parameters=parameters,
        approval=approval,
        seconds=read_seconds(entry, path + ".seconds", 60.0),
        skills=tuple(_names(path + ".skills", entry.get("skills"))),
        zone=None if zone is None else require_identifier(path + ".zone", zone),
        capacity=capacity,
        available=bool(default_if_none(entry.get("available"), True)),
    )


def _address(path: str, value: object) -> str:
    address = value if isinstance(value, str) else ""
    name, _, host = address.rpartition("@")
    if not name or not host or not address.isprintable() or " " in address:
        hint = "Write it as name@example.com"
        raise InvalidInput(path + ".mail_to", value, "is not an e-mail address", hint)
    return address


def _travel(entry: object) -> dict[str, dict[str, int]]:
    path = "infrastructure.travel_seconds"
    travel_seconds: dict[str, dict[str, int]] = {}
    for origin, destinations in require_object(path, entry).items():
        for destination, value in require_object("%s.%s" % (path, origin), destinations).items():
            is_valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not is_valid or not is_name(origin) or not is_name(destination):
                entry_path = "%s.%s.%s" % (path, origin, destination)
                raise InvalidInput(
                    entry_path, value, "is not a number of seconds", "Write {zone: {zone: 1800}}"
                )
            travel_seconds.setdefault(origin, {})[destination] = value
    return travel_seconds


def _dates(path: str, value: object) -> Iterator[str]:
    for n, entry in enumerate(_list(path, value)):
        # YAML parses 2025-12-25 as a date.
        text = entry.isoformat() if isinstance(entry, datetime.date) else entry
        try:
            yield datetime.date.fromisoformat(text).isoformat()
        except (TypeError, ValueError) as error:
            hint = "Write it as 2025-12-25"
            raise InvalidInput("%s[%d]" % (path, n), entry, "is not a date", hint) from error


def _names(path: str, value: object) -> list[str]:
    return [
        require_identifier("%s[%d]" % (path, n), name) for n, name in enumerate(_list(path, value))
    ]


def _boolean(entry: Mapping[str, Any], name: str) -> bool:
    value = default_if_none(entry.get(name), False)
    if not isinstance(value, bool):
        path = "infrastructure." + name
        raise InvalidInput(path, value, "must be true or false", "Use true or false")
    return value


def _key(entry: Mapping[str, Any], name: str) -> Optional[str]:
    """Return the key of the datastore under `name`, or None if it is blank."""
    value = entry.get(name) or None
    if value is not None and not isinstance(value, str):
        path = "infrastructure." + name
        raise InvalidInput(path, value, "is not a key of the datastore", "Write the key as text")
    return value


def _texts(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    path = "infrastructure." + name
    texts = _list(path, entry.get(name))
    for n, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            hint = "Write it as a text, such as the name of a label"
            raise InvalidInput("%s[%d]" % (path, n), text, "is not a name", hint)
    return tuple(texts)


def _list(path: str, value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(path, value, "must be a list", "See config.schema.yaml")
    return value
