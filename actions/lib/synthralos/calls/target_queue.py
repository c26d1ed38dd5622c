"""Which target a run attempts next: those that may be called, in order, and those that come last.

The state is the run's progress: which targets were attempted, failed for good, wait or come last.
"""

from typing import Callable, Optional

from synthralos.calls.attempts import (
    ACCOUNT_CAUSES,
    AttemptRecorder,
    RunProgress,
    account_cooldown,
)
from synthralos.calls.deadline import Deadline
from synthralos.calls.relations import Target, may_have_taken_effect, timing_after
from synthralos.calls.retry_rules import RetryRules
from synthralos.core.causes import LAST, NEVER, SCOPES, Scope
from synthralos.core.failures import Failure
from synthralos.storage.account_memory import AccountFailure, AccountMemory
from synthralos.storage.circuit_breaker import HALF_OPEN, BreakerState
from synthralos.storage.host_memory import SILENT, HostMemory
from synthralos.storage.outcome_ledger import Ledger

PROBE_POLL_SECONDS = 5.0
UNSAFE_TO_REPEAT, MAY_BE_LIVE = "unsafe_to_repeat", "may_be_live"


class TargetQueue:
    """The targets of one round.

    :param targets: in the order of preference; also an attribute.
    :param now: a callable that returns seconds since the epoch.
    :param host_memory: the hosts that come last; None to treat all alike.
    :param account_memory: the accounts that are not called; None to call all.
    """

    def __init__(
        self,
        targets: list[Target],
        progress: RunProgress,
        rules: RetryRules,
        recorder: AttemptRecorder,
        ledger: Ledger,
        deadline: Deadline,
        now: Callable[[], float],
        host_memory: Optional[HostMemory],
        account_memory: Optional[AccountMemory] = None,
    ) -> None:
        self.targets, self._progress, self._rules = targets, progress, rules
        self._recorder, self._ledger, self._deadline = recorder, ledger, deadline
        self._now, self._host_memory = now, host_memory
        self._account_memory = account_memory
        self._resting: Optional[dict[str, AccountFailure]] = None
        self._visited: set[str] = set()

    def next(self, busy_hosts: set[str]) -> Optional[Target]:
        """Return the first target that may be called now and that this round has not visited.

        Costs one datastore call for each target that it looks at.

        :param busy_hosts: those that get no further request now.
        """
        for target in sorted(self.targets, key=self._is_last):
            if not self._deadline.allows_attempt():
                return None
            if target.name in self._visited or target.host_or_name in busy_hosts:
                continue
            self._visited.add(target.name)
            if self._is_eligible(target) and not self._is_blocked(target):
                return target
        return None

    def has_other_host(self, host_or_name: str) -> bool:
        """Return whether a target on another host may be next."""
        return any(
            target.host_or_name != host_or_name and
            target.name not in self._visited and
            self._is_eligible(target)
            for target in self.targets
        )

    def seconds_for(self, target: Target) -> float:
        """Return the limit of the target's next attempt, which leaves other hosts their time."""
        mark = self._progress.mark
        called = {other.host_or_name for other in self.targets if mark(other)["tries"] > 0}
        remaining = {other.host_or_name for other in self.targets if mark(other)["out"] is None}
        share: float = self._deadline.share(len(remaining - called - {target.host_or_name}))
        return min(target.seconds, share)

    def remaining(self) -> list[Target]:
        """Return the targets that the run may still attempt, now or later."""
        return [target for target in self.targets if self._may_be_tried(target)]

    def record_failure(
        self, target: Target, failed: Failure, scope: Optional[Scope] = None
    ) -> None:
        """Exclude the targets that cannot succeed after this failure; put others last.

        Costs one datastore call if the failure speaks of the host, or of one account of several.

        :param scope: what the failure speaks of; default: the scope of its cause.
        """
        scope = scope or failed.policy.speaks_of
        if scope.same_host == LAST:
            self._remember(target, failed.cause)
        if scope == SCOPES["account"] and failed.cause in ACCOUNT_CAUSES:
            self._remember_account(target, failed)
        target_state = self._progress.mark(target)
        if failed.evidence.get("live"):
            target_state["out"] = MAY_BE_LIVE
        elif NEVER in (scope.same_target, failed.same_target):
            target_state["out"] = failed.cause
        elif may_have_taken_effect(failed, target):
            target_state["out"] = UNSAFE_TO_REPEAT
        reason = "%s, on its host, failed with %s" % (target.name, failed.cause)
        reasons = {}
        for other in self.targets:
            if other.name == target.name or self._progress.mark(other)["out"] is not None:
                continue
            timing = timing_after(failed, target, other, self._rules.fall_over, scope)
            if timing == NEVER:
                self._progress.mark(other)["out"] = failed.cause
            elif timing == LAST:
                reasons[other.name] = reason
        if scope.same_address == LAST:
            # The target is as suspect as its siblings.
            target_state.setdefault("last", failed.cause)
        self._ask_last(reasons)

    def record_silence(self, target: Target) -> None:
        """Put the target's host last, which has not answered yet. Costs one datastore call."""
        if target.host is None:
            return
        self._remember(target, SILENT)
        self._progress.mark(target).setdefault("last", SILENT)
        reason = "%s, on its host, has not answered yet" % target.name
        siblings = [other for other in self.targets if other.host == target.host]
        self._ask_last({other.name: reason for other in siblings})

    def _remember(self, target: Target, cause: str) -> None:
        if self._host_memory is not None and target.host is not None:
            self._host_memory.remember(target.host, cause)

    def _remember_account(self, target: Target, failed: Failure) -> None:
        if self._account_memory is not None and target.account_name is not None:
            seconds = account_cooldown(failed)
            self._account_memory.remember(target.account_name, failed.cause, seconds)

    def put_failed_hosts_last(self) -> None:
        """Put the targets last whose hosts failed a short while ago. Costs one datastore call."""
        targets = self.remaining()
        has_hosts = any(target.host is not None for target in targets)
        if (
            self._host_memory is None or
            not has_hosts or
            len({target.host_or_name for target in targets}) < 2
        ):
            return
        host_failures, reasons = self._host_memory.recent(), {}
        for target in targets:
            host_failure = host_failures.get(target.host or "")
            if host_failure is None or self._rules.fall_over.get(host_failure.cause):
                continue
            outcome = "did not answer" if host_failure.cause == SILENT else (
                "failed with %s" % host_failure.cause
            )
            seconds = max(0.0, self._now() - host_failure.at)
            reasons[target.name] = "its host %s %d s ago" % (outcome, seconds)
        self._ask_last(reasons)

    def exhausted_reason(self) -> str:
        """Return why no target remains, for people."""
        outs = {self._progress.mark(target)["out"] for target in self.targets}
        causes = sorted(outs - {None})
        if not self.targets:
            return "there is no target to try"
        if UNSAFE_TO_REPEAT in causes:
            return (
                "the request may have taken effect and must not be repeated: a person has to check"
            )
        if MAY_BE_LIVE in causes:
            return "what was started may still be running, and could not be cancelled"
        if None not in outs:
            return "not retryable (%s)" % ", ".join(causes)
        return "max_retries, %d, is used up" % self._rules.max_retries

    def _ask_last(self, reasons: dict[str, str]) -> None:
        """Put targets after all others; the trail says so where that changes the order.

        :param reasons: {name of the target: why}.
        """
        has_others = any(
            not self._is_last(other) and
            other.name not in reasons and
            self._progress.mark(other)["out"] is None
            for other in self.targets
        )
        for target in self.targets:
            if target.name in reasons:
                self._recorder.ask_last(target, reasons[target.name], has_others)

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
        """Return whether breaker, cooldown or account block the target.

        Costs one datastore call, and another one for the first account of several in a round.
        """
        health = self._ledger.breaker_state(target.name)
        blocked_until, reason = health.until, health.reason
        account_failure = self._failure_of_account(target, health)
        if account_failure is not None:
            blocked_until = max(blocked_until or 0.0, account_failure.until)
            reason = "its account failed with %s and is not called" % account_failure.cause
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

    def _failure_of_account(
        self, target: Target, health: BreakerState
    ) -> Optional[AccountFailure]:
        """Return why the target's account may not be called, or None if it may.

        An operator who forces a breaker closed wants the target called, whatever its account.
        """
        if self._account_memory is None or target.account_name is None or health.is_forced:
            return None
        if self._resting is None:
            self._resting = self._account_memory.resting()
        return self._resting.get(target.account_name)
