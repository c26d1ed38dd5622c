"""Asking for JSON in words, where an API has no field for it, and what its field accepts."""

import json
from typing import Any, Optional

from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.wire import WireRequest

ANY_JSON = "Answer with one JSON object, and with nothing else."
_SCHEMA = "Answer with one JSON value that matches this JSON Schema, and with nothing else:\n%s"
# What the structured outputs of Anthropic accept; others are refused with 400.
_KEYWORDS = frozenset((
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf",
    "description", "title", "$ref", "$defs", "definitions",
))
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions")


def ask_in_words(request: ChatRequest, wire_request: WireRequest, reason: str) -> str:
    """Return what to say at the end of the system prompt; adds response_format to `adapted`."""
    wire_request.send_as("response_format", "words", reason)
    schema = request.response_schema
    return ANY_JSON if schema is None else _SCHEMA % dumps(schema.schema)


def reason_for_words(request: ChatRequest, traits: ModelTraits) -> Optional[str]:
    """Return why Claude has to be asked for JSON in words, or None: no JSON is expected, or its API
    guarantees the schema.
    """
    schema = request.response_schema
    if schema is None:
        return "the API has no such mode" if request.expects_json else None
    if not traits.json_schema:
        return "the model is not known to take a schema"
    return None if is_strict(schema.schema) else "the API cannot guarantee this schema"


def add_instruction(messages: list[dict[str, Any]], text: str) -> None:
    """Add a system message behind those at the beginning."""
    index = 0
    while index < len(messages) and messages[index].get("role") in ("system", "developer"):
        index += 1
    messages.insert(index, {"role": "system", "content": text})


def mentions_json(request: ChatRequest) -> bool:
    """Return whether a message mentions JSON; OpenAI's JSON mode requires one that does."""
    return "json" in json.dumps(request.messages).lower()


def is_strict(schema: Any) -> bool:
    """Return whether a schema has only what the structured outputs of Anthropic accept."""
    if not isinstance(schema, dict):
        return False
    if not set(schema) <= _KEYWORDS:
        return False
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    if "type" not in schema and not {"anyOf", "enum", "const", "$ref"} & set(schema):
        return False
    nested = [schema["items"]] if "items" in schema else []
    nested += schema["anyOf"] if isinstance(schema.get("anyOf"), list) else []
    for name in _SCHEMAS_BY_NAME:
        if isinstance(schema.get(name), dict):
            nested += schema[name].values()
    return all(map(is_strict, nested))


def dumps(schema: dict[str, Any]) -> str:
    """Return a schema as text."""
    return json.dumps(schema, ensure_ascii=False)
