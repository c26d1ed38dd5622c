"""The history of an agent or a request: entries for people, newest first."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import records
from synthralos.storage.datastore import PREFIX, BestEffortDatastore, Listing, timestamp_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("history")
MAX_PAGES = 10


def append_entry(
    store: BestEffortDatastore,
    subject: str,
    now: float,
    entry: Mapping[str, Any],
    ttl_seconds: int = TTL_SECONDS,
    record_id: Optional[str] = None,
) -> Optional[str]:
    """Append `entry`, a small redacted JSON object, to the history of `subject`.

    :param record_id: the entry's id, if another record has the same one; by default a new one.
    :returns: the entry's id, or None if it was not recorded.
    """
    record_id = record_id or timestamp_key(now)
    text = records.encode(entry, FORMAT_VERSION)
    written = store.put(_prefix(subject) + record_id, text, ttl_seconds)
    return record_id if written else None


def recent_entries(store: Listing, subject: str, limit: int = 20) -> list[records.Fields]:
    """The newest entries of `subject`, newest first, each with its id as `record`."""
    return list(_entries(store.list(_prefix(subject), limit=limit)))


def iter_entries(store: Listing, subject: str) -> Iterator[records.Fields]:
    """Yield the entries of `subject`, newest first, of at most MAX_PAGES pages."""
    for rows in records.iter_pages(store, _prefix(subject), MAX_PAGES):
        yield from _entries(rows)


def _entries(rows: Iterable[tuple[str, str]]) -> Iterator[records.Fields]:
    for name, entry in records.iter_rows(rows, FORMAT_VERSION):
        yield dict(entry, record=name.rsplit(".", 1)[-1])


def _prefix(subject: str) -> str:
    return "%shistory.%s." % (PREFIX, encode_key_part(subject))
