"""Admission control: start a run for an incident, leave it to a person, or only record it.

A storm of one alert starts one run. An alert that recurs after a successful repair, an agent that
is recovered too often, and a failure without a query to run again are left to a person: each
becomes a ticket. Every start and every incident that was held back is recorded. What the mode of
automation says decides whether any of this happens: observe records what would have been done.
"""

import contextlib
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.automation import (
    approvals,
    decision,
    modes,
    observation,
    recovery_with_approval,
)
from synthralos.automation.decision import History, ObservedHistory, is_later
from synthralos.automation.outcomes import (
    DUPLICATE,
    NOTHING_OPEN,
    OBSERVED,
    REASONS,
    RESOLVED,
    RUNNING,
    STARTED,
)
from synthralos.config.modes import APPROVE, OBSERVE
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.escalation import ticketing
from synthralos.storage import incidents, locks, reaped_runs, tickets
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable, require_available
from synthralos.storage.retention_store import case_seconds
from synthralos.storage.stackstorm_api import ENDED, StackStormError

if TYPE_CHECKING:
    from synthralos.automation.config import AutomationConfig
    from synthralos.automation.incident import Incident
    from synthralos.runtime.environment import Environment
    from synthralos.storage.stackstorm_api import Row

MAX_SUMMARY_CHARS = 300
# Workflows that ask whether what they were started for may be done.
ASKING_REFS = tuple(
    "synthralos." + name
    for name in (recovery_with_approval.WORKFLOW, recovery_with_approval.REPAIR)
)


class _Result(TypedDict):
    outcome: str
    mode: str
    subject: str
    workflow: Optional[str]
    run: Optional[str]
    ticket: Optional[str]


class Admission(_Result, total=False):
    """What became of an incident.

    `outcome` is one of outcomes, and `mode` the mode of automation that was in force. `would` is
    there for OBSERVED only; see observation.observe.
    """

    would: dict[str, Any]


class Resolution(TypedDict):
    """What became of an incident that has ended: RESOLVED, or NOTHING_OPEN.

    `run` is the one that was started for it; `ticket` is the one that was closed.
    """

    outcome: str
    run: Optional[str]
    ticket: Optional[str]


def admit(env: "Environment", config: "AutomationConfig", incident: "Incident") -> Admission:
    """Start a run for the incident, open a ticket for it, or recognize it as a duplicate.

    In the mode observe none of this happens: the outcome is OBSERVED, and `would` says what it
    would have been.

    :raises DatastoreUnavailable: the datastore is unavailable. Without it every alert of a storm
        would start a run. Nothing is lost if the incident is reported again.
    :raises StackStormError: StackStorm's API is unavailable; likewise.
    """
    lock_name = "incident-" + encode_key_part(incident.id)
    with locks.try_lock(env.store, lock_name, env.now) as is_acquired:
        mode = modes.mode_of(
            env, config, incident.workflow, incident.runbook, incident.runbook_mode
        ).mode
        _require_store(env)
        if not is_acquired:
            return _carry_out(env, incident, mode, DUPLICATE)
        since = env.now() - max(config.recurrence_window, decision.HOUR)
        events = incidents.recent_events(env.store, incident.id, since)
        _require_store(env)
        history = (ObservedHistory if mode == OBSERVE else History)(env, incident, events)
        decided = decision.decide(env, config, incident, history)
        if decided.joins and decided.run is not None:
            _join(env, incident, decided.run)
        if decided.outcome == DUPLICATE:
            # Two sources may write the beginning of one incident in two ways.
            incident = replace(incident, since=history.events[0]["since"])
        if decided.outcome is not None:
            return _carry_out(env, incident, mode, decided.outcome, decided.run)
        # Other incidents of the same subject may be reported at the same moment.
        with locks.try_lock(
            env.store, "subject-" + encode_key_part(incident.subject), env.now
        ) as is_subject_locked:
            _require_store(env)
            if not is_subject_locked and incident.is_state:
                return _carry_out(env, incident, mode, RUNNING)
            decided = decision.decide_by_subject(config, incident, history)
            _require_store(env)
            return _carry_out(env, incident, mode, decided.outcome or STARTED, decided.run)


def _join(env: "Environment", incident: "Incident", run: str) -> None:
    """Record that a run which is still at work for the last time that the incident occurred is
    responsible for this time, too: what it asks matters again, and its ticket stays open.
    """
    incidents.remove_scheduled_close(env.store, run)
    event = _event(incident, incidents.STARTED, run=run)
    incidents.record_event(env.store, env.now(), incident.id, event)


def _carry_out(
    env: "Environment", incident: "Incident", mode: str, outcome: str, run: Optional[str] = None
) -> Admission:
    """Do what was decided, as far as the mode allows it; return the result of the admission.

    :param run: the run that the decision concerns.
    """
    if mode == OBSERVE:
        would = observation.observe(env, incident, outcome)
        is_under_way = outcome == RUNNING and run is not None
        if outcome != DUPLICATE and not is_under_way:
            result = _result(incident, OBSERVED, mode)
            result["would"] = would
            return result
    if outcome in (DUPLICATE, RUNNING):
        return _result(incident, outcome, mode, run=run)
    if outcome == STARTED:
        return _start(env, incident, mode)
    ticket = hold_for_person(env, incident, outcome)
    return _result(incident, outcome, mode, ticket=ticket)


def hold_for_person(env: "Environment", incident: "Incident", outcome: str) -> str:
    """Open or update the ticket of an incident that starts no run, and record that.

    :returns: the ticket's id.
    :raises DatastoreUnavailable: the ticket could not be recorded.
    """
    ticket = _ticket(env, incident, outcome)
    event = _event(incident, incidents.ON_HOLD, ticket=ticket)
    incidents.record_event(env.store, env.now(), incident.id, event)
    _require_store(env)
    return ticket


def resolve_incident(
    env: "Environment", incident_id: str, since: str, actor: str
) -> Resolution:
    """Resolve the ticket of an incident that has ended.

    :param since: when the ended incident began; an incident that began later is left open.
    :param actor: the name of the person or source that reports the end.
    """
    with locks.try_lock(env.store, "incident-" + encode_key_part(incident_id), env.now):
        events = _open_events(incidents.recent_events(env.store, incident_id))
        _require_store(env)
        if not events or is_later(events[0]["since"], since):
            return {"outcome": NOTHING_OPEN, "run": None, "ticket": None}
        # An incident may have been observed after it was acted on, or before.
        last_action = next((e for e in events if e["kind"] != incidents.OBSERVED), {})
        ticket, run = last_action.get("ticket"), last_action.get("run")
        closed_ticket = ticket if _resolve(env, ticket, actor, None) else None
        if run is not None:
            closed_ticket = close_run_ticket(env, run, actor) or closed_ticket
        event = {"kind": incidents.RESOLVED, "since": events[0]["since"], "run": run}
        incidents.record_event(env.store, env.now(), incident_id, event)
        observation.observe_end(env, incident_id, events)
    return {"outcome": RESOLVED, "run": run, "ticket": closed_ticket}


def _open_events(events: list[incidents.Event]) -> list[incidents.Event]:
    """Return those of an incident's events, newest first, that came after it was last resolved."""
    for index, event in enumerate(events):
        if event["kind"] == incidents.RESOLVED:
            return events[:index]
    return events


def close_run_ticket(env: "Environment", run: str, actor: str) -> Optional[str]:
    """Resolve the ticket of a run whose problem is over.

    A run that has not ended yet is recorded; the reaper closes its ticket later.

    :returns: the id of the resolved ticket, or None if the run has no ticket that is only its own.
    """
    try:
        execution = env.api.execution(run, "status,result,action.ref")
    except StackStormError:
        incidents.schedule_close(env.store, run, actor)
        return None
    if execution.get("status") not in ENDED:
        incidents.schedule_close(env.store, run, actor)
        with contextlib.suppress(StackStormError):
            # The reaper tries again.
            withdraw_question(env, run, execution)
        return None
    output = (execution.get("result") or {}).get("output") or {}
    output = output if isinstance(output, dict) else {}
    # A run that was cancelled, or whose runner died, returned nothing.
    ticket = output.get("ticket") or reaped_runs.ticket_of(env.store, run)
    # A recovery that a person approved is a run of its own, whose id the outer run returns.
    return ticket if _resolve(env, ticket, actor, (run, output.get("run"))) else None


def withdraw_question(env: "Environment", run: str, execution: "Row") -> None:
    """End the question whether a run may begin, or go on, whose problem is over.

    What an agent asks within a recovery is not for that problem only, and stays.

    :param execution: of the run, with its `action`.
    """
    ref = (execution.get("action") or {}).get("ref")
    if ref in ASKING_REFS:
        approvals.withdraw(env, run)


def start(
    env: "Environment",
    workflow: str,
    parameters: Mapping[str, Any],
    request: Mapping[str, Any],
    name: str,
) -> str:
    """Start a run and return its id.

    :param request: the text of the run, which is sealed into its case.
    :param name: distinguishes this case from others of the current run.
    """
    key = "%scase.%s.%s" % (PREFIX, encode_key_part(env.run or "none"), encode_key_part(name)[:64])
    seconds = case_seconds(env.settings, parameters.get("timeout") or decision.HOUR)
    case = sealing.seal(
        env.redactor.remove_secrets({"request": request}), env.store, key, seconds=seconds
    )
    run: str = env.api.start("synthralos." + workflow, dict(parameters, case=case))
    return run


def _start(env: "Environment", incident: "Incident", mode: str) -> Admission:
    workflow, parameters = incident.workflow, incident.parameters
    if mode == APPROVE:
        workflow, parameters = recovery_with_approval.run_of(incident)
    assert workflow is not None, "an incident that fits no workflow is left to a person"
    try:
        run = start(env, workflow, parameters, incident.request, incident.id)
    except StackStormError as error:
        if not error.refused:
            # It may have started nevertheless: repeats within RECHECK_SECONDS start no other run.
            event = _event(incident, incidents.STARTED)
            incidents.record_event(env.store, env.now(), incident.id, event)
        raise
    incidents.record_start(env.store, env.now(), incident.subject, run, incident.work)
    event = _event(incident, incidents.STARTED, run=run)
    incidents.record_event(env.store, env.now(), incident.id, event)
    return _result(incident, STARTED, mode, run=run)


def _ticket(env: "Environment", incident: "Incident", outcome: str) -> str:
    reason = REASONS.get(outcome, outcome)
    summary = env.redactor.redact_text(" ".join(("%s (%s)" % (incident.summary, reason)).split()))
    ticket_result = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        incident.id if incident.is_state else incident.workflow or "automation",
        incident.subject,
        incident.failure,
        summary[:MAX_SUMMARY_CHARS],
        level="supervisor_review",
        details=env.redactor.redact_value(incident.details),
    )
    if ticket_result is None:
        _require_store(env)
        raise DatastoreUnavailable("the ticket could not be recorded")
    return ticket_result["ticket"]


def _resolve(
    env: "Environment",
    ticket: Optional[str],
    actor: str,
    runs: Optional[Container[Optional[str]]],
) -> bool:
    """Resolve a ticket; return whether it was resolved.

    :param runs: resolve it only if one of these runs was the last to add to it; None for in any
        case.
    """
    if ticket is None:
        return False
    try:
        if runs is not None and tickets.get(env.store, ticket)["run"] not in runs:
            # Another run has met the same problem since then, which may not be over.
            return False
        config = ticketing.load_config(env, env.settings.escalation)
        return (
            ticketing.resolve(env, config, ticket, "what it was opened for is over", actor) is not
            None
        )
    except InvalidInput:
        # It was resolved manually already, or has expired.
        return False


def _event(
    incident: "Incident", kind: str, run: Optional[str] = None, ticket: Optional[str] = None
) -> incidents.Event:
    return {
        "kind": kind,
        "since": incident.since,
        "workflow": incident.workflow,
        "subject": incident.subject,
        "run": run,
        "ticket": ticket,
    }


def _result(
    incident: "Incident",
    outcome: str,
    mode: str,
    run: Optional[str] = None,
    ticket: Optional[str] = None,
) -> Admission:
    return {
        "outcome": outcome,
        "mode": mode,
        "subject": incident.subject,
        "workflow": incident.workflow,
        "run": run,
        "ticket": ticket,
    }


def _require_store(env: "Environment") -> None:
    require_available(env.store, "%s: without it every alert of a storm would start a run")
