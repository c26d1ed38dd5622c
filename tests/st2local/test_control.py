"""Pause, resume, cancel, inquiries, and runs that a rule starts."""
import threading

import pytest
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, until

from st2local import InvalidInput


def children(local, run):
    return [child["status"] for child in local.executions(parent=run.id)]


def test_cancel_while_an_attempt_waits(make):
    local = make(delay=None)
    run = local.start("fixture.waits", {"seconds": ENDLESS_SECONDS})
    run.wait_for("running")
    until(lambda: children(local, run) == ["delayed"])
    run.cancel()
    execution = run.wait(PATIENCE_SECONDS)
    assert execution["status"] == "canceled"
    assert execution["result"] == {"output": {"done": None}}
    assert children(local, run) == ["canceled"]


def test_a_running_action_is_left_to_end_when_its_workflow_is_cancelled(local, gates):
    run = local.start("fixture.items", {"names": ["a"], "gate": gates.of("a")})
    until(lambda: children(local, run) == ["running"])
    run.cancel()
    run.wait_for("canceling")
    gates.open("a")
    assert run.wait(PATIENCE_SECONDS)["status"] == "canceled"
    assert children(local, run) == ["succeeded"]


def test_a_cancelled_action_by_itself_is_killed(local):
    run = local.start("fixture.ending", {"how": "slow"})
    run.wait_for("running")
    run.cancel()
    assert run.wait(PATIENCE_SECONDS)["status"] == "canceled"


@pytest.fixture
def waiting(make):
    """An St2Local whose delays last until `waiting.over` is set."""
    over = threading.Event()
    local = make(delay=lambda seconds: over.wait(PATIENCE_SECONDS))
    local.over = over
    yield local
    over.set()


def paused_while_it_waits(local, **parameters):
    run = local.start("fixture.waits", dict(parameters, seconds=1))
    until(lambda: children(local, run) == ["delayed"])
    run.pause()
    run.wait_for("pausing")
    local.over.set()
    run.wait_for("paused")
    return run


def test_pause_lets_a_waiting_attempt_run_and_holds_the_next(waiting):
    local, run = waiting, paused_while_it_waits(waiting)
    assert children(local, run) == ["succeeded"]
    run.resume()
    execution = run.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded"
    assert execution["result"] == {"output": {"done": "second"}}


def test_a_pause_over_the_last_task_loses_the_output(waiting):
    run = paused_while_it_waits(waiting, last=True)
    run.resume()
    execution = run.wait(PATIENCE_SECONDS)
    assert (execution["status"], execution["result"]) == ("succeeded", {"output": None})


def test_only_workflows_pause(local):
    run = local.start("fixture.ending", {"how": "text"})
    with pytest.raises(InvalidInput):
        run.pause()
    run.wait()


def pending_inquiry(local):
    inquiries = local.executions(action="core.ask", status="pending")
    return inquiries[0]["id"] if inquiries else None


@pytest.mark.parametrize("name", ["ask", "ask_parent"])
def test_inquiry(local, name):
    run = local.start("fixture." + name)
    run.wait_for("paused")
    inquiry = pending_inquiry(local)
    for wrong in ({"approved": "yes"}, {"approved": True, "more": 1}, {}):
        with pytest.raises(InvalidInput, match="did not pass schema validation"):
            local.respond(inquiry, wrong)
    local.respond(inquiry, {"approved": True})
    execution = run.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded"
    assert execution["result"]["output"]["decision"] == {"approved": True}
    with pytest.raises(InvalidInput, match="already been responded to"):
        local.respond(inquiry, {"approved": False})
    result = local.execution(inquiry)["result"]
    assert set(result) == {"schema", "roles", "users", "route", "ttl", "response"}
    assert [firing.trigger for firing in local.triggers()] == ["core.st2.generic.inquiry"]


def test_an_inquiry_ends_with_its_run(local):
    run = local.start("fixture.ask")
    run.wait_for("paused")
    run.cancel()
    assert run.wait(PATIENCE_SECONDS)["status"] == "canceled"
    assert pending_inquiry(local) is None


def test_a_run_that_a_rule_starts(local):
    execution = local.run(
        "fixture.two", rule="fixture.on_alert",
        trigger_instance={"payload": {"body": {"a": "<% 1+1 %> {{ x }}"}}})
    assert execution["trigger_instance"]["payload"] == {"body": {"a": "<% 1+1 %> {{ x }}"}}
    assert execution["rule"]["ref"] == "fixture.on_alert"
    assert execution["context"]["user"] == "stanley"
    assert execution["context"]["trigger_instance"]["id"] == execution["trigger_instance"]["id"]
    assert "parameters" not in execution


def test_user(local):
    assert local.run("fixture.two", user="ann")["context"]["user"] == "ann"


def test_times_come_from_the_clock(make):
    times = iter(range(1_000_000, 2_000_000))
    execution = make(clock=lambda: next(times)).run("fixture.two")
    assert execution["start_timestamp"] == "1970-01-12T13:46:40.000000Z"
    assert execution["end_timestamp"] > execution["start_timestamp"]


def test_executions_newest_first(local):
    first, second = local.run("fixture.two"), local.run("fixture.two")
    ids = [execution["id"] for execution in local.executions(top=True)]
    assert ids == [second["id"], first["id"]]
    assert all(len(execution_id) == 24 for execution_id in ids)
    assert [entry["status"] for entry in first["log"]] == ["requested", "running", "succeeded"]
