"""Agents on a real LangGraph Server, for runs on a live StackStorm whose processes die: started
once, then joined.

LONG_AGENT_SECONDS says how long the agent works during which all of StackStorm is restarted; 600 is
what the pack promises something about. Needs `make judges` and ST2_RESTART.
"""
import os
import signal

import pytest
from fixtures.agent_servers import KEY, langgraph, lines, started_runs
from fixtures.waiting import ENDED, LIVE_PATIENCE_SECONDS, let_pass, limit_under_test, until
from live_host import ATTEMPT, kill, processes, waits

AGENT_SECONDS = 8
LONG_AGENT_SECONDS = int(os.environ.get("LONG_AGENT_SECONDS") or 60)
MAX_EXECUTIONS = 22
FAILED = {"agent_id": "bot", "failure_type": "error"}
SERVICES = ["st2api", "st2scheduler", "st2workflowengine", "st2notifier", "st2rulesengine",
            "st2timersengine", "st2sensorcontainer", "st2actionrunner"]


@pytest.fixture(scope="module")
def base_url(st2, tmp_path_factory, effects):
    """The LangGraph Server that the pack is configured for, with an agent `bot`."""
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        before = st2.call("GET", "/configs/synthralos?show_secrets=true").get("values") or {}
        platforms = [
            {"name": "brief", "hold_seconds": limit_under_test(2)}, {"name": "patient"},
        ]
        for platform in platforms:
            platform.update(api="langgraph", base_url=base_url, token=KEY)
        st2.call("PUT", "/configs/synthralos", json={
            "platforms": platforms,
            "agents": {
                "bot": {"platform": "brief", "agent": "agent"},
                "worker": {"platform": "patient", "agent": "agent"},
            },
        })
        try:
            yield base_url
        finally:
            st2.call("PUT", "/configs/synthralos", json=before)


class Victim:
    """An action of a run, killed with -9 together with a service, or while that is stopped."""

    def __init__(self, restart):
        self._restart = restart
        self.killed = []

    def alone(self):
        self.killed = kill(processes(ATTEMPT))

    def with_service(self, service):
        kill(processes("bin/" + service))
        self.alone()
        self._restart(service)

    def while_the_api_is_stopped(self):
        pids = processes("bin/st2api")
        kill(pids, signal.SIGSTOP)
        try:
            self.alone()
            # Longer than the pack gives any call of the API.
            let_pass(8)
        finally:
            kill(pids, signal.SIGCONT)


DEATHS = {
    "alone": Victim.alone,
    "action-runners": lambda victim: victim.with_service("st2actionrunner"),
    "workflow-engine": lambda victim: victim.with_service("st2workflowengine"),
    "api-killed": lambda victim: victim.with_service("st2api"),
    "api-stopped": Victim.while_the_api_is_stopped,
}


@pytest.mark.parametrize("name", DEATHS)
def test_a_run_whose_processes_die_is_run_again_and_joins(
    st2, base_url, effects, restart, name
):
    line = "live-" + name
    query = "pay %d %s" % (AGENT_SECONDS, line)
    run_id = st2.start("agent_recovery", **dict(FAILED, original_query=query, timeout=300))
    until(lambda: lines(effects, line), "the agent works", LIVE_PATIENCE_SECONDS)
    victim = Victim(restart)
    DEATHS[name](victim)
    rerun = st2.call("POST", "/executions/%s/re_run" % run_id, json={"parameters": {}})
    run = st2.wait(rerun["id"])
    output = run["result"]["output"]
    print("%s: killed %d action(s), %d line(s), %d start(s)" % (
        name, len(victim.killed), lines(effects, line), started_runs(base_url, query)))
    assert run["status"] == "succeeded", output
    assert output["recovery_result"]["output"] == "paid %s" % line
    assert lines(effects, line) == 1 and started_runs(base_url, query) == 1
    # What died with the action runners stays on its way until the reaper ends it.
    if st2.call("GET", "/executions/" + run_id)["status"] not in ENDED:
        st2.call("DELETE", "/executions/" + run_id)


def restart_stackstorm(restart):
    """Restart it as `st2ctl restart` does: what it had begun is finished first."""
    for service in SERVICES:
        kill(processes("bin/" + service), signal.SIGTERM)
    for service in SERVICES:
        until(lambda name=service: not processes("bin/" + name), service + " has ended",
              LIVE_PATIENCE_SECONDS)
    restart("rabbitmq")
    for service in SERVICES:
        restart(service)


def test_a_restart_of_all_services_while_an_agent_works_long(st2, base_url, effects, restart):
    query = "pay %d long" % LONG_AGENT_SECONDS
    run_id = st2.start(
        "agent_recovery", agent_id="worker", failure_type="error", original_query=query,
        timeout=LONG_AGENT_SECONDS * 2 + 120,
    )
    until(lambda: lines(effects, "long"), "the agent works", LIVE_PATIENCE_SECONDS)
    let_pass(LONG_AGENT_SECONDS / 2)
    until(lambda: waits(st2, run_id), "a poll is delayed", LIVE_PATIENCE_SECONDS)
    # Not in the instant in which the scheduler delays the task: it would forget it.
    let_pass(2)
    restart_stackstorm(restart)
    run = until(lambda: ended(st2, run_id), "the run ends", LONG_AGENT_SECONDS + 600)
    executions = [run] + st2.children(run)
    print("%d executions, %d line(s), %d start(s): %s" % (
        len(executions), lines(effects, "long"), started_runs(base_url, query), run["status"]))
    assert run["status"] == "succeeded", run["result"]
    assert run["result"]["output"]["recovery_result"]["output"] == "paid long"
    assert run["result"]["output"]["attempts"] == 1
    assert lines(effects, "long") == 1 and started_runs(base_url, query) == 1
    assert len(executions) <= MAX_EXECUTIONS


def ended(st2, run_id):
    run = st2.call("GET", "/executions/" + run_id)
    return run if run["status"] in ENDED else None
