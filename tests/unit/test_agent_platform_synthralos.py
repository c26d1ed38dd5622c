import json

import pytest

from synthralos.calls import agent_run
from synthralos.calls.agent_platforms import connect, synthralos
from synthralos.calls.agent_platforms.protocol import AgentRequest, Handle, NotSupported
from synthralos.calls.http import CallError, Response
from synthralos.config.platforms import AgentEndpoint
from synthralos.config.settings import Settings

from .conftest import CONFIG
from .test_llm_providers import Fake

PLATFORM = Settings.from_config(CONFIG).platforms[0]


def run(body, status=200, schema=None, headers=None, client=None, **more):
    client = client or Fake(body, status, headers)
    request = AgentRequest("bot", "q", "key-1", {"model": "gpt-4"}, schema, **more)
    endpoint, patience = AgentEndpoint(PLATFORM, "bot"), agent_run.Patience(9.0)
    return agent_run.run_agent(client, endpoint, request, patience), client


def failing(*arguments, **more):
    with pytest.raises(CallError) as failed:
        run(*arguments, **more)
    return failed.value.failure


def completed(output="done", **more):
    return dict({"executionId": "x1", "status": "completed", "output": output}, **more)


def test_an_agent_is_run():
    result, client = run(completed(metadata={"tokensUsed": 5}))
    sent = client.sent[0]
    assert sent["url"] == "http://127.0.0.1:9/agents/api/v1/agents/execute"
    assert sent["body"] == {"query": "q", "agentType": "simple", "config": {"model": "gpt-4"}}
    assert sent["headers"] == {"Idempotency-Key": "key-1"}
    assert result.pop("latency_ms") >= 0
    assert result == {"output": "done", "execution_id": "x1", "metadata": {"tokensUsed": 5}}


@pytest.mark.parametrize("status", [200, 500])
def test_an_agent_that_failed_is_no_failure_of_the_platform(status):
    failure = failing({"status": "failed", "error": "tool timed out"}, status)
    assert (failure.cause, failure.message) == ("agent_failed", "tool timed out")
    assert not failure.policy.counts_for_breaker and failure.evidence["spoken_cause"] == "timeout"


@pytest.mark.parametrize("error", [None, {"a": 1}, 5, ["x"], ""])
def test_an_agent_may_fail_without_words(error):
    assert failing({"status": "failed", "error": error}).cause == "agent_failed"


@pytest.mark.parametrize(
    "status, body, cause",
    [(500, {"error": "Internal server error"}, "server_error"), (503, "<html>", "server_error"),
     (401, {"error": "Unauthorized"}, "authentication"), (400, {"error": "x"}, "bad_request"),
     (404, {"error": "Not found"}, "not_found"), (429, "", "rate_limit")],
)
def test_a_platform_that_failed_is_classified(status, body, cause):
    assert failing(body, status).cause == cause


def test_a_platforms_hint_is_read():
    assert failing("", 503, headers={"retry-after": "4"}).retry_after == 4.0


@pytest.mark.parametrize("body", ["", "<html>", "[]", "5", '"x"', "[" * 50_000])
def test_what_is_no_object_is_malformed(body):
    assert failing(body).cause == "malformed_answer"


@pytest.mark.parametrize("status", ["running", "cancelled", "", 5, ["completed"]])
def test_an_agent_that_is_not_completed_has_not_recovered(status):
    assert failing(completed(status=status)).cause == "agent_failed"


@pytest.mark.parametrize("output", [None, "", " \n\t"])
def test_a_blank_output_has_not_recovered(output):
    assert failing(completed(output)).cause == "blank_output"


@pytest.mark.parametrize("output", ["Error: nothing failed, I cannot complain", 0, False, [1]])
def test_prose_is_never_searched(output):
    assert run(completed(output))[0]["output"] == output


# Replay.


class Replaying(Fake):
    """Answers a POST with `replayed` and a GET with `execution`."""

    def __init__(self, replayed, execution):
        super().__init__(None)
        self._bodies = {"POST": replayed, "GET": execution}

    def request(self, connection, method, path, seconds, **more):
        super().request(connection, method, path, seconds, **more)
        return Response(200, {}, json.dumps(self._bodies[method]), 0.25)


def replay(replayed, execution, of="old-1"):
    return run(None, client=Replaying(replayed, execution), replay_of=of)


def test_a_replay_is_read_from_its_execution():
    result, client = replay({"executionId": "new-1", "message": "Execution replayed"},
                          {"status": "completed", "output": "again"})
    assert [sent["url"].partition("/agents")[2] for sent in client.sent] == [
        "/api/v1/executions/old-1/replay", "/api/v1/executions/new-1"
    ]
    assert result["output"] == "again" and result["execution_id"] == "new-1"


@pytest.mark.parametrize(
    "replayed, execution, cause",
    [({"message": "x"}, {}, "malformed_answer"), ({"executionId": 5}, {}, "malformed_answer"),
     ({"executionId": "n"}, {"status": "failed", "error": "x"}, "agent_failed"),
     ({"executionId": "n"}, {"status": "running"}, "agent_failed"),
     ({"executionId": "n"}, {"status": "completed"}, "blank_output")],
)
def test_a_replay_that_did_not_complete_has_not_recovered(replayed, execution, cause):
    with pytest.raises(CallError) as failed:
        replay(replayed, execution)
    assert failed.value.failure.cause == cause


def test_the_id_of_a_replay_stays_one_part_of_the_path():
    client = replay({"executionId": "../../n"}, {"output": "x"}, of="a/../b?c")[1]
    assert [sent["url"].partition("/agents")[2] for sent in client.sent] == [
        "/api/v1/executions/a%2F..%2Fb%3Fc/replay", "/api/v1/executions/..%2F..%2Fn"
    ]


# Paths and the webhook.


def test_an_agent_may_have_a_path_of_its_own():
    client = run(completed(), execute_path="/agents/{agent_id}/run")[1]
    assert client.sent[0]["url"].endswith("/agents/agents/bot/run")


def test_what_it_cannot_do_it_says():
    platform = connect(Fake({}), PLATFORM)
    handle = Handle("synthralos", "synthralos", "bot", {"execution": "x"})
    assert not any(vars(platform.capabilities).values())
    for call in (platform.join, platform.cancel):
        with pytest.raises(NotSupported):
            call(handle, 1.0)
    assert platform.handle_for(AgentRequest("bot", "q", "k")) is None


def test_a_webhook_that_does_not_take_the_record_is_a_failure():
    platform = Settings.from_config(
        {"platforms": [dict(CONFIG["platforms"][0], failure_webhook="/webhooks/x")]}).platforms[0]
    client = Fake({}, 200)
    synthralos.notify(client, platform, {"a": 1}, 5.0)
    assert client.sent[0]["url"].endswith("/webhooks/x") and client.sent[0]["body"] == {"a": 1}
    with pytest.raises(CallError):
        synthralos.notify(Fake({}, 404), platform, {}, 5.0)
