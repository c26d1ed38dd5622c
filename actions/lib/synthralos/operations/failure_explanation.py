"""`failure.explain`: what a failure means, and what a run would try after it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.calls import relations, targets
from synthralos.calls.relations import Target
from synthralos.core import failures
from synthralos.core.causes import LATER, NEVER
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

# What was called, and the kind of targets that a run would go on with.
TARGET_KINDS = {
    "model": "providers",
    "model request": "routes",
    "request": "routes",
    "agent": "platform",
}
_STATUS_LINE = re.compile(r"^HTTP/[0-9.]+ ([1-5][0-9]{2})\b")
_HEADER_LINE = re.compile(r"^([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*(.*)\Z")
# `curl -v` marks what was received; the rest is about the connection and the request.
_CURL_RECEIVED, _CURL_OTHER = re.compile(r"^< ?"), re.compile(r"^[*>}{] ?")


class NextTarget(TypedDict):
    """:ivar timing: one of causes.TIMINGS."""

    target: str
    timing: str


class Explanation(TypedDict):
    """The result of failure.explain.

    :ivar speaks_of: what is broken, for people.
    :ivar hint_seconds: after which the other side asked to be called again, or None.
    :ivar relations: {relation to the failed target: timing}, from the table of causes.
    :ivar failed_target: the configured target that is taken for the failed one, or None.
    :ivar targets: the configured targets of its kind, in order, and when a run would try them.
    """

    summary: str
    cause: str
    description: str
    type: str
    severity: str
    speaks_of: str
    message: str
    status: Optional[int]
    hint_seconds: Optional[float]
    may_have_taken_effect: bool
    counts_for_breaker: bool
    relations: dict[str, str]
    failed_target: Optional[str]
    targets: list[NextTarget]


@dataclass(frozen=True)
class PastedResponse:
    """:ivar headers: with names in lower case."""

    status: Optional[int]
    body: str
    headers: dict[str, str] = field(default_factory=dict)


def explain(env: "Environment", parameters: Mapping[str, Any]) -> Explanation:
    """Explain a failure. Nothing is called and nothing is stored; no configuration is needed.

    :param parameters: `failure` (text: a body, a whole response as curl prints it, or what an SDK
        or an agent printed), and perhaps `status_code`, `headers`, `kind` (of the call) and
        `target`.
    :raises InvalidInput: a parameter is not valid, or the target is not configured.
    """
    text = parameters.get("failure")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(
            "failure", text, "must be text and not blank",
            "Paste a response, its body, or the text of an exception",
        )
    kind = parameters.get("kind") or "model"
    if kind not in TARGET_KINDS:
        raise InvalidInput(
            "kind", kind, "is unknown", "Use one of " + ", ".join(TARGET_KINDS)
        )
    pasted = parse_pasted(text)
    status = parameters.get("status_code") or pasted.status
    headers = dict(pasted.headers, **_headers(parameters.get("headers")))
    failure = _classify(pasted.body, status, headers, kind, env.now())
    configured = targets.configured(env.settings)[TARGET_KINDS[kind]]
    failed_target = _find(configured, parameters.get("target"))
    return _explanation(failure, failed_target, configured, env.settings.fall_over)


def parse_pasted(text: str) -> PastedResponse:
    """Return the status, headers and body of a response that was pasted whole, else the text as the
    body. Of several, as after a redirect, the last counts.
    """
    lines = text.strip().splitlines()
    if any(_CURL_RECEIVED.match(line) for line in lines):
        lines = [_CURL_RECEIVED.sub("", line) for line in lines if not _CURL_OTHER.match(line)]
    starts = [index for index, line in enumerate(lines) if _STATUS_LINE.match(line)]
    if not starts:
        return PastedResponse(None, text)
    status_line = _STATUS_LINE.match(lines[starts[-1]])
    headers, body_start = {}, len(lines)
    for index in range(starts[-1] + 1, len(lines)):
        header = _HEADER_LINE.match(lines[index])
        if header is None:
            body_start = index
            break
        headers[header.group(1).lower()] = header.group(2).strip()
    body = "\n".join(lines[body_start:]).strip()
    return PastedResponse(int(status_line.group(1)) if status_line else None, body, headers)


def _headers(headers: Optional[Mapping[str, Any]]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in (headers or {}).items()}


def _classify(
    body: str, status: Optional[int], headers: Mapping[str, str], kind: str, now: float
) -> Failure:
    if status is None:
        return failures.from_text(body)
    if 200 <= status < 300:
        return failures.from_answer(status, headers, body, now, kind)
    return failures.from_http(status, headers, body, now, kind)


def _find(configured: list[Target], name: Optional[str]) -> Optional[Target]:
    """Return the target of that name, with or without its kind and account; without one, the first.
    """
    if name is None:
        return configured[0] if configured else None
    for target in configured:
        target_names = [target.name]
        if target.account_name is not None:
            target_names.append(target.name.rpartition("@")[0])
        if any(name in (full, full.partition(":")[2]) for full in target_names):
            return target
    names = ", ".join(target.name for target in configured) or "none"
    raise InvalidInput("target", name, "is not configured", "Known targets: " + names)


def _explanation(
    failure: Failure,
    failed_target: Optional[Target],
    configured: list[Target],
    overrides: Mapping[str, bool],
) -> Explanation:
    policy, scope = failure.policy, failure.policy.speaks_of
    next_targets: list[NextTarget] = [
        {"target": other.name, "timing": _timing_of(failure, failed_target, other, overrides)}
        for other in configured
    ]
    return {
        "summary": _summary(failure, next_targets),
        "cause": failure.cause,
        "description": policy.description,
        "type": failure.type,
        "severity": failure.severity,
        "speaks_of": scope.subject,
        "message": failure.message,
        "status": failure.status,
        "hint_seconds": failure.retry_after,
        "may_have_taken_effect": policy.may_have_taken_effect,
        "counts_for_breaker": policy.counts_for_breaker,
        "relations": {
            "same_target": failure.same_target,
            "same_account": scope.same_account,
            "same_address": scope.same_address,
            "same_host": scope.same_host,
            "same_provider": scope.same_provider,
            "other_providers": scope.other_providers,
        },
        "failed_target": failed_target.name if failed_target else None,
        "targets": next_targets,
    }


def _timing_of(
    failure: Failure, failed_target: Optional[Target], other: Target, overrides: Mapping[str, bool]
) -> str:
    if failed_target is None or other is failed_target:
        return failure.same_target
    return relations.timing_after(failure, failed_target, other, overrides)


def _summary(failure: Failure, next_targets: list[NextTarget]) -> str:
    text = "%s: %s; it speaks of %s" % (
        failure.cause, failure.policy.description, failure.policy.speaks_of.subject
    )
    if failure.retry_after is not None:
        text += "; the other side asks to wait %.4g s" % failure.retry_after
    timings = [(entry["target"], entry["timing"]) for entry in next_targets]
    following = [name for name, timing in timings if timing not in (NEVER, LATER)]
    if following:
        text += "; next: " + ", ".join(following[:5])
    elif timings:
        text += "; no other configured target would be tried"
    return text
