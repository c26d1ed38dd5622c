import json

import pytest

from synthralos.calls import agent_platform
from synthralos.calls.http import CallError, Response
from synthralos.config.settings import Agent, Settings
from synthralos.core.errors import InvalidInput

from .conftest import CONFIG, http_answer
from .test_llm_providers import Fake

PLATFORM = Settings.from_config(CONFIG).platforms[0]
REQUEST = {"path": "/api/v1/agents/execute", "query": "q", "agent_type": "simple",
           "config": {"model": "gpt-4"}, "replay_of": None}


def run(body, status=200, schema=None, headers=None, **more):
    client = Fake(body, status, headers)
    return agent_platform.run_agent(
        client, PLATFORM, dict(REQUEST, **more), 9.0, "r", schema
    ), client


def failing(*arguments, **more):
    with pytest.raises(CallError) as failed:
        run(*arguments, **more)
    return failed.value.failure


def problem_of(output, schema):
    return agent_platform.accept_output(output, schema)[1]


def completed(output="done", **more):
    return dict({"executionId": "x1", "status": "completed", "output": output}, **more)


def test_an_agent_is_run():
    result, client = run(completed(metadata={"tokensUsed": 5}))
    sent = client.sent[0]
    assert sent["url"] == "http://127.0.0.1:9/agents/api/v1/agents/execute"
    assert sent["body"] == {"query": "q", "agentType": "simple", "config": {"model": "gpt-4"}}
    assert sent["headers"]["Idempotency-Key"]
    assert result == {"output": "done", "execution_id": "x1", "metadata": {"tokensUsed": 5},
                    "latency_ms": 250}


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


LIMIT_MESSAGES = [
    ("LangChain", "Agent stopped due to iteration limit or time limit."),
    ("LangChain", "Agent stopped due to max iterations."),
    ("LangGraph", "Sorry, need more steps to process this request."),
    ("LangGraph", "Recursion limit of 25 reached without hitting a stop condition. You can "
     "increase the limit by setting the `recursion_limit` config key.\nFor troubleshooting, visit: "
     "https://docs.langchain.com/oss/python/langgraph/errors/GRAPH_RECURSION_LIMIT"),
    ("LangGraph", "GraphRecursionError: Recursion limit of 80 reached without hitting a stop "
     "condition. You can increase the limit by setting the `recursion_limit` config key."),
    ("CrewAI", "Agent stopped due to iteration limit or time limit."),
    ("SuperAGI", "Maximum iterations exceeded!"),
    ("smolagents", "Reached max steps."),
    ("OpenManus", "Terminated: Reached max steps (20)"),
    ("OpenAI Agents", "Max turns (10) exceeded"),
    ("OpenAI Agents", "agents.exceptions.MaxTurnsExceeded: Max turns (10) exceeded"),
    ("Claude Agent SDK", "Reached maximum number of turns (1)"),
    ("LlamaIndex", "Reached max iterations."),
    ("LlamaIndex", "Max iterations of 20 reached! Either something went wrong, or you can increase "
     "the max iterations with `.run(.., max_iterations=...)`"),
    ("AutoGen", "Maximum number of turns 10 reached."),
    ("AutoGen", "Maximum number of messages 6 reached, current message count: 6"),
    ("Pydantic AI", "The next request would exceed the request_limit of 50"),
    ("Google ADK", "Max number of llm calls limit of `500` exceeded"),
]


@pytest.mark.parametrize("shape", ["%s", " %s\n", "swapcase"])
@pytest.mark.parametrize("framework, message", LIMIT_MESSAGES)
def test_a_framework_that_ran_into_a_limit_has_not_recovered(framework, message, shape):
    output = message.swapcase() if shape == "swapcase" else shape % message
    assert failing(completed(output)).cause == "infinite_loop"
    failure = failing(completed(output), schema={"type": "string"})
    assert failure.cause == "infinite_loop" and not failure.policy.counts_for_breaker


@pytest.mark.parametrize("shape", [
    "%s This is what LangChain says.", "The log ends with: %s", '"%s"', "%s\n\n42", {},
])
@pytest.mark.parametrize("message", [message for _, message in LIMIT_MESSAGES[:3]])
def test_an_answer_that_mentions_such_a_message_is_an_answer(shape, message):
    output = {"text": message} if isinstance(shape, dict) else shape % message
    assert run(completed(output))[0]["output"] == output


# The schema.

SCHEMA = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}


@pytest.mark.parametrize("output", [{"total": 5}, '{"total": 5}'])
def test_an_output_that_matches_is_taken(output):
    assert run(completed(output), schema=SCHEMA)[0]["output"] == output


@pytest.mark.parametrize("output", [
    '```json\n{"total": 5}\n```', '```JSON\n{"total": 5}```', 'Here it is: {"total": 5} Bye.',
    '<think>maybe {"total": 4}</think>\n{"total": 5}', 'of {"draft": 1}</think>{"total": 5}',
    '{"total": 4} no, rather {"total": 5}', '{"total": 5} and not {"total": "4"}',
])
def test_json_with_words_around_it_is_handed_on_parsed(output):
    assert run(completed(output), schema=SCHEMA)[0]["output"] == {"total": 5}


def test_a_large_output_is_accepted_as_json():
    output = json.dumps({"total": 5, "text": "x" * 2_000_000})
    assert run(completed(output), schema=SCHEMA)[0]["output"] == output


@pytest.mark.parametrize("output", ['```\n{"total": 5}\n```', 'It is {"total": 5}'])
def test_without_a_schema_an_output_is_handed_on_as_it_came(output):
    assert run(completed(output))[0]["output"] == output


@pytest.mark.parametrize("output", [{"total": "5"}, '{"total": "5"}', {}, "prose", "[1", [1],
                                    '{"total": NaN}', 'x {"total": 1e999}', 'x {"total": 5'])
def test_an_output_that_does_not_match_is_not(output):
    assert failing(completed(output), schema=SCHEMA).cause == "schema_mismatch"


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {"type": ["string", "null"]}, {"enum": ["yes", "no"]},
               {"minLength": 2}, {}]
)
def test_a_schema_that_allows_text_is_matched_by_text(schema):
    assert run(completed("yes"), schema=schema)[0]["output"] == "yes"


def test_an_output_nested_too_deeply_is_a_mismatch():
    assert failing(completed("[" * 50_000), schema=SCHEMA).cause == "schema_mismatch"


@pytest.mark.parametrize("schema", ["x", [], 5, {"type": "nonsense"}, {"type": 5},
                                    {"required": "x"}, {"pattern": "("}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidInput) as refused:
        agent_platform.require_valid_schema(schema)
    assert refused.value.field == "context.expected_schema"


def test_a_schema_is_checked_without_fetching_anything(serve):
    server = serve(http_answer(200, b"{}"))
    schema = {"$ref": server.url + "/schema"}
    try:
        agent_platform.require_valid_schema(schema)
        agent_platform.accept_output({"a": 1}, schema)
    except InvalidInput:
        pass
    assert server.requests == []


@pytest.mark.parametrize("ref", ["#/definitions/gone", "gone.json", "file:///etc/passwd"])
def test_a_reference_that_leads_nowhere_is_refused_or_a_mismatch(ref):
    schema = {"$ref": ref}
    try:
        agent_platform.require_valid_schema(schema)
    except InvalidInput:
        return
    assert problem_of({"a": 1}, schema).cause == "schema_mismatch"


def test_a_jsonschema_without_its_own_reference_error_is_enough(monkeypatch):
    import jsonschema

    monkeypatch.delattr(jsonschema, "RefResolutionError", raising=False)
    schema = {"$ref": "#"}
    agent_platform.require_valid_schema(schema)
    assert "endlessly" in problem_of({"a": 1}, schema).message


def test_a_reference_that_the_schema_s_id_leads_elsewhere_is_followed_nowhere(serve):
    server = serve(http_answer(200, b"{}"))
    schema = {"id": server.url + "/x", "definitions": {"a": {"type": "string"}},
              "properties": {"b": {"id": "sub/", "$ref": "#/definitions/a"}}}
    agent_platform.require_valid_schema(schema)
    assert problem_of({"b": "c"}, schema) is None
    assert problem_of({"b": 5}, schema).cause == "schema_mismatch"
    assert server.requests == []


def test_a_property_that_is_called_id_is_checked():
    schema = {"properties": {"id": {"type": "string"}, "enum": {"id": "x", "type": "object"}},
              "enum": [{"id": "a"}, {"id": 5}]}
    assert problem_of({"id": "a"}, schema) is None
    assert problem_of({"id": 5}, schema).cause == "schema_mismatch"
    assert problem_of({"id": "b"}, schema).cause == "schema_mismatch"


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
    client = Replaying(replayed, execution)
    return agent_platform.run_agent(client, PLATFORM, dict(REQUEST, replay_of=of), 9.0, "r"), client


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
    assert agent_platform.execute_path(PLATFORM, None, "bot") == "/api/v1/agents/execute"
    agent = Agent(execute_path="/agents/{agent_id}/run")
    assert agent_platform.execute_path(PLATFORM, agent, "a/b") == "/agents/a%2Fb/run"


def test_a_webhook_that_does_not_take_the_record_is_a_failure():
    platform = Settings.from_config(
        {"platform": dict(CONFIG["platform"], failure_webhook="/webhooks/x")}).platforms[0]
    client = Fake({}, 200)
    agent_platform.notify(client, platform, {"a": 1}, 5.0)
    assert client.sent[0]["url"].endswith("/webhooks/x") and client.sent[0]["body"] == {"a": 1}
    with pytest.raises(CallError):
        agent_platform.notify(Fake({}, 404), platform, {}, 5.0)
