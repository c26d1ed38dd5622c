"""The wire format of Amazon Bedrock's Converse, with a Bedrock API key as bearer token; with AWS
credentials, `calls.aws_signing` signs the requests.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional
from urllib.parse import quote

from synthralos.calls.llm_wires import (
    call_ids,
    claude_thinking,
    conversation,
    json_words,
    listings,
    sampling,
)
from synthralos.calls.llm_wires.bedrock_content import NAME, REASONING, blocks_of
from synthralos.calls.llm_wires.chat_messages import ToolCall, text_of
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import (
    Completion,
    Usage,
    finish_reason,
    token_count,
    tool_call,
)
from synthralos.calls.llm_wires.conversation import Conversation
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.openai import check_content
from synthralos.calls.llm_wires.wire import Authorize, WireRequest
from synthralos.config.connection import Connection
from synthralos.core.lazy_pattern import LazyPattern

_PARAMETERS = {"temperature": "temperature", "top_p": "topP"}
_CLAUDE_ONLY = {"top_k": "top_k"}
_MAX_TEMPERATURE = 1.0
_RUNTIME_HOST = LazyPattern(
    r"^(https://)bedrock-runtime((?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?)(?=[:/]|\Z)"
)
_MAX_METADATA = 16
_METADATA_KEY = LazyPattern(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}\Z")
_METADATA_VALUE = LazyPattern(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}\Z")


class Bedrock:
    headers: dict[str, str] = {}

    @staticmethod
    def listing(connection: Connection) -> tuple[Connection, str]:
        # AWS lists models at another host of the same region.
        base_url = _RUNTIME_HOST.sub(r"\1bedrock\2", connection.base_url)
        return replace(connection, base_url=base_url), "/foundation-models"

    @staticmethod
    def path(model: str) -> str:
        return "/model/%s/converse" % quote(model, safe="")

    @staticmethod
    def authorize(base_url: str) -> Optional[Authorize]:
        return None

    @staticmethod
    def build(request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        wire_request = WireRequest({})
        body = wire_request.body
        is_claude = "claude" in model.lower()
        check_content(request, traits)
        turns = conversation.build(request.messages, call_ids.WORD_64, wire_request)
        if traits.prefill is False:
            turns.let_user_end(wire_request)
        fields: dict[str, Any] = {}
        if is_claude:
            thinking = claude_thinking.choose(request, traits, turns, NAME, wire_request)
            if thinking.enabled:
                request = request.without(*claude_thinking.withhold(request, wire_request))
            fields.update(thinking.fields)
        else:
            _leave_out_reasoning(request, wire_request)
        config = _inference_config(request, traits, is_claude, fields, wire_request)
        _add_metadata(request, wire_request)
        _add_tools(request, traits, turns, wire_request)
        _add_format(request, traits, turns, wire_request)
        body["messages"] = [
            {"role": turn.role, "content": blocks_of(turn)} for turn in turns.turns
        ]
        if turns.system:
            body["system"] = [{"text": text} for text in turns.system]
        if config:
            body["inferenceConfig"] = config
        if fields:
            body["additionalModelRequestFields"] = fields
        return wire_request

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        output = body.get("output")
        message = output.get("message") if isinstance(output, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list) and not isinstance(body.get("stopReason"), str):
            return None
        blocks = [
            block for block in (content if isinstance(content, list) else [])
            if isinstance(block, dict)
        ]
        return Completion(
            response="".join(map(_text_in, blocks)),
            provider_finish_reason=finish_reason(body.get("stopReason")),
            usage=_usage(body.get("usage")),
            tool_calls=_tool_calls(blocks),
        )

    @staticmethod
    def model_names(listing: Any) -> Optional[list[str]]:
        return listings.names(listing, "modelSummaries", "modelId")


def _leave_out_reasoning(request: ChatRequest, wire_request: WireRequest) -> None:
    for name in ("reasoning_effort", "thinking"):
        if request.parameters.get(name) not in (None, "none", {"type": "disabled"}):
            wire_request.leave_out(name, "the API has no such field for this model")


def _inference_config(
    request: ChatRequest,
    traits: ModelTraits,
    is_claude: bool,
    fields: dict[str, Any],
    wire_request: WireRequest,
) -> dict[str, Any]:
    """Return the inferenceConfig; what only Claude takes is added to `fields`."""
    names = dict(_PARAMETERS, **(_CLAUDE_ONLY if is_claude else {}))
    config = sampling.select(request, traits, names, wire_request, elsewhere=("metadata",))
    if config.get("temperature", 0) > _MAX_TEMPERATURE:
        config["temperature"] = _MAX_TEMPERATURE
        wire_request.send_as("temperature", "1", "the API takes at most 1")
    if "top_k" in config:
        fields["top_k"] = config.pop("top_k")
    stops = sampling.stops(request, traits, wire_request)
    if stops:
        config["stopSequences"] = stops
    limit = request.max_tokens
    budget = fields.get("thinking", {}).get("budget_tokens")
    if limit is None and budget:
        # Its own default may be lower than the budget.
        limit = budget + 4096
    if limit is not None:
        config["maxTokens"] = wire_request.max_output_tokens = limit
    return config


def _add_metadata(request: ChatRequest, wire_request: WireRequest) -> None:
    metadata = request.parameters.get("metadata")
    if not metadata:
        return
    is_valid = len(metadata) <= _MAX_METADATA and all(
        _METADATA_KEY.match(key) and _METADATA_VALUE.match(value)
        for key, value in metadata.items()
    )
    if is_valid:
        wire_request.body["requestMetadata"] = metadata
    else:
        wire_request.leave_out("metadata", "the API does not take these characters, or so many")


def _add_tools(
    request: ChatRequest, traits: ModelTraits, turns: Conversation, wire_request: WireRequest
) -> None:
    choice = request.parameters.get("tool_choice")
    if choice == "none":
        # The API cannot be told; without a call in the conversation, the tools can be left out.
        wire_request.max_calls = 0
        if not turns.tool_names:
            return
        wire_request.leave_out(
            "tool_choice", "the API has no none; an answer that calls a tool is refused"
        )
    specs = [
        _tool_spec(index, request, traits, wire_request) for index in range(len(request.tools))
    ]
    if not specs:
        # The API requires a declaration of each tool in the conversation.
        specs = [
            {"name": name, "inputSchema": {"json": {"type": "object"}}}
            for name in turns.tool_names
        ]
        if not specs:
            return
        wire_request.max_calls = 0
    config: dict[str, Any] = {"tools": [{"toolSpec": spec} for spec in specs]}
    if request.forced_tool is not None:
        config["toolChoice"] = {"tool": {"name": request.forced_tool}}
    elif choice in ("auto", "required"):
        config["toolChoice"] = {"any" if choice == "required" else "auto": {}}
    wire_request.body["toolConfig"] = config
    if request.parameters.get("parallel_tool_calls") is False and choice != "none":
        wire_request.leave_out(
            "parallel_tool_calls", "the API has no such field; an answer with two calls is refused"
        )
        wire_request.max_calls = 1


def _tool_spec(
    index: int, request: ChatRequest, traits: ModelTraits, wire_request: WireRequest
) -> dict[str, Any]:
    function = request.tools[index]
    schema = dict({"type": "object"}, **(function.get("parameters") or {}))
    spec: dict[str, Any] = {"name": function["name"], "inputSchema": {"json": schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    if function.get("strict"):
        if traits.json_schema and json_words.is_strict(schema):
            spec["strict"] = True
        else:
            wire_request.leave_out(
                "tools[%d].function.strict" % index, "the API cannot guarantee this schema"
            )
    return spec


def _add_format(
    request: ChatRequest, traits: ModelTraits, turns: Conversation, wire_request: WireRequest
) -> None:
    schema, reason = request.response_schema, json_words.reason_for_words(request, traits)
    if reason is not None:
        turns.system.append(json_words.ask_in_words(request, wire_request, reason))
    elif schema is not None:
        definition = {"name": schema.name, "schema": json_words.dumps(schema.schema)}
        if schema.description:
            definition["description"] = schema.description
        wire_request.body["outputConfig"] = {
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}
        }


def _text_in(block: Mapping[str, Any]) -> str:
    cited = block.get("citationsContent")
    if isinstance(cited, dict):
        return text_of(cited.get("content"))
    return text_of(block.get("text"))


def _tool_calls(blocks: list[dict[str, Any]]) -> list[ToolCall]:
    thoughts = [block[REASONING] for block in blocks if isinstance(block.get(REASONING), dict)]
    calls: list[ToolCall] = []
    for block in blocks:
        use = block.get("toolUse")
        if isinstance(use, dict) and use.get("type") != "server_tool_use":
            extra = {NAME: {"thinking": thoughts}} if thoughts and not calls else None
            calls.append(tool_call(use.get("toolUseId"), use.get("name"), use.get("input"), extra))
    return calls


def _usage(counts: Any) -> Usage:
    """Return the tokens of a `usage`: `inputTokens` leaves out what the cache served or stored."""
    cached = token_count(counts, "cacheReadInputTokens")
    stored = token_count(counts, "cacheWriteInputTokens")
    read = token_count(counts, "inputTokens") + cached + stored
    return Usage(
        input_tokens=read,
        output_tokens=max(
            token_count(counts, "outputTokens"), token_count(counts, "totalTokens") - read
        ),
        cached_tokens=cached,
    )
