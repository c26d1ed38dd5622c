"""From a failure that a platform tells of, or a failed execution, to the run that it asks for."""

import re

from synthralos.automation import admission, alert_intake
from synthralos.automation.admission import Incident
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.timestamps import parse_iso
from synthralos.sensing import agent_payloads
from synthralos.storage import incidents, last_queries
from synthralos.storage.stackstorm_api import StackStormError

PACK = "synthralos"
MAX_DEPTH = 10
MAX_MESSAGE_CHARS = 2000
# Of other packs, whose secrets nobody here knows.
MAX_STDERR_CHARS = 300
# By which a platform's clock may differ.
CLOCK_SECONDS = 5
OWN_EXECUTION = "own_execution"
_ATTRIBUTES = "id,parameters,status,result,context,action.ref,start_timestamp"
_MASKED = "********"
_QUERY = ("original_query", "query", "input", "prompt")
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]+")


def receive(env, config, payload):
    """What became of an agent's failure: {summary, outcome, subject, workflow, run, ticket}.

    :param payload: of synthralos.agent_failure or synthralos.agent_loop, or of a webhook ({body}):
        whatever the platform posts, an object that names an agent.
    """
    body = payload.get("body") if isinstance(payload.get("body"), dict) else payload
    told = agent_payloads.failure_payload(body, str(payload.get("source") or "webhook"), env.now())
    agent = told["agent_id"] if is_name(told["agent_id"]) else None
    query = told["original_query"]
    if query is None:
        query = alert_intake.query_of_execution(env, told["context"].get("execution_id"))
    if query is None and agent is not None:
        query = last_queries.last_query(env.store, agent)
    if agent is not None and _is_caused_by_recovery(env, agent, told["occurred_at"]):
        done = {
            "outcome": OWN_EXECUTION,
            "subject": agent,
            "workflow": None,
            "run": None,
            "ticket": None,
        }
        return dict({"summary": _summary(done)}, **done)
    details = told["failure_details"]
    message = str(details.get("message") or told["failure_type"])[:MAX_MESSAGE_CHARS]
    failure = failures.from_text(message, told["failure_type"])
    held = admission.NO_QUERY if query is None else None
    incident = Incident(
        id="error-" + told["error_id"],
        since=told["occurred_at"],
        subject=agent or "unknown",
        workflow="agent_recovery" if agent else None,
        parameters={
            "agent_id": agent,
            "failure_type": told["failure_type"],
            "original_query": "@case",
        },
        request={
            "original_query": query,
            "failure_details": details,
            "context": told["context"],
        },
        failure=_failure(failure),
        summary="%s failed: %s" % (agent or "an agent without a usable name", message),
        blocked=held if agent else admission.NO_WORKFLOW,
        is_state=False,
    )
    done = admission.admit(env, config, incident)
    return dict({"summary": _summary(done)}, **done)


def _is_caused_by_recovery(env, agent, occurred_at):
    """Whether the failure is one that an attempt of a recovery met, whoever started that: a
    platform lists these too, and each would start the next recovery.
    """
    at = parse_iso(occurred_at)
    if at is None or env.api is None:
        return False
    for attempt in incidents.recent_attempts(env.store, agent):
        if attempt["at"] - CLOCK_SECONDS > at:
            continue
        try:
            run = env.api.execution(attempt["run"], "end_timestamp")
        except StackStormError:
            continue
        if at <= (parse_iso(run.get("end_timestamp")) or env.now()) + CLOCK_SECONDS:
            return True
    return False


def receive_execution(env, config, payload):
    """What became of a failed execution, as core.st2.generic.actiontrigger tells of it.

    :raises InvalidInput: the payload names no execution.
    """
    execution_id = payload.get("execution_id")
    if env.api is None or not isinstance(execution_id, str):
        raise InvalidInput(
            "execution_id", execution_id, "names no execution that can be read",
            "Start it by a rule on core.st2.generic.actiontrigger",
        )
    execution = env.api.execution(execution_id, _ATTRIBUTES)
    if _is_pack_execution(env, execution):
        done = {
            "outcome": OWN_EXECUTION,
            "subject": None,
            "workflow": None,
            "run": None,
            "ticket": None,
        }
    else:
        done = admission.admit(env, config, incident_of(env, config, execution))
    return dict({"summary": _summary(done)}, **done)


def incident_of(env, config, execution):
    """The Incident of a failed execution: the workflow that the configuration names for its
    action, else the one that its parameters fit.
    """
    ref = (execution.get("action") or {}).get("ref") or "unknown"
    given = {
        name: value
        for name, value in (execution.get("parameters") or {}).items()
        if value != _MASKED
    }
    message = message_of(execution)
    status = execution.get("status")
    failure = failures.from_text(message, "timeout" if status == "timeout" else None)
    known = config.failed_actions.get(ref)
    workflow = known.workflow if known else workflow_for(given)
    subject, parameters, request, held = _UNSAFE.sub("_", ref), {}, {}, None
    if workflow == "agent_recovery":
        agent = (known.agent_id if known else None) or given.get("agent_id")
        query = _text(given, [known.query_from] if known and known.query_from else _QUERY)
        if is_name(agent):
            subject = agent
            query = query or last_queries.last_query(env.store, agent)
            parameters = {
                "agent_id": agent, "failure_type": failure.type, "original_query": "@case",
            }
        held = admission.NO_QUERY if query is None else None
        held = held if is_name(agent) else admission.NO_WORKFLOW
        request = {
            "original_query": query,
            "failure_details": {"message": message, "action": ref},
            "context": given["context"] if isinstance(given.get("context"), dict) else {},
        }
    elif workflow == "llm_retry":
        parameters = {"original_request": {}, "failure_reason": "@case"}
        request = {"original_request": _llm_request(given), "failure_reason": message}
    elif workflow == "reroute_request":
        parameters = {"original_request": {}, "failure_reason": "@case"}
        request = {"original_request": _http_request(given), "failure_reason": message}
    return Incident(
        id="execution-" + execution["id"],
        since=str(execution.get("start_timestamp") or ""),
        subject=subject,
        workflow=workflow,
        parameters=parameters,
        request=request,
        failure=_failure(failure),
        summary="%s failed: %s" % (ref, message),
        blocked=held if workflow else admission.NO_WORKFLOW,
        is_state=False,
        details={"execution_id": execution["id"]},
    )


def workflow_for(given):
    """The workflow that the parameters of a failed action fit, or None."""
    if given.get("model") and (given.get("prompt") or given.get("messages")):
        return "llm_retry"
    if given.get("agent_id"):
        return "agent_recovery"
    if given.get("endpoint"):
        return "reroute_request"
    return None


def message_of(execution):
    """Why an execution failed, in its own words, as far as its result has any."""
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


def _is_pack_execution(env, execution):
    """Whether the execution is of this pack, or a descendant of one: the payload does not tell."""
    for _ in range(MAX_DEPTH):
        ref = (execution.get("action") or {}).get("ref") or ""
        parent = (execution.get("context") or {}).get("parent") or {}
        if ref.startswith(PACK + ".") or parent.get("pack") == PACK:
            return True
        if not parent.get("execution_id"):
            return False
        execution = env.api.execution(parent["execution_id"], "action.ref,context")
    return False


def _llm_request(given):
    names = ("prompt", "messages", "model", "provider", "parameters")
    return {name: given[name] for name in names if given.get(name)}


def _http_request(given):
    # Not its headers: they may hold credentials, and the route has its own.
    names = ("endpoint", "method", "body", "region", "provider", "model")
    return {name: given[name] for name in names if given.get(name)}


def _text(given, names):
    for name in names:
        value = given.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _failure(failure):
    return {"type": failure.type, "cause": failure.cause, "severity": failure.severity}


def _summary(done):
    told = "%s: %s" % (done["outcome"], done["subject"] or "nothing to do")
    for name in ("run", "ticket"):
        if done[name]:
            told += ", %s %s" % (name, done[name])
    return told
