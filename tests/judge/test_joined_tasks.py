"""Whole runs of agent_recovery that are killed while their agent works on a real A2A server: a
re-run joins the task, which was started once.
"""
import contextlib

import pytest
from fixtures import PACK
from fixtures.agent_servers import KEY, lines, python_server
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from st2local import St2Local

FAILED = {"agent_id": "bot", "failure_type": "error"}
ROUND = "synthralos.execute_recovery"
AGENT_SECONDS = 4
#: name: (environment, script and arguments, entries of the platform)
SERVERS = {
    "1.0": ("a2a", "a2a_server.py", {}),
    "1.0-http": ("a2a", "a2a_server.py", {"binding": "HTTP+JSON"}),
    "0.3-of-1.x": ("a2a", "a2a_server.py", {"protocol_version": "0.3"}),
    "0.3": ("a2a-0.3", "a2a_03_server.py", {}),
    "0.3-http": ("a2a-0.3", "a2a_03_server.py rest", {}),
    "fasta2a": ("fasta2a", "fasta2a_server.py", {}),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory, effects):
    """running(environment, script) -> base URL of a server that runs as long as the module."""
    urls = {}
    with contextlib.ExitStack() as servers:

        def start(environment, script):
            if (environment, script) not in urls:
                folder = tmp_path_factory.mktemp("server")
                server = python_server(environment, script, folder, effects)
                urls[environment, script] = servers.enter_context(server)
            return urls[environment, script]

        yield start


@pytest.fixture(params=SERVERS)
def name(request):
    return request.param


@pytest.fixture
def local(name, running, tmp_path):
    environment, script, entries = SERVERS[name]
    platform = dict(
        entries, name="desk", api="a2a", base_url=running(environment, script), token=KEY,
        hold_seconds=limit_under_test(1),
    )
    config = {"platforms": [platform], "agents": {"bot": {"platform": "desk"}}}
    with St2Local(PACK, config, tmp_path / "state") as local:
        yield local


def rounds(local, run, *statuses):
    return [
        child for child in local.executions(parent=run.id)
        if child["action"]["ref"] == ROUND and child["status"] in statuses
    ]


def die(local, run):
    """Kill the processes of a run until it fails, and return it."""
    def over():
        for child in rounds(local, run, "running"):
            execution = local.live(child["id"])
            if execution is not None and execution.run is not None:
                execution.run.kill()
        return local.execution(run.id)["status"] in ("succeeded", "failed")

    until(over, "the run has ended")
    execution = run.wait(PATIENCE_SECONDS)
    assert execution["status"] == "failed", execution["result"]
    return execution


def assert_paid_once(execution, effects, line):
    assert execution["status"] == "succeeded", execution["result"]
    output = execution["result"]["output"]
    assert output["recovery_result"]["output"].split("\n")[0] == line
    assert output["attempts"] == 1 and lines(effects, line) == 1


def test_a_task_whose_round_was_killed_is_joined_by_a_re_run(local, effects, name):
    line = "killed-" + name
    query = "pay %d %s" % (AGENT_SECONDS, line)
    run = local.start("synthralos.agent_recovery", dict(FAILED, original_query=query))
    # The first round has returned: the task has been recorded.
    until(lambda: rounds(local, run, "succeeded"), "the agent works on")
    until(lambda: rounds(local, run, "running"), "a round asks for it")
    dead = die(local, run)
    assert_paid_once(local.re_run(dead["id"]).wait(PATIENCE_SECONDS), effects, line)


def test_a_task_whose_poll_was_killed_with_its_re_run_is_joined(local, effects, name):
    line = "twice-" + name
    query = "pay %d %s" % (AGENT_SECONDS, line)
    run = local.start("synthralos.agent_recovery", dict(FAILED, original_query=query))
    until(lambda: lines(effects, line), "the agent works")
    until(lambda: local.keys.list("synthralos.agent_run."), "its task is recorded")
    until(lambda: '"task"' in local.keys.list("synthralos.agent_run.")[0]["value"], "by its id")
    dead = die(local, run)
    again = local.re_run(dead["id"])
    until(lambda: rounds(local, again, "running"), "a round asks for it")
    dead = die(local, again)
    assert_paid_once(local.re_run(dead["id"]).wait(PATIENCE_SECONDS), effects, line)
