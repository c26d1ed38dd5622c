"""The entry `metrics` of the pack's configuration, with defaults and refusals that name it."""

from dataclasses import dataclass
from typing import Optional

from synthralos import settings
from synthralos.names import checked
from synthralos.refusals import Refused

LONGEST_PUSH = 60.0


@dataclass(frozen=True)
class Pushgateway:
    """:ivar connection: settings.Connection; job, instance: labels of what is pushed."""

    connection: settings.Connection
    job: str
    instance: Optional[str]


@dataclass(frozen=True)
class Metrics:
    """The entry `metrics`.

    :ivar max_agents: agents with series of their own beside those configured.
    :ivar agent_idle_seconds: after that without a call, an agent gives way to one without series.
    """

    max_agents: int = 50
    agent_idle_seconds: int = 24 * 3600
    pushgateway: Optional[Pushgateway] = None

    @classmethod
    def from_config(cls, entry):
        return cls(
            settings.whole(entry, "max_agents", 50, 0, 1000, "metrics."),
            settings.whole(
                entry, "agent_idle_seconds", 24 * 3600, 600, 90 * 24 * 3600, "metrics."
            ),
            _pushgateway(entry.get("pushgateway")),
        )


def _pushgateway(entry):
    where = "metrics.pushgateway"
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise Refused(where, entry, "is not an object", "See config.schema.yaml")
    seconds = settings.seconds(entry, where + ".timeout", 10.0)
    if seconds > LONGEST_PUSH:
        way_out = "Use at most %d" % LONGEST_PUSH
        raise Refused(where + ".timeout", seconds, "is out of bounds", way_out)
    if not entry.get("url"):
        return None
    connection = settings.connection(entry, where, "token", seconds, seconds, "url")
    instance = entry.get("instance") or None
    return Pushgateway(
        connection,
        checked(where + ".job", entry.get("job") or "synthralos"),
        instance if instance is None else checked(where + ".instance", instance),
    )
