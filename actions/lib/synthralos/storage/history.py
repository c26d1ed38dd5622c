"""What happened to an agent or a request, entry by entry, for people."""

import json

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("history")
MAX_PAGES = 10


def append_entry(store, subject, now, entry, ttl_seconds=TTL_SECONDS, record_id=None):
    """Appends `entry`, a small redacted JSON object, to the history of `subject`.

    Returns the record's id, or None when it was not recorded.

    :param ttl_seconds: how long it is kept.
    :param record_id: the record's id, where another fact has the same one; by default a new one.
    """
    record_id = record_id or timestamp_key(now)
    value = json.dumps(dict(entry, v=FORMAT_VERSION), separators=(",", ":"), sort_keys=True)
    written = store.put(_prefix(subject) + record_id, value, ttl_seconds)
    return record_id if written else None


def recent_entries(store, subject, limit=20):
    """The newest entries of `subject`, newest first, each with its `append_entry`."""
    return list(_entries(store.list(_prefix(subject), limit=limit)))


def iter_entries(store, subject):
    """Yields all entries of `subject`, newest first, page by page, of at most PAGES pages."""
    for page in range(MAX_PAGES):
        rows = store.list(_prefix(subject), limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        yield from _entries(rows)
        if len(rows) < PAGE_SIZE:
            return


def _entries(rows):
    for name, value in rows:
        try:
            entry = json.loads(value)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and entry.pop("v", None) == FORMAT_VERSION:
            yield dict(entry, record=name.rsplit(".", 1)[-1])
        else:
            unreadable.skip(name)


def _prefix(subject):
    return "%shistory.%s." % (PREFIX, encode_key_part(subject))
