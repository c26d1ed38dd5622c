"""Turns alerts into incidents, and hands these to admission control."""

import re

from synthralos.automation import admission
from synthralos.automation.admission import Incident
from synthralos.core import causes, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.sensing import alert_payloads
from synthralos.storage import last_queries
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError

AGENT, INFRASTRUCTURE = "agent_recovery", "infrastructure_repair"
AUTO = "auto"
FAILED, OVER_LIMIT, SWITCHED_OFF = "failed", "over_limit", "switched_off"
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/@+-]+")
_EXECUTION_ID = re.compile(r"[0-9a-f]{24}\Z")
_SEVERITIES = {
    "page": "critical", "emergency": "critical", "error": "high", "major": "high",
    "warning": "medium", "minor": "low", "info": "low", "none": "low",
}
_MAX_NAME_CHARS = 128


def receive(env, config, payload, workflow=AUTO, only_ends=False):
    """Process all alerts of a trigger's payload.

    At most `config.max_runs_per_webhook` runs are started; one ticket covers the rest.

    :param payload: of synthralos.metrics_alert, or of a webhook ({body}): a notification of
        Alertmanager (version 4) or Grafana.
    :param workflow: workflow of the runs; AUTO chooses it by the labels of each alert.
    :param only_ends: whether firing alerts are ignored.
    :returns: (succeeded, {summary, alerts, started, ticket}). `succeeded` is False if an alert
        could not be processed, for instance because StackStorm's API was unavailable. The others
        have been processed; if they are received again, they are duplicates.
    :raises InvalidInput: the payload holds no alert.
    """
    outcomes, over_limit_alerts = [], []
    started = 0
    for alert in parse_alerts(payload, env.now()):
        entry = {name: alert[name] for name in ("fingerprint", "status")}
        outcome = {"outcome": FAILED, "run": None, "ticket": None}
        try:
            if alert["status"] == alert_payloads.RESOLVED:
                source = alert["source"]
                outcome = admission.resolve_incident(
                    env, incident_id(alert), alert["starts_at"], source
                )
            elif only_ends:
                outcome["outcome"] = SWITCHED_OFF
            elif started >= config.max_runs_per_webhook:
                over_limit_alerts.append(alert)
                outcome["outcome"] = OVER_LIMIT
            else:
                outcome = admission.admit(env, config, incident_of(env, config, alert, workflow))
                started += outcome["outcome"] == admission.STARTED
        except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
            # An alert that cannot be processed does not affect the others.
            outcome["error"] = str(error)
        outcomes.append(dict(entry, **outcome))
    ticket = _overflow_ticket(env, config, over_limit_alerts, workflow)
    for entry in outcomes:
        if entry["outcome"] == OVER_LIMIT:
            entry["ticket"] = ticket
    return not any("error" in entry for entry in outcomes), {
        "summary": summary_of([entry["outcome"] for entry in outcomes]),
        "alerts": outcomes,
        "started": started,
        "ticket": ticket,
    }


def summary_of(outcomes):
    """Count outcomes as text, such as `3 started, 1 duplicate`."""
    counts = ["%d %s" % (outcomes.count(outcome), outcome) for outcome in sorted(set(outcomes))]
    return ", ".join(counts) or "no alert"


def parse_alerts(payload, now):
    """Return the alerts of a payload, in the form of synthralos.metrics_alert."""
    body = payload.get("body")
    if isinstance(body, dict):
        return alert_payloads.from_webhook(body, now)
    if isinstance(payload.get("alerts"), list):
        return alert_payloads.from_webhook(payload, now)
    names = {"startsAt": "starts_at", "endsAt": "ends_at", "generatorURL": "generator_url"}
    normalized = dict(
        payload, **{name: payload.get(original_name) for name, original_name in names.items()}
    )
    alerts = alert_payloads.from_webhook({"alerts": [normalized]}, now)
    return [dict(alert, source=_name(payload.get("source")) or alert["source"]) for alert in alerts]


def incident_id(alert):
    return "alert-" + alert["fingerprint"]


def incident_of(env, config, alert, workflow=AUTO):
    """Build the Incident of a firing alert."""
    agent = agent_of(config, alert)
    if workflow == AUTO:
        workflow = AGENT if agent else INFRASTRUCTURE
    if workflow == AGENT:
        return _agent_incident(env, config, alert, agent)
    failure = failures.from_text(_message(alert))
    return Incident(
        id=incident_id(alert),
        since=alert["starts_at"],
        subject=subject_of(env, alert),
        workflow=INFRASTRUCTURE,
        parameters={"source": "alert"},
        request={"alert": alert},
        failure=_failure(failure, alert),
        summary=_summary_line(alert),
        details=_details(alert),
    )


def _agent_incident(env, config, alert, agent):
    label = alert["labels"].get("failure_type") or "unknown"
    resolved_type = causes.resolve_type(label)
    failure_type = str(label).strip().lower() if resolved_type is not None else "unknown"
    message = _message(alert)
    failure = failures.from_text(message, None if failure_type == "unknown" else resolved_type[0])
    query = _query(env, config, alert, agent)
    blocked_reason = None
    if agent is None:
        blocked_reason = admission.NO_WORKFLOW
    elif query is None:
        blocked_reason = admission.NO_QUERY
    labels = {name: alert["labels"][name] for name in sorted(alert["labels"])}
    return Incident(
        id=incident_id(alert),
        since=alert["starts_at"],
        subject=agent or subject_of(env, alert),
        workflow=AGENT,
        parameters={
            "agent_id": agent,
            "failure_type": failure_type,
            "original_query": "@case",
        },
        request={
            "original_query": query,
            "failure_details": {"message": message, "alert": alert["alertname"]},
            "context": {"alert": {"labels": labels, "annotations": alert["annotations"]}},
        },
        failure=_failure(failure, alert),
        summary=_summary_line(alert),
        blocked=blocked_reason,
        details=_details(alert),
    )


def agent_of(config, alert):
    """Return the agent that the labels name, reduced to the alphabet of names, or None."""
    for label in config.agent_labels:
        if alert["labels"].get(label):
            return _name(alert["labels"][label])
    return None


def subject_of(env, alert):
    """Return the node of an alert, as infrastructure_repair reads it, else its fingerprint."""
    for label in InfrastructureConfig.from_config(env.settings.infrastructure).alert_labels:
        name = _name(alert["labels"].get(label))
        if name is not None:
            return name
    return alert["fingerprint"]


def _query(env, config, alert, agent):
    """Return the query to run again, or None.

    Taken from the alert itself, else from the execution that it names, else the agent's last one.
    """
    for name in config.query_labels:
        for texts in (alert["annotations"], alert["labels"]):
            if texts.get(name, "").strip():
                return texts[name]
    for texts in (alert["labels"], alert["annotations"]):
        query = query_of_execution(env, texts.get("execution_id"))
        if query is not None:
            return query
    return last_queries.last_query(env.store, agent) if agent else None


def query_of_execution(env, execution_id):
    """Return the query among the parameters of a StackStorm execution, or None."""
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


def _overflow_ticket(env, config, alerts, workflow):
    if not alerts:
        return None
    incident = incident_of(env, config, alerts[0], workflow)
    subjects = ", ".join(sorted({subject_of(env, alert) for alert in alerts})[:20])
    summary = "%d alerts beyond the %d runs that one notification may start: %s" % (
        len(alerts), config.max_runs_per_webhook, subjects
    )
    overflow_incident = Incident(
        id="%s-rest" % incident.id,
        since=incident.since,
        subject="alerts",
        workflow=None,
        parameters={},
        request={},
        failure={"type": "unknown", "cause": "unknown", "severity": "high"},
        summary=summary,
    )
    return admission.hold_for_person(env, overflow_incident, admission.TOO_MANY)["ticket"]


def _message(alert):
    texts = alert["annotations"]
    for name in ("description", "summary", "message"):
        if texts.get(name, "").strip():
            return texts[name]
    return alert["alertname"] or "an alert"


def _summary_line(alert):
    return "%s: %s" % (alert["alertname"] or "alert", _message(alert))


def _failure(failure, alert):
    severity_label = str(alert["labels"].get("severity") or "").lower()
    severity = (
        severity_label
        if severity_label in causes.SEVERITIES
        else _SEVERITIES.get(severity_label, failure.severity)
    )
    return {"type": failure.type, "cause": failure.cause, "severity": severity}


def _details(alert):
    return {"fingerprint": alert["fingerprint"], "starts_at": alert["starts_at"]}


def _name(value):
    """Reduce `value` to the alphabet of names; None if nothing remains."""
    cut = _UNSAFE.sub("_", str(value or "")).lstrip("._:/@+-")[:_MAX_NAME_CHARS]
    return cut if is_name(cut) else None
