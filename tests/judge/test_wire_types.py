"""The providers' own SDKs as judges of the wires: of each request by its type, and of each answer.

They are in an environment of their own (`make judges`). FUZZ=1 tries 3,000 requests for each.
"""
import json
import os

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from fixtures import chat_requests
from fixtures.sdk_judge import sdk_judge
from hypothesis import strategies as st

from synthralos.calls.http import CallError, Response
from synthralos.calls.llm_wires import APIS, chat_request, wire_format
from synthralos.calls.llm_wires.completion import problem_of, read_response
from synthralos.calls.llm_wires.model_traits import traits_of
from synthralos.calls.llm_wires.wire import CannotCarry

# Of each wire: models whose family is known, and one that nobody knows.
MODELS = {
    "openai": ["gpt-4o", "gpt-3.5-turbo", "gpt-5", "gpt-5.1", "o3", "mistral-large-latest",
               "gemini-3-pro", "some-model"],
    "openai_responses": ["gpt-5.1", "gpt-4o", "gpt-r"],
    "anthropic": ["claude-3-haiku-20240307", "claude-sonnet-4-5-20250929", "claude-opus-4-6",
                  "claude-opus-4-8", "claude-sonnet-5", "c1"],
    "gemini": ["gemini-2.0-flash", "gemini-2.5-pro", "gemini-2.5-flash", "gemini-3-pro",
               "gemini-3.5-flash", "other"],
    "bedrock": ["anthropic.claude-3-5-sonnet-20240620-v1:0", "amazon.nova-lite-v1:0",
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-4-8-v1:0",
                "meta.llama3-3-70b-instruct-v1:0"],
}
CANONICAL = ("stop", "length", "tool_calls", "content_filter")


@pytest.fixture(scope="module")
def sdks():
    with sdk_judge() as judge:
        yield judge


@pytest.mark.parametrize("api", APIS)
@hypothesis.given(data=st.data())
@hypothesis.settings(
    max_examples=3000 if os.environ.get("FUZZ") else 150, deadline=None, derandomize=True,
    database=None, suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_request_passes_the_types_of_the_sdk_unchanged(sdks, api, data):
    written = data.draw(chat_requests.requests())
    model = data.draw(st.sampled_from(MODELS[api]))
    request = chat_request.parse(written)
    try:
        wire_request = wire_format(api).build(request, model, traits_of(model))
    except CannotCarry:
        hypothesis.reject()
    body = json.loads(json.dumps(wire_request.body))
    if model == "gemini-3-pro" and api == "openai":
        # Google's extension of this wire, which OpenAI's types do not have.
        body = without_extra_content(body)
    assert sdks.problem(api, body, model) is None


def without_extra_content(body):
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            call.pop("extra_content", None)
    return body


@pytest.mark.parametrize("api", APIS)
def test_the_judge_finds_a_field_that_is_unknown_and_one_that_is_wrong(sdks, api):
    request = chat_request.parse({"prompt": "hi", "parameters": {"max_tokens": 20}})
    body = wire_format(api).build(request, "m", traits_of("m")).body
    assert sdks.problem(api, body, "m") is None
    assert sdks.problem(api, dict(body, frequencyPenalties=1), "m") is not None
    name = "contents" if api == "gemini" else "input" if api == "openai_responses" else "messages"
    assert sdks.problem(api, dict(body, **{name: 7}), "m") is not None


@pytest.mark.parametrize("api", APIS)
def test_every_answer_that_the_types_can_hold_is_read(sdks, api):
    read = wire_format(api).read
    outcomes = set()
    for seed in range(400):
        body = sdks.ask(answer=api, seed=seed)["body"]
        response = Response(200, {}, json.dumps(body), 0.1)
        try:
            completion = read_response(read, response, 0.0)
        except CallError as error:
            outcomes.add(error.failure.cause)
            continue
        problem = problem_of(completion)
        outcomes.add(problem.cause if problem else completion.finish_reason)
        if problem is None:
            check_good(completion)
    assert {"stop", "tool_calls"} <= outcomes and len(outcomes) > 4, outcomes


def test_the_reasoning_in_every_answer_comes_back_before_its_call(sdks):
    """Nothing of an item is lost but a status and nulls, which the API refuses."""
    wire, count = wire_format("openai_responses"), 0
    for seed in range(800):
        body = dict(sdks.ask(answer="openai_responses", seed=seed)["body"], store=True)
        for number, item in enumerate(body["output"]):
            if item.get("type") == "function_call":
                item.update(name="f", call_id="call_%d" % number)
        completion = wire.read(body)
        calls = completion.tool_calls
        if not calls:
            continue
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": completion.response, "tool_calls": calls},
        ] + [{"role": "tool", "tool_call_id": call["id"], "content": "4"} for call in calls]
        sent = wire.build(chat_request.parse({"messages": messages}), "gpt-5", traits_of("gpt-5"))
        assert sdks.problem("openai_responses", sent.body, "gpt-5") is None
        before_calls = items_before_calls(body["output"])
        count += len(before_calls)
        assert [item for item in sent.body["input"] if item.get("type") == "reasoning"] == [
            {name: value for name, value in item.items()
             if name != "status" and value not in (None, []) or name == "summary"}
            for item in before_calls
        ]
    assert count > 9


def items_before_calls(output):
    """The reasoning items after which the answer calls a tool."""
    last_call = max(
        index for index, item in enumerate(output) if item.get("type") == "function_call")
    return [
        item for item in output[:last_call] if item.get("type") == "reasoning" and item["id"]]


def check_good(completion):
    assert completion.finish_reason in CANONICAL
    assert completion.response.strip() or completion.tool_calls
    for call in completion.tool_calls:
        assert call["id"] and call["type"] == "function" and call["function"]["name"]
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    for count in completion.usage.as_dict().values():
        assert isinstance(count, int) and count >= 0
