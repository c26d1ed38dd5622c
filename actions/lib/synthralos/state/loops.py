"""Whether an agent runs in circles: a pure function of its last steps.

A step is kept as a signature, never as text. Three forms of its input tell how alike two steps are:
`exact`, everything but what belongs to one call (request ids, attempt numbers, thoughts);
`signature`, in which uuids, hexadecimal ids, long numbers and points in time are alike too; and
`shape`, in which free text is alike as well and only its numbers count, so that paraphrases can be
compared by their words. What an agent got back says whether it gets on: a new output, a new input
or a progress value that grows is evidence against a loop.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Optional

from synthralos import jsontext
from synthralos.names import checked, key_part
from synthralos.refusals import Refused
from synthralos.state import pauses
from synthralos.state.datastore import PREFIX, time_key, time_of

FORMAT = 1
WINDOW = 100
KEPT_SECONDS = 7 * 24 * 3600
NONE, WARN, CRITICAL = "none", "warn", "critical"
_LEVELS = (NONE, WARN, CRITICAL)


@dataclass(frozen=True)
class LoopDetection:
    """The entry `loop_detection` of the configuration.

    :ivar max_iterations: steps within the window that are too many when hardly one is new.
    :ivar similarity_threshold: from which on two steps are similar, 0 to 1; see `similarity`.
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
        """LoopDetection from the configuration's entry. Refused names what is wrong in it."""
        entry = {} if entry is None else entry
        if not isinstance(entry, dict):
            raise Refused(
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
                raise Refused("loop_detection." + name, value, "is out of bounds", way_out)
            known[name] = value
        if entry.get("enable_auto_pause") is not None:
            known["enable_auto_pause"] = bool(entry["enable_auto_pause"])
        return cls(**known)


# A window is one page of the datastore, and a pause must be seen to have ended within it.
_BOUNDS = {
    "max_iterations": (5, WINDOW),
    "similarity_threshold": (0.6, 1.0),
    "time_window_seconds": (10, pauses.KEPT_AFTER_SECONDS),
    "max_pattern_length": (1, 33),
    "pause_seconds": (pauses.LEAST_SECONDS, pauses.MOST_SECONDS),
    "probe_seconds": (pauses.LEAST_PROBE_SECONDS, 3600),
}


@dataclass(frozen=True)
class Step:
    """One step of an agent, without its text. All but `at`, `progress` and names are hashes.

    :ivar at: seconds since the epoch.
    :ivar words: a sketch of the words in the input's free text, see `_sketch`.
    :ivar output: None when none was told; `output_shape` and `output_words` as for the input.
    :ivar bare: whether neither input nor output was told, so that nothing tells steps apart.
    """

    at: float
    action: str
    signature: str
    exact: str
    shape: str
    words: tuple = ()
    output: Optional[str] = None
    output_shape: Optional[str] = None
    output_words: tuple = ()
    progress: Optional[float] = None
    task: Optional[str] = None
    bare: bool = False

    @property
    def outcome(self):
        """What makes two steps the same: what was done, and what came of it."""
        return self.action, self.signature, self.output


@dataclass(frozen=True)
class Pattern:
    """What a detector found.

    :ivar kind: identical, alternating, cycle, similar, no_progress or rate.
    :ivar period: steps after which it begins anew; 1 where that means nothing.
    :ivar repeats: how often it came, `steps` how many steps that took.
    :ivar actions: the names of the actions in it, in order for a cycle.
    :ivar signatures: what it is recognised by when it comes again.
    """

    kind: str
    level: str
    period: int
    repeats: int
    steps: int
    actions: tuple
    signatures: tuple
    interrupted: bool = False


# Steps that are like each other: when a person would look (warn) and when it is a loop (critical).
# Cycles: OpenHands' StuckDetector nudges at 3 identical steps, is stuck at more than 3, and at 6
# alternating ones; that is 3 whole cycles, and 2 and a half for the warning.
# Patient: OpenClaw warns at 10 and breaks at 20 where a repeat may well be meant.
# Similar: weaker evidence than sameness, so 2 more than for identical steps.
_CYCLE_WARN, _CYCLE_CRITICAL = (3, 2.5), (4, 3)
_INTERRUPTED_WARN, _INTERRUPTED_CRITICAL = (4, 3), (5, 4)
_PATIENT_WARN, _PATIENT_CRITICAL = (10, 4), (20, 6)
_SIMILAR = (4, 6)
_STALE = (10, 20)
# Of the steps of an interrupted cycle, the part that may be others.
_NOISE = 0.2
# Of the steps within the window, the part that has to be new for a busy agent to be let go on.
_NEW = 0.1
_NEARLY = 0.8


def _words(text):
    return frozenset(text.split())


_POLLING = _words("await check heartbeat monitor ping poll polling sleep status wait waiting watch")


def detect(window, limits):
    """The patterns in `window`, the worst first.

    :param window: Steps of one agent and task, the oldest first.
    :param limits: LoopDetection.
    """
    window = _since_progress(list(window)[-WINDOW:])
    found = [detector(window, limits) for detector in DETECTORS]
    found = [pattern for pattern in found if pattern is not None]
    return sorted(found, key=lambda pattern: -_LEVELS.index(pattern.level))


def cycle(window, limits):
    """The same steps with the same outcome over and over: every period from 1 on.

    The shortest period wins: of steps that are all alike that is 1.
    """
    return _cycle(window, limits, _CYCLE_WARN, _CYCLE_CRITICAL)


def interrupted_cycle(window, limits):
    """A cycle with other steps in between, each of which came once, and at most _NOISE of all.

    One repeat more is asked for than of a whole cycle.
    """
    often = Counter(step.outcome for step in window)
    kept = [n for n, step in enumerate(window) if often[step.outcome] > 1]
    if len(kept) == len(window) or not kept or kept[-1] != len(window) - 1:
        return None
    found = _cycle([window[n] for n in kept], limits, _INTERRUPTED_WARN, _INTERRUPTED_CRITICAL)
    if found is None:
        return None
    span = len(window) - kept[-found.steps]
    if span - found.steps > _NOISE * span or span == found.steps:
        return None
    return Pattern(**dict(vars(found), interrupted=True))


def similar(window, limits):
    """Steps that say the same in other words, and get the same back, or nothing new.

    Counted back from the newest step to the last evidence of progress; other steps may lie between
    as long as they are not more. Steps that are all the same are `cycle`'s business.
    """
    if not window or window[-1].bare:
        return None
    newest, members, others = window[-1], [], 0
    for n in range(len(window) - 1, -1, -1):
        if similarity(newest, window[n]) >= limits.similarity_threshold and _same_answer(
            newest, window[n], limits
        ):
            members.append(window[n])
        else:
            others += 1
            if others > len(members) or _is_news(window, n, limits):
                break
    if len({step.signature for step in members}) < 2:
        return None
    members.reverse()
    patient = newest.output is None or _patient(members, 1)
    level = _level(len(members), *(_STALE if patient else _SIMILAR))
    return _pattern("similar", level, 1, len(members), members[-1:], len(members))


def no_progress(window, limits):
    """Only steps that were taken before, with the outcome they had before, in whatever order.

    The non-contiguous case of a cycle. Steps of which nothing is known count neither way.
    """
    seen, stale = set(), []
    for step in window:
        if step.bare:
            continue
        stale = stale + [step] if step.outcome in seen else []
        seen.add(step.outcome)
    level = _level(len(stale), *_STALE)
    distinct = {step.outcome: step for step in stale}
    return _pattern("no_progress", level, 1, len(stale), list(distinct.values()), len(stale))


def rate(window, limits):
    """`max_iterations` steps within the time window, of which hardly one was new.

    originals: more than max_iterations records in the last 60 s, whatever they are. Here the
    configured window, and a part of at least _NEW new steps lets a busy agent go on.
    """
    new = len({step.outcome for step in window})
    if not window or new > _NEW * len(window):
        return None
    level = _level(
        len(window), math.ceil(_NEARLY * limits.max_iterations), limits.max_iterations
    )
    distinct = {step.outcome: step for step in window}
    return _pattern("rate", level, 1, len(window), list(distinct.values()), len(window))


DETECTORS = (cycle, interrupted_cycle, similar, no_progress, rate)


def similarity(one, other):
    """0 to 1: 0.6 for the same action on the same things, and 0.4 times the part of common words.

    The weights are the originals' (0.6 same type, 0.4 ratio of the messages). The part of common
    words is Jaccard's index of the two sets, estimated from their sketches. Ids are no things;
    other identifiers, such as paths, and small numbers are, so that work on one file after another
    is never similar.
    """
    if one.action != other.action or one.shape != other.shape:
        return 0.0
    return 0.6 + 0.4 * _jaccard(one.words, other.words)


def _same_answer(one, other, limits):
    if one.output == other.output:
        return True
    if one.output is None or other.output is None or one.output_shape != other.output_shape:
        return False
    alike = 0.6 + 0.4 * _jaccard(one.output_words, other.output_words)
    return alike >= limits.similarity_threshold


def _is_news(window, n, limits):
    """Whether the output of step n is one that its action had not given before in the window."""
    step = window[n]
    before = (earlier for earlier in window[:n] if earlier.action == step.action)
    return step.output is not None and not any(
        _same_answer(step, earlier, limits) for earlier in before
    )


def _cycle(window, limits, warn, critical):
    best = None
    outcomes = [step.outcome for step in window]
    for period in range(1, min(limits.max_pattern_length, len(window) // 2) + 1):
        same = 0
        while same + period < len(outcomes) and (
            outcomes[-1 - same] == outcomes[-1 - same - period]
        ):
            same += 1
        if not same or _repeats_within(outcomes[-period:]):
            continue
        steps = same + period
        least, most = warn, critical
        if _patient(window[-steps:], period):
            least, most = _PATIENT_WARN, _PATIENT_CRITICAL
        level = _level(steps, _needed(least, period), _needed(most, period))
        if best is None or _LEVELS.index(level) > _LEVELS.index(best.level):
            kind = {1: "identical", 2: "alternating"}.get(period, "cycle")
            found = _pattern(kind, level, period, steps // period, window[-period:], steps)
            best = found or best
    return best


def _repeats_within(block):
    """Whether a block is a shorter one, several times: then that is the cycle."""
    shorter = [n for n in range(1, len(block) // 2 + 1) if len(block) % n == 0]
    return any(block == block[:n] * (len(block) // n) for n in shorter)


def _needed(rule, period):
    """How many steps a cycle needs: at least so many, and so many whole cycles."""
    least, cycles = rule
    return max(least, math.ceil(cycles * period))


def _level(count, warn, critical):
    if count >= critical:
        return CRITICAL
    return WARN if count >= warn else NONE


def _pattern(kind, level, period, repeats, steps, length):
    if level == NONE:
        return None
    signatures = tuple(_hash("|".join(str(part) for part in step.outcome)) for step in steps)
    if kind in ("no_progress", "rate", "similar"):
        signatures = tuple(sorted({step.action for step in steps}))
    names = [step.action for step in steps]
    if kind in ("no_progress", "rate"):
        names = sorted(set(names))
    return Pattern(kind, level, period, repeats, length, tuple(names), signatures)


def _patient(steps, period):
    """Whether these repeats may well be meant.

    That is so of polling (by the words in the action's name), of steps of which neither input nor
    output is known, of steps that differ in their ids (one item after another), and of one step
    whose waits grow: retries with back-off.
    """
    if all(step.bare for step in steps) or all(_polls(step.action) for step in steps):
        return True
    exact = {}
    for step in steps:
        exact.setdefault(step.outcome, set()).add(step.exact)
    if any(len(forms) > 1 for forms in exact.values()):
        return True
    return period == 1 and _backs_off([step.at for step in steps])


def _polls(action):
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", action).lower()
    return not _POLLING.isdisjoint(re.split(r"[^a-z]+", words))


def _backs_off(times):
    """Whether the waits grow as back-off does, with its jitter of 25 %.

    Of waits that double, the second is then at least 1.2 times the first, and no wait is shorter
    than three quarters of the one before; of more waits the last is at least 1.5 times the first.
    """
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    growth = 1.2 if len(waits) == 2 else 1.5
    if len(waits) < 2 or waits[-1] < 1.0 or waits[-1] < growth * waits[0]:
        return False
    return all(later >= 0.75 * earlier for earlier, later in zip(waits, waits[1:]))


def _since_progress(window):
    """The steps from the last one on whose progress value was the greatest so far."""
    start, greatest = 0, None
    for n, step in enumerate(window):
        if step.progress is None:
            continue
        if greatest is not None and step.progress > greatest:
            start = n
        greatest = step.progress if greatest is None else max(greatest, step.progress)
    return window[start:]


# What belongs to one call and says nothing about what was asked.
_OF_THE_CALL = _words(
    "attempt attempts call_id conversation_id correlation_id created_at execution_id explanation"
    " idempotency_key iteration message_id nonce now rationale reasoning request_id retries retry"
    " retry_count run_id seq sequence session_id span_id thought thoughts time timestamp"
    " tool_call_id trace_id ts updated_at"
)
_OF_THE_ANSWER = _OF_THE_CALL | _words(
    "duration duration_ms duration_seconds elapsed elapsed_ms latency latency_ms took"
)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:z|[+-]\d\d:?\d\d)?(?![0-9a-z])"
)
_ID = re.compile(
    r"(?<![0-9a-z])(?:"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}"
    r"|(?=[a-z]*[0-9])(?=[0-9]*[a-z])[0-9a-z]{12,}"
    r"|[0-9]{9,}"
    r")(?![0-9a-z])"
)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_WORD = re.compile(r"[^\W_]+")
_LARGEST = 10**9
# Of scripts that set no spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff\uac00-\ud7af]+")
_STOP_WORDS = _words(
    "a about am an and any are as at be been but by can could did do does find for from get give"
    " had has have how i in is it its just let me my now of on or our out please s shall should"
    " show so some t tell that the their them then there these they this those to up us want was"
    " we were what when where which who why will with would you your"
)
_READ_CHARACTERS = 20_000
# Words kept of a text. Broder (1997): the share of common ones among the least hashes of the union
# estimates Jaccard's index; its error is about 1 / sqrt(32), and texts up to 32 words are exact.
_SKETCH = 32


def step_of(at, action, given=None, output=None, progress=None, task=None):
    """The Step in which the agent did `action` with `given` and got `output`.

    :param given: a JSON value; output: a JSON value, or None when it is not known.
    """
    signature = _form(given, _as_signature, _OF_THE_CALL)
    form, output_shape, output_words = None, None, ()
    if output is not None:
        form = _form(output, _as_signature, _OF_THE_ANSWER)
        output_shape = _form(output, _as_shape, _OF_THE_ANSWER)
        output_words = _sketch(output, _OF_THE_ANSWER)
        if _found_nothing(output):
            # Page after page of nothing: then other numbers in the input are no news.
            form = output_shape = _hash("nothing")
            signature = _form(given, _without_numbers, _OF_THE_CALL)
    return Step(
        at=at,
        action=action,
        signature=signature,
        exact=_form(given, _as_it_is, _OF_THE_CALL),
        shape=_form(given, _as_shape, _OF_THE_CALL),
        words=_sketch(given, _OF_THE_CALL),
        output=form,
        output_shape=output_shape,
        output_words=output_words,
        progress=progress,
        task=task,
        bare=output is None and given in (None, {}, [], ""),
    )


def _form(value, leaf, dropped):
    return _hash(json.dumps(_canonical(value, leaf, dropped), separators=(",", ":")))


def _canonical(value, leaf, dropped, depth=0):
    """`value` with every text and number as `leaf` has it, in an order of its own."""
    if isinstance(value, dict):
        if depth >= jsontext.DEEPEST:
            return "(deep)"
        kept = [
            [_folded(str(key)), _canonical(item, leaf, dropped, depth + 1)]
            for key, item in value.items()
            if _key(key) not in dropped
        ]
        return ["object", sorted(kept, key=json.dumps)]
    if isinstance(value, (list, tuple)):
        if depth >= jsontext.DEEPEST:
            return "(deep)"
        return [_canonical(item, leaf, dropped, depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "t:" + leaf(_folded(value))
    return "n:" + leaf(value)


def _as_it_is(leaf):
    return leaf if isinstance(leaf, str) else _number(leaf)


def _as_signature(leaf):
    if not isinstance(leaf, str):
        return "#" if abs(leaf) >= _LARGEST else _number(leaf)
    return _ID.sub("<id>", _TIME.sub("<time>", leaf))


def _without_numbers(leaf):
    if not isinstance(leaf, str) or leaf.isdigit():
        return "#"
    return _as_signature(leaf)


def _as_shape(leaf):
    told = _as_signature(leaf)
    if not isinstance(leaf, str) or not _is_text(leaf):
        return told
    return "<text %s>" % " ".join(_NUMBER.findall(told))


def _number(number):
    if isinstance(number, float) and math.isfinite(number) and number.is_integer():
        number = int(number)
    # Hexadecimal: Python refuses the decimal digits of a very large integer.
    return format(number, "x") if isinstance(number, int) else repr(number)


def _key(key):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(key)).lower().replace("-", "_")


def _folded(text):
    """Without differences of case, of width and of white space; very long text by its hash."""
    rest = text[_READ_CHARACTERS:]
    text = unicodedata.normalize("NFKC", text[:_READ_CHARACTERS]).casefold()
    text = " ".join(text.split())
    return "%s %s" % (text, _hash(rest)) if rest else text


def _is_text(folded):
    return " " in folded or _UNSPACED.search(folded) is not None


def _sketch(value, dropped):
    """The _SKETCH least hashes of the words in the free texts of `value`, in order."""
    words = set()
    _canonical(value, lambda leaf: _collect(leaf, words), dropped)
    return tuple(sorted(_hash(word)[:8] for word in words)[:_SKETCH])


def _collect(leaf, words):
    if isinstance(leaf, str) and _is_text(leaf):
        for word in set(_WORD.findall(_ID.sub(" ", _TIME.sub(" ", leaf)))):
            if _UNSPACED.search(word):
                words.update(word[n:n + 2] for n in range(max(1, len(word) - 1)))
            elif word not in _STOP_WORDS:
                words.add(_stem(word))
    return ""


def _stem(word):
    for ending in ("ing", "ed", "s"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _jaccard(one, other):
    union = sorted(set(one) | set(other))[:_SKETCH]
    if not union:
        return 1.0
    return len(set(union) & set(one) & set(other)) / len(union)


def _found_nothing(output):
    """Whether the answer is about an empty list: it holds one, and none that is not empty."""
    level, empty = [output], False
    for _ in range(jsontext.DEEPEST):
        following = []
        for value in level:
            if isinstance(value, (list, tuple)):
                if value:
                    return False
                empty = True
            elif isinstance(value, dict):
                following.extend(value.values())
        if not following:
            return empty
        level = following
    return False


def _hash(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def check(store, now, limits, agent_id, action, given=None, output=None, progress=None, task=None,
          redactor=None):
    """Records a step of the agent and says what its window shows.

    :param store: a Tolerant datastore; without one the step stands alone and shows nothing.
    :returns: {looping, level, pattern, patterns, paused, pause, reason, steps, recorded}. `pattern`
        is the worst of `patterns`; a critical one pauses the agent.
    """
    checked("agent_id", agent_id)
    checked("action", action)
    if task is not None:
        checked("task_id", task)
    step = step_of(now, action, given, output, _progress(progress), task)
    name = _prefix("step", agent_id) + time_key(now)
    recorded = store.put(name, _stored(step), ttl=limits.time_window_seconds + 60)
    facts = _facts(store, agent_id)
    paused, ended = pauses.state_of(store, agent_id, now)
    probing = None if paused is None else pauses.probing_since(store, agent_id, paused, now)
    start = max(now - limits.time_window_seconds, _reset_at(facts), ended, probing or 0.0)
    window = _window(store, agent_id, task, start, name, step)
    found = [_shown(agent_id, pattern) for pattern in detect(window, limits)]
    worst = found[0] if found else None
    reason = None if worst is None else _reason(worst)
    for pattern in found:
        _note(store, agent_id, now, pattern, [fact for fact in facts if fact["at"] > start])
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
        "pause": pauses.told(paused) if held else None,
        "reason": reason or (paused["reason"] if held else None),
        "steps": len(window),
        "recorded": bool(recorded),
    }


def told(value):
    """The JSON object or list that a text holds, else `value` as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return jsontext.loads(value)
        except ValueError:
            pass
    return value


def patterns(store, agent_id):
    """The patterns found for the agent, the newest first: each with when and how often."""
    checked("agent_id", agent_id)
    found = {}
    for fact in _facts(store, agent_id):
        if fact["event"] != "pattern":
            continue
        known = found.setdefault(fact["pattern_id"], {"shown": fact, "seen": []})
        known["seen"].append(fact)
    listed = []
    for known in found.values():
        newest, seen = known["shown"], known["seen"]
        shown = {name: newest[name] for name in _SHOWN}
        levels = Counter(fact["level"] for fact in seen)
        # One episode leaves a fact for its warning and one for the loop.
        shown["occurrences"] = max(levels.values())
        shown["level"] = max(levels, key=_LEVELS.index)
        shown.update(first_seen=seen[-1]["at"], last_seen=newest["at"])
        listed.append(shown)
    return listed


def reset(store, agent_id, now):
    """Forgets the agent's window and ends a pause that the detector set.

    Returns (whether that could be recorded, whether there was such a pause). The patterns stay.
    """
    checked("agent_id", agent_id)
    value = {"v": FORMAT, "event": "reset"}
    name = _prefix("loop", agent_id) + time_key(now)
    recorded = store.put(name, json.dumps(value), KEPT_SECONDS)
    return bool(recorded), bool(pauses.resume(store, agent_id, now, by=pauses.DETECTOR))


_SHOWN = ("pattern_id", "kind", "level", "period", "repeats", "steps", "actions", "interrupted")
_MOST_ACTIONS = 20


def _shown(agent_id, pattern):
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
        "actions": list(pattern.actions[:_MOST_ACTIONS]),
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


def _note(store, agent_id, now, pattern, since):
    """Writes the pattern down, once for each level that it reaches within a window."""
    for fact in since:
        same = fact["event"] == "pattern" and fact["pattern_id"] == pattern["pattern_id"]
        if same and _LEVELS.index(fact["level"]) >= _LEVELS.index(pattern["level"]):
            return
    value = json.dumps(dict(pattern, v=FORMAT, event="pattern"), separators=(",", ":"))
    store.put(_prefix("loop", agent_id) + time_key(now), value, KEPT_SECONDS)


def _progress(value):
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        way_out = "Give how far it got, as a number that grows"
        raise Refused("progress", value, "is no number", way_out)
    return number


def _window(store, agent_id, task, start, name, step):
    """The agent's steps of this task since `start`, the oldest first, with this one."""
    rows = store.list(_prefix("step", agent_id), limit=WINDOW)
    found = [_step(key, value) for key, value in reversed(rows) if key != name]
    found = [earlier for earlier in found if earlier is not None]
    return [
        earlier for earlier in found if earlier.at > start and earlier.task == task
    ][1 - WINDOW:] + [step]


def _stored(step):
    # What is not known is left out; a progress of 0 is known.
    value = {
        key: kept
        for key, kept in asdict(step).items()
        if kept is not None and kept is not False and kept != ()
    }
    del value["at"]
    return json.dumps(dict(value, v=FORMAT), separators=(",", ":"))


def _step(name, text):
    at = time_of(name)
    try:
        value = json.loads(text)
        if at is None or value.pop("v") != FORMAT:
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
        return None


def _facts(store, agent_id):
    """The agent's resets and patterns, newest first."""
    found = []
    for name, text in store.list(_prefix("loop", agent_id)):
        at = time_of(name)
        try:
            value = json.loads(text)
            known = value["v"] == FORMAT and value["event"] in ("pattern", "reset")
            if at is None or not known:
                continue
            if value["event"] == "pattern":
                value = dict({shown: value[shown] for shown in _SHOWN}, event="pattern")
                if value["level"] not in _LEVELS:
                    continue
            found.append(dict(value, at=at))
        except (ValueError, KeyError, TypeError):
            # Another version of the pack, or a hand, wrote it.
            continue
    return found


def _reset_at(facts):
    return max((fact["at"] for fact in facts if fact["event"] == "reset"), default=0.0)


def _prefix(kind, agent_id):
    return "%s%s.%s." % (PREFIX, kind, key_part(agent_id))
