"""The entry `sensors` of the pack's configuration, with defaults and refusals that name it."""

import dataclasses
from dataclasses import dataclass
from typing import Optional

from synthralos.config.reader import default_if_none, read_int, read_seconds
from synthralos.config.settings import Connection, connection
from synthralos.core.errors import InvalidInput

MIN_POLL_SECONDS = 4
POLL_SECONDS = 30
TIMEOUT = 10.0
FAILURE_EVENTS = ("agent_failure", "agent_failed", "agent_error", "execution_failed")
LOOP_EVENTS = ("agent_loop", "loop_detected", "infinite_loop")


@dataclass(frozen=True)
class Alertmanager:
    """:ivar connections: the members of one cluster, or the only Alertmanager.
    :ivar filter: matchers that all have to match, such as `severity="critical"`.
    :ivar receiver: a regular expression over names of receivers, or None.
    :ivar silenced, inhibited: whether such alerts are told too.
    :ivar settle_seconds: for how long after its start an Alertmanager may not know all alerts yet.
    """

    connections: list[Connection]
    filter: list[str]
    receiver: Optional[str]
    silenced: bool
    inhibited: bool
    settle_seconds: float
    poll_interval: int


@dataclass(frozen=True)
class Endpoint:
    """Where something is asked for: a path, which may be empty, below a connection's address."""

    connection: Connection
    path: str


@dataclass(frozen=True)
class AgentErrors:
    """:ivar places: the same list, in order of preference.
    :ivar initial_lookback: at the very first poll, seconds back from which on errors count as new.
    """

    endpoints: list[Endpoint]
    initial_lookback: float
    poll_interval: int


@dataclass(frozen=True)
class AgentEvents:
    """:ivar places: the same stream, in order of preference.
    :ivar reconnect: seconds before the first reconnection, until the server says otherwise.
    :ivar heartbeat: seconds without a byte after which a connection is dead.
    :ivar max_tries: failed tries in a row from which on the sensor counts as blind.
    :ivar failure_events, loop_events: the names of events that tell of either.
    """

    endpoints: list[Endpoint]
    reconnect: float
    heartbeat: float
    max_tries: int
    failure_events: tuple
    loop_events: tuple


@dataclass(frozen=True)
class SensorsConfig:
    """What each sensor is to look at; None where nothing is configured."""

    alertmanager: Optional[Alertmanager] = None
    agent_errors: Optional[AgentErrors] = None
    agent_events: Optional[AgentEvents] = None

    @classmethod
    def from_config(cls, entry, platforms=(), connect=5.0):
        """From the mapping under `sensors`. InvalidInput names the entry that is wrong.

        :param platforms: the platforms of the settings, below whose addresses a `path` is.
        :param connect: seconds for connecting.
        """
        entry = _object("sensors", entry)
        return cls(
            alertmanager=alertmanager(entry.get("alertmanager"), connect),
            agent_errors=agent_errors(entry.get("agent_errors"), platforms, connect),
            agent_events=agent_events(entry.get("agent_events"), platforms, connect),
        )


def alertmanager(entry, connect=5.0):
    path = "sensors.alertmanager"
    entry = _object(path, entry)
    urls = _list(path + ".urls", entry.get("urls"))
    if entry.get("url"):
        urls = [entry["url"]] + [url for url in urls if url != entry["url"]]
    if not urls:
        return None
    receiver = entry.get("receiver") or None
    if receiver is not None and not isinstance(receiver, str):
        raise InvalidInput(
            path + ".receiver", receiver, "is no text", "Write a regular expression"
        )
    return Alertmanager(
        connections=[_connection(entry, path, url, connect) for url in urls],
        filter=_list(path + ".filter", entry.get("filter")),
        receiver=receiver,
        silenced=_boolean(entry, path, "silenced"),
        inhibited=_boolean(entry, path, "inhibited"),
        settle_seconds=read_seconds(entry, path + ".settle_seconds", 180.0, least=0.0),
        poll_interval=_poll_interval(entry, path),
    )


def agent_errors(entry, platforms=(), connect=5.0):
    path = "sensors.agent_errors"
    entry = _object(path, entry)
    places = _endpoints(entry, path, platforms, connect)
    if not places:
        return None
    return AgentErrors(
        endpoints=places,
        initial_lookback=read_seconds(entry, path + ".initial_lookback", 300.0, least=0.0),
        poll_interval=_poll_interval(entry, path),
    )


def agent_events(entry, platforms=(), connect=5.0):
    path = "sensors.agent_events"
    entry = _object(path, entry)
    places = _endpoints(entry, path, platforms, connect)
    if not places:
        return None
    return AgentEvents(
        endpoints=places,
        reconnect=read_seconds(entry, path + ".reconnect", 3.0),
        heartbeat=read_seconds(entry, path + ".heartbeat", 30.0, least=1.0),
        max_tries=read_int(entry, "max_tries", 10, 1, 1000, path + "."),
        failure_events=_names(entry, path, "failure_events", FAILURE_EVENTS),
        loop_events=_names(entry, path, "loop_events", LOOP_EVENTS),
    )


def _endpoints(entry, where, platforms, connect):
    """An address of its own, with credentials of its own; or a path of the platform, with its."""
    url, path = entry.get("url"), entry.get("path")
    if url and path:
        raise InvalidInput(where + ".path", path, "excludes url", "Set one of the two")
    if url:
        return [Endpoint(_connection(entry, where, url, connect), "")]
    if not path:
        return []
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidInput(where + ".path", path, "is no path", "Begin it with /")
    if not platforms:
        hint = "Set platform.base_url, or %s.url" % where
        raise InvalidInput(
            where + ".path", path, "is of a platform that is not configured", hint
        )
    timeout = read_seconds(entry, where + ".timeout", TIMEOUT)
    return [
        Endpoint(dataclasses.replace(platform.connection, timeout=timeout), path)
        for platform in platforms
    ]


def _connection(entry, path, url, connect):
    return connection(dict(entry, url=url), path, "token", TIMEOUT, connect, address="url")


def _poll_interval(entry, path):
    # StackStorm takes no shorter one.
    return read_int(entry, "poll_interval", POLL_SECONDS, MIN_POLL_SECONDS, 3600, path + ".")


def _boolean(entry, path, name):
    value = default_if_none(entry.get(name), False)
    if not isinstance(value, bool):
        raise InvalidInput("%s.%s" % (path, name), value, "is no boolean", "Use true or false")
    return value


def _names(entry, path, name, default):
    return tuple(_list("%s.%s" % (path, name), entry.get(name)) or default)


def _list(path, value):
    value = default_if_none(value, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise InvalidInput(path, value, "is no list of texts", "See config.schema.yaml")
    return value


def _object(path, value):
    value = default_if_none(value, {})
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "is not an object", "See config.schema.yaml")
    return value
