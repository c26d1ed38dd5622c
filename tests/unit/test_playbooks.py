import pytest
from fixtures.check_each import check_each

from synthralos.core.causes import CAUSES, TYPES
from synthralos.recovery.playbooks import plan
from synthralos.recovery.repair_actions import REPAIR_ACTIONS


@check_each("cause", sorted(CAUSES))
@check_each("type_", TYPES)
def test_every_type_and_cause_has_a_plan_of_known_actions(type_, cause):
    playbook = plan({"type": type_, "cause": cause, "message": "m"}, "p1")
    assert playbook["plan_id"] == "p1" and playbook["failure_type"] == type_
    assert playbook["steps"] and all(step["action"] in REPAIR_ACTIONS for step in playbook["steps"])
    assert [step["priority"] for step in playbook["steps"]] == list(
        range(1, len(playbook["steps"]) + 1)
    )
    assert len({step["action"] for step in playbook["steps"]}) == len(playbook["steps"])
    assert all(step["description"] and step["expected_outcome"] for step in playbook["steps"])
    assert 0 < playbook["confidence"] <= 1 and playbook["estimated_time"] > 0
    assert playbook["source"] == "playbook"


@check_each("cause", sorted(CAUSES))
def test_no_playbook_replays_unasked(cause):
    playbook = plan({"type": CAUSES[cause].type, "cause": cause, "message": ""}, "p")
    assert "replay_execution" not in [step["action"] for step in playbook["steps"]]


@pytest.mark.parametrize(
    "type_, first, second",
    [
        ("timeout", "reduce_max_iterations", "simplify_query"),
        ("tool_failure", "retry_tool", "use_alternative_tool"),
        ("llm_error", "retry_with_backoff", "switch_provider"),
        ("invalid_output", "regenerate_output", "add_validation"),
        ("error", "retry_execution", "simplify_approach"),
        ("unknown", "retry_execution", "simplify_approach"),
    ],
)
def test_a_bare_type_begins_as_the_original_plans_do(type_, first, second):
    playbook = plan({"type": type_, "cause": "unknown", "message": ""}, "p")
    assert [step["action"] for step in playbook["steps"]][:2] == [first, second]


def test_the_root_cause_is_for_people():
    failure = {"type": "llm_error", "cause": "rate_limit", "message": "slow down"}
    assert plan(failure, "p")["root_cause"] == "rate limit: slow down"
    assert plan(dict(failure, message=""), "p")["root_cause"] == "rate limit"
