"""The entry `metrics` of the pack's configuration: defaults and validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.config.connection import Connection, connection
from synthralos.config.reader import read_int, read_seconds
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier

MAX_PUSH_SECONDS = 60.0


@dataclass(frozen=True)
class Pushgateway:
    """Where metrics are pushed to.

    :ivar job, instance: labels of the pushed metrics.
    """

    connection: Connection
    job: str
    instance: Optional[str]


@dataclass(frozen=True)
class MetricsConfig:
    """The entry `metrics`.

    :ivar max_agents: maximum number of agents with series of their own, in addition to the
        configured agents.
    :ivar agent_idle_seconds: seconds without a call after which the series of an agent may be
        replaced by those of another.
    """

    max_agents: int = 50
    agent_idle_seconds: int = 24 * 3600
    pushgateway: Optional[Pushgateway] = None

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "MetricsConfig":
        return cls(
            read_int(entry, "max_agents", 50, 0, 1000, "metrics."),
            read_int(entry, "agent_idle_seconds", 24 * 3600, 600, 90 * 24 * 3600, "metrics."),
            _pushgateway(entry.get("pushgateway")),
        )


def _pushgateway(entry: object) -> Optional[Pushgateway]:
    path = "metrics.pushgateway"
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise InvalidInput(path, entry, "is not an object", "See config.schema.yaml")
    seconds = read_seconds(entry, path + ".timeout", 10.0)
    if seconds > MAX_PUSH_SECONDS:
        hint = "Use at most %d" % MAX_PUSH_SECONDS
        raise InvalidInput(path + ".timeout", seconds, "is too long", hint)
    if not entry.get("url"):
        return None
    instance = entry.get("instance") or None
    return Pushgateway(
        connection(entry, path, "token", seconds, seconds, "url"),
        require_identifier(path + ".job", entry.get("job") or "synthralos"),
        instance if instance is None else require_identifier(path + ".instance", instance),
    )
