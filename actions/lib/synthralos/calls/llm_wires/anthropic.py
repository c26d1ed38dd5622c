"""The wire format of Anthropic's messages, in the version of the header below.

https://docs.claude.com/en/api/messages
"""

from collections.abc import Mapping
from typing import Any, Optional, Union

from synthralos.calls.llm_wires import (
    call_ids,
    claude_thinking,
    conversation,
    json_words,
    listings,
    sampling,
)
from synthralos.calls.llm_wires.chat_messages import ToolCall, text_of
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import (
    Completion,
    Usage,
    finish_reason,
    token_count,
    tool_call,
)
from synthralos.calls.llm_wires.conversation import (
    Call,
    Conversation,
    File,
    Image,
    Part,
    Result,
    Text,
    Turn,
)
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.openai import check_content
from synthralos.calls.llm_wires.wire import Authorize, CannotCarry, WireRequest
from synthralos.config.connection import Connection

VERSION = "2023-06-01"
# The API requires a limit. What a model thinks counts, too.
DEFAULT_MAX_TOKENS, DEFAULT_MAX_TOKENS_WITH_THINKING = 4096, 16384
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PARAMETERS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
NAME = "anthropic"
_THINKING_BLOCKS = ("thinking", "redacted_thinking")


def _api_key(secret: str) -> dict[str, str]:
    return {"x-api-key": secret}


class Anthropic:
    headers = {"anthropic-version": VERSION}

    @staticmethod
    def listing(connection: Connection) -> tuple[Connection, str]:
        return connection, "/v1/models?limit=1000"

    @staticmethod
    def path(model: str) -> str:
        return "/v1/messages"

    @staticmethod
    def authorize(base_url: str) -> Optional[Authorize]:
        return _api_key

    @staticmethod
    def build(request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        wire_request = WireRequest({"model": model})
        body = wire_request.body
        check_content(request, traits)
        turns = conversation.build(request.messages, call_ids.WORD_64, wire_request)
        if traits.prefill is False:
            turns.let_user_end(wire_request)
        thinking = claude_thinking.choose(request, traits, turns, NAME, wire_request)
        if thinking.enabled:
            request = request.without(*claude_thinking.withhold(request, wire_request))
        _add_limit(request, wire_request, thinking.budget, bool(thinking.fields))
        body.update(sampling.select(
            request, traits, _PARAMETERS, wire_request, elsewhere=("user", "safety_identifier")
        ))
        body.update(thinking.fields)
        stops = sampling.stops(request, traits, wire_request)
        if stops:
            body["stop_sequences"] = stops
        user = request.parameters.get("user") or request.parameters.get("safety_identifier")
        if user:
            body["metadata"] = {"user_id": user}
        _add_tools(request, turns, wire_request)
        _add_format(request, traits, turns, wire_request)
        body["messages"] = [_message(turn) for turn in turns.turns]
        _trim_prefill(body["messages"])
        if turns.system:
            body["system"] = "\n\n".join(turns.system)
        return wire_request

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        raw_blocks = body.get("content")
        if not isinstance(raw_blocks, list):
            return None
        blocks = [block for block in raw_blocks if isinstance(block, dict)]
        texts = [text_of(block.get("text")) for block in blocks if block.get("type") == "text"]
        return Completion(
            response="".join(texts),
            provider_finish_reason=finish_reason(body.get("stop_reason")),
            usage=_usage(body.get("usage")),
            tool_calls=_tool_calls(blocks),
        )

    @staticmethod
    def model_names(listing: Any) -> Optional[list[str]]:
        return listings.names(listing, "data", "id")


def _add_limit(
    request: ChatRequest, wire_request: WireRequest, budget: int, thinks: bool
) -> None:
    limit = request.max_tokens
    if limit is None:
        limit = DEFAULT_MAX_TOKENS_WITH_THINKING if thinks and not budget else DEFAULT_MAX_TOKENS
        limit += budget
    wire_request.body["max_tokens"] = wire_request.max_output_tokens = limit


def _add_tools(request: ChatRequest, turns: Conversation, wire_request: WireRequest) -> None:
    tools = []
    for index, function in enumerate(request.tools):
        schema = function.get("parameters") or {}
        tool: dict[str, Any] = {
            "name": function["name"], "input_schema": dict({"type": "object"}, **schema),
        }
        if function.get("description"):
            tool["description"] = function["description"]
        if function.get("strict"):
            if json_words.is_strict(tool["input_schema"]):
                tool["strict"] = True
            else:
                wire_request.leave_out(
                    "tools[%d].function.strict" % index, "the API cannot guarantee this schema"
                )
        tools.append(tool)
    if not tools:
        # The API requires a declaration of each tool in the conversation.
        tools = [
            {"name": name, "input_schema": {"type": "object"}} for name in turns.tool_names
        ]
        if tools:
            wire_request.body.update(tools=tools, tool_choice={"type": "none"})
        return
    wire_request.body["tools"] = tools
    choice = _choice(request)
    if choice is not None:
        wire_request.body["tool_choice"] = choice


def _choice(request: ChatRequest) -> Optional[dict[str, Any]]:
    choice = request.parameters.get("tool_choice")
    parallel = request.parameters.get("parallel_tool_calls")
    if choice == "none":
        return {"type": "none"}
    if choice is None and parallel is None:
        return None
    result: dict[str, Any] = {"type": "any" if choice == "required" else "auto"}
    if request.forced_tool is not None:
        result = {"type": "tool", "name": request.forced_tool}
    if parallel is False:
        result["disable_parallel_tool_use"] = True
    return result


def _add_format(
    request: ChatRequest, traits: ModelTraits, turns: Conversation, wire_request: WireRequest
) -> None:
    schema, reason = request.response_schema, json_words.reason_for_words(request, traits)
    if reason is not None:
        turns.system.append(json_words.ask_in_words(request, wire_request, reason))
    elif schema is not None:
        config = wire_request.body.setdefault("output_config", {})
        config["format"] = {"type": "json_schema", "schema": schema.schema}


def _message(turn: Turn) -> dict[str, Any]:
    first = turn.parts[0]
    if len(turn.parts) == 1 and isinstance(first, Text):
        return {"role": turn.role, "content": first.text}
    blocks = [_block(part) for part in turn.parts]
    calls = turn.calls
    thoughts = calls[0].thoughts(NAME) if calls else []
    return {"role": turn.role, "content": thoughts + blocks}


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image", "source": _image_source(part)}
    if isinstance(part, File):
        return _document(part)
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    if isinstance(part, Result):
        return _result(part)
    raise CannotCarry(part.path, "the API takes no audio")


def _image_source(image: Image) -> dict[str, Any]:
    data = image.data
    if data is None:
        return {"type": "url", "url": image.url}
    if data.type not in IMAGE_TYPES:
        raise CannotCarry(image.path, "the API takes no pictures of type %s" % data.type)
    return {"type": "base64", "media_type": data.type, "data": data.data}


def _document(file: File) -> dict[str, Any]:
    if file.data is None:
        raise CannotCarry(file.path, "the file is stored at another provider")
    if file.data.type == "application/pdf":
        source = {"type": "base64", "media_type": file.data.type, "data": file.data.data}
    elif file.data.text is not None:
        source = {"type": "text", "media_type": "text/plain", "data": file.data.text}
    else:
        raise CannotCarry(file.path, "the API takes no files of type %s" % file.data.type)
    document: dict[str, Any] = {"type": "document", "source": source}
    if file.filename:
        document["title"] = file.filename
    return document


def _result(result: Result) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.id}
    content: Union[str, list[dict[str, Any]]] = result.text
    if any(isinstance(part, Image) for part in result.parts):
        content = [_block(part) for part in result.parts]
    if content:
        block["content"] = content
    return block


def _trim_prefill(messages: list[dict[str, Any]]) -> None:
    """Drop white space at the end of an answer to go on with, which the API refuses."""
    last = messages[-1]
    if last["role"] == conversation.ASSISTANT and isinstance(last["content"], str):
        last["content"] = last["content"].rstrip()


def _tool_calls(blocks: list[dict[str, Any]]) -> list[ToolCall]:
    thoughts = [block for block in blocks if block.get("type") in _THINKING_BLOCKS]
    calls: list[ToolCall] = []
    for block in blocks:
        if block.get("type") == "tool_use":
            # The API wants them back with the result of the call.
            extra = {NAME: {"thinking": thoughts}} if thoughts and not calls else None
            calls.append(
                tool_call(block.get("id"), block.get("name"), block.get("input"), extra)
            )
    return calls


def _usage(counts: Any) -> Usage:
    """Return the tokens of a `usage`: `input_tokens` leaves out what the cache served or stored."""
    cached = token_count(counts, "cache_read_input_tokens")
    stored = token_count(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=token_count(counts, "input_tokens") + cached + stored,
        output_tokens=token_count(counts, "output_tokens"),
        reasoning_tokens=token_count(counts, "output_tokens_details", "thinking_tokens"),
        cached_tokens=cached,
    )
