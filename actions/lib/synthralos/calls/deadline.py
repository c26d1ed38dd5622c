"""The deadline of a run: every attempt, wait and hint must fit before it."""

from typing import Callable

RECORD_SECONDS = 10.0
HOP_SECONDS = 0.5
MIN_ATTEMPT_SECONDS = 1.0
# For each host that a run has not called yet: a host that hangs does not use up its time.
HOST_SECONDS = 10.0


class Deadline:
    """A point in time that attempts must not pass.

    :param at: seconds since the epoch.
    :param now: a callable that returns the same.
    """

    def __init__(self, at: float, now: Callable[[], float]) -> None:
        self.at, self._now = at, now

    @classmethod
    def of_run(cls, started: float, timeout: float, now: Callable[[], float]) -> "Deadline":
        """Return the deadline of a run that `started` and has `timeout` seconds.

        RECORD_SECONDS are reserved for the failure record; in a run of less than a minute, a sixth
        of its time.
        """
        return cls(started + timeout - min(RECORD_SECONDS, timeout / 6.0), now)

    def seconds_left(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return self.at - self._now()

    def share(self, other_hosts: int) -> float:
        """Return the seconds that an attempt may take, if `other_hosts` hosts are still to call.

        Each of them has HOST_SECONDS left afterwards; where that is too little, an equal share.
        """
        seconds_left = self.seconds_left()
        share = max(seconds_left - other_hosts * HOST_SECONDS, seconds_left / (other_hosts + 1))
        return max(share, MIN_ATTEMPT_SECONDS)

    def allows_attempt(self) -> bool:
        return self.seconds_left() >= MIN_ATTEMPT_SECONDS

    def allows_attempt_at(self, when: float) -> bool:
        """Return whether an attempt that starts at `when`, after the hop there, has enough time."""
        return when + HOP_SECONDS + MIN_ATTEMPT_SECONDS <= self.at
