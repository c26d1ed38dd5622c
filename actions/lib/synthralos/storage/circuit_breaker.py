"""Whether a target may be called: a pure function of its last outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from synthralos.core.causes import CAUSES

if TYPE_CHECKING:
    from synthralos.config.settings import Breaker
    from synthralos.storage.outcome_ledger import Forced, Outcome

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
RATE_WINDOW = 10


@dataclass(frozen=True)
class BreakerState:
    """The state of a target's breaker.

    :ivar state: CLOSED, OPEN or HALF_OPEN.
    :ivar until: seconds since the epoch at which it may be called again: the next probe of an open
        breaker, or the end of a cooldown; None if it may be called now.
    :ivar since: when a half-open breaker began to let probes through.
    :ivar reason: why it may not be called, for people.
    :ivar is_forced: whether an operator holds it in this state.
    """

    state: str
    until: Optional[float] = None
    since: float = 0.0
    reason: str = ""
    is_forced: bool = False


def evaluate_breaker(
    window: "Sequence[Outcome]", now: float, limits: "Breaker", forced: "Optional[Forced]" = None
) -> BreakerState:
    """Return the BreakerState of a target at `now`.

    The breaker opens after `limits.failures` failures in a row that are also at least half of the
    last RATE_WINDOW outcomes. After `limits.open_seconds` it lets `limits.probes` probes through:
    as many successes close it, and a failure opens it again. Only causes that count for the breaker
    are failures; a rate-limited target is not broken but cools down until the time it named.

    :param window: the target's outcomes, newest first.
    :param forced: the forced state that is in effect at `now`, or None. It overrides the outcomes.
    """
    if forced is not None and forced.state == CLOSED:
        return BreakerState(CLOSED, is_forced=True)
    if forced is not None:
        reason = "its breaker is forced open"
        return BreakerState(OPEN, until=forced.until, reason=reason, is_forced=True)
    state, opened, successes = CLOSED, 0.0, 0
    failures_in_a_row = 0
    recent_failures: list[bool] = []
    for outcome in reversed(window):
        is_failure = _counts_as_failure(outcome)
        recent_failures = (recent_failures + [is_failure])[-RATE_WINDOW:]
        failures_in_a_row = failures_in_a_row + 1 if is_failure else 0
        if state == OPEN and outcome.at >= opened + limits.open_seconds:
            state, successes = HALF_OPEN, 0
        if state == HALF_OPEN:
            if is_failure:
                state, opened = OPEN, outcome.at
            elif outcome.ok:
                successes += 1
                if successes >= limits.probes:
                    state, recent_failures, failures_in_a_row = CLOSED, [], 0
        elif state == CLOSED and failures_in_a_row >= limits.failures and (
            2 * sum(recent_failures) >= len(recent_failures)
        ):
            state, opened = OPEN, outcome.at
    if state == OPEN and now >= opened + limits.open_seconds:
        state = HALF_OPEN
    if state == OPEN:
        next_probe = opened + limits.open_seconds
        return BreakerState(OPEN, until=next_probe, reason="its breaker is open")
    cooldowns = [
        outcome.until for outcome in window if outcome.until is not None and outcome.until > now
    ]
    if cooldowns and not _newest_is_success(window):
        return BreakerState(
            state, until=max(cooldowns), reason="cooling down: rate-limited or spent"
        )
    if state == HALF_OPEN:
        return BreakerState(HALF_OPEN, since=opened + limits.open_seconds)
    return BreakerState(CLOSED)


def _counts_as_failure(outcome: "Outcome") -> bool:
    cause = None if outcome.ok or outcome.cause is None else CAUSES.get(outcome.cause)
    return cause is not None and cause.counts_for_breaker


def _newest_is_success(window: "Sequence[Outcome]") -> bool:
    """Whether the newest outcome is a success, which ends an earlier cooldown."""
    return bool(window) and window[0].ok
