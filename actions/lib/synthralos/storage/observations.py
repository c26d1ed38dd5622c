"""What would have been done in the mode observe: one fact for each report, in order of time.

The events of the incidents (incidents.py) say the same of each incident; these facts let a report
read a period without knowing its incidents.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Optional

from synthralos.storage import records
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("observation")
HOUR_SECONDS = 3600
_OBSERVATIONS = PREFIX + "observation."


@dataclass(frozen=True)
class Observation:
    """A report that was observed, or the end of an incident that was.

    Ids, names, enums and numbers only.

    :ivar outcome: what would have become of the report: `started`, or another outcome of
        automation.outcomes; `resolved` for the end of an incident.
    :ivar incident: the incident's id; None for several at once.
    :ivar since: when the incident began, in ISO 8601.
    :ivar workflow, runbook, crews: what would have been started, as far as that is known.
    :ivar count: the number of reports that this fact stands for.
    :ivar is_unplanned: of a start: whether the run would have had nothing to do, because nothing
        and nobody could have been assigned.
    :ivar ended: of the end of an incident: what would have become of its report.
    :ivar seconds: of the end of an incident: from the report that would have started something, or
        asked a person, until it.
    """

    outcome: str
    incident: Optional[str] = None
    since: Optional[str] = None
    subject: Optional[str] = None
    workflow: Optional[str] = None
    runbook: Optional[str] = None
    crews: tuple[str, ...] = ()
    count: int = 1
    is_unplanned: bool = False
    ended: Optional[str] = None
    seconds: Optional[float] = None


def record(store: BestEffortDatastore, now: float, observation: Observation) -> bool:
    """Append the fact. Return whether it was written."""
    return _write(store, timestamp_key(now), observation)


def record_hourly(
    store: BestEffortDatastore, now: float, observation: Observation, name: str
) -> bool:
    """Write the fact once an hour, however often it is reported: alerts that are meant to fire may
    be reported every minute. Return whether it was written.

    :param name: distinguishes it from others of the hour; a part of a datastore key.
    """
    hour = now // HOUR_SECONDS * HOUR_SECONDS
    return _write(store, timestamp_key(hour, name), observation)


def _write(store: BestEffortDatastore, time_key: str, observation: Observation) -> bool:
    defaults = asdict(Observation(observation.outcome))
    fields = {
        name: value
        for name, value in asdict(observation).items()
        if name == "outcome" or value != defaults[name]
    }
    row = records.encode(fields, FORMAT_VERSION)
    return store.put(_OBSERVATIONS + time_key, row, TTL_SECONDS)


def iter_since(
    store: BestEffortDatastore, timestamp: float, max_pages: int
) -> Iterator[tuple[float, Observation]]:
    """Yield (seconds since the epoch, Observation) since `timestamp`, newest first.

    :param max_pages: how many pages of 100 facts to read at most.
    """
    for page in records.iter_pages(store, _OBSERVATIONS, max_pages):
        for name, fields in records.iter_rows(page, FORMAT_VERSION):
            at = timestamp_of_key(name) or 0.0
            if at < timestamp:
                return
            yield at, Observation(**dict(fields, crews=tuple(fields.get("crews") or ())))
