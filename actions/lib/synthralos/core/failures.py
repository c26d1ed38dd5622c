"""What can go wrong, what it is called, and what another try can cure."""

import functools
import math
import re
from dataclasses import dataclass, field, replace
from typing import Optional

from synthralos.core import bounded_json

TYPES = ("timeout", "error", "invalid_output", "tool_failure", "llm_error", "unknown")
SEVERITIES = ("low", "medium", "high", "critical")
# Names that other error handlers use, accepted wherever a failure type is: (type, cause).
ALIASES = {
    "agent_failure": ("error", "agent_failed"),
    "communication_error": ("llm_error", "network"),
    "timeout_error": ("timeout", "timeout"),
    "validation_error": ("invalid_output", "schema_mismatch"),
    "infinite_loop": ("error", "infinite_loop"),
    "resource_error": ("error", "resource"),
    "configuration_error": ("error", "configuration"),
    "unknown_error": ("unknown", None),
}
MAX_HINT_SECONDS = 24 * 3600.0
MAX_MESSAGE_SHOWN = 300


@dataclass(frozen=True)
class Cause:
    """What is known of a cause.

    :ivar type: the failure type it belongs to when nothing says otherwise.
    :ivar severity: one of SEVERITIES.
    :ivar again: whether the same target may be tried again, after a wait.
    :ivar elsewhere: whether another target may be tried, at once.
    :ivar trips: whether it counts against the target's breaker.
    """

    type: str
    severity: str
    retry_same_target: bool
    retry_other_target: bool
    counts_for_breaker: bool = False


CAUSES = {
    "timeout": Cause("timeout", "high", True, True, counts_for_breaker=True),
    "network": Cause("llm_error", "high", True, True, counts_for_breaker=True),
    "server_error": Cause("error", "high", True, True, counts_for_breaker=True),
    "overloaded": Cause("llm_error", "high", True, True, counts_for_breaker=True),
    "truncated_stream": Cause("llm_error", "medium", True, True, counts_for_breaker=True),
    "request_timeout": Cause("timeout", "medium", True, True),
    "malformed_answer": Cause("invalid_output", "medium", True, True),
    "conflict": Cause("error", "medium", True, True),
    "rate_limit": Cause("llm_error", "medium", True, True),
    "quota": Cause("llm_error", "high", False, True),
    # Our own: no model may be asked any more.
    "budget": Cause("llm_error", "high", False, False),
    "authentication": Cause("llm_error", "high", False, True),
    "permission": Cause("llm_error", "high", False, True),
    "model_not_found": Cause("llm_error", "high", False, True),
    "context_length": Cause("llm_error", "medium", False, True),
    "content_policy": Cause("llm_error", "medium", False, False),
    "bad_request": Cause("error", "medium", False, False),
    "not_found": Cause("error", "medium", False, False),
    "blank_output": Cause("invalid_output", "medium", True, True),
    "schema_mismatch": Cause("invalid_output", "medium", True, True),
    "invalid_output": Cause("invalid_output", "low", True, True),
    "agent_failed": Cause("error", "high", True, True),
    "tool_failure": Cause("tool_failure", "medium", True, True),
    "resource": Cause("error", "critical", True, True),
    "configuration": Cause("error", "high", False, True),
    "infinite_loop": Cause("error", "critical", True, True),
    "cancelled": Cause("error", "low", False, False),
    "unknown": Cause("unknown", "medium", True, True),
}
CAUSE_OF_TYPE = {
    "timeout": "timeout",
    "error": "agent_failed",
    "invalid_output": "invalid_output",
    "tool_failure": "tool_failure",
    "llm_error": "unknown",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class Failure:
    """One failure, classified.

    :ivar type: one of TYPES.
    :ivar cause: a key of CAUSES.
    :ivar severity: one of SEVERITIES.
    :ivar message: what a person reads, at most SHOWN_MESSAGE characters.
    :ivar status: the HTTP status, where there was one.
    :ivar retry_after: seconds after which the other side asked to be called again, or None.
    """

    type: str
    cause: str
    severity: str
    message: str
    status: Optional[int] = None
    retry_after: Optional[float] = None
    evidence: dict = field(default_factory=dict)

    @property
    def policy(self):
        return CAUSES[self.cause]

    def as_dict(self):
        shown = {
            "type": self.type,
            "cause": self.cause,
            "severity": self.severity,
            "message": self.message,
            "status": self.status,
            "retry_after": self.retry_after,
        }
        if self.evidence:
            shown["evidence"] = self.evidence
        return shown


def make_failure(cause, message="", status=None, retry_after=None, type=None):
    """A Failure of `cause`; its type and severity are the cause's own unless `type` is given."""
    known = CAUSES[cause]
    message = " ".join(str(message).split())
    if len(message) > MAX_MESSAGE_SHOWN:
        message = message[: MAX_MESSAGE_SHOWN - 3] + "..."
    return Failure(type or known.type, cause, known.severity, message, status, retry_after)


_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_error")
# "HTTP 429", "status 429", "status code: 429", "code=429".
_STATUS = r"(?:http(?:/[0-9.]+)?|status(?:[ _]code)?|code)[ :=]{1,2}"

# Words are matched as words: "capital" holds no "api". The first pattern that matches names the
# cause.
_SPOKEN = [
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
_READ_TEXT = 20_000
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@functools.cache
def _patterns():
    """Compiled when a text is first read: most actions never read one."""
    alone = r"(?i)(?<![A-Za-z0-9])(?:%s)(?![A-Za-z0-9])"
    return [(cause, re.compile(alone % words.replace("@@", _STATUS))) for cause, words in _SPOKEN]


def cause_of_text(text):
    """The cause that `text` speaks of, or None. Reads the first 20,000 characters."""
    text = str(text)[:_READ_TEXT]
    # Names of exceptions are words run together: ReadTimeout, RateLimitError.
    apart = _HUMP.sub(" ", text)
    for cause, words in _patterns():
        if words.search(text) or words.search(apart):
            return cause
    return None


def from_text(text, type=None):
    """The failure that `text` tells of, of the type given, else of the type its words suggest."""
    cause = cause_of_text(text)
    if cause is None:
        cause = CAUSE_OF_TYPE.get(type, "unknown")
        if type is None and _LLM_WORDS.search(str(text)[:_READ_TEXT]):
            type = "llm_error"
    return make_failure(cause, text, type=type)


def resolve_type(given):
    """(type, cause or None) of a failure type or one of the ALIASES; None when it is neither."""
    name = str(given).strip().lower()
    if name in TYPES:
        return name, None
    return ALIASES.get(name)


def from_http(status, headers, text, now, of):
    """The failure that an HTTP answer tells of.

    :param headers: a mapping; names in lower case.
    :param text: the body.
    :param now: seconds since the epoch, to read a `Retry-After` that is a date.
    :param of: what was called: a "model" at a provider, where a 404 can only mean the model; a
        "model request", which names a model, so that a 404 may speak of it; a "request" or an
        "agent".
    """
    body = _json(text)
    code, message = _error_of(body)
    message = message or ("HTTP %d" % status)
    hint = retry_after(headers, body, now)
    cause = _cause_of_status(status, code, message, of, hint)
    return make_failure(cause, message, status=status, retry_after=hint)


def _cause_of_status(status, code, message, of, hint):
    names_model = of in ("model", "model request")
    told = "%s %s" % (code, message)
    if status == 429:
        # Google calls a limit per minute a quota too, but says when it ends.
        spent = code in _SPENT or (hint is None and cause_of_text(told) == "quota")
        return "quota" if spent else "rate_limit"
    if status < 400:
        # Redirects are not followed: the configured address is not the right one.
        return "configuration"
    if status == 408:
        return "request_timeout"
    if status == 504:
        return "timeout"
    if status == 409:
        return "conflict"
    if status == 529 or code in ("overloaded_error", "overloaded"):
        return "overloaded"
    if status >= 500:
        return "server_error"
    if status == 401:
        return "authentication"
    if status == 402:
        return "quota"
    if status == 403:
        return "content_policy" if cause_of_text(told) == "content_policy" else "permission"
    if status == 404:
        missing = of == "model" or (names_model and _mentions_model(told))
        return "model_not_found" if missing else "not_found"
    if status == 413:
        return "context_length" if names_model else "bad_request"
    spoken = cause_of_text(told)
    if spoken in ("context_length", "content_policy", "quota"):
        return spoken
    if names_model and spoken == "model_not_found":
        return spoken
    return "bad_request"


def _mentions_model(told):
    return (
        cause_of_text(told) == "model_not_found" or re.search(r"(?i)\bmodels?\b", told) is not None
    )


def _json(text):
    try:
        return bounded_json.loads(text)
    except (ValueError, TypeError):
        return None


def _error_of(body):
    """(code, message) of an error body: OpenAI's, Anthropic's, Google's or the platform's."""
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


def retry_after(headers, body, now):
    """Seconds until the other side wants to be called again, or None.

    Reads `retry-after-ms`, `Retry-After` in seconds or as an HTTP date, and `retryDelay` ("30s")
    in a JSON body. What is negative, no number or beyond a day is cut to 0 and LONGEST_HINT.
    """
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return _bounded(millis / 1000.0)
    told = headers.get("retry-after")
    if told is not None:
        seconds = _number(told)
        if seconds is not None:
            return _bounded(seconds)
        # It brings sockets and calendars along, for one date that few servers send.
        import email.utils

        try:
            return _bounded(email.utils.parsedate_to_datetime(told).timestamp() - now)
        except (TypeError, ValueError, OverflowError, IndexError):
            pass
    delay = _retry_delay(body)
    return None if delay is None else _bounded(delay)


def _retry_delay(body, depth=0):
    if depth > 6:
        return None
    if isinstance(body, dict):
        told = body.get("retryDelay")
        if isinstance(told, str) and told.endswith("s"):
            return _number(told[:-1])
        body = list(body.values())
    if isinstance(body, list):
        for item in body[:50]:
            found = _retry_delay(item, depth + 1)
            if found is not None:
                return found
    return None


def _number(text):
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds):
    return min(max(seconds, 0.0), MAX_HINT_SECONDS)


def with_evidence(found, **evidence):
    return replace(found, evidence=dict(found.evidence, **evidence))
