"""The wire format of OpenAI's Responses.

https://platform.openai.com/docs/api-reference/responses
"""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.llm_wires import call_ids, json_words, media, sampling
from synthralos.calls.llm_wires.call_arguments import normalize_arguments
from synthralos.calls.llm_wires.chat_messages import Message, ToolCall, text_of
from synthralos.calls.llm_wires.chat_request import ChatRequest, FunctionDefinition
from synthralos.calls.llm_wires.completion import (
    Completion,
    Usage,
    finish_reason,
    token_count,
    tool_call,
)
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.openai import check_content, effort_for
from synthralos.calls.llm_wires.openai_server import OpenAIServer
from synthralos.calls.llm_wires.responses_reasoning import INCLUDE, carry, extras_of
from synthralos.calls.llm_wires.wire import CannotCarry, WireRequest
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure

_PARAMETERS = {
    name: name for name in (
        "metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store",
        "temperature", "top_p", "user",
    )
}
# The API refuses a lower limit.
MIN_OUTPUT_TOKENS = 16


class OpenAIResponses(OpenAIServer):
    @staticmethod
    def path(model: str) -> str:
        return "/responses"

    @staticmethod
    def build(request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        wire_request = WireRequest({"model": model})
        body = wire_request.body
        check_content(request, traits)
        body["input"] = _input(request, wire_request)
        body.update(
            sampling.select(request, traits, _PARAMETERS, wire_request, elsewhere=("verbosity",))
        )
        # Chat completions are not stored unless the caller asks for it.
        body.setdefault("store", False)
        if request.stops:
            wire_request.leave_out("stop", "the API has no such field")
        _add_limit(request, wire_request)
        effort = effort_for(request, traits, wire_request)
        if effort is not None:
            body["reasoning"] = {"effort": effort}
        if request.tools:
            body["tools"] = [_tool(function) for function in request.tools]
            _add_choice(request, body)
            if traits.thinking not in (None, "none") and not body["store"]:
                # What is not stored can come back encrypted only.
                body["include"] = [INCLUDE]
        text = _text_config(request, traits, wire_request)
        if text:
            body["text"] = text
        return wire_request

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        output = body.get("output")
        if not isinstance(output, list):
            return None
        items = [item for item in output if isinstance(item, dict)]
        parts = [
            part for item in items if item.get("type") == "message"
            for part in _list(item.get("content")) if isinstance(part, dict)
        ]
        call_items = [item for item in items if item.get("type") == "function_call"]
        calls = [
            tool_call(item.get("call_id"), item.get("name"), item.get("arguments"), extra)
            for item, extra in zip(call_items, extras_of(items, body.get("store") is True))
        ]
        texts = [text_of(part.get("text")) for part in parts if part.get("type") == "output_text"]
        refused = any(part.get("type") == "refusal" for part in parts) and not calls
        return Completion(
            response="".join(texts),
            provider_finish_reason="refusal" if refused else _reason(body),
            usage=_usage(body.get("usage")),
            tool_calls=calls,
            failure=_failure_of(body),
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _input(request: ChatRequest, wire_request: WireRequest) -> list[dict[str, Any]]:
    ids = call_ids.fit(request.messages, call_ids.WORD_64)
    items: list[dict[str, Any]] = []
    caller = 0
    for index, message in enumerate(request.messages):
        path = "messages[%d]" % index
        if message.get("name"):
            wire_request.leave_out(path + ".name", "the API has no names of participants")
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            items.append({
                "type": "function_call_output",
                "call_id": ids.get((caller, call_id), call_id),
                "output": _output(message, path),
            })
            continue
        if message["role"] == "assistant":
            caller = index
            items += _assistant(index, message, ids, wire_request)
            continue
        items.append({"role": message["role"], "content": _content(message, path)})
    return items


def _assistant(
    index: int, message: Message, ids: Mapping[tuple[int, str], str], wire_request: WireRequest
) -> list[dict[str, Any]]:
    calls = message.get("tool_calls") or []
    carried = [
        carry(call, "messages[%d].tool_calls[%d]" % (index, number), wire_request)
        for number, call in enumerate(calls)
    ]
    leads = bool(carried) and not carried[0].after_text
    items = list(carried[0].items) if leads else []
    text = text_of(message.get("content")) or message.get("refusal") or ""
    if text.strip():
        items.append({"role": "assistant", "content": text})
    for number, (call, reasoning) in enumerate(zip(calls, carried)):
        if number or not leads:
            items += reasoning.items
        items.append(dict(_call(call, ids[index, call["id"]]), **reasoning.call_fields))
    return items


def _call(call: ToolCall, call_id: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": call["function"]["name"],
        "arguments": normalize_arguments(call["function"]["arguments"]),
    }


def _output(message: Message, path: str) -> Any:
    content = message.get("content")
    if isinstance(content, list) and any(part["type"] != "text" for part in content):
        return _content(message, path)
    return text_of(content)


def _content(message: Message, path: str) -> Any:
    content = message.get("content")
    if not isinstance(content, list):
        return content or ""
    return [
        _part(part, "%s.content[%d]" % (path, index)) for index, part in enumerate(content)
    ]


def _part(part: dict[str, Any], path: str) -> dict[str, Any]:
    kind = part["type"]
    if kind == "text":
        return {"type": "input_text", "text": part["text"]}
    if kind == "image_url":
        image = part["image_url"]
        return {
            "type": "input_image", "image_url": image["url"],
            "detail": image.get("detail", "auto"),
        }
    if kind == "file":
        file = part["file"]
        if "file_id" in file:
            return {"type": "input_file", "file_id": file["file_id"]}
        return {
            "type": "input_file", "file_data": file["file_data"],
            "filename": file.get("filename") or media.filename_of(file["file_data"]),
        }
    raise CannotCarry(path, "the API takes no audio")


def _tool(function: FunctionDefinition) -> dict[str, Any]:
    tool: dict[str, Any] = {
        "type": "function",
        "name": function["name"],
        "parameters": function.get("parameters"),
        # Its own default is true, that of chat completions false.
        "strict": function.get("strict", False),
    }
    if "description" in function:
        tool["description"] = function["description"]
    return tool


def _add_choice(request: ChatRequest, body: dict[str, Any]) -> None:
    if request.forced_tool is not None:
        body["tool_choice"] = {"type": "function", "name": request.forced_tool}
    elif "tool_choice" in request.parameters:
        body["tool_choice"] = request.parameters["tool_choice"]
    if "parallel_tool_calls" in request.parameters:
        body["parallel_tool_calls"] = request.parameters["parallel_tool_calls"]


def _add_limit(request: ChatRequest, wire_request: WireRequest) -> None:
    limit = request.max_tokens
    if limit is None:
        return
    if limit < MIN_OUTPUT_TOKENS:
        limit = MIN_OUTPUT_TOKENS
        wire_request.send_as("max_tokens", str(limit), "the API takes at least %d" % limit)
    wire_request.body["max_output_tokens"] = wire_request.max_output_tokens = limit


def _text_config(
    request: ChatRequest, traits: ModelTraits, wire_request: WireRequest
) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if "verbosity" in request.parameters:
        text["verbosity"] = request.parameters["verbosity"]
    if not request.expects_json:
        return text
    schema = request.response_schema
    items = wire_request.body["input"]
    if traits.json_mode is False if schema is None else traits.json_schema is False:
        words = json_words.ask_in_words(request, wire_request, "the model has no such mode")
        json_words.add_instruction(items, words)
    elif schema is not None:
        text["format"] = {"type": "json_schema", "name": schema.name, "schema": schema.schema}
        if schema.description is not None:
            text["format"]["description"] = schema.description
        if schema.strict is not None:
            text["format"]["strict"] = schema.strict
    else:
        text["format"] = {"type": "json_object"}
        if not json_words.mentions_json(request):
            json_words.add_instruction(items, json_words.ANY_JSON)
            wire_request.leave_out(
                "messages", "JSON mode needs a message that mentions JSON; one was added"
            )
    return text


def _reason(body: Mapping[str, Any]) -> Optional[str]:
    status = body.get("status")
    details = body.get("incomplete_details")
    if status == "incomplete" and isinstance(details, dict):
        return finish_reason(details.get("reason")) or "incomplete"
    return finish_reason(status)


def _failure_of(body: Mapping[str, Any]) -> Optional[Failure]:
    error = body.get("error")
    if body.get("status") != "failed" and not error:
        return None
    clues = evidence.read(error if isinstance(error, (dict, str)) else {})
    failure = failures.from_answer(200, {}, clues, 0.0, "model")
    if failure.cause == "malformed_answer":
        message = clues.message or "the provider says that the response failed"
        return failures.make_failure("server_error", message, status=200)
    return failure


def _usage(counts: Any) -> Usage:
    return Usage(
        input_tokens=token_count(counts, "input_tokens"),
        output_tokens=max(
            token_count(counts, "output_tokens"),
            token_count(counts, "output_tokens_details", "reasoning_tokens"),
        ),
        reasoning_tokens=token_count(counts, "output_tokens_details", "reasoning_tokens"),
        cached_tokens=token_count(counts, "input_tokens_details", "cached_tokens"),
    )
