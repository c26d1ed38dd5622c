"""The record of a run that was not recovered: history, ticket, summary, trigger and webhook."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, TypedDict

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.escalation.ticket_evidence import Evidence
from synthralos.runtime import workflow_run
from synthralos.runtime.environment import Environment
from synthralos.storage import history
from synthralos.storage.stackstorm_api import StackStormError, has_ended

TRIGGER = "synthralos.recovery_failed"
NOTIFY_SECONDS = 5.0
UNKNOWN_SUBJECT = "unknown"


@dataclass(frozen=True)
class FailedRun:
    """A run that ended without a recovery, as its record describes it.

    :ivar subject: the name of what it was about: an agent, a model, a route, a node.
    :ivar error: {cause, message, field?, hint? ...} of the run.
    :ivar reason: why it failed, for people.
    :ivar summary: the text of the ticket, for people; need not be redacted.
    :ivar type: of the failure, as `causes.TYPES` names it.
    :ivar severity: low, medium, high or critical.
    :ivar impact: 0 to 10; None where nothing estimates it.
    :ivar case: of the run; None if it ended before it had a complete case.
    :ivar teaches: whether adaptive retries learn from the run.
    :ivar facts: what the run's summary says in addition, by name.
    :ivar evidence: of what has failed, for the ticket.
    """

    workflow: str
    subject: str
    error: dict[str, Any]
    reason: str
    summary: str
    type: str = "unknown"
    severity: str = "medium"
    attempts: int = 0
    impact: Optional[float] = None
    case: Optional[dict[str, Any]] = None
    teaches: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)


class FailureRecord(TypedDict):
    """What was recorded of a failed run: its ticket, the entry of its history, and who was told.

    `ticket`, `occurrences` and `record` are None where they could not be stored. A redriven run has
    no ticket while its redrive is at work, which opens one for all of its runs. `trigger` and
    `webhook` say what became of these; `webhook` is None where none is configured.
    """

    ticket: Optional[str]
    occurrences: Optional[int]
    notifications: list[dict[str, Any]]
    record: Optional[str]
    trigger: str
    webhook: Optional[str]


def record_failed_run(env: Environment, run: FailedRun) -> FailureRecord:
    """Write the record of a failed run. An unavailable datastore, API or platform is no error."""
    cause = run.error["cause"]
    entry = {
        "event": "failed",
        "workflow": run.workflow,
        "run": env.run,
        "type": run.type,
        "cause": cause,
        "reason": env.redactor.redact_text(run.reason),
        "error": env.redactor.redact_value(run.error),
        "attempts": run.attempts,
    }
    record_id = history.append_entry(env.store, run.subject, env.now(), entry)
    ticket: Mapping[str, Any] = {}
    if not _has_redrive_at_work(env, run):
        ticket = _open_ticket(env, run)
    if run.case is not None:
        failure = {"type": run.type if run.teaches else None, "cause": cause}
        workflow_run.record_summary(env, run.case, "failed", failure, **run.facts)
    else:
        workflow_run.record_early_end(env, run.workflow, cause)
    payload = {
        "workflow": run.workflow,
        "execution_id": env.run,
        "subject": run.subject,
        "failure_type": run.type,
        "cause": cause,
        "attempts": run.attempts,
    }
    payload.update(
        (name, ticket.get(name)) for name in ("ticket", "occurrences", "level", "priority")
    )
    return {
        "ticket": ticket.get("ticket"),
        "occurrences": ticket.get("occurrences"),
        "notifications": ticket.get("notifications", []),
        "record": record_id,
        "trigger": env.fire(TRIGGER, payload),
        "webhook": notify_platform(env, payload),
    }


def _open_ticket(env: Environment, run: FailedRun) -> Mapping[str, Any]:
    # All actions of a workflow import this module, and one of them records.
    from synthralos.escalation import ticketing

    ticket: Optional[Mapping[str, Any]] = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        run.workflow,
        run.subject,
        {"type": run.type, "cause": run.error["cause"], "severity": run.severity},
        env.redactor.redact_text(run.summary),
        attempts=run.attempts,
        impact=run.impact,
        details=env.redactor.redact_value(
            {name: run.error[name] for name in ("field", "hint") if run.error.get(name)}
        ),
        evidence=run.evidence,
    )
    return ticket or {}


def _has_redrive_at_work(env: Environment, run: FailedRun) -> bool:
    """Whether a redrive has started the run and has not ended, so that it will report the run."""
    mark = (run.case or {}).get("redrive")
    if mark is None or env.api is None:
        return False
    try:
        return not has_ended(env.api, mark["run"])
    except StackStormError:
        return False


def failed_run(workflow: str, subject: str, case: Optional[dict[str, Any]]) -> FailedRun:
    """The FailedRun of a workflow that makes attempts.

    :param case: what the run's last action left: a case, which holds the error as `refused` when
        that ended the run; {"refused": error} alone when the first action refused the run; or
        None, when the first action crashed.
    """
    complete = complete_case(case)
    progress = complete["progress"] if complete else {}
    failure = (complete or {}).get("failure") or {"type": "unknown", "severity": "medium"}
    error, reason = failure_reason(case, progress)
    return FailedRun(
        workflow=workflow,
        subject=subject,
        error=error,
        reason=reason,
        summary="%s of %s failed: %s" % (workflow, subject, reason),
        type=failure["type"],
        severity=failure["severity"],
        attempts=progress.get("attempts", 0),
        case=complete,
    )


def log_failed_run(
    env: Environment, workflow: str, subject: str, case: Optional[dict[str, Any]]
) -> dict[str, Any]:
    """Write the record of a failed run and return the result of a log_* action.

    :param case: as for `failed_run`.
    """
    run = failed_run(workflow, subject, case)
    record = record_failed_run(env, run)
    complete = run.case or {}
    result = {
        "summary": run.summary,
        "success": False,
        "escalated": record["ticket"] is not None,
        "error": dict(run.error, reason=run.reason),
        "attempts": run.attempts,
        "retry_count": max(0, run.attempts - 1),
        "plan": complete.get("plan"),
        "steps": complete.get("steps", []),
        "trail": complete["progress"].get("trail", []) if complete else [],
    }
    return dict(result, **record)


def complete_case(case: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """`case` if it is one of a run that has begun; None if there is only an error, or nothing."""
    return case if case is not None and "progress" in case else None


def name_or_unknown(candidate: Any) -> str:
    """`candidate`, from parameters that nothing has checked, if it is a name; else "unknown"."""
    return candidate if is_name(candidate) else UNKNOWN_SUBJECT


def failure_reason(
    case: Optional[dict[str, Any]], progress: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """(error, reason) of the failure, for people.

    :param case: as for `failed_run`; progress: of the case, {} without one.
    """
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


def notify_platform(env: Environment, payload: dict[str, Any]) -> Optional[str]:
    """Send the record to the first platform that has a webhook for it.

    :returns: "taken", or "not taken: " and why; None where no webhook is configured.
    """
    for platform in env.settings.platforms:
        if platform.failure_webhook:
            from synthralos.calls.agent_platforms import synthralos

            try:
                synthralos.notify(env.client, platform, payload, NOTIFY_SECONDS)
            except CallError as error:
                return "not taken: %s" % error.failure.cause
            except InvalidInput as error:
                return "not taken: %s" % error
            return "taken"
    return None
