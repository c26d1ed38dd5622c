"""Agents on each kind of platform that is polled, as whole runs: killed, joined, cancelled, and two
processes of one execution at once.
"""
import base64
import itertools
import json
import os
import threading

import pytest
from fixtures.otlp_receiver import Receiver
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, let_pass, until

from sandbox.a2a import A2AServer
from sandbox.langgraph import LangGraphServer
from sandbox.responses import ResponsesServer
from st2local import St2Local
from synthralos.calls import trace_exporter

pytest.importorskip("opentelemetry.proto")

FAILED = {"agent_id": "invoices", "failure_type": "error", "original_query": "Sum up 4711"}
ANSWER = "4711 amounts to {{ 12.50 }}"
ROUND = "synthralos.execute_recovery"


def gateway_ids():
    """Ids as a gateway gives them: hundreds of characters of base64, others at each look."""
    numbers = itertools.count()

    def id_of(run):
        length = 180 if next(numbers) == 0 else 340
        return "resp_" + base64.b64encode(b"\xfb\xff" + os.urandom(length)).decode()

    return id_of


SERVERS = {
    "langgraph": LangGraphServer,
    "a2a": A2AServer,
    "openai_responses": ResponsesServer,
    "gateway": lambda work: ResponsesServer(work, gateway_ids()),
}


class Agent:
    """An agent that works until it may end."""

    def __init__(self):
        self.effects, self.may_end = [], threading.Event()

    def work(self, run):
        self.effects.append(run.query)
        until(lambda: self.may_end.is_set() or run.cancelled.is_set(), "the agent may end")
        return ANSWER


@pytest.fixture
def agent():
    new_agent = Agent()
    yield new_agent
    new_agent.may_end.set()


@pytest.fixture(params=SERVERS)
def server(request, agent, world):
    api = "openai_responses" if request.param == "gateway" else request.param
    with SERVERS[request.param](agent.work) as server:
        world.config["platforms"] = [
            {"name": "p", "api": api, "base_url": server.base_url, "hold_seconds": 1}]
        world.config["agents"] = {"invoices": {"platform": "p", "agent": "gpt-4o"}}
        yield server


def rounds(world, run_id, *statuses):
    return [
        child for child in world.local.executions(parent=run_id)
        if child["action"]["ref"] == ROUND and (not statuses or child["status"] in statuses)
    ]


def polled(world, run_id):
    """Whether a round has said that the agent works on."""
    ended = rounds(world, run_id, "succeeded")
    results = [(row.get("result") or {}).get("result") or {} for row in ended]
    return any(result.get("status") == "running" for result in results)


def answer_of(execution):
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["output"]["recovery_result"]["output"]


def test_a_run_that_is_killed_in_a_poll_is_joined_by_its_re_run(world, server, agent):
    gate = threading.Event()
    world.delay = lambda seconds: gate.wait(ENDLESS_SECONDS)
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    until(lambda: polled(world, handle.id), "a round has left the agent working")
    gate.set()

    def killed():
        for row in rounds(world, handle.id, "running"):
            execution = world.local.live(row["id"])
            if execution is not None and execution.run is not None:
                execution.run.kill()
        return world.local.execution(handle.id)["status"] == "failed"

    until(killed, "the run has failed")
    again = world.local.re_run(handle.id)
    until(lambda: rounds(world, again.id), "the agent is asked for")
    agent.may_end.set()
    execution = again.wait(PATIENCE_SECONDS)
    assert answer_of(execution) == ANSWER and execution["result"]["output"]["attempts"] == 1
    assert len(server.runs) == 1 and agent.effects == [FAILED["original_query"]]


def test_the_agent_of_a_cancelled_run_is_cancelled(world, server, agent):
    cancelled = threading.Event()
    world.delay = lambda seconds: cancelled.wait(ENDLESS_SECONDS)
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    until(lambda: polled(world, handle.id), "a round has left the agent working")
    handle.cancel()
    cancelled.set()
    handle.wait(PATIENCE_SECONDS)
    reaped = world.local.run("synthralos.recovery.reap")["result"]["result"]
    assert [entry["confirmed"] for entry in reaped["agents"]] == [True]
    assert server.runs[0].cancelled.is_set() and len(server.runs) == 1


def test_two_processes_of_one_execution_start_it_once(world, server, agent, monkeypatch):
    """StackStorm schedules an item twice that it handles for over a minute."""
    process, twins = St2Local._process, []

    def process_twice(self, execution, *arguments):
        if execution.action.ref == ROUND and not twins:
            twin = threading.Thread(target=process, args=(self, execution, *arguments))
            twins.append(twin)
            twin.start()
            let_pass(0.05)
        return process(self, execution, *arguments)

    def let_agent_end(seconds):
        # Neither process of the first round waits for the agent any longer.
        twins[0].join(PATIENCE_SECONDS)
        agent.may_end.set()

    monkeypatch.setattr(St2Local, "_process", process_twice)
    world.delay = let_agent_end
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    execution = handle.wait(PATIENCE_SECONDS)
    assert answer_of(execution) == ANSWER and execution["result"]["output"]["attempts"] == 1
    assert len(server.runs) == 1 and agent.effects == [FAILED["original_query"]]
    assert len(world.local.keys.list("synthralos.outcome.")) == 1


def test_an_agent_that_fails_is_followed_by_one_of_another_kind(world, server, agent):
    agent.may_end.set()

    def fail(run):
        raise RuntimeError("{{ it }} broke")

    server._work = fail
    with LangGraphServer(agent.work) as other:
        world.config["platforms"].append(
            {"name": "other", "api": "langgraph", "base_url": other.base_url})
        world.config["agents"]["invoices"]["fallbacks"] = [{"platform": "other", "agent": "g"}]
        execution = world.local.run("synthralos.agent_recovery", FAILED)
    assert answer_of(execution) == ANSWER
    first, second = execution["result"]["output"]["trail"]
    assert (first["target"], first["ok"], second["target"], second["ok"]) == (
        "platform:p", False, "platform:other", True)
    assert "{{ it }} broke" in first["message"]


@pytest.fixture
def receiver(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    collector = Receiver()
    yield collector
    collector.close()


def test_all_that_tells_of_runs_knows_the_kind(world, server, agent, receiver):
    """handle_error, trace, report, metrics and health, of an agent that outlives its round."""
    world.config["tracing"] = {
        "endpoint": receiver.url, "timeout": trace_exporter.MAX_TIMEOUT_SECONDS}

    def action(name, **parameters):
        run = world.local.run("synthralos." + name, parameters)
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]

    def delay(seconds):
        healths.append(action("health.get"))
        agent.may_end.set()

    healths, world.delay = [], delay
    execution, output = world.run(
        "handle_error", agent_id="invoices", task_id="t1", original_query="Sum up 4711",
        error={"type": "timeout_error", "message": "it timed out"})
    assert execution["status"] == "succeeded" and output["recovered"], output
    assert output["result"]["recovery_result"]["output"] == ANSWER and len(server.runs) == 1
    (running,) = healths[0]["running_agents"]
    assert (running["agent_id"], running["target"]) == ("invoices", "platform:p")
    spans = [span for span in receiver.spans() if span.name.startswith("invoke_agent")]
    assert {span.attributes["gen_ai.provider.name"] for span in spans} == {"p"}
    assert "platform:p" in json.dumps(action("report.render", execution_id=execution["id"]))
    assert "platform:p" in json.dumps(action("metrics.get"))
    checks = action("pack.check")["checks"]
    assert [row["status"] for row in checks if row["name"] == "platform:p"] == ["ok"]
