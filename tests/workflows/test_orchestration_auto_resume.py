"""Runs that resume themselves: from the checkpoint, bounded, never once they are cancelled."""
import threading

import pytest
from fixtures.waiting import let_pass, until
from workflows.orchestrations import Orchestrated, at_the_door, statuses

from sandbox import status
from st2local import St2Local

STEPS = [{"name": name, "role": name.upper()} for name in "abc"]
# Long enough for a test to act before the resume begins.
LONG_DELAY_SECONDS = 300
PATIENCE_SECONDS = 120


@pytest.fixture
def flow(world):
    return Orchestrated(world)


def chain(flow, run_id):
    """The executions of a run and of those that resumed it, first to last, all at their end."""
    executions = [flow.ended(run_id)]
    while executions[-1]["result"]["output"]["resumed_by"]:
        executions.append(flow.ended(executions[-1]["result"]["output"]["resumed_by"]))
    return executions


def wait_for_resume(flow, handle):
    """Until the run has failed and waits for its resume."""
    def is_due():
        return (flow.status(handle.id)["auto_resume"] or {}).get("next_at")

    until(is_due, "its resume is due", PATIENCE_SECONDS)


def failing_times(times):
    """The answer of a role that fails so often and works then."""
    return lambda prompt, number: status(400) if number <= times else "mended"


def test_a_failed_run_resumes_itself_and_completes(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, autoResume={"maxResumes": 2, "resumeDelay": 1000})
    first, output = flow.run(input={"q": "{{ x }} <% 1 + 1 %>"})
    assert first["status"] == "failed" and output["status"] == "failed"
    assert statuses(output) == {"a": "completed", "b": "failed", "c": "skipped"}
    # The run that goes on is the one that calls for somebody, should it come to that.
    assert output["ticket"] is None and output["resumed_by"]
    first, second = chain(flow, first["id"])
    assert second["status"] == "succeeded"
    assert statuses(second["result"]["output"]) == dict.fromkeys("abc", "completed")
    assert {role: len(flow.prompts(role)) for role in "ABC"} == {"A": 1, "B": 2, "C": 1}
    assert flow.world.tasks(first) == [
        "orchestration.begin", "orchestration.wave", "orchestration.wave", "orchestration.resume"]
    assert flow.action("ticket.list")["tickets"] == []


def test_what_the_status_and_the_list_show(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"max_resumes": 2, "resume_delay": 0})
    run, _ = flow.run()
    first, second = (execution["id"] for execution in chain(flow, run["id"]))
    before, after = flow.status(first), flow.status(second)
    assert (before["resume_of"], before["resumed_by"]) == (None, second)
    assert (after["resume_of"], after["resumed_by"]) == (first, None)
    view = {"max_resumes": 2, "resume_delay": 0, "next_at": None}
    assert before["auto_resume"] == dict(view, resumes=0)
    assert after["auto_resume"] == dict(view, resumes=1)
    rows = {row["execution_id"]: row for row in flow.action("orchestration.list_runs")["runs"]}
    assert (rows[first]["resumed_by"], rows[first]["resumes"]) == (second, 0)
    assert (rows[second]["resume_of"], rows[second]["resumes"]) == (first, 1)
    assert rows[second]["resumed_by"] is None


def test_it_stops_at_its_bound_and_calls_for_somebody_then(flow):
    flow.answers["B"] = failing_times(1000)
    flow.define(STEPS, auto_resume={"max_resumes": 2, "resume_delay": 0})
    run, _ = flow.run()
    executions = chain(flow, run["id"])
    assert [execution["status"] for execution in executions] == ["failed"] * 3
    tickets = [execution["result"]["output"]["ticket"] for execution in executions]
    assert tickets[:2] == [None, None] and tickets[2]
    assert len(flow.prompts("A")) == 1 and len(flow.prompts("B")) == 3
    assert len(flow.action("orchestration.list_runs")["runs"]) == 3
    # What a person resumes begins to count anew.
    resumed = flow.action("orchestration.resume", execution_id=executions[2]["id"])["execution_id"]
    assert len(chain(flow, resumed)) == 3


def test_the_run_waits_before_its_resume(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"resume_delay": 3})
    run, _ = flow.run()
    first, second = chain(flow, run["id"])
    calls = flow.world.box.calls_to("llm:openai/gpt-4o")
    assert [call.body["messages"][0]["content"][0] for call in calls] == list("ABBC")
    assert calls[2].time - calls[1].time >= 3


def test_a_run_that_is_cancelled_while_it_waits_is_not_resumed(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"resume_delay": LONG_DELAY_SECONDS})
    handle = flow.start()
    wait_for_resume(flow, handle)
    waiting = flow.status(handle.id)
    assert waiting["status"] == "running" and waiting["error"]["step"] == "b"
    flow.action("orchestration.cancel", execution_id=handle.id)
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    after = flow.status(handle.id)
    assert after["status"] == "cancelled" and after["resumed_by"] is None
    assert after["auto_resume"]["next_at"] is None
    error = flow.refused("orchestration.resume", execution_id=handle.id, automatic=True)
    assert "is cancelled" in error["message"]
    assert len(flow.action("orchestration.list_runs")["runs"]) == 1
    # A person still may.
    _, output = flow.resume(handle.id)
    assert output["status"] == "completed" and len(flow.prompts("A")) == 1


def test_a_run_that_is_cancelled_as_it_runs_is_not_resumed(flow):
    release = []

    def answer(prompt, number):
        until(lambda: release, "the test lets it answer", PATIENCE_SECONDS)
        return status(400)

    flow.answers["B"] = answer
    flow.define(STEPS, auto_resume={"resume_delay": 0})
    handle = flow.start()
    until(lambda: flow.prompts("B"), "B is asked", PATIENCE_SECONDS)
    flow.action("orchestration.cancel", execution_id=handle.id)
    release.append(True)
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    let_pass(0.5)
    assert len(flow.action("orchestration.list_runs")["runs"]) == 1


def test_a_refused_run_is_not_resumed(flow):
    flow.define([{"name": "ok", "approval": {"question": "?"}}, *STEPS], auto_resume=True)
    handle = flow.start()
    handle.wait_for("paused", timeout=PATIENCE_SECONDS)
    flow.action("approval.answer", execution_id=handle.id, approved=False)
    output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["status"] == "refused" and output["resumed_by"] is None


def test_a_person_who_resumes_it_first_is_not_raced(flow):
    released = threading.Event()
    world = flow.world
    world._local = St2Local(
        world.pack, world.config, world.folder / "state", popen=world.action_processes.popen,
        delay=lambda seconds: seconds and released.wait(PATIENCE_SECONDS))
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"resume_delay": 8})
    handle = flow.start()
    wait_for_resume(flow, handle)
    resumed, output = flow.resume(handle.id)
    assert output["status"] == "completed"
    released.set()
    # The run's own resume finds that one.
    assert handle.wait(PATIENCE_SECONDS)["result"]["output"]["resumed_by"] == resumed["id"]
    assert len(flow.action("orchestration.list_runs")["runs"]) == 2
    assert len(flow.prompts("B")) == 2


def test_a_run_whose_time_was_up_gets_as_much_again(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"resume_delay": 0})
    run, _ = flow.run(timeout=333)
    _, second = chain(flow, run["id"])
    assert second["parameters"]["timeout"] == 333


def test_a_run_whose_task_crashed_resumes_itself(flow, tmp_path):
    flag = tmp_path / "crashed"
    source = (flow.world.pack / "actions" / "orchestration_tasks.py").read_text()
    crash = "        return engine.next_wave(env, "
    assert source.count(crash) == 1
    flow.world.with_action("orchestration_tasks", source.replace(crash, (
        "        import os\n"
        "        if not os.path.exists(%r):\n"
        "            open(%r, 'w').close()\n"
        "            os._exit(9)\n" % (str(flag), str(flag))) + crash))
    group = [dict(step, group="g") for step in STEPS]
    flow.define(group, auto_resume={"max_resumes": 1, "resume_delay": 0})
    run, _ = flow.run()
    first, second = chain(flow, run["id"])
    assert flow.world.tasks(first)[-3:] == [
        "orchestration.next_wave", "log_orchestration_failure", "orchestration.resume"]
    assert first["result"]["output"]["ticket"] is None
    assert second["result"]["output"]["status"] == "completed"
    assert {role: len(flow.prompts(role)) for role in "ABC"} == {"A": 1, "B": 1, "C": 1}


def test_a_resume_that_cannot_start_calls_for_somebody(flow):
    refuses = (
        "from synthralos_action import SynthralosAction\n"
        "from synthralos.storage.stackstorm_api import StackStormError\n\n\n"
        "class Away(SynthralosAction):\n"
        "    def run(self, **parameters):\n"
        "        return self.perform(self._fail, parameters)\n\n"
        "    def _fail(self, env, parameters):\n"
        "        raise StackStormError('the API is away')\n"
    )
    flow.world.with_action("orchestration_runs", refuses)
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, auto_resume={"resume_delay": 0})
    run, output = flow.run()
    assert run["status"] == "failed" and output["resumed_by"] is None and output["ticket"]
    assert "Step b failed" in output["error"]["message"]
    assert "it could not be resumed" in output["error"]["message"]
    assert statuses(output)["a"] == "completed"
    assert flow.world.tasks(run)[-2:] == ["orchestration.resume", "log_orchestration_failure"]


def test_a_sub_orchestration_is_its_step_s_to_try_again(flow):
    flow.answers["B"] = failing_times(1)
    flow.define(STEPS, name="sub", auto_resume={"resume_delay": 0})
    flow.define([{"name": "s", "orchestration": "sub"}], name="outer")
    run, output = flow.run("outer")
    assert output["status"] == "failed" and output["resumed_by"] is None
    assert len(flow.action("orchestration.list_runs")["runs"]) == 2


def test_a_run_that_does_not_ask_for_it_costs_nothing_more(flow):
    flow.answers["B"] = failing_times(1000)
    flow.define(STEPS)
    run, output = flow.run()
    assert output["resumed_by"] is None and output["ticket"]
    assert flow.world.tasks(run) == [
        "orchestration.begin", "orchestration.wave", "orchestration.wave"]
    assert flow.status(run["id"])["auto_resume"] is None
    error = flow.refused("orchestration.resume", execution_id=run["id"], automatic=True)
    assert "has no planned resume" in error["message"]


@pytest.mark.parametrize("policy, field", [
    ({"max_resumes": 0}, "auto_resume.max_resumes"),
    ({"max_resumes": 11}, "auto_resume.max_resumes"),
    ({"max_resumes": 1.5}, "auto_resume.max_resumes"),
    ({"resume_delay": -1}, "auto_resume.resume_delay"),
    ({"resume_delay": 86401}, "auto_resume.resume_delay"),
    ({"resumeDelay": 86400001}, "autoResume.resumeDelay"),
    ({"after": 3}, "auto_resume.after"),
    ("always", "auto_resume"),
    (3, "auto_resume"),
])
def test_a_policy_that_is_wrong_is_refused(flow, policy, field):
    name = field.split(".")[0]
    error = flow.refused("orchestration.create", fields=at_the_door(
        {"name": "flow", "steps": STEPS, name: policy}))
    assert error["field"] == "orchestration." + field


@pytest.mark.parametrize("policy, normal", [
    (True, {"max_resumes": 2, "resume_delay": 60}),
    ({}, {"max_resumes": 2, "resume_delay": 60}),
    ({"maxResumes": 3}, {"max_resumes": 3, "resume_delay": 60}),
    ({"resumeDelay": 1500}, {"max_resumes": 2, "resume_delay": 1.5}),
    (False, None),
    (None, None),
])
def test_the_normal_form_of_a_policy(flow, policy, normal):
    result = flow.define(STEPS, autoResume=policy)
    assert result["orchestration"]["auto_resume"] == normal
    updated = flow.action("orchestration.update", name="flow", updates={"active": True})
    assert updated["orchestration"]["auto_resume"] == normal
