"""The datastore interface: text under names, with a time to live, listed newest first.

There is no compare-and-set, so nothing shared is read, changed and written back. Instead a fact is
appended under a key of its own whose name ends in its time, and state is derived from a listing.
"""

import bisect
import itertools
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Callable, Optional, Protocol, TypeVar, Union

PREFIX = "synthralos."
PAGE_SIZE = 100
# Above this number of values in memory, expired ones are looked for and dropped.
SWEEP_FROM = 1000
# Returned by `put` for text that the configuration does not allow to be stored.
WITHHELD = "withheld"

T = TypeVar("T")


class DatastoreUnavailable(Exception):
    """The datastore did not respond, or refused. The message says which."""


@dataclass(frozen=True)
class KeyInfo:
    """A key without its value.

    :ivar size: bytes of the value.
    :ivar expires_at: seconds since the epoch at which it expires; None if it never does.
    :ivar created: seconds since the epoch at which it was first written, or None if unknown.
    """

    name: str
    size: int
    expires_at: Optional[float] = None
    created: Optional[float] = None


# (name, value) pairs. Named here because `list` is a method in the classes below.
Rows = list[tuple[str, str]]
Keys = list[KeyInfo]


class Listing(Protocol):
    """The part of a datastore that lists values."""

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        """See `Datastore.list`."""


class Datastore(Protocol):
    """Names are ASCII without `/` and `..`, values text, `ttl` whole seconds above 0.

    Every method raises DatastoreUnavailable when the datastore does not respond.
    """

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        """Return the value, or None if it does not exist."""

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> Optional[str]:
        """Write the value, in place of an older one. Return WITHHELD if it may not be stored."""

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Keys:
        """Like `list`, without the values."""

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        """Return (name, value) of the names that start with `prefix`, in descending order."""

    def delete(self, name: str) -> bool:
        """Delete the key. Return whether it existed."""


class MemoryDatastore:
    """A datastore for one process, such as a program that wraps its own agents.

    It is safe to share between threads. Expired values are dropped as new ones are written.

    :param now: a callable that returns seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now, self._lock = now, threading.RLock()
        # {name: (value, expiry or None)}, and its names in order.
        self._rows: dict[str, tuple[str, Optional[float]]] = {}
        self._names: list[str] = []
        self._sweep_above = SWEEP_FROM

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        with self._lock:
            row = self._rows.get(name)
        if row is None:
            return None
        value, expires_at = row
        return None if expires_at is not None and expires_at <= self._now() else value

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> Optional[str]:
        if not isinstance(value, str):
            raise TypeError("a value of the datastore is text, not %s" % type(value).__name__)
        with self._lock:
            if name not in self._rows:
                bisect.insort(self._names, name)
            self._rows[name] = (value, None if ttl is None else self._now() + ttl)
            if len(self._rows) > self._sweep_above:
                self._sweep()
        return None

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        with self._lock:
            start = bisect.bisect_left(self._names, prefix)
            end = bisect.bisect_left(self._names, prefix + "\U0010ffff")
            rows = ((name, self.get(name)) for name in reversed(self._names[start:end]))
            live = ((name, value) for name, value in rows if value is not None)
            return list(itertools.islice(live, offset, offset + limit))

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Keys:
        with self._lock:
            return [
                KeyInfo(name, _size(value), self._rows[name][1])
                for name, value in self.list(prefix, limit, offset)
            ]

    def delete(self, name: str) -> bool:
        with self._lock:
            if self._rows.pop(name, None) is None:
                return False
            del self._names[bisect.bisect_left(self._names, name)]
            return True

    def usage(self) -> tuple[int, int]:
        """Return (number of values, their bytes), without expired ones."""
        with self._lock:
            self._sweep()
            return len(self._rows), sum(_size(value) for value, _ in self._rows.values())

    def _sweep(self) -> None:
        # The next sweep comes only when the number of values has doubled, so that it costs each
        # `put` next to nothing.
        now = self._now()
        live = {n: row for n, row in self._rows.items() if row[1] is None or row[1] > now}
        self._rows, self._names = live, sorted(live)
        self._sweep_above = max(SWEEP_FROM, 2 * len(live))


def _size(value: str) -> int:
    return len(value.encode("utf-8", "surrogatepass"))


class BestEffortDatastore:
    """A datastore whose absence never ends a run.

    The first failure is remembered and later calls are not made, so that an unavailable datastore
    costs one time-out and not twenty. Only DatastoreUnavailable is such a failure: anything else
    is a defect of ours, and is raised.

    Calls from several threads take turns: what is underneath may not be safe to share.

    :ivar unavailable_reason: the message of the first failure, or None while calls succeed.
    :ivar unrecorded: the kinds of fact that could not be written.
    """

    def __init__(
        self, datastore: Optional[Datastore], lock: Optional[threading.Lock] = None
    ) -> None:
        self._datastore, self._lock = datastore, lock or threading.Lock()
        self.unavailable_reason: Optional[str] = None
        if datastore is None:
            self.unavailable_reason = "no datastore is configured"
        self.unrecorded: list[str] = []

    def fresh(self) -> "BestEffortDatastore":
        """Return the same datastore with another chance."""
        return BestEffortDatastore(self._datastore, self._lock)

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        return self._try(None, lambda store: store.get(name, decrypt))

    def secret(self, name: str) -> Optional[str]:
        """Return the decrypted value, or None if it does not exist.

        It is read even when other calls have failed: a user without permission to list keys may
        still be allowed to read this one.

        :raises DatastoreUnavailable: the datastore did not respond, or refused.
        """
        if self._datastore is None:
            raise DatastoreUnavailable(self.unavailable_reason)
        with self._lock:
            return self._datastore.get(name, True)

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Rows:
        return self._try([], lambda store: store.list(prefix, limit, offset))

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> Keys:
        return self._try([], lambda store: store.list_keys(prefix, limit, offset))

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> bool:
        """Return whether it was written. A withheld value is neither written nor unrecorded."""
        failed: Union[bool, str, None] = False
        result = self._try(failed, lambda store: store.put(name, value, ttl))
        if result == WITHHELD:
            return False
        if result is False:
            self.miss(name[len(PREFIX):].split(".", 1)[0])
            return False
        return True

    def miss(self, kind: str) -> None:
        """Note that a fact of this kind was not recorded, for want of what is read before it."""
        if kind not in self.unrecorded:
            self.unrecorded.append(kind)

    def delete(self, name: str) -> bool:
        return self._try(False, lambda store: store.delete(name))

    def unrecorded_note(self) -> Optional[str]:
        """Return a line that says which kinds were not recorded and why, or None."""
        if not self.unrecorded:
            return None
        return "not recorded: %s (%s)" % (", ".join(self.unrecorded), self.unavailable_reason)

    def _try(self, default: T, call: Callable[[Datastore], T]) -> T:
        if self.unavailable_reason is not None or self._datastore is None:
            return default
        try:
            with self._lock:
                return call(self._datastore)
        except DatastoreUnavailable as error:
            self.unavailable_reason = str(error)
            return default


def require_available(store: BestEffortDatastore, message: str = "%s") -> None:
    """Raise DatastoreUnavailable if a call to `store` has failed.

    An unreadable key is not a missing key, so callers must not treat it as absent.

    :param message: the error's text; its `%s` becomes the reason.
    """
    if store.unavailable_reason is not None:
        raise DatastoreUnavailable(message % store.unavailable_reason)


def timestamp_key(now: float, unique: Optional[str] = None) -> str:
    """Return the last part of a fact's name: 13 digits of milliseconds, and a unique suffix.

    The default suffix begins with three more digits of time, so that facts of the same millisecond
    keep their order.

    :param now: seconds since the epoch.
    """
    micros = int(now * 1_000_000)
    return "%013d-%s" % (micros // 1000, unique or "%03d%s" % (micros % 1000, secrets.token_hex(3)))


def timestamp_of_key(name: str) -> Optional[float]:
    """Return the time in the key `name`, in seconds since the epoch, or None if it has none."""
    digits = name.rsplit(".", 1)[-1].split("-", 1)[0]
    return int(digits) / 1000.0 if digits.isdigit() else None
