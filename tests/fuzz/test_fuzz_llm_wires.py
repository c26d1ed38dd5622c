"""Whatever callers may write, each wire says it or says why not.

FUZZ=1 tries 3,000 examples for each, else 100.
"""
import json
import os

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from fixtures import chat_requests
from hypothesis import strategies as st

from synthralos.calls.llm_wires import APIS, chat_request, wire_format
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.model_traits import traits_of
from synthralos.calls.llm_wires.wire import CannotCarry

MODELS = ("gpt-4o", "gpt-5", "claude-sonnet-4-5", "claude-opus-5", "gemini-3-pro", "nova-pro",
          "mistral-small", "unheard-of")


@pytest.mark.parametrize("api", APIS)
@hypothesis.given(chat_requests.requests(), st.sampled_from(MODELS))
@hypothesis.settings(
    max_examples=3000 if os.environ.get("FUZZ") else 100, deadline=None, derandomize=True,
    database=None, suppress_health_check=list(hypothesis.HealthCheck),
)
def test_a_request_is_translated_or_refused_with_its_field(api, written, model):
    request = chat_request.parse(written)
    before = json.dumps(request.as_dict())
    try:
        sent = wire_format(api).build(request, model, traits_of(model))
    except CannotCarry as error:
        assert error.field and error.reason
        return
    # Another wire gets the same request.
    assert json.dumps(request.as_dict()) == before
    restored = ChatRequest.from_dict(json.loads(before))
    assert wire_format(api).build(restored, model, traits_of(model)).body == sent.body
    results = [message for message in request.messages if message["role"] == "tool"]
    kinds = ('"role": "tool"', '"function_call_output"', '"tool_result"', '"functionResponse"',
             '"toolResult"')
    text = json.dumps(sent.body)
    assert max(text.count(kind) for kind in kinds) >= len(results)
    for entry in sent.adapted:
        assert entry["field"] and entry["reason"]
