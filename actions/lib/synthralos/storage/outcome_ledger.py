"""The last outcomes of each target, from which the state of its breaker is derived.

An operator may force a target's breaker open or closed until a time. That fact is stored among the
outcomes, under the time at which it ends: as long as it is in effect it comes first in the listing
that a run reads anyway, and costs a run no call of its own.
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional, Union

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import circuit_breaker, records, unreadable
from synthralos.storage.circuit_breaker import BreakerState
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    Rows,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

if TYPE_CHECKING:
    from synthralos.config.settings import Breaker

FORMAT_VERSION = 1
# The breaker needs the last ten and the probes since; each further one makes every attempt slower.
WINDOW_SIZE = 20
TTL_SECONDS = lifetime_of("outcome")
# A newer forced state deletes the older; two exist only if two operators act at the same moment.
MAX_FORCED_ENTRIES = 2
# Of some hundred targets.
PARSED_FACTS = 4096
MIN_FORCED_SECONDS, MAX_FORCED_SECONDS = 60, 7 * 24 * 3600


@dataclass(frozen=True)
class Outcome:
    """An attempt at a target, without its text.

    :ivar cause: of the failure, or None.
    :ivar latency: seconds.
    :ivar at: seconds since the epoch at which the attempt ended.
    :ivar until: seconds since the epoch until which the target asked to wait, or None.
    :ivar repeat: whether this run had attempted this target before.
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

    :ivar state: circuit_breaker.OPEN or circuit_breaker.CLOSED.
    :ivar since: seconds since the epoch at which it was forced.
    :ivar until: seconds since the epoch at which that ends.
    """

    state: str
    since: float
    until: float


class Ledger:
    """Appends outcomes to the datastore and reads a target's window.

    :param now: a callable that returns seconds since the epoch.
    :param ttl_seconds: how long an outcome counts.
    """

    def __init__(
        self,
        store: BestEffortDatastore,
        now: Callable[[], float],
        limits: "Breaker",
        ttl_seconds: int = TTL_SECONDS,
    ) -> None:
        self._store, self._now, self._limits = store, now, limits
        self._ttl_seconds = ttl_seconds

    def append(self, target: str, outcome: Outcome) -> None:
        """Store the outcome of an attempt at `target`."""
        fields: records.Fields = {
            "ok": outcome.ok,
            "cause": outcome.cause,
            "run": outcome.run,
            "latency_ms": int(outcome.latency * 1000),
            "repeat": outcome.repeat,
        }
        if outcome.until is not None:
            fields["until"] = outcome.until
        text = records.encode(fields, FORMAT_VERSION, sort_keys=False)
        name = _prefix("outcome", target) + timestamp_key(outcome.at)
        self._store.put(name, text, ttl=self._ttl_seconds)

    def window(self, target: str) -> list[Outcome]:
        """The newest outcomes, newest first, at most WINDOW_SIZE and not older than the TTL."""
        return self._read(target)[0]

    def breaker_state(self, target: str) -> BreakerState:
        """The state of the breaker now, including a forced state. Costs one datastore call."""
        window, forced = self._read(target)
        return circuit_breaker.evaluate_breaker(window, self._now(), self._limits, forced)

    def forced(self, target: str) -> Optional[Forced]:
        """The state that an operator has forced on the target's breaker, or None."""
        return self._read(target)[1]

    def force_state(self, target: str, state: str, seconds: int) -> Optional[Forced]:
        """Force the target's breaker open or closed for `seconds` from now.

        This replaces an earlier forced state.

        :param state: circuit_breaker.OPEN or circuit_breaker.CLOSED.
        :returns: the forced state, or None if it could not be recorded.
        """
        now = self._now()
        forced = Forced(state, now, now + seconds)
        name = _prefix("outcome", target) + timestamp_key(forced.until)
        fields = {"forced": state, "since": round(now, 3)}
        text = records.encode(fields, FORMAT_VERSION, sort_keys=False)
        if not self._store.put(name, text, ttl=seconds):
            return None
        self._drop_forced(target, exclude=name)
        return forced

    def release(self, target: str) -> bool:
        """Let the outcomes decide again. Return whether the breaker was forced."""
        return self._drop_forced(target)

    def with_store(self, store: BestEffortDatastore) -> "Ledger":
        """Return the same ledger on another datastore."""
        return Ledger(store, self._now, self._limits, self._ttl_seconds)

    def _drop_forced(self, target: str, exclude: Optional[str] = None) -> bool:
        """Delete the forced states except the key `exclude`.

        :returns: whether one of them was still in effect.
        """
        now, dropped = self._now(), False
        for name, value in self._list("outcome", target, WINDOW_SIZE + MAX_FORCED_ENTRIES):
            entry = _decode(name, value)
            if isinstance(entry, Forced) and name != exclude:
                self._store.delete(name)
                dropped = dropped or entry.until > now
        return dropped

    def _read(self, target: str) -> tuple[list[Outcome], Optional[Forced]]:
        """(the window's outcomes, newest first; the forced state or None), with one listing."""
        now = self._now()
        rows = self._list("outcome", target, WINDOW_SIZE + MAX_FORCED_ENTRIES)
        entries = [_decode(name, value) for name, value in rows]
        oldest = now - self._ttl_seconds
        window = [entry for entry in entries if isinstance(entry, Outcome) and entry.at > oldest]
        forced = [
            entry for entry in entries if isinstance(entry, Forced) and entry.until > now
        ]
        return window[:WINDOW_SIZE], max(forced, key=lambda entry: entry.since, default=None)

    def claim_probe(self, target: str, health: BreakerState) -> bool:
        """Whether this process may be one of the probes of a half-open breaker.

        A claim is appended, and the claims since the breaker half-opened are listed: the first
        `limits.probes` of them win. A claim expires after the time for which the breaker stays
        open, so that probes that died do not block the target forever.
        """
        ttl_seconds = max(1, int(self._limits.open_seconds))
        since = max(health.since, self._now() - ttl_seconds)
        if len(self._claims(target, since)) >= self._limits.probes:
            return False
        own_key = _prefix("claim", target) + timestamp_key(self._now())
        self._store.put(own_key, str(FORMAT_VERSION), ttl=ttl_seconds)
        claims = self._claims(target, since)
        # Without a datastore probes cannot be counted, and a target must not be avoided forever.
        if self._store.unavailable_reason is not None:
            return True
        return own_key in claims[: self._limits.probes]

    def _claims(self, target: str, since: float) -> list[str]:
        names = [name for name, _ in self._list("claim", target)]
        return sorted(name for name in names if (timestamp_of_key(name) or 0) >= since)

    def _list(self, kind: str, target: str, limit: int = WINDOW_SIZE) -> Rows:
        return self._store.list(_prefix(kind, target), limit=limit)


def _prefix(kind: str, target: str) -> str:
    return "%s%s.%s." % (PREFIX, kind, encode_key_part(target))


def _decode(name: str, text: str) -> Union[Outcome, Forced, None]:
    """The fact under a key of a target's outcomes, or None if it is unreadable."""
    fact = _parse(name, text)
    if fact is None:
        unreadable.skip(name)
    return fact


# Facts never change, and a program that calls a target again reads most of them again.
@functools.lru_cache(maxsize=PARSED_FACTS)
def _parse(name: str, text: str) -> Union[Outcome, Forced, None]:
    timestamp = timestamp_of_key(name)
    fields = records.decode(text, FORMAT_VERSION)
    try:
        if timestamp is None or fields is None:
            return None
        if "forced" in fields:
            if fields["forced"] not in (circuit_breaker.OPEN, circuit_breaker.CLOSED):
                return None
            return Forced(fields["forced"], float(fields["since"]), timestamp)
        return Outcome(
            ok=fields["ok"],
            cause=fields["cause"],
            at=timestamp,
            latency=fields["latency_ms"] / 1000.0,
            until=fields.get("until"),
            repeat=fields["repeat"],
            run=fields["run"],
        )
    except (ValueError, KeyError, TypeError):
        return None
