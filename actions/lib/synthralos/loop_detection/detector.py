"""Whether an agent runs in circles: what its steps are kept as, and what follows when it does.

A step is kept as a signature (loops_signature), for as long as the window; the patterns in the
window (loops_patterns) are derived from the last steps each time. A pattern is written down, and a
critical one pauses the agent (pauses).

Datastore calls of a check: 4; one more while a probe may be running, one for each pattern that is
new, and 3 to pause the agent.
"""

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part, require_identifier
from synthralos.loop_detection.patterns import CRITICAL, LEVELS, NONE, WINDOW_SIZE, detect
from synthralos.loop_detection.signature import Step, build_step
from synthralos.storage import pauses, unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
MAX_PAGES = 10
TTL_SECONDS = lifetime_of("loop")


@dataclass(frozen=True)
class LoopDetectionConfig:
    """The entry `loop_detection` of the configuration.

    :ivar max_iterations: steps within the window that are too many when hardly one is new.
    :ivar similarity_threshold: from which on two steps are similar, 0 to 1; see
        `loops_patterns.similarity`.
    :ivar max_pattern_length: the longest cycle looked for, in steps.
    :ivar pause_seconds: how long the detector pauses an agent.
    :ivar probe_seconds: after how long a recovery may probe it.
    """

    max_iterations: int = 50
    similarity_threshold: float = 0.85
    time_window_seconds: int = 300
    max_pattern_length: int = 20
    enable_auto_pause: bool = True
    pause_seconds: int = 300
    probe_seconds: int = 60

    @classmethod
    def from_config(cls, entry):
        """LoopDetection from the configuration's entry. InvalidInput names what is wrong in it."""
        entry = {} if entry is None else entry
        if not isinstance(entry, dict):
            raise InvalidInput(
                "loop_detection", entry, "is not an object", "See config.schema.yaml"
            )
        known = {}
        for name, (least, most) in _BOUNDS.items():
            value = entry.get(name)
            if value is None:
                continue
            kind = (int, float) if isinstance(least, float) else int
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                way_out = "Use a number from %s to %s" % (least, most)
                raise InvalidInput("loop_detection." + name, value, "is out of bounds", way_out)
            known[name] = value
        if entry.get("enable_auto_pause") is not None:
            known["enable_auto_pause"] = bool(entry["enable_auto_pause"])
        return cls(**known)


# A window is one page of the datastore, and a pause must be seen to have ended within it.
_BOUNDS = {
    "max_iterations": (5, WINDOW_SIZE),
    "similarity_threshold": (0.6, 1.0),
    "time_window_seconds": (10, pauses.TTL_AFTER_END_SECONDS),
    "max_pattern_length": (1, 33),
    "pause_seconds": (pauses.MIN_SECONDS, pauses.MAX_SECONDS),
    "probe_seconds": (pauses.MIN_PROBE_SECONDS, 3600),
}


def record_step(
    store,
    now,
    limits,
    agent_id,
    action,
    step_input=None,
    output=None,
    progress=None,
    task=None,
    redactor=None,
):
    """Records a step of the agent and says what its window shows.

    :param store: a BestEffortDatastore datastore; without one the step stands alone and shows nothing.
    :returns: {looping, level, pattern, patterns, paused, pause, reason, steps, recorded}. `pattern`
        is the worst of `patterns`; a critical one pauses the agent.
    """
    require_identifier("agent_id", agent_id)
    require_identifier("action", action)
    if task is not None:
        require_identifier("task_id", task)
    step = build_step(now, action, step_input, output, _progress(progress))
    # Each task has a page of its own: what an agent does at the same time pushes nothing out of it.
    below = _prefix("loop_step", agent_id) + ("~" if task is None else encode_key_part(task)) + "."
    name = below + timestamp_key(now)
    recorded = store.put(name, _encode_step(step), ttl=limits.time_window_seconds + 60)
    facts = _read_facts(store, agent_id)
    paused, ended = pauses.pause_state(store, agent_id, now)
    probing = None if paused is None else pauses.probing_since(store, agent_id, paused, now)
    start = max(now - limits.time_window_seconds, _reset_at(facts), ended, probing or 0.0)
    window = _window(store, below, start, name, step)
    found = [_pattern_payload(agent_id, pattern) for pattern in detect(window, limits)]
    worst = found[0] if found else None
    reason = None if worst is None else _reason(worst)
    for pattern in found:
        _record_pattern(
            store, agent_id, now, pattern, [fact for fact in facts if fact["at"] > start]
        )
    trips = worst is not None and worst["level"] == CRITICAL and limits.enable_auto_pause
    if trips and (paused is None or probing is not None):
        paused, probing = _pause(store, agent_id, now, limits, reason, redactor), None
    held = paused is not None and probing is None
    return {
        "looping": worst is not None,
        "level": NONE if worst is None else worst["level"],
        "pattern": worst,
        "patterns": found,
        "paused": held,
        "pause": pauses.public_pause(paused) if held else None,
        "reason": reason or (paused["reason"] if held else None),
        "steps": len(window),
        "recorded": bool(recorded),
    }


def parse_json_text(value):
    """The JSON object or list that a text holds, else `value` as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return bounded_json.loads(value)
        except ValueError:
            pass
    return value


def patterns(store, agent_id):
    """The patterns found for the agent, the newest first: each with when and how often."""
    require_identifier("agent_id", agent_id)
    found = {}
    for fact in _read_facts(store, agent_id):
        if fact["event"] != "pattern":
            continue
        known = found.setdefault(fact["pattern_id"], {"shown": fact, "seen": []})
        known["seen"].append(fact)
    listed = []
    for known in found.values():
        newest, seen = known["shown"], known["seen"]
        shown = {name: newest[name] for name in _PATTERN_FIELDS}
        levels = Counter(fact["level"] for fact in seen)
        # One episode leaves a fact for its warning and one for the loop.
        shown["occurrences"] = max(levels.values())
        shown["level"] = max(levels, key=LEVELS.index)
        shown.update(first_seen=seen[-1]["at"], last_seen=newest["at"])
        listed.append(shown)
    return listed


def agents(store):
    """The agents that have patterns or resets on record, by name. Reads at most PAGES pages."""
    prefix, names = PREFIX + "loop.", set()
    for page in range(MAX_PAGES):
        rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        names.update(decode_key_part(name[len(prefix):].split(".")[0]) for name, _ in rows)
        if len(rows) < PAGE_SIZE:
            break
    return sorted(names)


def reset(store, agent_id, now):
    """Forgets the agent's window and ends a pause that the detector set.

    Returns (whether that could be recorded, whether there was such a pause). The patterns stay.
    """
    require_identifier("agent_id", agent_id)
    value = {"v": FORMAT_VERSION, "event": "reset"}
    name = _prefix("loop", agent_id) + timestamp_key(now)
    recorded = store.put(name, json.dumps(value), TTL_SECONDS)
    return bool(recorded), bool(pauses.resume(store, agent_id, now, actor=pauses.DETECTOR))


_PATTERN_FIELDS = (
    "pattern_id",
    "kind",
    "level",
    "period",
    "repeats",
    "steps",
    "actions",
    "interrupted",
)
_MAX_ACTIONS = 20


def _pattern_payload(agent_id, pattern):
    """A pattern as results and facts have it: names and numbers."""
    rotations = [
        pattern.signatures[n:] + pattern.signatures[:n] for n in range(len(pattern.signatures))
    ]
    # A cycle is the same one wherever it is seen to begin.
    told = json.dumps([agent_id, pattern.kind, min(rotations)])
    return {
        "pattern_id": "L" + hashlib.sha256(told.encode()).hexdigest()[:12],
        "kind": pattern.kind,
        "level": pattern.level,
        "period": pattern.period,
        "repeats": pattern.repeats,
        "steps": pattern.steps,
        "actions": list(pattern.actions[:_MAX_ACTIONS]),
        "interrupted": pattern.interrupted,
    }


def _reason(pattern):
    actions = ", ".join(pattern["actions"])
    told = {
        "identical": "%(actions)s was repeated %(repeats)d times with the same outcome",
        "alternating": "%(actions)s alternated %(repeats)d times with the same outcomes",
        "cycle": "the cycle %(actions)s came %(repeats)d times with the same outcomes",
        "similar": "%(actions)s was asked %(repeats)d times in other words, without news",
        "no_progress": "the last %(steps)d steps (%(actions)s) brought nothing new",
        "rate": "%(steps)d steps within the time window (%(actions)s), hardly one of them new",
    }[pattern["kind"]]
    return told % dict(pattern, actions=actions)


def _pause(store, agent_id, now, limits, reason, redactor):
    """The pause that the detector set, or None when it could not be recorded."""
    return pauses.pause(
        store,
        agent_id,
        now,
        "loop: " + reason,
        limits.pause_seconds,
        pauses.DETECTOR,
        limits.probe_seconds,
        redactor,
    )


def _record_pattern(store, agent_id, now, pattern, since):
    """Writes the pattern down, once for each level that it reaches within a window."""
    for fact in since:
        same = fact["event"] == "pattern" and fact["pattern_id"] == pattern["pattern_id"]
        if same and LEVELS.index(fact["level"]) >= LEVELS.index(pattern["level"]):
            return
    value = json.dumps(dict(pattern, v=FORMAT_VERSION, event="pattern"), separators=(",", ":"))
    store.put(_prefix("loop", agent_id) + timestamp_key(now), value, TTL_SECONDS)


def _progress(value):
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        way_out = "Give how far it got, as a number that grows"
        raise InvalidInput("progress", value, "is no number", way_out)
    return number


def _window(store, below, start, name, step):
    """The steps below a prefix since `start`, the oldest first, with this one."""
    rows = store.list(below, limit=WINDOW_SIZE)
    found = [_decode_step(key, value) for key, value in reversed(rows) if key != name]
    return [
        earlier for earlier in found if earlier is not None and earlier.at > start
    ][1 - WINDOW_SIZE:] + [step]


def _encode_step(step):
    # What is not known is left out; a progress of 0 is known.
    value = {
        key: kept
        for key, kept in asdict(step).items()
        if kept is not None and kept is not False and kept != ()
    }
    del value["at"]
    return json.dumps(dict(value, v=FORMAT_VERSION), separators=(",", ":"))


def _decode_step(name, text):
    at = timestamp_of_key(name)
    try:
        value = json.loads(text)
        if at is None or value.pop("v") != FORMAT_VERSION:
            return None
        for words in ("words", "output_words"):
            value[words] = tuple(value.get(words, ()))
        step = Step(at=at, **value)
        progress = step.progress
        texts = (step.action, step.signature, step.exact, step.shape) + step.words
        texts += step.output_words
        texts += tuple(text for text in (step.output, step.output_shape) if text is not None)
        good = all(isinstance(text, str) for text in texts)
        return step if good and isinstance(progress or 0.0, (int, float)) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        # Another version of the pack, or a hand, wrote it.
        unreadable.skip(name)
        return None


def _read_facts(store, agent_id):
    """The agent's resets and patterns, newest first."""
    found = []
    for name, text in store.list(_prefix("loop", agent_id)):
        at = timestamp_of_key(name)
        try:
            value = json.loads(text)
            known = value["v"] == FORMAT_VERSION and value["event"] in ("pattern", "reset")
            if at is None or not known:
                raise ValueError("another format")
            if value["event"] == "pattern":
                value = dict({shown: value[shown] for shown in _PATTERN_FIELDS}, event="pattern")
                if value["level"] not in LEVELS:
                    raise ValueError("unknown level")
            found.append(dict(value, at=at))
        except (ValueError, KeyError, TypeError):
            # Another version of the pack, or a hand, wrote it.
            unreadable.skip(name)
    return found


def _reset_at(facts):
    return max((fact["at"] for fact in facts if fact["event"] == "reset"), default=0.0)


def _prefix(kind, agent_id):
    return "%s%s.%s." % (PREFIX, kind, encode_key_part(agent_id))
