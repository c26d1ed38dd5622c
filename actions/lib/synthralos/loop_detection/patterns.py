"""Whether an agent repeats itself: pure functions of its last steps.

An agent's outputs show whether it makes progress: a new output, a new input or a progress value
that grows is evidence against a loop.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Optional

from synthralos.loop_detection.signature import Outcome, Step, jaccard, short_hash, word_set

if TYPE_CHECKING:
    from synthralos.loop_detection.detector import LoopDetectionConfig

# How many steps, and how many whole cycles, a cycle needs.
Rule = tuple[int, float]
WINDOW_SIZE = 100
LEVELS = NONE, WARN, CRITICAL = ("none", "warn", "critical")


@dataclass(frozen=True)
class Pattern:
    """A pattern that a detector has found.

    :ivar kind: identical, alternating, cycle, similar, no_progress or rate.
    :ivar period: steps after which it starts again; 1 for kinds without a period.
    :ivar repeats: how often it occurred.
    :ivar steps: how many steps that took.
    :ivar actions: the names of the actions in it, in order for a cycle.
    :ivar signatures: identify it when it occurs again.
    :ivar interrupted: whether other steps lie in between.
    """

    kind: str
    level: str
    period: int
    repeats: int
    steps: int
    actions: tuple[str, ...]
    signatures: tuple[str, ...]
    interrupted: bool = False


# Numbers of (steps, whole cycles): when a person should look (warn), when it is a loop (critical).
# Cycles: OpenHands' StuckDetector nudges at 3 identical steps, is stuck at more than 3, and at 6
# alternating ones; that is 3 whole cycles, and 2 and a half for the warning.
# Patient: OpenClaw warns at 10 and stops at 20 where a repeat may be intended.
# Similar: weaker evidence than identical steps, so 2 more than for those.
_CYCLE_WARN, _CYCLE_CRITICAL = (3, 2.5), (4, 3)
_INTERRUPTED_WARN, _INTERRUPTED_CRITICAL = (4, 3), (5, 4)
_PATIENT_WARN, _PATIENT_CRITICAL = (10, 4), (20, 6)
_SIMILAR = (4, 6)
_STALE = (10, 20)
# The similarity of two steps that differ only in their words and have no word in common.
_SAME_ACTION_WEIGHT = 0.6
# The share of an interrupted cycle's steps that may be other steps.
_MAX_INTERRUPTIONS = 0.2
# The share of the window's steps that must be new for a busy agent to be allowed to continue.
_MIN_NEW = 0.1
_WARN_RATIO = 0.8
_WAITING = word_set("await delay pause sleep wait waiting")
_POLLING = _WAITING | word_set("check heartbeat monitor ping poll polling status watch")


def detect(window: Sequence[Step], limits: "LoopDetectionConfig") -> list[Pattern]:
    """Return the patterns in `window`, worst first.

    :param window: of an agent and task, oldest first.
    """
    window = _after_last_progress(list(window)[-WINDOW_SIZE:])
    results = [detector(window, limits) for detector in DETECTORS]
    patterns = [pattern for pattern in results if pattern is not None]
    return sorted(patterns, key=lambda pattern: -LEVELS.index(pattern.level))


def cycle(window: Sequence[Step], limits: "LoopDetectionConfig") -> Optional[Pattern]:
    """The same steps with the same outcomes, repeatedly: every period starting at 1.

    The shortest period wins: for steps that are all equal that is 1.
    """
    return _cycle(window, limits, _CYCLE_WARN, _CYCLE_CRITICAL)


def interrupted_cycle(window: Sequence[Step], limits: "LoopDetectionConfig") -> Optional[Pattern]:
    """A cycle with other steps in between, each of which occurred only once.

    At most _MAX_INTERRUPTIONS of all steps may be such, and it needs one repeat more than an
    uninterrupted cycle. If at least every other round did something new, the rounds are a batch
    that handles its items in sequence.
    """
    counts = Counter(step.outcome for step in window)
    repeated_indices = [n for n, step in enumerate(window) if counts[step.outcome] > 1]
    if (
        len(repeated_indices) == len(window) or
        not repeated_indices or
        repeated_indices[-1] != len(window) - 1
    ):
        return None
    pattern = _cycle(
        [window[n] for n in repeated_indices], limits, _INTERRUPTED_WARN, _INTERRUPTED_CRITICAL
    )
    if pattern is None:
        return None
    span = len(window) - repeated_indices[-pattern.steps]
    if span - pattern.steps > _MAX_INTERRUPTIONS * span or span == pattern.steps:
        return None
    interruptions = [step for step in window[-span:] if counts[step.outcome] == 1]
    if 2 * sum(_is_novel(step, interruptions, limits) for step in interruptions) >= pattern.repeats:
        return None
    return replace(pattern, interrupted=True)


def similar(window: Sequence[Step], limits: "LoopDetectionConfig") -> Optional[Pattern]:
    """Steps that ask the same in other words, and get the same output or nothing new.

    Counted back from the newest step to the last evidence of progress; other steps may lie between
    as long as they are not more. Steps that are all identical are left to `cycle`.
    """
    if not window or window[-1].bare:
        return None
    newest, other_count = window[-1], 0
    members: list[Step] = []
    for n in range(len(window) - 1, -1, -1):
        if similarity(newest, window[n]) >= limits.similarity_threshold and _has_same_output(
            newest, window[n], limits
        ):
            members.append(window[n])
        else:
            other_count += 1
            if other_count > len(members) or _is_new_output(window, n, limits):
                break
    if len({step.signature for step in members}) < 2:
        return None
    members.reverse()
    is_weak = newest.output is None or _is_expected_repeat(members, 1)
    level = _level(len(members), *(_STALE if is_weak else _SIMILAR))
    return _pattern("similar", level, 1, len(members), members[-1:], len(members))


def no_progress(window: Sequence[Step], limits: "LoopDetectionConfig") -> Optional[Pattern]:
    """Only steps that occurred before, with the same outcome as before, in any order.

    The non-contiguous case of a cycle. Steps without input and output count neither way.
    """
    seen: set[Outcome] = set()
    stale: list[Step] = []
    for step in window:
        if step.bare:
            continue
        stale = stale + [step] if step.outcome in seen else []
        seen.add(step.outcome)
    level = _level(len(stale), *_STALE)
    distinct = {step.outcome: step for step in stale}
    return _pattern("no_progress", level, 1, len(stale), list(distinct.values()), len(stale))


def rate(window: Sequence[Step], limits: "LoopDetectionConfig") -> Optional[Pattern]:
    """`max_iterations` steps within the time window, of which hardly any was new.

    originals: more than max_iterations records in the last 60 s, whatever they are. Here the
    configured window, and a share of more than _MIN_NEW new steps lets a busy agent continue.
    """
    new = len({step.outcome for step in window})
    if not window or new > _MIN_NEW * len(window):
        return None
    level = _level(
        len(window), math.ceil(_WARN_RATIO * limits.max_iterations), limits.max_iterations
    )
    distinct = {step.outcome: step for step in window}
    return _pattern("rate", level, 1, len(window), list(distinct.values()), len(window))


DETECTORS = (cycle, interrupted_cycle, similar, no_progress, rate)


def similarity(first: Step, second: Step) -> float:
    """0 to 1: 0.6 for the same action on the same objects, and 0.4 times the share of common words.

    The weights are the originals' (0.6 same type, 0.4 ratio of the messages). The share of common
    words is Jaccard's index of the two sets, estimated from their sketches. Identifiers, such as
    ids and paths, and numbers count as objects, so that work on a sequence of files is never
    similar.
    """
    if first.action != second.action or first.shape != second.shape:
        return 0.0
    return _SAME_ACTION_WEIGHT + (1 - _SAME_ACTION_WEIGHT) * jaccard(first.words, second.words)


def _has_same_output(first: Step, second: Step, limits: "LoopDetectionConfig") -> bool:
    if first.output == second.output:
        return True
    if first.output is None or second.output is None or first.output_shape != second.output_shape:
        return False
    words = jaccard(first.output_words, second.output_words)
    return _SAME_ACTION_WEIGHT + (1 - _SAME_ACTION_WEIGHT) * words >= limits.similarity_threshold


def _is_new_output(window: Sequence[Step], n: int, limits: "LoopDetectionConfig") -> bool:
    """Whether step n's action has not returned this output before within the window."""
    step = window[n]
    before = (earlier for earlier in window[:n] if earlier.action == step.action)
    return step.output is not None and not any(
        _has_same_output(step, earlier, limits) for earlier in before
    )


def _is_novel(step: Step, other_steps: Sequence[Step], limits: "LoopDetectionConfig") -> bool:
    """Whether no other step did the same action on the same objects with the same output."""
    return not any(
        (step.action, step.shape) == (other.action, other.shape) and
        _has_same_output(step, other, limits)
        for other in other_steps
        if other is not step
    )


def _cycle(
    window: Sequence[Step], limits: "LoopDetectionConfig", warn: Rule, critical: Rule
) -> Optional[Pattern]:
    best: Optional[Pattern] = None
    outcomes = [step.outcome for step in window]
    for period in range(1, min(limits.max_pattern_length, len(window) // 2) + 1):
        matching = 0
        while matching + period < len(outcomes) and (
            outcomes[-1 - matching] == outcomes[-1 - matching - period]
        ):
            matching += 1
        if not matching or _repeats_within(outcomes[-period:]):
            continue
        steps = matching + period
        warn_rule, critical_rule = warn, critical
        if _is_expected_repeat(window[-steps:], period):
            warn_rule, critical_rule = _PATIENT_WARN, _PATIENT_CRITICAL
        level = _level(
            steps, _required_steps(warn_rule, period), _required_steps(critical_rule, period)
        )
        if best is None or LEVELS.index(level) > LEVELS.index(best.level):
            kind = {1: "identical", 2: "alternating"}.get(period, "cycle")
            pattern = _pattern(kind, level, period, steps // period, window[-period:], steps)
            best = pattern or best
    return best


def _repeats_within(block: list[Outcome]) -> bool:
    """Whether the block consists of repeats of a shorter block, which is then the cycle."""
    shorter = [n for n in range(1, len(block) // 2 + 1) if len(block) % n == 0]
    return any(block == block[:n] * (len(block) // n) for n in shorter)


def _required_steps(rule: Rule, period: int) -> int:
    """How many steps a cycle needs: `rule` is (minimum of steps, minimum of whole cycles)."""
    min_steps, cycles = rule
    return max(min_steps, math.ceil(cycles * period))


def _level(count: int, warn: int, critical: int) -> str:
    if count >= critical:
        return CRITICAL
    return WARN if count >= warn else NONE


def _pattern(
    kind: str, level: str, period: int, repeats: int, steps: Sequence[Step], length: int
) -> Optional[Pattern]:
    if level == NONE:
        return None
    signatures = tuple(short_hash("|".join(str(part) for part in step.outcome)) for step in steps)
    if kind in ("no_progress", "rate", "similar"):
        signatures = tuple(sorted({step.action for step in steps}))
    names = [step.action for step in steps]
    if kind in ("no_progress", "rate"):
        names = sorted(set(names))
    return Pattern(kind, level, period, repeats, length, tuple(names), signatures)


def _is_expected_repeat(steps: Sequence[Step], period: int) -> bool:
    """Whether these repeats may be intended.

    That applies to polling (by the words in the actions' names: all poll, or one waits), to steps
    whose outputs say that the agent waits, to steps without input and output, to steps that differ
    in their timestamps (a sequence of items), and to a step whose waits grow: retries with
    back-off.
    """
    if all(step.bare for step in steps) or _is_polling({step.action for step in steps}):
        return True
    if _is_waiting(steps):
        return True
    exact: dict[Outcome, set[str]] = {}
    for step in steps:
        exact.setdefault(step.outcome, set()).add(step.exact)
    if any(len(forms) > 1 for forms in exact.values()):
        return True
    return period == 1 and _backs_off([step.at for step in steps])


def _is_waiting(steps: Sequence[Step]) -> bool:
    """Whether each step polls or says that it waits, and still waits for the same.

    An output with another id each time is no waiting: the same request created something again.
    """
    waits: dict[Outcome, set[Optional[str]]] = {}
    for step in steps:
        if step.waiting is None and not _is_polling({step.action}):
            return False
        waits.setdefault(step.outcome, set()).add(step.waiting)
    return all(len(forms) == 1 for forms in waits.values())


def _is_polling(actions: Iterable[str]) -> bool:
    name_words = [
        set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", action).lower()))
        for action in actions
    ]
    return all(words & _POLLING for words in name_words) or any(
        words & _WAITING for words in name_words
    )


def _backs_off(times: list[float]) -> bool:
    """Whether the waits grow like those of back-off with a jitter of 25 %.

    If waits double, the second is then at least 1.2 times the first, and no wait is shorter than
    three quarters of the one before; with more waits the last is at least 1.5 times the first.
    """
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    growth = 1.2 if len(waits) == 2 else 1.5
    if len(waits) < 2 or waits[-1] < 1.0 or waits[-1] < growth * waits[0]:
        return False
    return all(later >= 0.75 * earlier for earlier, later in zip(waits, waits[1:]))


def _after_last_progress(window: list[Step]) -> list[Step]:
    """The steps since the last one whose progress value exceeded all earlier ones."""
    start = 0
    greatest: Optional[float] = None
    for n, step in enumerate(window):
        if step.progress is None:
            continue
        if greatest is not None and step.progress > greatest:
            start = n
        greatest = step.progress if greatest is None else max(greatest, step.progress)
    return window[start:]
