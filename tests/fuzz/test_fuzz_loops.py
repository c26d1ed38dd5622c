"""Any steps, stored facts and configuration: a verdict, always the same, and no exception.

FUZZ=1 tries 10,000 examples of each, else 500.
"""
import json
import os
from dataclasses import replace

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.loop_detection import detector
from synthralos.loop_detection.detector import LoopDetectionConfig
from synthralos.storage import pauses
from synthralos.storage.datastore import PREFIX, BestEffortDatastore

EXAMPLES = 10_000 if os.environ.get("FUZZ") else 500
START = 1_700_000_000.0
fuzzed = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)

TEXT = st.text(st.characters(), max_size=8) | st.sampled_from([
    "weather in Paris", "what is the weather in Paris", "0c1f6a83-5c7d-4d6c-9d9b-0a4f0f6d3f11",
    "2023-11-14T22:13:20Z", "{{ foo }} <% ctx() %>", "\ud800", "\x00", "1" * 50, "a" * 500,
    "1f3870be274f6c49b3e31a0c6728957f", "\u6771\u4eac\u306e\u5929\u6c17", "\u0661" * 20,
])
KEYS = st.sampled_from(["q", "page", "request_id", "Thought", "errors", "rows"]) | TEXT
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
# Two levels: drawing deeper ones takes longer than what is tested.
FLAT = LEAF | st.lists(LEAF, max_size=2) | st.dictionaries(KEYS, LEAF, max_size=2)
JSON = FLAT | st.lists(FLAT, max_size=2) | st.dictionaries(KEYS, FLAT, max_size=2)
STEP = st.tuples(
    st.sampled_from(["search", "read", "getStatus", "write", "sleep"]),
    st.none() | st.dictionaries(KEYS, FLAT, max_size=2),
    st.none() | JSON,
    st.none() | st.floats(0, 100),
)
# A few steps, each of them again and again: what is drawn anew each time never loops.
RUN = st.lists(STEP, min_size=1, max_size=3).flatmap(
    lambda few: st.lists(st.tuples(st.sampled_from(few), st.floats(0, 100)), max_size=12)
)
LIMITS = st.builds(
    LoopDetectionConfig,
    max_iterations=st.integers(5, 100),
    similarity_threshold=st.floats(0.6, 1.0),
    time_window_seconds=st.integers(10, 3600),
    max_pattern_length=st.integers(1, 33),
    enable_auto_pause=st.booleans(),
)


class Rows:
    """A datastore in memory that keeps everything."""

    def __init__(self):
        self.rows = {}

    def get(self, name, decrypt=False):
        return self.rows.get(name)

    def put(self, name, value, ttl=None):
        value.encode("utf-8")
        assert ttl is None or (isinstance(ttl, int) and ttl > 0)
        self.rows[name] = value

    def list(self, prefix, limit=100, offset=0):
        rows = [row for row in self.rows.items() if row[0].startswith(prefix)]
        return sorted(rows, reverse=True)[offset:offset + limit]

    def delete(self, name):
        return self.rows.pop(name, None) is not None


def over_and_over(block, times, every):
    window = [detector.build_step(START, *step) for step in block] * times
    return [replace(step, at=START + n * every) for n, step in enumerate(window)]


@fuzzed
@hypothesis.given(st.lists(STEP, max_size=4), st.integers(1, 25), LIMITS, st.floats(0, 30))
def test_any_steps_over_and_over(block, times, limits, every):
    window = over_and_over(block, times, every)
    patterns = detector.detect(window, limits)
    assert patterns == detector.detect(over_and_over(block, times, every), limits)
    for step in window[:len(block)]:
        stored = detector._encode_step(step)
        assert len(stored) < 2000
        read = detector._decode_step("x.%013d-1" % int(step.at * 1000), stored)
        assert (read.outcome, read.words, read.progress) == (
            step.outcome, step.words, step.progress
        )
    for pattern in patterns:
        payload = detector._pattern_payload("bot", pattern)
        assert json.loads(json.dumps(payload)) == payload
        assert detector._reason(payload)
        assert pattern.level in ("warn", "critical") and 0 < pattern.repeats <= pattern.steps


@fuzzed
@hypothesis.given(RUN, LIMITS, st.sampled_from([None, "t1"]))
def test_any_run_through_the_datastore(steps, limits, task):
    """The verdict is the one of the same steps in memory, as long as nothing has paused the agent.
    """
    store, now, all_steps = BestEffortDatastore(Rows()), START, []
    for step, wait in steps:
        # Facts of one microsecond have no order.
        now += wait + 0.001
        all_steps.append(detector.build_step(now, *step))
        result = detector.record_step(store, now, limits, "bot", *step, task=task)
        assert result["recorded"] and json.dumps(result)
        window = [
            earlier for earlier in all_steps
            if int(earlier.at * 1000) / 1000.0 > now - limits.time_window_seconds
        ]
        assert result["steps"] == len(window)
        worst = detector.detect(window, limits)[:1]
        assert result["level"] == (worst[0].level if worst else "none")
        assert result["paused"] == (result["level"] == "critical" and limits.enable_auto_pause)
        if result["paused"]:
            break
    listing = detector.patterns(store, "bot")
    assert len({row["pattern_id"] for row in listing}) == len(listing)


@fuzzed
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(["step", "loop", "pause", "claim"]), JSON), max_size=8)
)
def test_whatever_stands_in_the_datastore(rows):
    stored = Rows()
    for n, (kind, value) in enumerate(rows):
        if isinstance(value, dict):
            value = dict({"v": 1, "event": "pause", "by": "x", "until": START * 2}, **value)
        agent = {"claim": "pause~3Abot", "step": "bot.~"}.get(kind, "bot")
        stored.rows["%s%s.%s.%013d-%d" % (PREFIX, kind, agent, START * 1000, n)] = json.dumps(value)
    store = BestEffortDatastore(stored)
    detector.record_step(store, START + 1, LoopDetectionConfig(), "bot", "search", {"q": 1}, "x")
    detector.patterns(store, "bot")
    pauses.listing(store, START + 1)
    detector.reset(store, "bot", START + 2)


@fuzzed
@hypothesis.given(JSON | st.dictionaries(st.sampled_from(list(vars(LoopDetectionConfig()))), JSON))
def test_any_configuration_is_taken_or_refused(entry):
    try:
        limits = LoopDetectionConfig.from_config(entry)
    except InvalidInput as error:
        assert error.field.startswith("loop_detection") and error.hint
        return
    assert detector.detect([detector.build_step(START, "a")] * 30, limits)


PAUSES = st.lists(
    st.tuples(
        st.sampled_from(["pause", "resume"]),
        st.sampled_from([pauses.PERSON, pauses.DETECTOR, pauses.ANYBODY]),
        st.integers(60, 600),
        st.none() | st.integers(10, 3600),
        st.floats(0.001, 300),
    ),
    max_size=12,
)


@fuzzed
@hypothesis.given(PAUSES)
def test_pauses_are_what_their_facts_say(steps):
    """Against a model that keeps one pause per party."""
    store, now, model = BestEffortDatastore(Rows()), START, {}
    for event, by, seconds, probe, wait in steps:
        now += wait
        model = {party: until for party, until in model.items() if until > now}
        if event == "resume":
            ended = pauses.resume(store, "bot", now, by)
            assert ended == (bool(model) if by == pauses.ANYBODY else by in model)
            model = {} if by == pauses.ANYBODY else {p: u for p, u in model.items() if p != by}
        elif by != pauses.ANYBODY:
            pauses.pause(store, "bot", now, "why", seconds, by, probe)
            model[by] = now + seconds
        paused = pauses.pause_of(store, "bot", now)
        assert (paused is not None) == bool(model)
        if model:
            assert abs(paused["until"] - max(model.values())) < 0.01
