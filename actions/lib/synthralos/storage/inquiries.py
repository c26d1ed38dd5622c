"""Open approval questions, stored here because StackStorm would render an inquiry's text."""

import re
from typing import Optional, TypedDict

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import records
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("inquiry")
# What channels and people put around an id.
_AROUND = " <>`'\".,"
_QUESTION_ID = re.compile(r"([0-9a-f]{24})(?:-([1-9][0-9]{0,2}))?\Z")


def question_id(run: str, number: int) -> str:
    """Return what an answer to a question names: the run, and from the second question on its
    number, so that an answer to one is never taken for an answer to the next.

    :param number: of the question in its run, from 1.
    """
    return run if number == 1 else "%s-%d" % (run, number)


def parse_question_id(text: str) -> Optional[tuple[str, int]]:
    """Return (run, number) of what question_id returned, also as people type it; None if it is
    none.
    """
    match = _QUESTION_ID.match(text.strip(_AROUND).lower())
    return None if match is None else (match.group(1), int(match.group(2) or 1))


class Inquiry(TypedDict, total=False):
    """The last question of a run; empty if none is stored.

    `until` is the time, in seconds since the epoch, after which a response is too late, or None if
    the run sets no limit. `question` is one line, redacted.
    """

    until: Optional[float]
    question: str


def record_inquiry(
    store: BestEffortDatastore, run: str, expires_at: Optional[float], question: str
) -> bool:
    """Store the question that `run` asks. Return whether it was written.

    :param expires_at: seconds since the epoch after which a response is too late, or None if the
        run sets no limit.
    :param question: one line, redacted.
    """
    fields = {"until": expires_at, "question": question}
    text = records.encode(fields, FORMAT_VERSION, sort_keys=False, compact=False)
    return store.put(_key(run), text, TTL_SECONDS)


def get_inquiry(store: BestEffortDatastore, run: str) -> Inquiry:
    """The last question of `run`."""
    fields = records.decode(store.get(_key(run)), FORMAT_VERSION)
    if not fields:
        return {}
    return {"until": fields.get("until"), "question": str(fields.get("question") or "")}


def record_wait(store: BestEffortDatastore, run: str, seconds: float) -> bool:
    """Store for how long `run` and the runs that it started have waited for people."""
    return store.put(_key(run) + ".spent", "%d" % seconds, TTL_SECONDS)


def total_wait(store: BestEffortDatastore, run: str) -> int:
    """Seconds for which `run` has waited for people, as far as it has recorded them."""
    text = store.get(_key(run) + ".spent") or ""
    return int(text) if text.isdigit() else 0


def _key(run: str) -> str:
    return "%sinquiry.%s" % (PREFIX, encode_key_part(run))
