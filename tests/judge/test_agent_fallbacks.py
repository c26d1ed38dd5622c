"""Whole runs of agent_recovery whose agent falls over from one kind of platform to another, before
real servers: LangGraph, then A2A, then OpenAI's Responses.
"""
import base64
import contextlib

import pytest
from fixtures import PACK
from fixtures.agent_servers import KEY, langgraph, python_server
from fixtures.waiting import limit_under_test

from st2local import St2Local

FAILED = {"agent_id": "bot", "failure_type": "error"}


@pytest.fixture(scope="module")
def effects(tmp_path_factory):
    path = tmp_path_factory.mktemp("effects") / "lines"
    path.touch()
    return path


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, effects):
    """{name of a platform: base URL}."""
    folder = tmp_path_factory.mktemp
    with contextlib.ExitStack() as servers:
        graphs = servers.enter_context(langgraph(folder("langgraph"), effects))
        desk = servers.enter_context(python_server("a2a", "a2a_server.py", folder("a2a")))
        yield {"graphs": graphs, "desk": desk}


@pytest.fixture
def config(addresses, judge):
    return {
        "platforms": [
            {"name": "graphs", "api": "langgraph", "base_url": addresses["graphs"], "token": KEY},
            {"name": "desk", "api": "a2a", "base_url": addresses["desk"], "token": KEY},
            {"name": "models", "api": "openai_responses", "base_url": judge.url + "/v1",
             "token": "k"},
        ],
        "agents": {"bot": {"platform": "graphs", "agent": "agent", "fallbacks": [
            {"platform": "desk"}, {"platform": "models", "agent": "gpt-4o"}]}},
        "backoff": {"strategy": "immediate"},
    }


@pytest.fixture
def recover(config, tmp_path):
    """recover(query) -> (status, output) of a run with `config`."""
    runs = []

    def run(query, **parameters):
        runs.append(St2Local(PACK, config, tmp_path / str(len(runs))))
        plan = {"steps": [{"action": "retry_execution"}]}
        # StackStorm renders what it finds in parameters; this it cannot read.
        sealed = "base64:" + base64.b64encode(query.encode()).decode()
        parameters = dict(
            FAILED, original_query=sealed, context={"repairPlan": plan}, retry_delay=0,
            **parameters)
        execution = runs[-1].run("synthralos.agent_recovery", parameters)
        return execution["status"], execution["result"]["output"]

    yield run
    for local in runs:
        local.close()


def attempts(output):
    return [(entry["target"], entry.get("cause")) for entry in output["trail"]
            if "attempt" in entry]


def test_an_agent_that_works_is_asked_where_it_runs_first(recover):
    status, output = recover("say hello {{ 7*7 }}")
    assert status == "succeeded" and output["recovery_result"]["output"] == "1: hello {{ 7*7 }}"
    assert attempts(output) == [("platform:graphs", None)]


def test_a_question_that_nobody_answers_goes_to_the_next_kind_of_platform(recover):
    status, output = recover("ask May I?")
    # The second asks the same; a model answers anything.
    assert status == "succeeded"
    assert attempts(output) == [("platform:graphs", "input_required"),
                                ("platform:desk", "input_required"), ("platform:models", None)]


def test_without_a_key_the_next_platform_answers(recover, config):
    config["platforms"][0]["token"] = "wrong"
    status, output = recover("say hello")
    assert status == "succeeded" and output["recovery_result"]["output"].startswith("hello")
    assert attempts(output) == [("platform:graphs", "authentication"), ("platform:desk", None)]


def test_an_agent_that_raises_on_all_of_them_ends_with_a_ticket(recover, config):
    del config["agents"]["bot"]["fallbacks"][1]
    status, output = recover("raise it broke", max_retries=0)
    assert status == "failed" and output["ticket"]
    assert attempts(output) == [("platform:graphs", "agent_failed"),
                                ("platform:desk", "agent_failed")]


def test_an_unsafe_agent_that_ran_is_repeated_nowhere(recover, config):
    config["agents"]["bot"]["unsafe_to_repeat"] = True
    status, output = recover("raise Rate limit reached for gpt-4")
    assert status == "failed" and attempts(output) == [("platform:graphs", "rate_limit")]


def test_a_run_that_takes_too_long_is_cancelled_before_another_platform_is_asked(
    recover, config, effects
):
    config["platforms"][0]["run_seconds"] = limit_under_test(3)
    status, output = recover("sleep 60 late-line")
    assert attempts(output)[0] == ("platform:graphs", "agent_timeout")
    assert "was cancelled" in output["trail"][0]["message"]
    assert "late-line" not in effects.read_text()
