"""A round: every target that may be tried without waiting, in order, until a call succeeds.

Fail over first: the first round tries every target once. Back off second: a failed target is tried
again after its back-off, or after the hint in its response; `max_retries` limits these repeats, not
the fallbacks. A target whose breaker is open, or that asked to wait, is skipped. A wait that does
not fit the deadline is not started.
"""

import time
from dataclasses import dataclass, field
from typing import Optional

from synthralos.calls import backoff
from synthralos.calls.http import CallError, CallNotMade
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.storage.circuit_breaker import HALF_OPEN
from synthralos.storage.outcome_ledger import Outcome
from synthralos.telemetry import run_log, tracing

PROBE_POLL_SECONDS = 5.0
# After these it is unknown whether the request took effect.
UNKNOWN_EFFECT_CAUSES = (
    "timeout",
    "request_timeout",
    "network",
    "server_error",
    "truncated_stream",
    "malformed_answer",
    "blank_output",
    "schema_mismatch",
    "agent_failed",
)
# Of reported failures, those after which the call may still have taken effect.
UNFINISHED = ("timeout", "request_timeout", "truncated_stream")
# These concern the account, so they apply to every target that uses it.
ACCOUNT_WIDE_CAUSES = ("quota", "authentication")


@dataclass(frozen=True)
class Target:
    """An endpoint that a round may call.

    :ivar name: as in the ledger, such as `llm:openai/gpt-4`.
    :ivar seconds: the limit of one attempt.
    :ivar endpoint: the object that the attempt callback calls.
    :ivar window: a model's context window in tokens, or None if it is unknown.
    :ivar account: equal for targets with the same credential, or None.
    :ivar unsafe_to_repeat: whether an attempt of unknown effect must not be repeated anywhere.
    """

    name: str
    seconds: float
    endpoint: object = None
    window: Optional[int] = None
    account: object = None
    unsafe_to_repeat: bool = False


@dataclass
class RetryRules:
    """The rules of a run's retries; delays in seconds.

    :ivar base_delay_given: whether the caller set the base delay (see backoff.jittered_delay).
    """

    max_retries: int = 3
    strategy: str = "exponential"
    base_delay: float = 2.0
    max_delay: float = 60.0
    base_delay_given: bool = False
    success_rate: float = 1.0
    multiplier: float = 2.0
    content_policy_fallbacks: bool = False


@dataclass
class RoundResult:
    """The outcome of a round: a `result`, `delay` seconds to the next round, or neither.

    :ivar failure: the last Failure, if there is no result.
    :ivar reason: why there is no next round, for people.
    :ivar again_at: seconds since the epoch at which a target could next be tried, if that is known
        but does not fit the deadline.
    """

    result: Optional[dict] = None
    target: Optional[Target] = None
    delay: Optional[int] = None
    failure: Optional[failures.Failure] = None
    reason: str = ""
    again_at: Optional[float] = None


@dataclass
class RunProgress:
    """The progress of a run over its rounds; the case carries it as JSON."""

    cursor: int = 0
    attempts: int = 0
    repeats: int = 0
    trail: list[dict] = field(default_factory=list)
    marks: dict = field(default_factory=dict)
    failure: Optional[dict] = None

    @classmethod
    def from_dict(cls, data):
        return cls(**data) if data else cls()

    def as_dict(self):
        return dict(vars(self))

    def mark(self, target):
        return self.marks.setdefault(target.name, {"tries": 0, "ready_at": 0.0, "out": None})


def play_round(targets, progress, rules, attempt, ledger, deadline, now, run):
    """Play one round and return its RoundResult; `progress` is updated.

    :param targets: Target objects, in the order of preference.
    :param attempt: a callable (target, seconds, attempt_number) -> result that may raise CallError;
        attempt_number counts the run's attempts from 1.
    :param run: the execution id, for the ledger.
    """
    progress.cursor += 1
    last = failures.Failure(**progress.failure) if progress.failure else None
    for target in targets:
        if not deadline.allows_attempt():
            break
        if not _is_eligible(target, progress, rules, now()) or _is_blocked(
            target, progress, ledger, now()
        ):
            continue
        result, failed = _attempt(target, progress, rules, attempt, ledger, deadline, now, run)
        if failed is None:
            return RoundResult(result=result, target=target)
        last = failed
        _exclude_targets(target, targets, failed, progress, rules)
    return _plan_next_round(targets, progress, rules, deadline, now, last)


def _is_eligible(target, progress, rules, timestamp):
    target_state = progress.mark(target)
    if target_state["out"] is not None or target_state["ready_at"] > timestamp:
        return False
    return target_state["tries"] == 0 or progress.repeats < rules.max_retries


def _is_blocked(target, progress, ledger, timestamp):
    """Return whether breaker or cooldown block the target; the trail records a reason once."""
    health = ledger.breaker_state(target.name)
    blocked_until, reason = health.until, health.reason
    if (
        blocked_until is None and
        health.state == HALF_OPEN and
        not ledger.claim_probe(target.name, health)
    ):
        blocked_until, reason = (
            timestamp + PROBE_POLL_SECONDS,
            "its breaker is half open and its probes are in use",
        )
    if blocked_until is None:
        return False
    target_state = progress.mark(target)
    target_state["ready_at"] = blocked_until
    if target_state.get("held") != reason:
        target_state["held"] = reason
        progress.trail.append(
            {
                "target": target.name,
                "skipped": reason,
                "seconds": round(blocked_until - timestamp, 1),
            }
        )
        run_log.emit("skipped", target=target.name, seconds=blocked_until - timestamp)
    return True


def _attempt(target, progress, rules, attempt, ledger, deadline, now, run):
    """Make one attempt and record it; return (result, None) or (None, Failure)."""
    target_state = progress.mark(target)
    repeat = target_state["tries"] > 0
    progress.attempts += 1
    progress.repeats += 1 if repeat else 0
    target_state["tries"] += 1
    target_state.pop("held", None)
    seconds = min(target.seconds, deadline.seconds_left())
    started_at, monotonic_start, result, failed = now(), time.monotonic(), None, None
    try:
        with tracing.span_attributes(
            target=target.name, attempt=progress.attempts, round=progress.cursor, repeat=repeat
        ):
            result = attempt(target, seconds, progress.attempts)
    except CallNotMade as error:
        return None, _record_not_made(target, progress, error.failure, repeat)
    except CallError as error:
        failed = error.failure
    except InvalidInput as error:
        # The configuration of this target alone is incomplete, such as a missing secret.
        failed = failures.make_failure("configuration", str(error))
    latency = time.monotonic() - monotonic_start
    cause = failed.cause if failed else None
    hint = failed.retry_after if failed else None
    if failed is not None:
        target_state["ready_at"] = now() + max(_back_off(target_state["tries"], rules), hint or 0.0)
        progress.failure = failed.as_dict()
    entry = {
        "attempt": progress.attempts,
        "target": target.name,
        "round": progress.cursor,
        "repeat": repeat,
        "ok": failed is None,
        "latency_ms": int(latency * 1000),
        "at": to_iso(started_at, milliseconds=True),
    }
    if failed is not None:
        entry.update(cause=cause, message=failed.message)
        entry.update(
            {k: v for k, v in (("status", failed.status), ("hint_seconds", hint)) if v is not None}
        )
    progress.trail.append(entry)
    ledger.append(
        target.name,
        Outcome(
            ok=failed is None,
            cause=cause,
            at=now(),
            latency=latency,
            until=now() + hint
            if hint and cause in ("rate_limit", "overloaded", "server_error")
            else None,
            repeat=repeat,
            run=run,
        ),
    )
    run_log.emit(
        "attempt",
        number=progress.attempts,
        target=target.name,
        outcome="ok" if failed is None else cause,
        status=failed.status if failed else None,
        hint_seconds=hint,
        seconds=latency,
    )
    return result, failed


def _record_not_made(target, progress, failed, repeat):
    """Record an attempt that was not made, which counts neither for the run nor for the target."""
    progress.attempts -= 1
    progress.repeats -= 1 if repeat else 0
    progress.mark(target)["tries"] -= 1
    progress.failure = failed.as_dict()
    progress.trail.append({"target": target.name, "skipped": failed.message, "cause": failed.cause})
    run_log.emit("skipped", target=target.name, cause=failed.cause)
    return failed


def reject_unknown_effect(field, failure, hint):
    """Raise InvalidInput if the reported call is unsafe to repeat and may have taken effect."""
    if failure.cause in UNFINISHED:
        raise InvalidInput(
            field,
            failure.cause,
            "may have taken effect, and is marked unsafe_to_repeat",
            "Check whether it did; if not, " + hint,
        )


def _back_off(repeat, rules):
    return backoff.jittered_delay(
        rules.strategy,
        repeat,
        rules.base_delay,
        rules.max_delay,
        rules.base_delay_given,
        rules.success_rate,
        rules.multiplier,
    )


def _exclude_targets(target, targets, failed, progress, rules):
    """Exclude the targets that cannot succeed after this failure."""
    target_state = progress.mark(target)
    if not failed.policy.retry_same_target:
        target_state["out"] = failed.cause
    elsewhere = failed.policy.retry_other_target
    if failed.cause == "content_policy":
        elsewhere = rules.content_policy_fallbacks
    if (
        target.unsafe_to_repeat and
        failed.cause in UNKNOWN_EFFECT_CAUSES and
        failed.evidence.get("sent", True)
    ):
        target_state["out"] = "unsafe_to_repeat"
        elsewhere = False
    for other in targets:
        too_small = failed.cause == "context_length" and not _larger(other, target)
        same_account = other.account is not None and other.account == target.account
        refused = same_account and failed.cause in ACCOUNT_WIDE_CAUSES
        if not elsewhere or too_small or refused:
            progress.mark(other)["out"] = progress.mark(other)["out"] or failed.cause


def _larger(other, target):
    return other.window is None or target.window is None or other.window > target.window


def _plan_next_round(targets, progress, rules, deadline, now, last):
    remaining = [
        target
        for target in targets
        if progress.mark(target)["out"] is None and
        (progress.mark(target)["tries"] == 0 or progress.repeats < rules.max_retries)
    ]
    if not remaining:
        return RoundResult(failure=last, reason=_exhausted_reason(targets, progress, rules))
    ready = min(progress.mark(target)["ready_at"] for target in remaining)
    delay = backoff.round_up(ready - now())
    if not deadline.allows_attempt_at(now() + delay):
        reason = "the next retry is due in %d s, but only %d s remain" % (
            delay,
            max(0, deadline.seconds_left()),
        )
        return RoundResult(failure=last, reason=reason, again_at=now() + delay)
    return RoundResult(failure=last, delay=delay)


def _exhausted_reason(targets, progress, rules):
    outs = sorted({progress.mark(target)["out"] for target in targets} - {None})
    if not targets:
        return "there is no target to try"
    if "unsafe_to_repeat" in outs:
        return "the request may have taken effect and must not be repeated: a person has to check"
    if outs and all(progress.mark(target)["out"] for target in targets):
        return "not retryable (%s)" % ", ".join(outs)
    return "max_retries, %d, is used up" % rules.max_retries
