"""Whether an agent runs in circles: pure functions of its last steps.

What an agent got back says whether it gets on: a new output, a new input or a progress value that
grows is evidence against a loop.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace

from synthralos.loop_detection.signature import jaccard, short_hash, word_set

WINDOW_SIZE = 100
LEVELS = NONE, WARN, CRITICAL = ("none", "warn", "critical")


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
# What two steps that differ in nothing but words have in common without one common word.
_REST = 0.6
# Of the steps of an interrupted cycle, the part that may be others.
_NOISE = 0.2
# Of the steps within the window, the part that has to be new for a busy agent to be let go on.
_NEW = 0.1
_NEARLY = 0.8
_WAITING = word_set("await delay pause sleep wait waiting")
_POLLING = _WAITING | word_set("check heartbeat monitor ping poll polling status watch")


def detect(window, limits):
    """The patterns in `window`, the worst first.

    :param window: Steps of one agent and task, the oldest first.
    :param limits: loops.LoopDetection.
    """
    window = _after_last_progress(list(window)[-WINDOW_SIZE:])
    found = [detector(window, limits) for detector in DETECTORS]
    found = [pattern for pattern in found if pattern is not None]
    return sorted(found, key=lambda pattern: -LEVELS.index(pattern.level))


def cycle(window, limits):
    """The same steps with the same outcome over and over: every period from 1 on.

    The shortest period wins: of steps that are all alike that is 1.
    """
    return _cycle(window, limits, _CYCLE_WARN, _CYCLE_CRITICAL)


def interrupted_cycle(window, limits):
    """A cycle with other steps in between, each of which came once, and at most _NOISE of all.

    One repeat more is asked for than of a whole cycle. Where a step of every other round, or of
    more of them, did something new, the rounds are a batch: one item after another.
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
    others = [step for step in window[-span:] if often[step.outcome] == 1]
    if 2 * sum(_is_novel(step, others, limits) for step in others) >= found.repeats:
        return None
    return replace(found, interrupted=True)


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
            if others > len(members) or _is_new_output(window, n, limits):
                break
    if len({step.signature for step in members}) < 2:
        return None
    members.reverse()
    patient = newest.output is None or _is_expected_repeat(members, 1)
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
    return _REST + (1 - _REST) * jaccard(one.words, other.words)


def _same_answer(one, other, limits):
    if one.output == other.output:
        return True
    if one.output is None or other.output is None or one.output_shape != other.output_shape:
        return False
    words = jaccard(one.output_words, other.output_words)
    return _REST + (1 - _REST) * words >= limits.similarity_threshold


def _is_new_output(window, n, limits):
    """Whether the output of step n is one that its action had not given before in the window."""
    step = window[n]
    before = (earlier for earlier in window[:n] if earlier.action == step.action)
    return step.output is not None and not any(
        _same_answer(step, earlier, limits) for earlier in before
    )


def _is_novel(step, others, limits):
    """Whether none of the others did the same action on the same things for the same answer."""
    return not any(
        (step.action, step.shape) == (other.action, other.shape) and
        _same_answer(step, other, limits)
        for other in others
        if other is not step
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
        if _is_expected_repeat(window[-steps:], period):
            least, most = _PATIENT_WARN, _PATIENT_CRITICAL
        level = _level(steps, _needed(least, period), _needed(most, period))
        if best is None or LEVELS.index(level) > LEVELS.index(best.level):
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
    signatures = tuple(short_hash("|".join(str(part) for part in step.outcome)) for step in steps)
    if kind in ("no_progress", "rate", "similar"):
        signatures = tuple(sorted({step.action for step in steps}))
    names = [step.action for step in steps]
    if kind in ("no_progress", "rate"):
        names = sorted(set(names))
    return Pattern(kind, level, period, repeats, length, tuple(names), signatures)


def _is_expected_repeat(steps, period):
    """Whether these repeats may well be meant.

    That is so of polling (by the words in the actions' names: all poll, or one waits), of steps of
    which neither input nor output is known, of steps that differ in their ids (one item after
    another), and of one step whose waits grow: retries with back-off.
    """
    if all(step.bare for step in steps) or _poll({step.action for step in steps}):
        return True
    exact = {}
    for step in steps:
        exact.setdefault(step.outcome, set()).add(step.exact)
    if any(len(forms) > 1 for forms in exact.values()):
        return True
    return period == 1 and _backs_off([step.at for step in steps])


def _poll(actions):
    words = [
        set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", action).lower()))
        for action in actions
    ]
    return all(told & _POLLING for told in words) or any(told & _WAITING for told in words)


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


def _after_last_progress(window):
    """The steps from the last one on whose progress value was the greatest so far."""
    start, greatest = 0, None
    for n, step in enumerate(window):
        if step.progress is None:
            continue
        if greatest is not None and step.progress > greatest:
            start = n
        greatest = step.progress if greatest is None else max(greatest, step.progress)
    return window[start:]
