"""Whether a target may be called: a pure function of its last outcomes."""

from dataclasses import dataclass
from typing import Optional

from synthralos.core.failures import CAUSES

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
RATE_WINDOW = 10


@dataclass(frozen=True)
class BreakerState:
    """A target's state.

    :ivar state: CLOSED, OPEN or HALF_OPEN.
    :ivar until: seconds since the epoch from which on it may be called: the next probe of an open
        breaker, or the end of a cooldown; None when it may be called now.
    :ivar since: when a half-open breaker began to let probes through.
    :ivar reason: for people, when it may not be called.
    """

    state: str
    until: Optional[float] = None
    since: float = 0.0
    reason: str = ""


def evaluate_breaker(window, now, limits, forced=None):
    """The health that `window`, newest outcome first, gives at `now`.

    The breaker opens after `limits.failures` failures in a row that are also at least half of the
    last LAST outcomes; after `limits.open_seconds` it lets `limits.probes` probes through; as many
    good ones close it, a bad one opens it again. Only causes that trip count as failures; a target
    that is rate limited is not broken but cools down until the time it named.

    :param forced: a ledger.Forced that holds at `now` and stands above all that, or None.
    """
    if forced is not None and forced.state == CLOSED:
        return BreakerState(CLOSED)
    if forced is not None:
        return BreakerState(OPEN, until=forced.until, reason="its breaker is forced open")
    state, opened, good = CLOSED, 0.0, 0
    in_a_row = 0
    seen = []
    for outcome in reversed(window):
        bad = _trips(outcome)
        seen = (seen + [bad])[-RATE_WINDOW:]
        in_a_row = in_a_row + 1 if bad else 0
        if state == OPEN and outcome.at >= opened + limits.open_seconds:
            state, good = HALF_OPEN, 0
        if state == HALF_OPEN:
            if bad:
                state, opened = OPEN, outcome.at
            elif outcome.ok:
                good += 1
                if good >= limits.probes:
                    state, seen, in_a_row = CLOSED, [], 0
        elif state == CLOSED and in_a_row >= limits.failures and 2 * sum(seen) >= len(seen):
            state, opened = OPEN, outcome.at
    if state == OPEN and now >= opened + limits.open_seconds:
        state = HALF_OPEN
    if state == OPEN:
        until = opened + limits.open_seconds
        return BreakerState(OPEN, until=until, reason="its breaker is open")
    cooling = [
        outcome.until for outcome in window if outcome.until is not None and outcome.until > now
    ]
    if cooling and not _answered_since_limit(window):
        return BreakerState(
            state, until=max(cooling), reason="it asked not to be called until then"
        )
    if state == HALF_OPEN:
        return BreakerState(HALF_OPEN, since=opened + limits.open_seconds)
    return BreakerState(CLOSED)


def _trips(outcome):
    return not outcome.ok and outcome.cause in CAUSES and CAUSES[outcome.cause].counts_for_breaker


def _answered_since_limit(window):
    """Whether the newest outcome is good: then a hint from before no longer holds."""
    return bool(window) and window[0].ok
