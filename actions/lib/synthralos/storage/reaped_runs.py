"""The runs whose records the reaper has written, because their own log tasks never ran."""

import re
from typing import Optional

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.storage import records
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.keyspace import lifetime_of

TTL_SECONDS = lifetime_of("reaped_run")
MAX_PAGES = 10
_RUNS = PREFIX + "reaped_run."
# Of a run for which no ticket was opened.
_NO_TICKET = "1"
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")


def record(store: BestEffortDatastore, run: str, ticket: Optional[str]) -> None:
    """Record that the reaper has written the record of a run.

    :param ticket: the id of the run's ticket, or None.
    """
    store.put(_RUNS + encode_key_part(run), ticket or _NO_TICKET, TTL_SECONDS)


def is_recorded(store: BestEffortDatastore, run: str) -> bool:
    """Return whether the reaper has written the record of a run."""
    return store.get(_RUNS + encode_key_part(run)) is not None


def ticket_of(store: BestEffortDatastore, run: str) -> Optional[str]:
    """Return the id of the ticket that the reaper has opened for a run, or None."""
    value = store.get(_RUNS + encode_key_part(run))
    return value if isinstance(value, str) and _TICKET.match(value) else None


def list_runs(store: BestEffortDatastore) -> set[str]:
    """Return the ids of the runs, of at most MAX_PAGES pages."""
    return {
        decode_key_part(name[len(_RUNS):])
        for rows in records.iter_pages(store, _RUNS, MAX_PAGES)
        for name, _ in rows
    }
