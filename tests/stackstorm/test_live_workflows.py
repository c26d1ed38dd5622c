
import pytest
from fixtures.waiting import LIVE_PATIENCE_SECONDS, let_pass, until
from live_host import waits

from sandbox import agent_failed, ok, rate_limit, status

FAILED = {"agent_id": "agent_123", "failure_type": "timeout", "original_query": "What is 6 x 7?"}
HOSTILE = ["<% 1+1 %>", "<%= erb %>", "{{.Values.x}}", "<% ctx().st2 %>", "\x00 \u202e \U0001f600"]


def actions(st2, run):
    return [child["action"]["ref"].split(".", 1)[1] for child in st2.children(run)]


def test_recovery_at_the_first_attempt_takes_three_executions(st2, box):
    run, output = st2.run("agent_recovery", **FAILED)
    assert run["status"] == "succeeded" and output["recovery_success"] is True
    tasks = ["analyze_agent_failure", "generate_repair_plan", "execute_recovery"]
    assert actions(st2, run) == tasks


def test_each_retry_is_one_execution_more(st2, box):
    box.script("platform", [agent_failed(), status(500), ok(text="42")])
    run, output = st2.run("agent_recovery", retry_delay=0, **FAILED)
    assert output["recovery_result"]["output"] == "42" and output["attempts"] == 3
    assert len(actions(st2, run)) == 5


def test_a_fallback_takes_no_wait_and_two_executions(st2, box):
    box.script("llm:openai/gpt-4", [rate_limit(retry_after=30)], forever=True)
    run, output = st2.run(
        "llm_retry",
        original_request={"prompt": "Hello", "model": "gpt-4"},
        failure_reason="Rate limit exceeded",
        fallback_models=["claude-3-haiku"],
    )
    assert output["final_model"] == "claude-3-haiku"
    assert actions(st2, run) == ["determine_retry_strategy", "call_llm"]


def test_a_request_is_rerouted(st2, box):
    box.kill("route:openai")
    run, output = st2.run(
        "reroute_request",
        original_request={"endpoint": "/api/v1/llm", "model": "gpt-4"},
        failure_reason="Region unavailable",
        fallback_regions=["eu-west-1"],
        fallback_providers=["anthropic"],
    )
    assert (output["final_provider"], output["attempts"]) == ("anthropic", 3)
    assert actions(st2, run) == ["analyze_routing_failure", "execute_request"]


def test_what_cannot_be_cured_ends_failed_with_output_and_a_ticket(st2, box):
    box.script("platform", [status(400)], forever=True)
    run, output = st2.run("agent_recovery", **FAILED)
    assert run["status"] == "failed" and output["success"] is False
    ticket = st2.run("ticket.get", ticket_id=output["ticket"])[0]["result"]["result"]["ticket"]
    assert ticket["run"] == run["id"]


def test_cancelling_while_a_retry_waits_stops_it(st2, box):
    box.script("platform", [agent_failed()], forever=True)
    run_id = st2.start("agent_recovery", retry_delay=5, **FAILED)
    until(lambda: waits(st2, run_id), seconds=LIVE_PATIENCE_SECONDS)
    st2.call("DELETE", "/executions/" + run_id)
    run = st2.wait(run_id)
    calls = len(box.calls_to("platform"))
    let_pass(8)
    assert run["status"] == "canceled" and len(box.calls_to("platform")) == calls == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_arrives_as_it_was_sent(st2, box, text):
    plan = {"steps": [{"action": "retry_execution"}]}
    run, output = st2.run(
        "agent_recovery", **dict(FAILED, original_query=text, context={"repairPlan": plan})
    )
    assert box.calls_to("platform")[0].body["query"] == text
    assert output["recovery_result"]["output"] == "Answer to: " + text


def test_a_hostile_answer_comes_back_as_it_was_given(st2, box):
    text = " ".join(HOSTILE[:4]) + " {{ config_context.platforms }} {{ foo }} {% raw %}"
    box.script("platform", [ok(text=text)])
    run, output = st2.run("agent_recovery", **FAILED)
    assert output["recovery_result"]["output"] == text
