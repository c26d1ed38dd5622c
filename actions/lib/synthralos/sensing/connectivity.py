"""Reports when a sensor loses its source and when it is connected again.

The trigger `synthralos.sensor_disconnected` is dispatched once for each: without it, a sensor that
cannot reach its source would look like a world without failures.
"""

from collections.abc import Mapping
from typing import Any, Callable, Optional

from synthralos.core import timestamps
from synthralos.sensing.sensor_state import SensorDatastore, SensorLog, SensorNote
from synthralos.sensing.sensor_status import SensorStatus
from synthralos.storage.datastore import DatastoreUnavailable

TRIGGER = "sensor_disconnected"
# (trigger, payload). It may raise DispatchError.
Dispatch = Callable[[str, Mapping[str, Any]], None]


class DispatchError(Exception):
    """StackStorm did not accept a trigger."""


class ConnectivityMonitor:
    """Counts failed attempts in a row and dispatches the trigger.

    :param sensor: class name of the sensor.
    :param threshold: failed attempts in a row after which the sensor counts as disconnected.
    :ivar tries: failed attempts in a row.
    :ivar status: the SensorStatus, which metrics read.
    """

    def __init__(
        self,
        sensor: str,
        dispatch: Dispatch,
        datastore: SensorDatastore,
        now: Callable[[], float],
        log: SensorLog,
        threshold: int,
    ) -> None:
        self._sensor, self._dispatch, self._now, self._log = sensor, dispatch, now, log
        self._threshold, self._note = threshold, SensorNote(datastore, sensor + ".blind")
        self.status = SensorStatus(datastore, sensor, now)
        self._is_announced, self._is_restored = False, False
        self._since: Optional[float] = None
        self._reason: Optional[str] = None
        self.tries = 0

    def failed(
        self, reason: str, message: str, next_try: float, at_once: bool = False
    ) -> None:
        """Record a failed attempt.

        :param reason: a name, such as network.
        :param message: one line for the log.
        :param next_try: seconds until the next attempt.
        :param at_once: dispatch without waiting for the threshold: further attempts would fail too.
        """
        self._restore()
        self.tries += 1
        if self._since is None:
            self._since = self._now()
        # Logged once for each reason and once when dispatched, not with every attempt.
        if reason != self._reason:
            self._log.warning("%s: %s", self._sensor, message)
        self._reason = reason
        if not self._is_announced and (at_once or self.tries >= self._threshold):
            self._announce(self._since, message, next_try)
        self.status.report(not self._is_announced, failed=True)

    def _announce(self, since: float, message: str, next_try: float) -> None:
        self._log.error(
            "%s is disconnected since %s, after %d attempts: %s",
            self._sensor, timestamps.to_iso(since, milliseconds=True), self.tries, message,
        )
        if self._dispatch_state(False, next_try):
            self._is_announced = True
            self._persist({"since": since, "reason": self._reason})

    def succeeded(self) -> None:
        """Record a successful attempt."""
        self._restore()
        if self._is_announced:
            self._log.info("%s is connected again", self._sensor)
            if not self._dispatch_state(True, 0):
                return
            self._persist(None)
        self._is_announced, self._since, self._reason, self.tries = False, None, None, 0
        self.status.report(True)

    def _dispatch_state(self, seeing: bool, next_try: float) -> bool:
        payload = {
            "sensor": self._sensor,
            "since": timestamps.to_iso(
                self._now() if self._since is None else self._since, milliseconds=True
            ),
            "reason": self._reason or "unknown",
            "attempts": self.tries,
            "next_try_seconds": round(next_try, 1),
            "seeing": seeing,
        }
        try:
            self._dispatch(TRIGGER, payload)
        except DispatchError:
            # It is dispatched with the next attempt.
            return False
        return True

    def _restore(self) -> None:
        """Load, once, whether an earlier process has reported a disconnection."""
        if self._is_restored:
            return
        try:
            note = self._note.read()
        except DatastoreUnavailable:
            return
        self._is_restored = True
        if note is not None and not self._is_announced:
            since, reason = note.get("since"), note.get("reason")
            self._is_announced = True
            self._since = since if isinstance(since, (int, float)) else self._now()
            self._reason = reason if isinstance(reason, str) else None

    def _persist(self, facts: Optional[Mapping[str, Any]]) -> None:
        try:
            if facts is None:
                self._note.delete()
            else:
                self._note.write(facts)
        except DatastoreUnavailable as error:
            self._log.warning(
                "%s: the connection state could not be stored: %s", self._sensor, error
            )
