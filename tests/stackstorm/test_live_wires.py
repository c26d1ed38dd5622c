"""A conversation with tools, on a live StackStorm, that falls over from OpenAI to Anthropic to
Gemini, and back for the follow-up turn; aimock speaks for all three. Needs `make judges`.
"""
import base64
import json

import fixtures.aimock
import pytest
from fixtures.aimock import KEY, PATHS

MODELS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
CONVERSATION = {"fixtures": [
    {"match": {"hasToolResult": True}, "response": {"content": "Berlin is warmer."}},
    {"match": {"userMessage": "warmer"}, "response": {"toolCalls": [
        {"name": "weather", "arguments": {"city": "Berlin"}},
        {"name": "weather", "arguments": {"city": "{{ 7*7 }}"}},
    ]}},
]}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which is warmer, Berlin or Oslo?"},
]
PARAMETERS = {
    "max_completion_tokens": 300, "temperature": 0.2, "parallel_tool_calls": True,
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}],
}
DOWN = {"x-aimock-chaos-drop": "1"}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with fixtures.aimock.aimock(tmp_path_factory.mktemp("aimock"), CONVERSATION) as address:
        yield address


@pytest.fixture
def ask(st2, address):
    """ask(messages, down) -> the result of an llm_retry; providers in `down` answer 500."""
    before = st2.call("GET", "/configs/synthralos?show_secrets=true").get("values") or {}

    def run(messages, down):
        providers = [
            {"name": name, "api": name, "base_url": address + PATHS[name], "api_key": KEY,
             "models": [{"name": model}], "headers": DOWN if name in down else {}}
            for name, model in MODELS.items()
        ]
        st2.call("PUT", "/configs/synthralos", json={"providers": providers})
        request = {"model": MODELS["openai"], "messages": messages, "parameters": PARAMETERS}
        execution, output = st2.run(
            "llm_retry", original_request=request, failure_reason="503",
            fallback_models=[MODELS["anthropic"], MODELS["gemini"]],
        )
        assert execution["status"] == "succeeded", output
        return output

    yield run
    st2.call("PUT", "/configs/synthralos", json=before)


@pytest.mark.parametrize("follow_up_down, answered_by", [
    ([], "openai"), (["openai"], "anthropic"), (["openai", "anthropic"], "gemini"),
])
def test_a_tool_calling_request_goes_on_at_each_provider(ask, follow_up_down, answered_by):
    output = ask(MESSAGES, ["openai", "anthropic"])
    calls = output["result"]["tool_calls"]
    print([(entry["target"], entry.get("cause")) for entry in output["trail"]])
    assert output["final_model"] == MODELS["gemini"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        {"city": "Berlin"}, {"city": "{{ 7*7 }}"}]
    answer = {"role": "assistant", "content": output["result"]["response"], "tool_calls": calls}
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "%d degrees" % degrees}
        for degrees, call in enumerate(calls)
    ]
    output = ask(MESSAGES + [sealed(answer)] + results, follow_up_down)
    assert output["result"]["response"] == "Berlin is warmer."
    assert output["final_model"] == MODELS[answered_by]


def sealed(message):
    """The message with its arguments in a form that StackStorm does not render."""
    def encode(text):
        return "base64:" + base64.b64encode(text.encode()).decode()

    calls = [
        dict(call, function=dict(
            call["function"], arguments=encode(call["function"]["arguments"])))
        for call in message["tool_calls"]
    ]
    return dict(message, tool_calls=calls)
