"""The hosts that failed or were silent a short while ago: later runs attempt them last.

A host is remembered for as long as a breaker stays open. It is a fact like an outcome, but about
all targets of the host: a run that has not called one of them yet profits, too.
"""

from dataclasses import dataclass
from typing import Callable

from synthralos.config.settings import Breaker
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import key_prefix

FORMAT_VERSION = 1
# In place of a cause: it has not answered yet, and may still do so.
SILENT = "silent"
_KIND = "host_failure"


@dataclass(frozen=True)
class HostFailure:
    """The newest failure of a host.

    :ivar cause: a key of core.causes.CAUSES, or SILENT.
    :ivar at: seconds since the epoch.
    """

    cause: str
    at: float


class HostMemory:
    """Remembers failures of hosts in the datastore. An unavailable datastore remembers none.

    :param now: a callable that returns seconds since the epoch.
    """

    def __init__(
        self, store: BestEffortDatastore, now: Callable[[], float], limits: Breaker
    ) -> None:
        self._store, self._now, self._seconds = store, now, limits.open_seconds

    def remember(self, host: str, cause: str) -> None:
        """Store that `host`, of the form host:port, failed now. Costs one datastore call."""
        name = key_prefix(_KIND) + timestamp_key(self._now())
        text = records.encode({"host": host, "cause": cause}, FORMAT_VERSION)
        self._store.put(name, text, ttl=max(1, int(self._seconds)))

    def recent(self) -> dict[str, HostFailure]:
        """Return the newest failure of each remembered host. Costs one datastore call.

        Of more than PAGE_SIZE failures, the newest are read.
        """
        failures: dict[str, HostFailure] = {}
        oldest = self._now() - self._seconds
        rows = self._store.list(key_prefix(_KIND), limit=PAGE_SIZE)
        for name, fields in records.iter_rows(rows, FORMAT_VERSION):
            host, cause, timestamp = fields.get("host"), fields.get("cause"), timestamp_of_key(name)
            if not isinstance(host, str) or not isinstance(cause, str) or timestamp is None:
                unreadable.skip(name)
            elif timestamp > oldest:
                failures.setdefault(host, HostFailure(cause, timestamp))
        return failures
