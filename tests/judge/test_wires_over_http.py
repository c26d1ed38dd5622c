"""Each wire over HTTP, against servers that others wrote: aimock speaks all of them, llmock four.

Both read the whole request, with tools, a picture, a schema and results, and answer in the
provider's own shape.
"""
import json

import fixtures.aimock
import pytest
from fixtures.aimock import KEY, PATHS
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.calls import llm_calls
from synthralos.calls.http import CallError, Client
from synthralos.calls.llm_providers import resolve_model
from synthralos.calls.llm_wires import APIS, chat_request
from synthralos.config.settings import Settings

FIXTURES = {"fixtures": [
    {"match": {"hasToolResult": True}, "response": {"content": '{"title": "T"}'}},
    {"match": {"userMessage": "picture"}, "response": {"toolCalls": [
        {"name": "look_up", "arguments": {"id": "1"}},
        {"name": "look_up", "arguments": {"id": "2"}},
    ]}},
]}
MODELS = {"openai": "gpt-4o", "openai_responses": "gpt-4o", "anthropic": "claude-sonnet-4-5",
          "gemini": "gemini-2.5-flash", "bedrock": "anthropic.claude-3-5-sonnet-20241022-v2:0"}
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
          "additionalProperties": False}
PARAMETERS = {
    "max_tokens": 500, "temperature": 0.2,
    "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {
        "type": "object", "properties": {"id": {"type": "string"}}}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "page", "schema": SCHEMA}},
}
PIXEL = ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
         "DwADhgGAWjR9awAAAABJRU5ErkJggg==")
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "What is in the picture, as JSON?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]},
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory):
    """The address of an aimock that knows the conversation of this file."""
    with fixtures.aimock.aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as address:
        yield address


def ask(base_url, api, messages, headers=None, key=KEY, model=None):
    model = model or MODELS[api]
    entry = {"name": "p", "api": api, "base_url": base_url, "models": [model],
             "api_key": key, "headers": headers or {}}
    served_model = resolve_model(Settings.from_config({"providers": [entry]}).providers, model)
    client = Client(lambda connection, fresh: (connection.secret, {}))
    request = chat_request.parse({"messages": messages, "parameters": PARAMETERS})
    return llm_calls.complete(client, served_model, request, PATIENCE_SECONDS, "run")


def follow_up(completion):
    calls = completion["tool_calls"]
    answer = {"role": "assistant", "content": completion["response"], "tool_calls": calls}
    return MESSAGES + [answer] + [
        {"role": "tool", "tool_call_id": call["id"], "content": "found"} for call in calls
    ]


@pytest.mark.parametrize("first", APIS)
@pytest.mark.parametrize("second", APIS)
def test_a_conversation_goes_on_at_each_provider(aimock, first, second):
    completion = ask(aimock + PATHS[first], first, MESSAGES)
    assert completion["finish_reason"] == "tool_calls"
    assert [json.loads(call["function"]["arguments"]) for call in completion["tool_calls"]] == [
        {"id": "1"}, {"id": "2"}]
    completion = ask(aimock + PATHS[second], second, follow_up(completion))
    assert completion["response"] == '{"title": "T"}' and completion["finish_reason"] == "stop"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("header, cause", [
    ("x-aimock-chaos-drop", "server_error"), ("x-aimock-chaos-malformed", "malformed_answer"),
    ("x-aimock-chaos-disconnect", "network"), ("x-aimock-chaos-ratelimit", "rate_limit"),
])
def test_chaos_is_told_by_its_cause(aimock, api, header, cause):
    with pytest.raises(CallError) as failed:
        ask(aimock + PATHS[api], api, MESSAGES, {header: "1"})
    assert failed.value.failure.cause == cause


@pytest.mark.parametrize("api", APIS)
def test_a_wrong_key_is_told_by_its_cause(aimock, api):
    with pytest.raises(CallError) as failed:
        ask(aimock + PATHS[api], api, MESSAGES, key="wrong")
    assert failed.value.failure.cause == "authentication"


LLMOCK_PATHS = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "/anthropic",
                "gemini": "/gemini/v1beta"}


@pytest.mark.parametrize("api", sorted(LLMOCK_PATHS))
def test_llmock_finds_no_fault(judge, api):
    entry = {"name": "p", "api": api, "base_url": judge.url + LLMOCK_PATHS[api], "api_key": "k",
             "models": [MODELS[api]]}
    served_model = resolve_model(
        Settings.from_config({"providers": [entry]}).providers, MODELS[api])
    client = Client(lambda connection, fresh: (connection.secret, {}))
    request = chat_request.parse({"messages": MESSAGES, "parameters": {"max_tokens": 500}})
    completion = llm_calls.complete(client, served_model, request, PATIENCE_SECONDS, "run")
    assert completion["response"] and completion["finish_reason"] == "stop"
    assert completion["usage"]["total_tokens"] > 0
    judge.fails(429, times=1)
    with pytest.raises(CallError) as failed:
        llm_calls.complete(client, served_model, request, PATIENCE_SECONDS, "run")
    assert failed.value.failure.cause == "rate_limit"
    assert judge.findings("error") == []
