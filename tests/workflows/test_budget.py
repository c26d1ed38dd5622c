"""The budget of runs and days, in whole runs."""
import pytest
from workflows.orchestrations import Orchestrated

from sandbox import blank, ok, status

LONG = "a word " * 60
GPT4, HAIKU = "llm:openai/gpt-4", "llm:anthropic/claude-3-haiku"


def llm(world, prompt="Hello", **parameters):
    request = {"prompt": prompt, "model": "gpt-4", "parameters": {"max_tokens": 50}}
    return world.run("llm_retry", original_request=request, failure_reason="it was slow",
                     fallback_models=["claude-3-haiku"], **parameters)


def calls(world):
    return [call.target for call in world.box.calls if call.target.startswith("llm:")]


def ticket(world, name):
    result = world.local.run("synthralos.ticket.get", {"ticket_id": name})["result"]["result"]
    return result["ticket"], result["report"]


def prices(world):
    for provider in world.config["providers"]:
        for model in provider["models"]:
            model["price"] = {"input": 1, "output": 2}


def test_a_run_that_would_pass_it_calls_nobody_and_is_logged(world):
    world.config["budget"] = {"per_run": {"tokens": 40}}
    run, output = llm(world)
    assert run["status"] == "failed" and calls(world) == []
    assert world.tasks(run) == ["determine_retry_strategy", "call_llm", "log_retry_failure"]
    assert output["error"]["cause"] == "budget" and output["attempts"] == 0
    assert "budget.per_run.tokens, 40 tokens" in output["error"]["message"]
    assert "0 are used" in output["error"]["message"]
    assert [entry["target"] for entry in output["trail"]] == [GPT4]
    ticket_record, report = ticket(world, output["ticket"])
    assert (ticket_record["cause"], ticket_record["severity"], ticket_record["attempts"]) == (
        "budget",
        "medium",
        0,
    )
    assert any(
        "storage.clear kinds=budget" in recommendation
        for recommendation in report["recommendations"]
    )


def test_it_stops_before_the_next_attempt_and_never_repeats(world):
    """Answers of no use have been paid for, too."""
    world.config["budget"] = {"per_run": {"tokens": 700}}
    world.box.script("llm:*", [blank()], forever=True)
    run, output = llm(world, LONG, max_retries=10)
    assert run["status"] == "failed" and output["error"]["cause"] == "budget"
    assert 0 < output["attempts"] == len(calls(world)) < 12
    assert world.tasks(run)[-1] == "log_retry_failure"


def test_a_day_is_shared_by_all_runs(world):
    world.config["budget"] = {"per_day": {"tokens": 900}}
    statuses = [llm(world, LONG)[0]["status"] for _ in range(8)]
    succeeded = statuses.count("succeeded")
    assert 1 <= succeeded < 8 and statuses == ["succeeded"] * succeeded + ["failed"] * (
        8 - succeeded
    )
    assert len(calls(world)) == succeeded
    cleared = world.local.run(
        "synthralos.storage.clear", {"kinds": ["budget"], "dry_run": False})
    assert cleared["status"] == "succeeded"
    assert llm(world, LONG)[0]["status"] == "succeeded"


def test_money_counts_as_it_was_spent(world):
    prices(world)
    world.config["budget"] = {"per_day": {"cost": 0.001}}
    run, output = llm(world)
    assert run["status"] == "succeeded"
    usage = output["result"]["usage"]
    spent = [row["value"] for row in world.local.keys.list("synthralos.llm_spending.", limit=-1)]
    assert len(spent) == 1 and '"open":false' in spent[0]
    cost = (usage["input_tokens"] + 2 * usage["output_tokens"]) / 1e6
    assert '"cost":%s' % round(cost, 9) in spent[0]


def test_a_model_without_a_price_is_passed_over(world):
    prices(world)
    del world.config["providers"][0]["models"][0]["price"]
    world.config["budget"] = {"per_day": {"cost": 1}}
    run, output = llm(world)
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    assert "has no price" in output["trail"][0]["skipped"] and calls(world) == [HAIKU]


def test_a_warning_is_in_the_result(world):
    world.config["budget"] = {"per_run": {"tokens": 1}, "on_exceeded": "warn"}
    run, output = llm(world)
    assert run["status"] == "succeeded" and output["final_model"] == "gpt-4"
    task = world.local.executions(parent=run["id"])
    warnings = [warning["result"]["result"].get("over_budget") for warning in task]
    assert any(warning and "budget.per_run.tokens" in warning[0] for warning in warnings)


def test_an_agent_is_recovered_by_the_playbook_when_the_planner_has_no_budget(world):
    world.config["planner"] = {"model": "gpt-4"}
    world.config["budget"] = {"per_day": {"tokens": 10}}
    run, output = world.run(
        "agent_recovery", agent_id="a1", failure_type="timeout", original_query="Find it")
    assert run["status"] == "succeeded" and calls(world) == []
    assert output["plan"]["source"] == "playbook"


@pytest.mark.parametrize("retries", [0, 3])
def test_a_step_of_an_orchestration_fails_and_is_not_tried_again(world, retries):
    world.config["budget"] = {"per_run": {"tokens": 5}}
    flow = Orchestrated(world)
    flow.define([{"name": "write", "order": 0, "roleName": "writer", "maxRetries": retries}])
    run, output = flow.run(input={"task": "x"})
    assert run["status"] == "failed" and calls(world) == []
    assert "budget.per_run.tokens" in output["error"]["message"]


def test_steps_that_run_at_once_share_the_budget_of_their_run(world):
    """Each of them would keep it by itself."""
    world.config["budget"] = {"per_run": {"tokens": 1200}, "assumed_output_tokens": 900}
    flow = Orchestrated(world)
    flow.define([{"name": "step %d" % n, "order": 0, "roleName": "writer"} for n in range(4)])
    run, output = flow.run(input={"task": "x"})
    assert run["status"] == "failed"
    assert "budget.per_run.tokens" in output["error"]["message"]
    assert len(calls(world)) < 4


def test_call_llm_alone_is_a_run(world):
    world.config["budget"] = {"per_run": {"tokens": 5}}
    run = world.local.run("synthralos.call_llm", {"model": "gpt-4", "prompt": "Hello"})
    result = run["result"]["result"]
    assert run["status"] == "failed" and result["error"]["cause"] == "budget"
    assert result["next"] is None and calls(world) == []


def test_a_failure_of_a_call_costs_nothing(world):
    world.config["budget"] = {"per_run": {"tokens": 200}}
    world.box.script(GPT4, [status(500)] * 3 + [ok(text="Hi")])
    world.box.script(HAIKU, [status(500)], forever=True)
    run, output = llm(world, max_retries=8)
    assert run["status"] == "succeeded" and output["attempts"] > 4
