"""The time a run has: every attempt, wait and hint must fit in it."""

RECORD_SECONDS = 10.0
HOP_SECONDS = 0.5
MIN_ATTEMPT_SECONDS = 1.0


class Deadline:
    """:param at: seconds since the epoch; now: a callable that gives the same."""

    def __init__(self, at, now):
        self.at, self._now = at, now

    @classmethod
    def of_run(cls, started, timeout, now):
        """The deadline of a run that `started` and has `timeout` seconds.

        RECORD_SECONDS are kept for the record; a run of under a minute keeps a sixth of its time.
        """
        return cls(started + timeout - min(RECORD_SECONDS, timeout / 6.0), now)

    def seconds_left(self):
        """Seconds left; negative once it has passed."""
        return self.at - self._now()

    def allows_attempt(self):
        return self.seconds_left() >= MIN_ATTEMPT_SECONDS

    def allows_attempt_at(self, when):
        """Whether an attempt that begins at `when`, plus the hop there, has time to answer."""
        return when + HOP_SECONDS + MIN_ATTEMPT_SECONDS <= self.at
