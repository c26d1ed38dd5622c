"""Agents that are to be left alone for a while, by a person or by the loop detector.

A pause and its end are facts appended under the agent. Each party's newest fact holds for its own
pauses, so that neither shortens the other's; an agent is paused while any of its pauses runs.

After `probe_at` one recovery per probe interval may go through, to see whether the agent is well
again: a breaker's half-open state (originals: a breaker that closes by itself after 60 s, untested;
here a good probe closes it).
"""

import json

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.core.timestamps import to_iso
from synthralos.storage import unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key

FORMAT_VERSION = 1
PERSON, DETECTOR, ANYBODY = "person", "loop_detector", "*"
DEFAULT_SECONDS = 300
MIN_SECONDS, MAX_SECONDS = 60, 24 * 3600
MIN_PROBE_SECONDS = 10
# The loop detector must still see that a pause has ended when its window begins before that.
TTL_AFTER_END_SECONDS = 3600
MAX_PAGES = 10
MAX_REASON_CHARS = 500
_KIND = PREFIX + "pause."


def pause(store, agent_id, now, reason, seconds, actor=PERSON, probe_seconds=None, redactor=None):
    """Pauses the agent for `seconds` from now, in place of an older pause by the same party.

    :param probe_seconds: after how many seconds a recovery may probe the agent, and how many lie
        between two probes; None for no probe before the end.
    :returns: the agent's pause as `pause_of` has it, or None when it could not be recorded.
    """
    text = reason if redactor is None else redactor.redact_text(reason)
    at = _next_timestamp(_facts(store, agent_id), now)
    value = {
        "v": FORMAT_VERSION,
        "event": "pause",
        "by": actor,
        "reason": text[:MAX_REASON_CHARS],
        "until": at + seconds,
        "probe_seconds": probe_seconds,
    }
    if not _append(store, agent_id, at, value, int(seconds) + TTL_AFTER_END_SECONDS):
        return None
    return pause_of(store, agent_id, at)


def resume(store, agent_id, now, actor=ANYBODY):
    """Ends the agent's pauses by `actor`, ANYBODY for all. Returns whether there was one to end."""
    facts = _facts(store, agent_id)
    running = [
        fact for fact in _open_pauses(facts) if fact["until"] > now and actor in (ANYBODY, fact["by"])
    ]
    if not running:
        return False
    value = {"v": FORMAT_VERSION, "event": "resume", "by": actor}
    return _append(
        store, agent_id, _next_timestamp(facts, now), value, MAX_SECONDS + TTL_AFTER_END_SECONDS
    )


def pause_of(store, agent_id, now):
    """None, or {reason, by, since, until, probe_at, probe_seconds} of a paused agent.

    Times are seconds since the epoch. Of several pauses the longest tells the reason; a probe has
    to wait for the last `probe_at`, and there is none (None) while one pause allows none.
    """
    return _active_pause(_facts(store, agent_id), now)


def ended_at(store, agent_id, now):
    """When the agent's last pause ended, in seconds since the epoch; 0.0 without one."""
    return _last_end(_facts(store, agent_id), now)


def pause_state(store, agent_id, now):
    """(pause_of, ended_at) of the agent, with one reading."""
    facts = _facts(store, agent_id)
    return _active_pause(facts, now), _last_end(facts, now)


def listing(store, now):
    """{agent_id: pause_of} of all paused agents. Reads at most PAGES pages."""
    by_agent = {}
    for page in range(MAX_PAGES):
        rows = store.list(_KIND, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        for name, value in rows:
            part = name[len(_KIND):].rpartition(".")[0]
            by_agent.setdefault(part, []).append((name, value))
        if len(rows) < PAGE_SIZE:
            break
    found = {}
    for part, rows in sorted(by_agent.items()):
        paused = _active_pause(_read(rows), now)
        if paused is not None:
            found[decode_key_part(part)] = paused
    return found


def public_pause(paused):
    """A pause for people: its times in ISO 8601; None for None."""
    if paused is None:
        return None
    shown = {name: paused[name] for name in ("reason", "by")}
    for name in ("since", "until", "probe_at"):
        shown[name] = None if paused[name] is None else to_iso(paused[name])
    return shown


def refuse_if_paused(env, agent_id, claim=True):
    """InvalidInput when the agent is paused, unless this run may be the probe.

    :param claim: whether to take the probe when one is due; False for a dry run, which must not
        use it up.
    """
    now = env.now()
    paused = pause_of(env.store, agent_id, now)
    if paused is None:
        return
    due = paused["probe_at"] is not None and now >= paused["probe_at"]
    if due and claim and _claim(env.store, agent_id, paused, now, env.run):
        return
    following = _next_probe(env.store, agent_id, paused, now)
    if following is None:
        way_out = "Wait until then, or resume it with synthralos.agent.resume"
    else:
        way_out = (
            "A recovery may probe it from %s on; or resume it with synthralos.agent.resume"
            % to_iso(following)
        )
    raise InvalidInput(
        "agent_id",
        agent_id,
        "is paused by the %s until %s: %s"
        % (paused["by"].replace("_", " "), to_iso(paused["until"]), paused["reason"]),
        way_out,
    )


def resume_after_probe(env, agent_id):
    """Ends the pause when this run was its probe. For a run that has recovered the agent.

    Returns whether it ended one.
    """
    now = env.now()
    paused = pause_of(env.store, agent_id, now)
    if paused is None:
        return False
    runs = {run for _, run in _claims(env.store, agent_id, paused["since"])}
    return env.run in runs and resume(env.store, agent_id, now)


def probing_since(store, agent_id, paused, now):
    """When the probe that runs now began, in seconds since the epoch, or None."""
    if paused["probe_at"] is None or now < paused["probe_at"]:
        return None
    claims = _claims(store, agent_id, now - paused["probe_seconds"])
    return timestamp_of_key(claims[-1][0]) if claims else None


def _claim(store, agent_id, paused, now, run):
    """Whether this process may be the probe: the first claim since the probe interval began."""
    since = max(paused["probe_at"], now - paused["probe_seconds"])
    if _claims(store, agent_id, since):
        return False
    mine = _claim_prefix(agent_id) + timestamp_key(now)
    # It outlives the longest run, which asks at its end whether it was the probe.
    store.put(mine, json.dumps({"v": FORMAT_VERSION, "run": run}), ttl=TTL_AFTER_END_SECONDS)
    claims = _claims(store, agent_id, since)
    # Without a datastore nobody can keep count, and a pause nobody can read must not hold.
    return store.unavailable_reason is not None or (bool(claims) and claims[0][0] == mine)


def _claims(store, agent_id, since):
    """(name, run) of the claims since then, the first first."""
    found = []
    for name, value in store.list(_claim_prefix(agent_id)):
        if (timestamp_of_key(name) or 0) < since - 0.001:
            continue
        try:
            found.append((name, json.loads(value)["run"]))
        except (ValueError, KeyError, TypeError):
            # Another version of the pack, or a hand, wrote it.
            unreadable.skip(name)
    return sorted(found)


def _next_probe(store, agent_id, paused, now):
    if paused["probe_at"] is None or now < paused["probe_at"]:
        return paused["probe_at"]
    claims = _claims(store, agent_id, paused["probe_at"])
    if not claims:
        return now
    return (timestamp_of_key(claims[-1][0]) or now) + paused["probe_seconds"]


def _active_pause(facts, now):
    running = [fact for fact in _open_pauses(facts) if fact["until"] > now]
    if not running:
        return None
    longest = max(running, key=lambda fact: fact["until"])
    probes = [
        None if fact["probe_seconds"] is None else fact["at"] + fact["probe_seconds"]
        for fact in running
    ]
    probe_at = None if None in probes else max(probes)
    return {
        "reason": longest["reason"],
        "by": longest["by"],
        "since": max(fact["at"] for fact in running),
        "until": longest["until"],
        "probe_at": probe_at if probe_at is None or probe_at < longest["until"] else None,
        "probe_seconds": longest["probe_seconds"],
    }


def _last_end(facts, now):
    ends = [fact["at"] for fact in facts if fact["event"] == "resume"]
    ends += [fact["until"] for fact in _open_pauses(facts) if fact["until"] <= now]
    return max(ends, default=0.0)


def _open_pauses(facts):
    """The pauses that no newer fact of the same party has ended or replaced; expired ones too."""
    settled, found = set(), []
    for fact in facts:
        if fact["event"] == "resume":
            settled.add(fact["by"])
        elif not settled & {fact["by"], ANYBODY}:
            settled.add(fact["by"])
            found.append(fact)
    return found


def _next_timestamp(facts, now):
    """The time of a new fact: it must not lose against one whose writer's clock was ahead."""
    return max(now, facts[0]["at"] + 0.001) if facts else now


def _append(store, agent_id, at, value, ttl):
    told = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return store.put(_prefix(agent_id) + timestamp_key(at), told, ttl)


def _facts(store, agent_id):
    """The agent's newest facts, newest first."""
    return _read(store.list(_prefix(agent_id)))


def _read(rows):
    found = []
    for name, text in rows:
        at = timestamp_of_key(name)
        try:
            value = json.loads(text)
            if at is None or value["v"] != FORMAT_VERSION:
                raise ValueError("another format")
            fact = {"at": at, "event": value["event"], "by": str(value["by"])}
            if fact["event"] == "pause":
                fact.update(reason=str(value["reason"]), until=float(value["until"]))
                probe = value["probe_seconds"]
                fact["probe_seconds"] = None if probe is None else float(probe)
            found.append(fact)
        except (ValueError, KeyError, TypeError):
            # Another version of the pack, or a hand, wrote it.
            unreadable.skip(name)
    return found


def _prefix(agent_id):
    return "%s%s." % (_KIND, encode_key_part(agent_id))


def _claim_prefix(agent_id):
    return "%sclaim.%s." % (PREFIX, encode_key_part("pause:" + agent_id))
