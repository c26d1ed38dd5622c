"""recovery.* and approval.*, on st2local."""

import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, let_pass, until

from sandbox import status

FAILED = {"agent_id": "agent_1", "failure_type": "error", "original_query": "What is 6 x 7?"}
ERROR = {"agent_id": "agent_1", "error": {"type": "timeout_error"}, "strategy": "manual"}


def action(world, name, **parameters):
    run = world.local.run("synthralos." + name, parameters)
    return run["status"], run["result"]["result"]


def ended(world, run):
    until(lambda: world.local.execution(run)["status"] in ("succeeded", "failed"), "it has ended")
    return world.local.execution(run)


def start_approval(world):
    handle = world.local.start("synthralos.handle_error", ERROR)
    handle.wait_for("paused")
    return handle


@pytest.mark.parametrize("approved, outcome", [(True, "succeeded"), (False, "failed")])
def test_an_approval_is_listed_and_given_or_refused(world, approved, outcome):
    handle = start_approval(world)
    _, approvals = action(world, "approval.list")
    assert [entry["run"] for entry in approvals["approvals"]] == [handle.id]
    assert approvals["approvals"][0]["workflow"] == "handle_error"
    assert "resolved" in approvals["approvals"][0]["question"]
    status, result = action(world, "approval.answer", execution_id=handle.id, approved=approved)
    assert status == "succeeded" and result["approved"] is approved
    assert handle.wait(PATIENCE_SECONDS)["status"] == outcome


def test_what_waits_for_no_approval_is_refused(world):
    run = world.local.run("synthralos.approval.list")["id"]
    status, result = action(world, "approval.answer", execution_id=run, approved=True)
    assert status == "failed" and "approval.list" in result["error"]["hint"]


def test_an_approval_that_nobody_gave_is_ended(world):
    handle = start_approval(world)
    assert action(world, "recovery.reap")[1]["expired"] == []
    world.config["automation"] = {"approval_timeout": 1}
    let_pass(1.1)
    _, result = action(world, "recovery.reap")
    assert [entry["run"] for entry in result["expired"]] == [handle.id]
    run = handle.wait(PATIENCE_SECONDS)
    assert run["status"] == "failed" and run["result"]["output"]["ticket"]


@pytest.fixture
def let_go(world):
    """An event without which the platform does not answer; it is set at the end in any case."""
    event = threading.Event()

    def answer(call):
        event.wait(PATIENCE_SECONDS)

    world.box.script("platform", [answer], forever=True)
    yield event
    event.set()


def test_a_run_that_was_cancelled_is_logged_once(world, let_go):
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    until(lambda: world.box.calls_to("platform"), "the platform is asked")
    world.local.stop(world.local.live(handle.id))
    let_go.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    _, result = action(world, "recovery.reap")
    assert [entry["run"] for entry in result["logged"]] == [handle.id]
    ticket = action(world, "ticket.get", ticket_id=result["logged"][0]["ticket"])[1]["ticket"]
    assert ticket["subject"] == "agent_1" and ticket["run"] == handle.id
    assert action(world, "recovery.reap")[1]["logged"] == []


def test_a_run_within_its_time_is_left_alone(world, let_go):
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    result = action(world, "recovery.reap")[1]
    assert result["abandoned"] == result["canceled"] == result["logged"] == []
    let_go.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "succeeded"


def failed_run(world, name, **parameters):
    return world.local.run("synthralos." + name, parameters)


def test_a_failed_run_is_run_again(world):
    world.box.script("platform", [status(422)])
    run = failed_run(world, "agent_recovery", **FAILED)
    assert run["status"] == "failed"
    retry_status, result = action(world, "recovery.retry", execution_id=run["id"])
    assert retry_status == "succeeded" and result["workflow"] == "agent_recovery"
    again = ended(world, result["run"])
    assert again["status"] == "succeeded" and again["parameters"]["agent_id"] == "agent_1"
    assert world.box.calls_to("platform")[-1].body["query"].startswith("What is 6 x 7?")


def test_an_llm_call_is_run_again_with_another_model(world):
    world.box.script("llm:openai/gpt-4", [status(422)], forever=True)
    request = {"model": "gpt-4", "prompt": "{{.Values.x}} <%= erb %>"}
    run = failed_run(world, "llm_retry", original_request=request, failure_reason="it failed")
    assert run["status"] == "failed"
    world.box.script("llm:openai/gpt-4", [status(503)], forever=True)
    _, result = action(world, "recovery.retry", execution_id=run["id"], model="gpt-4o")
    output = ended(world, result["run"])["result"]["output"]
    assert output["success"] and output["final_model"] == "gpt-4o"
    assert request["prompt"] in output["result"]["response"]


def test_what_a_run_knows_nothing_of_is_refused(world):
    run = failed_run(world, "agent_recovery", **FAILED)
    status, result = action(world, "recovery.retry", execution_id=run["id"], region="eu-west-1")
    assert status == "failed" and result["error"]["field"] == "region"
    ticket = failed_run(world, "ticket.list")
    status, result = action(world, "recovery.retry", execution_id=ticket["id"])
    assert status == "failed" and "agent_recovery" in result["error"]["hint"]


def test_the_last_query_of_an_agent(world):
    parameters = dict(FAILED, original_query="@last")
    run, output = world.run("agent_recovery", **parameters)
    assert run["status"] == "failed" and "no earlier query is known" in output["error"]["hint"]
    world.run("agent_recovery", **FAILED)
    assert world.run("agent_recovery", **parameters)[1]["success"]
