"""What metrics know of a sensor: whether it sees, when it last said so, how often it tried again.

Each sensor writes a note of its own, when it changes and now and then: one that is dead cannot say
so.
"""

from synthralos.core.identifiers import decode_key_part
from synthralos.metrics import definitions
from synthralos.sensing.sensor_state import SensorNote, note_of
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable

RENEWED_SECONDS = 300.0
# Missed notes after which it counts as dead; seconds after which it is forgotten.
MISSED, FORGOTTEN_SECONDS = 3, 24 * 3600
_SUFFIX = ".status"


class SensorStatus:
    """:param sensor: its class name.
    :ivar every: seconds between two notes of a sensor that does not change; at least that between
        two of its tries.
    """

    def __init__(self, datastore, sensor, now):
        self._note, self._now, self.every = (
            SensorNote(datastore, sensor + _SUFFIX),
            now,
            RENEWED_SECONDS,
        )
        self._sees, self._retries, self._before = None, 0, None
        self._written, self._written_at = None, 0.0

    def report(self, sees, failed=False):
        """A try has ended. Nothing is raised.

        :param sees: whether the sensor counts as seeing; failed: whether this try has failed.
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
                self._before = _whole((self._note.read() or {}).get("retries"))
            retries = self._before + self._retries
            self._note.write({"sees": sees, "retries": retries, "at": now, "every": self.every})
        except DatastoreUnavailable:
            # It is written with the next try.
            return
        self._written, self._written_at = sees, now

    def heartbeat(self):
        """Nothing has changed."""
        if self._sees is not None:
            self.report(self._sees)


def metrics(store, now):
    """{Family: {(sensor,): value}} of the sensors that have told anything within a day."""
    connected, seen, retries = {}, {}, {}
    for name, text in store.list(PREFIX + "sensor."):
        sensor = decode_key_part(name[len(PREFIX + "sensor."):])
        told = note_of(text) if sensor.endswith(_SUFFIX) else None
        if told is None or now - _number(told.get("at")) > FORGOTTEN_SECONDS:
            continue
        labels = (sensor[: -len(_SUFFIX)],)
        lives = now - _number(told.get("at")) <= MISSED * max(1, _number(told.get("every")))
        connected[labels] = int(bool(told.get("sees")) and lives)
        seen[labels] = round(_number(told.get("at")), 3)
        retries[labels] = _whole(told.get("retries"))
    return {
        definitions.SENSOR_CONNECTED: connected,
        definitions.SENSOR_SEEN: seen,
        definitions.SENSOR_RECONNECTS: retries,
    }


def _number(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _whole(value):
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
