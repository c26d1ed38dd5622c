"""Decides for each alert of a notification: what fires is handed to admission control as an
incident, and what is resolved closes what it opened.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional

from synthralos.automation import (
    admission,
    alert_incidents,
    alert_reports,
    alert_triage,
    decision,
    modes,
    observation,
    outcomes,
)
from synthralos.automation.alert_incidents import AUTO, EVALUATION_SUFFIX
from synthralos.automation.alert_reports import AlertContext, Report
from synthralos.automation.config import AutomationConfig
from synthralos.config.modes import OBSERVE
from synthralos.core.errors import InvalidInput
from synthralos.core.plurals import count_noun
from synthralos.infrastructure.config import load_config_or_default
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads
from synthralos.sensing.alert_payloads import AlertPayload
from synthralos.storage import incidents
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.incidents import FiringAlert
from synthralos.storage.stackstorm_api import StackStormError

# For how long after its last report another alert of an incident counts as firing.
REPORT_SECONDS = 3600
MAX_SUBJECTS_SHOWN = 20


def receive(
    env: Environment,
    config: AutomationConfig,
    payload: Mapping[str, Any],
    workflow: str = AUTO,
    only_ends: bool = False,
) -> tuple[bool, dict[str, Any]]:
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
    notification = alert_reports.parse_notification(payload, env.now())
    alerts = notification.alerts
    context = AlertContext(env, config, load_config_or_default(env))
    in_force = modes.modes_in_force(env, config, context.infrastructure)
    alert_reports.record_clusters(context, alerts)
    entries: list[dict[str, Any]] = []
    over_limit_alerts = []
    started = observed_starts = 0
    for alert in alerts:
        is_full = started + observed_starts >= config.max_runs_per_webhook
        try:
            result = _process(context, in_force, alert, workflow, only_ends, is_full)
        except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
            # An alert that cannot be processed does not affect the others.
            result = _result(outcomes.FAILED, error=str(error))
        started += result["outcome"] == outcomes.STARTED
        observed_starts += observation.has_observed_start(result)
        if result["outcome"] == outcomes.OVER_LIMIT:
            over_limit_alerts.append(alert)
        identity = {"fingerprint": alert["fingerprint"], "status": alert["status"]}
        entries.append(dict(identity, **result))
    over_limit_alerts = _observe_over_limit(context, in_force, over_limit_alerts, workflow)
    ticket = _overflow_ticket(context, over_limit_alerts, workflow)
    for entry in entries:
        if entry["outcome"] == outcomes.OVER_LIMIT:
            entry["ticket"] = ticket
    summary: dict[str, Any] = {
        "summary": summary_of([entry["outcome"] for entry in entries]),
        "alerts": entries,
        "started": started,
        "ticket": ticket,
    }
    succeeded = not any("error" in entry for entry in entries)
    if notification.truncated:
        note = "%s not in the notification" % count_noun(notification.truncated, "more alert")
        summary.update(
            summary="%s; %s" % (summary["summary"], note), truncated=notification.truncated)
        if not only_ends and alerts:
            try:
                summary["ticket"] = ticket or _truncation_ticket(context, alerts, note)
            except (StackStormError, DatastoreUnavailable) as error:
                succeeded, summary["error"] = False, str(error)
    if notification.errors:
        note = "%s of the notification: %s" % (
            count_noun(len(notification.errors), "unreadable entry", "unreadable entries"),
            notification.errors[0])
        summary.update(summary="%s; %s" % (summary["summary"], note))
        succeeded, summary["error"] = False, note
    return succeeded, summary


def summary_of(names: list[str]) -> str:
    """Count outcomes as text, such as `3 started, 1 duplicate`."""
    counts = ["%d %s" % (names.count(name), name) for name in sorted(set(names))]
    return ", ".join(counts) or "no alert"


def _process(
    context: AlertContext,
    in_force: dict[str, Any],
    alert: AlertPayload,
    workflow: str,
    only_ends: bool,
    is_full: bool,
) -> Mapping[str, Any]:
    """Process one alert; return {outcome, run, ticket} and what explains it.

    :param in_force: as modes.modes_in_force returns it.
    :param is_full: whether the notification has started as many runs as it may.
    """
    verdict = alert_triage.judge(alert, context.automation.always_firing)
    if verdict is not None and verdict.outcome != outcomes.NOT_EVALUATED:
        handling = alert_incidents.handling_of(context, alert, workflow)
        if modes.mode_in(in_force, *handling) == OBSERVE:
            observation.observe_no_failure(context.env, verdict.outcome, alert["fingerprint"])
        return _result(verdict.outcome, reason=verdict.reason)
    if alert["status"] == alert_payloads.RESOLVED:
        return _resolve(context, alert)
    if only_ends:
        return _result(outcomes.SWITCHED_OFF)
    if verdict is None and is_full:
        return _result(outcomes.OVER_LIMIT)
    report = alert_reports.report_of(context, alert)
    if verdict is None:
        return _admit(context, report, workflow)
    # What the rule watches need not have failed.
    incident = alert_incidents.evaluation_incident_of(report, verdict.reason)
    admitted = admission.admit(context.env, context.automation, incident)
    return dict(admitted, reason=verdict.reason)


def _result(outcome: str, **explanation: str) -> dict[str, Any]:
    """Return the result of an alert for which no run is started and no ticket is opened."""
    return dict({"outcome": outcome, "run": None, "ticket": None}, **explanation)


def _admit(context: AlertContext, report: Report, workflow: str) -> admission.Admission:
    """Admit a firing alert, as a repeat if other alerts report its incident already."""
    env, alert = context.env, report.alert
    incident = alert_incidents.incident_of(context, report, workflow)
    since = incident.since
    for firing in incidents.firing_alerts(env.store, incident.id):
        is_recent = env.now() - firing.at < REPORT_SECONDS
        if firing.fingerprint == alert["fingerprint"]:
            is_unknown = alert["extra"].get("startsAt") == alert_payloads.UNKNOWN_START
            is_continued = firing.is_gone or (is_unknown and is_recent) or not decision.is_later(
                alert["starts_at"], firing.starts_at
            )
        else:
            is_continued = is_recent
        if is_continued and decision.is_later(since, firing.since):
            since = firing.since
    result = admission.admit(env, context.automation, replace(incident, since=since))
    firing = FiringAlert(alert["fingerprint"], alert["starts_at"], since, env.now())
    incidents.record_firing(env.store, incident.id, firing)
    return result


def _resolve(context: AlertContext, alert: AlertPayload) -> Mapping[str, Any]:
    """Resolve what a resolved alert has opened, if it is evidence for that."""
    env, report = context.env, alert_reports.report_of(context, alert)
    evaluation_id = report.incident_id + EVALUATION_SUFFIX
    if alert_triage.is_evaluation_alert(alert):
        return _resolve_incident(env, evaluation_id, alert)
    reports = incidents.firing_alerts(env.store, report.incident_id)
    own = next((firing for firing in reports if firing.fingerprint == alert["fingerprint"]), None)
    reason = alert_triage.state_reason(alert)
    if reason is not None:
        if own is not None:
            incidents.record_firing(env.store, report.incident_id, replace(own, is_gone=True))
        return _result(
            outcomes.UNCONFIRMED,
            reason="Grafana resolved it without a result of the rule: %s" % reason,
        )
    if alert["source"] == "grafana":
        _resolve_incident(env, evaluation_id, alert)
    if own is not None:
        if decision.is_later(own.starts_at, alert["starts_at"]):
            return _result(outcomes.NOTHING_OPEN)
        incidents.remove_firing(env.store, report.incident_id, own.fingerprint)
        if len(reports) > 1:
            return _result(outcomes.STILL_FIRING)
    return _resolve_incident(env, report.incident_id, alert)


def _resolve_incident(
    env: Environment, incident_id: str, alert: Mapping[str, Any]
) -> admission.Resolution:
    return admission.resolve_incident(env, incident_id, alert["starts_at"], alert["source"])


def _observe_over_limit(
    context: AlertContext, in_force: dict[str, Any], alerts: list[AlertPayload], workflow: str
) -> list[AlertPayload]:
    """Record those of the alerts beyond a limit that are observed; return the others.

    Costs a call to the datastore for each workflow and runbook, however many alerts there are.
    """
    counts: dict[tuple[str, Optional[str]], int] = {}
    remaining = []
    for alert in alerts:
        handling = alert_incidents.handling_of(context, alert, workflow)
        if modes.mode_in(in_force, *handling) == OBSERVE:
            counts[handling] = counts.get(handling, 0) + 1
        else:
            remaining.append(alert)
    for handling, count in counts.items():
        observation.observe_over_limit(context.env, *handling, count)
    return remaining


def _overflow_ticket(
    context: AlertContext, alerts: list[AlertPayload], workflow: str
) -> Optional[str]:
    """Open a ticket for the alerts beyond the limit; return its id, or None without any."""
    if not alerts:
        return None
    report = alert_reports.report_of(context, alerts[0])
    first = alert_incidents.incident_of(context, report, workflow)
    subjects = sorted({alert_reports.labelled_subject(context, alert) for alert in alerts})
    summary = "%s beyond the %s that one notification may start: %s" % (
        count_noun(len(alerts), "alert"),
        count_noun(context.automation.max_runs_per_webhook, "run"),
        ", ".join(subjects[:MAX_SUBJECTS_SHOWN]),
    )
    incident = alert_incidents.incident_of_many("%s-rest" % first.id, first.since, summary)
    return admission.hold_for_person(context.env, incident, outcomes.TOO_MANY)


def _truncation_ticket(
    context: AlertContext, alerts: list[AlertPayload], note: str
) -> Optional[str]:
    """Open a ticket for the alerts that the sender has left out; return its id, or None."""
    first = alerts[0]
    group = alert_payloads.fingerprint({"groupKey": first["extra"].get("groupKey", "")})
    summary = "%s of %s; raise max_alerts of the receiver" % (
        note, first["extra"].get("receiver") or first["source"]
    )
    since = min(alert["starts_at"] for alert in alerts)
    incident = alert_incidents.incident_of_many(
        "alert-truncated-%s" % group, since, summary, outcomes.TRUNCATED
    )
    return admission.admit(context.env, context.automation, incident)["ticket"]
