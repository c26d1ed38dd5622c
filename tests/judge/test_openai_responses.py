"""Agents behind servers of OpenAI's Responses API that others wrote: llmock and aimock.

Neither works in the background: what a start returns has ended.
"""
import pytest
import requests
from fixtures.agent_servers import Agent, aimock, client
from fixtures.waiting import ENDLESS_SECONDS, limit_under_test

from synthralos.calls.agent_platforms import connect


@pytest.fixture(scope="module")
def aimock_url(tmp_path_factory):
    with aimock(tmp_path_factory.mktemp("aimock")) as base_url:
        yield base_url


def at_aimock(base_url, agent="gpt-4o"):
    return Agent({"api": "openai_responses", "base_url": base_url + "/v1", "token": "k"}, agent)


@pytest.fixture
def agent(judge):
    entry = {"api": "openai_responses", "base_url": judge.url + "/v1", "token": "k"}
    return Agent(entry, "gpt-4o")


def test_an_agent_that_answers_has_recovered(agent, judge):
    result = agent.run("hello {{ 7*7 }}", config={"instructions": "Be brief", "maxIterations": 5})
    assert "hello {{ 7*7 }}" in result["output"]
    assert result["metadata"]["usage"]["output_tokens"] > 0
    assert judge.requested_models() == ["gpt-4o"] and judge.findings("error") == []


@pytest.mark.parametrize("status, code, message, cause", [
    (401, "invalid_api_key", "Incorrect API key provided", "authentication"),
    (429, "insufficient_quota", "You exceeded your current quota", "quota"),
    (429, "rate_limit_exceeded", "Rate limit reached for gpt-4o", "rate_limit"),
    (404, "model_not_found", "The model `x` does not exist", "model_not_found"),
    (400, "context_length_exceeded", "Your input exceeds the context window", "context_length"),
    (503, "server_error", "Overloaded", "overloaded"),
    (500, "server_error", "The server had an error", "server_error"),
])
def test_each_error_has_its_cause_and_is_not_repeated(agent, judge, status, code, message, cause):
    judge.fails(status, code=code, message=message)
    assert agent.failure("hello").cause == cause
    assert len(judge.requests()) == 1 and judge.findings("error") == []


def test_a_server_that_hangs_is_a_time_out(agent, judge):
    judge.stalls(ENDLESS_SECONDS, "gpt-4o")
    assert agent.failure("hello", seconds=limit_under_test(2.0)).cause == "timeout"


def test_aimock_s_answers_have_their_causes(aimock_url):
    agent = at_aimock(aimock_url)
    assert agent.run("hello")["output"] == "hello {{ 7*7 }}"
    assert agent.failure("blank").cause == "blank_output"
    assert agent.failure("quota").cause == "quota"
    assert agent.failure("unknown model").cause == "model_not_found"
    failure = agent.failure("tool")
    assert failure.cause == "invalid_output" and "weather" in failure.message


def test_chaos_is_no_answer(aimock_url):
    agent = at_aimock(aimock_url)
    ends = {"malformedRate": "malformed_answer", "dropRate": "server_error",
            "disconnectRate": "network"}
    for name, cause in ends.items():
        chaos = {name: 1}
        requests.post(aimock_url + "/__aimock/chaos", json=chaos, timeout=60,
                      proxies={"http": None}).raise_for_status()
        assert agent.failure("hello").cause == cause
    requests.delete(aimock_url + "/__aimock/chaos", timeout=60, proxies={"http": None})
    assert agent.run("hello")["output"] == "hello {{ 7*7 }}"


def test_the_check_lists_models(agent):
    assert connect(client(), agent.platform).check(None, 60.0).passed
