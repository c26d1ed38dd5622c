"""What happened to an agent or a request, entry by entry, for people."""

import json

from synthralos.names import key_part
from synthralos.state.datastore import PREFIX, time_key

FORMAT = 1
KEPT_SECONDS = 30 * 24 * 3600


def record(store, subject, now, entry):
    """Appends `entry`, a small redacted JSON object, to the history of `subject`.

    Returns the record's id, or None when it was not recorded.
    """
    last = time_key(now)
    value = json.dumps(dict(entry, v=FORMAT), separators=(",", ":"), sort_keys=True)
    written = store.put(_prefix(subject) + last, value, KEPT_SECONDS)
    return last if written else None


def recent(store, subject, limit=20):
    """The newest entries of `subject`, newest first, each with its `record`."""
    entries = []
    for name, value in store.list(_prefix(subject), limit=limit):
        try:
            entry = json.loads(value)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.pop("v", None) == FORMAT:
            entries.append(dict(entry, record=name.rsplit(".", 1)[-1]))
    return entries


def _prefix(subject):
    return "%shistory.%s." % (PREFIX, key_part(subject))
