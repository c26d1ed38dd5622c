"""What calls to LLMs have used, per run and per day: tokens and money.

A call is recorded before it is made, with the most that it may use, and again under the same key
with what it used. Only its own process writes that key, and it reads the total after it has
written: of two calls that begin at the same moment at least one sees the other, so that together
they cannot exceed a limit that each of them respects.

The calls of a day are stored in buckets of ten minutes. A bucket no longer changes once it is
closed and its calls have ended; a process that reads the day's total then writes the total up to
there. Two processes that do so write the same. Reading costs 2 datastore calls for up to 100 LLM
calls since the newest total, and one more for each further 100; writing costs 2, or 4 if runs have
a limit too.
"""

import datetime
from collections.abc import Iterable
from typing import Callable, NamedTuple, Optional

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
BUCKET_SECONDS = 600
# Clocks and the datastore may be late by this much.
GRACE_SECONDS = 120
# A call without a result after this time has been lost: no attempt takes that long.
LOST_SECONDS = 3600 + GRACE_SECONDS
DAY_SECONDS, RUN_TTL_SECONDS = lifetime_of("llm_spending"), lifetime_of("llm_spending_run")
_DAYS, _RUNS, _TOTALS = (
    PREFIX + "llm_spending.",
    PREFIX + "llm_spending_run.",
    PREFIX + "llm_spending_total.",
)

# (tokens, cost in the configuration's currency).
Amount = tuple[int, float]
# The keys of a reservation, each with its TTL in seconds.
Reservation = list[tuple[str, int]]
ZERO: Amount = (0, 0.0)


class _Call(NamedTuple):
    """A call as it is stored; `is_open` while it may still use less than `amount`."""

    key: str
    amount: Amount
    is_open: bool


class LlmSpending:
    """Reserves and totals what calls to LLMs use.

    :param now: a callable that returns seconds since the epoch.
    """

    def __init__(self, store: BestEffortDatastore, now: Callable[[], float]) -> None:
        self._store, self._now = store, now

    def reserve(
        self, run: str, amount: Amount, per_run: bool, per_day: bool
    ) -> Optional[Reservation]:
        """Record a call that may use up to `amount`.

        :param run: the run's id.
        :param per_run: whether to record it for the run; per_day: for the day.
        :returns: the keys, for `settle`, or None if they could not be written.
        """
        now = self._now()
        call_id = timestamp_key(now)
        keys = [(_run_prefix(run) + call_id, RUN_TTL_SECONDS)] if per_run else []
        if per_day:
            keys.append(("%s%s.%s" % (_DAYS, _bucket(now), call_id), DAY_SECONDS))
        written = [self._store.put(key, _encode(amount, True), ttl) for key, ttl in keys]
        return keys if all(written) else None

    def settle(self, keys: Reservation, amount: Amount) -> None:
        """Record what the call used."""
        for key, ttl in keys:
            self._store.put(key, _encode(amount, False), ttl)

    def run_total(self, run: str) -> Optional[Amount]:
        """What a run's calls have used, including those in progress; None if unknown."""
        pages = list(records.iter_pages(self._store, _run_prefix(run)))
        if self._store.unavailable_reason:
            return None
        return _sum([call for rows in pages for call in _read(rows)])

    def day_total(self) -> Optional[Amount]:
        """What the day's calls have used, including those in progress; None if unknown."""
        now = self._now()
        day = _bucket(now)[:8]
        total, last_bucket = self._newest_total(day)
        calls = self._since(day, last_bucket)
        if self._store.unavailable_reason:
            return None
        self._write_rollup(total, last_bucket, calls, now)
        return _add(total, _sum(calls))

    def _newest_total(self, day: str) -> tuple[Amount, str]:
        """(what the day's calls have used, the last bucket that this includes, or "")."""
        for name, text in self._store.list(_TOTALS + day, 1):
            for call in _read([(name, text)]):
                return call.amount, name[len(_TOTALS):]
        return ZERO, ""

    def _since(self, day: str, last_bucket: str) -> list[_Call]:
        """The day's calls after `last_bucket`, newest first."""
        calls: list[_Call] = []
        for rows in records.iter_pages(self._store, _DAYS + day):
            newer = [row for row in rows if _bucket_of(row[0]) > last_bucket]
            calls += _read(newer)
            if len(newer) < PAGE_SIZE:
                break
        return calls

    def _write_rollup(
        self, total: Amount, last_bucket: str, calls: Iterable[_Call], now: float
    ) -> None:
        """Write the total up to the newest bucket that no longer changes."""
        # Each amount with whether it may change.
        buckets: dict[str, list[tuple[Amount, bool]]] = {}
        for key, amount, is_open in calls:
            is_lost = (timestamp_of_key(key) or 0.0) + LOST_SECONDS < now
            buckets.setdefault(_bucket_of(key), []).append((amount, is_open and not is_lost))
        final_bucket = None
        for bucket, amounts in sorted(buckets.items()):
            is_closed = _end_of(bucket) + GRACE_SECONDS <= now
            if not is_closed or any(may_change for _, may_change in amounts):
                break
            final_bucket = bucket
            for amount, _ in amounts:
                total = _add(total, amount)
        if final_bucket is not None and final_bucket > last_bucket:
            self._store.put(_TOTALS + final_bucket, _encode(total, False), DAY_SECONDS)


def _run_prefix(run: str) -> str:
    return "%s%s." % (_RUNS, encode_key_part(run or "none"))


def _bucket(timestamp: float) -> str:
    start = timestamp - timestamp % BUCKET_SECONDS
    moment = datetime.datetime.fromtimestamp(start, datetime.timezone.utc)
    return moment.strftime("%Y%m%d%H%M")


def _bucket_of(key: str) -> str:
    return key[len(_DAYS):].partition(".")[0]


def _end_of(bucket: str) -> float:
    moment = datetime.datetime.strptime(bucket, "%Y%m%d%H%M")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp() + BUCKET_SECONDS


def _encode(amount: Amount, is_open: bool) -> str:
    tokens, cost = amount
    fields = {"tokens": tokens, "cost": round(cost, 9), "open": is_open}
    return records.encode(fields, FORMAT_VERSION, sort_keys=False)


def _read(rows: Iterable[tuple[str, str]]) -> list[_Call]:
    """The calls of the readable rows."""
    calls = []
    for key, fields in records.iter_rows(rows, FORMAT_VERSION):
        try:
            amount = (int(fields["tokens"]), float(fields["cost"]))
            calls.append(_Call(key, amount, bool(fields["open"])))
        except (ValueError, KeyError, TypeError, OverflowError):
            unreadable.skip(key)
    return calls


def _sum(calls: Iterable[_Call]) -> Amount:
    total = ZERO
    for call in calls:
        total = _add(total, call.amount)
    return total


def _add(first: Amount, second: Amount) -> Amount:
    return first[0] + second[0], first[1] + second[1]
