"""Answers in JSON, and the model that is told what is wrong with its own."""
import pytest

from synthralos.calls import llm_calls
from synthralos.calls.answer_format import MAX_ANSWER_CHARS, Corrections
from synthralos.calls.http import CallError
from synthralos.calls.llm_calls import CallOptions
from synthralos.calls.llm_providers import resolve_model
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.config.settings import Settings

from .conftest import CONFIG
from .test_llm_providers import Fake, openai

MODEL = resolve_model(Settings.from_config(CONFIG).providers, "gpt-4")
MESSAGES = [{"role": "user", "content": "Describe the page as JSON"}]
SCHEMA = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}
SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "page", "schema": SCHEMA}}
OBJECT_FORMAT = {"type": "json_object"}


def ask(answer, response_format, options=None, **message):
    client = Fake(openai(answer, **message))
    request = ChatRequest(MESSAGES, {"response_format": response_format})
    return llm_calls.complete(client, MODEL, request, 9.0, "r", options), client


@pytest.mark.parametrize("answer, response", [
    ('{"title": "T"}', '{"title": "T"}'),
    ('{"title":"T"}\n', '{"title":"T"}\n'),
    ('<think>maybe {"draft": true}</think>\n{"title":"T"}', '{"title": "T"}'),
    ('Here it is:\n```json\n{"title":"T"}\n```\nBye.', '{"title": "T"}'),
    ('{"title": "<think>x</think>"}', '{"title": "<think>x</think>"}'),
    ('{"draft": 1} or rather {"title": "é"}', '{"title": "é"}'),
])
def test_the_response_is_the_json_alone(answer, response):
    assert ask(answer, SCHEMA_FORMAT)[0]["response"] == response


@pytest.mark.parametrize("response_format, answer, words", [
    (SCHEMA_FORMAT, '{"name": "T"}', "title"), (SCHEMA_FORMAT, "a page", "no JSON"),
    (SCHEMA_FORMAT, '{"title": 7}', "7 is not of type"), (OBJECT_FORMAT, "[1]", "no JSON object"),
    (OBJECT_FORMAT, "sorry", "no JSON object"),
])
def test_a_mismatch_is_a_failed_attempt_with_its_reason(response_format, answer, words):
    with pytest.raises(CallError) as failed:
        ask(answer, response_format)
    failure = failed.value.failure
    assert failure.cause == "schema_mismatch" and words in failure.message
    assert failure.message.startswith("the answer does not match response_format")


def test_calls_of_tools_are_no_answer_yet():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    result, _ = ask("let me look", SCHEMA_FORMAT, finish="tool_calls", tool_calls=calls)
    assert result["tool_calls"] == calls


def test_a_caller_that_checks_answers_itself_gets_them_as_they_came():
    options = CallOptions(checks_format=False)
    assert ask("a page", SCHEMA_FORMAT, options)[0]["response"] == "a page"


def test_the_model_is_told_why_its_answer_was_rejected_and_no_other_model_is():
    options = CallOptions(corrections=Corrections())
    with pytest.raises(CallError):
        ask('{"name": "T"}', SCHEMA_FORMAT, options)
    stored = Corrections(options.corrections.as_dict())
    _, client = ask('{"title": "T"}', SCHEMA_FORMAT, CallOptions(corrections=stored))
    messages = client.sent[0]["body"]["messages"]
    assert messages[:1] == MESSAGES and messages[1] == {
        "role": "assistant", "content": '{"name": "T"}'}
    assert "'title' is a required property" in messages[2]["content"]
    request = ChatRequest(MESSAGES)
    assert stored.apply("llm:anthropic/claude", request) is request


def test_a_rejected_answer_is_carried_in_part():
    corrections = Corrections()
    corrections.record("t", "x" * 20000, "is too long")
    assert len(corrections.as_dict()["t"]["answer"]) == MAX_ANSWER_CHARS
