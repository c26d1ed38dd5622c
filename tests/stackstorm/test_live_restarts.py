"""Services of a live StackStorm that die or hang while a run is on its way; see `restart`."""
import signal

import pytest
from fixtures.waiting import ENDLESS_SECONDS, LIVE_PATIENCE_SECONDS, let_pass, until
from live_host import ATTEMPT, kill, processes, waits

from sandbox import delay, ok, status

FAILED = {"agent_id": "agent_123", "failure_type": "error", "original_query": "q",
          "context": {"repairPlan": {"steps": [{"action": "retry_execution"}]}}}


@pytest.mark.parametrize("service", ["st2workflowengine", "st2scheduler", "rabbitmq"])
def test_a_service_that_is_restarted_while_a_run_waits(st2, box, restart, service):
    box.script("platform", [status(503), ok(text="42")])
    run_id = st2.start("agent_recovery", **dict(FAILED, retry_delay=15, timeout=300))
    until(lambda: waits(st2, run_id), seconds=LIVE_PATIENCE_SECONDS)
    # Not in the instant in which the scheduler delays the task: it would forget it.
    let_pass(2)
    restart(service)
    run = st2.wait(run_id)
    output = run["result"]["output"]
    assert run["status"] == "succeeded" and output["recovery_result"]["output"] == "42"
    assert output["attempts"] == 2 and len(box.calls_to("platform")) == 2


def test_an_action_runner_that_is_killed_in_an_attempt(st2, box, restart):
    """What the runner had begun is lost with it: the run must not stay on its way for ever."""
    box.script("platform", [delay(ENDLESS_SECONDS)], forever=True)
    run_id = st2.start("agent_recovery", **dict(FAILED, timeout=60))
    until(lambda: processes(ATTEMPT), seconds=LIVE_PATIENCE_SECONDS)
    pids = processes(ATTEMPT)
    restart("st2actionrunner")
    kill(pids)
    run = ended_or_reaped(st2, run_id)
    output = run["result"]["output"]
    assert run["status"] == "failed" and output["ticket"] and not output["success"]


def ended_or_reaped(st2, run_id):
    """The run, once it has ended; what only the reaper can end, it ends."""
    def over():
        execution = st2.call("GET", "/executions/" + run_id)
        if execution["status"] in ("succeeded", "failed", "canceled", "abandoned", "timeout"):
            return execution
        st2.run("recovery.reap")
        return None

    return until(over, "%s has ended" % run_id, LIVE_PATIENCE_SECONDS)


def test_an_api_that_hangs_in_an_attempt(st2, box):
    pids = processes("bin/st2api")
    if not pids:
        pytest.skip("StackStorm's API is not on this machine")
    box.script("platform", [delay(3, then=ok(text="42"))], forever=True)
    run_id = st2.start("agent_recovery", **FAILED)
    until(lambda: processes(ATTEMPT), seconds=LIVE_PATIENCE_SECONDS)
    kill(pids, signal.SIGSTOP)
    try:
        # Longer than the pack gives any call of the API.
        let_pass(8)
    finally:
        kill(pids, signal.SIGCONT)
    run = st2.wait(run_id)
    output = run["result"]["output"]
    assert run["status"] == "succeeded" and output["recovery_result"]["output"] == "42"
    assert len(box.calls_to("platform")) == 1
