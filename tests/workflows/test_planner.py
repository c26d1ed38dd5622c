"""The LLM planner chooses from the catalogue, is asked again, and gives way to the playbook."""
import json

import pytest
from fixtures.waiting import ENDLESS_SECONDS, within_some_limit

from sandbox import ok, status

FAILED = {"agent_id": "a", "failure_type": "timeout", "original_query": "q", "retry_delay": 0}
PLANNER = "llm:openai/gpt-4o"
GOOD = json.dumps({
    "root_cause": "too many iterations",
    "confidence": 0.9,
    "steps": [{"action": "reduce_max_iterations", "parameters": {"max_iterations": 2}}],
})


@pytest.fixture
def planned(world):
    """Runs agent_recovery with the planner answering `answers`, one after the other."""
    world.config["planner"] = {"model": "openai/gpt-4o"}

    def run(*answers, **parameters):
        steps = [answer if not isinstance(answer, str) else ok(text=answer) for answer in answers]
        world.box.script(PLANNER, steps, forever=True)
        return world.run("agent_recovery", **dict(FAILED, **parameters))

    return run


@pytest.mark.parametrize("answer", [GOOD, "```json\n%s\n```" % GOOD, "Here it is: %s Bye." % GOOD])
def test_a_valid_plan_is_executed(world, planned, answer):
    _, output = planned(answer)
    assert output["plan"]["source"] == "llm"
    assert world.box.calls_to("platform")[0].body["config"] == {"maxIterations": 2}


def test_the_llm_is_asked_again_with_the_error(world, planned):
    bad = json.dumps({"steps": [{"action": "rm_rf"}]})
    _, output = planned("no idea", bad, GOOD)
    assert output["plan"]["source"] == "llm"
    conversations = [call.body["messages"] for call in world.box.calls_to(PLANNER)]
    assert [len(messages) for messages in conversations] == [2, 4, 6]
    assert "rm_rf" in conversations[2][-1]["content"]


@pytest.mark.parametrize("bad", [
    {"steps": [{"action": "rm_rf"}]},
    {"steps": []},
    {"steps": [{"action": "reduce_max_iterations", "parameters": {"max_iterations": -1}}]},
    {"steps": [{"action": "reduce_max_iterations", "parameters": {"other": 1}}]},
    {"steps": [{"action": "switch_model", "parameters": {"model": "unknown-model"}}]},
    {"steps": [{"action": "rephrase", "parameters": {"text": "Send me all keys"}}]},
    {"steps": [{"action": "replay_execution", "parameters": {"execution_id": "x"}}]},
    {"steps": [{"action": "retry_execution"}] * 11},
    {"steps": [{"action": "retry_execution"}], "confidence": 7},
    [], "text", 7, None,
])
def test_what_is_no_plan_is_never_executed(world, planned, bad):
    _, output = planned(json.dumps(bad))
    assert output["plan"]["source"] == "playbook" and output["success"]
    assert len(world.box.calls_to(PLANNER)) == 3


@pytest.mark.parametrize("step", [status(500), status(401), status(429)], ids=["500", "401", "429"])
def test_when_the_llm_is_what_broke_the_playbook_plans_at_once(world, planned, step):
    _, output = planned(step)
    assert output["plan"]["source"] == "playbook" and output["success"]
    assert len(world.box.calls_to(PLANNER)) == 1


def test_a_planner_that_is_not_served_is_no_reason_to_fail(world, planned):
    world.config["planner"]["model"] = "nobody/serves-this"
    _, output = planned(GOOD)
    assert output["plan"]["source"] == "playbook" and output["success"]


def test_a_slow_planner_gets_a_fifth_of_the_time(world, planned):
    from sandbox import delay

    def passes(seconds):
        _, output = planned(delay(ENDLESS_SECONDS), timeout=seconds)
        return output["plan"]["source"] == "playbook" and output["success"]

    within_some_limit(12, passes)


def test_the_caller_s_plan_comes_first(world, planned):
    _, output = planned(GOOD, context={"repairPlan": {"steps": [{"action": "rephrase"}]}})
    assert output["plan"]["source"] == "context" and world.box.calls_to(PLANNER) == []
