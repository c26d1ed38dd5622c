"""Time limits of a step: for each attempt, between attempts, and in total."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.calls.deadline import MIN_ATTEMPT_SECONDS, Deadline

if TYPE_CHECKING:
    from synthralos.orchestration.scheduler import LogEntry
    from synthralos.orchestration.step_schema import Step

DEFAULT_STEP_SECONDS = 300
# The longest wait between attempts that a model may ask for, if it exceeds the retry delay.
HINT_SECONDS = 60
# Reserved of a run's time, to merge the wave's results.
MERGE_SECONDS = 2.0
# Added to the runner's time-out of an action, so that it can still record the step's outcome.
GRACE_SECONDS = 30


def budget(step: "Step") -> float:
    """Return the seconds that a step may take, including its retries and the waits before them."""
    retries = step.get("max_retries") or 0
    wait = max(step.get("retry_delay") or 0, HINT_SECONDS)
    return (retries + 1) * _timeout(step) + retries * wait


def limit(steps: "Iterable[Step]", seconds_left: float) -> int:
    """Return the time-out of StackStorm's runner for the actions of a wave, in whole seconds.

    :param seconds_left: the remaining time of the run.
    """
    max_seconds = max(budget(step) for step in steps)
    return int(max(0, min(max_seconds, seconds_left))) + GRACE_SECONDS


def _timeout(step: "Step") -> float:
    return step.get("timeout") or DEFAULT_STEP_SECONDS


class StepTimeLimit:
    """The time limit of a step, which is shared by all its attempts.

    :ivar deadline: when the step has to end, in seconds since the epoch.
    """

    def __init__(self, step: "Step", deadline: Deadline, now: Callable[[], float]) -> None:
        self._step, self.now = step, now
        self.deadline: float = min(deadline.at - MERGE_SECONDS, now() + budget(step))

    def attempt(self) -> Deadline:
        """Return the Deadline of an attempt that begins now."""
        seconds = _timeout(self._step)
        return _AttemptDeadline(
            min(self.now() + seconds, self.deadline), self.deadline, self.now, seconds
        )

    def allows(self, delay: float = 0) -> bool:
        """Return whether there is time for another attempt after `delay` seconds."""
        return self.now() + delay + MIN_ATTEMPT_SECONDS <= self.deadline


class _AttemptDeadline(Deadline):
    """The Deadline of one attempt; a later attempt may begin until the step's own deadline."""

    def __init__(
        self, at: float, step_deadline: float, now: Callable[[], float], seconds: float
    ) -> None:
        super().__init__(at, now)
        self._step_deadline, self._min_seconds = (
            step_deadline,
            min(MIN_ATTEMPT_SECONDS, seconds / 2),
        )

    def allows_attempt(self) -> bool:
        return self.seconds_left() >= self._min_seconds

    def allows_attempt_at(self, when: float) -> bool:
        return when + MIN_ATTEMPT_SECONDS <= self._step_deadline


class StepError(TypedDict):
    """Why a step, or an attempt of it, failed."""

    cause: str
    message: str


class StepOutcome:
    """The outcome of a step.

    :ivar attempts: how many attempts were made.
    :ivar log_fields: further fields of its log.
    """

    def __init__(
        self,
        attempts: int,
        output: Any = None,
        error: Optional[StepError] = None,
        log_fields: "Optional[LogEntry]" = None,
    ) -> None:
        self.attempts, self.output, self.error = attempts, output, error
        self.log_fields: LogEntry = log_fields or {}
