"""Builds trigger payloads from failures and loops that an agent platform reports.

Platforms name the same field differently: `agentId`, `agent_id`, `agent: {id}`. Known fields are
read under any of their names. Other fields are dropped, or stored in `failure_details` and
`context`, which are bounded.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypedDict

from synthralos.core import bounded_json, causes, failures, timestamps
from synthralos.sensing import payload_limits

_AGENT = ("agent_id", "agentId", "agent", "agentName", "agent_name")
_TASK = ("task_id", "taskId", "task")
_ID = ("error_id", "errorId", "event_id", "eventId", "id")
_TIME = ("occurred_at", "occurredAt", "timestamp", "time", "createdAt", "created_at")
_QUERY = ("original_query", "originalQuery", "query", "input")
_TYPE = ("failure_type", "failureType")
_MESSAGE = ("message", "error_message", "errorMessage", "error", "details", "reason")
_KIND = ("kind", "loop_type", "loopType", "pattern_type", "patternType")
_EVIDENCE = (
    "errorType", "error_type", "eventType", "event_type", "level", "framework", "traceId",
    "trace_id", "status", "latencyMs", "tool", "model", "provider",
)
_LINKS = ("traceId", "trace_id", "executionId", "execution_id", "workflowId", "workspaceId")
# Types that say nothing specific.
_VAGUE = ("error", "unknown")


class FailurePayload(TypedDict):
    """A payload of `synthralos.agent_failure`. `failure_details` and `context` are bounded."""

    source: str
    error_id: str
    agent_id: Optional[str]
    task_id: Optional[str]
    failure_type: str
    failure_details: dict[str, Any]
    original_query: Optional[str]
    context: dict[str, Any]
    occurred_at: str


class LoopPayload(TypedDict):
    """A payload of `synthralos.agent_loop`. `details` is bounded."""

    source: str
    agent_id: str
    task_id: Optional[str]
    kind: str
    severity: str
    details: dict[str, Any]
    occurred_at: str


def failure_payload(
    body: Any, source: str, now: float, error_id: Optional[str] = None
) -> FailurePayload:
    """Build the payload of `synthralos.agent_failure` from an object or a text.

    :param error_id: the id to use if `body` has none; by default one is derived from its content.
    :param now: seconds since the epoch, used if `body` has no time.
    """
    body = _unwrap(body)
    message = payload_limits.to_text(_first_value(body, _MESSAGE))
    return {
        "source": source,
        "error_id": payload_limits.first_text([_first_value(body, _ID), error_id]) or
        content_id(body),
        "agent_id": _name(body, _AGENT),
        "task_id": _name(body, _TASK),
        "failure_type": _failure_type(body, message),
        "failure_details": _details(body, message),
        "original_query": payload_limits.first_text(
            _all_values(body, _QUERY), payload_limits.MAX_QUERY_CHARS
        ),
        "context": _context(body),
        "occurred_at": timestamps.to_iso(time_of(body, now), milliseconds=True),
    }


def loop_payload(body: Any, source: str, now: float) -> LoopPayload:
    """Build the payload of `synthralos.agent_loop` from an object or a text."""
    body = _unwrap(body)
    severity = body.get("severity")
    details = body.get("details")
    if not isinstance(details, dict):
        top_level_names = _AGENT + _TASK + _TIME + _KIND + ("severity",)
        details = {name: value for name, value in body.items() if name not in top_level_names}
    return {
        "source": source,
        "agent_id": _name(body, _AGENT) or "unknown",
        "task_id": _name(body, _TASK),
        "kind": payload_limits.first_text(_all_values(body, _KIND), 128) or "unknown",
        "severity": severity if severity in causes.SEVERITIES else "high",
        "details": payload_limits.limit_object(details),
        "occurred_at": timestamps.to_iso(time_of(body, now), milliseconds=True),
    }


def native_id(body: Any) -> Optional[str]:
    """Return the id in an object, or None."""
    return payload_limits.first_text([_first_value(_unwrap(body), _ID)])


def content_id(body: Any) -> str:
    """Derive an id from time, place and message: the same each time an error is listed."""
    names = ("timestamp", "traceId", "message") + _AGENT + _QUERY
    identity: Any = [body.get(name) for name in names] if isinstance(body, dict) else []
    if not any(identity):
        identity = body
    try:
        text = json.dumps(identity, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        # Nested too deeply to be written.
        text = repr(sorted(map(str, body))) if isinstance(body, dict) else type(body).__name__
    return hashlib.sha256(text.encode("ascii", "replace")).hexdigest()[:24]


def time_of(body: Any, default: float) -> float:
    """Return when it happened, in seconds since the epoch; `default` if that is unknown."""
    if isinstance(body, dict):
        for value in _all_values(body, _TIME):
            seconds = timestamps.parse_timestamp(value)
            if seconds is not None:
                return seconds
    return default


def _unwrap(body: Any) -> dict[str, Any]:
    """Return an object; the content of an envelope such as {type, data: {...}} is merged into it.
    """
    if isinstance(body, str):
        try:
            body = bounded_json.loads(body)
        except ValueError:
            return {"message": body}
    if not isinstance(body, dict):
        return {"message": payload_limits.to_text(body)}
    for name in ("data", "payload"):
        if isinstance(body.get(name), dict):
            outer = {key: value for key, value in body.items() if key != name}
            return dict(outer, **body[name])
    return body


def _failure_type(body: Mapping[str, Any], message: str) -> str:
    for value in _all_values(body, _TYPE + ("errorType", "error_type")):
        resolved_type = causes.resolve_type(value) if isinstance(value, str) else None
        if resolved_type is not None and resolved_type[0] not in _VAGUE:
            return resolved_type[0]
    type_of_message = failures.from_text(message).type if message else "unknown"
    # Something did fail; nothing more is known.
    return (
        "error"
        if type_of_message == "unknown" and _first_value(body, _EVIDENCE) is not None
        else type_of_message
    )


def _details(body: Mapping[str, Any], message: str) -> dict[str, Any]:
    source_details = body.get("failure_details", body.get("failureDetails"))
    details = dict(source_details) if isinstance(source_details, dict) else {}
    if message:
        details.setdefault("message", message)
    for name in _EVIDENCE:
        if name in body:
            details.setdefault(name, body[name])
    return payload_limits.limit_object(details)


def _context(body: Mapping[str, Any]) -> dict[str, Any]:
    source_context = body.get("context")
    context = dict(source_context) if isinstance(source_context, dict) else {}
    for name in _LINKS:
        if name in body:
            context.setdefault(name, body[name])
    return payload_limits.limit_object(context)


def _name(body: Mapping[str, Any], names: Iterable[str]) -> Optional[str]:
    for value in _all_values(body, names):
        if isinstance(value, dict):
            value = payload_limits.first_text([value.get("id"), value.get("name")])
        name = payload_limits.first_text([value])
        if name is not None:
            return name
    return None


def _all_values(body: Mapping[str, Any], names: Iterable[str]) -> list[Any]:
    return [body[name] for name in names if name in body]


def _first_value(body: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((value for value in _all_values(body, names) if value is not None), None)
