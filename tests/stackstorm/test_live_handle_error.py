"""The six scenarios of error handling on a live StackStorm."""
import secrets

import pytest

from sandbox import agent_failed, ok


@pytest.fixture
def agent():
    """An agent that nothing is recorded of."""
    return "agent-" + secrets.token_hex(4)


def error(kind, message="it happened"):
    return {"type": kind, "message": message}


def action(st2, name, **parameters):
    execution, _ = st2.run(name, **parameters)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]


def test_simple_retry(st2, box, agent):
    box.script("platform", [agent_failed(), ok(text="42")])
    run, output = st2.run(
        "handle_error", agent_id=agent, error=error("timeout_error"), original_query="6 x 7?"
    )
    assert run["status"] == "succeeded" and output["recovered"] and output["steps"][0]["ok"]
    assert output["result"]["recovery_result"]["output"] == "42"


def test_rollback(st2, box, agent):
    state = {"progress": 0.85, "text": "<% 1+1 %> {{.Values.x}}"}
    snapshot = action(st2, "snapshot.create", agent_id=agent, task_id="t", state=state)
    run, output = st2.run(
        "handle_error", agent_id=agent, task_id="t", error=error("validation_error"),
        strategy="rollback",
    )
    assert output["recovered"] and output["snapshot"] == snapshot["snapshot_id"]
    assert output["result"] == {"restored": True, "state": state}


def test_loop_pause_and_reset(st2, box, agent):
    box.script("platform", [agent_failed()], forever=True)
    for _ in range(8):
        _, output = st2.run(
            "handle_error", agent_id=agent, error=error("timeout_error", "the same again"),
            original_query="q", max_retries=0,
        )
        if output["strategy"] == "circuit_breaker":
            break
    assert output["strategy"] == "circuit_breaker" and output["ticket"]
    failed = {"agent_id": agent, "failure_type": "error", "original_query": "q"}
    run, refused = st2.run("agent_recovery", **failed)
    assert run["status"] == "failed" and "is paused" in refused["error"]["message"]
    action(st2, "loop.reset", agent_id=agent)
    box.script("platform", [])
    assert st2.run("agent_recovery", **failed)[1]["recovery_success"]


def test_immediate_escalation(st2, box, agent):
    run, output = st2.run(
        "handle_error", agent_id=agent, error=error("resource_error", "out of memory"),
        original_query="q",
    )
    assert run["status"] == "failed" and output["escalated"] and not box.calls_to("platform")
    ticket = action(st2, "ticket.get", ticket_id=output["ticket"])["ticket"]
    assert ticket["level"] == "critical_alert"
    action(st2, "ticket.resolve", ticket_id=output["ticket"], resolution="more memory")


def test_history_with_a_diff(st2, box, agent):
    for status in ("running", "completed"):
        action(st2, "history.record", agent_id=agent, task_id="t", state={"status": status})
    between = {"from": "v0001", "to": "v0002"}
    comparison = action(st2, "history.compare", agent_id=agent, task_id="t", **between)
    assert "completed" in str(comparison) and "running" in str(comparison)


def test_health(st2, box, agent):
    health = action(st2, "health.get")
    assert health["status"] in ("healthy", "degraded", "critical")
    assert health["subsystem_status"]["datastore"]


def test_twenty_at_once_each_end_in_the_right_state(st2, box, agent):
    run_ids = [
        st2.start(
            "handle_error", agent_id="%s-%d" % (agent, n), error=error("timeout_error"),
            original_query="6 x 7?",
        )
        for n in range(20)
    ]
    runs = [st2.wait(run_id) for run_id in run_ids]
    assert {run["status"] for run in runs} == {"succeeded"}
    assert all(run["result"]["output"]["recovered"] for run in runs)
    assert len(box.calls_to("platform")) == 20


def test_a_check_action_decides_whether_a_snapshot_is_restored(st2, box, agent):
    config = box.pack_config()
    config["rollback"] = {"check_actions": ["core.local", "synthralos.snapshot.get"]}
    st2.call("PUT", "/configs/synthralos", json=config)
    snapshot = action(st2, "snapshot.create", agent_id=agent, task_id="t", state={"a": 1})
    parameters = {"snapshot_id": snapshot["snapshot_id"]}
    try:
        refused, _ = st2.run("snapshot.restore", check_action="core.remote", **parameters)
        assert refused["status"] == "failed"
        assert refused["result"]["result"]["error"]["field"] == "check_action"
        # core.local knows no snapshot_id: StackStorm refuses to start it, so nothing is restored.
        failed, _ = st2.run("snapshot.restore", check_action="core.local", **parameters)
        assert failed["status"] == "failed" and box.calls_to("platform/restore") == []
        restored, _ = st2.run(
            "snapshot.restore", check_action="synthralos.snapshot.get", **parameters
        )
        assert restored["status"] == "succeeded" and len(box.calls_to("platform/restore")) == 1
    finally:
        st2.call("PUT", "/configs/synthralos", json=box.pack_config())


def test_twenty_at_once_for_one_agent_lose_no_record(st2, box, agent):
    run_ids = [
        st2.start("handle_error", agent_id=agent, error=error("resource_error", "disk %d" % n))
        for n in range(20)
    ]
    runs = [st2.wait(run_id) for run_id in run_ids]
    assert {run["status"] for run in runs} == {"failed"}
    tickets = {run["result"]["output"]["ticket"] for run in runs}
    assert len(tickets) == 1
    ticket = action(st2, "ticket.get", ticket_id=tickets.pop())["ticket"]
    assert {event["run"] for event in ticket["events"]} == set(run_ids)
    timeline = action(st2, "history.timeline", agent_id=agent)["timeline"]
    assert sum(entry["kind"] == "error" for entry in timeline) == 20
