"""The mode observe: what would have been done is recorded, and nothing is started or opened.

A person who would have been asked is not asked either: a week of observing must not page anybody.
`report.render` shows both.
"""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.automation import outcomes, would_be
from synthralos.automation.decision import Event, is_observed_start
from synthralos.automation.incident import Incident
from synthralos.automation.outcomes import (
    DUPLICATE,
    OBSERVED,
    OVER_LIMIT,
    REASONS,
    RESOLVED,
    RUNNING,
    STARTED,
)
from synthralos.runtime.environment import Environment
from synthralos.storage import incidents, observations
from synthralos.storage.datastore import require_available
from synthralos.storage.observations import Observation


def observe(env: Environment, incident: Incident, outcome: str) -> dict[str, Any]:
    """Record what would have become of an incident; return it as `would` of a result has it.

    :param outcome: STARTED, RUNNING, DUPLICATE or one of REASONS.
    :returns: {outcome, reason (in words, or null), workflow, runbook, plan}; see would_be.plan. The
        plan is null unless something would have been started.
    :raises DatastoreUnavailable: it could not be recorded.
    """
    plan = would_be.plan(env, incident) if outcome == STARTED else None
    crews = would_be.crews_of(plan) if plan is not None else []
    now = env.now()
    if outcome not in (DUPLICATE, RUNNING):
        event = {
            "kind": incidents.OBSERVED,
            "since": incident.since,
            "workflow": incident.workflow,
            "subject": incident.subject,
            "run": None,
            "ticket": None,
            "outcome": outcome,
            "runbook": incident.runbook,
            "crews": crews,
        }
        incidents.record_event(env.store, now, incident.id, event)
    if outcome == STARTED:
        open_incident = incident.id if incident.is_state else None
        incidents.record_observed_start(
            env.store, now, incident.subject, open_incident, incident.work
        )
    observations.record(env.store, now, Observation(
        outcome,
        incident.id,
        incident.since,
        incident.subject,
        incident.workflow,
        incident.runbook,
        tuple(crews),
        is_unplanned=plan is not None and would_be.is_empty(plan),
    ))
    require_available(env.store, "%s: what would have been done could not be recorded")
    return {
        "outcome": outcome,
        "reason": REASONS.get(outcome),
        "workflow": incident.workflow,
        "runbook": incident.runbook,
        "plan": plan,
    }


def has_observed_start(result: Mapping[str, Any]) -> bool:
    """Return whether the result of an admission says that a run would have been started."""
    return bool(result["outcome"] == OBSERVED and result["would"]["outcome"] == STARTED)


def describe(would: Mapping[str, Any]) -> str:
    """Return what would have been done as a part of a sentence: `would start agent_recovery`."""
    if would["outcome"] == STARTED:
        return "would start %s" % (would["runbook"] or would["workflow"])
    if would["outcome"] == RUNNING:
        return "would be covered by a run that is under way"
    return "would ask a person: %s" % would["reason"]


def describe_result(result: Mapping[str, Any], subject: str) -> str:
    """Return the result of an admission as a line: `observed: bot, would start agent_recovery`."""
    text = outcomes.describe(result, subject)
    would = result.get("would")
    return text if would is None else "%s, %s" % (text, describe(would))


def observe_over_limit(
    env: Environment, workflow: Optional[str], runbook: Optional[str], count: int
) -> None:
    """Record the reports of a notification beyond its limit, which no admission has seen."""
    observation = Observation(OVER_LIMIT, workflow=workflow, runbook=runbook, count=count)
    observations.record(env.store, env.now(), observation)


def observe_no_failure(env: Environment, outcome: str, fingerprint: str) -> None:
    """Record an alert that is no failure, once an hour."""
    name = "%s-%s" % (outcome, fingerprint)
    observations.record_hourly(env.store, env.now(), Observation(outcome), name)


def observe_end(env: Environment, incident_id: str, events: list[Event]) -> None:
    """Record that an incident ended by itself, if the mode observe has recorded it.

    :param events: of the incident since its beginning, newest first.
    """
    observed = [event for event in events if event["kind"] == incidents.OBSERVED]
    was_started = any(event["kind"] == incidents.STARTED for event in events)
    if not observed or was_started:
        return
    event = next(filter(is_observed_start, observed), observed[-1])
    observations.record(env.store, env.now(), Observation(
        RESOLVED,
        incident_id,
        event["since"],
        event["subject"],
        event["workflow"],
        event.get("runbook"),
        tuple(event.get("crews") or ()),
        ended=event.get("outcome"),
        seconds=round(env.now() - event["at"], 3),
    ))
