"""Runs of orchestrations that are cut off, and go on: each finished step ran once."""

import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, let_pass, until, within_some_limit
from workflows.orchestrations import KilledThrice, Orchestrated, logs, statuses

from sandbox import status


@pytest.fixture
def flow(world):
    return Orchestrated(world)


def test_a_failed_run_goes_on_where_it_failed(flow):
    broken = [status(400)]
    flow.answers["B"] = lambda prompt, number: broken.pop() if broken else "mended"
    flow.define([{"name": n, "role": n.upper()} for n in "abc"])
    first, output = flow.run(input={"q": "{{ x }}"})
    assert statuses(output) == {"a": "completed", "b": "failed", "c": "skipped"}
    second, output = flow.resume(first["id"])
    assert second["status"] == "succeeded" and output["status"] == "completed"
    assert statuses(output) == dict.fromkeys("abc", "completed")
    assert len(flow.prompts("A")) == 1 and len(flow.prompts("B")) == 2
    assert output["stepLogs"][0]["step_output"] == output["output"]["a"]
    assert flow.status(second["id"])["resume_of"] == first["id"]


def test_what_completed_beside_a_failed_step_is_not_run_again(flow):
    broken = [status(400)]
    flow.answers["B"] = lambda prompt, number: broken.pop() if broken else "mended"
    steps = [{"name": n, "role": n.upper(), "group": "g"} for n in "abc"]
    flow.define(steps + [{"name": "d", "role": "D"}])
    first, _ = flow.run()
    _, output = flow.resume(first["id"])
    assert output["status"] == "completed"
    assert {role: len(flow.prompts(role)) for role in "ABCD"} == {"A": 1, "B": 2, "C": 1, "D": 1}


def test_a_run_of_thirty_steps_killed_in_three_of_its_waves(flow):
    thirty = KilledThrice(flow, flow.kill_steps, flow.running_steps)
    run, output = flow.run("thirty")
    for _ in range(3):
        assert run["status"] == "failed" and "crashed, was killed" in output["error"]["message"]
        run, output = flow.resume(run["id"])
    assert run["status"] == "succeeded"
    thirty.check(output)


@pytest.fixture
def let_go():
    """An event for which steps may wait; it is set at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


def answer_after(event):
    """A model's answer that comes once the event is set."""
    return lambda prompt, number: event.wait(PATIENCE_SECONDS) and "in the end"


def test_a_cancelled_run_goes_on(flow, let_go):
    flow.answers["B"] = answer_after(let_go)
    flow.define([{"name": n, "role": n.upper()} for n in "abc"])
    handle = flow.start()
    until(lambda: flow.prompts("B"), "B is asked")
    error = flow.refused("orchestration.resume", execution_id=handle.id)
    assert error["field"] == "execution_id" and "is still running" in error["message"]
    flow.action("orchestration.cancel", execution_id=handle.id)
    let_go.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    _, output = flow.resume(handle.id)
    # The step that ran was left to its end, so it need not run again.
    assert output["status"] == "completed" and len(flow.prompts("B")) == 1


def test_a_run_cancelled_in_its_last_step_goes_on(flow, let_go):
    flow.answers["B"] = answer_after(let_go)
    flow.define([{"name": n, "role": n.upper()} for n in "ab"])
    handle = flow.start()
    until(lambda: flow.prompts("B"), "B is asked")
    flow.action("orchestration.cancel", execution_id=handle.id)
    let_go.set()
    assert handle.wait(PATIENCE_SECONDS)["status"] == "canceled"
    assert flow.status(handle.id)["status"] == "cancelled"
    _, output = flow.resume(handle.id)
    assert output["status"] == "completed" and len(flow.prompts("B")) == 1


def test_a_refused_run_asks_again(flow):
    flow.define([{"name": "a", "role": "A"}, {"name": "ok", "approval": {"question": "?"}},
                 {"name": "b", "role": "B"}])
    handle = flow.start()
    handle.wait_for("paused")
    flow.action("approval.answer", execution_id=handle.id, approved=False)
    handle.wait(PATIENCE_SECONDS)
    started = flow.action("orchestration.resume", execution_id=handle.id)["execution_id"]
    until(lambda: flow.world.local.execution(started)["status"] == "paused", "it asks")
    flow.action("approval.answer", execution_id=started, approved=True)
    output = flow.ended(started)["result"]["output"]
    assert output["status"] == "completed" and len(flow.prompts("A")) == 1


def test_a_run_that_completed_is_not_resumed(flow):
    flow.define([{"name": "a", "role": "A"}])
    run, _ = flow.run()
    error = flow.refused("orchestration.resume", execution_id=run["id"])
    assert "has completed" in error["message"]


def test_a_loop_goes_on_in_its_round(flow):
    broken = [status(400)]

    def second(prompt, number):
        return broken.pop() if number == 2 and broken else {"n": number}

    flow.answers["B"] = second
    flow.define([{"name": "L", "loop": {
        "steps": [{"name": "a", "role": "A"}, {"name": "b", "role": "B"}], "max_rounds": 3,
        "until": {"field": "b.n", "operator": ">=", "value": 3}}}])
    first, output = flow.run()
    assert statuses(output)["L[2]/b"] == "failed"
    _, output = flow.resume(first["id"])
    assert output["status"] == "completed" and logs(output)["L"]["rounds"] == 2
    assert len(flow.prompts("A")) == 2 and len(flow.prompts("B")) == 3


def test_a_sub_orchestration_goes_on_where_it_failed(flow):
    broken = [status(400)]
    flow.answers["B"] = lambda prompt, number: broken.pop() if broken else "mended"
    flow.define([{"name": n, "role": n.upper()} for n in "ab"], name="sub")
    flow.define([{"name": "s", "orchestration": "sub"}, {"name": "c", "role": "C"}])
    first, output = flow.run()
    assert output["status"] == "failed"
    _, output = flow.resume(first["id"])
    assert output["status"] == "completed"
    assert {role: len(flow.prompts(role)) for role in "ABC"} == {"A": 1, "B": 2, "C": 1}


def test_a_sub_orchestration_is_tried_again_by_itself(flow):
    broken = [status(400)]
    flow.answers["B"] = lambda prompt, number: broken.pop() if broken else "mended"
    flow.define([{"name": n, "role": n.upper()} for n in "ab"], name="sub")
    flow.define([{"name": "s", "orchestration": "sub", "max_retries": 1, "retry_delay": 0}])
    _, output = flow.run()
    assert output["status"] == "completed" and logs(output)["s"]["attempts"] == 2
    assert len(flow.prompts("A")) == 1 and len(flow.prompts("B")) == 2


def test_a_resumed_run_has_the_definition_that_it_began_with(flow):
    flow.answers["B"] = lambda prompt, number: status(400) if number == 1 else "mended"
    flow.define([{"name": n, "role": n.upper()} for n in "ab"])
    first, _ = flow.run()
    flow.action("orchestration.delete", name="flow")
    _, output = flow.resume(first["id"])
    assert output["status"] == "completed"


def test_the_time_in_which_people_are_asked_does_not_count(flow):
    flow.define([{"name": "ok", "approval": {"question": "?"}}, {"name": "b", "role": "B"}])

    def completes(seconds):
        handle = flow.start(timeout=seconds)
        handle.wait_for("paused", "succeeded", "failed")
        if handle.status == "paused":
            let_pass(seconds)
            flow.action("approval.answer", execution_id=handle.id, approved=True)
        output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
        return output["status"] == "completed"

    within_some_limit(12, completes)
