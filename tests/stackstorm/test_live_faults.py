"""Faults and hostile text on a live StackStorm."""
import base64
import time

import pytest
from fixtures.waiting import ENDLESS_SECONDS, LIVE_PATIENCE_SECONDS, until
from live_host import ATTEMPT, kill, processes, waits

from sandbox import agent_failed, delay, ok, status

FAILED = {"agent_id": "agent_123", "failure_type": "error", "original_query": "q"}
PROMPT = {"prompt": "Hello", "model": "gpt-4"}
RENDERED = "{{ config_context.platforms[0].token }} {{ foo }} {{ st2kv.system.x }} {% raw %}"
HOSTILE = RENDERED + " <% 1+1 %> <% st2kv('x') %> <%= erb %> {{.Values.x}} \x00 \u202e \U0001f600"


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


def test_encoded_text_passes_the_door(st2, box):
    plan = {"steps": [{"action": "retry_execution"}]}
    _, output = st2.run(
        "agent_recovery",
        **dict(FAILED, original_query=encoded(HOSTILE), context={"repairPlan": plan})
    )
    assert box.calls_to("platform")[0].body["query"] == HOSTILE
    assert output["recovery_result"]["output"] == "Answer to: " + HOSTILE


def test_hostile_prompts_answers_and_errors_of_llms(st2, box):
    box.script("llm:openai/gpt-4", [status(500, error=HOSTILE)], forever=True)
    box.script("llm:anthropic/claude-3-haiku", [ok(text=HOSTILE)])
    _, output = st2.run(
        "llm_retry",
        original_request={"prompt": encoded(HOSTILE), "model": "gpt-4"},
        failure_reason=encoded(HOSTILE),
        fallback_models=["claude-3-haiku"],
    )
    assert box.calls_to("llm:*")[0].body["messages"][0]["content"] == HOSTILE
    assert output["result"]["response"] == HOSTILE
    assert output["trail"][0]["message"] == " ".join(HOSTILE.split())


def test_hostile_bodies_answers_and_errors_of_routes(st2, box):
    box.script("route:openai/us-east-1", [status(500, body={"error": HOSTILE})], forever=True)
    box.script("route:openai/eu-west-1", [ok(text=HOSTILE)])
    _, output = st2.run(
        "reroute_request",
        original_request={"endpoint": "/x", "body": {"text": encoded(HOSTILE)}},
        failure_reason=encoded(HOSTILE),
        fallback_regions=["eu-west-1"],
    )
    assert box.calls_to("route:*")[0].body["text"] == HOSTILE
    assert output["result"]["response"] == HOSTILE
    assert output["trail"][0]["message"] == " ".join(HOSTILE.split())


def test_no_configured_secret_shows_anywhere(st2, box):
    leaking = status(500, error="token sandbox-token is bad")
    box.script("platform", [leaking, ok(text="sandbox-token")])
    run, output = st2.run("agent_recovery", retry_delay=0, **FAILED)
    executions = [st2.call("GET", "/executions/" + child["id"]) for child in st2.children(run)]
    keys = st2.call("GET", "/keys", params={"prefix": "synthralos.", "limit": 100})
    assert output["recovery_result"]["output"] == "********"
    assert "sandbox-token" not in str([run, executions, keys])


def test_pause_and_resume_during_a_wait(st2, box):
    box.script("platform", [agent_failed(), agent_failed(), ok(text="42")])
    run_id = st2.start("agent_recovery", retry_delay=3, **FAILED)
    until(lambda: waits(st2, run_id), seconds=LIVE_PATIENCE_SECONDS)
    st2.call("PUT", "/executions/" + run_id, json={"status": "pausing"})
    st2.wait(run_id, "paused")
    st2.call("PUT", "/executions/" + run_id, json={"status": "resuming"})
    run = st2.wait(run_id)
    assert run["status"] == "succeeded"
    assert run["result"]["output"]["recovery_result"]["output"] == "42"


def test_re_run(st2, box):
    run, _ = st2.run("llm_retry", original_request=PROMPT, failure_reason="x")
    again = st2.call("POST", "/executions/%s/re_run" % run["id"], json={})
    run = st2.wait(again["id"])
    assert run["status"] == "succeeded" and run["result"]["output"]["final_model"] == "gpt-4"
    keys = {call.headers["idempotency-key"] for call in box.calls_to("llm:*")}
    assert len(keys) == 2


def test_a_killed_action_is_logged_and_the_run_fails_with_output(st2, box):
    box.script("platform", [delay(ENDLESS_SECONDS)], forever=True)
    run_id = st2.start("agent_recovery", **FAILED)
    until(lambda: box.calls_to("platform") or processes(ATTEMPT), seconds=LIVE_PATIENCE_SECONDS)
    if not kill(processes(ATTEMPT)):
        pytest.skip("the action runner is not on this machine")
    run = st2.wait(run_id)
    output = run["result"]["output"]
    assert run["status"] == "failed" and output["success"] is False and output["ticket"]
    assert "crashed" in output["error"]["message"]


def test_twenty_runs_at_once_for_one_agent_lose_no_record(st2, box):
    box.script("platform", [status(422)], forever=True)
    agent = "agent-%d" % time.time()
    # The runs wait for each other, and their time counts from their request.
    failed = dict(FAILED, agent_id=agent, timeout=3600)
    started = [st2.start("agent_recovery", **failed) for _ in range(20)]
    runs = [st2.wait(run_id) for run_id in started]
    assert {run["status"] for run in runs} == {"failed"}
    tickets = {run["result"]["output"]["ticket"] for run in runs}
    assert len(tickets) == 1
    ticket = st2.run("ticket.get", ticket_id=tickets.pop())[0]["result"]["result"]["ticket"]
    assert {event["run"] for event in ticket["events"]} == set(started)
    prefix = "synthralos.history.%s." % agent
    history = st2.call("GET", "/keys", params={"prefix": prefix, "limit": 100})
    assert len(history) == 20
