"""The workflow recovery_with_approval: a person approves a recovery, which is then a part of it.

    approval.request -> core.ask -> approval.proceed -> the recovery -> approval.proceed

Admission starts it in the mode approve, in place of the recovery and with its parameters.
infrastructure_repair asks by itself, when its plan is known.
"""

from typing import Any, Optional

from synthralos.automation.incident import Incident
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part, require_identifier
from synthralos.core.sanitize import sanitize_line
from synthralos.escalation import approval_notices
from synthralos.recovery import agent_recovery, llm_retry, reroute_request
from synthralos.runtime import child_runs, failure_record, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.failure_record import FailedRun
from synthralos.storage import incidents, inquiries
from synthralos.storage.datastore import PREFIX
from synthralos.telemetry import tracing

WORKFLOW = "recovery_with_approval"
REPAIR = "infrastructure_repair"
_RECOVERIES = {module.WORKFLOW: module for module in (agent_recovery, llm_retry, reroute_request)}
# The task of each recovery, as in `next_task`.
TASKS = {
    agent_recovery.WORKFLOW: "agent",
    llm_retry.WORKFLOW: "llm",
    reroute_request.WORKFLOW: "reroute",
}
_REFS = tuple("synthralos." + workflow for workflow in TASKS)
# Outcomes of a run.
RECOVERED, FAILED, REFUSED, NOT_ANSWERED = "recovered", "failed", "refused", "not_answered"
# What the recovery was for had ended before a person answered.
OVER = "over"
MAX_QUESTION_CHARS = 800
MAX_EXCERPT_CHARS = 300
# Parameters of a recovery that are names or enums: they pass through the workflow in the clear.
_PLAIN = ("agent_id", "failure_type")
# Those that are text, and pass through it sealed; the first one is required.
_TEXT = {
    agent_recovery.WORKFLOW: ("original_query", "failure_details", "context"),
    llm_retry.WORKFLOW: ("original_request", "failure_reason"),
    reroute_request.WORKFLOW: ("original_request", "failure_reason"),
}

Case = dict[str, Any]
Result = dict[str, Any]


def run_of(incident: Incident) -> tuple[Optional[str], dict[str, Any]]:
    """Return (workflow, parameters) of the run that asks before its first effect."""
    if incident.workflow == REPAIR:
        return REPAIR, dict(incident.parameters, approval="required")
    return WORKFLOW, dict(incident.parameters, workflow=incident.workflow)


def request(env: Environment, parameters: dict[str, Any], started: float) -> Result:
    """Return the result of approval.request: the question is stored, and will be asked.

    :param parameters: of the run, resolved.
    :param started: seconds since the epoch.
    :raises InvalidInput: the run names no recovery, or there is nothing to recover.
    """
    workflow = parameters.get("workflow")
    if workflow not in TASKS:
        hint = "Use one of " + ", ".join(TASKS)
        raise InvalidInput("workflow", workflow, "is not a recovery", hint)
    inputs = {name: parameters[name] for name in _TEXT[workflow] if parameters.get(name)}
    required = _TEXT[workflow][0]
    if required not in inputs:
        raise InvalidInput(required, None, "is missing", "Give it as %s takes it" % workflow)
    recovery = {name: parameters[name] for name in _PLAIN if parameters.get(name)}
    if workflow == agent_recovery.WORKFLOW:
        require_identifier("agent_id", recovery.get("agent_id"))
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        workflow_run.MAX_RUN_SECONDS,
        {},
        started,
        inputs,
        {},
        recovery=dict(recovery, workflow=workflow),
        asked_at=env.now(),
    )
    question = _question(env, workflow, subject(case, {}), inputs)
    # Its time limit is automation.approval_timeout, which the reaper applies.
    inquiries.record_inquiry(env.store, case["run"], None, question)
    approval_notices.tell(env, case["run"], WORKFLOW, subject(case, {}), question)
    return _goto(env, case, "ask", "a person is asked whether %s may start" % workflow)


def _question(env: Environment, workflow: str, name: str, inputs: dict[str, Any]) -> str:
    """Return what a person is asked: what would be run again, and why."""
    texts = (
        ("It runs again", _request_text(inputs)), ("it failed with", _failure_text(inputs)),
    )
    facts = [
        "%s: %s" % (label, sanitize_line(text, env.redactor, MAX_EXCERPT_CHARS))
        for label, text in texts
        if text.strip()
    ]
    question = "May %s of %s start? %s" % (workflow, name, "; ".join(facts))
    return sanitize_line(question, env.redactor, MAX_QUESTION_CHARS)


def _request_text(inputs: dict[str, Any]) -> str:
    """Return the failed request as a person recognizes it."""
    if "original_query" in inputs:
        return str(inputs["original_query"])
    failed = inputs["original_request"]
    failed = failed if isinstance(failed, dict) else {}
    messages = failed.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    content = last.get("content") if isinstance(last, dict) else None
    words = (failed.get("method"), failed.get("endpoint"), failed.get("prompt"), content)
    return " ".join(str(word) for word in words if word)


def _failure_text(inputs: dict[str, Any]) -> str:
    """Return what failed, as the parameters of a recovery say it."""
    details = inputs.get("failure_details")
    message = details.get("message") if isinstance(details, dict) else None
    return str(message or inputs.get("failure_reason") or "")


def proceed(env: Environment, case: Case) -> Result:
    """Return the result of approval.proceed, after the question and after the recovery."""
    if case["asked_at"] is None:
        return _end_with_recovery(env, case)
    case["asked_at"] = None
    approval_notices.settle(env, case["run"], WORKFLOW, subject(case, {}))
    inquiry = child_runs.latest_child(env, case["run"], (child_runs.ASK,))
    answer = child_runs.answer_of(inquiry, "approved")
    workflow = case["recovery"]["workflow"]
    if answer is False:
        workflow_run.record_end(env, case, RECOVERED, None, end=REFUSED, recovery=None)
        return _end(case, "done", REFUSED, "a person refused %s" % workflow)
    if child_runs.is_withdrawn(inquiry) or incidents.is_close_scheduled(env.store, case["run"]):
        workflow_run.record_end(env, case, RECOVERED, None, end=OVER, recovery=None)
        return _end(case, "done", OVER, "%s is not needed any more: its alert is over" % workflow)
    if answer is None:
        return _end_unanswered(env, case)
    content = {"request": case["request"], "trace": tracing.propagation_headers()}
    key = "%scase.%s.handed" % (PREFIX, encode_key_part(env.run or "none"))
    return _goto(
        env,
        case,
        TASKS[workflow],
        "%s is approved" % workflow,
        child_case=sealing.seal(env.redactor.remove_secrets(content), env.store, key),
        **{name: case["recovery"][name] for name in _PLAIN if name in case["recovery"]},
    )


def subject(case: Optional[Case], parameters: dict[str, Any]) -> str:
    """Return what a failed run was about: of its case, or of its unchecked parameters."""
    if case is not None:
        parameters = dict(case["request"], **case["recovery"])
    module = _RECOVERIES.get(parameters.get("workflow") or "")
    return failure_record.UNKNOWN_SUBJECT if module is None else module.subject(None, parameters)


def _end_with_recovery(env: Environment, case: Case) -> Result:
    child = child_runs.latest_child(env, case["run"], _REFS)
    output = (child.get("result") or {}).get("output") or {}
    workflow = case["recovery"]["workflow"]
    if child.get("status") == "succeeded":
        workflow_run.record_end(env, case, RECOVERED, None, end=RECOVERED)
        return _end(case, "done", RECOVERED, "%s succeeded" % workflow, child, output)
    # The recovery has its own record and ticket.
    workflow_run.record_end(env, case, FAILED, None, end=FAILED)
    return _end(case, "failed", FAILED, "%s did not recover" % workflow, child, output)


def _end_unanswered(env: Environment, case: Case) -> Result:
    reason = "the approval request was not answered"
    workflow, name = case["recovery"]["workflow"], subject(case, {})
    failed_run = FailedRun(
        workflow=WORKFLOW,
        subject=name,
        error={"cause": NOT_ANSWERED, "message": reason, "reason": reason},
        reason=reason,
        summary="%s of %s did not start: %s" % (workflow, name, reason),
        case=case,
        teaches=False,
        facts={"end": NOT_ANSWERED},
    )
    record = failure_record.record_failed_run(env, failed_run)
    return dict(
        _end(case, "failed", NOT_ANSWERED, reason), ticket=record["ticket"], error=failed_run.error
    )


def _end(
    case: Case,
    next_task: str,
    outcome: str,
    summary: str,
    child: Optional[dict[str, Any]] = None,
    output: Optional[dict[str, Any]] = None,
) -> Result:
    output = output or {}
    return {
        "summary": summary,
        "next_task": next_task,
        "success": outcome == RECOVERED,
        "outcome": outcome,
        "workflow": case["recovery"]["workflow"],
        "run": (child or {}).get("id"),
        "attempts": output.get("attempts"),
        "ticket": output.get("ticket"),
        "error": output.get("error"),
    }


def _goto(env: Environment, case: Case, next_task: str, summary: str, **more: Any) -> Result:
    case["progress"]["cursor"] += 1
    following = dict(workflow_run.next_step(env, case), **more)
    return {"summary": summary, "next_task": next_task, "next": following}
