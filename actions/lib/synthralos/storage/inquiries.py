"""What a run asks a person, until when: beside the inquiry, whose text would be rendered."""

import json

from synthralos.core.identifiers import encode_key_part
from synthralos.storage.datastore import PREFIX
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("inquiry")


def record_inquiry(store, run, expires_at, question):
    """Writes what `run` asks; whether it was written.

    :param expires_at: seconds since the epoch at which an answer comes too late.
    :param question: one line, redacted.
    """
    value = json.dumps({"v": FORMAT_VERSION, "until": expires_at, "question": question})
    return store.put(_key(run), value, TTL_SECONDS)


def get_inquiry(store, run):
    """{until, question} of what `run` asked last; {} where nothing is known of it."""
    try:
        told = json.loads(store.get(_key(run)) or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("v") == FORMAT_VERSION else {}


def record_wait(store, run, seconds):
    """Writes for how long people were asked in `run` and in the runs that it has started."""
    return store.put(_key(run) + ".spent", "%d" % seconds, TTL_SECONDS)


def total_wait(store, run):
    """Seconds in which people were asked, as far as `run` has noted it."""
    value = store.get(_key(run) + ".spent") or ""
    return int(value) if value.isdigit() else 0


def _key(run):
    return "%sinquiry.%s" % (PREFIX, encode_key_part(run))
