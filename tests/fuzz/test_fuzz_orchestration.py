"""Any orchestration of up to 40 steps, whatever fails and wherever it is cut off: order, priorities
and bounds hold, nothing runs twice, and what did not run says why. What is checked of small graphs
in tests/unit/test_scheduler.py is checked here of large ones, through the engine's own checkpoints.

FUZZ=1 tries 2,000 examples of each, else 60.
"""
import os

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import event, settings
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import Redactor
from synthralos.orchestration import dependencies, orchestration_schema, scheduler
from synthralos.orchestration.run_store import RunStore
from synthralos.storage.datastore import BestEffortDatastore, MemoryDatastore

EXAMPLES = 2_000 if os.environ.get("FUZZ") else 60
START = 1_700_000_000.0
MOST_STEPS = 40
fuzzed = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)


class Env:
    """What Kept needs of an Environment."""

    def __init__(self):
        self.store, self.redactor = BestEffortDatastore(MemoryDatastore(lambda: START)), Redactor()

    def now(self):
        return START


class Look:
    """Conditions on `yes` hold, those on `no` do not."""

    def __init__(self, most):
        self.max_concurrent = most

    def now(self):
        return START

    def holds(self, condition):
        return condition["field"] == "yes"

    def keep(self, step, slot):
        pass


@st.composite
def orchestrations(draw):
    """(definition, names of the steps that fail, max_concurrent)."""
    count = draw(st.integers(1, MOST_STEPS))
    names = ["s%d" % n for n in range(count)]
    order = draw(st.sampled_from(["own", "few", "none"]))
    graphs = draw(st.booleans())
    steps = []
    for n, name in enumerate(names):
        step = {"name": name, "priority": draw(st.integers(-3, 3))}
        if order != "none":
            step["order"] = n if order == "own" else draw(st.integers(0, 5))
        kind = draw(st.integers(0, 9))
        if kind < 4:
            step["group"] = draw(st.sampled_from(["g", "h", "i"]))
        elif graphs and kind < 7:
            # On what is before it by order and by place, so that there is no circle.
            place = step.get("order", 0)
            before = [step["name"] for step in steps
                      if "group" not in step and step.get("order", 0) <= place]
            if before:
                step["depends_on"] = draw(
                    st.lists(st.sampled_from(before), unique=True, max_size=4))
        if draw(st.integers(0, 4)) == 0:
            step["condition"] = {"field": draw(st.sampled_from(["yes", "no"])),
                                 "operator": "exists"}
        if draw(st.integers(0, 2)):
            step["on_failure"] = draw(st.sampled_from(["fail", "continue"]))
        steps.append(step)
    most = draw(st.integers(1, 8))
    definition = orchestration_schema.orchestration({
        "name": "o", "steps": steps, "max_concurrent": most,
        "on_failure": draw(st.sampled_from(["fail", "continue"])),
    })
    fails = draw(st.sets(st.sampled_from(names), max_size=count // 3 + 1))
    return definition, fails, most


def result(name, fails):
    if name in fails:
        return scheduler.StepResult(scheduler.FAILED, {"error": "broke", "attempts": 1})
    return scheduler.StepResult(
        scheduler.COMPLETED, {"attempts": 1}, {name: {"v": name}}, {"v": name}
    )


def played(definition, fails, look, cut=lambda jobs: None):
    """(waves as lists of names, the state at the end, names as often as they completed).

    Each state is what a checkpoint gives of the one before.

    :param cut: wave -> the names that completed before the run was cut off in it, or None for a
        wave that goes well; it is cut off at most once a wave.
    """
    run_store, seen, completed = RunStore(Env(), "5f0c", sleep=None), [], []
    state = scheduler.initial_state(definition, START)
    while True:
        scheduler.advance(definition, state, look)
        if state["outcome"] is not None:
            return seen, dict(state, log=run_store.log(state)), completed
        run_store.checkpoint(state, START)
        state = run_store.newest()
        assert state.pop("at") == START
        jobs = state["wave"]["jobs"]
        seen.append(jobs)
        assert len(seen) <= 4 * MOST_STEPS
        ended = cut(jobs)
        if ended is None:
            results = {name: result(name, fails) for name in jobs}
            scheduler.merge_results(definition, state, results, START)
        else:
            results = {name: result(name, fails) for name in ended}
            scheduler.reuse_completed(definition, state, results, START)
        completed += [
            name for name, result in results.items() if result.status == scheduler.COMPLETED
        ]


def by_name(definition):
    return {step["name"]: step for step in definition["steps"]}


def entries(state):
    """{step: its log}; each step has one."""
    entries = {entry["step_name"]: entry for entry in state["log"]}
    assert len(entries) == len(state["log"])
    return entries


@fuzzed
@hypothesis.given(orchestrations())
def test_order_priorities_and_bounds(drawn):
    definition, fails, most = drawn
    seen, state, _ = played(definition, fails, Look(most))
    steps, plan = by_name(definition), dependencies.dependency_map(definition)
    event("waves: %d" % (len(seen) // 5 * 5))
    ran = [name for jobs in seen for name in jobs]
    assert len(ran) == len(set(ran))
    place = {name: n for n, jobs in enumerate(seen) for name in jobs}
    log = entries(state)
    for name in ran:
        for before in plan[name]:
            # What it waits for has ended before: by running, or by being skipped.
            assert before in log and place.get(before, -1) < place[name]
    for number, jobs in enumerate(seen):
        assert 0 < len(jobs) <= (1 if most == 1 else scheduler.MAX_WAVE_STEPS)
        ranks = [steps[name]["priority"] for name in jobs]
        assert ranks == sorted(ranks, reverse=True)
        # Nothing that was ready, and goes before one of the wave, had to stand back.
        earlier = set(log) - {name for name in log if place.get(name, number) >= number}
        for name in ran:
            if place[name] > number and set(plan[name]) <= earlier:
                assert steps[name]["priority"] <= min(ranks)


@fuzzed
@hypothesis.given(orchestrations())
def test_each_step_ends_once_and_one_that_did_not_run_says_why(drawn):
    definition, fails, most = drawn
    seen, state, _ = played(definition, fails, Look(most))
    steps, log = by_name(definition), entries(state)
    assert set(log) == set(steps)
    ran = {name for jobs in seen for name in jobs}
    missed = {name for name in ran if name in fails}
    fatal = [name for name in ran & fails if scheduler.policy(definition, steps[name]) == "fail"]
    assert state["outcome"]["status"] == (scheduler.FAILED if fatal else scheduler.COMPLETED)
    assert not fatal or state["outcome"]["step"] in fatal
    for entry in state["log"]:
        name = entry["step_name"]
        if name in ran:
            assert entry["status"] == (scheduler.FAILED if name in fails else scheduler.COMPLETED)
            assert not missed & set(steps[name]["depends_on"] or [])
            continue
        assert entry["status"] == scheduler.SKIPPED
        broken = [
            dependency for dependency in steps[name]["depends_on"] or [] if dependency in missed
        ]
        if entry["reason"].startswith("it depends on "):
            named = entry["reason"][len("it depends on "):].split(", which")[0].split(", ")
            assert named == broken and broken
            missed.add(name)
        elif entry["reason"] == scheduler.NOT_MET:
            assert steps[name]["condition"]["field"] == "no" and not broken
        else:
            assert entry["reason"] == "not reached: step %s failed" % state["outcome"]["step"]
            assert fatal


@fuzzed
@hypothesis.given(orchestrations(), st.data())
def test_a_run_cut_off_anywhere_goes_on_and_completes_each_step_once(drawn, data):
    """In any wave, after any of its steps, as often as one likes."""
    definition, _, most = drawn
    whole = played(definition, set(), Look(most))[1]
    cuts = []

    def cut(jobs):
        # A wave may be cut off once; the rest of it is the next one's.
        if len(cuts) >= 12 or not data.draw(st.booleans()):
            return None
        cuts.append(jobs)
        return data.draw(st.sets(st.sampled_from(jobs)))

    seen, state, completed = played(definition, set(), Look(most), cut)
    event("cut off: %d" % len(cuts))
    assert len(completed) == len(set(completed))
    ended = {name: entry["status"] for name, entry in entries(state).items()}
    assert ended == {name: entry["status"] for name, entry in entries(whole).items()}
    assert set(completed) == {
        name for name, status in ended.items() if status == scheduler.COMPLETED
    }
    assert state["context"] == whole["context"] and state["outcome"] == whole["outcome"]


@fuzzed
@hypothesis.given(orchestrations())
def test_the_plan_is_what_runs_when_every_condition_holds(drawn):
    definition, _, most = drawn
    for step in definition["steps"]:
        step["condition"] = None
    seen = played(definition, set(), Look(max(2, most)))[0]
    planned = scheduler.preview(definition)
    waves = [[entry["step_name"] for entry, _ in planned if entry["wave"] == number + 1]
            for number in range(len(seen))]
    assert waves == seen


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-1.5, 1.5) | st.text(max_size=3) |
    st.sampled_from(["a", "core.noop", "loop", "sub-orchestration", "temperature", "url"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["name", "steps", "role", "when", "and", "field", "question", "cases"]),
        inner, max_size=2,
    ),
    max_leaves=5,
)
ROLE = orchestration_schema.role({"name": "r", "base_prompt": "x"})
STEP = orchestration_schema.orchestration({"name": "o", "steps": [{"name": "a"}]})["steps"][0]


@fuzzed
@hypothesis.given(st.sampled_from(sorted(ROLE)), VALUES)
def test_any_value_in_a_role_is_read_or_refused_in_words(field, value):
    assert_read_or_refused(orchestration_schema.role, dict(ROLE, **{field: value}))


@fuzzed
@hypothesis.given(st.sampled_from(sorted(STEP) + ["step_type"]), VALUES, st.booleans())
def test_any_value_in_a_step_is_read_or_refused_in_words(field, value, is_alone):
    step = {"name": "a", field: value} if is_alone else dict(STEP, **{field: value})
    assert_read_or_refused(orchestration_schema.orchestration, {"name": "o", "steps": [step]})


def assert_read_or_refused(read, raw):
    try:
        normal = read(raw)
    except InvalidInput as error:
        assert error.field and error.hint
        event("refused")
    else:
        assert read(normal) == normal


@fuzzed
@hypothesis.given(orchestrations())
def test_a_normal_form_is_its_own(drawn):
    definition, _, _ = drawn
    assert orchestration_schema.orchestration(definition) == definition
