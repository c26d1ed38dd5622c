"""What an LLM answered, in one shape for all wire formats, and whether that is a good answer."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from synthralos.calls.http import CallError, Response
from synthralos.calls.llm_wires import call_ids
from synthralos.calls.llm_wires.chat_messages import ToolCall
from synthralos.core import bounded_json, error_names, evidence, failures
from synthralos.core.failures import Failure
from synthralos.core.lazy_pattern import LazyPattern
from synthralos.telemetry.llm_pricing import TokenUsage

# What a name of an error means where it is the reason for which an answer ended.
_CAUSE_OF_FINISH = {
    "error": "server_error",
    "network": "truncated_stream",
    "timeout": "truncated_stream",
    "abort": "truncated_stream",
    "aborted": "truncated_stream",
    "cancelled": "truncated_stream",
    "failed": "server_error",
    "incomplete": "truncated_stream",
    # Anthropic: a tool of the provider takes longer than a turn may.
    "pause_turn": "truncated_stream",
    # Google.
    "other": "server_error",
    "image_other": "server_error",
    "finish_reason_unspecified": "truncated_stream",
    "continuation": "truncated_stream",
    "malformed_response": "invalid_output",
    "too_many_tool_calls": "invalid_output",
    "missing_thought_signature": "invalid_output",
}
STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
_CANONICAL = {
    "length": LENGTH,
    "max_tokens": LENGTH,
    "max_output_tokens": LENGTH,
    "model_length": LENGTH,
    "tool_calls": TOOL_CALLS,
    "tool_use": TOOL_CALLS,
    "function_call": TOOL_CALLS,
}
# "content_filter: PROHIBITED_CONTENT" too; anything longer is not a reason.
_FINISH_REASON = LazyPattern(r"^[A-Za-z][A-Za-z0-9_ :.-]{0,79}\Z")
_PLAIN_NAME = LazyPattern(r"^[A-Za-z_]{1,40}\Z")


@dataclass
class Usage:
    """The tokens of one call, as they are billed.

    :ivar input_tokens: those read from or written to a cache included.
    :ivar output_tokens: those of reasoning included.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def as_dict(self) -> TokenUsage:
        """Return the usage as a JSON value; reasoning and cached tokens only where there are any.
        """
        tokens: TokenUsage = {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
        }
        if self.reasoning_tokens:
            tokens["reasoning_tokens"] = self.reasoning_tokens
        if self.cached_tokens:
            tokens["cached_tokens"] = self.cached_tokens
        return tokens


@dataclass
class Completion:
    """An answer of a model, good or not.

    :ivar response: the text.
    :ivar provider_finish_reason: the provider's, or None if it named none.
    :ivar tool_calls: as OpenAI has them.
    :ivar failure: why the provider says that the answer failed, or None.
    """

    response: str
    provider_finish_reason: Optional[str]
    usage: Usage
    tool_calls: list[ToolCall] = field(default_factory=list)
    failure: Optional[Failure] = None

    @property
    def finish_reason(self) -> Optional[str]:
        """The reason in OpenAI's words: stop, length, tool_calls or content_filter.

        None if the provider named none.
        """
        reason = self.provider_finish_reason
        if reason is None:
            return None
        if cause_of_finish(reason) == "content_policy":
            return CONTENT_FILTER
        canonical = _CANONICAL.get(error_names.normalize(reason), STOP)
        # Some providers say that the answer ended, whether it is a text or calls.
        return TOOL_CALLS if self.tool_calls and canonical == STOP else canonical

    def as_dict(self) -> dict[str, Any]:
        """Return {response, finish_reason, provider_finish_reason, usage}, and tool_calls if the
        model requested tools.
        """
        result: dict[str, Any] = {
            "response": self.response,
            "finish_reason": self.finish_reason,
            "provider_finish_reason": self.provider_finish_reason,
            "usage": self.usage.as_dict(),
        }
        if self.tool_calls:
            result["tool_calls"] = self.tool_calls
        return result


def tool_call(
    call_id: Any, name: Any, arguments: Any, extra: Optional[dict[str, Any]] = None
) -> ToolCall:
    """Return a call in an answer, as OpenAI has it.

    :param arguments: an object, or its text; no arguments are `{}`.
    :param extra: what only the next request to this provider needs, under the provider's name.
    """
    if isinstance(arguments, str) and arguments.strip():
        text = arguments
    else:
        text = json.dumps(arguments) if isinstance(arguments, dict) else "{}"
    call: ToolCall = {
        "id": call_id if isinstance(call_id, str) and call_id else call_ids.new_id(),
        "type": "function",
        "function": {"name": name if isinstance(name, str) else "", "arguments": text},
    }
    if extra:
        call["extra_content"] = extra
    return call


def read_response(
    read: Callable[[Mapping[str, Any]], Optional[Completion]], response: Response, now: float
) -> Completion:
    """Return the completion in a response with a success status.

    :param read: of the wire.
    :param now: seconds since the epoch, to read hints that are dates.
    :raises CallError: the body is an error, a web page, or not what the API returns.
    """
    try:
        body = bounded_json.loads(response.text)
    except ValueError as error:
        raise CallError(_not_json(response)) from error
    completion = read(body) if isinstance(body, dict) and not _is_error(body) else None
    if completion is None:
        raise CallError(_error_in_success(response, body, now))
    return completion


def problem_of(
    completion: Completion, max_tokens: Optional[int] = None, max_calls: Optional[int] = None
) -> Optional[Failure]:
    """Return why a completion is not a good answer, or None.

    A good answer is complete by its finish reason, and has text or calls of tools whose arguments
    are objects.

    :param max_tokens: of the request, or None; for the message.
    :param max_calls: how many calls the request allows, or None for any number.
    """
    if completion.failure is not None:
        return completion.failure
    reason = completion.provider_finish_reason
    if not reason:
        return _failure("truncated_stream", "the answer has no finish reason")
    cause = cause_of_finish(reason)
    if cause == "content_policy":
        return _failure(cause, "the provider filtered the answer (%s)" % reason)
    if cause is not None:
        return _failure(cause, "the answer is not complete (%s)" % reason)
    if completion.tool_calls:
        return _problem_of_calls(completion, max_calls)
    if completion.response.strip():
        return None
    if completion.finish_reason == LENGTH:
        limit = "max_tokens" if max_tokens is None else "max_tokens, %d," % max_tokens
        return _failure(
            "output_limit", "the model used all of %s before it answered anything" % limit
        )
    return _failure("blank_output", "the model answered nothing")


def _problem_of_calls(completion: Completion, max_calls: Optional[int]) -> Optional[Failure]:
    for call in completion.tool_calls:
        if not call["function"]["name"]:
            return _failure("invalid_output", "the model called a tool without a name")
        try:
            arguments = bounded_json.loads(call["function"]["arguments"])
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            if completion.finish_reason == LENGTH:
                message = "max_tokens ended the answer within the arguments of a tool call"
                return _failure("output_limit", message)
            return _failure("invalid_output", "the arguments of a tool call are not an object")
    if max_calls is not None and len(completion.tool_calls) > max_calls:
        message = "the model called %d tools, and the request allows %d" % (
            len(completion.tool_calls), max_calls)
        return _failure("invalid_output", message)
    return None


@functools.lru_cache(maxsize=256)
def cause_of_finish(reason: str) -> Optional[str]:
    """Return the cause of a failure that a finish reason names, or None if it names none."""
    for part in [reason] + reason.split(":"):
        name = error_names.normalize(part)
        cause = _CAUSE_OF_FINISH.get(name) or error_names.telling_cause([name])
        if cause is not None:
            return cause
    return None


def finish_reason(value: Any) -> Optional[str]:
    """Return a finish reason, or None if it is none."""
    is_reason = isinstance(value, str) and _FINISH_REASON.match(value) is not None
    # It becomes an output of workflows: a good answer has a plain word.
    if not is_reason or not (_PLAIN_NAME.match(value) or cause_of_finish(value)):
        return None
    return str(value)


def token_count(counts: Any, *path: str) -> int:
    """Return the number of tokens under a path of names, or 0 if it is none."""
    for name in path:
        counts = counts.get(name) if isinstance(counts, Mapping) else None
    is_count = isinstance(counts, int) and not isinstance(counts, bool) and counts > 0
    return counts if is_count else 0


def _failure(cause: str, message: str) -> Failure:
    return failures.make_failure(cause, message, status=200)


def _is_error(body: Mapping[str, Any]) -> bool:
    """Return whether a body is an error in spite of its status: gateways pass on what they got."""
    answers = ("choices", "content", "candidates", "output")
    return bool(body.get("error")) and not any(body.get(name) for name in answers)


def _error_in_success(response: Response, body: Any, now: float) -> Failure:
    if isinstance(body, (dict, list)):
        clues = evidence.read(body)
        if _has_error(body) or clues.names or clues.statuses:
            failure = failures.from_answer(response.status, response.headers, clues, now, "model")
            if failure.cause != "malformed_answer" or clues.message:
                return failure
    return _failure("malformed_answer", "the answer does not have the shape of the API")


def _has_error(body: Any) -> bool:
    return isinstance(body, dict) and any(body.get(name) for name in ("error", "message", "detail"))


def _not_json(response: Response) -> Failure:
    if evidence.read(response.text).is_html:
        return _failure("wrong_address", "the answer is a web page instead of JSON")
    return _failure("malformed_answer", "the answer is not JSON")
