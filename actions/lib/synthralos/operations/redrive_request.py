"""What `recovery.redrive` is asked for: which failed runs, and how fast."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

from synthralos.config.retention import seconds_of_duration
from synthralos.core.causes import CAUSES
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.runtime import workflow_run

ORCHESTRATION = "orchestration.run"
WORKFLOWS = ("agent_recovery", "llm_retry", "reroute_request", ORCHESTRATION)
# Causes of whole runs that CAUSES does not have, and whether they pass with an outage.
RUN_CAUSES = {
    "held_back": True, "stackstorm_api": True, "action_failed": True, "refused": False,
    "internal": False, "not_answered": False,
}
DEFAULT_SINCE = "24h"
DEFAULT_RUN_SECONDS = 3600
DEFAULT_PER_MINUTE, MAX_PER_MINUTE = 10, 600
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
# Summaries of runs are stored for a week.
MAX_AGE_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class RedriveRequest:
    """Which failed runs are started again.

    :ivar since: when they ended at the earliest, and `until` at the latest; seconds since the
        epoch.
    :ivar causes: of which one must have been met by an attempt; empty for any. The others likewise:
    :ivar targets: names of targets, or of their providers (`llm:openai`).
    :ivar agents: names of agents.
    :ivar workflows: some of WORKFLOWS.
    :ivar per_minute: how many runs are started within any 60 seconds at most.
    :ivar limit: how many runs are started at most, the oldest first.
    """

    since: float
    until: float
    causes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    workflows: tuple[str, ...] = WORKFLOWS
    per_minute: int = DEFAULT_PER_MINUTE
    limit: int = DEFAULT_LIMIT

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def matches_causes(self, causes: Mapping[str, Any]) -> bool:
        """Whether one of the causes, the keys of `causes`, is asked for."""
        return not self.causes or any(cause in self.causes for cause in causes)

    def matches_targets(self, targets: tuple[str, ...]) -> bool:
        """Whether one of the targets is asked for."""
        return not self.targets or any(
            target == name or target.startswith((name + "/", name + "@"))
            for target in targets
            for name in self.targets
        )

    def command(self) -> str:
        """Return the command that starts the same runs."""
        words = [
            "st2 run synthralos.recovery.redrive dry_run=false",
            "since=%s" % to_iso(self.since), "until=%s" % to_iso(math.ceil(self.until)),
        ]
        for name in ("causes", "targets", "agents"):
            if getattr(self, name):
                words.append("%s=%s" % (name, ",".join(getattr(self, name))))
        if self.workflows != WORKFLOWS:
            words.append("workflows=" + ",".join(self.workflows))
        words.append("per_minute=%d limit=%d" % (self.per_minute, self.limit))
        return " ".join(words)


def read(parameters: Mapping[str, Any], now: float) -> RedriveRequest:
    """Return the RedriveRequest in the parameters of recovery.redrive.

    :param now: seconds since the epoch.
    :raises InvalidInput: a parameter is not valid; names it.
    """
    since = _moment("since", parameters.get("since") or DEFAULT_SINCE, now)
    until = now if not parameters.get("until") else _moment("until", parameters["until"], now)
    if since < now - MAX_AGE_SECONDS - 60:
        raise InvalidInput(
            "since", parameters.get("since"), "is more than 7 days ago",
            "Failed runs are known for 7 days; give a later time",
        )
    if until <= since:
        raise InvalidInput(
            "until", parameters.get("until"), "must be later than since (%s)" % to_iso(since),
            "Give a later time, or leave it out",
        )
    return RedriveRequest(
        since=since,
        until=until,
        causes=_members("causes", parameters, (*CAUSES, *RUN_CAUSES), "a cause of failures"),
        targets=_names("targets", parameters),
        agents=_names("agents", parameters),
        workflows=_members("workflows", parameters, WORKFLOWS, "a workflow") or WORKFLOWS,
        per_minute=_number("per_minute", parameters, DEFAULT_PER_MINUTE, MAX_PER_MINUTE),
        limit=_number("limit", parameters, DEFAULT_LIMIT, MAX_LIMIT),
    )


def restore(fields: Mapping[str, Any]) -> RedriveRequest:
    """Return the RedriveRequest of what `as_dict` returned, after it was JSON."""
    restored: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return RedriveRequest(**restored)


def is_redrivable(cause: Optional[str]) -> bool:
    """Whether a run that ended with this cause, None if it is not known, may succeed unchanged."""
    policy = CAUSES.get(cause or "unknown")
    return RUN_CAUSES.get(cause or "", False) if policy is None else policy.is_redrivable


def _moment(field: str, value: Any, now: float) -> float:
    """Return the time that is written as ISO 8601, or as how long ago it is (`2h`)."""
    timestamp = parse_iso(value)
    if timestamp is not None:
        return timestamp
    try:
        return now - float(seconds_of_duration(field, value))
    except InvalidInput:
        raise InvalidInput(
            field, value, "is not a time",
            "Write it as ISO 8601, such as 2026-01-31T12:00:00Z, or as how long ago it is: 90m, 2h",
        ) from None


def _number(field: str, parameters: Mapping[str, Any], default: int, maximum: int) -> int:
    value = parameters.get(field)
    value = default if value is None else value
    number: int = workflow_run.whole_number({field: value}, field, 1, maximum)
    return number


def _list(field: str, parameters: Mapping[str, Any]) -> list[Any]:
    value = parameters.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(field, value, "is not a list", "Give a list of names")
    return value


def _names(field: str, parameters: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        require_identifier("%s[%d]" % (field, index), value)
        for index, value in enumerate(_list(field, parameters))
    )


def _members(
    field: str, parameters: Mapping[str, Any], allowed: tuple[str, ...], noun: str
) -> tuple[str, ...]:
    values = _list(field, parameters)
    for index, value in enumerate(values):
        if value not in allowed:
            raise InvalidInput(
                "%s[%d]" % (field, index), value, "is not %s" % noun,
                "Use one of " + ", ".join(allowed),
            )
    return tuple(values)
