"""The record of a run's attempts: its progress, the trail, the ledger and the live output."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypedDict

from synthralos.calls.relations import Target
from synthralos.core.failures import Failure
from synthralos.core.timestamps import to_iso
from synthralos.storage.outcome_ledger import Ledger, Outcome
from synthralos.telemetry import run_log

# A target that names a time after one of these is not called before it, by any run.
_COOLDOWN_CAUSES = ("rate_limit", "overloaded", "server_error")
# An account of several is not called for a while after one of these, by any run.
ACCOUNT_CAUSES = ("quota", "model_quota", "authentication")
ACCOUNT_COOLDOWN_SECONDS = 300.0


class PendingAttempt(TypedDict):
    """An attempt that has started something at its target, such as an agent, that still runs.

    It belongs to the run, not to one round: each further round asks for its outcome first.
    """

    target: str
    number: int
    round: int
    repeat: bool
    seconds: float
    started_at: float


class StillRunning(Exception):
    """Raised by a call whose outcome comes later.

    :ivar delay: seconds after which it is asked for again.
    """

    def __init__(self, delay: float) -> None:
        super().__init__("still running; ask again in %.1f s" % delay)
        self.delay = delay


@dataclass
class RunProgress:
    """The progress of a run over its rounds; the case carries it as JSON.

    :ivar pending: the attempt whose outcome comes later, as PendingAttempt has it, or None.
    :ivar marks: {target: {tries, ready_at, out: why it is not tried again, or None; last: why it is
        tried after all others, if it is; held: why it was skipped last}}.
    """

    cursor: int = 0
    attempts: int = 0
    repeats: int = 0
    trail: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: Optional[dict[str, Any]] = None
    pending: Optional["PendingAttempt"] = None

    @classmethod
    def from_dict(cls, data: Optional[dict[str, Any]]) -> "RunProgress":
        return cls(**data) if data else cls()

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def mark(self, target: Target) -> dict[str, Any]:
        return self.marks.setdefault(target.name, {"tries": 0, "ready_at": 0.0, "out": None})


@dataclass(frozen=True)
class Attempt:
    """An attempt that has begun.

    :ivar number: among the run's attempts, from 1.
    :ivar round: the round that it belongs to, from 1.
    :ivar repeat: whether the run attempted this target before.
    :ivar seconds: its limit.
    :ivar started_at: seconds since the epoch.
    """

    target: Target
    number: int
    round: int
    repeat: bool
    seconds: float
    started_at: float


@dataclass(frozen=True)
class Ending:
    """An attempt that has ended: its result, or the failure instead.

    :ivar latency: seconds.
    """

    attempt: Attempt
    result: Optional[Mapping[str, Any]]
    failure: Optional[Failure]
    latency: float


def account_cooldown(failure: Failure) -> float:
    """Return for how many seconds an account that failed so is not called."""
    return float(failure.evidence.get("resets_after") or ACCOUNT_COOLDOWN_SECONDS)


def _cooldown_end(target: Target, failure: Optional[Failure], now: float) -> Optional[float]:
    """Return when the target may be called again, by any run, or None if at once."""
    if failure is None:
        return None
    if target.account_name is not None and failure.cause in ACCOUNT_CAUSES:
        return now + account_cooldown(failure)
    if failure.retry_after and failure.cause in _COOLDOWN_CAUSES:
        return now + failure.retry_after
    return None


class AttemptRecorder:
    """Records the attempts of a run.

    :param back_off: a callable (tries) -> seconds until a target that failed is tried again.
    :param now: a callable that returns seconds since the epoch.
    :param run: the execution id, for the ledger.
    """

    def __init__(
        self,
        progress: RunProgress,
        ledger: Ledger,
        back_off: Callable[[int], float],
        now: Callable[[], float],
        run: str,
    ) -> None:
        self._progress, self._ledger, self._back_off = progress, ledger, back_off
        self._now, self._run = now, run

    def begin(self, target: Target, seconds: float) -> Attempt:
        """Count an attempt and return it."""
        progress, target_state = self._progress, self._progress.mark(target)
        repeat = target_state["tries"] > 0
        progress.attempts += 1
        progress.repeats += 1 if repeat else 0
        target_state["tries"] += 1
        target_state.pop("held", None)
        return Attempt(target, progress.attempts, progress.cursor, repeat, seconds, self._now())

    def end(self, ending: Ending) -> None:
        """Record an attempt that succeeded or failed. Costs one datastore call."""
        attempt, failure = ending.attempt, ending.failure
        target, now = attempt.target, self._now()
        hint = failure.retry_after if failure else None
        if failure is not None:
            target_state = self._progress.mark(target)
            back_off = self._back_off(target_state["tries"])
            target_state["ready_at"] = now + max(back_off, hint or 0.0)
            self._progress.failure = failure.as_dict()
        self._add_to_trail(ending)
        cause = failure.cause if failure else None
        outcome = Outcome(
            ok=failure is None,
            cause=cause,
            at=now,
            latency=ending.latency,
            until=_cooldown_end(target, failure, now),
            repeat=attempt.repeat,
            run=self._run,
        )
        self._ledger.append(target.name, outcome)

    def suspend(self, attempt: Attempt) -> None:
        """Remember an attempt whose outcome comes later."""
        self._progress.pending = {
            "target": attempt.target.name,
            "number": attempt.number,
            "round": attempt.round,
            "repeat": attempt.repeat,
            "seconds": attempt.seconds,
            "started_at": attempt.started_at,
        }

    def resume(self, targets: Iterable[Target]) -> Optional[Attempt]:
        """Return the attempt whose outcome comes later, or None if there is none.

        One whose target is no longer configured is forgotten.
        """
        pending, self._progress.pending = self._progress.pending, None
        if pending is None:
            return None
        target = next((target for target in targets if target.name == pending["target"]), None)
        if target is None:
            return None
        fields: dict[str, Any] = dict(pending, target=target)
        return Attempt(**fields)

    def close(self, ending: Ending) -> None:
        """Record an attempt that was closed, which says nothing of its target."""
        self._add_to_trail(ending)

    def not_made(self, attempt: Attempt, failure: Failure) -> None:
        """Take back an attempt that was not made: it counts neither for the run nor the target."""
        progress, target = self._progress, attempt.target
        progress.attempts -= 1
        progress.repeats -= 1 if attempt.repeat else 0
        progress.mark(target)["tries"] -= 1
        progress.failure = failure.as_dict()
        progress.trail.append(
            {"target": target.name, "skipped": failure.message, "cause": failure.cause}
        )
        run_log.emit("skipped", target=target.name, cause=failure.cause)

    def skip(self, target: Target, reason: str, seconds: float) -> None:
        """Record that a target may not be called for `seconds`; the trail has each reason once."""
        target_state = self._progress.mark(target)
        if target_state.get("held") == reason:
            return
        target_state["held"] = reason
        self._progress.trail.append(
            {"target": target.name, "skipped": reason, "seconds": round(seconds, 1)}
        )
        run_log.emit("skipped", target=target.name, seconds=seconds)

    def ask_last(self, target: Target, reason: str, in_trail: bool) -> None:
        """Mark a target that is attempted after all others; the first time maybe in the trail."""
        target_state = self._progress.mark(target)
        if target_state.get("last") is None:
            target_state["last"] = reason
            if in_trail:
                self._progress.trail.append({"target": target.name, "asked_last": reason})

    def _add_to_trail(self, ending: Ending) -> None:
        attempt, failure = ending.attempt, ending.failure
        entry = {
            "attempt": attempt.number,
            "target": attempt.target.name,
            "round": attempt.round,
            "repeat": attempt.repeat,
            "ok": failure is None,
            "latency_ms": int(ending.latency * 1000),
            "at": to_iso(attempt.started_at, milliseconds=True),
        }
        if ending.result is not None and ending.result.get("adapted"):
            entry["adapted"] = ending.result["adapted"]
        if failure is not None:
            entry.update(cause=failure.cause, message=failure.message)
            optional = {"status": failure.status, "hint_seconds": failure.retry_after}
            entry.update({name: value for name, value in optional.items() if value is not None})
        self._progress.trail.append(entry)
        run_log.emit(
            "attempt",
            number=attempt.number,
            target=attempt.target.name,
            outcome="ok" if failure is None else failure.cause,
            status=failure.status if failure else None,
            hint_seconds=failure.retry_after if failure else None,
            seconds=ending.latency,
        )
