"""Turns the Report of an alert into an Incident, with the run that would handle it."""

import re
from collections.abc import Mapping
from typing import Any, Optional

from synthralos.automation import outcomes
from synthralos.automation.alert_reports import AlertContext, Report, agent_of
from synthralos.automation.incident import Incident, failure_fields
from synthralos.core import causes, failures
from synthralos.core.identifiers import to_name
from synthralos.infrastructure.infrastructure_repair import DEFAULT_RUN_SECONDS
from synthralos.infrastructure.runbooks import Runbook, find_runbook
from synthralos.runtime.environment import Environment
from synthralos.storage import last_queries
from synthralos.storage.stackstorm_api import StackStormError

AGENT, INFRASTRUCTURE = "agent_recovery", "infrastructure_repair"
AUTO = "auto"
# What a run with a runbook needs besides its steps: its other tasks, and waiting for its turn.
RUN_MARGIN_SECONDS, MAX_RUN_SECONDS = 1200, 3600
# The id of the incident of a rule that could not be evaluated is that of the rule itself with it.
EVALUATION_SUFFIX = "-evaluation"
_EXECUTION_ID = re.compile(r"[0-9a-f]{24}\Z")
_SEVERITIES = {
    "page": "critical", "emergency": "critical", "error": "high", "major": "high",
    "warning": "medium", "minor": "low", "info": "low", "none": "low",
}


def incident_of(context: AlertContext, report: Report, workflow: str = AUTO) -> Incident:
    """Build the Incident of a firing alert's Report.

    :param workflow: the workflow of its run; AUTO chooses it by the labels of the alert.
    """
    if workflow_of(context, report.alert, workflow) == AGENT:
        return _agent_incident(context, report)
    return _infrastructure_incident(context, report)


def workflow_of(context: AlertContext, alert: Mapping[str, Any], workflow: str) -> str:
    """Return the workflow that an alert would start: `workflow`, or that of AUTO."""
    if workflow != AUTO:
        return workflow
    return INFRASTRUCTURE if agent_of(context.automation, alert) is None else AGENT


def handling_of(
    context: AlertContext, alert: Mapping[str, Any], workflow: str
) -> tuple[str, Optional[str]]:
    """Return (workflow, name of the runbook or None) of an alert, by its labels alone."""
    workflow, runbook = workflow_of(context, alert, workflow), None
    if workflow == INFRASTRUCTURE:
        runbook = find_runbook(context.infrastructure.runbooks, alert["labels"])
    return workflow, None if runbook is None else runbook.name


def _infrastructure_incident(context: AlertContext, report: Report) -> Incident:
    alert = report.alert
    parameters: dict[str, Any] = {"source": "alert"}
    runbook = find_runbook(context.infrastructure.runbooks, alert["labels"])
    if runbook is not None:
        parameters["timeout"] = _run_seconds(context, runbook)
    return Incident(
        id=report.incident_id,
        since=alert["starts_at"],
        subject=report.subject,
        workflow=INFRASTRUCTURE,
        runbook=None if runbook is None else runbook.name,
        runbook_mode=None if runbook is None else runbook.mode,
        work=None if runbook is None else runbook.work_for(alert["labels"]),
        parameters=parameters,
        request={"alert": alert},
        failure=_failure(failures.from_text(_message(alert)), alert),
        summary=_summary_line(alert),
        blocked=outcomes.AMBIGUOUS if report.is_ambiguous else None,
        details=_details(alert),
    )


def _run_seconds(context: AlertContext, runbook: Runbook) -> int:
    """Return the time limit of a run that follows the runbook, in seconds."""
    seconds = runbook.seconds_needed(context.infrastructure.settle_seconds) + RUN_MARGIN_SECONDS
    return min(max(seconds, DEFAULT_RUN_SECONDS), MAX_RUN_SECONDS)


def _agent_incident(context: AlertContext, report: Report) -> Incident:
    alert, agent = report.alert, report.agent
    label = alert["labels"].get("failure_type") or "unknown"
    resolved_type = causes.resolve_type(label)
    failure_type = "unknown" if resolved_type is None else str(label).strip().lower()
    message = _message(alert)
    failure = failures.from_text(
        message, None if resolved_type is None or failure_type == "unknown" else resolved_type[0]
    )
    query = _query(context, alert, agent)
    blocked_reason = None
    if agent is None:
        blocked_reason = outcomes.NO_WORKFLOW
    elif query is None:
        blocked_reason = outcomes.NO_QUERY
    labels = {name: alert["labels"][name] for name in sorted(alert["labels"])}
    return Incident(
        id=report.incident_id,
        since=alert["starts_at"],
        subject=report.subject,
        workflow=AGENT,
        parameters={
            "agent_id": agent,
            "failure_type": failure_type,
            "original_query": "@case",
        },
        request={
            "original_query": query,
            "failure_details": {"message": message, "alert": alert["alertname"]},
            "context": {
                "alert": {"labels": labels, "annotations": alert["annotations"]},
                "idempotency_key": "%s %s" % (report.incident_id, alert["starts_at"]),
            },
        },
        failure=_failure(failure, alert),
        summary=_summary_line(alert),
        blocked=blocked_reason,
        details=_details(alert),
    )


def evaluation_incident_of(report: Report, reason: str) -> Incident:
    """Build the Incident of a rule that could not be evaluated: a person has to see to it.

    :param reason: why it could not be.
    """
    alert = report.alert
    rule = alert["labels"].get("rulename") or alert["alertname"]
    failure = {"type": "unknown", "cause": "unknown", "severity": "medium"}
    return Incident(
        id=report.incident_id + EVALUATION_SUFFIX,
        since=alert["starts_at"],
        subject=to_name(rule) or report.subject,
        workflow=None,
        parameters={},
        request={},
        failure=_failure_severity(failure, alert),
        summary="%s: %s" % (rule, reason),
        blocked=outcomes.NOT_EVALUATED,
        details=_details(alert),
    )


def incident_of_many(
    incident_id: str, since: str, summary: str, blocked: Optional[str] = None
) -> Incident:
    """Build the Incident of several alerts for which no run is started."""
    return Incident(
        id=incident_id,
        since=since,
        subject="alerts",
        workflow=None,
        parameters={},
        request={},
        failure={"type": "unknown", "cause": "unknown", "severity": "high"},
        summary=summary,
        blocked=blocked,
    )


def _query(
    context: AlertContext, alert: Mapping[str, Any], agent: Optional[str]
) -> Optional[str]:
    """Return the query to run again, or None.

    Taken from the alert itself, else from the execution that it names, else the agent's last one.
    """
    for name in context.automation.query_labels:
        for texts in (alert["annotations"], alert["labels"]):
            if texts.get(name, "").strip():
                return str(texts[name])
    for texts in (alert["labels"], alert["annotations"]):
        query = query_of_execution(context.env, texts.get("execution_id"))
        if query is not None:
            return query
    last_query: Optional[str] = None
    if agent:
        last_query = last_queries.last_query(context.env.store, agent)
    return last_query


def query_of_execution(env: Environment, execution_id: Any) -> Optional[str]:
    """Return the query among the parameters of a StackStorm execution, or None.

    :param execution_id: any value; None is returned unless it is the id of an execution.
    """
    if env.api is None or not _EXECUTION_ID.match(str(execution_id or "")):
        return None
    try:
        parameters = env.api.execution(execution_id, "parameters").get("parameters") or {}
    except StackStormError:
        return None
    for name in ("original_query", "query"):
        value = parameters.get(name)
        if isinstance(value, str) and value.strip() and not value.startswith(("@", "****")):
            return value
    return None


def _message(alert: Mapping[str, Any]) -> str:
    texts = alert["annotations"]
    for name in ("description", "summary", "message"):
        if texts.get(name, "").strip():
            return str(texts[name])
    return str(alert["alertname"] or "an alert")


def _summary_line(alert: Mapping[str, Any]) -> str:
    return "%s: %s" % (alert["alertname"] or "alert", _message(alert))


def _failure(failure: failures.Failure, alert: Mapping[str, Any]) -> dict[str, Any]:
    return _failure_severity(failure_fields(failure), alert)


def _failure_severity(failure: Mapping[str, str], alert: Mapping[str, Any]) -> dict[str, Any]:
    """Return {type, cause, severity} with the severity that the alert's label names, if any."""
    label = str(alert["labels"].get("severity") or "").lower()
    severity = label if label in causes.SEVERITIES else _SEVERITIES.get(label, failure["severity"])
    return dict(failure, severity=severity)


def _details(alert: Mapping[str, Any]) -> dict[str, Any]:
    return {"fingerprint": alert["fingerprint"], "starts_at": alert["starts_at"]}
