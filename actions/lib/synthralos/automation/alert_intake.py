"""From an alert to the run that it asks for."""

import re

from synthralos.automation import admission
from synthralos.automation.admission import Incident
from synthralos.core import failures
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
    """(succeeded, result): what became of each alert of a trigger's payload: {summary, alerts,
    started, ticket}. It fails when StackStorm's API was away for one of them; the others have
    been seen to, and received again they are duplicates.

    At most `config.max_runs_per_webhook` runs are started; what is beyond that is one ticket.

    :param payload: of synthralos.metrics_alert, or of a webhook ({body}): a notification of
        Alertmanager (version 4) or Grafana.
    :param workflow: of the runs; AUTO: by the labels of each alert.
    :param only_ends: whether alerts that fire are left alone.
    :raises InvalidInput: the payload holds no alert.
    """
    told, beyond = [], []
    started = 0
    for alert in parse_alerts(payload, env.now()):
        entry = {name: alert[name] for name in ("fingerprint", "status")}
        done = {"outcome": FAILED, "run": None, "ticket": None}
        try:
            if alert["status"] == alert_payloads.RESOLVED:
                source = alert["source"]
                done = admission.resolve_incident(
                    env, incident_id(alert), alert["starts_at"], source
                )
            elif only_ends:
                done["outcome"] = SWITCHED_OFF
            elif started >= config.max_runs_per_webhook:
                beyond.append(alert)
                done["outcome"] = OVER_LIMIT
            else:
                done = admission.admit(env, config, incident_of(env, config, alert, workflow))
                started += done["outcome"] == admission.STARTED
        except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
            # One alert that cannot be seen to takes no other with it.
            done["error"] = str(error)
        told.append(dict(entry, **done))
    ticket = _overflow_ticket(env, config, beyond, workflow)
    for entry in told:
        if entry["outcome"] == OVER_LIMIT:
            entry["ticket"] = ticket
    return not any("error" in entry for entry in told), {
        "summary": summary_of([entry["outcome"] for entry in told]),
        "alerts": told,
        "started": started,
        "ticket": ticket,
    }


def summary_of(outcomes):
    """Such as `3 started, 1 duplicate`."""
    counts = ["%d %s" % (outcomes.count(one), one) for one in sorted(set(outcomes))]
    return ", ".join(counts) or "no alert"


def parse_alerts(payload, now):
    """The alerts of a payload, in the form of synthralos.metrics_alert."""
    body = payload.get("body")
    if isinstance(body, dict):
        return alert_payloads.from_webhook(body, now)
    if isinstance(payload.get("alerts"), list):
        return alert_payloads.from_webhook(payload, now)
    names = {"startsAt": "starts_at", "endsAt": "ends_at", "generatorURL": "generator_url"}
    told = dict(payload, **{name: payload.get(own) for name, own in names.items()})
    known = alert_payloads.from_webhook({"alerts": [told]}, now)
    return [dict(one, source=_name(payload.get("source")) or one["source"]) for one in known]


def incident_id(alert):
    return "alert-" + alert["fingerprint"]


def incident_of(env, config, alert, workflow=AUTO):
    """The Incident of a firing alert."""
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
    given = alert["labels"].get("failure_type") or "unknown"
    known = failures.resolve_type(given)
    failure_type = str(given).strip().lower() if known is not None else "unknown"
    message = _message(alert)
    failure = failures.from_text(message, None if failure_type == "unknown" else known[0])
    query = _query(env, config, alert, agent)
    held = None
    if agent is None:
        held = admission.NO_WORKFLOW
    elif query is None:
        held = admission.NO_QUERY
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
        blocked=held,
        details=_details(alert),
    )


def agent_of(config, alert):
    """The agent that the labels name, cut to the alphabet of names, or None."""
    for label in config.agent_labels:
        if alert["labels"].get(label):
            return _name(alert["labels"][label])
    return None


def subject_of(env, alert):
    """What an alert is about: its node, as infrastructure_repair reads it, else its fingerprint."""
    for label in InfrastructureConfig.from_config(env.settings.infrastructure).alert_labels:
        name = _name(alert["labels"].get(label))
        if name is not None:
            return name
    return alert["fingerprint"]


def _query(env, config, alert, agent):
    """The query to run again: the alert's own, else the execution's that it names, else the
    agent's last one.
    """
    for name in config.query_labels:
        for texts in (alert["annotations"], alert["labels"]):
            if texts.get(name, "").strip():
                return texts[name]
    for texts in (alert["labels"], alert["annotations"]):
        found = query_of_execution(env, texts.get("execution_id"))
        if found is not None:
            return found
    return last_queries.last_query(env.store, agent) if agent else None


def query_of_execution(env, execution_id):
    """The query that a StackStorm execution was given, or None."""
    if env.api is None or not _EXECUTION_ID.match(str(execution_id or "")):
        return None
    try:
        given = env.api.execution(execution_id, "parameters").get("parameters") or {}
    except StackStormError:
        return None
    for name in ("original_query", "query"):
        value = given.get(name)
        if isinstance(value, str) and value.strip() and not value.startswith(("@", "****")):
            return value
    return None


def _overflow_ticket(env, config, beyond, workflow):
    if not beyond:
        return None
    incident = incident_of(env, config, beyond[0], workflow)
    named = ", ".join(sorted({subject_of(env, alert) for alert in beyond})[:20])
    why = "%d alerts beyond the %d runs that one notification may start: %s" % (
        len(beyond), config.max_runs_per_webhook, named
    )
    rest = Incident(
        id="%s-rest" % incident.id,
        since=incident.since,
        subject="alerts",
        workflow=None,
        parameters={},
        request={},
        failure={"type": "unknown", "cause": "unknown", "severity": "high"},
        summary=why,
    )
    return admission.hold_for_person(env, rest, admission.TOO_MANY)["ticket"]


def _message(alert):
    texts = alert["annotations"]
    for name in ("description", "summary", "message"):
        if texts.get(name, "").strip():
            return texts[name]
    return alert["alertname"] or "an alert"


def _summary_line(alert):
    return "%s: %s" % (alert["alertname"] or "alert", _message(alert))


def _failure(failure, alert):
    told = str(alert["labels"].get("severity") or "").lower()
    severity = told if told in failures.SEVERITIES else _SEVERITIES.get(told, failure.severity)
    return {"type": failure.type, "cause": failure.cause, "severity": severity}


def _details(alert):
    return {"fingerprint": alert["fingerprint"], "starts_at": alert["starts_at"]}


def _name(value):
    """`value` cut to the alphabet of names, or None where nothing is left."""
    cut = _UNSAFE.sub("_", str(value or "")).lstrip("._:/@+-")[:_MAX_NAME_CHARS]
    return cut if is_name(cut) else None
