"""The wire format of Anthropic's messages."""

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

VERSION = "2023-06-01"
# The API requires a limit.
DEFAULT_MAX_TOKENS = 4096


def _api_key(secret: str) -> dict[str, str]:
    return {"x-api-key": secret}


class Anthropic:
    path, listing = "/v1/messages", "/v1/models"
    headers = {"anthropic-version": VERSION}

    def __init__(self) -> None:
        self.authorize: Optional[Authorize] = _api_key

    @staticmethod
    def body(
        model: str, messages: list[dict[str, Any]], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        system = [
            text_of(message.get("content")) for message in messages
            if message["role"] in ("system", "developer")
        ]
        body = {
            name: value for name, value in parameters.items() if name not in ("max_tokens", "stop")
        }
        body.update(
            model=model,
            messages=[
                message for message in messages if message["role"] not in ("system", "developer")
            ],
            max_tokens=parameters.get("max_tokens", DEFAULT_MAX_TOKENS),
        )
        if system:
            body["system"] = "\n\n".join(system)
        if parameters.get("stop"):
            stop = parameters["stop"]
            body["stop_sequences"] = stop if isinstance(stop, list) else [stop]
        return body

    @staticmethod
    def read(body: Mapping[str, Any]) -> Optional[Completion]:
        blocks = body.get("content")
        if not isinstance(blocks, list):
            return None
        blocks = [block for block in blocks if isinstance(block, dict)]
        return Completion(
            response="".join(
                text_of(block.get("text")) for block in blocks if block.get("type") == "text"
            ),
            finish_reason=finish_reason(body.get("stop_reason")),
            usage=_usage(body.get("usage")),
            tool_calls=[block for block in blocks if block.get("type") == "tool_use"],
        )


def _usage(counts: Any) -> Usage:
    """Return the tokens of a `usage`: `input_tokens` leaves out what the cache served or stored."""
    cached = token_count(counts, "cache_read_input_tokens")
    stored = token_count(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=token_count(counts, "input_tokens") + cached + stored,
        output_tokens=token_count(counts, "output_tokens"),
        cached_tokens=cached,
    )
