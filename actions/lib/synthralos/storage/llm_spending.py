"""What calls to LLMs have taken, run by run and day by day: tokens and money.

A call is written down before it is made, with what it may take at most, and again, under the same
key, with what it took. Only its own process writes that key, and it reads the sum after it has
written: of two calls that begin at the same moment at least one sees the other, so that together
they cannot pass a limit that each of them keeps.

The calls of a day stand in buckets of ten minutes. Nothing in a bucket changes once it is closed
and its calls have ended; who sums up the day then writes the sum up to there. Two that do so write
the same, and it costs what is open and no more: 2 calls to the datastore up to 100 calls to LLMs
since the newest sum, one more for each 100 more; writing takes 2, or 4 where runs have a limit too.
"""

import datetime
import json

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
BUCKET_SECONDS = 600
# Clocks and the datastore may be late by that.
GRACE_SECONDS = 120
# After that a call that has not told what it took never will: no attempt is that long.
LOST_SECONDS = 3600 + GRACE_SECONDS
DAY_SECONDS, RUN_TTL_SECONDS = lifetime_of("llm_spending"), lifetime_of("llm_spending_run")
_DAYS, _RUNS, _TOTALS = (
    PREFIX + "llm_spending.",
    PREFIX + "llm_spending_run.",
    PREFIX + "llm_spending_total.",
)
ZERO = (0, 0.0)


class LlmSpending:
    """:param store: a BestEffortDatastore datastore.
    :param now: a callable that gives seconds since the epoch.
    """

    def __init__(self, store, now):
        self._store, self._now = store, now

    def reserve(self, run, amount, per_run, per_day):
        """Writes a call down that may take `amount`, (tokens, cost).

        :param run: the run's id; per_run, per_day: whether to write it down for these.
        :returns: the keys, for `end`; None when it could not be written.
        """
        at = self._now()
        last = timestamp_key(at)
        keys = [(_run_prefix(run) + last, RUN_TTL_SECONDS)] if per_run else []
        if per_day:
            keys.append(("%s%s.%s" % (_DAYS, _bucket(at), last), DAY_SECONDS))
        written = [self._store.put(key, _encode(amount, True), ttl) for key, ttl in keys]
        return keys if all(written) else None

    def settle(self, keys, amount):
        """Writes what the call took."""
        for key, ttl in keys:
            self._store.put(key, _encode(amount, False), ttl)

    def run_total(self, run):
        """(tokens, cost) of a run's calls, those under way included. None when nobody knows."""
        rows, prefix = [], _run_prefix(run)
        while True:
            some = self._store.list(prefix, PAGE_SIZE, len(rows))
            rows += some
            if len(some) < PAGE_SIZE:
                break
        return None if self._store.unavailable_reason else _sum(_read(rows))

    def day_total(self):
        """(tokens, cost) of the day's calls, those under way included. None when nobody knows."""
        at = self._now()
        day = _bucket(at)[:8]
        summed, until = self._newest_total(day)
        facts = self._since(day, until)
        if self._store.unavailable_reason:
            return None
        self._write_rollup(summed, until, facts, at)
        return _add(summed, _sum(facts))

    def _newest_total(self, day):
        """((tokens, cost), the bucket up to which that is the sum, or "")."""
        for name, text in self._store.list(_TOTALS + day, 1):
            for _, amount, _ in _read([(name, text)]):
                return amount, name[len(_TOTALS):]
        return ZERO, ""

    def _since(self, day, until):
        """The day's calls after the bucket `until`, newest first: [(key, (tokens, cost), open)]."""
        found, offset = [], 0
        while True:
            rows = self._store.list(_DAYS + day, PAGE_SIZE, offset)
            newer = [row for row in rows if _bucket_of(row[0]) > until]
            found += _read(newer)
            if len(newer) < PAGE_SIZE:
                return found
            offset += len(rows)

    def _write_rollup(self, summed, until, facts, at):
        """Writes the sum up to the newest bucket in which nothing changes any more."""
        buckets = {}
        for key, amount, is_open in facts:
            lost = (timestamp_of_key(key) or 0.0) + LOST_SECONDS < at
            buckets.setdefault(_bucket_of(key), []).append((amount, is_open and not lost))
        last = None
        for bucket, calls in sorted(buckets.items()):
            closed = _end_of(bucket) + GRACE_SECONDS <= at
            if not closed or any(changes for _, changes in calls):
                break
            last = bucket
            for amount, _ in calls:
                summed = _add(summed, amount)
        if last is not None and last > until:
            self._store.put(_TOTALS + last, _encode(summed, False), DAY_SECONDS)


def _run_prefix(run):
    return "%s%s." % (_RUNS, encode_key_part(run or "none"))


def _bucket(at):
    start = at - at % BUCKET_SECONDS
    moment = datetime.datetime.fromtimestamp(start, datetime.timezone.utc)
    return moment.strftime("%Y%m%d%H%M")


def _bucket_of(name):
    return name[len(_DAYS):].partition(".")[0]


def _end_of(bucket):
    moment = datetime.datetime.strptime(bucket, "%Y%m%d%H%M")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp() + BUCKET_SECONDS


def _encode(amount, is_open):
    tokens, cost = amount
    value = {"v": FORMAT_VERSION, "tokens": tokens, "cost": round(cost, 9), "open": is_open}
    return json.dumps(value, separators=(",", ":"))


def _read(rows):
    """[(name, (tokens, cost), open)] of what this version of the pack has written."""
    found = []
    for name, text in rows:
        try:
            value = json.loads(text)
            if value["v"] == FORMAT_VERSION:
                amount = (int(value["tokens"]), float(value["cost"]))
                found.append((name, amount, bool(value["open"])))
        except (ValueError, KeyError, TypeError):
            # Another version of the pack, or a hand, wrote it.
            unreadable.skip(name)
    return found


def _sum(facts):
    total = ZERO
    for _, amount, _ in facts:
        total = _add(total, amount)
    return total


def _add(one, other):
    return one[0] + other[0], one[1] + other[1]
