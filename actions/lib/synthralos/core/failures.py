"""Failures: their types and causes, and which of them another attempt can cure."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from re import Pattern
from typing import Any, Optional

from synthralos.core import bounded_json
from synthralos.core.causes import (
    ALIASES,
    CAUSE_OF_TYPE,
    CAUSES,
    SEVERITIES,
    TYPES,
    Cause,
    resolve_type,
)

__all__ = [
    "ALIASES", "CAUSES", "CAUSE_OF_TYPE", "Cause", "Failure", "SEVERITIES", "TYPES",
    "cause_of_text", "from_http", "from_text", "make_failure", "resolve_type", "retry_after",
    "with_evidence",
]

MAX_HINT_SECONDS = 24 * 3600.0
MAX_MESSAGE_SHOWN = 300


@dataclass(frozen=True)
class Failure:
    """One failure, classified.

    :ivar type: one of TYPES.
    :ivar cause: a key of CAUSES.
    :ivar severity: one of SEVERITIES.
    :ivar message: for people, at most MAX_MESSAGE_SHOWN characters.
    :ivar status: the HTTP status, or None.
    :ivar retry_after: seconds after which the other side asked to be called again, or None.
    :ivar evidence: further facts that decide about a retry, such as `sent`.
    """

    type: str
    cause: str
    severity: str
    message: str
    status: Optional[int] = None
    retry_after: Optional[float] = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> Cause:
        """How failures of this cause are treated."""
        return CAUSES[self.cause]

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as a JSON value; `evidence` only where there is any."""
        fields: dict[str, Any] = {
            "type": self.type,
            "cause": self.cause,
            "severity": self.severity,
            "message": self.message,
            "status": self.status,
            "retry_after": self.retry_after,
        }
        if self.evidence:
            fields["evidence"] = self.evidence
        return fields


def make_failure(
    cause: str,
    message: Any = "",
    status: Optional[int] = None,
    retry_after: Optional[float] = None,
    type: Optional[str] = None,
) -> Failure:
    """Return a Failure of `cause`, with the cause's severity and, unless `type` is set, its type.

    :param message: white space is collapsed, and it is shortened to MAX_MESSAGE_SHOWN characters.
    :raises KeyError: the cause is not one of CAUSES.
    """
    policy = CAUSES[cause]
    message = " ".join(str(message).split())
    if len(message) > MAX_MESSAGE_SHOWN:
        message = message[: MAX_MESSAGE_SHOWN - 3] + "..."
    return Failure(type or policy.type, cause, policy.severity, message, status, retry_after)


_QUOTA_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_error")
# "HTTP 429", "status 429", "status code: 429", "code=429".
_STATUS = r"(?:http(?:/[0-9.]+)?|status(?:[ _]code)?|code)[ :=]{1,2}"

# Matched as whole words: "capital" does not contain "api". The first pattern that matches names the
# cause.
_PATTERN_TEXTS = [
    ("rate_limit", r"rate[ _-]?limit(?:s|ed|ing|_exceeded)?|too many requests|@@429"),
    ("quota", r"(?:insufficient[ _])?quota(?:_exceeded)?|billing|out of credits?|spending limit"),
    (
        "context_length",
        r"context[ _](?:length|window|limit)(?:_exceeded)?|maximum context|too many tokens|"
        r"prompt is too long|token limit|token count .{0,60}exceeds",
    ),
    (
        "content_policy",
        r"content[ _](?:policy|filter(?:ed|ing)?)|safety (?:system|policy)|moderation",
    ),
    (
        "authentication",
        r"unauthori[sz]ed|unauthenticated|authentication(?:_error)?|"
        r"invalid[ _](?:api[ _]key|token)|"
        r"auth(?:entication)? (?:error|failed|failure)|@@401",
    ),
    ("permission", r"forbidden|permission[ _]denied|access denied|@@403"),
    (
        "model_not_found",
        r"model[ _]not[ _]found|(?:unknown|no such) model|model .{0,80}does not exist",
    ),
    (
        "timeout",
        r"time[ds]?[ -]?out|no answer (?:with)?in|timeouts?|timeout_error|"
        r"deadline exceeded|took too long|etimedout",
    ),
    ("overloaded", r"overload(?:ed)?(?:_error)?|at capacity|@@529"),
    (
        "network",
        r"connection|network(?:_error)?|dns|unreachable|econn\w+|enotfound|socket|"
        r"communication(?:_error)?|broken pipe|(?:service|region|provider|host|server) unavailable",
    ),
    (
        "infinite_loop",
        r"infinite[ _]loop|stuck in a loop|loop detected|max(?:imum)?[ _]iterations|"
        r"recursion limit",
    ),
    (
        "resource",
        r"out of memory|oom(?:killed)?|memory(?:error| limit)|no space left|disk (?:is )?full|"
        r"resource_error|resource exhausted",
    ),
    (
        "configuration",
        r"misconfigur\w+|configuration(?:_error)?|not configured|missing (?:environment|setting)",
    ),
    ("server_error", r"internal server error|bad gateway|@@50[0-4]|server error"),
    ("tool_failure", r"tools?|tool_failure|function call"),
    (
        "schema_mismatch",
        r"schema|validation(?:_error)?|"
        r"(?:invalid|malformed|unexpected) (?:json|output|response|format)|"
        r"pars(?:e|ing) error|could not parse|jsondecodeerror",
    ),
    ("blank_output", r"(?:empty|blank|no) (?:output|response|answer)"),
]
_LLM_WORDS = re.compile(
    r"(?i)(?<![A-Za-z0-9])(?:llm|openai|anthropic|gemini|model|completion|api)(?![A-Za-z0-9])"
)
_MAX_CHARS_READ = 20_000
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@functools.cache
def _patterns() -> list[tuple[str, Pattern[str]]]:
    """Return (cause, pattern), compiled at the first use: most actions never read a text."""
    alone = r"(?i)(?<![A-Za-z0-9])(?:%s)(?![A-Za-z0-9])"
    return [
        (cause, re.compile(alone % words.replace("@@", _STATUS))) for cause, words in _PATTERN_TEXTS
    ]


def cause_of_text(text: Any) -> Optional[str]:
    """Return the cause that `text` mentions, or None. Reads the first 20,000 characters."""
    text = str(text)[:_MAX_CHARS_READ]
    # Names of exceptions are words in camel case: ReadTimeout, RateLimitError.
    split_words = _CAMEL_CASE.sub(" ", text)
    for cause, words in _patterns():
        if words.search(text) or words.search(split_words):
            return cause
    return None


def from_text(text: Any, type: Optional[str] = None) -> Failure:
    """Return the failure that `text` describes.

    :param type: one of TYPES; default: the type that the words suggest.
    """
    cause = cause_of_text(text)
    if cause is None:
        cause = CAUSE_OF_TYPE.get(type or "", "unknown")
        if type is None and _LLM_WORDS.search(str(text)[:_MAX_CHARS_READ]):
            type = "llm_error"
    return make_failure(cause, text, type=type)


def from_http(
    status: int, headers: Mapping[str, str], text: str, now: float, call_kind: str
) -> Failure:
    """Return the failure that an HTTP response describes.

    :param headers: with names in lower case.
    :param text: the body.
    :param now: seconds since the epoch, to read a `Retry-After` that is a date.
    :param call_kind: what was called: a "model" at a provider, where a 404 can only mean the
        model; a "model request", which names a model, so that a 404 may be about it; a "request"
        or an "agent".
    """
    body = _json(text)
    code, message = _error_of(body)
    message = message or ("HTTP %d" % status)
    hint = retry_after(headers, body, now)
    cause = _cause_of_status(status, code, message, call_kind, hint)
    return make_failure(cause, message, status=status, retry_after=hint)


# What these statuses mean whatever the body says.
_CAUSE_OF_STATUS = {
    401: "authentication",
    402: "quota",
    408: "request_timeout",
    409: "conflict",
    504: "timeout",
    529: "overloaded",
}
_OVERLOADED_CODES = ("overloaded_error", "overloaded")


def _cause_of_status(
    status: int, code: str, message: str, call_kind: str, retry_hint: Optional[float]
) -> str:
    names_model = call_kind in ("model", "model request")
    error_text = "%s %s" % (code, message)
    if status in _CAUSE_OF_STATUS:
        return _CAUSE_OF_STATUS[status]
    if status == 429:
        # Google calls a limit per minute a quota too, but says when it ends.
        no_hint_but_quota = retry_hint is None and cause_of_text(error_text) == "quota"
        return "quota" if code in _QUOTA_CODES or no_hint_but_quota else "rate_limit"
    if status < 400:
        # Redirects are not followed: the configured address is not the right one.
        return "configuration"
    if code in _OVERLOADED_CODES:
        return "overloaded"
    if status >= 500:
        return "server_error"
    text_cause = cause_of_text(error_text)
    if status == 403:
        return "content_policy" if text_cause == "content_policy" else "permission"
    if status == 404:
        missing = call_kind == "model" or (names_model and _mentions_model(error_text))
        return "model_not_found" if missing else "not_found"
    if status == 413:
        return "context_length" if names_model else "bad_request"
    if text_cause in ("context_length", "content_policy", "quota"):
        return text_cause
    if names_model and text_cause == "model_not_found":
        return text_cause
    return "bad_request"


def _mentions_model(error_text: str) -> bool:
    mentions = re.search(r"(?i)\bmodels?\b", error_text) is not None
    return mentions or cause_of_text(error_text) == "model_not_found"


def _json(text: str) -> Any:
    try:
        return bounded_json.loads(text)
    except (ValueError, TypeError):
        return None


def _error_of(body: Any) -> tuple[str, str]:
    """Return (code, message) of an error body: of OpenAI, Anthropic, Google or the platform."""
    if not isinstance(body, dict):
        return "", ""
    error = body.get("error", body.get("detail", body.get("message")))
    if isinstance(error, dict):
        code = error.get("code") or error.get("type") or error.get("status") or ""
        return str(code), str(error.get("message") or code)
    if isinstance(error, str):
        details = body.get("message") or body.get("details")
        return "", error if not isinstance(details, str) else "%s: %s" % (error, details)
    return "", ""


def retry_after(headers: Mapping[str, str], body: Any, now: float) -> Optional[float]:
    """Return the seconds until the other side wants to be called again, or None.

    Reads `retry-after-ms`, `Retry-After` in seconds or as an HTTP date, and `retryDelay` ("30s")
    in a JSON body. The result is bounded to 0 and MAX_HINT_SECONDS; invalid values are ignored.

    :param now: seconds since the epoch.
    """
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return _bounded(millis / 1000.0)
    header_value = headers.get("retry-after")
    if header_value is not None:
        seconds = _number(header_value)
        if seconds is not None:
            return _bounded(seconds)
        # It brings sockets and calendars along, for one date that few servers send.
        import email.utils

        try:
            return _bounded(email.utils.parsedate_to_datetime(header_value).timestamp() - now)
        except (TypeError, ValueError, OverflowError, IndexError):
            pass
    delay = _retry_delay(body)
    return None if delay is None else _bounded(delay)


def _retry_delay(body: Any, depth: int = 0) -> Optional[float]:
    if depth > 6:
        return None
    if isinstance(body, dict):
        delay_text = body.get("retryDelay")
        if isinstance(delay_text, str) and delay_text.endswith("s"):
            return _number(delay_text[:-1])
        body = list(body.values())
    if isinstance(body, list):
        for item in body[:50]:
            seconds = _retry_delay(item, depth + 1)
            if seconds is not None:
                return seconds
    return None


def _number(text: Any) -> Optional[float]:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_HINT_SECONDS)


def with_evidence(failure: Failure, **evidence: Any) -> Failure:
    """Return a copy of `failure` with further evidence."""
    return replace(failure, evidence=dict(failure.evidence, **evidence))
