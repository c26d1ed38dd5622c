"""Failures and loops of agents, as a platform tells of them, as payloads of triggers.

Platforms name the same thing differently: `agentId`, `agent_id`, `agent: {id}`. What is known is
taken from wherever it stands; all else is left out, or kept in `failure_details` and `context`,
which are bounded.
"""

import hashlib
import json

from synthralos.core import bounded_json, failures, timestamps
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
# What tells of no type in particular.
_VAGUE = ("error", "unknown")


def failure_payload(told, source, now, error_id=None):
    """The payload of `synthralos.agent_failure` that an object, or a text, tells of.

    :param error_id: the id that it came with, if any; else its own, else one made of its content.
    :param now: seconds since the epoch, for what names no time.
    """
    told = _unwrap(told)
    message = payload_limits.to_text(_first_value(told, _MESSAGE))
    return {
        "source": source,
        "error_id": payload_limits.first_text([_first_value(told, _ID), error_id]) or
        content_id(told),
        "agent_id": _name(told, _AGENT),
        "task_id": _name(told, _TASK),
        "failure_type": _failure_type(told, message),
        "failure_details": _details(told, message),
        "original_query": payload_limits.first_text(
            _all_values(told, _QUERY), payload_limits.MAX_QUERY_CHARS
        ),
        "context": _context(told),
        "occurred_at": timestamps.to_iso(time_of(told, now), milliseconds=True),
    }


def loop_payload(told, source, now):
    """The payload of `synthralos.agent_loop` that an object, or a text, tells of."""
    told = _unwrap(told)
    severity = told.get("severity")
    details = told.get("details")
    if not isinstance(details, dict):
        unresolved_alerts = _AGENT + _TASK + _TIME + _KIND + ("severity",)
        details = {name: value for name, value in told.items() if name not in unresolved_alerts}
    return {
        "source": source,
        "agent_id": _name(told, _AGENT) or "unknown",
        "task_id": _name(told, _TASK),
        "kind": payload_limits.first_text(_all_values(told, _KIND), 128) or "unknown",
        "severity": severity if severity in failures.SEVERITIES else "high",
        "details": payload_limits.limit_object(details),
        "occurred_at": timestamps.to_iso(time_of(told, now), milliseconds=True),
    }


def native_id(told):
    """The id that an object bears, or None."""
    return payload_limits.first_text([_first_value(_unwrap(told), _ID)])


def content_id(told):
    """An id made of when, where and what: the same for the same error, however often it is listed.
    """
    names = ("timestamp", "traceId", "message") + _AGENT + _QUERY
    seen = [told.get(name) for name in names] if isinstance(told, dict) else []
    if not any(seen):
        seen = told
    try:
        text = json.dumps(seen, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        # Nested too deeply to be written.
        text = repr(sorted(map(str, told))) if isinstance(told, dict) else type(told).__name__
    return hashlib.sha256(text.encode("ascii", "replace")).hexdigest()[:24]


def time_of(told, otherwise):
    """When it happened, in seconds since the epoch."""
    if isinstance(told, dict):
        for value in _all_values(told, _TIME):
            seconds = timestamps.parse_timestamp(value)
            if seconds is not None:
                return seconds
    return otherwise


def _unwrap(told):
    """An object; what an envelope such as {type, data: {...}} holds stands beside the envelope's.
    """
    if isinstance(told, str):
        try:
            told = bounded_json.loads(told)
        except ValueError:
            return {"message": told}
    if not isinstance(told, dict):
        return {"message": payload_limits.to_text(told)}
    for name in ("data", "payload"):
        if isinstance(told.get(name), dict):
            outer = {key: value for key, value in told.items() if key != name}
            return dict(outer, **told[name])
    return told


def _failure_type(told, message):
    for value in _all_values(told, _TYPE + ("errorType", "error_type")):
        known = failures.resolve_type(value) if isinstance(value, str) else None
        if known is not None and known[0] not in _VAGUE:
            return known[0]
    spoken = failures.from_text(message).type if message else "unknown"
    # Something did fail: that is all that is known.
    return "error" if spoken == "unknown" and _first_value(told, _EVIDENCE) is not None else spoken


def _details(told, message):
    given = told.get("failure_details", told.get("failureDetails"))
    details = dict(given) if isinstance(given, dict) else {}
    if message:
        details.setdefault("message", message)
    for name in _EVIDENCE:
        if name in told:
            details.setdefault(name, told[name])
    return payload_limits.limit_object(details)


def _context(told):
    given = told.get("context")
    context = dict(given) if isinstance(given, dict) else {}
    for name in _LINKS:
        if name in told:
            context.setdefault(name, told[name])
    return payload_limits.limit_object(context)


def _name(told, names):
    for value in _all_values(told, names):
        if isinstance(value, dict):
            value = payload_limits.first_text([value.get("id"), value.get("name")])
        found = payload_limits.first_text([value])
        if found is not None:
            return found
    return None


def _all_values(told, names):
    return [told[name] for name in names if name in told]


def _first_value(told, names):
    return next((value for value in _all_values(told, names) if value is not None), None)
