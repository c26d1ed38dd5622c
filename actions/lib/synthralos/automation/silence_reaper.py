"""Ends the silences of runs that have ended, and closes what was over while it was silenced.

A run ends its own silences, unless it is cancelled or its process is killed. Alertmanager reports
no end of an alert that ends while it is silenced. So once a run has ended, Alertmanager is asked
whether its alert is gone; one that still fires is reported by Alertmanager again.
"""

from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls.http import CallError
from synthralos.core.timestamps import to_iso
from synthralos.infrastructure import alertmanager_silences, repair_evidence, silences
from synthralos.infrastructure.repair_evidence import HEALTHY, Calls
from synthralos.sensing import alert_payloads
from synthralos.storage import silence_records
from synthralos.storage.silence_records import SilenceRecord
from synthralos.storage.stackstorm_api import has_ended

if TYPE_CHECKING:
    from synthralos.automation.config import AutomationConfig
    from synthralos.runtime.environment import Environment
    from synthralos.sensing.config import Alertmanager

CALLS_SECONDS = 15.0
# The others follow within a minute.
MAX_RUNS_AT_ONCE = 20
# What became of an alert that was silenced.
STILL_FIRING, UNKNOWN = "still_firing", "unknown"


def end_left_behind(env: "Environment", config: "AutomationConfig") -> list[dict[str, Any]]:
    """End the silences of runs that have ended, and close the cases of alerts that are over.

    :returns: [{run, fingerprint, ended, outcome, ticket}]: `ended` is false where the silence may
        still be active; `outcome` is that of alert.receive for the end of the alert, still_firing,
        or unknown, so that the next reaper asks again; `ticket` is the one that was closed.
    :raises StackStormError: StackStorm is unavailable, so that nobody knows which runs have ended.
    :raises InvalidInput: `sensors.alertmanager` or `infrastructure` is invalid.
    """
    by_run: dict[str, list[SilenceRecord]] = {}
    for record in silence_records.list_all(env.store):
        by_run.setdefault(record.run, []).append(record)
    alertmanager = repair_evidence.load_alertmanager(env) if by_run else None
    report: list[dict[str, Any]] = []
    if alertmanager is None:
        return report
    ended_runs = [run for run in sorted(by_run) if has_ended(env.api, run)]
    for run in ended_runs[:MAX_RUNS_AT_ONCE]:
        is_ended = silences.end(env, run)
        labels_of = _labels_by_fingerprint(env, alertmanager, run)
        for record in by_run[run]:
            labels = None if labels_of is None else labels_of.get(record.fingerprint)
            entry = {"run": run, "fingerprint": record.fingerprint, "ended": is_ended}
            if labels_of is not None and labels is None:
                # It was never silenced.
                entry.update(outcome=STILL_FIRING, ticket=None)
            else:
                entry.update(_close(env, config, alertmanager, record, labels))
            if is_ended and entry["outcome"] != UNKNOWN:
                silence_records.remove(env.store, record)
            report.append(entry)
    return report


def _labels_by_fingerprint(
    env: "Environment", alertmanager: "Alertmanager", run: str
) -> Optional[dict[str, dict[str, str]]]:
    """Return {fingerprint: labels} of the alerts that a run has silenced; None if nobody knows."""
    calls = Calls(env, env.now() + CALLS_SECONDS)
    labels: dict[str, dict[str, str]] = {}
    for connection in alertmanager.connections:
        try:
            states = alertmanager_silences.list_of_run(calls, connection, run, env.now())
        except CallError:
            return None
        labels.update((alert_payloads.fingerprint(state.labels), state.labels) for state in states)
    return labels


def _close(
    env: "Environment", config: "AutomationConfig", alertmanager: "Alertmanager",
    record: SilenceRecord, labels: Optional[dict[str, str]],
) -> dict[str, Any]:
    """Close the case of an alert if it is over; return {outcome, ticket}."""
    # What it needs is more than the other tasks of the reaper do.
    from synthralos.automation import alert_intake

    unknown = {"outcome": UNKNOWN, "ticket": None}
    if labels is None:
        return unknown
    alertname = labels.get("alertname", "")
    calls = Calls(env, env.now() + CALLS_SECONDS)
    firing, evidence = repair_evidence.firing_alerts(env, calls, alertmanager, [alertname])
    if record.fingerprint in firing:
        return {"outcome": STILL_FIRING, "ticket": None}
    if evidence.state != HEALTHY:
        return unknown
    payload = {
        "source": repair_evidence.ALERTMANAGER, "fingerprint": record.fingerprint,
        "status": alert_payloads.RESOLVED, "starts_at": record.starts_at,
        "ends_at": to_iso(env.now()), "labels": labels, "alertname": alertname,
    }
    _, result = alert_intake.receive(env, config, payload, only_ends=True)
    [entry] = result["alerts"]
    return {
        "outcome": UNKNOWN if "error" in entry else entry["outcome"], "ticket": entry["ticket"],
    }
