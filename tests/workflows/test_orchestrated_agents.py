"""Steps of orchestrations that run an agent: `synthralos.agent_recovery` as their action."""
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, until
from workflows.orchestrations import Orchestrated, logs, statuses

from sandbox.langgraph import LangGraphServer


class Agent:
    """An agent with an effect, which may be held; the queries in `broken` fail once."""

    def __init__(self):
        self.effects, self.broken = [], set()
        self.may_end = threading.Event()
        self.may_end.set()

    def work(self, run):
        self.effects.append(run.query)
        until(lambda: self.may_end.is_set() or run.cancelled.is_set(), "the agent may end")
        if run.query in self.broken:
            self.broken.discard(run.query)
            raise RuntimeError("it broke")
        return "did: %s" % run.query


@pytest.fixture
def agent():
    new_agent = Agent()
    yield new_agent
    new_agent.may_end.set()


@pytest.fixture
def flow(world, agent):
    with LangGraphServer(agent.work) as server:
        world.config["platforms"] = [
            {"name": "graphs", "api": "langgraph", "base_url": server.base_url}]
        world.config["agents"] = {"bot": {"platform": "graphs", "agent": "g"}}
        world.config["orchestration"] = {"allowed_actions": ["synthralos.agent_recovery"]}
        world.agents = server
        yield Orchestrated(world)


def agent_step(name, query, **more):
    parameters = {"agent_id": "bot", "failure_type": "error", "original_query": query}
    return dict({"name": name, "action": "synthralos.agent_recovery", "parameters": parameters,
                 "output": {name: "{{output.recovery_result.output}}"}}, **more)


def test_an_agent_is_a_step_whose_output_others_use(flow, agent):
    flow.answers["Editor"] = lambda prompt, number: "edited " + prompt
    flow.define([
        agent_step("draft", "write about {{input.topic}}"),
        {"name": "edit", "role": "Editor", "input": {"text": "{{context.draft}}"}},
    ])
    execution, output = flow.run(input={"topic": "{{ 7*7 }} <% ctx() %>"})
    assert execution["status"] == "succeeded", output["error"]
    assert agent.effects == ["write about {{ 7*7 }} <% ctx() %>"]
    (prompt,) = flow.prompts("Editor")
    assert "did: write about {{ 7*7 }} <% ctx() %>" in prompt


def test_a_killed_step_joins_its_agent_when_the_orchestration_is_resumed(flow, agent):
    agent.may_end.clear()
    flow.define([agent_step("pay", "pay 7"), agent_step("tell", "tell 7")])
    handle = flow.start()
    until(lambda: agent.effects, "the agent works")
    flow.kill_steps()
    first = handle.wait(PATIENCE_SECONDS)
    assert first["status"] == "failed" and agent.effects == ["pay 7"]
    started = flow.action("orchestration.resume", execution_id=first["id"])["execution_id"]
    until(lambda: flow.running_steps(), "the step runs again")
    agent.may_end.set()
    output = flow.ended(started)["result"]["output"]
    assert statuses(output) == {"pay": "completed", "tell": "completed"}, output["error"]
    assert output["output"]["pay"] == "did: pay 7"
    assert agent.effects == ["pay 7", "tell 7"] and len(flow.world.agents.runs) == 2


def test_an_answer_that_came_after_the_step_was_killed_is_that_of_the_resumed_one(flow, agent):
    agent.may_end.clear()
    flow.define([agent_step("pay", "pay 7")])
    handle = flow.start()
    until(lambda: agent.effects, "the agent works")
    flow.kill_steps()
    first = handle.wait(PATIENCE_SECONDS)
    agent.may_end.set()
    # The recovery is a run of its own, which nobody has killed.
    until(lambda: not flow.world.local.running(), "the recovery has ended")
    _, output = flow.resume(first["id"])
    assert output["output"]["pay"] == "did: pay 7" and agent.effects == ["pay 7"]


def test_each_round_of_a_loop_runs_its_own_agent(flow, agent):
    flow.define([{"name": "rounds", "loop": {
        "steps": [agent_step("pay", "pay 7")], "max_rounds": 2,
        "until": {"field": "nothing", "operator": "==", "value": 1}}, "on_failure": "continue"}])
    flow.run()
    assert agent.effects == ["pay 7", "pay 7"]


def test_an_agent_that_fails_is_the_error_of_its_step(flow, agent):
    agent.broken.add("pay 7")
    step = agent_step("pay", "pay 7")
    step["parameters"]["max_retries"] = 0
    flow.define([step])
    first, output = flow.run()
    assert first["status"] == "failed" and "it broke" in logs(output)["pay"]["error"]
    _, output = flow.resume(first["id"])
    assert output["output"]["pay"] == "did: pay 7"
