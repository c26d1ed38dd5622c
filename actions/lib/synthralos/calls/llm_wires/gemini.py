"""The wire format of Google's Gemini: generateContent of the Gemini API and of Vertex AI.

https://ai.google.dev/api/generate-content
"""

import mimetypes
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional
from urllib.parse import quote, urlsplit

from synthralos.calls.llm_wires import (
    call_ids,
    conversation,
    json_words,
    listings,
    reasoning,
    sampling,
)
from synthralos.calls.llm_wires.chat_messages import ToolCall
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import (
    Completion,
    Usage,
    finish_reason,
    token_count,
    tool_call,
)
from synthralos.calls.llm_wires.conversation import (
    Audio,
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
from synthralos.core.lazy_pattern import LazyPattern

# Documented in place of the signature of a call that another model made.
NO_SIGNATURE = "skip_thought_signature_validator"
MAX_STOPS = 5
_PARAMETERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
_SEED_BITS = 31
_MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
_NAME = "google"
# Vertex AI, at whatever host. Its express mode names no project, and takes API keys.
_PROJECT = "/projects/"
_VERTEX = LazyPattern(
    r"(https?://[^/]+)/v1(?:beta1)?/projects/[^/]+/locations/[^/]+/publishers/([a-z0-9-]+)\Z"
)


def _api_key(secret: str) -> dict[str, str]:
    return {"x-goog-api-key": secret}


class Gemini:
    headers: dict[str, str] = {}

    @staticmethod
    def listing(connection: Connection) -> tuple[Connection, str]:
        vertex = _VERTEX.match(connection.base_url)
        if vertex is None:
            return connection, "/models?pageSize=1000"
        # Vertex AI lists models of a publisher, not of a project, and in this version only.
        base_url = "%s/v1beta1/publishers/%s" % vertex.group(1, 2)
        return replace(connection, base_url=base_url), "/models?pageSize=100"

    @staticmethod
    def path(model: str) -> str:
        return "/models/%s:generateContent" % quote(model, safe="")

    @staticmethod
    def authorize(base_url: str) -> Optional[Authorize]:
        # Vertex AI takes tokens of an hour.
        return None if _PROJECT in urlsplit(base_url).path else _api_key

    @staticmethod
    def build(request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        wire_request = WireRequest({})
        body = wire_request.body
        check_content(request, traits)
        turns = conversation.build(request.messages, call_ids.ANY_64, wire_request)
        turns.let_user_end(wire_request)
        config = sampling.select(_without_large_seed(request, wire_request), traits, _PARAMETERS,
                                 wire_request)
        stops = sampling.stops(request, traits, wire_request, MAX_STOPS, needs_words=False)
        if stops:
            config["stopSequences"] = stops
        if request.max_tokens is not None:
            config["maxOutputTokens"] = wire_request.max_output_tokens = request.max_tokens
        thinking = _thinking(request, traits, wire_request)
        if thinking:
            config["thinkingConfig"] = thinking
        _add_tools(request, wire_request)
        config.update(_format(request, traits, turns, wire_request))
        body["contents"] = _contents(turns, traits)
        if turns.system:
            body["systemInstruction"] = {"parts": [{"text": text} for text in turns.system]}
        if config:
            body["generationConfig"] = config
        return wire_request

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        candidates = body.get("candidates")
        usage = _usage(body.get("usageMetadata"))
        if not isinstance(candidates, list) or not candidates:
            feedback = body.get("promptFeedback")
            blocked = feedback.get("blockReason") if isinstance(feedback, dict) else None
            if not blocked:
                return None
            reason = "content_filter: %s" % (finish_reason(blocked) or "blocked")
            return Completion("", reason, usage)
        if not isinstance(candidates[0], dict):
            return None
        content = candidates[0].get("content")
        raw_parts = content.get("parts") if isinstance(content, dict) else None
        parts = [
            part for part in (raw_parts if isinstance(raw_parts, list) else [])
            if isinstance(part, dict) and part.get("thought") is not True
        ]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        return Completion(
            response="".join(texts),
            provider_finish_reason=finish_reason(candidates[0].get("finishReason")),
            usage=usage,
            tool_calls=_tool_calls(parts),
        )

    @staticmethod
    def model_names(listing: Any) -> Optional[list[str]]:
        names = listings.names(listing, "models", "name")
        if names is None:
            names = listings.names(listing, "publisherModels", "name")
        return None if names is None else [name.rpartition("/")[2] for name in names]


def _without_large_seed(request: ChatRequest, wire_request: WireRequest) -> ChatRequest:
    seed = request.parameters.get("seed")
    if seed is None or -(2**_SEED_BITS) <= seed < 2**_SEED_BITS:
        return request
    wire_request.leave_out("seed", "the API takes numbers of 32 bits")
    return request.without("seed")


def _thinking(
    request: ChatRequest, traits: ModelTraits, wire_request: WireRequest
) -> dict[str, Any]:
    requested = reasoning.requested(request)
    if requested is None:
        return {}
    if traits.thinking == "none":
        if requested.effort != "none":
            wire_request.leave_out(requested.field, "the model does not reason")
        return {}
    if traits.thinking == "budget":
        if requested.effort == "none" and traits.always_thinks:
            least = reasoning.budget_of("low")
            wire_request.send_as(requested.field, "%d tokens" % least, "the model always reasons")
            return {"thinkingBudget": least}
        return {"thinkingBudget": requested.budget}
    efforts = traits.efforts or ("minimal", "low", "medium", "high")
    effort = reasoning.nearest(requested.effort, efforts)
    if effort != requested.effort or requested.field == "thinking":
        wire_request.send_as(requested.field, effort, "the model takes it as a level")
    return {"thinkingLevel": effort.upper()}


def _add_tools(request: ChatRequest, wire_request: WireRequest) -> None:
    if not request.tools:
        return
    declarations = []
    for index, function in enumerate(request.tools):
        if not function["name"][0].isalpha() and function["name"][0] != "_":
            raise CannotCarry(
                "tools[%d].function.name" % index,
                "names of functions begin with a letter or an underscore here",
                "unsupported_parameter",
            )
        declaration: dict[str, Any] = {"name": function["name"]}
        if function.get("description"):
            declaration["description"] = function["description"]
        if function.get("parameters"):
            declaration["parametersJsonSchema"] = function["parameters"]
        if function.get("strict"):
            wire_request.leave_out(
                "tools[%d].function.strict" % index, "the API has no such field"
            )
        declarations.append(declaration)
    wire_request.body["tools"] = [{"functionDeclarations": declarations}]
    choice = request.parameters.get("tool_choice")
    if request.forced_tool is not None:
        config = {"mode": "ANY", "allowedFunctionNames": [request.forced_tool]}
    elif choice is not None:
        config = {"mode": _MODES[choice]}
    else:
        config = {}
    if config:
        wire_request.body["toolConfig"] = {"functionCallingConfig": config}
    if request.parameters.get("parallel_tool_calls") is False:
        wire_request.leave_out(
            "parallel_tool_calls", "the API has no such field; an answer with two calls is refused"
        )
        wire_request.max_calls = 1


def _format(
    request: ChatRequest, traits: ModelTraits, turns: Conversation, wire_request: WireRequest
) -> dict[str, Any]:
    if not request.expects_json:
        return {}
    schema = request.response_schema
    reason = None
    if request.tools and traits.json_with_tools is False:
        reason = "the model takes it without tools only"
    elif traits.json_mode is False if schema is None else traits.json_schema is False:
        reason = "the model has no such mode"
    if reason is not None:
        turns.system.append(json_words.ask_in_words(request, wire_request, reason))
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if schema is not None:
        config["responseJsonSchema"] = schema.schema
    return config


def _contents(turns: Conversation, traits: ModelTraits) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    open_turns = turns.open_turns
    for turn in turns.turns:
        is_open = any(turn is other for other in open_turns)
        role = "model" if turn.role == conversation.ASSISTANT else "user"
        contents += [
            {"role": role, "parts": parts} for parts in _part_groups(turn, traits, is_open)
        ]
    return contents


def _part_groups(turn: Turn, traits: ModelTraits, is_open: bool) -> list[list[dict[str, Any]]]:
    """Return the parts of a turn: the results of calls by themselves, then what else it has."""
    if turn.role == conversation.ASSISTANT:
        return [_answer_parts(turn, traits, is_open)]
    results = [_result(result) for result in turn.results]
    own_parts = [_part(part, traits) for part in turn.parts if not isinstance(part, Result)]
    pictures = [
        _part(part, traits)
        for result in turn.results for part in result.parts if isinstance(part, Image)
    ]
    return [group for group in (results, pictures + own_parts) if group]


def _answer_parts(turn: Turn, traits: ModelTraits, is_open: bool) -> list[dict[str, Any]]:
    parts, is_first_call = [], True
    for part in turn.parts:
        if not isinstance(part, Call):
            parts.append(_part(part, traits))
            continue
        sent: dict[str, Any] = {
            "functionCall": {"id": part.id, "name": part.name, "args": part.arguments}
        }
        signature = part.extra.get(_NAME, {}).get("thought_signature")
        if isinstance(signature, str) and signature:
            sent["thoughtSignature"] = signature
        elif traits.thought_signatures and is_open and is_first_call:
            sent["thoughtSignature"] = NO_SIGNATURE
        is_first_call = False
        parts.append(sent)
    return parts


def _part(part: Part, traits: ModelTraits) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Image):
        return _picture(part, traits)
    if isinstance(part, Audio):
        media_type = "audio/wav" if part.format == "wav" else "audio/mpeg"
        return {"inlineData": {"mimeType": media_type, "data": part.data}}
    if isinstance(part, File) and part.data is not None:
        return {"inlineData": {"mimeType": part.data.type, "data": part.data.data}}
    assert isinstance(part, File)
    raise CannotCarry(part.path, "the file is stored at another provider")


def _picture(image: Image, traits: ModelTraits) -> dict[str, Any]:
    data = image.data
    if data is not None:
        return {"inlineData": {"mimeType": data.type, "data": data.data}}
    if traits.addresses is False:
        raise CannotCarry(image.path, "the model takes pictures as data only")
    reference = {"fileUri": image.url}
    media_type, _ = mimetypes.guess_type(urlsplit(image.url).path)
    if media_type:
        reference["mimeType"] = media_type
    return {"fileData": reference}


def _result(result: Result) -> dict[str, Any]:
    return {
        "functionResponse": {
            "id": result.id, "name": result.name, "response": {"output": result.text},
        }
    }


def _tool_calls(parts: list[dict[str, Any]]) -> list[ToolCall]:
    calls = []
    for part in parts:
        call = part.get("functionCall")
        if isinstance(call, dict):
            signature = part.get("thoughtSignature")
            extra = {_NAME: {"thought_signature": signature}} if signature else None
            calls.append(tool_call(call.get("id"), call.get("name"), call.get("args"), extra))
    return calls


def _usage(counts: Any) -> Usage:
    """Return the tokens of a `usageMetadata`: thoughts are billed as output."""
    read = token_count(counts, "promptTokenCount") + token_count(
        counts, "toolUsePromptTokenCount"
    )
    thoughts = token_count(counts, "thoughtsTokenCount")
    return Usage(
        input_tokens=read,
        output_tokens=max(
            token_count(counts, "candidatesTokenCount") + thoughts,
            token_count(counts, "totalTokenCount") - read,
        ),
        reasoning_tokens=thoughts,
        cached_tokens=token_count(counts, "cachedContentTokenCount"),
    )
