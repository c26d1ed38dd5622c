"""The wire format of OpenAI's chat completions, which most providers and servers speak."""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.llm_wires import call_ids, json_words, reasoning, sampling
from synthralos.calls.llm_wires.call_arguments import normalize_arguments
from synthralos.calls.llm_wires.chat_messages import GO_ON, Message, ToolCall, text_of
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.completion import (
    Completion,
    Usage,
    finish_reason,
    token_count,
    tool_call,
)
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.openai_server import OpenAIServer
from synthralos.calls.llm_wires.wire import CannotCarry, WireRequest
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure

_PARAMETERS = {
    name: name for name in (
        "frequency_penalty", "logit_bias", "logprobs", "metadata", "presence_penalty",
        "prompt_cache_key", "safety_identifier", "seed", "service_tier", "store", "temperature",
        "top_logprobs", "top_p", "user", "verbosity",
    )
}
MAX_STOPS = 4
# Google's endpoint for this wire wants back what it calls by this name.
_GOOGLE = "google"


class OpenAI(OpenAIServer):
    @staticmethod
    def path(model: str) -> str:
        return "/chat/completions"

    @staticmethod
    def build(request: ChatRequest, model: str, traits: ModelTraits) -> WireRequest:
        wire_request = WireRequest({"model": model})
        body = wire_request.body
        check_content(request, traits)
        body["messages"] = _Messages(request, traits, wire_request).build()
        body.update(sampling.select(request, traits, _PARAMETERS, wire_request))
        _add_limit(request, traits, wire_request)
        effort = effort_for(request, traits, wire_request)
        if effort is not None:
            body["reasoning_effort"] = effort
        stops = sampling.stops(request, traits, wire_request, MAX_STOPS, needs_words=False)
        if stops:
            body["stop"] = stops[0] if request.parameters["stop"] == stops[0] else stops
        if request.tools:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                if name in request.parameters:
                    body[name] = request.parameters[name]
        _add_format(request, traits, wire_request)
        return wire_request

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return None
        choice = choices[0]
        raw_message = choice.get("message")
        message: dict[str, Any] = raw_message if isinstance(raw_message, dict) else {}
        tool_calls = _tool_calls(message)
        reason = finish_reason(choice.get("finish_reason"))
        if message.get("refusal") and not tool_calls:
            reason = "refusal"
        return Completion(
            response=text_of(message.get("content")),
            provider_finish_reason=reason,
            usage=_usage(body.get("usage")),
            tool_calls=tool_calls,
            failure=_failure_of(choice, reason),
        )


def check_content(request: ChatRequest, traits: ModelTraits) -> None:
    """Raise CannotCarry if the request contains what the model is known not to take."""
    if traits.tools is False and request.parameters.get("tool_choice") != "none" and request.tools:
        raise CannotCarry("tools", "the model calls no tools", "unsupported_parameter")
    if traits.tools is False and request.has_tool_messages:
        raise CannotCarry("messages", "the model takes no calls of tools")
    for index, message in enumerate(request.messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            path = "messages[%d].content[%d]" % (index, number)
            if part.get("type") == "image_url" and traits.vision is False:
                raise CannotCarry(path, "the model takes no pictures")
            if part.get("type") == "file" and traits.files is False:
                raise CannotCarry(path, "the model takes no files")


def effort_for(
    request: ChatRequest, traits: ModelTraits, wire_request: WireRequest
) -> Optional[str]:
    """Return the reasoning effort to send, or None."""
    requested = reasoning.requested(request)
    if requested is None:
        return None
    if traits.thinking == "none":
        if requested.effort != "none":
            wire_request.leave_out(requested.field, "the model does not reason")
        return None
    effort = reasoning.nearest(requested.effort, traits.efforts)
    if effort != requested.effort or requested.field == "thinking":
        wire_request.send_as(requested.field, effort, "the model takes it as a reasoning effort")
    return effort


class _Messages:
    """Messages as OpenAI's API takes them: those of the request, without what others need."""

    def __init__(
        self, request: ChatRequest, traits: ModelTraits, wire_request: WireRequest
    ) -> None:
        self._messages, self._traits, self._wire_request = request.messages, traits, wire_request
        nine = traits.call_id == "nine_alphanumeric"
        rule = call_ids.NINE_ALPHANUMERIC if nine else call_ids.ANY_40
        self._ids = call_ids.fit(request.messages, rule)

    def build(self) -> list[dict[str, Any]]:
        messages, caller = [], 0
        for index, message in enumerate(self._messages):
            if message["role"] == "tool":
                messages.append(self._tool(message, caller, index))
            elif message["role"] == "assistant":
                caller = index
                messages.append(self._assistant(message, index))
            else:
                messages.append(self._plain(message))
        if messages[-1]["role"] == "assistant" and self._traits.prefill is False:
            messages.append({"role": "user", "content": GO_ON})
            self._wire_request.leave_out(
                "messages", "the model continues no answer of its own; it was asked to go on"
            )
        return messages

    def _plain(self, message: Message) -> dict[str, Any]:
        role = message["role"]
        if role == "developer" and not self._traits.developer_role:
            # Servers that copy this API know the older name only; it means the same.
            role = "system"
        sent: dict[str, Any] = {"role": role, "content": message.get("content")}
        if message.get("name"):
            sent["name"] = message["name"]
        return sent

    def _assistant(self, message: Message, index: int) -> dict[str, Any]:
        sent = self._plain(message)
        if message.get("refusal"):
            sent["refusal"] = message["refusal"]
        if message.get("tool_calls"):
            sent["tool_calls"] = [self._call(call, index) for call in message["tool_calls"]]
        return sent

    def _call(self, call: ToolCall, index: int) -> dict[str, Any]:
        sent: dict[str, Any] = {
            "id": self._ids[index, call["id"]],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": normalize_arguments(call["function"]["arguments"]),
            },
        }
        google = call.get("extra_content", {}).get(_GOOGLE)
        if google and self._traits.thought_signatures:
            sent["extra_content"] = {_GOOGLE: google}
        return sent

    def _tool(self, message: Message, caller: int, index: int) -> dict[str, Any]:
        content = message.get("content") or ""
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if part.get("type") != "text":
                raise CannotCarry(
                    "messages[%d].content[%d]" % (index, number),
                    "results of tools are texts here",
                )
        call_id = message["tool_call_id"]
        return {
            "role": "tool",
            "tool_call_id": self._ids.get((caller, call_id), call_id),
            "content": content,
        }


def _add_limit(request: ChatRequest, traits: ModelTraits, wire_request: WireRequest) -> None:
    if request.max_tokens is None:
        return
    name = traits.token_limit
    if name is None:
        name = "max_tokens"
        if "max_completion_tokens" in request.parameters:
            name = "max_completion_tokens"
    wire_request.body[name] = wire_request.max_output_tokens = request.max_tokens


def _add_format(request: ChatRequest, traits: ModelTraits, wire_request: WireRequest) -> None:
    if not request.expects_json:
        return
    messages = wire_request.body["messages"]
    is_schema = request.response_schema is not None
    if traits.json_schema is False if is_schema else traits.json_mode is False:
        words = json_words.ask_in_words(request, wire_request, "the model has no such mode")
        json_words.add_instruction(messages, words)
        return
    wire_request.body["response_format"] = request.parameters["response_format"]
    if not is_schema and not json_words.mentions_json(request):
        json_words.add_instruction(messages, json_words.ANY_JSON)
        wire_request.leave_out(
            "messages", "JSON mode needs a message that mentions JSON; one was added"
        )


def _tool_calls(message: Mapping[str, Any]) -> list[ToolCall]:
    raw_calls = message.get("tool_calls")
    calls = []
    for raw in raw_calls if isinstance(raw_calls, list) else ():
        function = raw.get("function") if isinstance(raw, dict) else None
        if isinstance(function, dict):
            extra = raw.get("extra_content")
            calls.append(tool_call(
                raw.get("id"), function.get("name"), function.get("arguments"),
                extra if isinstance(extra, dict) else None,
            ))
    legacy = message.get("function_call")
    if not calls and isinstance(legacy, dict):
        calls.append(tool_call(None, legacy.get("name"), legacy.get("arguments")))
    return calls


def _failure_of(choice: Mapping[str, Any], reason: Optional[str]) -> Optional[Failure]:
    """Return the failure that a gateway reports beside half an answer, or None."""
    error = choice.get("error")
    if not isinstance(error, (dict, str)) or not error or reason in ("stop", "tool_calls"):
        return None
    clues = evidence.read(error)
    failure = failures.from_answer(200, {}, clues, 0.0, "model")
    if failure.cause == "malformed_answer":
        return failures.make_failure(
            "server_error", clues.message or "the provider failed", status=200
        )
    return failure


def _usage(counts: Any) -> Usage:
    """Return the tokens of a `usage`.

    Some providers leave those of reasoning out of `completion_tokens`, but not of the total.
    """
    prompt = token_count(counts, "prompt_tokens")
    reasoning_tokens = token_count(counts, "completion_tokens_details", "reasoning_tokens")
    return Usage(
        input_tokens=prompt,
        output_tokens=max(
            token_count(counts, "completion_tokens"),
            token_count(counts, "total_tokens") - prompt,
            reasoning_tokens,
        ),
        reasoning_tokens=reasoning_tokens,
        cached_tokens=token_count(counts, "prompt_tokens_details", "cached_tokens"),
    )
