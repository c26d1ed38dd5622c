"""Agents that fail half-way and agents that ask, in whole workflows: continued, answered, ended."""
import base64

import pytest
from fixtures.waiting import PATIENCE_SECONDS, until

from sandbox.langgraph import LangGraphServer

FAILED = {"agent_id": "invoices", "failure_type": "error", "original_query": "Pay 4711",
          "retry_delay": 0}
HOSTILE = "May I pay {{ 7*7 }} <% ctx() %> to \"Bob\"?"


class Agent:
    """An agent of five steps, of which the fourth fails as often as a test says; then it asks.

    :ivar log: the names of the steps, each as often as it was begun.
    """

    def __init__(self):
        self.log, self.failures, self.question = [], 0, None

    def work(self, run):
        for name in ("n1", "n2", "n3", "n4", "n5"):
            run.step(name, lambda name=name: self._do(name))
        return "paid" if self.question is None else "told: %s" % run.ask(self.question)

    def _do(self, name):
        self.log.append(name)
        if name == "n4" and self.failures:
            self.failures -= 1
            raise RuntimeError("the payment service did not answer")


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def graphs(agent, world):
    with LangGraphServer(agent.work) as server:
        world.config["platforms"] = [{
            "name": "graphs", "api": "langgraph", "base_url": server.base_url,
            "token": "sandbox-token",
        }]
        world.config["agents"] = {"invoices": {"platform": "graphs"}}
        yield server


def start(world, **parameters):
    return world.local.start("synthralos.agent_recovery", dict(FAILED, **parameters))


def approvals(world):
    run = world.local.run("synthralos.approval.list")
    return run["result"]["result"]["approvals"]


def start_handle_error(world, **parameters):
    error = {"type": "error", "message": "the payment service did not answer"}
    return world.local.start("synthralos.handle_error", dict(
        {"agent_id": "invoices", "error": error, "original_query": "Pay 4711",
         "strategy": "auto_retry"}, **parameters))


def approved_recovery(world):
    """A recovery that a person has approved, so that it has begun."""
    handle = world.local.start("synthralos.recovery_with_approval", {
        "workflow": "agent_recovery", "agent_id": "invoices", "failure_type": "error",
        "original_query": "Pay 4711"})
    assert wait_for_question(world)["run"] == handle.id
    answer(world, execution_id=handle.id, approved=True)
    return handle


BESIDE = """
version: 1.0
tasks:
  recover:
    action: synthralos.agent_recovery
    input: {agent_id: invoices, failure_type: error, original_query: Pay 4711}
  beside:
    action: core.local
    input:
      cmd: until [ -e FILE ]; do sleep 0.1; done
output:
  - output: <% task(recover).result.output %>
"""


@pytest.fixture
def beside(world):
    """A workflow of another pack, in which a task runs beside the agent until the file is there."""
    pack = world.folder / "office"
    (pack / "actions" / "workflows").mkdir(parents=True)
    (pack / "pack.yaml").write_text(
        "ref: office\nname: office\ndescription: x\nversion: 1.0.0\nauthor: x\nemail: x@y.z\n")
    (pack / "actions" / "beside.yaml").write_text(
        "name: beside\npack: office\nrunner_type: orquesta\nenabled: true\n"
        "entry_point: workflows/beside.yaml\nparameters: {}\n")
    file = world.folder / "over"
    (pack / "actions" / "workflows" / "beside.yaml").write_text(BESIDE.replace("FILE", str(file)))
    world.packs = [pack]
    return file


def wait_for_question(world):
    (approval,) = until(lambda: approvals(world), "the agent's question is listed")
    return approval


def answer(world, **parameters):
    run = world.local.run("synthralos.approval.answer", parameters)
    return run["status"], run["result"]["result"]


def recovered(handle):
    execution = handle.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["output"]


def test_the_fourth_of_five_steps_fails_twice_and_no_other_is_repeated(world, graphs, agent):
    agent.failures = 2
    output = recovered(start(world))
    assert output["recovery_result"]["output"] == "paid"
    assert agent.log == ["n1", "n2", "n3", "n4", "n4", "n4", "n5"]
    steps = [entry["step"] for entry in output["trail"]]
    assert steps == ["retry_execution", "resume_checkpoint", "resume_checkpoint"]
    assert len({run.thread for run in graphs.runs}) == 1


@pytest.mark.parametrize("parameters, reply", [
    ({"approved": True}, "yes"),
    ({"approved": False}, "no"),
    ({"answer": "only {{ x }} <% y %>"}, "only {{ x }} <% y %>"),
])
def test_a_question_is_answered_and_the_same_run_goes_on(world, graphs, agent, parameters, reply):
    agent.question = HOSTILE
    handle = start(world)
    approval = wait_for_question(world)
    assert approval["run"] == handle.id and approval["takes_text"]
    assert "invoices asks: May I pay" in approval["question"] and "{{" not in approval["question"]
    if "answer" in parameters:
        encoded = base64.b64encode(parameters["answer"].encode()).decode()
        parameters = {"answer": "base64:" + encoded}
    status, result = answer(world, execution_id=handle.id, **parameters)
    assert status == "succeeded", result
    output = recovered(handle)
    assert output["recovery_result"]["output"] == "told: " + reply
    assert output["attempts"] == 1 and agent.log == ["n1", "n2", "n3", "n4", "n5"]
    assert approvals(world) == []


def test_a_step_fails_the_run_is_continued_and_then_asks(world, graphs, agent):
    agent.failures, agent.question = 1, "May I?"
    handle = start(world)
    wait_for_question(world)
    answer(world, execution_id=handle.id, approved=True)
    assert recovered(handle)["recovery_result"]["output"] == "told: yes"
    assert agent.log == ["n1", "n2", "n3", "n4", "n4", "n5"]


@pytest.mark.parametrize("begin", [start_handle_error, approved_recovery])
def test_the_question_of_an_agent_within_a_run_pauses_and_resumes_the_whole_chain(
    world, graphs, agent, begin
):
    agent.failures, agent.question = 1, "May I?"
    outer = begin(world)
    approval = wait_for_question(world)
    assert approval["workflow"] == "agent_recovery" and approval["run"] != outer.id
    until(lambda: world.local.live(outer.id).status == "paused", "the outer run is paused")
    status, result = answer(world, execution_id=outer.id, approved=True)
    if begin is approved_recovery:
        # What a person has approved before must not answer what the agent asks now.
        assert status == "failed" and approval["id"] in result["error"]["hint"], result
        status, result = answer(world, execution_id=approval["id"], approved=True)
    assert status == "succeeded" and result["approval"]["run"] == approval["run"], result
    execution = outer.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded", execution["result"]
    inner = world.local.executions(parent=outer.id, action="synthralos.agent_recovery")
    (output,) = [run["result"]["output"] for run in inner]
    assert output["recovery_result"]["output"] == "told: yes"
    assert agent.log == ["n1", "n2", "n3", "n4", "n4", "n5"], "it is continued there, too"


def test_an_answer_counts_while_another_task_of_the_workflow_runs(world, graphs, agent, beside):
    agent.question = "May I?"
    outer = world.local.start("office.beside", {})
    wait_for_question(world)
    status, result = answer(world, execution_id=outer.id, approved=True)
    assert status == "succeeded" and approvals(world) == [], result
    beside.touch()
    execution = outer.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded", execution["result"]
    output = execution["result"]["output"]["output"]
    assert output["recovery_result"]["output"] == "told: yes" and len(graphs.runs) == 2


def test_a_question_in_a_step_of_an_orchestration_is_answered_by_the_agents_run(
    world, graphs, agent
):
    agent.question = "May I?"
    world.config["orchestration"] = {"allowed_actions": ["synthralos.agent_recovery"]}
    created = world.local.run("synthralos.orchestration.create", {"name": "pay", "steps": [{
        "name": "agent", "action": "synthralos.agent_recovery",
        "parameters": {"agent_id": "invoices", "failure_type": "error",
                       "original_query": "Pay 4711"}}]})
    assert created["status"] == "succeeded", created["result"]
    outer = world.local.start("synthralos.orchestration.run", {"orchestration": "pay"})
    approval = wait_for_question(world)
    answer(world, execution_id=approval["run"], approved=True)
    execution = outer.wait(PATIENCE_SECONDS)
    assert execution["status"] == "succeeded", execution["result"]
    assert "told: yes" in str(execution["result"]["output"])


def test_a_yes_is_not_for_the_question_that_follows_a_failure(world, graphs, agent, monkeypatch):
    """The first question is answered, then a step fails; the continued run asks something else."""
    replies = []

    def work(run):
        replies.append(run.ask("May I look?"))
        run.step("n4", lambda: agent._do("n4"))
        return "deleted: %s" % run.ask("May I delete everything?")

    monkeypatch.setattr(graphs, "_work", work)
    agent.failures = 1
    handle = start(world)
    first = wait_for_question(world)
    answer(world, execution_id=handle.id, approved=True)

    def second_question():
        return [row for row in approvals(world) if row["inquiry"] != first["inquiry"]]

    (second,) = until(second_question, "the second question is listed")
    assert "May I look" in first["question"] and "delete everything" in second["question"]
    # Somebody else's yes to the first question comes late.
    status, result = answer(world, execution_id=handle.id, approved=True)
    assert status == "failed" and "delete everything" in result["error"]["message"]
    answer(world, execution_id=second["id"], approved=False)
    output = recovered(handle)
    assert output["recovery_result"]["output"] == "deleted: no" and set(replies) == {"yes"}
    assert [entry["step"] for entry in output["trail"]] == ["retry_execution", "resume_checkpoint"]


def test_nobody_answers_and_a_ticket_says_so(world, graphs, agent):
    agent.question = "May I?"
    world.config["automation"] = {"approval_timeout": 1}
    handle = start(world)
    wait_for_question(world)

    def expired():
        world.local.run("synthralos.recovery.reap")
        return not approvals(world)

    until(expired, "the reaper ends the question")
    execution = handle.wait(PATIENCE_SECONDS)
    output = execution["result"]["output"]
    assert execution["status"] == "failed" and output["ticket"]
    assert output["error"]["cause"] == "input_required"
    assert "nobody has answered" in output["error"]["message"]
    assert len(graphs.runs) == 1


@pytest.mark.parametrize("parameters, words", [
    ({}, "is needed unless"),
    ({"approved": True, "answer": "x"}, "is needed unless"),
    ({"answer": "   "}, "answer"),
])
def test_an_answer_that_is_none_is_refused_and_the_question_stays(
    world, graphs, agent, parameters, words
):
    agent.question = "May I?"
    handle = start(world)
    wait_for_question(world)
    status, result = answer(world, execution_id=handle.id, **parameters)
    assert status == "failed" and words in result["error"]["message"]
    assert len(approvals(world)) == 1
    answer(world, execution_id=handle.id, approved=True)
    recovered(handle)


def test_a_rerun_after_a_kill_gives_the_answer_that_was_given(world, graphs, agent):
    agent.question = "May I?"
    handle = start(world)
    approval = wait_for_question(world)
    # The answer is stored while the workflow cannot go on any more.
    world.local.stop(world.local.live(handle.id))
    dead = handle.wait(PATIENCE_SECONDS)
    assert dead["status"] == "canceled" and approval["run"] == handle.id
    again = world.local.re_run(handle.id)
    second = wait_for_question(world)
    assert second["run"] == again.id
    answer(world, execution_id=again.id, approved=True)
    assert recovered(again)["recovery_result"]["output"] == "told: yes"
    assert agent.log == ["n1", "n2", "n3", "n4", "n5"]
