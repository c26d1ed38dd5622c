"""Failures, classified: from HTTP responses, from texts, and from what reporters attach.

What is innermost and telling decides: a name that says the cause, then the phrases of the message
that fit the HTTP status, then the status. The table in `core/causes.py` says what follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from synthralos.core import error_names, error_phrases, evidence
from synthralos.core.causes import CAUSE_OF_TYPE, CAUSES, LATER, NEVER, Cause, resolve_type
from synthralos.core.evidence import Evidence
from synthralos.core.lazy_pattern import LazyPattern
from synthralos.core.retry_hints import hint_in_words, retry_hint

MAX_MESSAGE_SHOWN = 300

# What a call was made to: a "model" at a provider, where a 404 can only mean the model or the
# address; a "model request", which names a model, so that a 404 may be about it; a "request" or an
# "agent".
CALL_KINDS = ("model", "model request", "request", "agent")

_CAUSE_OF_STATUS = {
    401: "authentication",
    402: "quota",
    403: "permission",
    405: "wrong_address",
    407: "wrong_address",
    408: "request_timeout",
    409: "conflict",
    410: "not_found",
    413: "request_too_large",
    421: "wrong_address",
    424: "server_error",
    425: "server_error",
    426: "wrong_address",
    429: "rate_limit",
    451: "content_policy",
    # Groq: over capacity.
    498: "overloaded",
    # nginx, Google: the call was cancelled on their side.
    499: "server_error",
    504: "timeout",
    # Cloudflare: the origin is down, is silent, cannot be reached, or answered too late.
    521: "network",
    522: "timeout",
    523: "network",
    524: "timeout",
    529: "overloaded",
}
# The causes that the words of an error may name, the first of them first. Others are not looked
# for: the words of a 500 may be anything.
_PHRASES_OF_REFUSAL = (
    "idempotency_key_reused",
    "invalid_output",
    "quota/all models",
    "model_quota",
    "unsupported_content",
    "unsupported_parameter",
    "context_length",
    "quota",
    "model_not_found",
    "content_policy",
    "authentication",
    "overloaded",
    "permission/location",
    "permission/model access",
)
_PHRASES_OF_STATUS = {
    401: ("quota",),
    402: (),
    403: ("content_policy", "quota", "model_quota", "authentication", "model_not_found"),
    404: (
        "unsupported_content",
        "unsupported_parameter",
        "permission/model access",
        "model_not_found",
        "authentication",
    ),
    408: (),
    409: (),
    413: ("model_quota", "context_length"),
    429: ("quota/all models", "model_quota", "quota", "overloaded/capacity"),
}
_PHRASES_OF_SERVER_ERROR = ("context_length", "unsupported_content", "overloaded")
# Of a text without a status: all of them, the most telling first.
_PHRASES_OF_TEXT = (
    "quota/all models",
    "model_quota",
    "quota",
    "rate_limit",
    "context_length",
    "content_policy",
    "authentication",
    "model_not_found",
    "unsupported_content",
    "unsupported_parameter",
    "invalid_output",
    "permission",
    "overloaded",
)
# With a page for people instead of JSON, they come from a server that is not the API.
_STATUSES_OF_PAGES = (400, 404, 405, 406, 410, 411, 414, 415, 431)
# A proxy may answer with these whatever the status was that it received.
_UNTELLING_STATUSES = (400, 422, 424, 500, 502, 503)
# Parameters that shape an answer, without which the same thing is asked for.
SAMPLING_PARAMETERS = frozenset((
    "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "top_p", "top_k",
    "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed", "logit_bias",
    "logprobs", "top_logprobs", "user", "metadata", "reasoning_effort", "parallel_tool_calls",
    "service_tier", "store", "verbosity", "thinking",
))
_NAMED_PARAMETER = LazyPattern(
    r"(?ix) (?:parameters?|params?|values?|arguments?|fields?|argument\s+supplied) \W{1,4}"
    r"[`'\"]? ([a-z][a-z_]{1,40}(?:\.[a-z_]{2,40})*) [`'\"]?"
    r" | ^\W? ([a-z][a-z_.]{1,40}) \s*: "
    r" | [`'\"]([a-z][a-z_]{1,40})[`'\"] "
    r" | \b (temperature|top_p|top_k|max_tokens|logprobs|seed) \b"
)
_REPLACEMENT = LazyPattern(r"(?i)use [`'\"]?([a-z][a-z_]{1,40})[`'\"]? instead")
# What a server says of a path that it does not have, in the words of frameworks and gateways.
_BARE_404 = LazyPattern(
    r"(?i)(?:.{0,10}(?:404|not found|page not found|no route)\W*(?:page )?(?:not found)?\W*"
    r"(?:please check .*)?"
    r"|(?:invalid|unknown) (?:request )?url.*|no (?:static )?(?:resource|route|handler)\b.*"
    r"|cannot (?:post|get) .*)\Z"
)


@dataclass(frozen=True)
class Failure:
    """One failure, classified.

    :ivar type: one of causes.TYPES.
    :ivar cause: a key of causes.CAUSES.
    :ivar severity: one of causes.SEVERITIES.
    :ivar message: for people, at most MAX_MESSAGE_SHOWN characters.
    :ivar status: the HTTP status, or None.
    :ivar retry_after: seconds after which the other side asked to be called again, or None.
    :ivar evidence: further facts that decide about a retry: `sent` (false where the request did not
        leave), `ran` (true where an agent worked before it failed), `live` (true where it may still
        work), `should_retry` (false where the server forbids it), `parameter` and `replacement` (of
        an unsupported parameter), `resets_after` (seconds until a spent quota is renewed).
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

    @property
    def same_target(self) -> str:
        """When the target that failed may be called again, one of causes.TIMINGS: never where the
        server forbids it.
        """
        if self.evidence.get("should_retry") is False:
            return NEVER
        return self.policy.speaks_of.same_target

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
    evidence: Optional[dict[str, Any]] = None,
) -> Failure:
    """Return a Failure of `cause`, with the cause's severity and, unless `type` is set, its type.

    :param message: white space is collapsed, and it is shortened to MAX_MESSAGE_SHOWN characters.
    :raises KeyError: the cause is not one of CAUSES.
    """
    policy = CAUSES[cause]
    message = " ".join(str(message).split())
    if len(message) > MAX_MESSAGE_SHOWN:
        message = message[: MAX_MESSAGE_SHOWN - 3] + "..."
    return Failure(
        type or policy.type, cause, policy.severity, message, status, retry_after, evidence or {}
    )


def with_evidence(failure: Failure, **evidence: Any) -> Failure:
    """Return a copy of `failure` with further evidence."""
    return replace(failure, evidence=dict(failure.evidence, **evidence))


def from_http(
    status: int, headers: Mapping[str, str], text: Any, now: float, call_kind: str
) -> Failure:
    """Return the failure that an HTTP response describes.

    :param status: any but a success. A success whose body is an error is one for `from_answer`.
    :param headers: with names in lower case.
    :param text: the body, as text, bytes or a JSON value.
    :param now: seconds since the epoch, to read hints that are dates.
    :param call_kind: one of CALL_KINDS.
    """
    return _from_evidence(status, headers, _read_response(headers, text), now, call_kind)


def from_answer(
    status: int, headers: Mapping[str, str], body: Any, now: float, call_kind: str
) -> Failure:
    """Return the failure of a response with a success status whose body is an error.

    :param body: a JSON value, or its Evidence; its own statuses and names decide.
    """
    return _from_evidence(status, headers, _read_response(headers, body), now, call_kind)


def from_text(text: Any, type: Optional[str] = None) -> Failure:
    """Return the failure that a text describes: words, the text of an exception, a pasted response.

    :param type: one of TYPES; default: the type that the words suggest.
    """
    clues = evidence.read(text)
    cause = _cause_of_reported(clues, str(text))
    message = clues.message or text
    if cause is None:
        cause = CAUSE_OF_TYPE.get(type or "", "unknown")
        if type is None and error_phrases.mentions_llm(str(text)[: evidence.MAX_CHARS_READ]):
            type = "llm_error"
    hint = hint_in_words(clues.text) if _may_wait(cause) else None
    return make_failure(cause, message, type=type, retry_after=hint)


def from_report(report: Mapping[str, Any], type: Optional[str] = None) -> Failure:
    """Return the failure that a report describes: the details that came with a failed agent.

    :param report: a JSON object; its messages, names and statuses are read at any depth.
    :param type: one of TYPES, which the failure keeps, or one of ALIASES, whose cause comes first;
        default: the type that the report suggests.
    """
    resolved_type, cause = resolve_type(type) or ("unknown", None)
    clues = evidence.read(report)
    failure_type = None if resolved_type == "unknown" else resolved_type
    reported_cause = cause or _cause_of_reported(clues, "")
    if reported_cause is None and failure_type is None:
        return from_text(clues.text)
    return make_failure(
        reported_cause or CAUSE_OF_TYPE[resolved_type],
        clues.message,
        type=failure_type,
    )


def cause_of(value: Any) -> Optional[str]:
    """Return the cause that `value` names, or None.

    :param value: a text, a JSON value, an exception, or the Evidence in one; of each text the first
        20,000 characters are read.
    """
    return _cause_of_reported(evidence.read(value), value if isinstance(value, str) else "")


def _read_response(headers: Mapping[str, str], body: Any) -> Evidence:
    clues = evidence.read(body)
    # AWS names its errors in a header: "ThrottlingException:http://internal.amazon.com/...".
    error_type = headers.get("x-amzn-errortype")
    return replace(clues, names=clues.names + (error_type.split(":")[0],)) if error_type else clues


def _from_evidence(
    status: int, headers: Mapping[str, str], clues: Evidence, now: float, call_kind: str
) -> Failure:
    hint = retry_hint(headers, clues, now)
    cause = _cause_of_response(_telling_status(status, clues), clues, call_kind, hint)
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if should_retry == "true" and cause == "bad_request":
        cause = "server_error"
    facts: dict[str, Any] = {}
    if should_retry == "false" and CAUSES[cause].retry_same_target:
        facts["should_retry"] = False
    if hint is not None and cause in ("quota", "model_quota"):
        facts["resets_after"] = hint
    if cause == "unsupported_parameter":
        facts.update(_refused_parameter(clues))
    return make_failure(
        cause,
        clues.message or "HTTP %d" % status,
        status=status,
        retry_after=hint if _may_wait(cause) else None,
        evidence=facts,
    )


def _may_wait(cause: str) -> bool:
    return CAUSES[cause].speaks_of.same_target == LATER


def _telling_status(status: int, clues: Evidence) -> int:
    """Return the status that the error is about: a proxy may have put its own before it."""
    inner = clues.statuses[0] if clues.statuses else None
    if inner is None or not (200 <= status < 300 or status in _UNTELLING_STATUSES):
        return status
    return inner


def _cause_of_response(status: int, clues: Evidence, call_kind: str, hint: Optional[float]) -> str:
    if 300 <= status < 400:
        # Redirects are not followed: the configured address is not the right one.
        return "wrong_address"
    names_model = call_kind in ("model", "model request")
    telling = error_names.telling_cause(clues.names)
    if telling is not None and _fits(telling, status, call_kind):
        return telling
    if status < 300:
        # An error inside a success that has no status of its own.
        status = error_names.general_status(clues.names) or 0
        if not status:
            return _cause_of_reported(clues, clues.text) or "malformed_answer"
    cause = error_phrases.provider_cause(clues.messages, _phrases(status, names_model))
    if status == 429:
        return _cause_of_429(cause, clues, hint)
    if cause is not None:
        return cause
    if names_model and clues.is_html and status in _STATUSES_OF_PAGES:
        return "wrong_address"
    if status == 401 and error_names.general_status(clues.names) == 403:
        return "permission"
    if status in (404, 410):
        return _cause_of_404(clues, call_kind)
    if status == 400:
        general = error_names.general_status(clues.names)
        if general in (401, 403, 404, 429):
            return _cause_of_response(general, replace(clues, names=()), call_kind, hint)
        if names_model and clues.field("param") in SAMPLING_PARAMETERS:
            return "unsupported_parameter"
    if status in _CAUSE_OF_STATUS:
        return _CAUSE_OF_STATUS[status]
    return "server_error" if status >= 500 else "bad_request"


def _fits(cause: str, status: int, call_kind: str) -> bool:
    """Return whether a name may decide against a status.

    A server's own failure is a matter of the moment, whatever else the body says, unless the name
    speaks of the request, the model or the account.
    """
    if status == 409 or (status == 408 and cause == "timeout"):
        return False
    if cause in ("server_error", "network", "timeout") and 400 <= status < 500:
        return status in (408, 424, 499)
    return call_kind != "agent" or status != 404


def _phrases(status: int, names_model: bool) -> tuple[str, ...]:
    if status >= 500:
        # A gateway that says that the origin is silent may guess that it is overloaded.
        is_telling = CAUSES[_CAUSE_OF_STATUS.get(status, "server_error")].scope == "host"
        return _PHRASES_OF_SERVER_ERROR if names_model and not is_telling else ()
    phrases = _PHRASES_OF_STATUS.get(status, _PHRASES_OF_REFUSAL)
    if names_model:
        return phrases
    of_models = ("model_not_found", "unsupported_content", "unsupported_parameter")
    return tuple(cause for cause in phrases if cause not in of_models)


def _cause_of_429(cause: Optional[str], clues: Evidence, hint: Optional[float]) -> str:
    """Google calls a limit per minute a quota too, under a status of its own."""
    if cause == "quota":
        is_google = any(error_names.normalize(name) == "resource_exhausted" for name in clues.names)
        is_short = error_phrases.provider_cause(clues.messages, ("rate_limit/per minute",))
        is_spent = error_phrases.provider_cause(clues.messages, ("quota/spent credit",))
        may_wait = is_google or (is_short and hint is not None)
        return "rate_limit" if may_wait and not is_spent else "quota"
    return cause or "rate_limit"


def _cause_of_404(clues: Evidence, call_kind: str) -> str:
    if call_kind == "model":
        is_page = clues.is_html or _BARE_404.match(clues.message) is not None
        return "wrong_address" if is_page else "model_not_found"
    if call_kind == "model request" and error_phrases.mentions_model(clues.text):
        return "model_not_found"
    return "not_found"


def _cause_of_reported(clues: Evidence, text: str) -> Optional[str]:
    """Return the cause that a report names, or None: it may be of a call or of an agent."""
    telling = error_names.telling_cause(clues.names)
    if telling is not None:
        return telling
    status = clues.statuses[0] if clues.statuses else error_names.general_status(clues.names)
    messages = clues.messages or ((text[: evidence.MAX_CHARS_READ],) if text else ())
    if status is not None and (status != 400 or clues.statuses):
        cause = _cause_of_response(status, replace(clues, statuses=()), "model request", None)
        # Not of this pack is a key that somebody else has used twice.
        if cause not in ("bad_request", "not_found", "idempotency_key_reused"):
            return cause
    return error_phrases.provider_cause(messages, _PHRASES_OF_TEXT) or error_phrases.general_cause(
        "\n".join(messages)
    ) or (_CAUSE_OF_STATUS.get(status, "bad_request") if status else None)


def _refused_parameter(clues: Evidence) -> dict[str, str]:
    """Return {parameter, replacement} that an error names; replacement only where it names one."""
    named = clues.field("param", "parameter")
    # LiteLLM prints Python's None.
    if not isinstance(named, str) or named in ("", "None", "null"):
        match = _NAMED_PARAMETER.search(clues.message)
        named = next((group for group in match.groups() if group), "") if match else ""
    if not named:
        return {}
    facts = {"parameter": named.rpartition(".")[2]}
    replacement = _REPLACEMENT.search(clues.message)
    if replacement is not None:
        facts["replacement"] = replacement.group(1)
    return facts
