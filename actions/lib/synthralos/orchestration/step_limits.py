"""The time that a step has: for each attempt, between attempts, and in all."""

from synthralos.calls.deadline import MIN_ATTEMPT_SECONDS, Deadline

DEFAULT_STEP_SECONDS = 300
# Beyond the retry delay, for a model that asks to be called later.
HINT_SECONDS = 60
# Of a run's time, for the wave's results to be merged.
MERGE_SECONDS = 2.0
# That the runner gives an action beyond its own time, to say what became of the step.
GRACE_SECONDS = 30


def budget(step):
    """Seconds that a step may take in all, its retries and the waits before them included."""
    retries = step.get("max_retries") or 0
    wait = max(step.get("retry_delay") or 0, HINT_SECONDS)
    return (retries + 1) * _timeout(step) + retries * wait


def limit(steps, left):
    """The time-out that StackStorm's runner is given for the actions of a wave, whole seconds.

    :param left: seconds that the run has left.
    """
    longest = max(budget(step) for step in steps)
    return int(max(0, min(longest, left))) + GRACE_SECONDS


def _timeout(step):
    return step.get("timeout") or DEFAULT_STEP_SECONDS


class StepTimeLimit:
    """:ivar ends: when the step has to be over, in seconds since the epoch."""

    def __init__(self, step, deadline, now):
        self._step, self.now = step, now
        self.ends = min(deadline.at - MERGE_SECONDS, now() + budget(step))

    def attempt(self):
        """The Deadline of an attempt that begins now."""
        seconds = _timeout(self._step)
        return _AttemptDeadline(min(self.now() + seconds, self.ends), self.ends, self.now, seconds)

    def allows(self, delay=0):
        """Whether there is time for another attempt after `delay` seconds."""
        return self.now() + delay + MIN_ATTEMPT_SECONDS <= self.ends


class _AttemptDeadline(Deadline):
    """Ends an attempt; what would begin after it may still begin within the step's time."""

    def __init__(self, at, ends, now, seconds):
        super().__init__(at, now)
        self._ends, self._least = ends, min(MIN_ATTEMPT_SECONDS, seconds / 2)

    def allows_attempt(self):
        return self.seconds_left() >= self._least

    def allows_attempt_at(self, when):
        return when + MIN_ATTEMPT_SECONDS <= self._ends


class StepOutcome:
    """What became of a step.

    :ivar error: None, or {cause, message}.
    :ivar told: what else its log says: usage, model, cached, execution_id, note ...
    """

    def __init__(self, attempts, output=None, error=None, **told):
        self.attempts, self.output, self.error, self.log_fields = attempts, output, error, told
