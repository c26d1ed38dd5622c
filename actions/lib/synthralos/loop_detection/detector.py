"""The loop detector: stores an agent's steps, looks for patterns, and pauses the agent.

A step is stored as a signature (signature.py) for as long as the window; the patterns in the window
(patterns.py) are derived from the last steps each time. A pattern is recorded, and a critical one
pauses the agent (storage/pauses.py).

Datastore calls of a check: 4; one more while a probe may be running, one for each pattern that is
new, and 3 to pause the agent.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypedDict

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part, encode_key_part, require_identifier
from synthralos.loop_detection.patterns import (
    CRITICAL,
    LEVELS,
    NONE,
    WINDOW_SIZE,
    Pattern,
    detect,
)
from synthralos.loop_detection.signature import Step, build_step
from synthralos.storage import pauses, unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

if TYPE_CHECKING:
    from synthralos.core.redaction import Redactor

FORMAT_VERSION = 1
MAX_PAGES = 10
TTL_SECONDS = lifetime_of("loop")


class PatternPayload(TypedDict):
    """A pattern as it is stored and returned: names and numbers. `pattern_id`: of this agent's
    pattern, whenever it occurs; `actions`: at most _MAX_ACTIONS; otherwise see patterns.Pattern.
    """

    pattern_id: str
    kind: str
    level: str
    period: int
    repeats: int
    steps: int
    actions: list[str]
    interrupted: bool


class RecordedPattern(PatternPayload):
    """A pattern with how often it was recorded, and when: seconds since the epoch.

    `level` is the worst that it reached; everything else is as it was last.
    """

    occurrences: int
    first_seen: float
    last_seen: float


class CheckResult(TypedDict):
    """What a step of an agent shows.

    `pattern`: the worst of `patterns`, or None; `level`: its level, or none; `reason`: of the
    pattern or of the pause; `steps`: in the window; `recorded`: whether the step was stored.
    """

    looping: bool
    level: str
    pattern: Optional[PatternPayload]
    patterns: list[PatternPayload]
    paused: bool
    pause: Optional[pauses.PublicPause]
    reason: Optional[str]
    steps: int
    recorded: bool


class _Fact(NamedTuple):
    """What is recorded of an agent, `at` in seconds since the epoch: a pattern, or a reset without
    one.
    """

    at: float
    pattern: Optional[PatternPayload]


@dataclass(frozen=True)
class LoopDetectionConfig:
    """The entry `loop_detection` of the configuration.

    :ivar max_iterations: steps within the window that are too many if hardly any is new.
    :ivar similarity_threshold: the similarity of two similar steps at least, 0 to 1; see
        `patterns.similarity`.
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
    def from_config(cls, entry: object) -> "LoopDetectionConfig":
        """Return the LoopDetectionConfig of a configuration entry.

        :raises InvalidInput: it names the invalid field.
        """
        entry = {} if entry is None else entry
        if not isinstance(entry, dict):
            raise InvalidInput(
                "loop_detection", entry, "is not an object", "See config.schema.yaml"
            )
        fields = {}
        for name, (minimum, maximum) in _BOUNDS.items():
            value = entry.get(name)
            if value is None:
                continue
            kind = (int, float) if isinstance(minimum, float) else int
            if (
                isinstance(value, bool) or
                not isinstance(value, kind) or
                not minimum <= value <= maximum
            ):
                hint = "Use a number from %s to %s" % (minimum, maximum)
                raise InvalidInput("loop_detection." + name, value, "is out of bounds", hint)
            fields[name] = value
        if entry.get("enable_auto_pause") is not None:
            fields["enable_auto_pause"] = bool(entry["enable_auto_pause"])
        return cls(**fields)


# A window is a page of the datastore, and the end of a pause within it must still be stored.
_BOUNDS = {
    "max_iterations": (5, WINDOW_SIZE),
    "similarity_threshold": (0.6, 1.0),
    "time_window_seconds": (10, pauses.TTL_AFTER_END_SECONDS),
    "max_pattern_length": (1, 33),
    "pause_seconds": (pauses.MIN_SECONDS, pauses.MAX_SECONDS),
    "probe_seconds": (pauses.MIN_PROBE_SECONDS, 3600),
}


def record_step(
    store: BestEffortDatastore,
    now: float,
    limits: LoopDetectionConfig,
    agent_id: str,
    action: str,
    step_input: Any = None,
    output: Any = None,
    progress: Optional[float] = None,
    task: Optional[str] = None,
    redactor: "Optional[Redactor]" = None,
    compare_ids: bool = True,
) -> CheckResult:
    """Record a step of the agent and return the patterns in its window.

    :param store: a BestEffortDatastore; without a datastore the window has only this step.
    :param step_input: a JSON value; output: a JSON value, or None if it is unknown.
    :param progress: a number that grows with progress, or None.
    :param task: the id of the task; each task has a window of its own.
    :param compare_ids: see `build_step`.
    :returns: a critical `pattern` has paused the agent, unless `limits` do not allow that.
    :raises InvalidInput: an identifier or `progress` is invalid.
    """
    require_identifier("agent_id", agent_id)
    require_identifier("action", action)
    if task is not None:
        require_identifier("task_id", task)
    step = build_step(now, action, step_input, output, _progress(progress), compare_ids)
    # Each task has a page of its own, so that parallel tasks do not push its steps out.
    prefix = _prefix("loop_step", agent_id) + ("~" if task is None else encode_key_part(task)) + "."
    own_key = prefix + timestamp_key(now)
    recorded = store.put(own_key, _encode_step(step), ttl=limits.time_window_seconds + 60)
    facts = _read_facts(store, agent_id)
    paused, pause_ended_at = pauses.pause_state(store, agent_id, now)
    probe_started_at = (
        None if paused is None else pauses.probing_since(store, agent_id, paused, now)
    )
    start = max(
        now - limits.time_window_seconds, _reset_at(facts), pause_ended_at, probe_started_at or 0.0
    )
    window = _window(store, prefix, start, own_key, step)
    payloads = [_pattern_payload(agent_id, pattern) for pattern in detect(window, limits)]
    worst = payloads[0] if payloads else None
    reason = "" if worst is None else _reason(worst)
    for pattern in payloads:
        _record_pattern(store, agent_id, now, pattern, [fact for fact in facts if fact.at > start])
    needs_pause = worst is not None and worst["level"] == CRITICAL and limits.enable_auto_pause
    if needs_pause and (paused is None or probe_started_at is not None):
        paused, probe_started_at = pauses.pause(
            store,
            agent_id,
            now,
            "loop: " + reason,
            limits.pause_seconds,
            pauses.DETECTOR,
            limits.probe_seconds,
            redactor,
        ), None
    in_force = paused if probe_started_at is None else None
    return {
        "looping": worst is not None,
        "level": NONE if worst is None else worst["level"],
        "pattern": worst,
        "patterns": payloads,
        "paused": in_force is not None,
        "pause": pauses.public_pause(in_force),
        "reason": reason or (None if in_force is None else in_force["reason"]),
        "steps": len(window),
        "recorded": bool(recorded),
    }


def parse_json_text(value: Any) -> Any:
    """Return the JSON object or list in a text; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return bounded_json.loads(value)
        except ValueError:
            pass
    return value


def patterns(store: BestEffortDatastore, agent_id: str) -> list[RecordedPattern]:
    """The patterns recorded for the agent, newest first."""
    require_identifier("agent_id", agent_id)
    # {pattern_id: [(seconds since the epoch, the pattern)], newest first}
    patterns_by_id: dict[str, list[tuple[float, PatternPayload]]] = {}
    for at, pattern in _read_facts(store, agent_id):
        if pattern is not None:
            patterns_by_id.setdefault(pattern["pattern_id"], []).append((at, pattern))
    listing: list[RecordedPattern] = []
    for occurrences in patterns_by_id.values():
        last_seen, newest = occurrences[0]
        levels = Counter(pattern["level"] for _, pattern in occurrences)
        listing.append({
            **newest,
            # An episode leaves a fact for its warning and another for the loop.
            "occurrences": max(levels.values()),
            "level": max(levels, key=LEVELS.index),
            "first_seen": occurrences[-1][0],
            "last_seen": last_seen,
        })
    return listing


def agents(store: BestEffortDatastore) -> list[str]:
    """The names of agents with recorded patterns or resets. Reads at most MAX_PAGES pages."""
    prefix = PREFIX + "loop."
    names: set[str] = set()
    for page in range(MAX_PAGES):
        rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        names.update(decode_key_part(name[len(prefix):].split(".")[0]) for name, _ in rows)
        if len(rows) < PAGE_SIZE:
            break
    return sorted(names)


def reset(store: BestEffortDatastore, agent_id: str, now: float) -> tuple[bool, bool]:
    """Reset the agent's window and end a pause by the detector. The recorded patterns stay.

    :returns: (whether the reset was recorded, whether there was such a pause).
    """
    require_identifier("agent_id", agent_id)
    value = {"v": FORMAT_VERSION, "event": "reset"}
    name = _prefix("loop", agent_id) + timestamp_key(now)
    recorded = store.put(name, json.dumps(value), TTL_SECONDS)
    return bool(recorded), bool(pauses.resume(store, agent_id, now, actor=pauses.DETECTOR))


_MAX_ACTIONS = 20


def _pattern_payload(agent_id: str, pattern: Pattern) -> PatternPayload:
    """The pattern as it is stored and returned."""
    rotations = [
        pattern.signatures[n:] + pattern.signatures[:n] for n in range(len(pattern.signatures))
    ]
    # A cycle has the same id at whichever of its steps it begins.
    identity = json.dumps([agent_id, pattern.kind, min(rotations)])
    return {
        "pattern_id": "L" + hashlib.sha256(identity.encode()).hexdigest()[:12],
        "kind": pattern.kind,
        "level": pattern.level,
        "period": pattern.period,
        "repeats": pattern.repeats,
        "steps": pattern.steps,
        "actions": list(pattern.actions[:_MAX_ACTIONS]),
        "interrupted": pattern.interrupted,
    }


def _reason(pattern: PatternPayload) -> str:
    actions = ", ".join(pattern["actions"])
    template = {
        "identical": "%(actions)s was repeated %(repeats)d times with the same outcome",
        "alternating": "%(actions)s alternated %(repeats)d times with the same outcomes",
        "cycle": "the cycle %(actions)s occurred %(repeats)d times with the same outcomes",
        "similar": "%(actions)s was repeated %(repeats)d times in other words, without new results",
        "no_progress": "the last %(steps)d steps (%(actions)s) brought nothing new",
        "rate": "%(steps)d steps within the time window (%(actions)s), hardly any of them new",
    }[pattern["kind"]]
    return template % dict(pattern, actions=actions)


def _record_pattern(
    store: BestEffortDatastore,
    agent_id: str,
    now: float,
    pattern: PatternPayload,
    since: list[_Fact],
) -> None:
    """Record the pattern, once for each level that it reaches within a window."""
    for _, earlier in since:
        if earlier is None or earlier["pattern_id"] != pattern["pattern_id"]:
            continue
        if LEVELS.index(earlier["level"]) >= LEVELS.index(pattern["level"]):
            return
    value = json.dumps(dict(pattern, v=FORMAT_VERSION, event="pattern"), separators=(",", ":"))
    store.put(_prefix("loop", agent_id) + timestamp_key(now), value, TTL_SECONDS)


def _progress(value: object) -> Optional[float]:
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        hint = "Use a number that grows with progress"
        raise InvalidInput("progress", value, "is not a finite number", hint)
    return number


def _window(
    store: BestEffortDatastore, prefix: str, start: float, own_key: str, step: Step
) -> list[Step]:
    """The stored steps with a key prefix since `start`, oldest first, and this step."""
    rows = store.list(prefix, limit=WINDOW_SIZE)
    steps = [_decode_step(key, value) for key, value in reversed(rows) if key != own_key]
    return [
        earlier for earlier in steps if earlier is not None and earlier.at > start
    ][1 - WINDOW_SIZE:] + [step]


def _encode_step(step: Step) -> str:
    # Unknown fields are omitted; a progress of 0 is not unknown.
    value = {
        key: field_value
        for key, field_value in asdict(step).items()
        if field_value is not None and field_value is not False and field_value != ()
    }
    del value["at"]
    return json.dumps(dict(value, v=FORMAT_VERSION), separators=(",", ":"))


def _decode_step(name: str, text: str) -> Optional[Step]:
    timestamp = timestamp_of_key(name)
    try:
        fields = json.loads(text)
        if timestamp is None or fields.pop("v") != FORMAT_VERSION:
            return None
        for words in ("words", "output_words"):
            fields[words] = tuple(fields.get(words, ()))
        step = Step(at=timestamp, **fields)
        progress = step.progress
        texts = (step.action, step.signature, step.exact, step.shape) + step.words
        texts += step.output_words
        optional_texts = (step.output, step.output_shape, step.waiting)
        texts += tuple(text for text in optional_texts if text is not None)
        is_valid = all(isinstance(text, str) for text in texts)
        return step if is_valid and isinstance(progress or 0.0, (int, float)) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        unreadable.skip(name)
        return None


def _read_facts(store: BestEffortDatastore, agent_id: str) -> list[_Fact]:
    """The agent's resets and patterns, newest first."""
    facts: list[_Fact] = []
    for name, text in store.list(_prefix("loop", agent_id)):
        timestamp = timestamp_of_key(name)
        try:
            fields = json.loads(text)
            is_readable = fields["v"] == FORMAT_VERSION and fields["event"] in ("pattern", "reset")
            if timestamp is None or not is_readable:
                raise ValueError("another format")
            pattern = _decode_pattern(fields) if fields["event"] == "pattern" else None
            facts.append(_Fact(timestamp, pattern))
        except (ValueError, KeyError, TypeError):
            unreadable.skip(name)
    return facts


def _decode_pattern(fields: Mapping[str, Any]) -> PatternPayload:
    """The pattern in a fact's fields.

    :raises KeyError: one is missing.
    :raises ValueError: its level is unknown.
    """
    if fields["level"] not in LEVELS:
        raise ValueError("unknown level")
    return {
        "pattern_id": fields["pattern_id"],
        "kind": fields["kind"],
        "level": fields["level"],
        "period": fields["period"],
        "repeats": fields["repeats"],
        "steps": fields["steps"],
        "actions": fields["actions"],
        "interrupted": fields["interrupted"],
    }


def _reset_at(facts: list[_Fact]) -> float:
    return max((fact.at for fact in facts if fact.pattern is None), default=0.0)


def _prefix(kind: str, agent_id: str) -> str:
    return "%s%s.%s." % (PREFIX, kind, encode_key_part(agent_id))
