"""The record of a run that could not be recovered: history, ticket, trigger and webhook."""

import re

from synthralos.calls import agent_platform
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.escalation import ticketing
from synthralos.recovery import agent_recovery, handle_error, llm_retry, reroute_request
from synthralos.runtime import workflow_run
from synthralos.storage import history

TRIGGER = "synthralos.recovery_failed"
NOTIFY_SECONDS = 5.0
# The workflows whose failures log_recovery_failure writes down.
LOGGED_HERE = (agent_recovery.WORKFLOW, handle_error.WORKFLOW)
# It stands above this package; its runs that nothing ended are recorded without it.
ORCHESTRATION = "orchestration.run"
_SUBJECT = {
    module.WORKFLOW: module.subject
    for module in (agent_recovery, handle_error, llm_retry, reroute_request)
}
_SUBJECT[ORCHESTRATION] = lambda case: case["subject"]


def record_failed_run(env, workflow, case, parameters):
    """Writes the record and returns the result of a log_* action.

    :param case: what the run's last action left: a case, which holds the error as `refused` when
        that ended the run; {"refused": error} alone when the first action refused the run; or
        None, when the first action crashed.
    :param parameters: of the run, as given, from which the subject is read where the case has none.
    """
    whole = case is not None and "progress" in case
    progress = case["progress"] if whole else {}
    failure = (case.get("failure") if whole else None) or {
        "type": "unknown",
        "cause": "unknown",
        "severity": "medium",
    }
    error, reason = failure_reason(case, progress)
    subject = _SUBJECT[workflow](case) if whole else _subject_from_parameters(workflow, parameters)
    cause = error["cause"]
    summary = "%s of %s failed: %s" % (workflow, subject, reason)
    entry = {
        "event": "failed",
        "workflow": workflow,
        "run": env.run,
        "type": failure["type"],
        "cause": cause,
        "reason": env.redactor.redact_text(reason),
        "error": env.redactor.redact_value(error),
        "attempts": progress.get("attempts", 0),
    }
    record_id = history.append_entry(env.store, subject, env.now(), entry)
    ticket = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        workflow,
        subject,
        {"type": failure["type"], "cause": cause, "severity": failure["severity"]},
        env.redactor.redact_text(summary),
        attempts=progress.get("attempts", 0),
        details=env.redactor.redact_value(
            {name: error[name] for name in ("field", "hint") if error.get(name)}
        ),
    )
    if whole:
        workflow_run.record_summary(env, case, "failed", dict(failure, cause=cause))
    else:
        workflow_run.record_early_end(env, workflow, cause)
    told = {
        "workflow": workflow,
        "execution_id": env.run,
        "subject": subject,
        "failure_type": failure["type"],
        "cause": cause,
        "attempts": progress.get("attempts", 0),
        "ticket": ticket["ticket"] if ticket else None,
        "occurrences": ticket["occurrences"] if ticket else None,
        "level": ticket["level"] if ticket else None,
        "priority": ticket["priority"] if ticket else None,
    }
    return {
        "summary": summary,
        "success": False,
        "escalated": ticket is not None,
        "error": dict(error, reason=reason),
        "attempts": progress.get("attempts", 0),
        "retry_count": max(0, progress.get("attempts", 0) - 1),
        "plan": case.get("plan") if whole else None,
        "steps": case.get("steps", []) if whole else [],
        "trail": progress.get("trail", []),
        "ticket": ticket["ticket"] if ticket else None,
        "occurrences": ticket["occurrences"] if ticket else None,
        "notifications": ticket["notifications"] if ticket else [],
        "record": record_id,
        "trigger": env.fire(TRIGGER, told),
        "webhook": notify_platform(env, told),
    }


def failure_reason(case, progress):
    """(error, reason) of the failure, for people."""
    if case is None:
        return (
            {
                "cause": "unknown",
                "message": "the first task ended without a result; its own execution says more",
            },
            "the first task ended without a result",
        )
    if "refused" in case:
        return case["refused"], case["refused"]["message"]
    gave_up = case.get("gave_up")
    if gave_up:
        return gave_up["error"], gave_up["reason"]
    message = "an attempt crashed or ran out of time; its own execution says more"
    return dict(progress.get("failure") or {}, cause="unknown", message=message), message


def _subject_from_parameters(workflow, parameters):
    """Who a run without a case was about: its parameters were refused, so only names are taken."""
    request = parameters.get("original_request")
    request = request if isinstance(request, dict) else {}
    if workflow == ORCHESTRATION:
        named = parameters.get("orchestration") or parameters.get("orchestration_id")
        return orchestration_subject(named)
    candidate = {
        agent_recovery.WORKFLOW: parameters.get("agent_id"),
        handle_error.WORKFLOW: parameters.get("agent_id"),
        llm_retry.WORKFLOW: request.get("model"),
        reroute_request.WORKFLOW: request.get("provider"),
    }[workflow]
    return candidate if is_name(candidate) else "unknown"


def orchestration_subject(name):
    """The name of an orchestration, which may have spaces, as the subject of a ticket."""
    subject = re.sub(r"[^A-Za-z0-9._:/+-]+", "-", str(name or ""))[:100].strip("-._:/+")
    return subject or "orchestration"


def notify_platform(env, told):
    """Whether the platform's webhook took the record; None where none is configured."""
    for known in env.settings.platforms[:1]:
        if known.failure_webhook:
            try:
                agent_platform.notify(env.client, known, told, NOTIFY_SECONDS)
            except CallError as error:
                return "not taken: %s" % error.failure.cause
            except InvalidInput as error:
                return "not taken: %s" % error
            return "taken"
    return None
