"""Orchestrations on a live StackStorm: the same as under st2local, killed and resumed, hostile."""
import threading

import pytest
from fixtures.waiting import LIVE_PATIENCE_SECONDS, until
from live_host import STEP, kill, processes
from live_orchestration import Live, Local, comparable
from workflows.conftest import World
from workflows.orchestrations import CORRECTING, MODEL, PING_PONG, RESEARCH, KilledThrice

from sandbox import status
from synthralos.orchestration import examples

HOSTILE = (
    "{{ config_context.platforms[0].token }} {{ foo }} {% raw %} <% 1+1 %> <% st2kv('x') %> \u202e")


@pytest.fixture
def live(st2, box):
    flow = Live(st2, box)
    yield flow
    flow.clear()


@pytest.fixture
def both(live, tmp_path):
    """The same world twice: the live StackStorm, and st2local on the same sandbox."""
    world = World(live.box, tmp_path)
    local = Local(world)
    local.answers = live.answers
    yield live, local
    world.close()


NESTED = {
    "name": "Nested",
    "steps": [
        {"name": "r", "orchestration": "Multi-Source Research", "input": {"topic": "x"}},
        {"name": "which", "branch": {
            "cases": [{"when": {"field": "r.report", "operator": "contains", "value": "all"},
                       "steps": [{"name": "Say so", "role": "Writer"}]}],
            "otherwise": [{"name": "Say no", "role": "Writer"}]}}],
}
FAILING = {
    "name": "Failing",
    "steps": [
        {"name": "a", "role": "Broken", "group": "g"},
        {"name": "b", "role": "Writer", "group": "g"},
        {"name": "c", "role": "Writer"}],
}
SCENARIOS = {
    "map-reduce": ([RESEARCH], {"topic": "WebAssembly"}),
    "self-correcting": ([CORRECTING], {}),
    "ping-pong": ([PING_PONG], {}),
    "nested": ([RESEARCH, NESTED], {}),
    "failing": ([FAILING], {}),
}


def answers():
    scores = iter([0.5, 0.6, 0.9])
    return {
        "Research Assistant": lambda prompt, number: "found by " + prompt,
        "Synthesizer": "all of it",
        "Coder": "code", "Tester": {"passed": 0.5, "failures": ["test_login"]},
        "Debugger": "fixed", "Writer": "draft", "Editor": "better", "Broken": status(400),
        "Critic": lambda prompt, number: {"score": next(scores)},
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_agree_on_outputs_and_step_logs(both, name):
    definitions, run_input = SCENARIOS[name]
    outcomes = []
    for flow in both:
        flow.answers.clear()
        flow.answers.update(answers())
        for definition in definitions:
            flow.define(**definition)
        outcomes.append(comparable(*flow.run(definitions[-1]["name"], input=run_input)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["status"] == ("failed" if name == "failing" else "completed")


@pytest.mark.parametrize("name", examples.names())
def test_an_example_does_the_same_here_and_there(both, name):
    outcomes = []
    example = examples.read(name)
    for flow in both:
        # The sandbox's own answers: JSON where a schema asks for it.
        flow.box.reset()
        flow.action("orchestration.load_examples", names=[name], model=MODEL)
        run_id = flow.begin(example["orchestrations"][0]["name"], input=example["input"])
        run = flow.finish(run_id, approve=name == "agentic-workflow")
        outcomes.append(comparable(run, run["result"]["output"]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["status"] == "completed", outcomes[0]["error"]


def test_a_run_killed_in_three_of_its_waves_goes_on_each_time(live):
    thirty = KilledThrice(live, lambda: kill(processes(STEP)), lambda: processes(STEP))
    run, output = live.run("thirty")
    for _ in range(3):
        assert run["status"] == "failed", output
        run, output = live.resume(run["id"])
    thirty.check(output)


def test_hostile_text_is_data(live):
    live.answers["A"] = lambda prompt, number: HOSTILE
    live.define([{"name": "a", "role": "A", "input": {"t": "{{context.input.t}}"}},
                 {"name": "b", "role": "A", "input": "{{context.a}}"}], name="hostile",
                description=HOSTILE)
    run, output = live.run("hostile", input={"t": HOSTILE})
    assert output["output"] == {"a": HOSTILE, "b": HOSTILE}, output["error"]
    assert live.prompts("A")[1] == HOSTILE
    assert "sandbox-token" not in str(live.status(run["id"]))


def test_an_approval_given_and_one_refused(live):
    live.define([{"name": "a", "role": "A"},
                 {"name": "ok", "approval": {"question": "Ship {{context.a}}?"}},
                 {"name": "b", "role": "A"}], name="asking")
    live.answers["A"] = HOSTILE
    for approved, ended in ((True, "completed"), (False, "refused")):
        run_id = live.start("asking")
        live.st2.wait(run_id, "paused")
        report = live.status(run_id)
        assert report["status"] == "waiting" and "Ship" in report["waiting"]["question"]
        live.action("approval.answer", execution_id=run_id, approved=approved)
        run = live.st2.wait(run_id)
        output = run["result"]["output"]
        assert run["status"] == "succeeded" and output["status"] == ended
        completed_steps = [
            step["step_name"] for step in output["stepLogs"] if step["status"] == "completed"
        ]
        assert completed_steps == (["a", "ok", "b"] if approved else ["a"])


def test_an_action_step_and_a_cancelled_run(live):
    live.configure(orchestration={"allowed_actions": ["core.local", "core.noop"]})
    live.define([{"name": "say", "action": "core.local", "parameters": {"cmd": "echo hello"},
                  "output": {"said": "{{output.stdout}}"}},
                 {"name": "slow", "role": "A"}], name="acting")
    let_go = threading.Event()
    live.answers["A"] = lambda prompt, number: let_go.wait(LIVE_PATIENCE_SECONDS) and "done"
    run_id = live.start("acting")
    until(lambda: live.requests, "the model is asked", LIVE_PATIENCE_SECONDS)
    error = live.refused("orchestration.delete", name="acting")
    assert "runs as " + run_id in error["message"]
    live.action("orchestration.cancel", execution_id=run_id)
    let_go.set()
    run = live.st2.wait(run_id)
    assert run["status"] == "canceled"
    run, output = live.resume(run_id)
    assert output["status"] == "completed" and output["output"]["said"] == "hello"
