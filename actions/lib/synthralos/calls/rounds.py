"""A round: every target that may be tried without waiting, in order, until a call succeeds.

Fall over first: the first round tries every target once. Back off second: a failed target is tried
again after its back-off, or after the hint in its response; `max_retries` limits these repeats, not
the fallbacks. Which other targets a failure leaves, and which of them come last, is decided by what
it speaks of (see relations.py). A target whose breaker is open, or that asked to wait, is skipped.
A wait that does not fit the deadline is not started.

A call may start something that takes longer than a round, such as an agent: it raises StillRunning,
and the round ends. The next round asks for its outcome first, and nobody else before that.

A host that failed a short while ago, in whatever run, comes last. Where the rules say so, an
attempt that has no answer yet stays open while the next host is asked (see open_attempts.py).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from synthralos.calls import backoff
from synthralos.calls.attempts import (
    Attempt,
    AttemptRecorder,
    Ending,
    RunProgress,
    StillRunning,
)
from synthralos.calls.deadline import Deadline
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.open_attempts import Call, OpenAttempts, Silence, Threads, failure_of
from synthralos.calls.relations import Target
from synthralos.calls.retry_rules import RetryRules
from synthralos.calls.target_queue import TargetQueue
from synthralos.core.causes import SCOPES
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.storage.account_memory import AccountMemory
from synthralos.storage.host_memory import HostMemory
from synthralos.storage.outcome_ledger import Ledger
from synthralos.telemetry import tracing


@dataclass
class RoundResult:
    """The outcome of a round: a `result`, `delay` seconds to the next round, or neither.

    :ivar pending: where the next round asks for the outcome of what this one has started.
    :ivar failure: the last Failure, if there is no result.
    :ivar reason: why there is no next round, for people.
    :ivar again_at: seconds since the epoch at which a target could next be tried, if that is known
        but does not fit the deadline.
    """

    result: Optional[Mapping[str, Any]] = None
    target: Optional[Target] = None
    delay: Optional[int] = None
    failure: Optional[Failure] = None
    reason: str = ""
    again_at: Optional[float] = None
    pending: Optional[StillRunning] = None


def play_round(
    targets: list[Target],
    progress: RunProgress,
    rules: RetryRules,
    attempt: Callable[[Target, float, int], Mapping[str, Any]],
    ledger: Ledger,
    deadline: Deadline,
    now: Callable[[], float],
    run: str,
    host_memory: Optional[HostMemory] = None,
    open_call: Optional[Callable[[Target], Call]] = None,
    threads: Optional[Threads] = None,
    account_memory: Optional[AccountMemory] = None,
) -> RoundResult:
    """Play one round and return its RoundResult; `progress` is updated.

    :param targets: in the order of preference.
    :param attempt: a callable (target, seconds, attempt_number) -> result that may raise CallError
        or StillRunning; attempt_number counts the run's attempts from 1. After StillRunning it is
        called again with the same arguments, to ask for the outcome.
    :param now: returns seconds since the epoch.
    :param run: the execution id, for the ledger.
    :param host_memory: the hosts that come last; None to treat all alike.
    :param open_call: a callable (target) -> Call, for attempts that stay open while another host is
        asked; None if `attempt` cannot be made that way.
    :param threads: where these run.
    :param account_memory: the accounts that are not called; None to call all.
    """
    recorder = AttemptRecorder(progress, ledger, rules.back_off, now, run)
    queue = TargetQueue(
        targets, progress, rules, recorder, ledger, deadline, now, host_memory, account_memory
    )
    # Who wants no other target after a time-out wants none during the silence before it.
    may_ask = open_call is not None and rules.fall_over.get("timeout") is not False
    ask_next_after = rules.ask_next_after if may_ask else 0.0
    open_attempts = OpenAttempts(open_call, ask_next_after, threads)
    return _Round(queue, progress, recorder, attempt, deadline, now, open_attempts).play()


class _Round:
    """One round: attempts the targets of `queue`; the other parameters are those of play_round."""

    def __init__(
        self,
        queue: TargetQueue,
        progress: RunProgress,
        recorder: AttemptRecorder,
        attempt: Callable[[Target, float, int], Mapping[str, Any]],
        deadline: Deadline,
        now: Callable[[], float],
        open_attempts: OpenAttempts,
    ) -> None:
        self._queue, self._progress, self._recorder = queue, progress, recorder
        self._attempt_call, self._deadline, self._now = attempt, deadline, now
        self._open = open_attempts
        self._pending: Optional[StillRunning] = None

    def play(self) -> RoundResult:
        self._progress.cursor += 1
        if self._progress.pending is None:
            self._queue.put_failed_hosts_last()
        try:
            ending = self._attempt_until_answered()
        finally:
            # None is open, unless this is a bug of ours or the process is being ended.
            self._open.close("the round ended")
        if self._pending is not None:
            delay = backoff.round_up(self._pending.delay)
            return RoundResult(delay=delay, pending=self._pending)
        if ending is None:
            return self._plan_next_round()
        return RoundResult(result=ending.result, target=ending.attempt.target)

    def _attempt_until_answered(self) -> Optional[Ending]:
        pending = self._recorder.resume(self._queue.targets)
        while self._pending is None:
            if pending is not None:
                ending, pending = self._ask_for_outcome(pending), None
            else:
                target = self._queue.next(self._open.hosts) if self._open.are_silent else None
                if target is not None:
                    ending = self._start(target)
                elif self._open:
                    ending = self._wait()
                else:
                    return None
            if ending is None:
                continue
            target, failure = ending.attempt.target, ending.failure
            if failure is None:
                self._close_open("closed: %s answered first" % target.name)
            self._recorder.end(ending)
            if failure is None:
                return ending
            self._queue.record_failure(target, failure)
        return None

    def _ask_for_outcome(self, attempt: Attempt) -> Optional[Ending]:
        """Ask for the outcome of an attempt of an earlier round; None if it is still running."""
        try:
            ending = self._call(attempt)
        except CallNotMade as error:
            ending = Ending(attempt, None, error.failure, 0.0)
        if ending is None:
            return None
        return replace(ending, latency=self._now() - attempt.started_at)

    def _start(self, target: Target) -> Optional[Ending]:
        """Begin an attempt and return how it ended, or None if it is open or was not made."""
        attempt = self._recorder.begin(target, self._queue.seconds_for(target))
        try:
            with tracing.span_attributes(
                target=target.name,
                attempt=attempt.number,
                round=attempt.round,
                repeat=attempt.repeat,
            ):
                if self._may_stay_open(attempt):
                    self._open.start(attempt)
                    return None
                return self._call(attempt)
        except CallNotMade as error:
            self._record_not_made(attempt, error.failure)
        return None

    def _record_not_made(self, attempt: Attempt, failure: Failure) -> None:
        self._recorder.not_made(attempt, failure)
        # What the pack itself objects to is the call to this model, unless it is any call.
        scope = None if failure.policy.scope == "run" else SCOPES["model"]
        self._queue.record_failure(attempt.target, failure, scope)

    def _may_stay_open(self, attempt: Attempt) -> bool:
        """Return whether the attempt needs a thread: others are open, or a host may be asked."""
        return bool(self._open) or (
            self._open.may_be_silent(attempt) and
            self._queue.has_other_host(attempt.target.host_or_name)
        )

    def _call(self, attempt: Attempt) -> Optional[Ending]:
        """Make an attempt in this thread: the timer signal that ends it reaches no other.

        :returns: None if its outcome comes later.
        """
        started, result, failure = time.monotonic(), None, None
        try:
            result = self._attempt_call(attempt.target, attempt.seconds, attempt.number)
        except CallNotMade:
            raise
        except StillRunning as running:
            self._pending = running
            self._recorder.suspend(attempt)
            return None
        except (CallError, InvalidInput) as error:
            failure = failure_of(error)
        return Ending(attempt, result, failure, time.monotonic() - started)

    def _wait(self) -> Optional[Ending]:
        event = self._open.wait()
        if isinstance(event, Silence):
            self._queue.record_silence(event.attempt.target)
            return None
        return event

    def _close_open(self, reason: str) -> None:
        for ending in self._open.close(reason):
            self._recorder.close(ending)

    def _plan_next_round(self) -> RoundResult:
        failure = self._progress.failure
        last = Failure(**failure) if failure else None
        remaining = self._queue.remaining()
        if not remaining:
            return RoundResult(failure=last, reason=self._queue.exhausted_reason())
        ready_at = min(self._progress.mark(target)["ready_at"] for target in remaining)
        delay = backoff.round_up(ready_at - self._now())
        if not self._deadline.allows_attempt_at(self._now() + delay):
            reason = "the next retry is due in %d s, but only %d s remain" % (
                delay,
                max(0, self._deadline.seconds_left()),
            )
            return RoundResult(failure=last, reason=reason, again_at=self._now() + delay)
        return RoundResult(failure=last, delay=delay)
