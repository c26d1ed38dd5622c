"""Every JSON state comes back as it was; damage is caught, or leaves the state as it was.

500 examples each; 10,000 and other ones each time with FUZZ=1.
"""
import json
import os

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from unit.conftest import Clock, MemoryDatastore

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput
from synthralos.storage import snapshots, state_codec, versions
from synthralos.storage.datastore import BestEffortDatastore

FUZZ = os.environ.get("FUZZ") == "1"
fuzzed = settings(
    max_examples=10000 if FUZZ else 500, derandomize=not FUZZ, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)
TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["", "\x00", "\ud800", "\udfff", "\u2028", "{{ x }}", "<% ctx() %>", "base64:%%%", "__class__"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | TEXTS |
    st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=5) | st.dictionaries(TEXTS, below, max_size=5),
    max_leaves=25)


@st.composite
def states(draw):
    """A JSON value, also a deep one, as it is after a way through JSON."""
    value = draw(VALUES)
    # Two surrogates that only together make a character are that character in JSON.
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.sampled_from([0, 0, 0, 10, 90]))):
        value = {"": value} if draw(st.booleans()) else [value]
    return value


NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,30}\Z")


def exactly(value):
    """What tells apart 1, 1.0 and true, 0.0 and -0.0."""
    return json.dumps(value, sort_keys=True)


def world():
    clock = Clock()
    datastore = MemoryDatastore(clock)
    return clock, datastore, BestEffortDatastore(datastore)


@fuzzed
@hypothesis.given(states(), NAMES, NAMES, st.booleans())
def test_every_json_state_comes_back(state, agent, task, compress):
    clock, _, store = world()
    config = snapshots.SnapshotConfig(compression_enabled=compress)
    assert not bounded_json.exceeds_depth(state)
    head = snapshots.create(store, config, clock(), agent, task, state)
    snapshot = snapshots.get(store, config, clock(), head["snapshot_id"], agent, task)
    assert exactly(snapshot["state"]) == exactly(state)
    (listed_head,) = snapshots.list_snapshots(store, config, clock(), agent, task)
    assert listed_head["checksum"] == state_codec.checksum(
        state_codec.canonical_json("state", state)
    )
    snapshots.delete(store, head["snapshot_id"])
    assert snapshots.list_snapshots(store, config, clock(), agent) == []


@st.composite
def damages(draw):
    """A function from a text to another."""
    kind = draw(st.sampled_from(["change", "cut", "drop", "insert", "swap", "repeat"]))
    at, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    character = draw(
        st.sampled_from("ABCxyz019+/=._- ") | st.characters(blacklist_categories=("Cs",)))
    length = draw(st.integers(1, 40))

    def damaged(text):
        start, end = sorted((int(at * len(text)), int(other * len(text))))
        if kind == "change":
            return text[:start] + character + text[start + 1:]
        if kind == "cut":
            return text[:start]
        if kind == "drop":
            return text[:start] + text[start + length:]
        if kind == "insert":
            return text[:start] + character + text[start:]
        if kind == "repeat":
            return text[:start] + text[start:start + length] * 2 + text[start + length:]
        parts = (
            text[:start],
            text[start:start + 1],
            text[start + 1:end],
            text[end:end + 1],
            text[end + 1:],
        )
        return parts[0] + parts[3] + parts[2] + parts[1] + parts[4] if start < end else text

    return damaged


@fuzzed
@hypothesis.given(states(), damages(), st.booleans())
def test_damage_is_caught_or_leaves_the_state_equal(state, damaged, compress):
    clock, datastore, store = world()
    config = snapshots.SnapshotConfig(compression_enabled=compress)
    good = snapshots.create(store, config, clock(), "agent", "task", state)["snapshot_id"]
    clock.forward(1)
    name = snapshots.create(store, config, clock(), "agent", "task", state, {"k": 1})["snapshot_id"]
    key = snapshots.state_key(name)
    datastore.put(key, damaged(datastore.get(key)))
    try:
        snapshot = snapshots.get(store, config, clock(), name)
    except InvalidInput as refused:
        assert "corrupted" in refused.reason and refused.hint.endswith(good)
    else:
        assert exactly(snapshot["state"]) == exactly(state)
        assert (snapshot["snapshot_id"], snapshot["metadata"]) == (name, {"k": 1})
        assert (snapshot["agent_id"], snapshot["task_id"]) == ("agent", "task")


@fuzzed
@hypothesis.given(states(), st.integers(0, 7), st.floats(0, 1), st.booleans())
def test_a_flipped_bit_is_caught_or_leaves_the_state_equal(state, bit, place, compress):
    text = state_codec.encode_state("state", {"state": state}, compress)
    at = min(int(place * len(text)), len(text) - 1)
    flipped = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1:]
    try:
        content = state_codec.decode_state(flipped)
    except state_codec.CorruptState:
        return
    assert exactly(content) == exactly({"state": state})


def test_every_bit_of_a_snapshot():
    state = {"model_version": "2.1.0", "parameters": {"rate": 0.001}, "steps": [1, None, "\ud800"]}
    for compress in (True, False):
        text = state_codec.encode_state("state", state, compress)
        for at in range(len(text)):
            for bit in range(8):
                flipped = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1:]
                try:
                    assert state_codec.decode_state(flipped) == state
                except state_codec.CorruptState:
                    pass


@fuzzed
@hypothesis.given(st.text(max_size=200) | st.builds(
    "1.{}.{}.{}".format, st.sampled_from(["gzip", "plain"]), st.text(max_size=5), st.text()))
def test_no_text_does_more_than_be_corrupted(text):
    for verify in (True, False):
        try:
            state_codec.decode_state(text, verify)
        except state_codec.CorruptState:
            pass


def patched(value, diff):
    """`value` with the differences applied; lists shrink from their ends."""
    changes = [(entry["path"], "set", entry["to"]) for entry in diff["changed"]]
    changes += [(entry["path"], "set", entry["value"]) for entry in diff["added"]]
    changes += [(entry["path"], "drop", None) for entry in reversed(diff["removed"])]
    whole = {"": json.loads(json.dumps(value))}
    for path, old, new in changes:
        holder, key = whole, ""
        for part in path.split("/")[1:]:
            holder = holder[key]
            part = part.replace("~1", "/").replace("~0", "~")
            key = int(part) if isinstance(holder, list) else part
        if old == "drop":
            del holder[key]
        elif isinstance(holder, list) and key == len(holder):
            holder.append(new)
        else:
            holder[key] = new
    return whole[""]


@fuzzed
@hypothesis.given(states(), states())
def test_a_difference_applied_to_the_one_gives_the_other(before, after):
    diff = versions.json_diff(before, after)
    assert exactly(patched(before, diff)) == exactly(after)
    total = len(diff["added"]) + len(diff["removed"]) + len(diff["changed"])
    assert diff["total_changes"] == total and (total == 0) == (exactly(before) == exactly(after))
    lines = versions.unified_diff(before, after, "a", "b")
    assert bool(lines) == (exactly(before) != exactly(after))


@fuzzed
@hypothesis.given(st.lists(states(), min_size=1, max_size=6), st.integers(1, 4), NAMES, NAMES)
def test_versions_come_back_under_their_numbers(recorded, most, agent, task):
    clock, _, store = world()
    config = versions.HistoryConfig(max_versions=most)
    numbers = []
    for state in recorded:
        clock.forward(1)
        head = versions.record(store, config, clock(), agent, task, state)
        numbers.append(head["version"])
    assert numbers == ["v%04d" % n for n in range(1, len(recorded) + 1)]
    heads = versions.list_versions(store, config, clock(), agent)
    assert [head["version"] for head in heads] == numbers[-most:][::-1]
    for number, state in list(zip(numbers, recorded))[-most:]:
        version = versions.get(store, config, clock(), agent, task, number)
        assert exactly(version["state"]) == exactly(state)
