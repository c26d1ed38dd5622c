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


def asked(world):
    handle = world.local.start("synthralos.handle_error", ERROR)
    handle.wait_for("paused")
    return handle


@pytest.mark.parametrize("approved, outcome", [(True, "succeeded"), (False, "failed")])
def test_an_approval_is_listed_and_given_or_refused(world, approved, outcome):
    handle = asked(world)
    _, listed = action(world, "approval.list")
    assert [one["run"] for one in listed["approvals"]] == [handle.id]
    assert listed["approvals"][0]["workflow"] == "handle_error"
    assert "resolved" in listed["approvals"][0]["question"]
    done, told = action(world, "approval.answer", execution_id=handle.id, approved=approved)
    assert done == "succeeded" and told["approved"] is approved
    assert handle.wait(PATIENCE_SECONDS)["status"] == outcome


def test_what_waits_for_no_approval_is_refused(world):
    run = world.local.run("synthralos.approval.list")["id"]
    done, told = action(world, "approval.answer", execution_id=run, approved=True)
    assert done == "failed" and "approval.list" in told["error"]["hint"]


def test_an_approval_that_nobody_gave_is_ended(world):
    handle = asked(world)
    assert action(world, "recovery.reap")[1]["expired"] == []
    world.config["automation"] = {"approval_timeout": 1}
    let_pass(1.1)
    _, told = action(world, "recovery.reap")
    assert [one["run"] for one in told["expired"]] == [handle.id]
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
    _, told = action(world, "recovery.reap")
    assert [one["run"] for one in told["logged"]] == [handle.id]
    ticket = action(world, "ticket.get", ticket_id=told["logged"][0]["ticket"])[1]["ticket"]
    assert ticket["subject"] == "agent_1" and ticket["run"] == handle.id
    assert action(world, "recovery.reap")[1]["logged"] == []


def test_a_run_within_its_time_is_left_alone(world, let_go):
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    told = action(world, "recovery.reap")[1]
    assert told["abandoned"] == told["canceled"] == told["logged"] == []
    let_go.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "succeeded"


def failed_run(world, name, **parameters):
    return world.local.run("synthralos." + name, parameters)


def test_a_failed_run_is_run_again(world):
    world.box.script("platform", [status(422)])
    run = failed_run(world, "agent_recovery", **FAILED)
    assert run["status"] == "failed"
    done, told = action(world, "recovery.retry", execution_id=run["id"])
    assert done == "succeeded" and told["workflow"] == "agent_recovery"
    again = ended(world, told["run"])
    assert again["status"] == "succeeded" and again["parameters"]["agent_id"] == "agent_1"
    assert world.box.calls_to("platform")[-1].body["query"].startswith("What is 6 x 7?")


def test_an_llm_call_is_run_again_with_another_model(world):
    world.box.script("llm:openai/gpt-4", [status(422)], forever=True)
    request = {"model": "gpt-4", "prompt": "{{.Values.x}} <%= erb %>"}
    run = failed_run(world, "llm_retry", original_request=request, failure_reason="it failed")
    assert run["status"] == "failed"
    world.box.script("llm:openai/gpt-4", [status(503)], forever=True)
    _, told = action(world, "recovery.retry", execution_id=run["id"], model="gpt-4o")
    output = ended(world, told["run"])["result"]["output"]
    assert output["success"] and output["final_model"] == "gpt-4o"
    assert request["prompt"] in output["result"]["response"]


def test_what_a_run_knows_nothing_of_is_refused(world):
    run = failed_run(world, "agent_recovery", **FAILED)
    done, told = action(world, "recovery.retry", execution_id=run["id"], region="eu-west-1")
    assert done == "failed" and told["error"]["field"] == "region"
    ticket = failed_run(world, "ticket.list")
    done, told = action(world, "recovery.retry", execution_id=ticket["id"])
    assert done == "failed" and "agent_recovery" in told["error"]["hint"]


def test_the_last_query_of_an_agent(world):
    given = dict(FAILED, original_query="@last")
    run, output = world.run("agent_recovery", **given)
    assert run["status"] == "failed" and "no earlier one is known" in output["error"]["hint"]
    world.run("agent_recovery", **FAILED)
    assert world.run("agent_recovery", **given)[1]["success"]
