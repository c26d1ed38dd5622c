"""`python -m sandbox.agents`: an agent behind each kind of platform, as docs/agents.md has it."""
import json
import os
import signal
import subprocess
import sys

import pytest
from fixtures import PACK
from fixtures.waiting import PATIENCE_SECONDS, until

from sandbox.__main__ import MARK
from st2local import St2Local

BOTS = ["langgraph_bot", "a2a_bot", "openai_responses_bot"]
FAILED = {"failure_type": "error", "original_query": "Sum up invoice 4711"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The configuration that the command has written; its agents run as long as the module."""
    path = tmp_path_factory.mktemp("sandbox") / "configs" / "synthralos.yaml"
    command = [sys.executable, "-m", "sandbox.agents", "--seconds", "0"]
    process = subprocess.Popen(
        command + ["--write-config", str(path)], stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=str(PACK / "dev")),
    )
    try:
        until(path.exists, "the configuration is written")
        text = until(lambda: path.read_text().endswith("}\n") and path.read_text())
        yield json.loads(text[len(MARK):])
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0 and all(bot in output for bot in BOTS)


@pytest.fixture
def local(config, tmp_path):
    with St2Local(PACK, config, tmp_path / "state") as local:
        yield local


@pytest.mark.parametrize("bot", BOTS)
def test_an_agent_of_each_kind_recovers(local, bot):
    run = local.run("synthralos.agent_recovery", dict(FAILED, agent_id=bot))
    assert run["status"] == "succeeded", run["result"]
    output = run["result"]["output"]["recovery_result"]["output"]
    assert output == "Answer to: Sum up invoice 4711"


@pytest.mark.parametrize("bot", BOTS)
def test_an_agent_of_each_kind_fails_with_its_words(local, bot):
    run = local.run("synthralos.agent_recovery", {
        "agent_id": bot, "failure_type": "error", "original_query": "fail", "max_retries": 0})
    error = run["result"]["output"]["error"]
    assert run["status"] == "failed" and "the tool weather failed" in error["message"]


def test_the_check_knows_each_kind(local):
    checks = local.run("synthralos.pack.check")["result"]["result"]["checks"]
    platforms = {row["name"]: row["status"] for row in checks if "platform:" in row["name"]}
    assert platforms == {
        "platform:langgraph": "ok", "platform:a2a": "ok", "platform:openai_responses": "ok"}
