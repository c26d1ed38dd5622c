"""The sandbox's servers of agents, before the official clients of their APIs."""
import json
import os
import subprocess

import pytest
from benchmarks import peers
from fixtures.agent_servers import AGENTS, ENVIRONMENTS
from fixtures.waiting import PATIENCE_SECONDS, until

from sandbox.a2a import A2AServer
from sandbox.responses import ResponsesServer


def work(run):
    """Do what the first word of the query says."""
    word, _, rest = run.query.partition(" ")
    if word == "wait":
        until(run.cancelled.is_set, "the run is cancelled")
    if word == "fail":
        raise RuntimeError("it broke")
    return rest


def client_of(python, script, base_url):
    """What a script of tests/judge/agents prints, as JSON."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    completed = subprocess.run(
        [python, str(AGENTS / script), base_url], capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, env=dict(env, NO_PROXY="*"),
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    return json.loads(completed.stdout)


def python_of(environment):
    try:
        if environment == "sdks":
            return peers.existing_sdks(ENVIRONMENTS)
        return peers.existing_agent_server(ENVIRONMENTS, environment)
    except peers.NotInstalled as error:
        pytest.skip(str(error))


def test_openai_s_client_reads_the_responses_of_the_sandbox():
    with ResponsesServer(work) as server:
        assert client_of(python_of("sdks"), "openai_client.py", server.base_url) == {
            "text": "hello", "tokens": 2, "cancelled": "cancelled",
            "failed": ["failed", "it broke"], "unknown": 404, "models": [],
        }


def test_the_a2a_sdk_s_client_reads_the_tasks_of_the_sandbox():
    with A2AServer(work) as server:
        assert client_of(python_of("a2a"), "a2a_client.py", server.base_url) == {
            "card": "sandbox", "text": "hello", "cancelled": "TASK_STATE_CANCELED",
            "failed": "TASK_STATE_FAILED",
        }
