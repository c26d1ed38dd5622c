"""Agents that outlive a round, a process or a run of the workflow: started once, then joined."""
import threading

import pytest
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, until

from sandbox.langgraph import LangGraphServer

FAILED = {"agent_id": "invoices", "failure_type": "error", "original_query": "Sum up 4711"}
ANSWER = "4711 amounts to 12.50"


class Agent:
    """An agent whose effect is one line in a file, and which answers when it is let go."""

    def __init__(self, effects):
        self.effects = effects
        self.may_end = threading.Event()

    def work(self, run):
        with open(self.effects, "a") as effects:
            effects.write("paid\n")
        until(lambda: self.may_end.is_set() or run.cancelled.is_set(), "the agent may end")
        return ANSWER

    def lines(self):
        return self.effects.read_text().splitlines() if self.effects.exists() else []


@pytest.fixture
def agent(tmp_path):
    new_agent = Agent(tmp_path / "effects")
    yield new_agent
    new_agent.may_end.set()


@pytest.fixture
def graphs(agent, world):
    with LangGraphServer(agent.work) as server:
        world.config["platforms"] = [{
            "name": "graphs", "api": "langgraph", "base_url": server.base_url,
            "token": "sandbox-token", "hold_seconds": 1,
        }]
        world.config["agents"] = {"invoices": {"platform": "graphs", "agent": "invoice_graph"}}
        yield server


def start(world, **parameters):
    return world.local.start("synthralos.agent_recovery", dict(FAILED, **parameters))


def rounds(world, run):
    children = [
        child for child in world.local.executions(parent=run)
        if child["action"]["ref"] == "synthralos.execute_recovery"
    ]
    return sorted(children, key=lambda child: child["start_timestamp"])


def result_of(child):
    return (child.get("result") or {}).get("result") or {}


def polled(world, run):
    """Whether a round has said that the agent works on."""
    return any(
        result_of(child).get("status") == "running"
        for child in rounds(world, run) if child["status"] == "succeeded"
    )


def answer_of(execution):
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["output"]["recovery_result"]["output"]


def kill_process(world, execution_id):
    until(lambda: world.local.live(execution_id).run, "its process is started")
    world.local.live(execution_id).run.kill()


def let_it_die(world, handle, graphs, runs=1):
    """Kill the process of execute_recovery, with -9, while the agent works."""
    until(lambda: len(graphs.runs) == runs, "the agent was started")
    (child,) = rounds(world, handle.id)
    kill_process(world, child["id"])
    execution = handle.wait(PATIENCE_SECONDS)
    assert execution["status"] == "failed"
    return execution


def test_an_agent_that_outlives_its_round_is_joined_by_the_next_ones(world, graphs, agent):
    world.delay = lambda seconds: agent.may_end.set()
    handle = start(world)
    execution = handle.wait(PATIENCE_SECONDS)
    assert answer_of(execution) == ANSWER
    assert execution["result"]["output"]["attempts"] == 1
    assert len(graphs.runs) == 1 and agent.lines() == ["paid"]
    first, *later = rounds(world, handle.id)
    result = result_of(first)
    assert result["status"] == "running" and result["target"] == "platform:graphs"
    assert "has been running" in result["summary"] and result["next"]["delay"] >= 10
    assert later and result_of(later[-1])["success"]


def test_a_poll_holds_no_runner_and_carries_a_key(world, graphs, agent):
    delays = []

    def delay(seconds):
        delays.append(seconds)
        if len(delays) == 3:
            agent.may_end.set()

    world.delay = delay
    handle = start(world, context={"text": "x" * 5000})
    assert answer_of(handle.wait(PATIENCE_SECONDS)) == ANSWER
    assert len(graphs.runs) == 1 and len(delays) == 3
    running = [result_of(child) for child in rounds(world, handle.id)[:-1]]
    assert all(result["status"] == "running" for result in running)
    assert all(len(result["next"]["carry"]) < 500 for result in running)


def test_a_rerun_after_a_killed_process_joins_the_agent(world, graphs, agent):
    dead = let_it_die(world, start(world), graphs)
    again = world.local.re_run(dead["id"])
    until(lambda: rounds(world, again.id), "the agent is asked for")
    agent.may_end.set()
    execution = again.wait(PATIENCE_SECONDS)
    assert answer_of(execution) == ANSWER
    assert len(graphs.runs) == 1 and agent.lines() == ["paid"]


def test_a_rerun_of_a_rerun_returns_the_answer_that_came_meanwhile(world, graphs, agent):
    dead = let_it_die(world, start(world), graphs)
    dead_again = let_it_die_again(world, dead["id"])
    agent.may_end.set()
    until(lambda: graphs.runs[0].status == "success", "the agent has ended")
    execution = world.local.re_run(dead_again).wait(PATIENCE_SECONDS)
    assert answer_of(execution) == ANSWER
    assert len(graphs.runs) == 1 and agent.lines() == ["paid"]


def let_it_die_again(world, run):
    again = world.local.re_run(run)
    until(lambda: rounds(world, again.id), "the agent is asked for")
    (child,) = rounds(world, again.id)[:1]
    kill_process(world, child["id"])
    assert again.wait(PATIENCE_SECONDS)["status"] == "failed"
    return again.id


def test_a_rerun_after_a_delivered_answer_starts_the_agent_again(world, graphs, agent):
    agent.may_end.set()
    first = start(world).wait(PATIENCE_SECONDS)
    assert answer_of(first) == ANSWER
    assert answer_of(world.local.re_run(first["id"]).wait(PATIENCE_SECONDS)) == ANSWER
    assert len(graphs.runs) == 2


def test_a_request_with_the_same_key_joins_and_another_starts_its_own(world, graphs, agent):
    refund, other_refund = {"idempotency_key": "refund-1"}, {"idempotency_key": "refund-2"}
    first = start(world, context=refund)
    until(lambda: len(graphs.runs) == 1, "the agent was started")
    second, third = start(world, context=refund), start(world, context=other_refund)
    until(lambda: len(graphs.runs) == 2, "the other request was started")
    until(lambda: rounds(world, second.id), "the second request asks for the agent")
    agent.may_end.set()
    for handle in (first, second, third):
        assert answer_of(handle.wait(PATIENCE_SECONDS)) == ANSWER
    assert len(graphs.runs) == 2 and agent.lines() == ["paid", "paid"]


def test_the_agent_of_a_cancelled_run_is_cancelled_by_the_reaper(world, graphs, agent):
    world.delay = lambda seconds: cancelled.wait(ENDLESS_SECONDS)
    cancelled = threading.Event()
    handle = start(world)
    until(lambda: polled(world, handle.id), "a round has left the agent working")
    reaped = world.local.run("synthralos.recovery.reap")["result"]["result"]
    assert reaped["agents"] == [] and not graphs.runs[0].cancelled.is_set()
    handle.cancel()
    cancelled.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    reaped = world.local.run("synthralos.recovery.reap")["result"]["result"]
    assert reaped["agents"] == [{
        "run": handle.id, "agent_id": "invoices", "target": "platform:graphs",
        "confirmed": True,
    }]
    assert graphs.runs[0].status == "interrupted"
    assert world.local.run("synthralos.recovery.reap")["result"]["result"]["agents"] == []
    assert len(graphs.runs) == 1 and agent.lines() == ["paid"]


def test_a_second_request_keeps_the_agent_of_a_cancelled_run(world, graphs, agent):
    gate = threading.Event()
    world.delay = lambda seconds: gate.wait(ENDLESS_SECONDS)
    key = {"idempotency_key": "refund-1"}
    first = start(world, context=key)
    until(lambda: polled(world, first.id), "a round has left the agent working")
    second = start(world, context=key)
    until(lambda: polled(world, second.id), "the second request waits for the agent")
    health = world.local.run("synthralos.health.get")["result"]["result"]
    (running,) = health["running_agents"]
    assert (running["agent_id"], running["run"]) == ("invoices", first.id)
    first.cancel()
    reaped = world.local.run("synthralos.recovery.reap")["result"]["result"]
    assert reaped["agents"] == [] and graphs.runs[0].status == "running"
    agent.may_end.set()
    gate.set()
    assert answer_of(second.wait(PATIENCE_SECONDS)) == ANSWER
    assert len(graphs.runs) == 1


@pytest.mark.parametrize("method, starts_before", [("GET", 0), ("POST", 1)], ids=["lost", "sent"])
def test_a_process_that_dies_in_the_start_starts_nothing_twice(
    world, graphs, agent, monkeypatch, method, starts_before
):
    agent.may_end.set()
    is_held, let_go = threading.Event(), threading.Event()
    answer = graphs.answer

    def hold_first(called_method, path, body, headers):
        reply = answer(called_method, path, body, headers)
        if called_method == method and not is_held.is_set():
            is_held.set()
            let_go.wait(PATIENCE_SECONDS)
        return reply

    monkeypatch.setattr(graphs, "answer", hold_first)
    handle = start(world)
    until(is_held.is_set, "the start is on its way")
    (child,) = rounds(world, handle.id)
    kill_process(world, child["id"])
    dead = handle.wait(PATIENCE_SECONDS)
    let_go.set()
    assert dead["status"] == "failed" and len(graphs.runs) == starts_before
    assert answer_of(world.local.re_run(dead["id"]).wait(PATIENCE_SECONDS)) == ANSWER
    assert len(graphs.runs) == 1 and agent.lines() == ["paid"]
