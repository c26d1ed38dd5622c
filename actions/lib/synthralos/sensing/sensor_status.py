"""Sensor status for metrics: connected, last heartbeat, number of reconnects.

Each sensor writes a note of its own, whenever the status changes and at regular intervals: a dead
sensor cannot report that it is dead. `metrics.query` reads the notes.
"""

from typing import Any, Callable, Optional

from synthralos.sensing.sensor_state import SensorDatastore, SensorNote
from synthralos.storage.datastore import DatastoreUnavailable

RENEWED_SECONDS = 300.0
# Missed notes after which a sensor counts as dead; seconds after which its note is ignored.
MAX_MISSED_NOTES, FORGOTTEN_SECONDS = 3, 24 * 3600
STATUS_SUFFIX = ".status"


class SensorStatus:
    """The status note of one sensor.

    :param sensor: its class name.
    :ivar every: seconds between two notes while the status does not change; not less than the
        sensor's poll interval.
    """

    def __init__(
        self, datastore: SensorDatastore, sensor: str, now: Callable[[], float]
    ) -> None:
        self._note, self._now, self.every = (
            SensorNote(datastore, sensor + STATUS_SUFFIX),
            now,
            RENEWED_SECONDS,
        )
        self._sees: Optional[bool] = None
        self._before: Optional[int] = None
        self._written: Optional[bool] = None
        self._retries, self._written_at = 0, 0.0

    def report(self, sees: bool, failed: bool = False) -> None:
        """Record an attempt. It never raises.

        :param sees: whether the sensor counts as connected.
        :param failed: whether this attempt failed.
        """
        self._sees = sees
        self._retries += failed
        now = self._now()
        age = now - self._written_at
        changed = self._sees != self._written
        if not changed and 0 <= age < (RENEWED_SECONDS / 5 if failed else self.every):
            return
        try:
            if self._before is None:
                self._before = count_or_zero((self._note.read() or {}).get("retries"))
            retries = self._before + self._retries
            self._note.write({"sees": sees, "retries": retries, "at": now, "every": self.every})
        except DatastoreUnavailable:
            # It is written with the next attempt.
            return
        self._written, self._written_at = sees, now

    def heartbeat(self) -> None:
        """Renew the note; nothing has changed."""
        if self._sees is not None:
            self.report(self._sees)


def count_or_zero(value: Any) -> int:
    """Return `value` if it is a positive integer, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
