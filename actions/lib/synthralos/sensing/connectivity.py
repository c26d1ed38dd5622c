"""Whether a sensor sees.

A trigger, `synthralos.sensor_disconnected`, tells once that it does not, and once that it does again: a
sensor that sees nothing looks like a world without failures.
"""

from synthralos.core import iso_dates
from synthralos.sensing.sensor_state import SensorNote
from synthralos.sensing.sensor_status import SensorStatus
from synthralos.storage.datastore import DatastoreUnavailable

TRIGGER = "sensor_disconnected"


class DispatchError(Exception):
    """StackStorm did not take a trigger."""


class ConnectivityMonitor:
    """:param sensor: its class name.
    :param dispatch: a callable (trigger, payload). It may raise DispatchError.
    :param after: failed tries in a row from which on it is told.
    :ivar tries: failed tries in a row.
    :ivar status: what metrics know of it.
    """

    def __init__(self, sensor, dispatch, datastore, now, log, threshold):
        self._sensor, self._dispatch, self._now, self._log = sensor, dispatch, now, log
        self._threshold, self._note = threshold, SensorNote(datastore, sensor + ".blind")
        self.status = SensorStatus(datastore, sensor, now)
        self._is_announced, self._is_restored = False, False
        self._since, self._reason = None, None
        self.tries = 0

    def failed(self, reason, message, next_try, at_once=False):
        """A try failed.

        :param reason: a name, such as network; message: one line for the log.
        :param next_try: seconds until the next one.
        :param at_once: whether it is told without waiting for more tries: they would fail too.
        """
        self._restore()
        self.tries += 1
        if self._since is None:
            self._since = self._now()
        # Once a reason, and once when it is told: a log is no place for the same line all day.
        if reason != self._reason:
            self._log.warning("%s: %s", self._sensor, message)
        self._reason = reason
        if not self._is_announced and (at_once or self.tries >= self._threshold):
            self._announce(message, next_try)
        self.status.report(not self._is_announced, failed=True)

    def _announce(self, message, next_try):
        self._log.error(
            "%s sees nothing since %s, after %d tries: %s",
            self._sensor, iso_dates.iso(self._since), self.tries, message,
        )
        if self._dispatch_state(False, next_try):
            self._is_announced = True
            self._persist({"since": self._since, "reason": self._reason})

    def succeeded(self):
        """A try succeeded."""
        self._restore()
        if self._is_announced:
            self._log.info("%s sees again", self._sensor)
            if not self._dispatch_state(True, 0):
                return
            self._persist(None)
        self._is_announced, self._since, self._reason, self.tries = False, None, None, 0
        self.status.report(True)

    def _dispatch_state(self, seeing, next_try):
        payload = {
            "sensor": self._sensor,
            "since": iso_dates.iso(self._now() if self._since is None else self._since),
            "reason": self._reason or "unknown",
            "attempts": self.tries,
            "next_try_seconds": round(next_try, 1),
            "seeing": seeing,
        }
        try:
            self._dispatch(TRIGGER, payload)
        except DispatchError:
            # It is tried again with the next try.
            return False
        return True

    def _restore(self):
        """Whether the process before this one has told that it is blind."""
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

    def _persist(self, facts):
        try:
            if facts is None:
                self._note.delete()
            else:
                self._note.write(facts)
        except DatastoreUnavailable as error:
            self._log.warning("%s: not recorded that it is blind: %s", self._sensor, error)
