"""Where LiteLLM's transformation of one request differs in meaning: the table of the docs.

LiteLLM is in an environment of its own (`make judges`).
"""
import json
import re
import subprocess

import pytest
from benchmarks import peers
from fixtures import PACK

from synthralos.calls.llm_wires import chat_request, wire_format
from synthralos.calls.llm_wires.model_traits import traits_of

PAGE, HEADING = PACK / "docs" / "llm-requests.md", "## Compared with LiteLLM"
MODELS = {
    "claude-sonnet-4-5-20250929": "anthropic",
    "claude-3-haiku-20240307": "anthropic",
    "gemini-2.5-flash": "gemini",
    "gemini-3-pro-preview": "gemini",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": "bedrock",
    "amazon.nova-lite-v1:0": "bedrock",
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
LATER, TITLE = "Answer in English.", "Give it a title."


def _call(call_id, **arguments):
    return {"id": call_id, "type": "function", "function": {
        "name": "look_up", "arguments": json.dumps(arguments)}}


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "What is in the picture?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]},
    {"role": "assistant", "content": None, "tool_calls": [
        _call("call_a", id="1"), _call("call_b", id="2")]},
    {"role": "tool", "tool_call_id": "call_a", "content": '{"animal": "cat"}'},
    {"role": "tool", "tool_call_id": "call_b", "content": "black"},
    {"role": "system", "content": LATER},
    {"role": "user", "content": TITLE},
]
SCHEMA = {
    "type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
    "additionalProperties": False,
}
PARAMETERS = {
    "temperature": 0.2, "max_tokens": 500, "stop": ["END", " "], "tool_choice": "auto",
    "parallel_tool_calls": False,
    "tools": [{"type": "function", "function": {
        "name": "look_up", "description": "looks up", "parameters": {
            "type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}}}],
    "response_format": {
        "type": "json_schema", "json_schema": {"name": "page", "schema": SCHEMA, "strict": True}},
}
# What a path that differs is about: the first column of the table.
SUBJECTS = [
    ("later instructions", LATER),
    ("`response_format`", r"Answer with one JSON value|outputConfig|responseMimeType"
                          r"|responseJsonSchema|json_tool_call"),
    ("`stop`", r"/stopSequences/"),
    ("`parallel_tool_calls`", r"/additionalModelRequestFields/toolChoice/"),
    ("ids of calls", r"/function(Call|Response)/id"),
    ("results of tools", r"/functionResponse/response/"),
    ("schemas of tools", r"/parameters(JsonSchema)?/"),
    ("signatures of thoughts", r"/thoughtSignature"),
]


def _our_body(model):
    request = chat_request.parse({"messages": MESSAGES, "parameters": PARAMETERS})
    return wire_format(MODELS[model]).build(request, model, traits_of(model, None)).body


@pytest.fixture(scope="module")
def their_bodies():
    """{model: the body that LiteLLM sends}."""
    try:
        python = peers.existing_litellm(PACK / ".bench")
    except peers.NotInstalled as error:
        pytest.skip(str(error))
    requests = [
        json.dumps({
            "provider": provider, "model": model, "messages": MESSAGES, "parameters": PARAMETERS,
        }) + "\n"
        for model, provider in MODELS.items()
    ]
    script = PACK / "tests" / "judge" / "litellm_requests.py"
    ended = subprocess.run(
        [python, str(script)], input="".join(requests), stdout=subprocess.PIPE, text=True,
        check=True,
    )
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [answer.get("error") for answer in answers] == [None] * len(MODELS)
    return dict(zip(MODELS, (answer["body"] for answer in answers)))


def _camel_case(name):
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def _name_of(item, index):
    """What an item of a list is known by: tools by their name, so that one more moves none."""
    if not isinstance(item, dict):
        return str(index)
    return item.get("name") or item.get("toolSpec", {}).get("name") or str(index)


def _leaves(value, path=""):
    """Yield (path, scalar or empty container).

    A field has one name, whether it is in snake case or in camel case.
    """
    if isinstance(value, dict) and value:
        for name, field in value.items():
            yield from _leaves(field, "%s/%s" % (path, _camel_case(name)))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, "%s/%s" % (path, _name_of(item, index)))
    else:
        yield path, value


def _without_marks(part):
    if "text" not in part:
        return part
    text = re.sub(r"</?system>|^Operator note .*", "", part["text"]).strip()
    return dict(part, text=text, name="text " + text)


def _meaning(body):
    """Return {path: value} of a body, the same for bodies that mean the same.

    Instructions are a set of paragraphs, and texts are known by what they say, without the words
    that mark one as an instruction.
    """
    body = json.loads(json.dumps(body))
    # LiteLLM asks for the beta of what has become a field; `custom` is the default.
    if "output_format" in body:
        body["output_config"] = {"format": body.pop("output_format")}
    for tool in body.get("tools", []):
        if tool.get("type") == "custom":
            del tool["type"]
    instructions = body.pop("system", None) or {}
    for name in ("systemInstruction", "system_instruction"):
        instructions = body.pop(name, {}).get("parts") or instructions
    if isinstance(instructions, str):
        instructions = [{"text": text} for text in instructions.split("\n\n")]
    meaning = {"/instructions/" + part["text"]: True for part in instructions}
    for turn in body.get("messages", body.get("contents")):
        parts = turn.get("content") or turn["parts"]
        parts[:] = [part for part in map(_without_marks, parts) if part.get("text") != ""]
    return dict(meaning, **dict(_leaves(body)))


def _subject_of(path):
    for subject, pattern in SUBJECTS:
        if re.search(pattern, path + "/"):
            return subject
    return path


def differences(ours, theirs):
    """Return the subjects in which two bodies differ; a path that none covers is its own."""
    ours, theirs = _meaning(ours), _meaning(theirs)
    return {
        _subject_of(path)
        for path in set(ours) | set(theirs)
        if (path in ours) != (path in theirs) or ours[path] != theirs[path]
    }


def _table():
    """Return {(subject, model)} of the rows of the page."""
    section = PAGE.read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)[1:]
    return {
        (subject, model)
        for subject, models in rows
        for model in re.findall(r"`([^`]+)`", models)
    }


def test_the_table_has_what_differs_and_nothing_else(their_bodies):
    differing = {
        (subject, model)
        for model in MODELS
        for subject in differences(_our_body(model), their_bodies[model])
    }
    assert differing == _table()


def test_the_page_names_the_release_that_was_compared():
    assert "LiteLLM %s sends it" % peers.LITELLM in PAGE.read_text()


def test_a_change_of_any_value_is_a_difference(their_bodies):
    """The comparison itself: it overlooks no value of a body, but words that mark instructions."""
    for body in their_bodies.values():
        assert differences(body, body) == set()
        for value, other in [("0.2", "0.3"), (TITLE, "Another."), ("looks up", "changed"),
                             ("image/png", "image/gif"), ('"png"', '"gif"'), ("iVBOR", "iVBOS"),
                             ("call_a", "call_c"), ("Be brief.", "Be long.")]:
            changed = json.dumps(body).replace(value, other)
            assert differences(body, json.loads(changed)) or changed == json.dumps(body)
