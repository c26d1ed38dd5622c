"""The entry `sensors` of the pack's configuration: defaults and validation."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.config.connection import Connection, connection
from synthralos.config.platforms import DEFAULT_API, Platform
from synthralos.config.reader import default_if_none, read_int, read_seconds, require_object
from synthralos.core.errors import InvalidInput

MIN_POLL_SECONDS = 4
POLL_SECONDS = 30
TIMEOUT = 10.0
FAILURE_EVENTS = ("agent_failure", "agent_failed", "agent_error", "execution_failed")
LOOP_EVENTS = ("agent_loop", "loop_detected", "infinite_loop")


@dataclass(frozen=True)
class Alertmanager:
    """The entry `alertmanager`.

    :ivar connections: the members of one cluster, or the only Alertmanager.
    :ivar filter: matchers that must all match, such as `severity="critical"`.
    :ivar receiver: a regular expression for names of receivers, or None.
    :ivar silenced, inhibited: whether such alerts are dispatched too.
    :ivar settle_seconds: how long after its start an Alertmanager may not know all alerts yet.
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
    """A connection and a path, which may be empty, under its address."""

    connection: Connection
    path: str


@dataclass(frozen=True)
class AgentErrors:
    """The entry `agent_errors`.

    :ivar endpoints: endpoints of the same list, in order of preference.
    :ivar initial_lookback: maximum age, in seconds, of errors that the first poll dispatches.
    """

    endpoints: list[Endpoint]
    initial_lookback: float
    poll_interval: int


@dataclass(frozen=True)
class AgentEvents:
    """The entry `agent_events`.

    :ivar endpoints: endpoints of the same stream, in order of preference.
    :ivar reconnect: seconds before the first reconnection, unless the server sets `retry:`.
    :ivar heartbeat: seconds without a byte after which a connection counts as dead.
    :ivar max_tries: failed attempts in a row after which the sensor counts as disconnected.
    :ivar failure_events, loop_events: names of the events that report a failure or a loop.
    """

    endpoints: list[Endpoint]
    reconnect: float
    heartbeat: float
    max_tries: int
    failure_events: tuple[str, ...]
    loop_events: tuple[str, ...]


@dataclass(frozen=True)
class SensorsConfig:
    """The configuration of each sensor; None if it is not configured."""

    alertmanager: Optional[Alertmanager] = None
    agent_errors: Optional[AgentErrors] = None
    agent_events: Optional[AgentEvents] = None

    @classmethod
    def from_config(
        cls, raw_entry: object, platforms: Sequence[Platform] = (), connect: float = 5.0
    ) -> "SensorsConfig":
        """Read the mapping under `sensors`.

        :param platforms: the platforms of the settings; a `path` is relative to their addresses.
        :param connect: connect timeout in seconds.
        :raises InvalidInput: a value is not valid; the error names its path.
        """
        entry = require_object("sensors", raw_entry)
        return cls(
            alertmanager=alertmanager(entry.get("alertmanager"), connect),
            agent_errors=agent_errors(entry.get("agent_errors"), platforms, connect),
            agent_events=agent_events(entry.get("agent_events"), platforms, connect),
        )


def alertmanager(raw_entry: object, connect: float = 5.0) -> Optional[Alertmanager]:
    path = "sensors.alertmanager"
    entry = require_object(path, raw_entry)
    urls = _list(path + ".urls", entry.get("urls"))
    if entry.get("url"):
        urls = [entry["url"]] + [url for url in urls if url != entry["url"]]
    if not urls:
        return None
    receiver = entry.get("receiver") or None
    if receiver is not None and not isinstance(receiver, str):
        raise InvalidInput(
            path + ".receiver", receiver, "must be a text", "Write a regular expression"
        )
    return Alertmanager(
        connections=[_connection(entry, path, url, connect) for url in urls],
        filter=_list(path + ".filter", entry.get("filter")),
        receiver=receiver,
        silenced=_boolean(entry, path, "silenced"),
        inhibited=_boolean(entry, path, "inhibited"),
        settle_seconds=read_seconds(entry, path + ".settle_seconds", 180.0, minimum=0.0),
        poll_interval=_poll_interval(entry, path),
    )


def agent_errors(
    raw_entry: object, platforms: Sequence[Platform] = (), connect: float = 5.0
) -> Optional[AgentErrors]:
    path = "sensors.agent_errors"
    entry = require_object(path, raw_entry)
    endpoints = _endpoints(entry, path, platforms, connect)
    if not endpoints:
        return None
    return AgentErrors(
        endpoints=endpoints,
        initial_lookback=read_seconds(entry, path + ".initial_lookback", 300.0, minimum=0.0),
        poll_interval=_poll_interval(entry, path),
    )


def agent_events(
    raw_entry: object, platforms: Sequence[Platform] = (), connect: float = 5.0
) -> Optional[AgentEvents]:
    path = "sensors.agent_events"
    entry = require_object(path, raw_entry)
    endpoints = _endpoints(entry, path, platforms, connect)
    if not endpoints:
        return None
    return AgentEvents(
        endpoints=endpoints,
        reconnect=read_seconds(entry, path + ".reconnect", 3.0),
        heartbeat=read_seconds(entry, path + ".heartbeat", 30.0, minimum=1.0),
        max_tries=read_int(entry, "max_tries", 10, 1, 1000, path + "."),
        failure_events=_names(entry, path, "failure_events", FAILURE_EVENTS),
        loop_events=_names(entry, path, "loop_events", LOOP_EVENTS),
    )


def _endpoints(
    entry: Mapping[str, Any], config_path: str, platforms: Sequence[Platform], connect: float
) -> list[Endpoint]:
    """Return the endpoint at `url` with its own credentials, or at `path` on each platform with the
    API of SynthralOS.
    """
    url, path = entry.get("url"), entry.get("path")
    if url and path:
        raise InvalidInput(
            config_path + ".path", path, "cannot be combined with url", "Set one of the two"
        )
    if url:
        return [Endpoint(_connection(entry, config_path, url, connect), "")]
    if not path:
        return []
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidInput(
            config_path + ".path", path, "must begin with /", "Use a path such as /errors"
        )
    if not any(platform.api == DEFAULT_API for platform in platforms):
        hint = "Configure one with `api: synthralos`, or set %s.url" % config_path
        raise InvalidInput(
            config_path + ".path", path, "needs a platform, and none is configured", hint
        )
    timeout = read_seconds(entry, config_path + ".timeout", TIMEOUT)
    return [
        Endpoint(dataclasses.replace(platform.connection, timeout=timeout), path)
        for platform in platforms
        if platform.api == DEFAULT_API
    ]


def _connection(
    entry: Mapping[str, Any], path: str, url: Any, connect: float
) -> Connection:
    return connection(dict(entry, url=url), path, "token", TIMEOUT, connect, address="url")


def _poll_interval(entry: Mapping[str, Any], path: str) -> int:
    # StackStorm does not accept shorter intervals.
    return read_int(entry, "poll_interval", POLL_SECONDS, MIN_POLL_SECONDS, 3600, path + ".")


def _boolean(entry: Mapping[str, Any], path: str, name: str) -> bool:
    value = default_if_none(entry.get(name), False)
    if not isinstance(value, bool):
        raise InvalidInput(
            "%s.%s" % (path, name), value, "must be true or false", "See config.schema.yaml"
        )
    return value


def _names(
    entry: Mapping[str, Any], path: str, name: str, default: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(_list("%s.%s" % (path, name), entry.get(name)) or default)


def _list(path: str, value: Any) -> list[str]:
    value = default_if_none(value, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise InvalidInput(path, value, "must be a list of texts", "See config.schema.yaml")
    return value
