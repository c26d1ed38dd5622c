"""Turns failures that a platform reports, and failed executions, into incidents."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional

from synthralos.automation import admission, alert_incidents, observation, outcomes
from synthralos.automation.incident import Incident, failure_fields
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.timestamps import parse_iso
from synthralos.sensing import agent_payloads
from synthralos.storage import incidents, last_queries
from synthralos.storage.stackstorm_api import Row, StackStormError

if TYPE_CHECKING:
    from synthralos.automation.config import AutomationConfig
    from synthralos.runtime.environment import Environment

PACK = "synthralos"
MAX_DEPTH = 10
MAX_MESSAGE_CHARS = 2000
# Of other packs, whose secrets are unknown to the redactor.
MAX_STDERR_CHARS = 300
# How far a platform's clock may differ from ours.
CLOCK_SECONDS = 5
_ATTRIBUTES = "id,parameters,status,result,context,action.ref,start_timestamp"
MASKED = "********"
# The parameters of a failed action that hold what would be run again.
_REQUEST_PARAMETERS: dict[str, tuple[str, ...]] = {
    "agent_recovery": ("original_query", "query", "input", "prompt"),
    "llm_retry": ("prompt", "messages"),
    "reroute_request": ("endpoint", "body"),
}
_SECRET_HINT = (
    "StackStorm does not show secret parameters: start the workflow with the text itself, or do "
    "not declare the parameter as secret"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]+")


def receive(
    env: "Environment", config: "AutomationConfig", payload: Mapping[str, Any]
) -> dict[str, Any]:
    """Process the failure of an agent.

    :param payload: of synthralos.agent_failure or synthralos.agent_loop, or of a webhook ({body}):
        any object of the platform that names an agent.
    :returns: {summary, outcome, subject, workflow, run, ticket}.
    """
    body = payload.get("body") if isinstance(payload.get("body"), dict) else payload
    failure_payload = agent_payloads.failure_payload(
        body, str(payload.get("source") or "webhook"), env.now()
    )
    agent = failure_payload["agent_id"] if is_name(failure_payload["agent_id"]) else None
    query = failure_payload["original_query"]
    if query is None:
        execution_id = failure_payload["context"].get("execution_id")
        query = alert_incidents.query_of_execution(env, execution_id)
    if query is None and agent is not None:
        query = last_queries.last_query(env.store, agent)
    if agent is not None and _is_caused_by_recovery(env, agent, failure_payload["occurred_at"]):
        result = _own_execution(agent)
        return dict({"summary": _summary(result)}, **result)
    details = failure_payload["failure_details"]
    message = str(details.get("message") or failure_payload["failure_type"])[:MAX_MESSAGE_CHARS]
    failure = failures.from_report(dict(details, message=message), failure_payload["failure_type"])
    blocked_reason = outcomes.NO_QUERY if query is None else None
    incident = Incident(
        id="error-" + failure_payload["error_id"],
        since=failure_payload["occurred_at"],
        subject=agent or "unknown",
        workflow="agent_recovery" if agent else None,
        parameters={
            "agent_id": agent,
            "failure_type": failure_payload["failure_type"],
            "original_query": "@case",
        },
        request={
            "original_query": query,
            "failure_details": details,
            "context": _with_key(failure_payload["context"], failure_payload["error_id"]),
        },
        failure=failure_fields(failure),
        summary="%s failed: %s" % (agent or "an agent without a usable name", message),
        blocked=blocked_reason if agent else outcomes.NO_WORKFLOW,
        is_state=False,
    )
    admitted = admission.admit(env, config, incident)
    return dict({"summary": _summary(admitted)}, **admitted)


def _own_execution(subject: Optional[str]) -> dict[str, Any]:
    """Return the result for a failure that a run of this pack has met, and handles itself."""
    return {
        "outcome": outcomes.OWN_EXECUTION,
        "subject": subject,
        "workflow": None,
        "run": None,
        "ticket": None,
    }


def _is_caused_by_recovery(env: "Environment", agent: str, occurred_at: str) -> bool:
    """Whether the failure occurred during an attempt of one of our recoveries.

    The platform lists these failures too, and each of them would start the next recovery.
    """
    failed_at = parse_iso(occurred_at)
    if failed_at is None or env.api is None:
        return False
    for attempt in incidents.recent_attempts(env.store, agent):
        if attempt["at"] - CLOCK_SECONDS > failed_at:
            continue
        try:
            run = env.api.execution(attempt["run"], "end_timestamp")
        except StackStormError:
            continue
        if failed_at <= (parse_iso(run.get("end_timestamp")) or env.now()) + CLOCK_SECONDS:
            return True
    return False


def receive_execution(
    env: "Environment", config: "AutomationConfig", payload: Mapping[str, Any]
) -> dict[str, Any]:
    """Process a failed execution, as core.st2.generic.actiontrigger reports it.

    :returns: {summary, outcome, subject, workflow, run, ticket}.
    :raises InvalidInput: the payload names no execution.
    """
    execution_id = payload.get("execution_id")
    if env.api is None or not isinstance(execution_id, str):
        raise InvalidInput(
            "execution_id", execution_id, "does not name a readable execution",
            "Start this action from a rule on core.st2.generic.actiontrigger",
        )
    execution = env.api.execution(execution_id, _ATTRIBUTES)
    result: Mapping[str, Any]
    if _is_pack_execution(env, execution):
        result = _own_execution(None)
    else:
        result = admission.admit(env, config, incident_of(env, config, execution))
    return dict({"summary": _summary(result)}, **result)


def incident_of(env: "Environment", config: "AutomationConfig", execution: Row) -> Incident:
    """Build the Incident of a failed execution.

    The workflow is the one configured for its action, else the one that its parameters fit.
    """
    ref = (execution.get("action") or {}).get("ref") or "unknown"
    stored = execution.get("parameters") or {}
    parameters = {name: value for name, value in stored.items() if value != MASKED}
    message = message_of(execution)
    status = execution.get("status")
    failure = failures.from_text(message, "timeout" if status == "timeout" else None)
    failed_action = config.failed_actions.get(ref)
    workflow = failed_action.workflow if failed_action else workflow_for(parameters)
    subject, blocked_reason = _UNSAFE.sub("_", ref), None
    run_parameters: dict[str, Any] = {}
    request: dict[str, Any] = {}
    names = _REQUEST_PARAMETERS.get(workflow or "", ())
    if workflow == "agent_recovery":
        raw_agent = failed_action.agent_id if failed_action else None
        raw_agent = raw_agent or parameters.get("agent_id")
        agent = raw_agent if isinstance(raw_agent, str) and is_name(raw_agent) else None
        names = (failed_action.query_from,) if failed_action and failed_action.query_from else names
        query = _text(parameters, names)
        if agent is not None:
            subject = agent
            # A secret query is another one than the last that is known.
            if query is None and _masked_name(stored, names) is None:
                query = last_queries.last_query(env.store, agent)
            run_parameters = {
                "agent_id": agent, "failure_type": failure.type, "original_query": "@case",
            }
        blocked_reason = outcomes.NO_QUERY if query is None else None
        blocked_reason = outcomes.NO_WORKFLOW if agent is None else blocked_reason
        request = {
            "original_query": query,
            "failure_details": {"message": message, "action": ref},
            "context": _with_key(parameters.get("context"), execution["id"]),
        }
    elif workflow == "llm_retry":
        run_parameters = {"original_request": {}, "failure_reason": "@case"}
        request = {"original_request": _llm_request(parameters), "failure_reason": message}
    elif workflow == "reroute_request":
        run_parameters = {"original_request": {}, "failure_reason": "@case"}
        request = {"original_request": _http_request(parameters), "failure_reason": message}
    details = {"execution_id": execution["id"]}
    masked_name = _masked_name(stored, names)
    if masked_name is not None and (workflow != "agent_recovery" or query is None):
        blocked_reason = outcomes.SECRET_REQUEST
        details.update(field=masked_name, hint=_SECRET_HINT)
    return Incident(
        id="execution-" + execution["id"],
        since=str(execution.get("start_timestamp") or ""),
        subject=subject,
        workflow=workflow,
        parameters=run_parameters,
        request=request,
        failure=failure_fields(failure),
        summary="%s failed: %s" % (ref, message),
        blocked=blocked_reason if workflow else outcomes.NO_WORKFLOW,
        is_state=False,
        details=details,
    )


def _masked_name(stored: Mapping[str, Any], names: Iterable[str]) -> Optional[str]:
    """Return the first of these parameters that StackStorm has masked, or None."""
    return next((name for name in names if stored.get(name) == MASKED), None)


def _with_key(context: Any, failure_id: str) -> dict[str, Any]:
    """Return the context of a recovery: that of one failure joins what an earlier one has started.
    """
    context = context if isinstance(context, dict) else {}
    return dict({"idempotency_key": "failure %s" % failure_id}, **context)


def workflow_for(parameters: Mapping[str, Any]) -> Optional[str]:
    """Return the workflow that the parameters of a failed action fit, or None."""
    if parameters.get("model") and (parameters.get("prompt") or parameters.get("messages")):
        return "llm_retry"
    if parameters.get("agent_id"):
        return "agent_recovery"
    if parameters.get("endpoint"):
        return "reroute_request"
    return None


def message_of(execution: Row) -> str:
    """Return the error message in the result of an execution, else a text with its status."""
    result = execution.get("result")
    texts = []
    if isinstance(result, dict):
        inner = result.get("result")
        texts = [result.get("error"), str(result.get("stderr") or "")[-MAX_STDERR_CHARS:]]
        if isinstance(inner, dict):
            texts = [inner.get("error"), inner.get("message")] + texts
        elif isinstance(inner, str) and inner != "None":
            texts.append(inner)
        errors = result.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            texts.append(errors[0].get("message"))
    for text in texts:
        if isinstance(text, dict):
            text = text.get("message")
        if isinstance(text, str) and text.strip():
            return text.strip()[-MAX_MESSAGE_CHARS:]
    return "it ended as %s" % execution.get("status")


def _is_pack_execution(env: "Environment", execution: Row) -> bool:
    """Whether the execution belongs to this pack or to a run of it; the payload does not say so."""
    for _ in range(MAX_DEPTH):
        ref = (execution.get("action") or {}).get("ref") or ""
        parent = (execution.get("context") or {}).get("parent") or {}
        if ref.startswith(PACK + ".") or parent.get("pack") == PACK:
            return True
        if not parent.get("execution_id"):
            return False
        execution = env.api.execution(parent["execution_id"], "action.ref,context")
    return False


def _llm_request(parameters: Mapping[str, Any]) -> dict[str, Any]:
    names = ("prompt", "messages", "model", "provider", "parameters")
    return {name: parameters[name] for name in names if parameters.get(name)}


def _http_request(parameters: Mapping[str, Any]) -> dict[str, Any]:
    # Not its headers: they may hold credentials, and the route has its own.
    names = ("endpoint", "method", "body", "region", "provider", "model")
    return {name: parameters[name] for name in names if parameters.get(name)}


def _text(parameters: Mapping[str, Any], names: Iterable[str]) -> Optional[str]:
    for name in names:
        value = parameters.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _summary(result: Mapping[str, Any]) -> str:
    return observation.describe_result(result, result["subject"] or "nothing to do")
