"""The urgency of a ticket: its level, and its priority from 0 to 100.

    priority = severity 0-40 + cause 0-15 + occurrences 0-20 + attempts 0-10 + impact 0-15

- severity: low 0, medium 13, high 27, critical 40; a critical error type counts as critical.
- cause: 0 if a retry of the same target may succeed, 8 if only another target may, 15 if the
  request itself was refused or the error type is critical.
- occurrences: 4 for each doubling; 1 gives 0, 32 and more give 20.
- attempts: half a point for each call of the runs, at most 10.
- impact: 1.5 for each point of 0 to 10; an unknown impact counts as 5.

The sum is rounded down, so that nothing short of the worst case reaches 100.
"""

import math
from typing import Callable, Optional, TypedDict

from synthralos.core.causes import CAUSES, NEVER
from synthralos.escalation.config import EscalationConfig
from synthralos.storage.tickets import LEVELS, Ticket

AUTO, SUPERVISOR, PERSON, CRITICAL = LEVELS
DEFAULT_IMPACT = 5
_SEVERITY_POINTS = {"low": 0.0, "medium": 40 / 3, "high": 80 / 3, "critical": 40.0}
MAX_OCCURRENCES, MAX_ATTEMPTS = 32, 20


class Problem(TypedDict):
    """The part of a ticket that decides about its level."""

    type: Optional[str]
    cause: Optional[str]
    severity: Optional[str]
    occurrences: int


def make_prioritizer(
    config: EscalationConfig, level: Optional[str] = None
) -> Callable[[Ticket], tuple[str, int]]:
    """Return a callable (ticket) -> (level, priority), for tickets.record_occurrence.

    :param level: the minimum level, or None.
    """

    def prioritize(ticket: Ticket) -> tuple[str, int]:
        ticket_level = level_of(config, ticket)
        minimum = LEVELS.index(level) if level else 0
        return LEVELS[max(LEVELS.index(ticket_level), minimum)], priority_of(config, ticket)

    return prioritize


def level_of(config: EscalationConfig, ticket: Problem) -> str:
    """Return the highest level that any rule yields.

    Critical: a critical error type, or severity critical. Human intervention: at least
    `max_auto_recovery_attempts` failed runs. Supervisor review: at least `supervisor_review_after`
    failed runs, or severity high. Otherwise automatic: the next run may recover it.
    """
    severity, occurrences = ticket["severity"], ticket["occurrences"]
    if config.critical(ticket["type"], ticket["cause"]) or severity == "critical":
        return CRITICAL
    if occurrences >= config.max_auto_recovery_attempts:
        return PERSON
    if occurrences >= config.supervisor_review_after or severity == "high":
        return SUPERVISOR
    return AUTO


def priority_of(config: EscalationConfig, ticket: Ticket) -> int:
    """Return the priority, 0 to 100; see the formula above."""
    critical = config.critical(ticket["type"], ticket["cause"])
    impact = ticket.get("impact")
    if impact is None:
        impact = config.importance.get(ticket.get("subject") or "", DEFAULT_IMPACT)
    occurrences = min(max(ticket["occurrences"], 1), MAX_OCCURRENCES)
    severity = ticket["severity"] or "medium"
    parts = (
        40.0 if critical else _SEVERITY_POINTS.get(severity, _SEVERITY_POINTS["medium"]),
        15.0 if critical else _cause_points(ticket["cause"]),
        20.0 * math.log2(occurrences) / math.log2(MAX_OCCURRENCES),
        10.0 * min(max(ticket["attempts"], 0), MAX_ATTEMPTS) / MAX_ATTEMPTS,
        1.5 * min(max(impact, 0), 10),
    )
    return min(100, int(sum(parts) + 1e-9))


def _cause_points(cause: Optional[str]) -> float:
    policy = CAUSES.get(cause or "")
    if policy is None or policy.retry_same_target:
        # held_back: the breaker sends probes by itself. Waiting does not resolve a refusal.
        return 15.0 if cause == "refused" else 0.0
    return 15.0 if policy.speaks_of.same_provider == NEVER else 8.0
