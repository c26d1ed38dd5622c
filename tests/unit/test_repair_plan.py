
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.recovery.repair_actions import REPAIR_ACTIONS
from synthralos.recovery.repair_plan import MAX_STEPS, validate_plan

FAILURE = {"type": "timeout", "cause": "timeout", "message": "too slow"}
STEP = {"action": "rephrase"}


def read(raw_plan):
    return validate_plan(raw_plan, FAILURE, "p1", "context")


def steps(*raw_steps):
    return read({"steps": list(raw_steps)})["steps"]


def test_a_plan_of_one_action_is_filled_up():
    assert read({"steps": [STEP]}) == {
        "plan_id": "p1", "failure_type": "timeout", "root_cause": "too slow",
        "steps": [{
            "action": "rephrase", "description": REPAIR_ACTIONS["rephrase"].description,
            "expected_outcome": REPAIR_ACTIONS["rephrase"].expected_outcome, "priority": 1,
            "parameters": {},
        }],
        "estimated_time": 5.0, "confidence": 0.7, "source": "context",
    }


def test_camel_case_carries_milliseconds():
    plan = read({
        "planId": "x", "failureType": "error", "rootCause": "r", "estimatedTime": 5000,
        "confidence": 0.6, "generatedAt": "2024",
        "steps": [{"action": "rephrase", "expectedOutcome": "better", "priority": 2}],
    })
    assert (plan["plan_id"], plan["root_cause"], plan["estimated_time"]) == ("x", "r", 5.0)
    assert plan["steps"][0]["expected_outcome"] == "better"


def test_snake_case_carries_seconds():
    assert read({"estimated_time": 7, "steps": [STEP]})["estimated_time"] == 7.0


@pytest.mark.parametrize("spelling, other", [
    ("planId", "plan_id"), ("estimatedTime", "estimated_time"), ("rootCause", "root_cause"),
    ("failureType", "failure_type")])
def test_both_spellings_at_once_are_refused(spelling, other):
    with pytest.raises(InvalidInput, match="is a duplicate"):
        read({spelling: 1, other: 1, "steps": [STEP]})


def test_both_spellings_of_a_step_are_refused():
    with pytest.raises(InvalidInput, match="is a duplicate"):
        steps(dict(STEP, expectedOutcome="a", expected_outcome="b"))


def test_steps_stand_in_the_order_of_their_priority():
    sorted_steps = steps(
        {"action": "rephrase", "priority": 3}, {"action": "switch_model", "priority": 1}
    )
    assert [step["action"] for step in sorted_steps] == ["switch_model", "rephrase"]


def test_an_unknown_action_is_refused_with_the_known_named():
    with pytest.raises(InvalidInput) as refused:
        steps(STEP, {"action": "rm -rf"})
    assert refused.value.field == "context.repairPlan.steps[1].action"
    assert all(name in refused.value.hint for name in REPAIR_ACTIONS)


@pytest.mark.parametrize(
    "action, parameters",
    [
        ("reduce_max_iterations", {"max_iterations": 0}),
        ("reduce_max_iterations", {"max_iterations": 1001}),
        ("reduce_max_iterations", {"max_iterations": "5"}),
        ("reduce_max_iterations", {"max_iterations": True}),
        ("reduce_max_iterations", {"max_iterations": 2.5}),
        ("increase_timeout", {"seconds": 601}),
        ("simplify_query", {"max_length": 99}),
        ("switch_model", {"model": "{{ x }}"}),
        ("switch_model", {"model": "a\n"}),
        ("rephrase", {"text": ""}),
        ("rephrase", {"text": "x" * 2001}),
        ("rephrase", {"model": "gpt-4"}),
        ("retry_execution", {"anything": 1}),
    ],
)
def test_a_parameter_that_is_unknown_or_out_of_range_is_refused(action, parameters):
    with pytest.raises(InvalidInput) as refused:
        steps({"action": action, "parameters": parameters})
    assert refused.value.field.startswith("context.repairPlan.steps[0].parameters.")


def test_good_parameters_are_kept():
    read_steps = steps({"action": "increase_timeout", "parameters": {"seconds": 600}})
    assert read_steps[0]["parameters"] == {"seconds": 600}


@pytest.mark.parametrize(
    "plan",
    [
        None, "x", 5, [], {}, {"steps": []}, {"steps": None}, {"steps": "abc"}, {"steps": {"a": 1}},
        {"steps": 5}, {"steps": True}, {"steps": 1.5},
        {"steps": [5]}, {"steps": [{}]}, {"steps": [STEP] * (MAX_STEPS + 1)},
        {"steps": [STEP], "confidence": 2}, {"steps": [STEP], "confidence": float("nan")},
        {"steps": [STEP], "estimated_time": -1}, {"steps": [STEP], "estimatedTime": "soon"},
        {"steps": [STEP], "estimatedTime": 10**400},
        {"steps": [STEP], "more": 1}, {"steps": [dict(STEP, more=1)]},
        {"steps": [dict(STEP, priority=-1)]}, {"steps": [dict(STEP, parameters=[])]},
    ],
)
def test_what_is_no_plan_is_refused(plan):
    with pytest.raises(InvalidInput):
        read(plan)


def test_a_plan_id_that_is_no_name_is_replaced():
    assert read({"plan_id": "{{ x }}", "steps": [STEP]})["plan_id"] == "p1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=8)
STEPS = st.dictionaries(
    st.sampled_from(["action", "description", "expectedOutcome", "priority", "parameters"]),
    st.sampled_from(sorted(REPAIR_ACTIONS)) | JSON, max_size=5)
PLANS = st.dictionaries(
    st.sampled_from(["planId", "plan_id", "steps", "estimatedTime", "estimated_time", "confidence",
                     "rootCause", "generatedAt", "source"]),
    JSON, max_size=5)


@hypothesis.given(
    JSON | PLANS | st.builds(
        lambda plan, steps: dict(plan, steps=steps), PLANS, st.lists(STEPS | JSON, max_size=4)
    )
)
def test_anything_is_a_plan_or_refused(raw_plan):
    try:
        plan = read(raw_plan)
    except InvalidInput:
        return
    assert plan["steps"] and all(step["action"] in REPAIR_ACTIONS for step in plan["steps"])
