"""The silences that runs have created at Alertmanager, so that they end when their runs have ended.

A silence is recorded before it is created: whatever is killed in between, its run is known.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.core.timestamps import parse_iso
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("silence")
MAX_PAGES = 5
_SILENCES = PREFIX + "silence."
_FIELDS = {"starts_at", "silence_id", "ends_at"}


@dataclass(frozen=True)
class SilenceRecord:
    """A silence of one alert.

    :ivar run: the execution id of the run that owns it.
    :ivar fingerprint: of the alert's labels.
    :ivar starts_at: when the alert began to fire, in ISO 8601.
    :ivar silence_id: Alertmanager's id of it; None until Alertmanager has named it.
    :ivar ends_at: when it ends by itself, in seconds since the epoch.
    """

    run: str
    fingerprint: str
    starts_at: str
    silence_id: Optional[str]
    ends_at: float

    @property
    def key(self) -> str:
        """The key of its record."""
        return _prefix(self.run) + encode_key_part(self.fingerprint)


def save(store: BestEffortDatastore, record: SilenceRecord) -> bool:
    """Record a silence, in place of an older one of the same alert. Return whether it was."""
    fields = asdict(record)
    del fields["run"], fields["fingerprint"]
    return bool(store.put(record.key, records.encode(fields, FORMAT_VERSION), TTL_SECONDS))


def of_run(store: BestEffortDatastore, run: str) -> list[SilenceRecord]:
    """Return the silences of a run, at most a page."""
    return list(_decode(store.list(_prefix(run))))


def list_all(store: BestEffortDatastore) -> Iterator[SilenceRecord]:
    """Yield the silences of all runs, of at most MAX_PAGES pages."""
    for rows in records.iter_pages(store, _SILENCES, MAX_PAGES):
        yield from _decode(rows)


def remove(store: BestEffortDatastore, record: SilenceRecord) -> None:
    """Remove the record of a silence."""
    store.delete(record.key)


def _prefix(run: str) -> str:
    return "%s%s." % (_SILENCES, encode_key_part(run))


def _decode(rows: Iterable[tuple[str, str]]) -> Iterator[SilenceRecord]:
    for key, fields in records.iter_rows(rows, FORMAT_VERSION):
        run, _, fingerprint = key[len(_SILENCES):].partition(".")
        if _is_valid(fields) and fingerprint:
            yield SilenceRecord(
                run=decode_key_part(run), fingerprint=decode_key_part(fingerprint), **fields
            )
        else:
            # Somebody has edited it.
            unreadable.skip(key)


def _is_valid(fields: Mapping[str, Any]) -> bool:
    ends_at = fields.get("ends_at")
    return (
        set(fields) == _FIELDS and
        parse_iso(fields["starts_at"]) is not None and
        isinstance(fields["silence_id"], (str, type(None))) and
        isinstance(ends_at, (int, float)) and
        math.isfinite(ends_at)
    )
