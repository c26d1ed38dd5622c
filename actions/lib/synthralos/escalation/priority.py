"""How urgent a ticket is: its level, and its priority from 0 to 100.

    priority = severity 0-40 + cause 0-15 + occurrences 0-20 + attempts 0-10 + impact 0-15

- severity: low 0, medium 13, high 27, critical 40; a critical error type counts as critical.
- cause: 0 when the same target may cure it at another try, 8 when only another target may, 15 when
  neither does, or the error type is critical.
- occurrences: 4 for each doubling; 1 gives 0, 32 and more give 20.
- attempts: half a point for each call that the runs have made, at most 10.
- impact: 1.5 for each point of 0 to 10; 5 where nobody said.

The sum is rounded down, so that nothing short of the worst case reaches 100.
"""

import math

from synthralos.core.failures import CAUSES
from synthralos.storage.tickets import LEVELS

AUTO, SUPERVISOR, PERSON, CRITICAL = LEVELS
DEFAULT_IMPACT = 5
_OF_SEVERITY = {"low": 0.0, "medium": 40 / 3, "high": 80 / 3, "critical": 40.0}
MAX_OCCURRENCES, MAX_ATTEMPTS = 32, 20


def make_prioritizer(config, level=None):
    """A callable (ticket) -> (level, priority), as tickets.report wants it.

    :param config: config.Escalation.
    :param level: the lowest that the level may be, or None.
    """

    def of(ticket):
        found = level_of(config, ticket)
        least = LEVELS.index(level) if level else 0
        return LEVELS[max(LEVELS.index(found), least)], priority_of(config, ticket)

    return of


def level_of(config, ticket):
    """The highest level that any rule gives.

    Critical: a critical error type, or severity critical. Human intervention: as many failed runs
    as `max_auto_recovery_attempts`. Supervisor review: as many as `supervisor_review_after`, or
    severity high. Else the next run may cure it.
    """
    severity, occurrences = ticket["severity"], ticket["occurrences"]
    if config.critical(ticket["type"], ticket["cause"]) or severity == "critical":
        return CRITICAL
    if occurrences >= config.max_auto_recovery_attempts:
        return PERSON
    if occurrences >= config.supervisor_review_after or severity == "high":
        return SUPERVISOR
    return AUTO


def priority_of(config, ticket):
    """0 to 100; see the formula above.

    :param ticket: with type, cause, severity, occurrences, attempts, impact and subject.
    """
    critical = config.critical(ticket["type"], ticket["cause"])
    impact = ticket.get("impact")
    if impact is None:
        impact = config.importance.get(ticket.get("subject"), DEFAULT_IMPACT)
    occurrences = min(max(ticket["occurrences"], 1), MAX_OCCURRENCES)
    parts = (
        40.0 if critical else _OF_SEVERITY.get(ticket["severity"], _OF_SEVERITY["medium"]),
        15.0 if critical else _of_cause(ticket["cause"]),
        20.0 * math.log2(occurrences) / math.log2(MAX_OCCURRENCES),
        10.0 * min(max(ticket["attempts"], 0), MAX_ATTEMPTS) / MAX_ATTEMPTS,
        1.5 * min(max(impact, 0), 10),
    )
    return min(100, int(sum(parts) + 1e-9))


def _of_cause(cause):
    known = CAUSES.get(cause)
    if known is None or known.retry_same_target:
        # held_back: the breaker lets probes through by itself. A refusal is not cured by waiting.
        return 15.0 if cause == "refused" else 0.0
    return 8.0 if known.retry_other_target else 15.0
