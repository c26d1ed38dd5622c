"""The state of a sensor across restarts: one object in the datastore that only it writes.

The state is written after a trigger was dispatched. If the process dies in between, the trigger is
dispatched again; in the opposite order it would be lost.
"""

import json
from collections.abc import Mapping
from typing import Any, Callable, Optional, Protocol

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.storage import state_codec
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("sensor")
# An object that does not change must not expire.
RENEWED_SECONDS = 3600.0


class SensorDatastore(Protocol):
    """The part of a datastore that sensors use. Its calls raise DatastoreUnavailable."""

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        """See `Datastore.get`."""

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> Optional[str]:
        """See `Datastore.put`."""

    def delete(self, name: str) -> bool:
        """See `Datastore.delete`."""


class SensorLog(Protocol):
    """The log of a sensor: a text with `%s`, and the values for it."""

    def info(self, text: str, *values: object) -> None:
        """Log what is as it should be."""

    def warning(self, text: str, *values: object) -> None:
        """Log what may pass."""

    def error(self, text: str, *values: object) -> None:
        """Log what somebody has to mend."""


class SensorState:
    """A JSON object that is loaded once and saved after changes.

    :param name: name of the sensor and of this state.
    :ivar content: the object; after a change, its owner calls `changed`.
    """

    def __init__(
        self, datastore: SensorDatastore, name: str, now: Callable[[], float], log: SensorLog
    ) -> None:
        self._datastore, self._now, self._log = datastore, now, log
        self._key = PREFIX + "sensor." + encode_key_part(name)
        self._is_loaded, self._is_changed, self._saved_at = False, False, 0.0
        self.content: dict[str, Any] = {}

    def load(self) -> None:
        """Read the stored object, once.

        :raises DatastoreUnavailable: it could not be read; the next call tries again.
        """
        if self._is_loaded:
            return
        text = self._datastore.get(self._key)
        if text is not None:
            self.content = self._decode(text)
        self._saved_at = self._now() if text is not None else 0.0
        self._is_loaded = True

    def changed(self) -> None:
        self._is_changed = True

    def save(self) -> None:
        """Write the object if it has changed, or to renew its expiry.

        :raises DatastoreUnavailable: it could not be written; the next call tries again.
        """
        due = self._now() - self._saved_at >= RENEWED_SECONDS
        if not self._is_changed and not due:
            return
        try:
            text = state_codec.encode_state(self._key, dict(self.content, v=FORMAT_VERSION))
        except InvalidInput as error:
            raise DatastoreUnavailable(str(error)) from error
        self._datastore.put(self._key, text, TTL_SECONDS)
        self._is_changed, self._saved_at = False, self._now()

    def _decode(self, text: str) -> dict[str, Any]:
        try:
            content = state_codec.decode_state(text)
        except (state_codec.CorruptState, UnicodeError):
            content = None
        if not isinstance(content, dict) or content.pop("v", None) != FORMAT_VERSION:
            # Dispatching again is better than never.
            self._log.warning("the state stored under %s cannot be read", self._key)
            return {}
        return content


class SensorNote:
    """A small JSON object that is read and written as a whole."""

    def __init__(self, datastore: SensorDatastore, name: str) -> None:
        self._datastore, self._key = datastore, PREFIX + "sensor." + encode_key_part(name)

    def read(self) -> Optional[dict[str, Any]]:
        """Return the object, or None if nothing is stored."""
        text = self._datastore.get(self._key)
        return None if text is None else note_of(text)

    def write(self, facts: Mapping[str, Any]) -> None:
        self._datastore.put(self._key, json.dumps(facts), TTL_SECONDS)

    def delete(self) -> None:
        self._datastore.delete(self._key)


def note_of(text: str) -> Optional[dict[str, Any]]:
    """Decode a note; None if it is not a JSON object."""
    try:
        note = json.loads(text)
    except ValueError:
        return None
    return note if isinstance(note, dict) else None
