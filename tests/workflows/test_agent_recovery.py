import json

import pytest

from sandbox import agent_failed, blank, ok, status, unauthorized

FAILED = {"agent_id": "agent_123", "failure_type": "timeout", "original_query": "What is 6 x 7?"}


def test_recovery_at_the_first_attempt_takes_three_executions(world):
    run, output = world.run("agent_recovery", **FAILED)
    assert run["status"] == "succeeded"
    assert output["success"] is output["recovery_success"] is True
    assert output["recovery_result"]["output"] == "Answer to: What is 6 x 7?"
    assert (output["retry_count"], output["attempts"], output["ticket"]) == (0, 1, None)
    tasks = ["analyze_agent_failure", "generate_repair_plan", "execute_recovery"]
    assert world.tasks(run) == tasks


def test_each_retry_is_one_execution_more_and_the_next_step_of_the_plan(world):
    world.box.script("platform", [agent_failed(), agent_failed(), ok(text="42")])
    run, output = world.run("agent_recovery", retry_delay=0, **FAILED)
    assert output["recovery_result"]["output"] == "42"
    assert (output["retry_count"], output["attempts"]) == (2, 3)
    steps = ["reduce_max_iterations", "simplify_query", "increase_timeout"]
    assert [entry["step"] for entry in output["trail"]] == steps
    assert [step["action"] for step in output["plan"]["steps"]] == steps
    assert len(world.tasks(run)) == 5
    sent = [call.body["config"] for call in world.box.calls_to("platform")]
    assert sent == [{"maxIterations": 5}, {}, {"maxExecutionTime": 120000}]


def test_retries_used_up_end_failed_with_a_ticket_a_trail_and_a_reason(world):
    world.box.script("platform", [agent_failed(error="No tool")], forever=True)
    run, output = world.run("agent_recovery", retry_delay=0, max_retries=2, **FAILED)
    assert run["status"] == "failed"
    assert output["success"] is output["recovery_success"] is False
    assert (output["attempts"], output["retry_count"]) == (3, 2)
    assert output["error"]["reason"] == "max_retries, 2, is used up"
    assert output["error"]["message"] == "No tool"
    assert [entry["cause"] for entry in output["trail"]] == ["agent_failed"] * 3
    assert world.tasks(run)[-1] == "log_recovery_failure"
    tickets = world.local.run("synthralos.ticket.list", {})["result"]["result"]["tickets"]
    assert [ticket["ticket"] for ticket in tickets] == [output["ticket"]]
    fired = [firing.trigger for firing in world.local.triggers()]
    assert fired == ["synthralos.ticket_opened", "synthralos.recovery_failed"]
    notification = world.box.calls_to("platform/webhooks")[0].body
    assert notification["ticket"] == output["ticket"] and notification["execution_id"] == run["id"]


def test_the_same_failure_adds_to_its_ticket(world):
    world.box.script("platform", [status(400)], forever=True)
    tickets = {world.run("agent_recovery", **FAILED)[1]["ticket"] for _ in range(2)}
    assert len(tickets) == 1
    execution = world.local.run("synthralos.ticket.get", {"ticket_id": tickets.pop()})
    assert execution["result"]["result"]["ticket"]["occurrences"] == 2


def test_what_no_try_can_cure_is_called_once(world):
    world.box.script("platform", [unauthorized()], forever=True)
    run, output = world.run("agent_recovery", retry_delay=0, **FAILED)
    assert run["status"] == "failed" and output["attempts"] == 1
    assert output["error"]["cause"] == "authentication"


def test_a_blank_output_is_no_recovery(world):
    world.box.script("platform", [blank(), ok(text="42")])
    _, output = world.run("agent_recovery", retry_delay=0, **FAILED)
    assert [entry.get("cause") for entry in output["trail"]] == ["blank_output", None]


@pytest.mark.parametrize("message", [
    "Agent stopped due to iteration limit or time limit.", "Agent stopped due to max iterations.",
])
def test_a_framework_that_gave_up_is_no_recovery(world, message):
    world.box.script("platform", [ok(text=message), ok(text="42")])
    run, output = world.run("agent_recovery", retry_delay=0, **FAILED)
    assert run["status"] == "succeeded" and output["recovery_result"]["output"] == "42"
    assert [entry.get("cause") for entry in output["trail"]] == ["infinite_loop", None]
    steps = [step["action"] for step in output["plan"]["steps"]]
    assert [entry["step"] for entry in output["trail"]] == steps[:2]


def test_the_output_must_match_the_expected_schema(world):
    schema = {"type": "object", "required": ["answer"]}
    world.box.script("platform", [ok(text="42"), ok(text='{"answer": 42}')])
    context = {"expected_schema": schema}
    _, output = world.run("agent_recovery", retry_delay=0, context=context, **FAILED)
    assert [entry.get("cause") for entry in output["trail"]] == ["schema_mismatch", None]
    assert json.loads(output["recovery_result"]["output"]) == {"answer": 42}


def test_json_in_a_fence_matches_the_expected_schema_and_is_handed_on_parsed(world):
    schema = {"type": "object", "required": ["title"]}
    world.box.script("platform", [ok(text='```json\n{"title": "T"}\n```')])
    context = {"expected_schema": schema}
    _, output = world.run("agent_recovery", retry_delay=0, context=context, **FAILED)
    assert output["success"] and output["attempts"] == 1
    assert output["recovery_result"]["output"] == {"title": "T"}


def test_a_plan_from_the_context_is_used(world):
    plan = {"steps": [{"action": "switch_model", "parameters": {"model": "gpt-4o"}}]}
    _, output = world.run("agent_recovery", context={"repairPlan": plan}, **FAILED)
    assert output["plan"]["source"] == "context"
    assert world.box.calls_to("platform")[0].body["config"]["model"] == "gpt-4o"


def test_a_plan_outside_the_catalogue_is_never_executed(world):
    plan = {"steps": [{"action": "rm_rf"}]}
    run, output = world.run("agent_recovery", context={"repairPlan": plan}, **FAILED)
    assert run["status"] == "failed" and world.box.calls_to("platform") == []
    assert "rm_rf" in output["error"]["message"]
    assert output["error"]["field"] == "context.repairPlan.steps[0].action"


def test_a_replay_is_judged_by_what_became_of_it(world):
    plan = {"steps": [{"action": "replay_execution", "parameters": {"execution_id": "cl123"}}]}
    _, output = world.run("agent_recovery", context={"repairPlan": plan}, **FAILED)
    methods = [(call.method, call.target) for call in world.box.calls]
    assert methods == [("POST", "platform"), ("GET", "platform/executions")]
    assert output["recovery_result"]["output"]


def test_the_next_endpoint_of_the_platform_is_tried_at_once(world):
    standby = world.config["platforms"][0]["base_url"] + "-b"
    world.config["platforms"][0]["fallbacks"] = [{"name": "standby", "base_url": standby}]
    world.box.kill("platform")
    _, output = world.run("agent_recovery", **FAILED)
    targets = ["platform:synthralos", "platform:standby"]
    assert [entry["target"] for entry in output["trail"]] == targets
    assert output["success"]


def test_an_agent_gets_the_call_that_the_config_names(world):
    world.config["agents"] = {
        "agent_123": {"agent_type": "react", "config": {"model": "gpt-4o"}},
    }
    world.run("agent_recovery", context={"agentConfig": {"temperature": 0}}, **FAILED)
    sent = world.box.calls_to("platform")[0].body
    assert sent["agentType"] == "react"
    assert (sent["config"]["model"], sent["config"]["temperature"]) == ("gpt-4o", 0)


def test_a_call_of_unknown_effect_is_not_repeated_where_that_is_unsafe(world):
    world.config["agents"] = {"agent_123": {"unsafe_to_repeat": True}}
    world.box.kill("platform")
    reported = dict(FAILED, failure_type="error")
    run, output = world.run("agent_recovery", retry_delay=0, **reported)
    assert run["status"] == "failed" and output["attempts"] == 1
    assert "a person has to check" in output["error"]["reason"]


def test_a_time_out_that_is_unsafe_to_repeat_is_left_to_a_person(world):
    world.config["agents"] = {"agent_123": {"unsafe_to_repeat": True}}
    reported = dict(FAILED, failure_type="timeout", failure_details={})
    run, output = world.run("agent_recovery", **reported)
    assert run["status"] == "failed" and world.box.calls_to("platform") == []
    assert "may have taken effect" in output["error"]["message"] and output["ticket"]
    assert world.run("agent_recovery", **dict(reported, failure_type="error"))[1]["success"]


def test_the_config_says_how_often_where_a_run_does_not(world):
    world.config["max_retries"] = 1
    world.box.script("platform", [status(503)], forever=True)
    _, output = world.run("agent_recovery", retry_delay=0, **FAILED)
    assert output["attempts"] == 2
    _, output = world.run("agent_recovery", retry_delay=0, max_retries=0, **FAILED)
    assert output["attempts"] == 1


def test_a_dry_run_shows_plan_and_waits_and_calls_nothing(world):
    run, output = world.run("agent_recovery", dry_run=True, **FAILED)
    assert run["status"] == "succeeded" and output["success"] is False
    assert output["plan"]["steps"] and world.box.calls == []


def test_equal_requests_of_a_run_bear_equal_keys(world):
    world.box.script("platform", [status(503), status(503), ok()])
    plan = {"steps": [{"action": "retry_execution"}]}
    world.run("agent_recovery", retry_delay=0, context={"repairPlan": plan}, **FAILED)
    keys = {call.headers["idempotency-key"] for call in world.box.calls_to("platform")}
    assert len(keys) == 1
    world.run("agent_recovery", **FAILED)
    assert world.box.calls_to("platform")[-1].headers["idempotency-key"] not in keys


@pytest.mark.parametrize(
    "parameters, field",
    [
        ({"agent_id": "no good"}, "agent_id"),
        ({"original_query": " "}, "original_query"),
        ({"original_query": "@case"}, "original_query"),
        ({"original_query": "base64:%%%"}, "original_query"),
        ({"context": {"expected_schema": {"type": 7}}}, "context.expected_schema"),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_way_out(world, parameters, field):
    run, output = world.run("agent_recovery", **dict(FAILED, **parameters))
    assert run["status"] == "failed" and world.box.calls_to("platform") == []
    assert output["error"]["field"] == field and output["error"]["hint"]


def test_without_a_platform_the_run_says_what_to_configure(world):
    world.config.pop("platforms")
    run, output = world.run("agent_recovery", **FAILED)
    assert run["status"] == "failed"
    assert output["error"]["field"] == "config.platforms"
