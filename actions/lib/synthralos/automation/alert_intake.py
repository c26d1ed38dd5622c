"""Turns alerts into incidents, and hands these to admission control.

An incident is a thing that failed, by an alert of one name: the same thing is one incident whatever
the address of the exporter that reports it, and another one in another cluster.
"""

import re
from dataclasses import dataclass, replace
from typing import Optional

from synthralos.automation import (
    admission,
    alert_triage,
    decision,
    modes,
    observation,
    outcomes,
)
from synthralos.automation.incident import Incident
from synthralos.config.modes import OBSERVE
from synthralos.core import causes, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import to_name
from synthralos.core.plurals import count_noun
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.infrastructure_repair import DEFAULT_RUN_SECONDS
from synthralos.infrastructure.runbooks import find_runbook
from synthralos.infrastructure.topology import Topology
from synthralos.sensing import alert_payloads, alert_subjects
from synthralos.storage import incidents, last_queries
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.incidents import FiringAlert
from synthralos.storage.stackstorm_api import StackStormError

AGENT, INFRASTRUCTURE = "agent_recovery", "infrastructure_repair"
AUTO = "auto"
# What a run with a runbook needs besides its steps: its other tasks, and waiting for its turn.
RUN_MARGIN_SECONDS, MAX_RUN_SECONDS = 1200, 3600
# For how long after its last report another alert of an incident counts as firing.
REPORT_SECONDS = 3600
_EXECUTION_ID = re.compile(r"[0-9a-f]{24}\Z")
_SEVERITIES = {
    "page": "critical", "emergency": "critical", "error": "high", "major": "high",
    "warning": "medium", "minor": "low", "info": "low", "none": "low",
}
# A suffix of the incident of a rule that could not be evaluated, beside that of the rule itself.
_EVALUATION = "-evaluation"


@dataclass(frozen=True)
class Report:
    """An alert, and what it is about.

    :ivar alert: a payload of synthralos.metrics_alert.
    :ivar agent: the agent that its labels name, or None.
    :ivar subject: the name of the agent, or of the failed thing with its cluster; the alert's
        fingerprint if no label names one.
    :ivar incident_id: the same for all alerts about the same failure of the same thing.
    :ivar is_ambiguous: whether several clusters have a thing of this name, and none is named.
    """

    alert: dict
    agent: Optional[str]
    subject: str
    incident_id: str
    is_ambiguous: bool = False


def receive(env, config, payload, workflow=AUTO, only_ends=False):
    """Process all alerts of a trigger's payload.

    At most `config.max_runs_per_webhook` runs are started; one ticket covers the rest, and those
    that the sender has left out of the notification. In the mode observe the same is recorded.

    :param payload: of synthralos.metrics_alert, or of a webhook ({body}): a notification of
        Alertmanager (version 4) or Grafana.
    :param workflow: workflow of the runs; AUTO chooses it by the labels of each alert.
    :param only_ends: whether firing alerts are ignored.
    :returns: (succeeded, {summary, alerts, started, ticket}). `succeeded` is False if an alert
        could not be processed, for instance because StackStorm's API was unavailable. The others
        have been processed; if they are received again, they are duplicates.
    :raises InvalidInput: the payload holds no alert.
    """
    entries, over_limit_alerts = [], []
    started = observed_starts = 0
    alerts = parse_alerts(payload, env.now())
    in_force = modes.modes_in_force(env, config)
    runbooks = _runbooks(env)
    _record_clusters(env, config, alerts)
    for alert in alerts:
        entry = {name: alert[name] for name in ("fingerprint", "status")}
        outcome = {"outcome": outcomes.FAILED, "run": None, "ticket": None}
        try:
            verdict = alert_triage.judge(alert, config.always_firing)
            if verdict is not None and verdict.outcome != outcomes.NOT_EVALUATED:
                outcome.update(outcome=verdict.outcome, reason=verdict.reason)
                handling = _handling_of(config, runbooks, alert, workflow)
                if modes.mode_in(in_force, *handling) == OBSERVE:
                    observation.observe_others(env, verdict.outcome)
            elif alert["status"] == alert_payloads.RESOLVED:
                outcome = _resolve(env, config, alert)
            elif only_ends:
                outcome["outcome"] = outcomes.SWITCHED_OFF
            elif verdict is not None:
                outcome = _hold_evaluation(env, config, alert, verdict.reason)
            elif started + observed_starts >= config.max_runs_per_webhook:
                over_limit_alerts.append(alert)
                outcome["outcome"] = outcomes.OVER_LIMIT
            else:
                outcome = _admit(env, config, report_of(env, config, alert), workflow)
                started += outcome["outcome"] == outcomes.STARTED
                observed_starts += observation.has_observed_start(outcome)
        except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
            # An alert that cannot be processed does not affect the others.
            outcome["error"] = str(error)
        entries.append(dict(entry, **outcome))
    over_limit_alerts = _observe_over_limit(env, config, in_force, over_limit_alerts, workflow)
    ticket = _overflow_ticket(env, config, over_limit_alerts, workflow)
    for entry in entries:
        if entry["outcome"] == outcomes.OVER_LIMIT:
            entry["ticket"] = ticket
    result = {
        "summary": summary_of([entry["outcome"] for entry in entries]),
        "alerts": entries,
        "started": started,
        "ticket": ticket,
    }
    succeeded = not any("error" in entry for entry in entries)
    truncated = alert_payloads.truncated_count(alerts)
    if truncated:
        note = "%s not in the notification" % count_noun(truncated, "more alert")
        result.update(summary="%s; %s" % (result["summary"], note), truncated=truncated)
        if not only_ends:
            try:
                result["ticket"] = ticket or _truncation_ticket(env, config, alerts, note)
            except (StackStormError, DatastoreUnavailable) as error:
                succeeded, result["error"] = False, str(error)
    return succeeded, result


def summary_of(names):
    """Count outcomes as text, such as `3 started, 1 duplicate`."""
    counts = ["%d %s" % (names.count(name), name) for name in sorted(set(names))]
    return ", ".join(counts) or "no alert"


def parse_alerts(payload, now):
    """Return the alerts of a payload, in the form of synthralos.metrics_alert."""
    body = payload.get("body")
    if isinstance(body, dict):
        return alert_payloads.from_webhook(body, now)
    if isinstance(payload.get("alerts"), list) or "ruleName" in payload:
        return alert_payloads.from_webhook(payload, now)
    alert = alert_payloads.from_item(payload, {}, now)
    return [dict(alert, source=to_name(payload.get("source")) or alert["source"])]


def report_of(env, config, alert):
    """Return the Report of an alert. Costs a call to the datastore if it names no cluster.

    An alert without a cluster is about the only cluster that has a thing of its name.
    """
    rules = _rules(env)
    agent = agent_of(config, alert)
    if agent is not None:
        label = next(label for label in config.agent_labels if alert["labels"].get(label))
        return Report(alert, agent, agent, _incident_id(alert, label, None, rules))
    label, name, cluster = _failed_thing(alert, rules)
    if name is None:
        incident_id = _incident_id(alert, None, None, rules)
        return Report(alert, None, alert["fingerprint"], incident_id)
    clusters = _clusters_with(env, name) if cluster is None else [cluster]
    cluster = clusters[0] if len(clusters) == 1 else None
    incident_id = _incident_id(alert, label, cluster, rules)
    return Report(alert, None, _qualified(name, cluster), incident_id, len(clusters) > 1)


def _failed_thing(alert, rules):
    """Return (label, name, cluster) of what failed, by the alert's labels alone; None for unknown.
    """
    subject = alert_subjects.find_subject(alert["labels"], rules)
    if subject is None:
        return None, None, None
    return subject.label, to_name(subject.name), to_name(subject.cluster)


def _qualified(name, cluster):
    qualified_name = None if cluster is None else to_name("%s/%s" % (cluster, name))
    return qualified_name or name


def _labelled_subject(config, alert, rules):
    """Return the subject of an alert without a call to the datastore, for a list of many."""
    _, name, cluster = _failed_thing(alert, rules)
    if name is not None:
        name = _qualified(name, cluster)
    return agent_of(config, alert) or name or alert["fingerprint"]


def incident_of(env, config, report, workflow=AUTO):
    """Build the Incident of a firing alert's Report."""
    alert = report.alert
    if _workflow_of(config, alert, workflow) == AGENT:
        return _agent_incident(env, config, report)
    failure = failures.from_text(_message(alert))
    runbook, seconds = _runbook(env, alert)
    return Incident(
        id=report.incident_id,
        since=alert["starts_at"],
        subject=report.subject,
        workflow=INFRASTRUCTURE,
        runbook=None if runbook is None else runbook.name,
        runbook_mode=None if runbook is None else runbook.mode,
        work=None if runbook is None else runbook.work_for(alert["labels"]),
        parameters=dict({"source": "alert"}, **({} if runbook is None else {"timeout": seconds})),
        request={"alert": alert},
        failure=_failure(failure, alert),
        summary=_summary_line(alert),
        blocked=outcomes.AMBIGUOUS if report.is_ambiguous else None,
        details=_details(alert),
    )


def _runbook(env, alert):
    """Return (the runbook that matches an alert, the time limit of its run in seconds), or None for
    both.
    """
    try:
        config = _infrastructure(env)
    except InvalidInput:
        # The run reports it.
        return None, None
    runbook = find_runbook(config.runbooks, alert["labels"])
    if runbook is None:
        return None, None
    seconds = runbook.seconds_needed(config.settle_seconds) + RUN_MARGIN_SECONDS
    return runbook, min(max(seconds, DEFAULT_RUN_SECONDS), MAX_RUN_SECONDS)


def _agent_incident(env, config, report):
    alert, agent = report.alert, report.agent
    label = alert["labels"].get("failure_type") or "unknown"
    resolved_type = causes.resolve_type(label)
    failure_type = str(label).strip().lower() if resolved_type is not None else "unknown"
    message = _message(alert)
    failure = failures.from_text(message, None if failure_type == "unknown" else resolved_type[0])
    query = _query(env, config, alert, agent)
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


def agent_of(config, alert):
    """Return the agent that the labels name, reduced to the alphabet of names, or None."""
    for label in config.agent_labels:
        if alert["labels"].get(label):
            return to_name(alert["labels"][label])
    return None


def _workflow_of(config, alert, workflow):
    """Return the workflow that an alert would start: `workflow`, or that of AUTO."""
    if workflow != AUTO:
        return workflow
    return INFRASTRUCTURE if agent_of(config, alert) is None else AGENT


def _handling_of(config, runbooks, alert, workflow):
    """Return (workflow, name of the runbook or None) of an alert, by its labels alone."""
    workflow = _workflow_of(config, alert, workflow)
    runbook = find_runbook(runbooks, alert["labels"]) if workflow == INFRASTRUCTURE else None
    return workflow, None if runbook is None else runbook.name


def _runbooks(env):
    try:
        return _infrastructure(env).runbooks
    except InvalidInput:
        # A run of infrastructure_repair reports that; no alert may be lost for it.
        return ()


def _incident_id(alert, subject_label, cluster, rules):
    """Return the id of an alert's incident.

    :param cluster: the cluster of its subject, or None.
    """
    if alert["extra"].get("ruleId"):
        # The older notifications of Grafana name what failed only while it fails.
        return "alert-" + alert["fingerprint"]
    labels = alert_subjects.identity_labels(alert["labels"], subject_label, rules)
    for name in rules.clusters + alert_subjects.CLUSTERS:
        labels.pop(name, None)
    # No label is called "".
    return "alert-" + alert_payloads.fingerprint(dict(labels, **{"": cluster or ""}))


def _rules(env):
    try:
        return _infrastructure(env).alert_rules
    except InvalidInput:
        # A run of infrastructure_repair reports that; no alert may be lost for it.
        return alert_subjects.SubjectRules()


def _infrastructure(env):
    return InfrastructureConfig.from_config(env.settings.infrastructure)


def _clusters_with(env, name):
    """Return the clusters that have a thing of that name, by alerts and by the topology."""
    clusters = set(incidents.clusters_with(env.store, name))
    try:
        topology = Topology.load(env, _infrastructure(env))
    except InvalidInput:
        return sorted(clusters)
    if name not in topology:
        clusters.update(topology.clusters_with(name))
    return sorted(clusters)


def _record_clusters(env, config, alerts):
    """Record which clusters have the things that alerts are about."""
    rules = _rules(env)
    seen = set()
    for alert in alerts:
        if alert_triage.judge(alert, config.always_firing) is not None or agent_of(config, alert):
            continue
        _, name, cluster = _failed_thing(alert, rules)
        if name is not None and cluster is not None:
            seen.add((name, cluster))
    for name, cluster in sorted(seen):
        incidents.record_cluster(env.store, name, cluster)


def _admit(env, config, report, workflow):
    """Admit a firing alert, as a repeat if other alerts report its incident already."""
    alert = report.alert
    incident = incident_of(env, config, report, workflow)
    since = incident.since
    for firing in incidents.firing_alerts(env.store, incident.id):
        if firing.fingerprint == alert["fingerprint"]:
            is_continued = firing.is_gone or not decision.is_later(
                alert["starts_at"], firing.starts_at
            )
        else:
            is_continued = env.now() - firing.at < REPORT_SECONDS
        if is_continued and decision.is_later(since, firing.since):
            since = firing.since
    outcome = admission.admit(env, config, replace(incident, since=since))
    firing = FiringAlert(alert["fingerprint"], alert["starts_at"], since, env.now())
    incidents.record_firing(env.store, incident.id, firing)
    return outcome


def _resolve(env, config, alert):
    """Resolve what a resolved alert has opened, if it is evidence for that."""
    report = report_of(env, config, alert)
    evaluation_id = report.incident_id + _EVALUATION
    if alert_triage.is_evaluation_alert(alert):
        return _resolve_incident(env, evaluation_id, alert)
    reports = incidents.firing_alerts(env.store, report.incident_id)
    own = next((firing for firing in reports if firing.fingerprint == alert["fingerprint"]), None)
    reason = alert_triage.state_reason(alert)
    if reason is not None:
        if own is not None:
            incidents.record_firing(env.store, report.incident_id, replace(own, is_gone=True))
        return {
            "outcome": outcomes.UNCONFIRMED,
            "run": None,
            "ticket": None,
            "reason": "Grafana resolved it without a result of the rule: %s" % reason,
        }
    if alert["source"] == "grafana":
        _resolve_incident(env, evaluation_id, alert)
    if own is not None:
        if decision.is_later(own.starts_at, alert["starts_at"]):
            return {"outcome": outcomes.NOTHING_OPEN, "run": None, "ticket": None}
        incidents.remove_firing(env.store, report.incident_id, own.fingerprint)
        if len(reports) > 1:
            return {"outcome": outcomes.STILL_FIRING, "run": None, "ticket": None}
    return _resolve_incident(env, report.incident_id, alert)


def _resolve_incident(env, incident_id, alert):
    return admission.resolve_incident(env, incident_id, alert["starts_at"], alert["source"])


def _hold_evaluation(env, config, alert, reason):
    """Open a ticket for a rule that could not be evaluated: what it watches need not have failed.
    """
    report = report_of(env, config, alert)
    rule = alert["labels"].get("rulename") or alert["alertname"]
    failure = {"type": "unknown", "cause": "unknown", "severity": "medium"}
    incident = Incident(
        id=report.incident_id + _EVALUATION,
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
    outcome = admission.admit(env, config, incident)
    return dict(outcome, reason=reason)


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


def _observe_over_limit(env, config, in_force, alerts, workflow):
    """Record those of the alerts beyond a limit that are observed; return the others.

    Costs a call to the datastore for each workflow and runbook, however many alerts there are.
    """
    runbooks, counts, remaining = _runbooks(env), {}, []
    for alert in alerts:
        handling = _handling_of(config, runbooks, alert, workflow)
        if modes.mode_in(in_force, *handling) == OBSERVE:
            counts[handling] = counts.get(handling, 0) + 1
        else:
            remaining.append(alert)
    for handling, count in counts.items():
        observation.observe_others(env, outcomes.OVER_LIMIT, *handling, count=count)
    return remaining


def _overflow_ticket(env, config, alerts, workflow):
    if not alerts:
        return None
    first = incident_of(env, config, report_of(env, config, alerts[0]), workflow)
    rules = _rules(env)
    subjects = ", ".join(sorted({_labelled_subject(config, alert, rules) for alert in alerts})[:20])
    summary = "%d alerts beyond the %d runs that one notification may start: %s" % (
        len(alerts), config.max_runs_per_webhook, subjects
    )
    incident = _incident_of_many("%s-rest" % first.id, first.since, summary)
    return admission.hold_for_person(env, incident, outcomes.TOO_MANY)


def _truncation_ticket(env, config, alerts, note):
    """Open a ticket for the alerts that the sender has left out; return its id, or None."""
    first = alerts[0]
    group = alert_payloads.fingerprint({"groupKey": first["extra"].get("groupKey", "")})
    summary = "%s of %s; raise max_alerts of the receiver" % (
        note, first["extra"].get("receiver") or first["source"]
    )
    since = min(alert["starts_at"] for alert in alerts)
    incident = _incident_of_many("alert-truncated-%s" % group, since, summary)
    incident = replace(incident, blocked=outcomes.TRUNCATED)
    return admission.admit(env, config, incident)["ticket"]


def _incident_of_many(incident_id, since, summary):
    return Incident(
        id=incident_id,
        since=since,
        subject="alerts",
        workflow=None,
        parameters={},
        request={},
        failure={"type": "unknown", "cause": "unknown", "severity": "high"},
        summary=summary,
    )


def _message(alert):
    texts = alert["annotations"]
    for name in ("description", "summary", "message"):
        if texts.get(name, "").strip():
            return texts[name]
    return alert["alertname"] or "an alert"


def _summary_line(alert):
    return "%s: %s" % (alert["alertname"] or "alert", _message(alert))


def _failure(failure, alert):
    fields = {"type": failure.type, "cause": failure.cause, "severity": failure.severity}
    return _failure_severity(fields, alert)


def _failure_severity(failure, alert):
    """Return {type, cause, severity} with the severity that the alert's label names, if any."""
    label = str(alert["labels"].get("severity") or "").lower()
    severity = label if label in causes.SEVERITIES else _SEVERITIES.get(label, failure["severity"])
    return dict(failure, severity=severity)


def _details(alert):
    return {"fingerprint": alert["fingerprint"], "starts_at": alert["starts_at"]}
