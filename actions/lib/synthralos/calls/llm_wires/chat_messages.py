"""The messages of a chat request: their shape, and how they are checked."""

import json
from collections.abc import Sequence
from typing import Any, Optional, TypedDict, Union

from synthralos.calls.llm_wires.chat_parts import read_part, require_text
from synthralos.core.errors import InvalidInput
from synthralos.core.lazy_pattern import LazyPattern

ROLES = ("system", "developer", "user", "assistant", "tool")
FUNCTION_NAME = LazyPattern(r"[A-Za-z0-9_-]{1,64}\Z")
# To a model that continues no answer of its own.
GO_ON = "Continue exactly where your last answer ended."
# What the responses of providers have and a request does not: callers copy whole messages.
_OF_RESPONSES = (
    "annotations", "audio", "function_call", "index", "provider_specific_fields", "reasoning",
    "reasoning_content", "reasoning_details",
)
_FIELDS = {
    "system": ("role", "content", "name"),
    "developer": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": ("role", "content", "name", "refusal", "tool_calls"),
    "tool": ("role", "content", "tool_call_id"),
}
_PART_TYPES = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "file", "input_audio"),
    "assistant": ("text", "refusal"),
    "tool": ("text", "image_url"),
}


class FunctionCall(TypedDict):
    """A function with its arguments, which are JSON as text."""

    name: str
    arguments: str


class ToolCall(TypedDict, total=False):
    """A call of a tool.

    `extra_content` is what one provider needs back with the call, under the provider's name.
    """

    id: str
    type: str
    function: FunctionCall
    extra_content: dict[str, Any]


class Message(TypedDict, total=False):
    """A message; which fields it has depends on its role. Parts are as in OpenAI's API."""

    role: str
    content: Union[str, list[dict[str, Any]], None]
    name: str
    refusal: str
    tool_calls: list[ToolCall]
    tool_call_id: str


def parse(request: dict[str, Any], path: str) -> list[Message]:
    """Return the messages of a request with `messages`, or with `prompt` and maybe `system`.

    :raises InvalidInput: they are missing or not valid; names the field.
    """
    raw_messages, prompt = request.get("messages"), request.get("prompt")
    if (raw_messages is None) == (prompt is None):
        reason = "has %s prompt %s messages" % (
            ("neither", "nor") if prompt is None else ("both", "and")
        )
        raise InvalidInput(path, sorted(map(str, request)), reason, "Give one of them")
    system = _system(request.get("system"), path + ".system")
    if raw_messages is None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise InvalidInput(
                path + ".prompt", prompt, "must be text and not blank", "Give the prompt as text"
            )
        return system + [{"role": "user", "content": prompt}]
    if not isinstance(raw_messages, list) or not raw_messages:
        raise InvalidInput(
            path + ".messages", raw_messages, "is not a list of messages",
            "Give at least one message",
        )
    messages = [
        _message(raw, "%s.messages[%d]" % (path, index)) for index, raw in enumerate(raw_messages)
    ]
    _check_results(messages, path + ".messages")
    return system + messages


def text_of(content: Any) -> str:
    """Return the text of a content: a text, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return ""


def without_extra_content(messages: Sequence[Message], provider: str) -> list[Message]:
    """Return the messages without what `provider` wants back with its calls."""
    copies = [message.copy() for message in messages]
    for message in copies:
        if message.get("tool_calls"):
            message["tool_calls"] = [call.copy() for call in message["tool_calls"]]
            for call in message["tool_calls"]:
                extras = call.get("extra_content", {})
                call["extra_content"] = {
                    name: extra for name, extra in extras.items() if name != provider
                }
    return copies


def _system(system: Any, path: str) -> list[Message]:
    if system is None or system == "":
        return []
    if not isinstance(system, str):
        raise InvalidInput(path, system, "must be text", "Give the system prompt as text")
    return [{"role": "system", "content": system}]


def _message(raw: Any, path: str) -> Message:
    if not isinstance(raw, dict) or raw.get("role") not in ROLES:
        raise InvalidInput(
            path, raw, "has an unknown role", "Use one of " + ", ".join(ROLES)
        )
    role = raw["role"]
    for name, value in raw.items():
        if value is not None and name not in _FIELDS[role] and name not in _OF_RESPONSES:
            raise InvalidInput(
                "%s.%s" % (path, name), value, "is not a field of a message of %s" % role,
                "Its fields are " + ", ".join(_FIELDS[role]),
            )
    message: Message = {"role": role, "content": None}
    if raw.get("name") is not None:
        message["name"] = require_text(raw["name"], path + ".name")
    if raw.get("refusal") is not None:
        message["refusal"] = require_text(raw["refusal"], path + ".refusal")
    if raw.get("tool_calls"):
        message["tool_calls"] = _tool_calls(raw["tool_calls"], path + ".tool_calls")
    if role == "tool":
        message["tool_call_id"] = require_text(raw.get("tool_call_id"), path + ".tool_call_id")
    message["content"] = _content(raw.get("content"), message, path + ".content")
    return message


def _content(
    raw: Any, message: Message, path: str
) -> Union[str, list[dict[str, Any]], None]:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list):
        allowed = _PART_TYPES[message["role"]]
        return [
            read_part(part, allowed, "%s[%d]" % (path, index)) for index, part in enumerate(raw)
        ]
    if raw is None and message["role"] == "tool":
        return ""
    if raw is None and (message.get("tool_calls") or message.get("refusal")):
        return None
    raise InvalidInput(path, raw, "is not text", "Give it as text, or as a list of parts")


def _tool_calls(raw: Any, path: str) -> list[ToolCall]:
    if not isinstance(raw, list):
        raise InvalidInput(path, raw, "is not a list", "Give a list of calls")
    calls = [_tool_call(call, "%s[%d]" % (path, index)) for index, call in enumerate(raw)]
    ids = [call["id"] for call in calls]
    for index, call_id in enumerate(ids):
        if call_id in ids[:index]:
            raise InvalidInput(
                "%s[%d].id" % (path, index), call_id, "is a duplicate", "Ids must be unique"
            )
    return calls


def _tool_call(raw: Any, path: str) -> ToolCall:
    if not isinstance(raw, dict) or raw.get("type", "function") != "function":
        hint = 'Write {"id": "...", "type": "function", "function": {"name", "arguments"}}'
        raise InvalidInput(path, raw, "is not a call of a function", hint)
    function = raw.get("function")
    if not isinstance(function, dict):
        raise InvalidInput(
            path + ".function", function, "is not an object", "Give its name and arguments"
        )
    call_id = require_text(raw.get("id"), path + ".id")
    if not call_id:
        raise InvalidInput(path + ".id", call_id, "is blank", "Give the call's id")
    call: ToolCall = {
        "id": call_id,
        "type": "function",
        "function": {
            "name": require_function_name(function.get("name"), path + ".function.name"),
            "arguments": _arguments(function.get("arguments"), path + ".function.arguments"),
        },
    }
    extra_content = raw.get("extra_content")
    if isinstance(extra_content, dict):
        extras = {
            provider: extra for provider, extra in extra_content.items() if isinstance(extra, dict)
        }
        if extras:
            call["extra_content"] = extras
    return call


def require_function_name(value: Any, path: str) -> str:
    """Return `value` if it is the name of a function.

    :raises InvalidInput: it is not.
    """
    if not isinstance(value, str) or not FUNCTION_NAME.match(value):
        raise InvalidInput(
            path, value, "is not the name of a function", "Use 1 to 64 of A-Z a-z 0-9 _ -"
        )
    return value


def _arguments(raw: Any, path: str) -> str:
    if raw is None:
        return ""
    return json.dumps(raw) if isinstance(raw, dict) else require_text(raw, path)


def _check_results(messages: list[Message], path: str) -> None:
    """Raise InvalidInput unless each call has one result before the next turn, and no other has.
    """
    open_calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            if open_calls.pop(call_id, None) is None:
                raise InvalidInput(
                    "%s[%d].tool_call_id" % (path, index), call_id,
                    "is not the id of a call that waits for its result",
                    "Give one result for each call of the assistant message before it",
                )
            continue
        _require_none_open(open_calls)
        open_calls = {
            call["id"]: "%s[%d].tool_calls[%d]" % (path, index, number)
            for number, call in enumerate(message.get("tool_calls") or [])
        }
    _require_none_open(open_calls)


def _require_none_open(open_calls: dict[str, str]) -> None:
    unanswered: Optional[tuple[str, str]] = next(iter(open_calls.items()), None)
    if unanswered is not None:
        raise InvalidInput(
            unanswered[1], unanswered[0], "has no result",
            "Give it in a tool message with this tool_call_id, before the next turn",
        )
