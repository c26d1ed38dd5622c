import json

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.calls import llm_calls, llm_providers, llm_wires
from synthralos.calls.http import CallError, Client, Response
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.config.settings import APIS, Settings
from synthralos.core.errors import InvalidInput

from .conftest import CONFIG

PROVIDERS = Settings.from_config(CONFIG).providers
MESSAGES = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]


class Fake(Client):
    """A client that answers without a network and keeps what it was asked."""

    def __init__(self, body, status=200, headers=None):
        super().__init__(None, lambda: 0.0)
        self.body, self.status, self.headers, self.sent = body, status, headers or {}, []

    def request(self, connection, method, path, seconds, body=None, headers=None, authorize=None):
        self.sent.append({"url": connection.base_url + path, "method": method, "body": body,
                          "headers": headers, "authorize": authorize, "seconds": seconds})
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return Response(self.status, self.headers, text, 0.25)


def ask(client, model="gpt-4", messages=MESSAGES, run="r", **parameters):
    served_model = llm_providers.resolve_model(PROVIDERS, model)
    return llm_calls.complete(client, served_model, ChatRequest(messages, parameters), 9.0, run)


def openai(content="hello", finish="stop", **message):
    return {"choices": [{"message": dict(message, content=content), "finish_reason": finish}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}


def anthropic(*blocks, stop="end_turn"):
    return {"content": list(blocks), "stop_reason": stop,
            "usage": {"input_tokens": 3, "output_tokens": 4}}


TEXT = {"type": "text", "text": "hello"}


# Finding a model.


@pytest.mark.parametrize(
    "model, provider, target",
    [
        ("gpt-4", None, "llm:openai/gpt-4"),
        ("claude", None, "llm:anthropic/claude"),
        ("openai/gpt-4o", None, "llm:openai/gpt-4o"),
        ("gpt-4", "openai", "llm:openai/gpt-4"),
    ],
)
def test_a_model_is_found(model, provider, target):
    assert llm_providers.resolve_model(PROVIDERS, model, provider).target == target


def test_a_bare_name_means_the_first_provider_that_lists_it():
    config = dict(CONFIG, providers=CONFIG["providers"] + [
        {"name": "third", "base_url": "http://x", "models": ["gpt-4"]}])
    providers = Settings.from_config(config).providers
    assert llm_providers.resolve_model(providers, "gpt-4").target == "llm:openai/gpt-4"
    assert llm_providers.resolve_model(providers, "third/gpt-4").target == "llm:third/gpt-4"
    assert llm_providers.resolve_model(providers, "gpt-4", "third").target == "llm:third/gpt-4"


@pytest.mark.parametrize(
    "model, provider, named",
    [
        ("gpt-9", None, "openai/gpt-4, openai/gpt-4o, anthropic/claude"),
        ("anthropic/gpt-4", None, "openai/gpt-4"),
        ("gpt-4", "mistral", "openai, anthropic"),
        ("gpt-4", "anthropic", "anthropic/claude"),
    ],
)
def test_an_unknown_one_is_refused_with_the_known_named(model, provider, named):
    with pytest.raises(InvalidInput) as refused:
        llm_providers.resolve_model(PROVIDERS, model, provider)
    assert named in refused.value.hint


@pytest.mark.parametrize("model", ["", "a b", "{{x}}", None, 5, ["gpt-4"]])
def test_what_is_no_name_is_refused(model):
    with pytest.raises(InvalidInput) as refused:
        llm_providers.resolve_model(PROVIDERS, model)
    assert refused.value.field == "original_request.model"


def test_without_providers_the_configuration_is_named():
    with pytest.raises(InvalidInput) as refused:
        llm_providers.resolve_model([], "gpt-4")
    assert refused.value.field == "config.providers"


@pytest.mark.parametrize("api", APIS)
def test_every_wire_format_that_may_be_configured_is_spoken(api):
    wire = llm_wires.wire_format(api)
    connection = PROVIDERS[0].accounts[0].connection
    assert wire.path("m").startswith("/") and wire.listing(connection)[1].startswith("/")
    assert isinstance(wire.headers, dict)


def test_each_api_key_of_a_provider_is_an_account():
    config = {"providers": [{"name": "p", "base_url": "http://x", "models": ["m"],
                             "api_keys_from": ["p_key_a", "p_key_b"]}]}
    first = llm_providers.resolve_model(Settings.from_config(config).providers, "m")
    both = first.at_all_accounts()
    assert [served.target for served in both] == ["llm:p/m@p_key_a", "llm:p/m@p_key_b"]
    assert [served.connection.secret_from for served in both] == ["p_key_a", "p_key_b"]
    assert first.target == both[0].target and first.name == "llm:p/m"
    accounts = [served.as_target().account for served in both]
    assert accounts[0] != accounts[1]


@pytest.mark.parametrize(
    "entry, field",
    [
        ({"api_keys_from": "k"}, "providers[0].api_keys_from"),
        ({"api_keys_from": ["k", "k"]}, "providers[0].api_keys_from"),
        ({"api_keys_from": ["k", 5]}, "providers[0].api_keys_from[1]"),
        ({"api_keys_from": ["k"], "api_key": "x"}, "providers[0].api_key"),
        ({"api_keys_from": ["k"], "api_key_from": "x"}, "providers[0].api_key_from"),
    ],
)
def test_keys_that_are_not_valid_are_named(entry, field):
    config = {"providers": [dict(entry, name="p", base_url="http://x", models=["m"])]}
    with pytest.raises(InvalidInput) as refused:
        Settings.from_config(config)
    assert refused.value.field == field


# OpenAI's wire format.


def test_openai_is_asked_and_read():
    client = Fake(openai())
    completion = ask(client, temperature=0.2)
    sent = client.sent[0]
    assert sent["url"] == "http://127.0.0.1:9/v1/chat/completions" and sent["method"] == "POST"
    assert sent["body"] == {"model": "gpt-4", "messages": MESSAGES, "temperature": 0.2}
    assert sent["authorize"] is None and sent["seconds"] == 9.0
    assert completion == {
        "response": "hello", "model": "gpt-4", "provider": "openai", "finish_reason": "stop",
        "provider_finish_reason": "stop",
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}, "latency_ms": 250,
    }


def test_openai_tool_calls_are_an_answer():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    completion = ask(Fake(openai(None, "tool_calls", tool_calls=calls)))
    assert completion["tool_calls"] == calls and completion["response"] == ""


def test_openai_content_may_be_parts():
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert ask(Fake(openai(parts)))["response"] == "hello"


# Anthropic's wire format.


def test_anthropic_is_asked_and_read():
    client = Fake(anthropic(TEXT, {"type": "text", "text": "!"}))
    completion = ask(client, "claude", temperature=0.2, stop="END")
    sent = client.sent[0]
    assert sent["url"] == "http://127.0.0.1:9/v1/messages"
    assert sent["body"] == {
        "model": "claude", "messages": MESSAGES[1:], "system": "be short", "max_tokens": 4096,
        "temperature": 0.2, "stop_sequences": ["END"],
    }
    assert sent["headers"]["anthropic-version"]
    assert sent["authorize"]("k") == {"x-api-key": "k"}
    assert completion["response"] == "hello!" and completion["finish_reason"] == "stop"
    assert completion["provider_finish_reason"] == "end_turn"
    assert completion["usage"] == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def test_anthropic_gets_the_callers_limit_and_stops():
    client = Fake(anthropic(TEXT))
    ask(client, "claude", MESSAGES[1:], max_tokens=7, stop=["a", "b"])
    body = client.sent[0]["body"]
    assert body["max_tokens"] == 7 and body["stop_sequences"] == ["a", "b"]
    assert "system" not in body and "stop" not in body


def test_anthropic_tools_are_an_answer():
    tool = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    completion = ask(Fake(anthropic(tool, stop="tool_use")), "claude")
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert completion["tool_calls"] == [call] and completion["finish_reason"] == "tool_calls"


# What is no good answer.


@pytest.mark.parametrize(
    "model, body, cause",
    [
        ("gpt-4", "", "malformed_answer"),
        ("gpt-4", "<html>", "wrong_address"),
        ("gpt-4", "busy", "malformed_answer"),
        ("gpt-4", "[" * 50_000, "malformed_answer"),
        ("gpt-4", [], "malformed_answer"),
        ("gpt-4", {}, "malformed_answer"),
        ("gpt-4", {"choices": []}, "malformed_answer"),
        ("gpt-4", {"choices": ["x"]}, "malformed_answer"),
        ("gpt-4", {"error": {"message": "x"}}, "malformed_answer"),
        ("gpt-4", openai(finish=None), "truncated_stream"),
        ("gpt-4", openai(finish="{{ x }}"), "truncated_stream"),
        ("gpt-4", openai(""), "blank_output"),
        ("gpt-4", openai(" \n"), "blank_output"),
        ("gpt-4", openai(None), "blank_output"),
        ("gpt-4", openai(finish="content_filter"), "content_policy"),
        ("gpt-4", openai(None, refusal="I can't help with that"), "content_policy"),
        ("claude", {}, "malformed_answer"),
        ("claude", [], "malformed_answer"),
        ("claude", {"content": "x"}, "malformed_answer"),
        ("claude", anthropic(TEXT, stop=None), "truncated_stream"),
        ("claude", anthropic(), "blank_output"),
        ("claude", anthropic(TEXT, stop="refusal"), "content_policy"),
    ],
)
def test_what_is_no_good_answer_is_a_failure(model, body, cause):
    with pytest.raises(CallError) as failed:
        ask(Fake(body), model)
    assert failed.value.failure.cause == cause


def test_an_error_status_is_a_failure_with_its_hint():
    client = Fake({"error": {"message": "Rate limit"}}, 429, {"retry-after": "7"})
    with pytest.raises(CallError) as failed:
        ask(client)
    assert failed.value.failure.cause == "rate_limit" and failed.value.failure.retry_after == 7.0


@pytest.mark.parametrize("usage", [None, "x", {}, {"prompt_tokens": "3"}, {"prompt_tokens": -1},
                                   {"prompt_tokens": True}])
def test_usage_that_is_none_counts_nothing(usage):
    completion = ask(Fake(dict(openai(), usage=usage)))
    assert completion["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_a_repeat_bears_the_same_key_and_a_changed_prompt_a_new_one():
    client = Fake(openai())
    for messages, model in [(MESSAGES, "gpt-4"), (MESSAGES, "gpt-4"), (MESSAGES[1:], "gpt-4"),
                            (MESSAGES, "gpt-4o")]:
        ask(client, model, messages)
    keys = [sent["headers"]["Idempotency-Key"] for sent in client.sent]
    assert keys[0] == keys[1] and len(set(keys)) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "text", "type", "finish_reason", "usage",
                         "stop_reason", "tool_calls"]), inner, max_size=5),
    max_leaves=15,
)


@hypothesis.given(JSON, st.sampled_from(["gpt-4", "claude"]))
def test_any_answer_is_read_or_a_failure(body, model):
    try:
        completion = ask(Fake(body), model)
    except CallError:
        return
    assert isinstance(completion["response"], str) and completion["finish_reason"]
