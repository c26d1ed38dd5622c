"""The last outcomes of each target, from which its health is derived."""

import json
from dataclasses import dataclass
from typing import Optional

from synthralos.names import key_part
from synthralos.state import breaker
from synthralos.state.datastore import PREFIX, time_key, time_of

FORMAT = 1
# The breaker looks at the last ten and at the probes since; each outcome more costs every attempt.
WINDOW = 20
KEPT_SECONDS = 15 * 60


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


class Ledger:
    """Appends outcomes to the datastore and reads a target's window.

    :param store: a Tolerant datastore.
    :param now: a callable that gives seconds since the epoch.
    :param limits: settings.Breaker.
    :param kept_seconds: how long an outcome counts.
    """

    def __init__(self, store, now, limits, kept_seconds=KEPT_SECONDS):
        self._store, self._now, self._limits = store, now, limits
        self._kept = kept_seconds

    def append(self, target, outcome):
        value = {"v": FORMAT, "ok": outcome.ok, "cause": outcome.cause, "run": outcome.run}
        value["latency_ms"] = int(outcome.latency * 1000)
        value["repeat"] = outcome.repeat
        if outcome.until is not None:
            value["until"] = outcome.until
        name = _prefix("outcome", target) + time_key(outcome.at)
        self._store.put(name, json.dumps(value, separators=(",", ":")), ttl=self._kept)

    def window(self, target):
        """The newest WINDOW outcomes of the time that they are kept, newest first."""
        oldest = self._now() - self._kept
        found = [_outcome(name, value) for name, value in self._list("outcome", target)]
        return [outcome for outcome in found if outcome is not None and outcome.at > oldest]

    def health(self, target):
        """The target's breaker.Health now, its forced state included."""
        return breaker.health(self.window(target), self._now(), self._limits, self._forced(target))

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
        mine = _prefix("claim", target) + time_key(self._now())
        self._store.put(mine, str(FORMAT), ttl=lifetime)
        claims = self._claims(target, since)
        # Without a datastore nobody can keep count, and a target must not be left alone for ever.
        return self._store.away is not None or mine in claims[: self._limits.probes]

    def _claims(self, target, since):
        names = [name for name, _ in self._list("claim", target)]
        return sorted(name for name in names if (time_of(name) or 0) >= since)

    def force(self, target, state, ttl=None):
        """Holds the breaker `open` or `closed` by hand; None gives it back to its window."""
        name = _forced_name(target)
        if state is None:
            self._store.delete(name)
        else:
            self._store.put(name, state, ttl=ttl)

    def _forced(self, target):
        return self._store.get(_forced_name(target))

    def _list(self, kind, target):
        return self._store.list(_prefix(kind, target), limit=WINDOW)


def _prefix(kind, target):
    return "%s%s.%s." % (PREFIX, kind, key_part(target))


def _forced_name(target):
    return "%sbreaker.%s" % (PREFIX, key_part(target))


def _outcome(name, value):
    at = time_of(name)
    try:
        read = json.loads(value)
        if at is None or read["v"] != FORMAT:
            return None
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
        return None
