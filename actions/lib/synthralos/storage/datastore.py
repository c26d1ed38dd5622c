"""Where facts are kept: strings under names, with a time to live, listed newest first.

There is no compare-and-set, so nothing shared is read, changed and written back: a fact is appended
under a key of its own whose name ends in its time, and state is derived from a listing.
"""

import bisect
import itertools
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Optional, Protocol

PREFIX = "synthralos."
PAGE_SIZE = 100
# Values in memory from which on those that have expired are looked for.
SWEEP_FROM = 1000
# What `put` answers for text that is not to be kept.
WITHHELD = "withheld"


class DatastoreUnavailable(Exception):
    """The datastore did not answer, or refused. The message says which."""


@dataclass(frozen=True)
class KeyInfo:
    """A key without its value.

    :ivar size: bytes of the value.
    :ivar until: seconds since the epoch at which it expires; None for never.
    :ivar created: seconds since the epoch at which it was first written, where that is known.
    """

    name: str
    size: int
    expires_at: Optional[float] = None
    created: Optional[float] = None


class Datastore(Protocol):
    """Names are ASCII without `/` and `..`, values text, `ttl` whole seconds above 0."""

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        """The value, or None when there is none."""

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> None:
        """Writes the value, over an older one."""

    def list_keys(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> list[KeyInfo]:
        """As `list`, without the values."""

    def list(self, prefix: str, limit: int = PAGE_SIZE, offset: int = 0) -> list[tuple[str, str]]:
        """(name, value) of the names that start with `prefix`, by name, the greatest first."""

    def delete(self, name: str) -> bool:
        """Whether there was one to delete."""


class MemoryDatastore:
    """A datastore for one process, such as a program that wraps its own agents. Threads may share
    it. What has expired is dropped as new values come in.

    :param now: a callable that gives seconds since the epoch.
    """

    def __init__(self, now=time.time):
        self._now, self._lock = now, threading.RLock()
        # {name: (value, until or None)}, and its names in order.
        self._rows, self._names = {}, []
        self._sweep_above = SWEEP_FROM

    def get(self, name, decrypt=False):
        with self._lock:
            value, until = self._rows.get(name, (None, None))
        return None if until is not None and until <= self._now() else value

    def put(self, name, value, ttl=None):
        if not isinstance(value, str):
            raise TypeError("a value of the datastore is text, not %s" % type(value).__name__)
        with self._lock:
            if name not in self._rows:
                bisect.insort(self._names, name)
            self._rows[name] = (value, None if ttl is None else self._now() + ttl)
            if len(self._rows) > self._sweep_above:
                self._sweep()

    def list(self, prefix, limit=PAGE_SIZE, offset=0):
        with self._lock:
            start = bisect.bisect_left(self._names, prefix)
            end = bisect.bisect_left(self._names, prefix + "\U0010ffff")
            rows = ((name, self.get(name)) for name in reversed(self._names[start:end]))
            live = (row for row in rows if row[1] is not None)
            return list(itertools.islice(live, offset, offset + limit))

    def list_keys(self, prefix, limit=PAGE_SIZE, offset=0):
        with self._lock:
            return [
                KeyInfo(name, _size(value), self._rows[name][1])
                for name, value in self.list(prefix, limit, offset)
            ]

    def delete(self, name):
        with self._lock:
            if self._rows.pop(name, None) is None:
                return False
            del self._names[bisect.bisect_left(self._names, name)]
            return True

    def usage(self):
        """(how many values are stored, their bytes), without what has expired."""
        with self._lock:
            self._sweep()
            return len(self._rows), sum(_size(value) for value, _ in self._rows.values())

    def _sweep(self):
        # Only once as many have come in as are left: so it costs each `put` next to nothing.
        now = self._now()
        live = {n: row for n, row in self._rows.items() if row[1] is None or row[1] > now}
        self._rows, self._names = live, sorted(live)
        self._sweep_above = max(SWEEP_FROM, 2 * len(live))


def _size(value):
    return len(value.encode("utf-8", "surrogatepass"))


class BestEffortDatastore:
    """A datastore whose absence never ends a run.

    The first failure is remembered and later calls are not made, so that a datastore that is away
    costs one time-out and not twenty. `lost` then names the kinds of fact that were not recorded.
    Only DatastoreUnavailable is such a failure: anything else is a defect of ours, and is raised.
    """

    def __init__(self, datastore):
        self._datastore = datastore
        self.unavailable_reason = None if datastore is not None else "no datastore is configured"
        self.unrecorded = []

    def fresh(self):
        """The same datastore, given another chance."""
        return BestEffortDatastore(self._datastore)

    def get(self, name, decrypt=False):
        return self._try(None, "get", name, decrypt)

    def secret(self, name):
        """The decrypted value, or None. Asked for even when other calls have failed: who may not
        list keys may still read this one. Raises DatastoreUnavailable.
        """
        if self._datastore is None:
            raise DatastoreUnavailable(self.unavailable_reason)
        return self._datastore.get(name, True)

    def list(self, prefix, limit=PAGE_SIZE, offset=0):
        return self._try([], "list", prefix, limit, offset)

    def list_keys(self, prefix, limit=PAGE_SIZE, offset=0):
        return self._try([], "list_keys", prefix, limit, offset)

    def put(self, name, value, ttl=None):
        """Whether it was written. What is withheld is neither written nor lost."""
        written = self._try(False, "put", name, value, ttl)
        if written == WITHHELD:
            return False
        if written is False:
            self.miss(name[len(PREFIX):].split(".", 1)[0])
            return False
        return True

    def miss(self, kind: str) -> None:
        """Note that a fact of this kind was not recorded, for want of what is read before it."""
        if kind not in self.unrecorded:
            self.unrecorded.append(kind)

    def delete(self, name):
        return self._try(False, "delete", name)

    def unrecorded_note(self):
        """What was not recorded and why, or None."""
        if not self.unrecorded:
            return None
        return "not recorded: %s (%s)" % (", ".join(self.unrecorded), self.unavailable_reason)

    def _try(self, otherwise, operation, *arguments):
        if self.unavailable_reason is not None:
            return otherwise
        try:
            return getattr(self._datastore, operation)(*arguments)
        except DatastoreUnavailable as error:
            self.unavailable_reason = str(error)
            return otherwise


def answered(store: BestEffortDatastore, message: str = "%s") -> None:
    """Raise DatastoreUnavailable when a call to `store` was not answered.

    A key that could not be read is not a missing key, and what was not recorded binds nobody.

    :param message: the error's text; its `%s` becomes the reason.
    """
    if store.unavailable_reason is not None:
        raise DatastoreUnavailable(message % store.unavailable_reason)


def timestamp_key(now, unique=None):
    """The last part of a fact's name: 13 digits of milliseconds, then what makes it unique.

    That begins with three more digits, so that facts of one millisecond keep their order.
    """
    micros = int(now * 1_000_000)
    return "%013d-%s" % (micros // 1000, unique or "%03d%s" % (micros % 1000, secrets.token_hex(3)))


def timestamp_of_key(name):
    """Seconds since the epoch at which the fact called `name` was written, or None."""
    digits = name.rsplit(".", 1)[-1].split("-", 1)[0]
    return int(digits) / 1000.0 if digits.isdigit() else None
