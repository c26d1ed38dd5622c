"""The wire format of OpenAI's chat completions, which most providers and servers speak."""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.calls.llm_wires.completion import (
    Authorize,
    Completion,
    Usage,
    finish_reason,
    text_of,
    token_count,
)
from synthralos.core import evidence, failures
from synthralos.core.failures import Failure


class OpenAI:
    path, listing = "/chat/completions", "/models"
    headers: dict[str, str] = {}
    authorize: Optional[Authorize] = None

    @staticmethod
    def body(
        model: str, messages: list[dict[str, Any]], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        return dict(parameters, model=model, messages=messages)

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return None
        choice = choices[0]
        raw_message = choice.get("message")
        message: dict[str, Any] = raw_message if isinstance(raw_message, dict) else {}
        tool_calls = message.get("tool_calls")
        reason = finish_reason(choice.get("finish_reason"))
        if message.get("refusal") and not tool_calls:
            reason = "refusal"
        return Completion(
            response=text_of(message.get("content")),
            finish_reason=reason,
            usage=_usage(body.get("usage")),
            tool_calls=tool_calls if isinstance(tool_calls, list) else [],
            failure=_failure_of(choice, reason),
        )


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
    reasoning = token_count(counts, "completion_tokens_details", "reasoning_tokens")
    return Usage(
        input_tokens=prompt,
        output_tokens=max(
            token_count(counts, "completion_tokens"),
            token_count(counts, "total_tokens") - prompt,
            reasoning,
        ),
        reasoning_tokens=reasoning,
        cached_tokens=token_count(counts, "prompt_tokens_details", "cached_tokens"),
    )
