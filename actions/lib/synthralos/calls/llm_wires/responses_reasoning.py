"""The reasoning that leads to calls of tools, in OpenAI's Responses.

The API wants it back, in its place, with the results of the calls. It travels with the calls, in
their `extra_content`: {"reasoning": items, "stored": whether the provider stores them,
"after_text": whether they come after the text of the answer, "id": of the call's item}.

https://cookbook.openai.com/examples/responses_api/reasoning_items
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.calls.llm_wires.chat_messages import Message, ToolCall
from synthralos.calls.llm_wires.wire import WireRequest

NAME = "openai_responses"
INCLUDE = "reasoning.encrypted_content"
_LISTS = (("summary", "summary_text"), ("content", "reasoning_text"))


def extras_of(items: list[dict[str, Any]], is_stored: bool) -> list[Optional[dict[str, Any]]]:
    """Return, for each call in the output of a response, its `extra_content` or None."""
    extras: list[Optional[dict[str, Any]]] = []
    reasoning: list[dict[str, Any]] = []
    has_text = after_text = False
    for item in items:
        kind = item.get("type")
        if kind == "reasoning":
            entry = _item(item)
            after_text = has_text
            reasoning += [entry] if entry is not None else []
        elif kind == "message":
            has_text = True
        elif kind == "function_call":
            extra = {"reasoning": reasoning, "stored": is_stored, "after_text": after_text}
            if isinstance(item.get("id"), str):
                extra["id"] = item["id"]
            extras.append({NAME: extra} if reasoning else None)
            reasoning = []
    return extras


@dataclass(frozen=True)
class CarriedReasoning:
    """The reasoning before one call, as it goes back to the API.

    :ivar after_text: whether it comes after the text of the message.
    :ivar call_fields: further fields of the call's own item.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    after_text: bool = False
    call_fields: dict[str, Any] = field(default_factory=dict)


def carry(call: ToolCall, path: str, wire_request: WireRequest) -> CarriedReasoning:
    """Return the reasoning of a call; if it cannot go back, `adapted` says so.

    :param path: of the call in the request.
    """
    extra = call.get("extra_content", {}).get(NAME, {})
    raw_items = extra.get("reasoning")
    parsed = [_item(raw) for raw in raw_items] if isinstance(raw_items, list) else []
    items = [item for item in parsed if item is not None]
    if not items:
        return CarriedReasoning()
    if extra.get("stored") is not True and not all(map(_has_content, items)):
        wire_request.leave_out(
            path + ".extra_content",
            "the reasoning before the call was neither encrypted nor stored",
        )
        return CarriedReasoning()
    item_id = extra.get("id")
    call_fields = {"id": item_id} if isinstance(item_id, str) and item_id else {}
    return CarriedReasoning(items, extra.get("after_text") is True, call_fields)


def has_reasoning(messages: Sequence[Message]) -> bool:
    """Return whether a call of the conversation comes with reasoning of this API."""
    return any(
        NAME in call.get("extra_content", {})
        for message in messages for call in message.get("tool_calls") or ()
    )


def _has_content(item: Mapping[str, Any]) -> bool:
    return bool(item.get("encrypted_content") or item.get("content"))


def _item(raw: Any) -> Optional[dict[str, Any]]:
    """Return a reasoning item as the API takes it back, or None if it is none.

    Callers can write it. The API refuses null where it sent null, and a status.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not raw["id"]:
        return None
    item: dict[str, Any] = {"type": "reasoning", "id": raw["id"], "summary": []}
    for name, kind in _LISTS:
        parts = raw.get(name)
        texts = [
            {"type": kind, "text": part["text"]}
            for part in (parts if isinstance(parts, list) else ())
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        ]
        if texts or name == "summary":
            item[name] = texts
    if isinstance(raw.get("encrypted_content"), str) and raw["encrypted_content"]:
        item["encrypted_content"] = raw["encrypted_content"]
    return item
