"""The runs that `recovery.redrive` has started again: each lineage once.

A lineage is a run with all its re-runs, by the execution id of the first one. A redrive claims it
before it starts it, so that neither another redrive nor a later one does so too. The claim stays
when the process dies in between: whether the run was started is then unknown.

    synthralos.redrive_claim.<lineage>.<redrive>           the claim of a lineage by a redrive
    synthralos.redriven_run.<time>-<lineage>_<redrive>     the RedrivenRun
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Optional

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    require_available,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
CLAIM_TTL_SECONDS = lifetime_of("redrive_claim")
RUN_TTL_SECONDS = lifetime_of("redriven_run")
MAX_PAGES = 100
RECOVERED, FAILED, UNKNOWN, NOT_STARTED = "recovered", "failed", "unknown", "not_started"
_CLAIMS = PREFIX + "redrive_claim."
_RUNS = PREFIX + "redriven_run."


@dataclass(frozen=True)
class RedrivenRun:
    """A failed run that a redrive has claimed.

    :ivar redrive: the execution id of the redrive.
    :ivar lineage: the first run of the lineage.
    :ivar failed_run: the newest run of the lineage, which is started again.
    :ivar targets: the targets that it failed at, as the ledger names them; may be empty.
    :ivar failed_cause: what the failed run ended with, or None if that is not known.
    :ivar claimed_at: seconds since the epoch.
    :ivar run: the execution id of the run that was started, or None while that is not known.
    :ivar outcome: RECOVERED, FAILED, UNKNOWN (whether it was started is unknown) or NOT_STARTED;
        None until it has ended.
    :ivar reason: why it was not started, for people, or None.
    :ivar cause: what the run that was started failed with, or None.
    :ivar ended_at: seconds since the epoch, or None.
    """

    redrive: str
    lineage: str
    failed_run: str
    workflow: str
    targets: tuple[str, ...]
    failed_cause: Optional[str]
    claimed_at: float
    run: Optional[str] = None
    outcome: Optional[str] = None
    reason: Optional[str] = None
    cause: Optional[str] = None
    ended_at: Optional[float] = None

    @property
    def key(self) -> str:
        """The key of its record."""
        unique = "%s_%s" % (encode_key_part(self.lineage), encode_key_part(self.redrive))
        return _RUNS + timestamp_key(self.claimed_at, unique)


def claim(store: BestEffortDatastore, redriven: RedrivenRun) -> bool:
    """Claim the lineage, and return whether it was: not if another redrive has claimed it.

    If two redrives claim a lineage at the same moment, each of them may see the other's claim, and
    neither has it; never both. What was not claimed has to be withdrawn. Costs three datastore
    calls.

    :raises DatastoreUnavailable: the claim could not be written, or the others not be read.
    """
    save(store, redriven)
    own = _claim_key(redriven.lineage, redriven.redrive)
    store.put(own, "1", CLAIM_TTL_SECONDS)
    require_store(store)
    rows = store.list(_claim_key(redriven.lineage, ""))
    require_store(store)
    return all(name == own for name, _ in rows)


def withdraw(store: BestEffortDatastore, redriven: RedrivenRun) -> None:
    """Remove the claim and the record of a run that was certainly not started."""
    store.delete(_claim_key(redriven.lineage, redriven.redrive))
    store.delete(redriven.key)


def release(store: BestEffortDatastore, redriven: RedrivenRun, reason: str) -> RedrivenRun:
    """Record why the run was certainly not started; a later redrive may start it."""
    released = replace(redriven, outcome=NOT_STARTED, reason=reason)
    save(store, released)
    store.delete(_claim_key(redriven.lineage, redriven.redrive))
    return released


def save(store: BestEffortDatastore, redriven: RedrivenRun) -> None:
    """Write the record in place of an older one of the same lineage and redrive.

    :raises DatastoreUnavailable: it could not be written.
    """
    fields = asdict(redriven)
    fields["targets"] = list(redriven.targets)
    store.put(redriven.key, records.encode(fields, FORMAT_VERSION), RUN_TTL_SECONDS)
    require_store(store)


def runs_since(
    store: BestEffortDatastore, timestamp: float, max_pages: int = MAX_PAGES
) -> Iterator[RedrivenRun]:
    """Yield the RedrivenRuns that were claimed since then, in seconds since the epoch, newest
    first.

    :raises DatastoreUnavailable: they cannot be read.
    """
    for rows in records.iter_pages(store, _RUNS, max_pages):
        require_store(store)
        for key, fields in records.iter_rows(rows, FORMAT_VERSION):
            if (timestamp_of_key(key) or 0.0) < timestamp:
                return
            try:
                yield RedrivenRun(**dict(fields, targets=tuple(fields["targets"])))
            except (TypeError, KeyError):
                # Somebody edited it.
                unreadable.skip(key)


def claimed_lineages(store: BestEffortDatastore) -> set[str]:
    """Return the lineages that redrives have claimed. Costs a datastore call for each 100.

    :raises DatastoreUnavailable: they cannot be read.
    """
    lineages = set()
    for rows in records.iter_pages(store, _CLAIMS):
        require_store(store)
        for name, _ in rows:
            lineages.add(decode_key_part(name[len(_CLAIMS):].split(".", 1)[0]))
    return lineages


def require_store(store: BestEffortDatastore) -> None:
    """Raise DatastoreUnavailable if a call to the datastore has failed."""
    require_available(store, "%s: without it runs could be started twice")


def _claim_key(lineage: str, redrive: str) -> str:
    return "%s%s.%s" % (_CLAIMS, encode_key_part(lineage), encode_key_part(redrive))
