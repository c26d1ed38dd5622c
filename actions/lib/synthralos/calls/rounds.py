"""A round: every target that may be tried without waiting, in order, until a call succeeds.

Fall over first: the first round tries every target once. Back off second: a failed target is tried
again after its back-off, or after the hint in its response; `max_retries` limits these repeats, not
the fallbacks. Which other targets a failure leaves, and which of them come last, is decided by what
it speaks of (see relations.py). A target whose breaker is open, or that asked to wait, is skipped.
A wait that does not fit the deadline is not started.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from synthralos.calls import backoff
from synthralos.calls.attempts import AttemptRecorder, RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.relations import Target, may_have_taken_effect, timing_after
from synthralos.core import failures
from synthralos.core.causes import LAST, NEVER, SCOPES, Scope
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.storage.circuit_breaker import HALF_OPEN
from synthralos.storage.outcome_ledger import Ledger
from synthralos.telemetry import tracing

PROBE_POLL_SECONDS = 5.0
# Of reported failures, those after which the call may still have taken effect.
UNFINISHED = ("timeout", "request_timeout", "truncated_stream")
UNSAFE_TO_REPEAT = "unsafe_to_repeat"


@dataclass
class RetryRules:
    """The rules of a run's retries; delays in seconds.

    :ivar base_delay_given: whether the caller set the base delay (see backoff.jittered_delay).
    :ivar fall_over: see relations.timing_after.
    """

    max_retries: int = 3
    strategy: str = "exponential"
    base_delay: float = 2.0
    max_delay: float = 60.0
    base_delay_given: bool = False
    success_rate: float = 1.0
    multiplier: float = 2.0
    fall_over: dict[str, bool] = field(default_factory=dict)

    def back_off(self, tries: int) -> float:
        """Return the seconds to wait before a target that failed `tries` times is tried again."""
        return backoff.jittered_delay(
            self.strategy,
            tries,
            self.base_delay,
            self.max_delay,
            self.base_delay_given,
            self.success_rate,
            self.multiplier,
        )


@dataclass
class RoundResult:
    """The outcome of a round: a `result`, `delay` seconds to the next round, or neither.

    :ivar failure: the last Failure, if there is no result.
    :ivar reason: why there is no next round, for people.
    :ivar again_at: seconds since the epoch at which a target could next be tried, if that is known
        but does not fit the deadline.
    """

    result: Optional[dict[str, Any]] = None
    target: Optional[Target] = None
    delay: Optional[int] = None
    failure: Optional[Failure] = None
    reason: str = ""
    again_at: Optional[float] = None


def play_round(
    targets: list[Target],
    progress: RunProgress,
    rules: RetryRules,
    attempt: Callable[[Target, float, int], dict[str, Any]],
    ledger: Ledger,
    deadline: Deadline,
    now: Callable[[], float],
    run: str,
) -> RoundResult:
    """Play one round and return its RoundResult; `progress` is updated.

    :param targets: in the order of preference.
    :param attempt: a callable (target, seconds, attempt_number) -> result that may raise CallError;
        attempt_number counts the run's attempts from 1.
    :param now: returns seconds since the epoch.
    :param run: the execution id, for the ledger.
    """
    return _Round(targets, progress, rules, attempt, ledger, deadline, now, run).play()


def reject_unknown_effect(field: str, failure: Failure, hint: str) -> None:
    """Raise InvalidInput if the reported call is unsafe to repeat and may have taken effect."""
    if failure.cause in UNFINISHED:
        raise InvalidInput(
            field,
            failure.cause,
            "may have taken effect, and is marked unsafe_to_repeat",
            "Check whether it did; if not, " + hint,
        )


class _Round:
    """One round; the parameters are those of play_round."""

    def __init__(
        self,
        targets: list[Target],
        progress: RunProgress,
        rules: RetryRules,
        attempt: Callable[[Target, float, int], dict[str, Any]],
        ledger: Ledger,
        deadline: Deadline,
        now: Callable[[], float],
        run: str,
    ) -> None:
        self._targets, self._progress, self._rules = targets, progress, rules
        self._attempt_call, self._ledger, self._deadline, self._now = attempt, ledger, deadline, now
        self._recorder = AttemptRecorder(progress, ledger, rules.back_off, now, run)
        self._visited: set[str] = set()

    def play(self) -> RoundResult:
        self._progress.cursor += 1
        while True:
            target = self._next_target()
            if target is None:
                return self._plan_next_round()
            result = self._call(target)
            if result is not None:
                return RoundResult(result=result, target=target)

    def _next_target(self) -> Optional[Target]:
        """Return the first target that may be called now and that this round has not visited."""
        for target in sorted(self._targets, key=self._is_last):
            if not self._deadline.allows_attempt():
                return None
            if target.name in self._visited:
                continue
            self._visited.add(target.name)
            if self._is_eligible(target) and not self._is_blocked(target):
                return target
        return None

    def _is_last(self, target: Target) -> bool:
        return self._progress.mark(target).get("last") is not None

    def _may_be_tried(self, target: Target) -> bool:
        """Return whether the run may still attempt the target, now or later."""
        target_state = self._progress.mark(target)
        if target_state["out"] is not None:
            return False
        return target_state["tries"] == 0 or self._progress.repeats < self._rules.max_retries

    def _is_eligible(self, target: Target) -> bool:
        is_ready = self._progress.mark(target)["ready_at"] <= self._now()
        return is_ready and self._may_be_tried(target)

    def _is_blocked(self, target: Target) -> bool:
        """Return whether breaker or cooldown block the target. Costs one datastore call."""
        health = self._ledger.breaker_state(target.name)
        blocked_until, reason = health.until, health.reason
        if (
            blocked_until is None and
            health.state == HALF_OPEN and
            not self._ledger.claim_probe(target.name, health)
        ):
            blocked_until = self._now() + PROBE_POLL_SECONDS
            reason = "its breaker is half open and its probes are in use"
        if blocked_until is None:
            return False
        self._progress.mark(target)["ready_at"] = blocked_until
        self._recorder.skip(target, reason, blocked_until - self._now())
        return True

    def _seconds_for(self, target: Target) -> float:
        """Return the limit of the target's next attempt, which leaves other hosts their time."""
        progress = self._progress
        called = {
            other.host_or_name for other in self._targets if progress.mark(other)["tries"] > 0
        }
        uncalled = {
            other.host_or_name for other in self._targets if progress.mark(other)["out"] is None
        } - called - {target.host_or_name}
        share: float = self._deadline.share(len(uncalled))
        return min(target.seconds, share)

    def _call(self, target: Target) -> Optional[dict[str, Any]]:
        """Make one attempt, record it, and return its result, or None if it failed."""
        attempt = self._recorder.begin(target, self._seconds_for(target))
        monotonic_start, result, failed = time.monotonic(), None, None
        try:
            with tracing.span_attributes(
                target=target.name,
                attempt=attempt.number,
                round=attempt.round,
                repeat=attempt.repeat,
            ):
                result = self._attempt_call(target, attempt.seconds, attempt.number)
        except CallNotMade as error:
            self._recorder.not_made(attempt, error.failure)
            # What the pack itself objects to is the call to this model, unless it is any call.
            speaks_of_run = error.failure.policy.scope == "run"
            self._exclude(target, error.failure, None if speaks_of_run else SCOPES["model"])
            return None
        except CallError as error:
            failed = error.failure
        except InvalidInput as error:
            # The configuration of this target is incomplete, such as a missing secret.
            failed = failures.make_failure("configuration", str(error))
        self._recorder.end(attempt, failed, time.monotonic() - monotonic_start)
        if failed is not None:
            self._exclude(target, failed)
        return result

    def _exclude(self, target: Target, failed: Failure, scope: Optional[Scope] = None) -> None:
        """Exclude the targets that cannot succeed after this failure; put others last."""
        scope = scope or failed.policy.speaks_of
        target_state = self._progress.mark(target)
        if scope.same_target == NEVER:
            target_state["out"] = failed.cause
        elif may_have_taken_effect(failed, target):
            target_state["out"] = UNSAFE_TO_REPEAT
        siblings = []
        for other in self._targets:
            if other.name == target.name or self._progress.mark(other)["out"] is not None:
                continue
            timing = timing_after(failed, target, other, self._rules.fall_over, scope)
            if timing == NEVER:
                self._progress.mark(other)["out"] = failed.cause
            elif timing == LAST:
                siblings.append(other)
        if scope.same_address == LAST:
            # The target is as suspect as its siblings.
            target_state.setdefault("last", failed.cause)
        self._ask_last(siblings, "%s, on its host, failed with %s" % (target.name, failed.cause))

    def _ask_last(self, targets: list[Target], reason: str) -> None:
        """Put targets after all others; the trail says so where that changes the order."""
        names = {target.name for target in targets}
        has_others = any(
            not self._is_last(other) and
            other.name not in names and
            self._progress.mark(other)["out"] is None
            for other in self._targets
        )
        for target in targets:
            self._recorder.ask_last(target, reason, has_others)

    def _plan_next_round(self) -> RoundResult:
        failure = self._progress.failure
        last = Failure(**failure) if failure else None
        remaining = [target for target in self._targets if self._may_be_tried(target)]
        if not remaining:
            return RoundResult(failure=last, reason=self._exhausted_reason())
        ready_at = min(self._progress.mark(target)["ready_at"] for target in remaining)
        delay = backoff.round_up(ready_at - self._now())
        if not self._deadline.allows_attempt_at(self._now() + delay):
            reason = "the next retry is due in %d s, but only %d s remain" % (
                delay,
                max(0, self._deadline.seconds_left()),
            )
            return RoundResult(failure=last, reason=reason, again_at=self._now() + delay)
        return RoundResult(failure=last, delay=delay)

    def _exhausted_reason(self) -> str:
        outs = {self._progress.mark(target)["out"] for target in self._targets}
        causes = sorted(outs - {None})
        if not self._targets:
            return "there is no target to try"
        if UNSAFE_TO_REPEAT in causes:
            return (
                "the request may have taken effect and must not be repeated: a person has to check"
            )
        if None not in outs:
            return "not retryable (%s)" % ", ".join(causes)
        return "max_retries, %d, is used up" % self._rules.max_retries
