"""The last outcomes of each target, from which its health is derived.

An operator may force a target's breaker open or closed until a time. That fact lies among the
outcomes, under the time at which it ends: so it is on top of the listing that a run reads anyway
for as long as it holds, and costs a run no call of its own.
"""

import json
from dataclasses import dataclass
from typing import Optional, Union

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import circuit_breaker, unreadable
from synthralos.storage.datastore import PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
# The breaker looks at the last ten and at the probes since; each outcome more costs every attempt.
WINDOW_SIZE = 20
TTL_SECONDS = lifetime_of("outcome")
# A newer force deletes the older; more at once come of two operators in the same moment.
MAX_FORCED_ENTRIES = 2
MIN_FORCED_SECONDS, MAX_FORCED_SECONDS = 60, 7 * 24 * 3600


@dataclass(frozen=True)
class Outcome:
    """One attempt at one target, without its text.

    :ivar cause: of the failure, or None.
    :ivar latency: seconds.
    :ivar at: seconds since the epoch at which the attempt ended.
    :ivar until: seconds since the epoch before which the target asked not to be called, or None.
    :ivar repeat: whether this run had tried this target before.
    :ivar run: the execution id.
    """

    ok: bool
    cause: Optional[str]
    at: float
    latency: float = 0.0
    until: Optional[float] = None
    repeat: bool = False
    run: str = ""


@dataclass(frozen=True)
class Forced:
    """A breaker that an operator holds in one state.

    :ivar state: breaker.OPEN or breaker.CLOSED.
    :ivar since: seconds since the epoch at which it was forced; until: at which that ends.
    """

    state: str
    since: float
    until: float


class Ledger:
    """Appends outcomes to the datastore and reads a target's window.

    :param store: a BestEffortDatastore datastore.
    :param now: a callable that gives seconds since the epoch.
    :param limits: settings.Breaker.
    :param kept_seconds: how long an outcome counts.
    """

    def __init__(self, store, now, limits, ttl_seconds=TTL_SECONDS):
        self._store, self._now, self._limits = store, now, limits
        self._ttl_seconds = ttl_seconds

    def append(self, target, outcome):
        value = {"v": FORMAT_VERSION, "ok": outcome.ok, "cause": outcome.cause, "run": outcome.run}
        value["latency_ms"] = int(outcome.latency * 1000)
        value["repeat"] = outcome.repeat
        if outcome.until is not None:
            value["until"] = outcome.until
        name = _prefix("outcome", target) + timestamp_key(outcome.at)
        self._store.put(name, json.dumps(value, separators=(",", ":")), ttl=self._ttl_seconds)

    def window(self, target):
        """The newest WINDOW outcomes of the time that they are kept, newest first."""
        return self._read(target)[0]

    def breaker_state(self, target):
        """The target's breaker.Health now, its forced state included. One datastore call."""
        window, forced = self._read(target)
        return circuit_breaker.evaluate_breaker(window, self._now(), self._limits, forced)

    def forced(self, target: str) -> Optional[Forced]:
        """The state in which an operator holds the target's breaker, or None."""
        return self._read(target)[1]

    def force_state(self, target: str, state: str, seconds: int) -> Optional[Forced]:
        """Hold the target's breaker open or closed for `seconds` from now, in place of what it was
        forced to before. Return None when that could not be recorded.

        :param state: breaker.OPEN or breaker.CLOSED.
        """
        now = self._now()
        forced = Forced(state, now, now + seconds)
        name = _prefix("outcome", target) + timestamp_key(forced.until)
        value = {"v": FORMAT_VERSION, "forced": state, "since": round(now, 3)}
        if not self._store.put(name, json.dumps(value, separators=(",", ":")), ttl=seconds):
            return None
        self._drop_forced(target, exclude=name)
        return forced

    def release(self, target: str) -> bool:
        """Let the outcomes decide again. Return whether the breaker was forced."""
        return self._drop_forced(target)

    def with_store(self, store):
        """The same ledger as another datastore has it."""
        return Ledger(store, self._now, self._limits, self._ttl_seconds)

    def _drop_forced(self, target: str, exclude: Optional[str] = None) -> bool:
        """Delete the facts that force the breaker, except `exclude`. Return whether one still held."""
        now, dropped = self._now(), False
        for name, value in self._list("outcome", target, WINDOW_SIZE + MAX_FORCED_ENTRIES):
            entry = _entry(name, value)
            if isinstance(entry, Forced) and name != exclude:
                self._store.delete(name)
                dropped = dropped or entry.until > now
        return dropped

    def _read(self, target):
        """(the outcomes of the window, newest first; Forced or None), with one listing."""
        now = self._now()
        rows = self._list("outcome", target, WINDOW_SIZE + MAX_FORCED_ENTRIES)
        entries = [_entry(name, value) for name, value in rows]
        window = [
            entry for entry in entries if isinstance(entry, Outcome) and entry.at > now - self._ttl_seconds
        ]
        forced = [
            entry for entry in entries if isinstance(entry, Forced) and entry.until > now
        ]
        return window[:WINDOW_SIZE], max(forced, key=lambda entry: entry.since, default=None)

    def claim_probe(self, target, health):
        """Whether this process may be one of the probes of a half-open breaker.

        A claim is appended and the claims since are listed: those among the first go. A claim lives
        as long as the breaker stays open, so that probes that died do not block the target for
        ever.
        """
        lifetime = max(1, int(self._limits.open_seconds))
        since = max(health.since, self._now() - lifetime)
        if len(self._claims(target, since)) >= self._limits.probes:
            return False
        mine = _prefix("claim", target) + timestamp_key(self._now())
        self._store.put(mine, str(FORMAT_VERSION), ttl=lifetime)
        claims = self._claims(target, since)
        # Without a datastore nobody can keep count, and a target must not be left alone for ever.
        return self._store.unavailable_reason is not None or mine in claims[: self._limits.probes]

    def _claims(self, target, since):
        names = [name for name, _ in self._list("claim", target)]
        return sorted(name for name in names if (timestamp_of_key(name) or 0) >= since)

    def _list(self, kind, target, limit=WINDOW_SIZE):
        return self._store.list(_prefix(kind, target), limit=limit)


def _prefix(kind, target):
    return "%s%s.%s." % (PREFIX, kind, encode_key_part(target))


def _entry(name: str, value: str) -> Union[Outcome, Forced, None]:
    """What stands under a key of a target's outcomes, or None when it cannot be read."""
    at = timestamp_of_key(name)
    try:
        read = json.loads(value)
        if at is None or read["v"] != FORMAT_VERSION:
            raise ValueError("another format")
        if "forced" in read:
            if read["forced"] not in (circuit_breaker.OPEN, circuit_breaker.CLOSED):
                raise ValueError("unknown state")
            return Forced(read["forced"], float(read["since"]), at)
        return Outcome(
            ok=read["ok"],
            cause=read["cause"],
            at=at,
            latency=read["latency_ms"] / 1000.0,
            until=read.get("until"),
            repeat=read["repeat"],
            run=read["run"],
        )
    except (ValueError, KeyError, TypeError):
        # Another version of the pack, or a hand, wrote it.
        unreadable.skip(name)
        return None
