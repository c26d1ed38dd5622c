"""What happened to an agent or a request, entry by entry, for people."""

import json

from synthralos.names import key_part
from synthralos.state import unreadable
from synthralos.state.datastore import PAGE, PREFIX, time_key
from synthralos.state.kinds import lifetime_of

FORMAT = 1
KEPT_SECONDS = lifetime_of("history")
PAGES = 10


def record(store, subject, now, entry, seconds=KEPT_SECONDS, last=None):
    """Appends `entry`, a small redacted JSON object, to the history of `subject`.

    Returns the record's id, or None when it was not recorded.

    :param seconds: how long it is kept.
    :param last: the record's id, where another fact has the same one; by default a new one.
    """
    last = last or time_key(now)
    value = json.dumps(dict(entry, v=FORMAT), separators=(",", ":"), sort_keys=True)
    written = store.put(_prefix(subject) + last, value, seconds)
    return last if written else None


def recent(store, subject, limit=20):
    """The newest entries of `subject`, newest first, each with its `record`."""
    return list(_entries(store.list(_prefix(subject), limit=limit)))


def entries(store, subject):
    """Yields all entries of `subject`, newest first, page by page, of at most PAGES pages."""
    for page in range(PAGES):
        rows = store.list(_prefix(subject), limit=PAGE, offset=page * PAGE)
        yield from _entries(rows)
        if len(rows) < PAGE:
            return


def _entries(rows):
    for name, value in rows:
        try:
            entry = json.loads(value)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and entry.pop("v", None) == FORMAT:
            yield dict(entry, record=name.rsplit(".", 1)[-1])
        else:
            unreadable.skip(name)


def _prefix(subject):
    return "%shistory.%s." % (PREFIX, key_part(subject))
