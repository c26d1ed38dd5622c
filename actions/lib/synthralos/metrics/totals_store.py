"""The totals in the datastore: one value, which is written whole, by metrics.roll_up alone."""

import json
from dataclasses import dataclass, field
from typing import Optional

from synthralos.core.errors import InvalidInput
from synthralos.storage.datastore import PREFIX, require_available
from synthralos.storage.keyspace import lifetime_of

KEY = PREFIX + "totals"
FORMAT_VERSION = 1
# Every roll-up writes it anew; only a pack that nobody uses any more forgets.
TTL_SECONDS = lifetime_of("totals")


@dataclass
class StoredTotals:
    """What is kept.

    :ivar totals: totals.Totals as a mapping.
    :ivar pending: keys that have been counted, and perhaps not been deleted yet.
    :ivar recent: the keys counted last, the newest last: what has them again is not counted.
    :ivar seen: {agent that has series: when it was last counted, in seconds since the epoch}.
    :ivar at: when the last roll-up went well, in seconds since the epoch, or None.
    :ivar text: what stands in the datastore, or None.
    """

    totals: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)
    recent: list = field(default_factory=list)
    at: Optional[float] = None
    seen: dict = field(default_factory=dict)
    text: Optional[str] = None


class ConcurrentWrite(Exception):
    """Somebody else has written the totals since they were read."""


def load(store):
    """The Kept.

    :raises DatastoreUnavailable: the datastore is unavailable; InvalidInput: it holds something else.
    """
    text = _text(store)
    if text is None:
        return StoredTotals()
    try:
        told = json.loads(text)
        if told["v"] != FORMAT_VERSION:
            raise ValueError
        # A version that let no agent give way has written no `seen`.
        seen = told.get("seen") or {}
        return StoredTotals(told["totals"], told["pending"], told["recent"], told["at"], seen, text)
    except (ValueError, KeyError, TypeError) as error:
        way_out = "Delete this key to begin again from 0, or upgrade the pack that reads it"
        raise InvalidInput(KEY, None, "cannot be read by this version", way_out) from error


def save(store, kept):
    """Writes it over what was read.

    :raises Overtaken: it has changed since; DatastoreUnavailable: the datastore is unavailable.
    """
    # The claim keeps others out; this is for a claim that time has taken away.
    if _text(store) != kept.text:
        raise ConcurrentWrite
    names = ("totals", "pending", "recent", "at", "seen")
    told = dict({name: getattr(kept, name) for name in names}, v=FORMAT_VERSION)
    text = json.dumps(told, separators=(",", ":"), sort_keys=True)
    store.put(KEY, text, TTL_SECONDS)
    require_available(store)
    kept.text = text


def _text(store):
    text = store.get(KEY)
    require_available(store)
    return text
