"""What a caller may write, and what the errors name."""
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.calls.llm_wires import chat_request
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.core.errors import InvalidInput

MESSAGES = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}


def parse(request, **more):
    return chat_request.parse(request, **more)


def with_parameters(**parameters):
    return parse({"prompt": "hi", "parameters": parameters}).parameters


def refusal(request, **more):
    with pytest.raises(InvalidInput) as refused:
        parse(request, **more)
    return refused.value


def test_a_prompt_becomes_messages():
    assert parse({"prompt": "hi"}).messages == [{"role": "user", "content": "hi"}]
    assert parse({"prompt": "hi", "system": "be short"}).messages == MESSAGES
    assert parse({"messages": MESSAGES}).messages == MESSAGES


def test_a_system_text_beside_messages_leads_them():
    assert parse({"messages": MESSAGES[1:], "system": "be short"}).messages == MESSAGES


@pytest.mark.parametrize(
    "request_, field",
    [
        ({}, ""), ({"prompt": "a", "messages": MESSAGES}, ""), ({"prompt": ""}, ".prompt"),
        ({"prompt": "  "}, ".prompt"), ({"prompt": 5}, ".prompt"), ({"prompt": ["a"]}, ".prompt"),
        ({"prompt": "a", "system": 5}, ".system"), ({"messages": []}, ".messages"),
        ({"messages": "a"}, ".messages"), ({"messages": {}}, ".messages"),
        ({"messages": ["a"]}, ".messages[0]"), ({"messages": [{"content": "a"}]}, ".messages[0]"),
        ({"messages": [{"role": "robot", "content": "a"}]}, ".messages[0]"),
        ({"messages": [{"role": "user"}]}, ".messages[0].content"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, ".messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, ".messages[0].content"),
        ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, ".messages[0].mood"),
        ({"prompt": "a", "user_id": 7}, ".user_id"),
    ],
)
def test_bad_messages_are_named(request_, field):
    assert refusal(request_).field == "original_request" + field


@pytest.mark.parametrize(
    "part, field",
    [
        ({"type": "video"}, ".type"),
        ("text", ".type"),
        ({"type": "text", "text": 5}, ".text"),
        ({"type": "text", "text": "a", "cache": 1}, ".cache"),
        ({"type": "image_url", "image_url": {}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "ftp://x/y.png"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:text/plain;base64,YQ=="}},
         ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "http://x/y", "detail": "huge"}},
         ".image_url.detail"),
        ({"type": "file", "file": {}}, ".file"),
        ({"type": "file", "file": {"file_data": "YQ=="}}, ".file.file_data"),
        ({"type": "file", "file": {"path": "/etc/passwd"}}, ".file.path"),
        ({"type": "input_audio", "input_audio": {"data": "YQ==", "format": "ogg"}},
         ".input_audio.format"),
    ],
)
def test_a_bad_part_is_named(part, field):
    request = {"messages": [{"role": "user", "content": [part]}]}
    assert refusal(request).field == "original_request.messages[0].content[0]" + field


def test_the_address_of_a_picture_may_be_a_text_and_its_type_has_one_name():
    part = {"type": "image_url", "image_url": "data:image/jpg;base64,YQ=="}
    message = parse({"messages": [{"role": "user", "content": [part]}]}).messages[0]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,YQ=="}}
    ]


def test_a_message_may_call_tools_instead_of_speaking():
    messages = [{"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT]
    assert parse({"messages": messages}).messages == messages


def test_what_responses_have_and_requests_do_not_is_dropped():
    copied = {"role": "assistant", "content": "x", "annotations": [], "audio": None,
              "reasoning_content": "hm", "refusal": None}
    assert parse({"messages": [copied]}).messages == [{"role": "assistant", "content": "x"}]


ASSISTANT = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    "messages, field",
    [
        # The last message has a call that nobody answered.
        ([ASSISTANT], "[0].tool_calls[0]"),
        ([ASSISTANT, MESSAGES[1]], "[0].tool_calls[0]"),
        ([ASSISTANT, MESSAGES[0], RESULT], "[0].tool_calls[0]"),
        ([RESULT], "[0].tool_call_id"),
        ([ASSISTANT, RESULT, RESULT], "[2].tool_call_id"),
        ([dict(ASSISTANT, tool_calls=[CALL, CALL]), RESULT], "[0].tool_calls[1].id"),
        ([dict(ASSISTANT, tool_calls=[{"id": "1"}])], "[0].tool_calls[0].function"),
        ([dict(ASSISTANT, tool_calls=[dict(CALL, id="")])], "[0].tool_calls[0].id"),
        ([dict(ASSISTANT, tool_calls=[dict(CALL, function={"name": "a b"})])],
         "[0].tool_calls[0].function.name"),
        ([dict(ASSISTANT, tool_calls=[dict(CALL, function={"name": "f", "arguments": 5})])],
         "[0].tool_calls[0].function.arguments"),
    ],
)
def test_calls_without_a_result_and_results_without_a_call_are_named(messages, field):
    assert refusal({"messages": messages}).field == "original_request.messages" + field


def test_parameters_are_accepted_in_both_spellings_and_in_both_places():
    raw = {"maxTokens": 5, "topP": 0.1, "temperature": 0, "stop": None, "stream": False, "n": 1}
    expected = {"max_tokens": 5, "top_p": 0.1, "temperature": 0}
    assert with_parameters(**raw) == expected
    assert parse(dict(raw, prompt="hi")).parameters == expected
    assert parse({"prompt": "hi", "parameters": None}).parameters == {}


@pytest.mark.parametrize(
    "parameters, field",
    [
        ({"maxTokens": 5, "max_tokens": 6}, ".max_tokens"), ({"stream": True}, ".stream"),
        ({"stream": 1}, ".stream"), ({"n": 2}, ".n"), ({"model": "x"}, ".model"),
        ({"messages": []}, ".messages"), ({"prompt": "x"}, ".prompt"), ([], ""), ("x", ""), (5, ""),
        ({"max_tokens": 5, "max_completion_tokens": 5}, ".max_completion_tokens"),
        ({"temperature": 3}, ".temperature"), ({"temperature": "0"}, ".temperature"),
        ({"temperature": True}, ".temperature"), ({"max_tokens": 0}, ".max_tokens"),
        ({"max_tokens": 1.5}, ".max_tokens"), ({"stop": [5]}, ".stop"),
        ({"reasoning_effort": "huge"}, ".reasoning_effort"), ({"seed": "x"}, ".seed"),
        ({"thinking": {"type": "on"}}, ".thinking"), ({"metadata": {"a": 5}}, ".metadata"),
        ({"logit_bias": {"5": "x"}}, ".logit_bias"), ({"functions": []}, ".functions"),
        ({"min_p": 0.1}, ".min_p"), ({"openrouter": {"a": 1}}, ".openrouter"),
        ({"tools": {}}, ".tools"), ({"tools": [{"type": "custom"}]}, ".tools[0]"),
        ({"tools": [TOOL, TOOL]}, ".tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
         ".tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "f", "returns": 1}}]},
         ".tools[0].function.returns"),
        ({"tool_choice": "required"}, ".tool_choice"),
        ({"tools": [TOOL], "tool_choice": "f"}, ".tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
         ".tool_choice.function.name"),
        ({"response_format": {"type": "xml"}}, ".response_format.type"),
        ({"response_format": "json_object"}, ".response_format.type"),
        ({"response_format": {"type": "json_schema"}}, ".response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}},
         ".response_format.json_schema.strict"),
    ],
)
def test_bad_parameters_are_named(parameters, field):
    error = refusal({"prompt": "hi", "parameters": parameters})
    assert error.field == "original_request.parameters" + field
    assert error.hint


def test_a_parameter_may_not_be_in_both_places():
    request = {"prompt": "hi", "temperature": 0, "parameters": {"temperature": 1}}
    assert refusal(request).field == "original_request.parameters.temperature"


def test_what_says_nothing_without_tools_is_dropped():
    parameters = with_parameters(tools=[], tool_choice="none", parallel_tool_calls=False)
    assert parameters == {}
    assert with_parameters(response_format={"type": "text"}) == {}


def test_extras_are_for_configured_providers_only():
    request = {"prompt": "hi", "parameters": {"vllm": {"min_p": 0.1}, "temperature": 0}}
    parsed = parse(request, providers=("vllm",))
    assert parsed.extras == {"vllm": {"min_p": 0.1}} and parsed.parameters == {"temperature": 0}
    assert refusal(request).field == "original_request.parameters.vllm"
    wrong = {"prompt": "hi", "parameters": {"vllm": 5}}
    assert refusal(wrong, providers=("vllm",)).field == "original_request.parameters.vllm"


def test_a_request_survives_its_case():
    request = parse({"messages": [ASSISTANT, RESULT], "parameters": {"tools": [TOOL]}})
    assert ChatRequest.from_dict(request.as_dict()) == request


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content", "text", "type", "image_url", "url", "tool_calls", "id",
                         "function", "name", "arguments", "tools", "file", "response_format"]),
        inner, max_size=5),
    max_leaves=15,
)


@hypothesis.given(st.dictionaries(
    st.sampled_from(["prompt", "messages", "system", "parameters"]), JSON))
def test_any_request_is_accepted_or_refused(request_):
    try:
        parse(request_)
    except InvalidInput:
        pass
