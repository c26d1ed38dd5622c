"""The stored totals: one value in the datastore, written only by metrics.roll_up."""

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.storage.datastore import PREFIX, BestEffortDatastore, require_available
from synthralos.storage.keyspace import lifetime_of

KEY = PREFIX + "totals"
FORMAT_VERSION = 1
# Every roll-up renews it; it expires only if roll-ups stop.
TTL_SECONDS = lifetime_of("totals")


@dataclass
class StoredTotals:
    """The stored state of the roll-up.

    :ivar totals: as Totals.as_dict returns them.
    :ivar pending: keys of events that have been counted but perhaps not deleted yet.
    :ivar recent: keys of the events counted last, newest last; they are not counted again.
    :ivar rolled_up_at: end of the last successful roll-up, seconds since the epoch, or None.
    :ivar seen: {agent with series: time of its last count, seconds since the epoch}.
    :ivar text: the value in the datastore as it was read or written, or None.
    """

    totals: dict[str, list[Any]] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    recent: list[str] = field(default_factory=list)
    rolled_up_at: Optional[float] = None
    seen: dict[str, float] = field(default_factory=dict)
    text: Optional[str] = None


class ConcurrentWrite(Exception):
    """Another roll-up has written the totals since they were read."""


def load(store: BestEffortDatastore) -> StoredTotals:
    """Read the stored totals; empty ones if nothing is stored.

    :raises DatastoreUnavailable: the datastore is unavailable.
    :raises InvalidInput: the stored value cannot be read by this version.
    """
    text = _text(store)
    if text is None:
        return StoredTotals()
    try:
        data = json.loads(text)
        if data["v"] != FORMAT_VERSION:
            raise ValueError
        # Earlier versions wrote no `seen`.
        seen = data.get("seen") or {}
        return StoredTotals(data["totals"], data["pending"], data["recent"], data["at"], seen, text)
    except (ValueError, KeyError, TypeError) as error:
        hint = "Delete this key to restart from 0, or upgrade the pack"
        raise InvalidInput(KEY, None, "cannot be read by this version", hint) from error


def save(store: BestEffortDatastore, stored: StoredTotals) -> None:
    """Overwrite the stored totals.

    :raises ConcurrentWrite: they have changed since they were read.
    :raises DatastoreUnavailable: the datastore is unavailable.
    """
    # The lock excludes other roll-ups; this check is for a lock that has expired.
    if _text(store) != stored.text:
        raise ConcurrentWrite
    data = {
        "v": FORMAT_VERSION,
        "totals": stored.totals,
        "pending": stored.pending,
        "recent": stored.recent,
        "at": stored.rolled_up_at,
        "seen": stored.seen,
    }
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    store.put(KEY, text, TTL_SECONDS)
    require_available(store)
    stored.text = text


def _text(store: BestEffortDatastore) -> Optional[str]:
    text = store.get(KEY)
    require_available(store)
    return text
