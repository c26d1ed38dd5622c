"""What each wire sends for a chat request, and what comes back of an answer.

Most requests here are taken from public failure reports of other tools.
"""
import json
import re

import pytest

from synthralos.calls.llm_wires import APIS, chat_request, wire_format
from synthralos.calls.llm_wires.call_arguments import parse_arguments
from synthralos.calls.llm_wires.completion import problem_of
from synthralos.calls.llm_wires.model_traits import traits_of
from synthralos.calls.llm_wires.wire import CannotCarry

MODELS = {
    "openai": "gpt-4o", "openai_responses": "gpt-4o", "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-2.5-flash", "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}
PIXEL = "data:image/png;base64,AAAA"
SCHEMA = {
    "type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "page", "schema": SCHEMA}}
LONG_ID = "call_" + "A" * 24 + "|fc_" + "0123456789abcdef" * 3 + "0" * 12


def tool(name="f"):
    return {"type": "function", "function": {
        "name": name, "description": "finds", "parameters": {"type": "object"}}}


def call(call_id="call_1", name="f", arguments="{}", **more):
    return dict(
        more, id=call_id, type="function", function={"name": name, "arguments": arguments}
    )


def result(content, call_id="call_1"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def build(api, messages, model=None, capabilities=None, **parameters):
    request = chat_request.parse({"messages": messages, "parameters": parameters})
    model = model or MODELS[api]
    return wire_format(api).build(request, model, traits_of(model, capabilities))


def adapted(wire_request):
    return [entry["field"] for entry in wire_request.adapted]


def user(text="hi"):
    return [{"role": "user", "content": text}]


# Parameters.


def test_anthropic_gets_only_what_it_takes():
    sent = build(
        "anthropic", user(), max_completion_tokens=100, frequency_penalty=0.5, seed=1,
        response_format={"type": "json_object"}, tool_choice="auto", tools=[tool()],
    )
    assert sent.body["max_tokens"] == 100 and sent.body["tool_choice"] == {"type": "auto"}
    assert sent.body["tools"] == [
        {"name": "f", "description": "finds", "input_schema": {"type": "object"}}
    ]
    assert set(sent.body) == {
        "model", "messages", "max_tokens", "tools", "tool_choice", "system"
    }
    assert "JSON" in sent.body["system"]
    assert sorted(adapted(sent)) == ["frequency_penalty", "response_format", "seed"]


@pytest.mark.parametrize(
    "api, model, path",
    [
        ("openai", "gpt-4o", ["max_tokens"]),
        ("openai", "gpt-5", ["max_completion_tokens"]),
        ("openai", "o3-mini", ["max_completion_tokens"]),
        ("openai", "openai/gpt-5.1", ["max_completion_tokens"]),
        ("openai", "mistral-small", ["max_tokens"]),
        ("openai_responses", "gpt-r", ["max_output_tokens"]),
        ("anthropic", "c1", ["max_tokens"]),
        ("gemini", "gemini-3-pro", ["generationConfig", "maxOutputTokens"]),
        ("bedrock", "amazon.nova-lite-v1:0", ["inferenceConfig", "maxTokens"]),
    ],
)
@pytest.mark.parametrize("name", ["max_tokens", "max_output_tokens"])
def test_the_limit_of_the_answer_has_each_models_own_name(api, model, path, name):
    sent = build(api, user(), model, **{name: 100})
    value = sent.body
    for part in path:
        value = value[part]
    assert value == 100 == sent.max_output_tokens
    assert json.dumps(sent.body).count(": 100") == 1 and sent.adapted == []


def test_a_name_of_the_limit_that_may_be_right_is_kept():
    sent = build("openai", user(), "some-model", max_completion_tokens=100)
    assert sent.body["max_completion_tokens"] == 100 and "max_tokens" not in sent.body


@pytest.mark.parametrize("model, sends", [
    ("claude-opus-4-8", {}), ("claude-sonnet-5-5", {}), ("claude-fable-5", {}),
    ("anthropic/claude-opus-4.7", {}),
    ("claude-sonnet-4-5", {"temperature": 0.2}), ("claude-opus-4-1-20250805", {"temperature": 0.2}),
    ("claude-3-5-haiku-latest", {"temperature": 0.2, "top_p": 0.9}),
    ("c1", {"temperature": 0.2, "top_p": 0.9}),
])
def test_claude_gets_the_sampling_that_it_takes(model, sends):
    sent = build("anthropic", user(), model, temperature=0.2, top_p=0.9)
    assert {name: sent.body[name] for name in ("temperature", "top_p") if name in sent.body} == (
        sends
    )
    assert set(adapted(sent)) == {"temperature", "top_p"} - set(sends)
    alone = build("anthropic", user(), model, top_p=0.9)
    assert "temperature" not in alone.body


@pytest.mark.parametrize("model, effort, sends", [
    ("gpt-5", None, False), ("gpt-5", "high", False), ("o3", None, False),
    ("gpt-5.1", None, True), ("gpt-5.1", "none", True), ("gpt-5.1", "high", False),
    ("gpt-5.6-luna", None, False), ("gpt-5-chat-latest", None, True), ("gpt-4o", None, True),
    ("some-model", None, True),
])
def test_a_reasoning_model_gets_no_temperature(model, effort, sends):
    parameters = {"reasoning_effort": effort} if effort else {}
    sent = build("openai", user(), model, temperature=0.2, **parameters)
    assert ("temperature" in sent.body) is sends
    assert ("temperature" in adapted(sent)) is not sends


@pytest.mark.parametrize("api, expected", [
    ("openai", 1.7), ("gemini", 1.7), ("anthropic", 1), ("bedrock", 1)])
def test_a_temperature_beyond_the_range_is_the_highest(api, expected):
    sent = build(api, user(), temperature=1.7)
    config = sent.body.get("generationConfig") or sent.body.get("inferenceConfig") or sent.body
    assert config["temperature"] == expected
    assert adapted(sent) == ([] if expected == 1.7 else ["temperature"])


@pytest.mark.parametrize("stop, sent_stops, names", [
    (["", "\n", " \t", "END"], ["END"], ["stop"]), (["", " "], None, ["stop"]),
    ("END", ["END"], []),
])
@pytest.mark.parametrize("api, place", [
    ("anthropic", ["stop_sequences"]), ("bedrock", ["inferenceConfig", "stopSequences"])])
def test_blank_stops_are_left_out(api, place, stop, sent_stops, names):
    sent = build(api, user(), stop=stop)
    value = sent.body
    for part in place:
        value = value.get(part, {})
    assert (value or None) == sent_stops and adapted(sent) == names


def test_the_number_of_stops_is_each_apis_own():
    stops = [str(number) for number in range(7)]
    assert build("openai", user(), stop=stops).body["stop"] == stops[:4]
    assert build("gemini", user(), stop=stops).body["generationConfig"]["stopSequences"] == (
        stops[:5]
    )
    assert "stop" in adapted(build("openai_responses", user(), stop=stops))


@pytest.mark.parametrize("model, effort, expected", [
    ("claude-opus-4-8", "minimal",
     {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    ("claude-opus-4-6", "high",
     {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    ("claude-sonnet-4-5", "medium", {"thinking": {"type": "enabled", "budget_tokens": 8192}}),
    ("claude-3-5-haiku-latest", "high", {}),
    ("claude-opus-4-8", "none", {}),
    ("claude-opus-5-5", "none", {"output_config": {"effort": "low"}}),
])
def test_claude_is_told_how_much_to_think_in_its_own_way(model, effort, expected):
    sent = build("anthropic", user(), model, reasoning_effort=effort, temperature=1)
    thinking = {
        name: sent.body[name] for name in ("thinking", "output_config") if name in sent.body
    }
    assert thinking == expected
    assert ("temperature" in sent.body) is (
        "thinking" not in expected and "opus" not in model
    )
    budget = expected.get("thinking", {}).get("budget_tokens", 0)
    assert sent.body["max_tokens"] > budget


def test_a_small_limit_leaves_no_room_for_thoughts():
    sent = build("anthropic", user(), reasoning_effort="high", max_tokens=500)
    assert "thinking" not in sent.body and adapted(sent) == ["reasoning_effort"]
    sent = build("anthropic", user(), reasoning_effort="high", max_tokens=5000)
    assert sent.body["thinking"]["budget_tokens"] == 2500 < sent.body["max_tokens"] == 5000


def test_a_model_that_must_call_a_tool_does_not_think():
    sent = build("anthropic", user(), reasoning_effort="low", tools=[tool()],
                 tool_choice="required")
    assert "thinking" not in sent.body and sent.body["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize("model, effort, expected", [
    ("gemini-3-pro", "medium", {"thinkingLevel": "HIGH"}),
    ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}),
    ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
    ("gemini-2.5-pro", "none", {"thinkingBudget": 1024}),
    ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}),
    ("gemini-2.0-flash", "high", None),
])
def test_gemini_is_told_how_much_to_think_in_its_own_way(model, effort, expected):
    sent = build("gemini", user(), model, reasoning_effort=effort)
    assert sent.body.get("generationConfig", {}).get("thinkingConfig") == expected


def test_thinking_becomes_an_effort_where_there_is_no_budget():
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert build("openai", user(), "gpt-5", thinking=thinking).body["reasoning_effort"] == "medium"
    sent = build("openai_responses", user(), "gpt-5", thinking={"type": "disabled"})
    assert sent.body["reasoning"] == {"effort": "minimal"}


# Messages.


@pytest.mark.parametrize("url", [PIXEL, "https://example.org/cat.png"])
def test_a_conversation_with_a_picture_and_a_tool_reaches_anthropic(url):
    messages = [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": url}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [call()]},
        result("42"),
    ]
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    if url != PIXEL:
        source = {"type": "url", "url": url}
    assert build("anthropic", messages).body["messages"] == [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"}, {"type": "image", "source": source},
        ]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "call_1", "content": "42"}]},
    ]


def pairs(api, body):
    """[(arguments, result)] of the calls in a body, by their ids; and the ids in order."""
    if api == "openai":
        calls = {
            item["id"]: json.loads(item["function"]["arguments"])
            for message in body["messages"] for item in message.get("tool_calls", ())
        }
        results = {
            message["tool_call_id"]: message["content"]
            for message in body["messages"] if message["role"] == "tool"
        }
    elif api == "openai_responses":
        calls = {
            item["call_id"]: json.loads(item["arguments"])
            for item in body["input"] if item.get("type") == "function_call"
        }
        results = {
            item["call_id"]: item["output"]
            for item in body["input"] if item.get("type") == "function_call_output"
        }
    elif api == "anthropic":
        blocks = [block for message in body["messages"] for block in message["content"]
                  if isinstance(block, dict)]
        calls = {block["id"]: block["input"] for block in blocks if block["type"] == "tool_use"}
        results = {
            block["tool_use_id"]: block.get("content", "")
            for block in blocks if block["type"] == "tool_result"
        }
    elif api == "gemini":
        parts = [part for content in body["contents"] for part in content["parts"]]
        calls = {
            part["functionCall"]["id"]: part["functionCall"]["args"]
            for part in parts if "functionCall" in part
        }
        results = {
            part["functionResponse"]["id"]: part["functionResponse"]["response"]["output"]
            for part in parts if "functionResponse" in part
        }
    else:
        blocks = [block for message in body["messages"] for block in message["content"]]
        calls = {
            block["toolUse"]["toolUseId"]: block["toolUse"]["input"]
            for block in blocks if "toolUse" in block
        }
        results = {
            block["toolResult"]["toolUseId"]: "".join(
                item["text"] for item in block["toolResult"]["content"])
            for block in blocks if "toolResult" in block
        }
    assert set(calls) == set(results)
    return [(calls[call_id], results[call_id]) for call_id in calls], list(calls)


ID_RULES = {
    "openai": r".{1,40}", "openai_responses": r"[A-Za-z0-9_-]{1,64}",
    "anthropic": r"[a-zA-Z0-9_-]{1,64}", "gemini": r".{1,64}", "bedrock": r"[a-zA-Z0-9_-]{1,64}",
}
FOREIGN_IDS = [
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": None, "tool_calls": [
        call("call.0", arguments='{"n":1}'), call("call:0", arguments='{"n":2}'),
        call(LONG_ID, "g"), call("toolu_ok-1", "g"),
    ]},
    result("four", "toolu_ok-1"), result("two", "call:0"), result("one", "call.0"),
    result("three", LONG_ID),
]


@pytest.mark.parametrize("api", APIS)
def test_ids_of_other_providers_fit_and_stay_apart(api):
    sent = build(api, FOREIGN_IDS, tools=[tool(), tool("g")])
    pairings, ids = pairs(api, sent.body)
    assert pairings == [({"n": 1}, "one"), ({"n": 2}, "two"), ({}, "three"), ({}, "four")]
    assert len(set(ids)) == 4 and "toolu_ok-1" in ids
    assert all(re.fullmatch(ID_RULES[api], call_id) for call_id in ids)
    assert build(api, FOREIGN_IDS, tools=[tool(), tool("g")]).body == sent.body


def test_mistral_gets_ids_of_nine_letters_and_digits():
    sent = build("openai", FOREIGN_IDS, "mistral-large-latest", tools=[tool(), tool("g")])
    pairings, ids = pairs("openai", sent.body)
    assert [text for _, text in pairings] == ["one", "two", "three", "four"]
    assert len(set(ids)) == 4 and all(re.fullmatch("[A-Za-z0-9]{9}", value) for value in ids)


@pytest.mark.parametrize("api", APIS)
def test_an_id_that_each_turn_uses_again_differs_by_turn(api):
    turn = [{"role": "assistant", "content": None, "tool_calls": [call("call_0")]}]
    messages = user() + turn + [result("a", "call_0")] + turn + [result("b", "call_0")]
    pairings, ids = pairs(api, build(api, messages, tools=[tool()]).body)
    assert [text for _, text in pairings] == ["a", "b"] and len(set(ids)) == 2


@pytest.mark.parametrize("api", APIS)
def test_blank_results_stay_and_blank_words_go(api):
    calls = [call("c%d" % number) for number in (1, 2, 3, 4)]
    messages = user("Q") + [
        {"role": "assistant", "content": "", "tool_calls": calls},
        result("", "c1"), result(" \n", "c2"), result(None, "c3"),
        result([{"type": "text", "text": "22 C"}], "c4"),
    ]
    body = build(api, messages, tools=[tool()]).body
    if api == "openai":
        # Its parts are as the API has them.
        body["messages"][-1]["content"] = body["messages"][-1]["content"][0]["text"]
    pairings, _ = pairs(api, body)
    assert pairings[3][1] == "22 C" and "null" not in [text for _, text in pairings]
    assert all(not text.strip() or text == "(no output)" for _, text in pairings[:3])
    if api in ("anthropic", "bedrock"):
        kinds = [list(block)[0] if api == "bedrock" else block["type"]
                 for block in body["messages"][1]["content"]]
        assert set(kinds) == {"toolUse" if api == "bedrock" else "tool_use"}
        assert len(body["messages"]) == 3 and len(body["messages"][2]["content"]) == 4
        texts = [block for block in json.dumps(body).split('"text": ')[1:]
                 if re.match(r'"\s*"', block)]
        assert texts == []


def test_results_come_first_in_their_turn():
    messages = user("Q") + [
        {"role": "assistant", "content": "so", "tool_calls": [call("c1"), call("c2")]},
        result("a", "c1"), result("b", "c2"), {"role": "user", "content": "and now?"},
    ]
    for api in ("anthropic", "bedrock"):
        turn = build(api, messages, tools=[tool()]).body["messages"][-1]
        assert turn["role"] == "user" and len(turn["content"]) == 3
        assert "now?" in json.dumps(turn["content"][2])
    contents = build("gemini", messages, tools=[tool()]).body["contents"]
    assert [len(content["parts"]) for content in contents[-2:]] == [2, 1]


@pytest.mark.parametrize("api", ["anthropic", "bedrock"])
def test_calls_in_a_conversation_are_declared_where_the_request_has_no_tools(api):
    messages = user() + [{"role": "assistant", "content": None, "tool_calls": [call()]},
                         result("42")]
    sent = build(api, messages)
    assert '"f"' in json.dumps(sent.body.get("tools") or sent.body["toolConfig"]["tools"])
    assert sent.body.get("tool_choice") == {"type": "none"} or sent.max_calls == 0


SIGNED = [
    {"functionCall": {"id": "fc1", "name": "f", "args": {"n": 1}}, "thoughtSignature": "c2lnMQ=="},
    {"functionCall": {"id": "fc2", "name": "f", "args": {"n": 2}}},
]


def gemini_answer(parts, reason="STOP"):
    return {"candidates": [{"finishReason": reason, "content": {"role": "model", "parts": parts}}]}


def test_signatures_of_thoughts_come_back_to_gemini_and_reach_no_other():
    completion = wire_format("gemini").read(gemini_answer(SIGNED))
    assert completion.finish_reason == "tool_calls"
    assert completion.provider_finish_reason == "STOP"
    messages = user() + [
        {"role": "assistant", "content": completion.response, "tool_calls": completion.tool_calls},
        result("one", "fc1"), result("two", "fc2"),
    ]
    contents = build("gemini", messages, "gemini-3-pro", tools=[tool()]).body["contents"]
    assert contents[1]["parts"] == SIGNED
    assert [part["functionResponse"]["id"] for part in contents[2]["parts"]] == ["fc1", "fc2"]
    for api in APIS:
        if api != "gemini":
            text = json.dumps(build(api, messages, tools=[tool()]).body)
            assert "c2lnMQ" not in text and "extra_content" not in text
    # Google's own endpoint for OpenAI's wire wants it back.
    sent = build("openai", messages, "gemini-3-pro", tools=[tool()]).body["messages"][1]
    assert sent["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2lnMQ=="}}


@pytest.mark.parametrize("model, signature", [
    ("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-flash", None)])
def test_calls_of_other_models_have_the_documented_signature_in_the_open_turn(model, signature):
    closed = user() + [
        {"role": "assistant", "content": None, "tool_calls": [call("old")]}, result("x", "old"),
        {"role": "assistant", "content": "done"},
    ]
    contents = build("gemini", closed + FOREIGN_IDS, model, tools=[tool()]).body["contents"]
    signatures = [
        part.get("thoughtSignature")
        for content in contents for part in content["parts"] if "functionCall" in part
    ]
    assert signatures == [None, signature, None, None, None]


def test_thoughts_of_claude_come_back_to_claude_only():
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    answer = {"content": [thought, {"type": "tool_use", "id": "t", "name": "f", "input": {}}],
              "stop_reason": "tool_use"}
    calls = wire_format("anthropic").read(answer).tool_calls
    messages = user() + [{"role": "assistant", "content": "", "tool_calls": calls},
                         result("4", "t")]
    sent = build("anthropic", messages, tools=[tool()], reasoning_effort="low")
    assert sent.body["messages"][1]["content"][0] == thought and "thinking" in sent.body
    foreign = user() + [{"role": "assistant", "content": "", "tool_calls": [call()]}, result("4")]
    sent = build("anthropic", foreign, tools=[tool()], reasoning_effort="low")
    assert "thinking" not in sent.body and adapted(sent) == ["reasoning_effort"]
    assert "hm" not in json.dumps(build("openai", messages, tools=[tool()]).body)


def test_thoughts_of_claude_at_bedrock_come_back_to_bedrock_only():
    thought = {"reasoningText": {"text": "hm", "signature": "s"}}
    answer = {"stopReason": "tool_use", "output": {"message": {"content": [
        {"reasoningContent": thought},
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}}}
    calls = wire_format("bedrock").read(answer).tool_calls
    messages = user() + [{"role": "assistant", "content": "", "tool_calls": calls},
                         result("4", "t")]
    sent = build("bedrock", messages, tools=[tool()], reasoning_effort="low")
    assert sent.body["messages"][1]["content"][0] == {"reasoningContent": thought}
    assert "thinking" in sent.body["additionalModelRequestFields"]
    sent = build("anthropic", messages, tools=[tool()], reasoning_effort="low")
    assert "thinking" not in sent.body and "hm" not in json.dumps(sent.body)


def reasoning_item(number, **more):
    return dict({"type": "reasoning", "id": "rs_%d" % number, "summary": []}, **more)


def call_item(number):
    return {"type": "function_call", "id": "fc_%d" % number, "call_id": "call_%d" % number,
            "name": "f", "arguments": "{}", "status": "completed"}


TEXT_ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "content": [
    {"type": "output_text", "text": "I look.", "annotations": []}]}
ENCRYPTED = {"encrypted_content": "gAAA"}
SUMMARY = {"summary": [{"type": "summary_text", "text": "hm"}]}


def follow_up(output, api="openai_responses", model="gpt-5.1", store=False):
    """The request with the results of the calls in an answer of Responses."""
    completion = wire_format("openai_responses").read(
        {"output": output, "status": "completed", "store": store})
    answer = {"role": "assistant", "content": completion.response,
              "tool_calls": completion.tool_calls}
    results = [result("4", each["id"]) for each in completion.tool_calls]
    messages = json.loads(json.dumps(user() + [answer] + results))
    return build(api, messages, model, tools=[tool()])


@pytest.mark.parametrize("output", [
    [reasoning_item(1, **ENCRYPTED), call_item(1)],
    [reasoning_item(1, **ENCRYPTED, **SUMMARY), reasoning_item(2, **ENCRYPTED), call_item(1)],
    [reasoning_item(1, **ENCRYPTED), call_item(1), reasoning_item(2, **ENCRYPTED), call_item(2)],
    [reasoning_item(1, **ENCRYPTED), TEXT_ITEM, call_item(1), call_item(2)],
    [TEXT_ITEM, reasoning_item(1, **ENCRYPTED), call_item(1)],
    [reasoning_item(1, content=[{"type": "reasoning_text", "text": "hm"}]), call_item(1)],
], ids=["a call", "two items", "each call", "before text", "after text", "open reasoning"])
def test_the_reasoning_before_a_call_comes_back_in_its_place(output):
    sent = follow_up(output)
    items = sent.body["input"][1:1 + len(output)]
    assert [item.get("type", "message") for item in items] == [item["type"] for item in output]
    assert [item for item in items if item.get("type") == "reasoning"] == [
        item for item in output if item["type"] == "reasoning"]
    assert adapted(sent) == []
    calls = [item for item in items if item.get("type") == "function_call"]
    assert calls[0]["id"] == "fc_1" and sent.body["include"] == ["reasoning.encrypted_content"]


def test_reasoning_that_the_api_stores_comes_back_by_its_id():
    output = [reasoning_item(1, status="completed", encrypted_content=None), call_item(1)]
    assert reasoning_item(1) in follow_up(output, store=True).body["input"]


def test_reasoning_that_cannot_come_back_is_named():
    sent = follow_up([reasoning_item(1, **SUMMARY), call_item(1)])
    assert "rs_1" not in json.dumps(sent.body) and "fc_1" not in json.dumps(sent.body)
    assert sent.adapted == [{
        "field": "messages[1].tool_calls[0].extra_content",
        "reason": "the reasoning before the call was neither encrypted nor stored"}]


@pytest.mark.parametrize("api", [api for api in APIS if api != "openai_responses"])
def test_the_reasoning_of_responses_reaches_no_other_wire(api):
    sent = follow_up([reasoning_item(1, **ENCRYPTED), call_item(1)], api, MODELS[api])
    assert "gAAA" not in json.dumps(sent.body) and "rs_1" not in json.dumps(sent.body)


@pytest.mark.parametrize("model, parameters, expected", [
    ("gpt-5.1", {"tools": [tool()]}, True), ("o3", {"tools": [tool()], "store": False}, True),
    ("gpt-5.1", {"tools": [tool()], "store": True}, False), ("gpt-5.1", {}, False),
    ("gpt-4o", {"tools": [tool()]}, False), ("some-model", {"tools": [tool()]}, False),
])
def test_encrypted_reasoning_is_requested_where_it_can_come_back(model, parameters, expected):
    sent = build("openai_responses", user(), model, **parameters)
    assert ("include" in sent.body) is expected


@pytest.mark.parametrize("extra", [
    {"google": "x", "anthropic": 5}, {"google": {"thought_signature": {}}},
    {"anthropic": {"thinking": "x"}, "bedrock": {"thinking": [5]}}, "x",
    {"openai_responses": {"reasoning": "x", "id": 5}},
    {"openai_responses": {"reasoning": [5, {}, {"id": 5}], "id": ""}},
    {"openai_responses": {"reasoning": [{"id": "", "summary": 5}], "stored": "yes"}}])
@pytest.mark.parametrize("api", APIS)
def test_extra_content_of_any_form_harms_no_request(api, extra):
    messages = user() + [
        {"role": "assistant", "content": None, "tool_calls": [call(extra_content=extra)]},
        result("4"),
    ]
    pairings, _ = pairs(api, build(api, messages, tools=[tool()]).body)
    assert pairings == [({}, "4")]


@pytest.mark.parametrize("api", ["anthropic", "bedrock", "gemini"])
def test_instructions_lead_and_later_ones_keep_their_place(api):
    messages = [
        {"role": "system", "content": "A"}, {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"}, {"role": "developer", "content": "B"},
        {"role": "user", "content": "3"},
    ]
    sent = build(api, messages)
    system = sent.body.get("system") or sent.body["systemInstruction"]["parts"]
    assert (system if api == "anthropic" else system[0]["text"]) == "A"
    turns = sent.body.get("messages") or sent.body["contents"]
    assert len(turns) == 3
    last = json.dumps(turns[2])
    assert last.index("<system>\\nB\\n</system>") < last.index('"3"')
    assert {"field": "messages[3].role", "sent_as": "user",
            "reason": "the API has instructions at the beginning only"} in sent.adapted


@pytest.mark.parametrize("api", ["anthropic", "bedrock", "gemini"])
def test_nothing_but_instructions_is_a_request_all_the_same(api):
    messages = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}]
    sent = build(api, messages)
    turns = sent.body.get("messages") or sent.body["contents"]
    assert len(turns) == 1 and turns[0]["role"] == "user" and '"B"' in json.dumps(turns)
    assert "A" in json.dumps(sent.body.get("system") or sent.body["systemInstruction"])
    alone = build(api, messages[:1])
    assert "system" not in alone.body and "systemInstruction" not in alone.body


@pytest.mark.parametrize("api, model, continues", [
    ("anthropic", "claude-sonnet-4-5", True), ("anthropic", "claude-opus-4-6", False),
    ("anthropic", "c1", True), ("gemini", "gemini-2.5-flash", False), ("openai", "gpt-4o", True),
    ("openai", "anthropic/claude-opus-4.8", False),
    ("bedrock", "anthropic.claude-opus-4-8", False),
])
def test_a_last_word_of_the_assistant_is_never_dropped(api, model, continues):
    sent = build(api, user() + [{"role": "assistant", "content": "{"}], model)
    turns = sent.body.get("messages") or sent.body["contents"]
    assert '"{"' in json.dumps(turns[1])
    assert (len(turns) == 2) is continues and (sent.adapted == []) is continues


def test_a_conversation_that_the_assistant_began_has_a_turn_before_it():
    messages = [{"role": "assistant", "content": "Hello, what can I do?"}] + user()
    for api in ("anthropic", "bedrock", "gemini"):
        turns = build(api, messages).body
        turns = turns.get("messages") or turns["contents"]
        assert [turn["role"] for turn in turns][:1] == ["user"] and len(turns) == 3


# Tools.


def test_parallel_calls_alone_do_not_force_a_call():
    def choice(**parameters):
        return build("anthropic", user(), parallel_tool_calls=False, **parameters).body.get(
            "tool_choice")

    assert choice(tools=[tool()]) == {"type": "auto", "disable_parallel_tool_use": True}
    assert choice() is None
    assert choice(tools=[tool()], tool_choice="none") == {"type": "none"}
    assert choice(tools=[tool()], tool_choice="required") == {
        "type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("api", ["gemini", "bedrock"])
def test_where_parallel_calls_cannot_be_forbidden_two_are_no_good_answer(api):
    sent = build(api, user(), parallel_tool_calls=False, tools=[tool()])
    assert adapted(sent) == ["parallel_tool_calls"] and sent.max_calls == 1
    completion = wire_format("gemini").read(gemini_answer(SIGNED))
    assert problem_of(completion, max_calls=1).cause == "invalid_output"
    assert problem_of(completion, max_calls=None) is None


@pytest.mark.parametrize("choice, expected", [
    ("auto", {"auto": {}}), ("required", {"any": {}}),
    ({"type": "function", "function": {"name": "f"}}, {"tool": {"name": "f"}}), ("none", None)])
def test_the_choice_of_tools_at_bedrock(choice, expected):
    sent = build("bedrock", user(), tools=[tool()], tool_choice=choice)
    if expected is None:
        assert "toolConfig" not in sent.body and sent.max_calls == 0
    else:
        assert sent.body["toolConfig"]["toolChoice"] == expected


@pytest.mark.parametrize("choice, expected", [
    ("auto", {"mode": "AUTO"}), ("required", {"mode": "ANY"}), ("none", {"mode": "NONE"}),
    ({"type": "function", "function": {"name": "f"}},
     {"mode": "ANY", "allowedFunctionNames": ["f"]})])
def test_the_choice_of_tools_at_gemini(choice, expected):
    sent = build("gemini", user(), tools=[tool()], tool_choice=choice)
    assert sent.body["toolConfig"] == {"functionCallingConfig": expected}


@pytest.mark.parametrize("text, expected", [
    ("", {}), (" ", {}), ('""', {}), ('{"a": 1}', {"a": 1}), ('"{\\"a\\": 1}"', {"a": 1}),
    ("[]", {"arguments": []}), ('{"a":', {"arguments": '{"a":'}), ("7", {"arguments": 7}),
    ("NaN", {"arguments": "NaN"}),
])
def test_arguments_are_objects_always_and_nothing_is_lost(text, expected):
    assert parse_arguments(text) == expected
    messages = user() + [
        {"role": "assistant", "content": None, "tool_calls": [call(arguments=text)]}, result("4")
    ]
    for api in APIS:
        pairings, _ = pairs(api, build(api, messages, tools=[tool()]).body)
        assert pairings == [(expected, "4")]


@pytest.mark.parametrize("api, body", [
    ("anthropic", {"stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "t", "name": "f", "input": {}}]}),
    ("gemini", gemini_answer([{"functionCall": {"name": "f"}}])),
    ("bedrock", {"stopReason": "tool_use", "output": {"message": {"role": "assistant", "content": [
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}}}),
    ("openai", {"choices": [{"finish_reason": "stop", "message": {"tool_calls": [
        {"id": "t", "function": {"name": "f", "arguments": ""}}]}}]}),
    ("openai", {"choices": [{"finish_reason": "function_call", "message": {
        "function_call": {"name": "f", "arguments": "{}"}}}]}),
    ("openai_responses", {"status": "completed", "output": [
        {"type": "function_call", "call_id": "t", "name": "f", "arguments": ""}]}),
])
def test_a_call_without_arguments_has_an_empty_object(api, body):
    completion = wire_format(api).read(body)
    assert completion.tool_calls[0]["function"] == {"name": "f", "arguments": "{}"}
    assert completion.finish_reason == "tool_calls" and problem_of(completion) is None


def test_calls_that_gemini_gives_no_id_get_different_ones():
    part = {"functionCall": {"name": "f", "args": {}}}
    calls = wire_format("gemini").read(gemini_answer([part, part])).tool_calls
    ids = [item["id"] for item in calls]
    assert len(set(ids)) == 2 and all(ids)


def test_broken_arguments_are_no_good_answer():
    body = {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [
        {"id": "t", "function": {"name": "f", "arguments": '{"a":'}}]}}]}
    assert problem_of(wire_format("openai").read(body)).cause == "invalid_output"
    body["choices"][0]["finish_reason"] = "length"
    assert problem_of(wire_format("openai").read(body)).cause == "output_limit"


# JSON.


@pytest.mark.parametrize("api, model, native", [
    ("openai", "gpt-4o", True), ("openai", "some-model", True), ("openai", "gpt-3.5-turbo", False),
    ("openai_responses", "gpt-4o", True), ("anthropic", "claude-sonnet-4-5", True),
    ("anthropic", "claude-3-5-haiku-latest", False), ("anthropic", "c1", False),
    ("gemini", "gemini-2.5-flash", True), ("bedrock", "anthropic.claude-sonnet-4-5-v1:0", True),
    ("bedrock", "amazon.nova-lite-v1:0", False),
])
def test_a_schema_is_sent_as_such_or_said_in_words(api, model, native):
    sent = build(api, user(), model, response_format=FORMAT)
    text = json.dumps(sent.body)
    assert "title" in text
    assert ("matches this JSON Schema" in text) is not native
    assert ("response_format" in adapted(sent)) is not native


def test_a_schema_that_cannot_be_guaranteed_is_said_in_words():
    lax = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}
    sent = build("anthropic", user(), response_format={
        "type": "json_schema", "json_schema": {"name": "x", "schema": lax}})
    assert "output_config" not in sent.body and '"minimum": 0' in sent.body["system"]


def test_gemini_gets_schema_and_tools_together_from_3_on():
    def config(model):
        body = build("gemini", user(), model, response_format=FORMAT, tools=[tool()]).body
        return body.get("generationConfig", {})

    assert "responseJsonSchema" in config("gemini-3-pro")
    assert "responseMimeType" not in config("gemini-2.5-pro")


def test_the_json_mode_of_openai_needs_a_word():
    sent = build("openai", user(), response_format={"type": "json_object"})
    assert "JSON" in sent.body["messages"][0]["content"] and adapted(sent) == ["messages"]
    sent = build("openai", user("give me json"), response_format={"type": "json_object"})
    assert len(sent.body["messages"]) == 1 and sent.adapted == []


# What changes what is asked for: the target is passed over.


IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]
FILE = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]
SOUND = [{"role": "user", "content": [
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}]


@pytest.mark.parametrize("api, model, messages, reason", [
    ("openai", "gpt-3.5-turbo", IMAGE, "takes no pictures"),
    ("openai", "o3-mini", IMAGE, "takes no pictures"),
    ("bedrock", "amazon.nova-micro-v1:0", IMAGE, "takes no pictures"),
    ("bedrock", None, [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}], "data only"),
    ("gemini", "gemini-2.0-flash", [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}], "data only"),
    ("anthropic", None, FILE, "another provider"), ("gemini", None, FILE, "another provider"),
    ("bedrock", None, FILE, "another provider"), ("anthropic", None, SOUND, "no audio"),
    ("openai_responses", None, SOUND, "no audio"),
])
def test_a_model_that_cannot_take_the_content_is_passed_over(api, model, messages, reason):
    with pytest.raises(CannotCarry, match=reason) as refused:
        build(api, messages, model)
    assert refused.value.field == "messages[0].content[0]"


def test_the_configuration_decides_what_a_model_takes():
    with pytest.raises(CannotCarry, match="no pictures"):
        build("openai", IMAGE, "gpt-4o", ("tools",))
    build("openai", IMAGE, "gpt-3.5-turbo", ("vision", "tools"))
    with pytest.raises(CannotCarry, match="calls no tools") as refused:
        build("openai", user(), "some-model", ("json",), tools=[tool()])
    assert refused.value.field == "tools"
    build("openai", user(), "some-model", ("json",), tools=[tool()], tool_choice="none")


# Answers.


@pytest.mark.parametrize("api, body, cause", [
    ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}}, "content_policy"),
    ("gemini", gemini_answer([{"text": "half"}], "RECITATION"), "content_policy"),
    ("gemini", gemini_answer([], "MALFORMED_FUNCTION_CALL"), "invalid_output"),
    ("gemini", gemini_answer([{"text": "hm", "thought": True}], "MAX_TOKENS"), "output_limit"),
    ("gemini", gemini_answer([{"text": "x"}], "OTHER"), "server_error"),
    ("bedrock", {"stopReason": "guardrail_intervened", "output": {"message": {"content": [
        {"text": "Sorry"}]}}}, "content_policy"),
    ("bedrock", {"stopReason": "malformed_tool_use", "output": {}}, "invalid_output"),
    ("anthropic", {"stop_reason": "pause_turn", "content": [{"type": "text", "text": "x"}]},
     "truncated_stream"),
    ("openai_responses", {"status": "incomplete", "output": [],
                          "incomplete_details": {"reason": "content_filter"}}, "content_policy"),
    ("openai_responses", {"status": "incomplete", "output": [],
                          "incomplete_details": {"reason": "max_output_tokens"}}, "output_limit"),
    ("openai_responses", {"status": "failed", "output": [{"type": "reasoning"}],
                          "error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limit"),
    ("openai_responses", {"status": "completed", "output": [{"type": "message", "content": [
        {"type": "refusal", "refusal": "no"}]}]}, "content_policy"),
    ("openai_responses", {"status": "in_progress", "output": []}, "blank_output"),
])
def test_what_is_no_good_answer_has_its_cause(api, body, cause):
    assert problem_of(wire_format(api).read(body)).cause == cause


@pytest.mark.parametrize("api, body, expected", [
    ("gemini", {"usageMetadata": {
        "promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 60,
        "cachedContentTokenCount": 4, "totalTokenCount": 73}}, (10, 63, 60, 4)),
    ("bedrock", {"stopReason": "end_turn", "usage": {
        "inputTokens": 5, "outputTokens": 2, "totalTokens": 23007, "cacheReadInputTokens": 20000,
        "cacheWriteInputTokens": 3000}}, (23005, 2, 0, 20000)),
    ("anthropic", {"content": [], "usage": {
        "input_tokens": 5, "cache_read_input_tokens": 20000, "cache_creation_input_tokens": 3000,
        "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 7}}},
     (23005, 9, 7, 20000)),
    ("openai_responses", {"output": [], "usage": {
        "input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 60,
        "output_tokens_details": {"reasoning_tokens": 50}, "total_tokens": 67}}, (7, 60, 50, 3)),
    ("openai", {"choices": [{}], "usage": {
        "prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 581}}, (21, 560, 0, 0)),
])
def test_tokens_are_counted_as_billed(api, body, expected):
    if api == "gemini":
        body = dict(body, candidates=[{}])
    usage = wire_format(api).read(body).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens,
            usage.cached_tokens) == expected


def test_vertex_gets_a_bearer_token_and_gemini_its_key():
    wire = wire_format("gemini")
    assert wire.authorize("https://generativelanguage.googleapis.com/v1beta")("k") == {
        "x-goog-api-key": "k"}
    express = "https://aiplatform.googleapis.com/v1/publishers/google"
    assert wire.authorize(express)("k") == {"x-goog-api-key": "k"}
    for host in ("https://europe-west1-aiplatform.googleapis.com",
                 "https://aiplatform.europe-west1.rep.googleapis.com", "http://127.0.0.1:8080"):
        project = host + "/v1/projects/p/locations/l/publishers/google"
        assert wire.authorize(project) is None


def test_names_of_models_are_one_segment_of_the_path():
    assert wire_format("bedrock").path("us.anthropic.claude:0/x") == (
        "/model/us.anthropic.claude%3A0%2Fx/converse")
    assert wire_format("gemini").path("a/../b") == "/models/a%2F..%2Fb:generateContent"
