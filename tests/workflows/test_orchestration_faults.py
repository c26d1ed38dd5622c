"""What goes wrong around orchestrations, and text that a template language would evaluate."""
import base64
import json

import pytest
from fixtures.waiting import PATIENCE_SECONDS
from workflows.orchestrations import TARGET, Orchestrated, logs
from workflows.test_crashes import CRASHES, SOURCE
from workflows.test_hostile_text import SECRET, TEXTS, assert_inert

from sandbox import ok


@pytest.fixture
def flow(world):
    return Orchestrated(world)


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


CRASHING = """
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from unchanged_tasks import OrchestrationTasks as Real


class OrchestrationTasks(Real):
    def run(self, operation, **parameters):
        if operation != %r:
            return super().run(operation, **parameters)
        %s
"""


def crashing(world, operation, crash):
    """Has one of the operations of orchestration_tasks.py crash, in a copy of the pack."""
    source = (world.pack / "actions" / "orchestration_tasks.py").read_text()
    world.with_action("unchanged_tasks", source)
    world.with_action("orchestration_tasks", CRASHING % (operation, crash))


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
@pytest.mark.parametrize("operation", ["begin", "wave", "step", "next_wave"])
def test_a_crash_ends_the_run_failed_with_output_and_ticket(world, operation, crash):
    crashing(world, operation, crash)
    flow = Orchestrated(world)
    tasks = {
        "begin": ["begin", "log_orchestration_failure"],
        "wave": ["begin", "wave", "next_wave"],
        "step": ["begin", "step", "step", "next_wave"],
        "next_wave": ["begin", "step", "step", "next_wave", "log_orchestration_failure"],
    }[operation]
    names = ["a", "b"] if "step" in tasks else ["a"]
    flow.define([{"name": name, "role": "A", "group": "g"} for name in names])
    run, output = flow.run()
    assert run["status"] == "failed" and output["success"] is False and output["ticket"]
    assert output["status"] == "failed" and output["error"]["message"]
    if operation in ("wave", "step"):
        assert logs(output)["a"]["status"] == "failed"
    assert [name.rpartition(".")[2] for name in world.tasks(run)] == tasks


def test_a_run_whose_merge_crashed_goes_on(world):
    from workflows.conftest import PACK

    crashing(world, "next_wave", CRASHES["is killed"])
    flow = Orchestrated(world)
    flow.define([{"name": n, "role": n.upper(), "group": "g"} for n in "ab"])
    run, output = flow.run()
    assert [entry["step_name"] for entry in output["stepLogs"]] == []
    (world.folder / "pack" / "actions" / "orchestration_tasks.py").write_text(
        (PACK / "actions" / "orchestration_tasks.py").read_text())
    _, output = flow.resume(run["id"])
    assert output["status"] == "completed" and len(flow.prompts("A")) == 1


def test_a_crash_of_the_log_task_still_renders_the_output(world):
    crashing(world, "begin", CRASHES["raises"])
    world.with_action("log_orchestration_failure", SOURCE % CRASHES["raises"])
    run, output = world.run("orchestration.run", orchestration="x")
    assert run["status"] == "failed" and output["success"] is False


class Away:
    def __getattr__(self, name):
        def call(*arguments, **options):
            raise RuntimeError("gone")

        return call


def test_without_a_datastore_a_run_fails_and_says_so(flow):
    flow.define([{"name": "a", "role": "A"}])
    flow.world.local.keys = Away()
    run, output = flow.run()
    assert (
        run["status"] == "failed" and "the datastore is unavailable" in output["error"]["message"]
    )


def test_a_datastore_that_goes_away_in_the_middle(flow):
    keys = flow.world.local.keys

    def answer(prompt, number):
        flow.world.local.keys = Away()
        return ok(text="lost")

    flow.answers["A"] = answer
    flow.define([{"name": "a", "role": "A"}, {"name": "b", "role": "B"}])
    run, output = flow.run()
    assert run["status"] == "failed" and output["error"]["message"]
    flow.world.local.keys = keys
    flow.answers["A"] = "again"
    _, output = flow.resume(run["id"])
    assert output["status"] == "completed" and output["output"]["a"] == "again"


def test_a_case_of_another_run_is_refused(flow):
    error = flow.refused("orchestration.next_wave", case="AAAA", cursor=1)
    assert error["cause"] == "refused"


@pytest.fixture(params=TEXTS.values(), ids=TEXTS)
def text(request, world):
    world.local.keys.set("canary", SECRET)
    return request.param


def test_hostile_input_and_answers_are_data(flow, text):
    flow.answers["A"] = {"said": text, "key " + text: 1}
    flow.define([
        {"name": "a", "role": "A", "input": {"given": "{{context.input.q}}"}},
        {"name": "b", "role": "B", "input": "{{context.a.said}}",
         "condition": {"field": "a.said", "operator": "==", "value": text}},
    ], output={"a": "{{context.a}}", "text": "{{context.a.said}}"})
    run, output = flow.run(input={"q": encoded(text)})
    assert output["status"] == "completed", output["error"]
    assert json.loads(flow.prompts("A")[0]) == {"given": text}
    assert flow.prompts("B") == [text]
    storable_text = text.replace("\x00", "\ufffd")
    assert output["output"]["text"] == text and output["output"]["a"]["said"] == text
    assert output["output"]["a"]["key " + storable_text] == 1
    assert_inert(flow.world)


def test_a_hostile_prompt_of_a_role_is_data(flow, text):
    flow.action("role.create", fields={
        "name": "A", "base_prompt": encoded("A: " + text), "model": "gpt-4o",
        "tone": encoded(text), "domain_knowledge": [encoded(text)]})
    flow.define([{"name": "a", "role": "A"}], roles=False)
    _, output = flow.run()
    assert output["status"] == "completed", output["error"]
    system = flow.world.box.calls_to(TARGET)[0].body["messages"][0]["content"]
    assert system.count(text) == 3
    assert_inert(flow.world)


def test_hostile_text_through_a_sub_orchestration_a_loop_and_an_approval(flow, text):
    flow.answers["A"] = text
    flow.define([{"name": "i", "role": "A", "input": "{{input.q}}"}], name="sub",
                output={"i": "{{context.i}}"})
    flow.define([
        {"name": "L", "loop": {"max_rounds": 1, "steps": [
            {"name": "s", "orchestration": "sub", "input": {"q": "{{context.input}}"}}]}},
        {"name": "ok", "approval": {"question": "Is it {{context.s.i}}?"}},
    ])
    handle = flow.start(text=encoded(text))
    handle.wait_for("paused")
    flow.action("approval.list")
    flow.action("approval.answer", execution_id=handle.id, approved=True)
    output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["status"] == "completed", output["error"]
    assert flow.prompts("A") == [text] and output["output"]["L"] == {"i": text}
    assert_inert(flow.world)


def test_an_error_that_quotes_hostile_text_is_data(flow, text):
    from sandbox import status

    flow.answers["A"] = status(400, error=text)
    flow.define([{"name": "a", "role": "A"}])
    run, output = flow.run(text=encoded(text))
    assert run["status"] == "failed" and " ".join(text.split())[:20] in output["error"]["message"]
    assert_inert(flow.world)


def test_a_secret_that_an_answer_repeats_is_masked_everywhere(flow):
    flow.answers["A"] = "Your key is sandbox-openai-key."
    flow.define([{"name": "a", "role": "A"}, {"name": "b", "role": "B"}])
    _, output = flow.run()
    assert output["output"]["a"] == "Your key is ********."
    assert_inert(flow.world)


def test_a_megabyte(flow):
    large = "<% 1 + 1 %>" + "x" * 900_000
    flow.answers["A"] = large
    flow.define([{"name": "a", "role": "A", "input": "{{input}}"},
                 {"name": "b", "role": "B", "input": {"n": 1}}])
    _, output = flow.run(text=encoded(large))
    assert output["status"] == "completed", output["error"]
    assert flow.prompts("A") == [large] and output["output"] is None and output["output_key"]
