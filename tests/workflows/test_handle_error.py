import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from sandbox import agent_failed, ok, rate_limit, status

TIMEOUT = {
    "agent_id": "agent_1",
    "task_id": "task_1",
    "error": {"type": "timeout_error", "message": "it timed out"},
    "original_query": "What is 6 x 7?",
}


def handle(world, **parameters):
    return world.run("handle_error", **dict(TIMEOUT, **parameters))


def action(world, name, **parameters):
    return world.local.run("synthralos." + name, parameters)["result"]["result"]


def test_a_simple_retry(world):
    world.box.script("platform", [agent_failed(), ok(text="42")])
    run, output = handle(world)
    assert run["status"] == "succeeded" and output["recovered"] and not output["escalated"]
    assert output["strategies_tried"] == ["auto_retry"] and output["validation"]["is_valid"]
    assert output["result"]["recovery_result"]["output"] == "42"
    queries = [call.body["query"] for call in world.box.calls_to("platform")]
    assert [query.startswith(TIMEOUT["original_query"]) for query in queries] == [True, True]
    assert "Context:" in queries[0] and "restate" in queries[1]


def test_an_llm_call_is_retried_with_the_error_s_back_off(world):
    world.box.script("llm:openai/gpt-4", [rate_limit(retry_after=0), ok(text="Hi")])
    run, output = handle(
        world,
        error={"type": "communication_error", "message": "connection reset"},
        original_query=None,
        original_request={"prompt": "Hello", "model": "gpt-4"},
    )
    assert output["recovered"] and output["result"]["result"]["response"] == "Hi"


def test_rollback_to_the_newest_good_snapshot(world):
    state = {"model_version": "2.1.0", "progress": 0.85}
    snapshot = action(world, "snapshot.create", agent_id="agent_1", task_id="task_1", state=state)
    run, output = handle(world, strategy="rollback", original_query=None)
    assert run["status"] == "succeeded" and output["recovered"]
    assert output["snapshot"] == snapshot["snapshot_id"]
    assert output["result"] == {"restored": True, "state": state}
    assert world.box.calls_to("platform/restore")[0].body["state"] == state


def test_after_a_rollback_what_failed_runs_again(world):
    action(world, "snapshot.create", agent_id="agent_1", task_id="task_1", state={"a": 1})
    run, output = handle(world, strategy="rollback")
    assert output["recovered"] and output["strategies_tried"] == ["rollback", "auto_retry"]
    assert output["result"]["restored"] and output["result"]["recovery_result"]["output"]
    world.box.script("platform", [status(400)], forever=True)
    run, output = handle(world, strategy="rollback")
    assert run["status"] == "failed" and output["escalated"] and not output["recovered"]
    assert output["strategies_tried"] == ["rollback", "auto_retry"] and output["ticket"]
    assert output["result"]["state"] == {"a": 1}


def test_a_state_that_nobody_put_back_is_no_recovery(world):
    del world.config["platforms"][0]["restore_path"]
    action(world, "snapshot.create", agent_id="agent_1", task_id="task_1", state={"a": 1})
    run, output = handle(world, strategy="rollback", original_query=None)
    assert run["status"] == "failed" and output["escalated"] and output["ticket"]
    assert output["result"] == {"restored": False, "state": {"a": 1}}
    assert "restore_path" in output["error"]["reason"]


def test_a_platform_that_restores_nothing_is_no_recovery(world):
    world.config["platforms"][0]["restore_path"] = "/nothing/here"
    action(world, "snapshot.create", agent_id="agent_1", task_id="task_1", state={"a": 1})
    run, output = handle(world, strategy="rollback", original_query=None)
    assert run["status"] == "failed" and output["steps"][0]["restored"] is False


def test_a_run_that_is_refused_says_why(world):
    run, output = handle(world, agent_id="two words")
    assert run["status"] == "failed" and output["ticket"] and output["escalated"]
    assert output["error"]["field"] == "agent_id" and output["error"]["hint"]


def test_a_run_that_escalates_says_the_error_and_why(world):
    _, output = handle(world, error={"type": "resource_error", "message": "out of memory"})
    assert output["error"]["cause"] == "resource"
    assert output["error"]["message"] == "out of memory"
    assert "for a person" in output["error"]["reason"]


def test_after_two_errors_a_snapshot_is_gone_back_to_before_anything_is_retried(world):
    action(world, "snapshot.create", agent_id="agent_1", task_id="task_1", state={"a": 1})
    for _ in range(2):
        assert handle(world)[1]["strategy"] == "auto_retry"
    assert handle(world)[1]["strategy"] == "rollback"


def test_without_a_snapshot_a_rollback_escalates(world):
    run, output = handle(world, strategy="rollback")
    assert run["status"] == "failed" and output["escalated"] and output["ticket"]
    assert output["strategies_tried"] == ["rollback", "escalation"]


def test_a_loop_pauses_the_agent_and_its_recovery_is_refused_until_it_is_resumed(world):
    world.box.script("platform", [agent_failed()], forever=True)
    seen = []
    for _ in range(8):
        run, output = handle(world, max_retries=0, context={"retry_count": 0})
        seen.append(output["strategy"])
        if output["strategy"] == "circuit_breaker":
            break
    assert seen[-1] == "circuit_breaker" and run["status"] == "failed"
    assert output["escalated"] and output["ticket"]
    _, refused = world.run(
        "agent_recovery", agent_id="agent_1", failure_type="error", original_query="q"
    )
    assert "is paused" in refused["error"]["message"] and refused["error"]["hint"]
    assert action(world, "loop.patterns", agent_id="agent_1")["patterns"]
    action(world, "loop.reset", agent_id="agent_1")
    world.box.script("platform", [])
    _, output = world.run(
        "agent_recovery", agent_id="agent_1", failure_type="error", original_query="q"
    )
    assert output["recovery_success"]


@pytest.mark.parametrize("error", [
    {"type": "resource_error", "message": "out of memory"},
    {"type": "validation_error", "severity": "critical"},
    {"type": "agent_failure"},
])
def test_what_is_critical_or_serious_is_escalated_at_once(world, error):
    run, output = handle(world, error=error)
    assert run["status"] == "failed" and output["strategies_tried"] == ["escalation"]
    assert output["escalated"] and not output["recovered"]
    assert world.box.calls_to("platform") == []
    ticket = action(world, "ticket.get", ticket_id=output["ticket"])["ticket"]
    assert ticket["subject"] == "agent_1" and ticket["run"] == run["id"]


def test_a_retry_that_fails_is_escalated_with_one_ticket(world):
    world.box.script("platform", [status(400)], forever=True)
    run, output = handle(world)
    assert run["status"] == "failed" and output["escalated"] and not output["recovered"]
    tickets = action(world, "ticket.list")["tickets"]
    assert [ticket["ticket"] for ticket in tickets] == [output["ticket"]]


def test_hybrid_rolls_back_then_retries_then_escalates(world):
    world.box.script("platform", [status(400)], forever=True)
    _, output = handle(world, strategy="hybrid")
    assert output["strategies_tried"][:2] == ["rollback", "auto_retry"] and output["escalated"]


def test_manual_asks_a_person(world):
    handle_ = world.local.start("synthralos.handle_error", dict(TIMEOUT, strategy="manual"))
    handle_.wait_for("paused")
    child = [
        execution
        for execution in world.local.executions(parent=handle_.id)
        if execution["status"] == "pending"
    ][0]
    world.local.respond(child["id"], {"resolved": True})
    run = handle_.wait(PATIENCE_SECONDS)
    assert run["status"] == "succeeded" and run["result"]["output"]["recovered"]


def test_a_stability_window_is_waited_for_and_a_new_error_spoils_it(world):
    run, output = handle(world, stability_window=1)
    assert output["recovered"] and world.local.delays == [1]


def test_a_recovery_inside_a_recovery_is_refused(world):
    source = """
version: 1.0
tasks:
  handle:
    action: synthralos.handle_error
    input:
      agent_id: agent_1
      error: {type: timeout_error}
"""
    world.with_action("unused", "")
    (world.pack / "actions" / "workflows" / "llm_retry.yaml").write_text(source)
    world.run(
        "llm_retry", original_request={"prompt": "x", "model": "gpt-4"}, failure_reason="x"
    )
    inner = [
        execution for execution in world.local.executions(top=False)
        if execution["action"]["ref"] == "synthralos.handle_error"
    ][0]
    assert inner["status"] == "failed"
    assert "is being recovered" in str(world.local.executions(parent=inner["id"]))


@pytest.mark.parametrize("parameters, field", [
    ({"error": {"type": "bad luck"}}, "error.type"),
    ({"error": {"severity": "awful"}}, "error.severity"),
    ({"agent_id": "no good"}, "agent_id"),
    ({"original_request": {"model": "gpt-4"}}, "original_request"),
])
def test_bad_input_is_refused_and_logged(world, parameters, field):
    run, output = handle(world, **parameters)
    assert run["status"] == "failed" and output["recovered"] is False
    refusal = world.local.executions(parent=run["id"])[-1]["result"]["result"]["error"]
    assert refusal["field"] == field and output["ticket"]


def test_twenty_at_once_lose_no_record(world):
    ended = []

    def handle_once():
        ended.append(handle(world, error={"type": "agent_failure", "message": "x"})[1])

    threads = [threading.Thread(target=handle_once) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = action(world, "history.list", agent_id="agent_1", limit=100)["versions"]
    assert len([version for version in versions if version["kind"] == "error"]) == 20
    for ticket in {output["ticket"] for output in ended}:
        assert action(world, "ticket.get", ticket_id=ticket)["ticket"]
