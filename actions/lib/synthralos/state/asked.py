"""What a run asks a person, until when: beside the inquiry, whose text would be rendered."""

import json

from synthralos.names import key_part
from synthralos.state.datastore import PREFIX
from synthralos.state.kinds import lifetime_of

FORMAT = 1
KEPT_SECONDS = lifetime_of("inquiry")


def record(store, run, until, question):
    """Writes what `run` asks; whether it was written.

    :param until: seconds since the epoch at which an answer comes too late.
    :param question: one line, redacted.
    """
    value = json.dumps({"v": FORMAT, "until": until, "question": question})
    return store.put(_key(run), value, KEPT_SECONDS)


def of(store, run):
    """{until, question} of what `run` asked last; {} where nothing is known of it."""
    try:
        told = json.loads(store.get(_key(run)) or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.get("v") == FORMAT else {}


def spend(store, run, seconds):
    """Writes for how long people were asked in `run` and in the runs that it has started."""
    return store.put(_key(run) + ".spent", "%d" % seconds, KEPT_SECONDS)


def spent(store, run):
    """Seconds in which people were asked, as far as `run` has noted it."""
    value = store.get(_key(run) + ".spent") or ""
    return int(value) if value.isdigit() else 0


def _key(run):
    return "%sinquiry.%s" % (PREFIX, key_part(run))
