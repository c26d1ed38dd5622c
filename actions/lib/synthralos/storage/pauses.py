"""Paused agents: recovery is suspended for a while, by a person or by the loop detector.

A pause and its end are facts appended under the agent. The newest fact of each actor decides about
that actor's pauses, so that neither shortens the other's; an agent is paused while any pause is
active.

After `probe_at` one recovery per probe interval may go through, to see whether the agent is well
again: a breaker's half-open state (originals: a breaker that closes by itself after 60 s, untested;
here a successful probe closes it).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Protocol, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.core.timestamps import to_iso
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    Listing,
    timestamp_key,
    timestamp_of_key,
)

if TYPE_CHECKING:
    from synthralos.core.redaction import Redactor

FORMAT_VERSION = 1
PERSON, DETECTOR, ANYBODY = "person", "loop_detector", "*"
DEFAULT_SECONDS = 300
MIN_SECONDS, MAX_SECONDS = 60, 24 * 3600
MIN_PROBE_SECONDS = 10
# The loop detector must still see the end of a pause that lies within its window.
TTL_AFTER_END_SECONDS = 3600
MAX_PAGES = 10
MAX_REASON_CHARS = 500
_KIND = PREFIX + "pause."


class Pause(TypedDict):
    """The active pause of an agent; times are seconds since the epoch.

    Of several pauses the one that ends last gives the reason. A probe has to wait for the last
    `probe_at`, which is None while any pause allows no probe; `probe_seconds` are between two
    probes.
    """

    reason: str
    by: str
    since: float
    until: float
    probe_at: Optional[float]
    probe_seconds: Optional[float]


class PublicPause(TypedDict):
    """A pause as results show it: with its times in ISO 8601."""

    reason: str
    by: str
    since: str
    until: str
    probe_at: Optional[str]


class RunEnvironment(Protocol):
    """What is needed of the environment of a run."""

    store: BestEffortDatastore
    run: str

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""


@dataclass(frozen=True)
class _Fact:
    """The beginning of a pause, or its end; times are seconds since the epoch."""

    at: float
    event: str
    actor: str
    reason: str = ""
    until: float = 0.0
    probe_seconds: Optional[float] = None


def pause(
    store: BestEffortDatastore,
    agent_id: str,
    now: float,
    reason: str,
    seconds: float,
    actor: str = PERSON,
    probe_seconds: Optional[float] = None,
    redactor: "Optional[Redactor]" = None,
) -> Optional[Pause]:
    """Pause the agent for `seconds` from now, in place of an older pause by the same actor.

    :param probe_seconds: after how many seconds a recovery may probe the agent, and the interval
        between two probes; None for no probe before the end.
    :returns: the agent's pause, or None if it could not be recorded.
    """
    text = reason if redactor is None else redactor.redact_text(reason)
    started_at = _next_timestamp(_facts(store, agent_id), now)
    fields = {
        "event": "pause",
        "by": actor,
        "reason": text[:MAX_REASON_CHARS],
        "until": started_at + seconds,
        "probe_seconds": probe_seconds,
    }
    if not _append(store, agent_id, started_at, fields, int(seconds) + TTL_AFTER_END_SECONDS):
        return None
    return pause_of(store, agent_id, started_at)


def resume(
    store: BestEffortDatastore, agent_id: str, now: float, actor: str = ANYBODY
) -> bool:
    """End the agent's pauses by `actor`, ANYBODY for all. Return whether one was active."""
    facts = _facts(store, agent_id)
    active = [pause for pause in _open_pauses(facts) if pause.until > now]
    if not any(actor in (ANYBODY, pause.actor) for pause in active):
        return False
    fields = {"event": "resume", "by": actor}
    return _append(
        store, agent_id, _next_timestamp(facts, now), fields, MAX_SECONDS + TTL_AFTER_END_SECONDS
    )


def pause_of(store: Listing, agent_id: str, now: float) -> Optional[Pause]:
    """Return the agent's active pause, or None."""
    return _active_pause(_facts(store, agent_id), now)


def ended_at(store: Listing, agent_id: str, now: float) -> float:
    """When the agent's last pause ended, in seconds since the epoch; 0.0 if there was none."""
    return _last_end(_facts(store, agent_id), now)


def pause_state(store: Listing, agent_id: str, now: float) -> tuple[Optional[Pause], float]:
    """Return (pause_of, ended_at) of the agent, with one datastore call."""
    facts = _facts(store, agent_id)
    return _active_pause(facts, now), _last_end(facts, now)


def listing(store: Listing, now: float) -> dict[str, Pause]:
    """The active pauses of all agents, {agent_id: pause}. Reads at most MAX_PAGES pages."""
    rows_by_agent: dict[str, list[tuple[str, str]]] = {}
    for rows in records.iter_pages(store, _KIND, MAX_PAGES):
        for name, text in rows:
            key_part = name[len(_KIND):].rpartition(".")[0]
            rows_by_agent.setdefault(key_part, []).append((name, text))
    pauses = {}
    for key_part, rows in sorted(rows_by_agent.items()):
        active_pause = _active_pause(_read(rows), now)
        if active_pause is not None:
            pauses[decode_key_part(key_part)] = active_pause
    return pauses


def public_pause(paused: Optional[Pause]) -> Optional[PublicPause]:
    """A pause as results show it; None for None."""
    if paused is None:
        return None
    return {
        "reason": paused["reason"],
        "by": paused["by"],
        "since": to_iso(paused["since"]),
        "until": to_iso(paused["until"]),
        "probe_at": None if paused["probe_at"] is None else to_iso(paused["probe_at"]),
    }


def refuse_if_paused(env: RunEnvironment, agent_id: str, claim: bool = True) -> None:
    """Raise InvalidInput if the agent is paused, unless this run may be the probe.

    :param claim: whether to claim the probe if it is due; False for a dry run, which must not use
        it up.
    """
    now = env.now()
    paused = pause_of(env.store, agent_id, now)
    if paused is None:
        return
    due = paused["probe_at"] is not None and now >= paused["probe_at"]
    if due and claim and _claim(env.store, agent_id, paused, now, env.run):
        return
    next_probe_at = _next_probe(env.store, agent_id, paused, now)
    if next_probe_at is None:
        hint = "Wait until then, or resume it with synthralos.agent.resume"
    else:
        hint = (
            "A recovery may probe it from %s; or resume it with synthralos.agent.resume"
            % to_iso(next_probe_at)
        )
    raise InvalidInput(
        "agent_id",
        agent_id,
        "is paused by the %s until %s: %s"
        % (paused["by"].replace("_", " "), to_iso(paused["until"]), paused["reason"]),
        hint,
    )


def resume_after_probe(env: RunEnvironment, agent_id: str) -> bool:
    """End the pause if this run, which has recovered the agent, was its probe.

    :returns: whether a pause was ended.
    """
    now = env.now()
    paused = pause_of(env.store, agent_id, now)
    if paused is None:
        return False
    runs = {run for _, run in _claims(env.store, agent_id, paused["since"])}
    return env.run in runs and resume(env.store, agent_id, now)


def probing_since(
    store: Listing, agent_id: str, paused: Pause, now: float
) -> Optional[float]:
    """When the probe in progress began, in seconds since the epoch, or None."""
    if paused["probe_at"] is None or now < paused["probe_at"]:
        return None
    claims = _claims(store, agent_id, now - _probe_interval(paused))
    return timestamp_of_key(claims[-1][0]) if claims else None


def _claim(
    store: BestEffortDatastore, agent_id: str, paused: Pause, now: float, run: str
) -> bool:
    """Whether this process may be the probe: the first claim since the probe interval began."""
    since = max(paused["probe_at"] or 0.0, now - _probe_interval(paused))
    if _claims(store, agent_id, since):
        return False
    own_key = _claim_prefix(agent_id) + timestamp_key(now)
    text = records.encode({"run": run}, FORMAT_VERSION, sort_keys=False, compact=False)
    # It outlives the longest run, which checks at its end whether it was the probe.
    store.put(own_key, text, ttl=TTL_AFTER_END_SECONDS)
    claims = _claims(store, agent_id, since)
    # Without a datastore probes cannot be counted, and a pause that cannot be read has no effect.
    return store.unavailable_reason is not None or (bool(claims) and claims[0][0] == own_key)


def _probe_interval(paused: Pause) -> float:
    """Seconds between two probes of a pause that allows probes."""
    return paused["probe_seconds"] or 0.0


def _claims(store: Listing, agent_id: str, since: float) -> list[tuple[str, str]]:
    """The claims since then, oldest first: [(key, run)]."""
    rows = [
        (name, text)
        for name, text in store.list(_claim_prefix(agent_id))
        if (timestamp_of_key(name) or 0) >= since - 0.001
    ]
    claims = []
    for name, fields in records.iter_rows(rows, FORMAT_VERSION):
        if "run" in fields:
            claims.append((name, fields["run"]))
        else:
            unreadable.skip(name)
    return sorted(claims)


def _next_probe(store: Listing, agent_id: str, paused: Pause, now: float) -> Optional[float]:
    if paused["probe_at"] is None or now < paused["probe_at"]:
        return paused["probe_at"]
    claims = _claims(store, agent_id, paused["probe_at"])
    if not claims:
        return now
    return (timestamp_of_key(claims[-1][0]) or now) + _probe_interval(paused)


def _active_pause(facts: Iterable[_Fact], now: float) -> Optional[Pause]:
    active = [fact for fact in _open_pauses(facts) if fact.until > now]
    if not active:
        return None
    longest = max(active, key=lambda fact: fact.until)
    probe_times = [
        fact.at + fact.probe_seconds for fact in active if fact.probe_seconds is not None
    ]
    probe_at = max(probe_times) if len(probe_times) == len(active) else None
    return {
        "reason": longest.reason,
        "by": longest.actor,
        "since": max(fact.at for fact in active),
        "until": longest.until,
        "probe_at": probe_at if probe_at is None or probe_at < longest.until else None,
        "probe_seconds": longest.probe_seconds,
    }


def _last_end(facts: Sequence[_Fact], now: float) -> float:
    end_times = [fact.at for fact in facts if fact.event == "resume"]
    end_times += [fact.until for fact in _open_pauses(facts) if fact.until <= now]
    return max(end_times, default=0.0)


def _open_pauses(facts: Iterable[_Fact]) -> list[_Fact]:
    """The pauses that no newer fact of the same actor has ended or replaced; expired ones too."""
    settled_actors: set[str] = set()
    open_pauses = []
    for fact in facts:
        if fact.event == "resume":
            settled_actors.add(fact.actor)
        elif not settled_actors & {fact.actor, ANYBODY}:
            settled_actors.add(fact.actor)
            open_pauses.append(fact)
    return open_pauses


def _next_timestamp(facts: Sequence[_Fact], now: float) -> float:
    """The time of a new fact: after the newest one, even if that one's writer had a fast clock."""
    return max(now, facts[0].at + 0.001) if facts else now


def _append(
    store: BestEffortDatastore,
    agent_id: str,
    timestamp: float,
    fields: Mapping[str, Any],
    ttl_seconds: int,
) -> bool:
    text = records.encode(fields, FORMAT_VERSION)
    return store.put(_prefix(agent_id) + timestamp_key(timestamp), text, ttl_seconds)


def _facts(store: Listing, agent_id: str) -> list[_Fact]:
    """The agent's newest facts, newest first."""
    return _read(store.list(_prefix(agent_id)))


def _read(rows: Iterable[tuple[str, str]]) -> list[_Fact]:
    facts = []
    for name, fields in records.iter_rows(rows, FORMAT_VERSION):
        timestamp = timestamp_of_key(name)
        try:
            if timestamp is None:
                raise ValueError("no time in the key")
            facts.append(_fact(timestamp, fields))
        except (ValueError, KeyError, TypeError):
            unreadable.skip(name)
    return facts


def _fact(timestamp: float, fields: Mapping[str, Any]) -> _Fact:
    if fields["event"] != "pause":
        return _Fact(timestamp, fields["event"], str(fields["by"]))
    probe = fields["probe_seconds"]
    return _Fact(
        timestamp,
        fields["event"],
        str(fields["by"]),
        reason=str(fields["reason"]),
        until=float(fields["until"]),
        probe_seconds=None if probe is None else float(probe),
    )


def _prefix(agent_id: str) -> str:
    return "%s%s." % (_KIND, encode_key_part(agent_id))


def _claim_prefix(agent_id: str) -> str:
    return "%sclaim.%s." % (PREFIX, encode_key_part("pause:" + agent_id))
