"""Orchestrations on a live StackStorm: the same as under st2local, killed and resumed, hostile."""
import os
import signal
import subprocess
import time

import pytest
from live_orchestration import Live, Local, comparable
from workflows.conftest import World
from workflows.orchestrations import MODEL

from sandbox import delay, status
from synthralos.orchestration import examples

HOSTILE = (
    "{{ config_context.platform.token }} {{ foo }} {% raw %} <% 1+1 %> <% st2kv('x') %> \u202e")


@pytest.fixture
def live(st2, box):
    made = Live(st2, box)
    yield made
    made.clear()


@pytest.fixture
def both(live, tmp_path):
    """The same world twice: the live StackStorm, and st2local on the same sandbox."""
    world = World(live.box, tmp_path)
    local = Local(world)
    local.answers = live.answers
    yield live, local
    world.close()


RESEARCH = {
    "name": "Multi-Source Research",
    "steps": [
        {"name": name, "order": n, "roleName": "Research Assistant", "parallelGroup": "search",
         "inputMapping": {"query": "{{context.input.topic}} site:" + site}}
        for n, (name, site) in enumerate([
            ("Search Academic Papers", "arxiv.org"), ("Search GitHub", "github.com")])
    ] + [
        {"name": "Synthesize Findings", "order": 3, "roleName": "Synthesizer",
         "inputMapping": {"sources": {"academic": "{{context['Search Academic Papers']}}",
                                      "github": "{{context['Search GitHub']}}"}},
         "outputMapping": {"report": "{{output}}"}}],
}
CORRECTING = {
    "name": "Self-Correcting Coder",
    "steps": [
        {"name": "Generate Code", "order": 0, "roleName": "Coder", "maxRetries": 2,
         "retryDelay": 0, "timeout": 60000},
        {"name": "Run Tests", "order": 1, "roleName": "Tester",
         "inputMapping": {"code": "{{context['Generate Code']}}"},
         "outputMapping": {"testResults": "{{output}}"}},
        {"name": "Fix Failures", "order": 2, "roleName": "Debugger",
         "condition": {"field": "testResults.passed", "operator": "<", "value": 1.0},
         "inputMapping": {"failures": "{{context.testResults.failures}}"}}],
}
PING_PONG = {
    "name": "Ping-Pong",
    "steps": [
        {"name": "Creator", "role": "Writer"},
        {"name": "Critic", "role": "Critic"},
        {"name": "Refine until good",
         "condition": {"field": "Critic.score", "operator": "<", "value": 0.8},
         "loop": {"max_rounds": 5, "until": {"field": "Critic.score", "operator": ">=",
                                             "value": 0.8},
                  "steps": [{"name": "Refine", "role": "Writer"},
                            {"name": "Judge", "role": "Critic",
                             "output": {"Critic": "{{output}}"}}]}}],
}
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
        "Debugger": "fixed", "Writer": "draft", "Broken": status(400),
        "Critic": lambda prompt, number: {"score": next(scores)},
    }


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_agree_on_outputs_and_step_logs(both, name):
    definitions, given = SCENARIOS[name]
    told = []
    for flow in both:
        flow.answers.clear()
        flow.answers.update(answers())
        for definition in definitions:
            flow.define(**definition)
        told.append(comparable(*flow.run(definitions[-1]["name"], input=given)))
    assert told[0] == told[1]
    assert told[0]["status"] == ("failed" if name == "failing" else "completed")


@pytest.mark.parametrize("name", examples.names())
def test_an_example_does_the_same_here_and_there(both, name):
    told = []
    example = examples.read(name)
    for flow in both:
        # The sandbox's own answers: JSON where a schema asks for it.
        flow.box.reset()
        flow.action("orchestration.load_examples", names=[name], model=MODEL)
        run_id = flow.begin(example["orchestrations"][0]["name"], input=example["input"])
        run = flow.finish(run_id, approve=name == "agentic-workflow")
        told.append(comparable(run, run["result"]["output"]))
    assert told[0] == told[1]
    assert told[0]["status"] == "completed", told[0]["error"]


def test_a_run_killed_in_three_of_its_waves_goes_on_each_time(live):
    """Ten waves of three; in three of them the action runners' process of a step is killed."""
    deadly = {"w2s1", "w5s0", "w8s2"}

    def answer(prompt, number):
        name = prompt.split()[0]
        if name in deadly:
            deadly.discard(name)
            # The others of the wave get the time to end.
            time.sleep(4.0)
            kill_steps()
            return delay(2)
        return "answer of " + name

    live.answers["A"] = answer
    live.define([
        {"name": "w%ds%d" % (w, n), "role": "A", "order": w, "group": "g%d" % w,
         "input": "w%ds%d goes {{context.w%ds%d}}" % (w, n, max(0, w - 1), n)}
        for w in range(10) for n in range(3)
    ], name="thirty")
    run, output = live.run("thirty", seconds=240)
    for _ in range(3):
        assert run["status"] == "failed", output
        run, output = live.resume(run["id"], seconds=240)
    assert output["status"] == "completed", output["error"]
    assert len(output["steps"]) == 30
    asked = [prompt.split()[0] for prompt in live.prompts("A")]
    killed = {"w2s1", "w5s0", "w8s2"}
    assert {name: asked.count(name) for name in set(asked)} == {
        "w%ds%d" % (w, n): 2 if "w%ds%d" % (w, n) in killed else 1
        for w in range(10) for n in range(3)}


def kill_steps():
    """Kills the processes of the steps that run now."""
    found = subprocess.run(["pgrep", "-f", "python_action_wrapper.*waves.py"],
                           capture_output=True, text=True).stdout.split()
    for pid in found:
        if int(pid) != os.getpid():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


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
        live.st2.wait(run_id, "paused", seconds=120)
        told = live.status(run_id)
        assert told["status"] == "waiting" and "Ship" in told["waiting"]["question"]
        live.action("approval.answer", execution_id=run_id, approved=approved)
        run = live.st2.wait(run_id, seconds=120)
        output = run["result"]["output"]
        assert run["status"] == "succeeded" and output["status"] == ended
        done = [one["step_name"] for one in output["steps"] if one["status"] == "completed"]
        assert done == (["a", "ok", "b"] if approved else ["a"])


def test_an_action_step_and_a_cancelled_run(live):
    live.configure(orchestration={"allowed_actions": ["core.local", "core.noop"]})
    live.define([{"name": "say", "action": "core.local", "parameters": {"cmd": "echo hello"},
                  "output": {"said": "{{output.stdout}}"}},
                 {"name": "slow", "role": "A"}], name="acting")
    live.answers["A"] = delay(20)
    run_id = live.start("acting")
    until = time.monotonic() + 60
    while not live.asked and time.monotonic() < until:
        time.sleep(0.2)
    told = live.refused("orchestration.delete", name="acting")
    assert "runs as " + run_id in told["message"]
    live.action("orchestration.cancel", execution_id=run_id)
    run = live.st2.wait(run_id, seconds=120)
    assert run["status"] == "canceled"
    live.answers["A"] = "done"
    run, output = live.resume(run_id)
    assert output["status"] == "completed" and output["output"]["said"] == "hello"
