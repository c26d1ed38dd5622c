"""Snapshots that are checkpoints of a real LangGraph Server (`make judges`), as whole runs."""
import pytest
from fixtures import PACK
from fixtures.agent_servers import KEY, Agent, client, langgraph
from fixtures.waiting import PATIENCE_SECONDS, until

from st2local import St2Local
from synthralos.calls.agent_platforms import connect


@pytest.fixture(scope="module")
def base_url(tmp_path_factory, effects):
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        yield base_url


@pytest.fixture
def local(base_url, tmp_path):
    config = {
        "platforms": [
            {"name": "graphs", "api": "langgraph", "base_url": base_url, "token": KEY},
        ],
        "agents": {"bot": {"platform": "graphs", "agent": "steps"}},
    }
    with St2Local(PACK, config, tmp_path / "state") as local:
        yield local


def run(local, action, **parameters):
    execution = local.run("synthralos." + action, parameters)
    result = execution["result"]
    return execution["status"], result.get("output") or result.get("result")


def failed_run(base_url, query):
    """The handle of a run whose fourth node has failed, as an application has started it."""
    agent = Agent({"api": "langgraph", "base_url": base_url, "token": KEY}, "steps")
    platform = connect(client(), agent.platform)
    state = platform.start(agent.request(query), PATIENCE_SECONDS)

    def ended():
        now = platform.join(state.handle, PATIENCE_SECONDS)
        return None if now.status == "running" else now

    assert until(ended, "the run ends").status == "failed"
    ids = {"thread": state.handle.ids["thread"]}
    return {"api": "langgraph", "platform": "graphs", "agent": "steps", "ids": ids}


def runs_of_nodes(effects, query):
    lines = effects.read_text().split("\n")
    return [lines.count("%s %s" % (node, query)) for node in ("n1", "n2", "n3", "n4", "n5")]


def test_a_snapshot_is_restored_and_the_agent_goes_on_from_it(local, base_url, effects):
    handle = failed_run(base_url, "tour-snapshot")
    status, snapshot = run(
        local, "snapshot.create", agent_id="bot", task_id="tour", handle=handle)
    assert status == "succeeded", snapshot
    ended = dict(agent_id="bot", failure_type="error", original_query="tour-snapshot",
                 retry_delay=0, context={"handle": handle})
    assert run(local, "agent_recovery", **ended)[0] == "succeeded"
    assert runs_of_nodes(effects, "tour-snapshot") == [1, 1, 1, 3, 1]
    status, restored = run(local, "snapshot.restore", snapshot_id=snapshot["snapshot_id"])
    assert status == "succeeded" and restored["restored"], restored
    # The thread is before its fourth node again.
    assert run(local, "agent_recovery", **ended)[0] == "succeeded"
    assert runs_of_nodes(effects, "tour-snapshot") == [1, 1, 1, 4, 2]


def test_a_rollback_goes_on_from_the_newest_snapshot(local, base_url, effects):
    handle = failed_run(base_url, "tour-rollback")
    run(local, "snapshot.create", agent_id="bot", task_id="tour", handle=handle)
    status, output = run(
        local, "handle_error", agent_id="bot", task_id="tour", strategy="rollback",
        error={"type": "agent_failure", "message": "the graph broke"},
        original_query="tour-rollback",
    )
    assert status == "succeeded", output
    assert output["strategies_tried"] == ["rollback", "auto_retry"]
    assert runs_of_nodes(effects, "tour-rollback") == [1, 1, 1, 3, 1]


@pytest.mark.parametrize("change, field", [
    ({"platform": "elsewhere"}, "handle.platform"), ({"agent": "other"}, "handle.agent"),
    ({"ids": {"run": "r"}}, "handle.ids"),
])
def test_a_handle_of_something_else_is_refused(local, base_url, change, field):
    handle = {"api": "langgraph", "platform": "graphs", "agent": "steps", "ids": {"thread": "t"}}
    status, result = run(local, "snapshot.create", agent_id="bot", task_id="t",
                         handle=dict(handle, **change))
    assert status == "failed" and result["error"]["field"] == field


def test_a_thread_without_a_checkpoint_has_no_snapshot(local, base_url):
    handle = {"api": "langgraph", "platform": "graphs", "agent": "steps",
              "ids": {"thread": "6f0d1c5e-0a0b-4d0e-9d5f-2a4c1c5f7b31"}}
    status, result = run(local, "snapshot.create", agent_id="bot", task_id="t", handle=handle)
    assert status == "failed" and "no checkpoint" in result["error"]["message"]
