"""Admission control: decide whether an incident starts a run, and start it.

A storm of one alert starts one run. An alert that recurs after a successful repair, an agent that
is recovered too often, and a failure without a query to run again are left to a person: each
becomes a ticket. Every start and every incident that was held back is recorded.
"""

from dataclasses import dataclass, field
from typing import Optional

from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.core.timestamps import parse_iso
from synthralos.escalation import ticketing
from synthralos.storage import incidents, locks, tickets
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable, require_available
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError

HOUR = 3600
MAX_SUMMARY_CHARS = 300
# Seconds after which a repeated report of an incident is evaluated again: a run that was held back
# may be allowed by now, and a ticket that was closed while the incident continues is reopened.
RECHECK_SECONDS = 600
# How far two representations of the same time may differ.
CLOCK_SKEW_SECONDS = 1.5
# The outcomes of an incident.
STARTED, DUPLICATE, RUNNING = "started", "duplicate", "running"
RECURRED, STILL_FAILING, TOO_MANY, NO_QUERY = "recurred", "still_failing", "too_many", "no_query"
RESOLVED, NOTHING_OPEN, NO_WORKFLOW = "resolved", "nothing_open", "no_workflow"
AMBIGUOUS, NOT_EVALUATED, TRUNCATED = "ambiguous", "not_evaluated", "truncated"
REASONS = {
    RECURRED: "it recurred after a successful repair",
    STILL_FAILING: "it continues after a successful repair",
    TOO_MANY: "the hourly limit of automatic runs is reached",
    NO_QUERY: "there is no query to run again",
    NO_WORKFLOW: "no workflow fits it",
    AMBIGUOUS: "several clusters have a thing of this name, and the alert names no cluster",
    NOT_EVALUATED: "the rule could not be evaluated",
    TRUNCATED: "the notification does not contain them",
}


@dataclass(frozen=True)
class Incident:
    """A reported incident and the run that would handle it.

    :ivar id: text that is the same for every report of the incident.
    :ivar since: when it began, in ISO 8601; a later time under the same id means that the incident
        has recurred.
    :ivar subject: the name of the agent or node; runs are counted per subject.
    :ivar workflow: the workflow to start, or None if no workflow fits.
    :ivar parameters: parameters of the run: numbers, enums and names only.
    :ivar request: the text of the run's request, which is sealed.
    :ivar failure: {type, cause, severity}.
    :ivar summary: one line for people.
    :ivar blocked: the reason why no run may start in any case, one of REASONS, or None.
    :ivar work: the same for incidents whose runs would do the same by a runbook, or None.
    :ivar is_state: True for a state of the subject: any run of that subject covers it, and it has a
        ticket of its own. False for a single failed request.
    """

    id: str
    since: str
    subject: str
    workflow: Optional[str]
    parameters: dict
    request: dict
    failure: dict
    summary: str
    blocked: Optional[str] = None
    work: Optional[str] = None
    is_state: bool = True
    details: dict = field(default_factory=dict)


def admit(env, config, incident):
    """Start a run for the incident, open a ticket for it, or recognize it as a duplicate.

    :param config: an AutomationConfig.
    :returns: {outcome, subject, workflow, run, ticket}; run and ticket may be null.
    :raises DatastoreUnavailable: the datastore is unavailable. Without it every alert of a storm
        would start a run. Nothing is lost if the incident is reported again.
    :raises StackStormError: StackStorm's API is unavailable; likewise.
    """
    lock_name = "incident-" + encode_key_part(incident.id)
    with locks.try_lock(env.store, lock_name, env.now) as is_acquired:
        _require_store(env)
        if not is_acquired:
            return _result(incident, DUPLICATE)
        events = incidents.recent_events(env.store, incident.id)
        _require_store(env)
        outcome, run = _repeat_outcome(env, incident, events)
        if outcome is None:
            outcome, run = _hold_reason(env, config, incident, events), None
        if outcome in (DUPLICATE, RUNNING):
            return _result(incident, outcome, run=run)
        if outcome is not None:
            return hold_for_person(env, incident, outcome)
        # Other incidents of the same subject may be reported at the same moment.
        with locks.try_lock(
            env.store, "subject-" + encode_key_part(incident.subject), env.now
        ) as is_subject_locked:
            _require_store(env)
            if not is_subject_locked and incident.is_state:
                return _result(incident, RUNNING)
            outcome, run = _subject_limit(env, config, incident)
            if outcome == RUNNING:
                return _result(incident, outcome, run=run)
            return hold_for_person(env, incident, outcome) if outcome else _start(env, incident)


def hold_for_person(env, incident, outcome):
    """Open or update the ticket of an incident that starts no run, and record that.

    :raises StackStormError: the ticket could not be recorded.
    """
    ticket = _ticket(env, incident, outcome)
    event = _event(incident, incidents.ON_HOLD, ticket=ticket)
    incidents.record_event(env.store, env.now(), incident.id, event)
    _require_store(env)
    return _result(incident, outcome, ticket=ticket)


def resolve_incident(env, incident_id, since, actor):
    """Resolve the ticket of an incident that has ended.

    :param since: when the ended incident began; an incident that began later is left open.
    :param actor: the name of the person or source that reports the end.
    :returns: {outcome, run, ticket}.
    """
    with locks.try_lock(env.store, "incident-" + encode_key_part(incident_id), env.now):
        events = incidents.recent_events(env.store, incident_id)
        _require_store(env)
        last_event = events[0] if events else {"kind": incidents.RESOLVED}
        if last_event["kind"] == incidents.RESOLVED or is_later(last_event["since"], since):
            return {"outcome": NOTHING_OPEN, "run": None, "ticket": None}
        ticket, run = last_event.get("ticket"), last_event.get("run")
        closed_ticket = ticket if _resolve(env, ticket, actor, None) else None
        if run is not None:
            closed_ticket = close_run_ticket(env, run, actor) or closed_ticket
        event = {"kind": incidents.RESOLVED, "since": last_event["since"], "run": run}
        incidents.record_event(env.store, env.now(), incident_id, event)
    return {"outcome": RESOLVED, "run": run, "ticket": closed_ticket}


def close_run_ticket(env, run, actor):
    """Resolve the ticket of a run whose problem is over.

    A run that has not ended yet is recorded; the reaper closes its ticket later.

    :returns: the id of the resolved ticket, or None if the run has no ticket that is only its own.
    """
    try:
        execution = env.api.execution(run, "status,result")
    except StackStormError:
        incidents.schedule_close(env.store, run, actor)
        return None
    if execution.get("status") not in ENDED:
        incidents.schedule_close(env.store, run, actor)
        return None
    output = (execution.get("result") or {}).get("output") or {}
    ticket = output.get("ticket") if isinstance(output, dict) else None
    return ticket if _resolve(env, ticket, actor, run) else None


def _repeat_outcome(env, incident, events):
    """Evaluate a repeated report of an incident.

    :param events: what is recorded of the incident, newest first.
    :returns: (outcome or None if the report counts as new, id of the run concerned or None).
    """
    last_event = events[0] if events else None
    if (
        last_event is None or
        last_event["kind"] == incidents.RESOLVED or
        is_later(incident.since, last_event["since"])
    ):
        return None, None
    run = last_event.get("run")
    status = _status(env, run)
    if status is not None and status not in ENDED:
        return RUNNING, run
    if not incident.is_state or env.now() - last_event["at"] < RECHECK_SECONDS:
        return DUPLICATE, run
    if status == "succeeded":
        # A repair crew needs time; an agent that answered should not fail any more.
        return (STILL_FAILING if incident.workflow == "agent_recovery" else DUPLICATE), run
    return None, None


def _hold_reason(env, config, incident, events):
    """Return the outcome that keeps the incident itself from starting a run, or None."""
    if incident.blocked is not None:
        return incident.blocked
    for event in events:
        if event["kind"] != incidents.STARTED:
            continue
        status, ended = _outcome(env, event.get("run"))
        if status is not None and status not in ENDED:
            return RUNNING
        since = event["at"] if ended is None else ended
        if status == "succeeded" and env.now() - since <= config.recurrence_window:
            return RECURRED
        break
    return None


def _subject_limit(env, config, incident):
    """Check the limits that hold for all incidents of one subject.

    :returns: (RUNNING, TOO_MANY or None; id of the run that is under way or None).
    """
    starts = incidents.starts_since(env.store, incident.subject, env.now() - HOUR)
    _require_store(env)
    if incident.is_state:
        for started in starts:
            # A run that does something else does not help: this one waits for its turn.
            if incident.work in (None, started.get("work")):
                status = _status(env, started["run"])
                if status is not None and status not in ENDED:
                    return RUNNING, started["run"]
    return (TOO_MANY, None) if len(starts) >= config.recoveries_per_hour else (None, None)


def start(env, workflow, parameters, request, name):
    """Start a run and return its id.

    :param request: the text of the run, which is sealed into its case.
    :param name: distinguishes this case from others of the current run.
    """
    key = "%scase.%s.%s" % (PREFIX, encode_key_part(env.run or "none"), encode_key_part(name)[:64])
    case = sealing.seal(env.redactor.remove_secrets({"request": request}), env.store, key)
    return env.api.start("synthralos." + workflow, dict(parameters, case=case))


def _start(env, incident):
    try:
        run = start(env, incident.workflow, incident.parameters, incident.request, incident.id)
    except StackStormError as error:
        if not error.refused:
            # It may have started nevertheless: repeats within RECHECK_SECONDS start no other run.
            event = _event(incident, incidents.STARTED)
            incidents.record_event(env.store, env.now(), incident.id, event)
        raise
    incidents.record_start(env.store, env.now(), incident.subject, run, incident.work)
    event = _event(incident, incidents.STARTED, run=run)
    incidents.record_event(env.store, env.now(), incident.id, event)
    return _result(incident, STARTED, run=run)


def _ticket(env, incident, outcome):
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


def _resolve(env, ticket, actor, run):
    """Resolve a ticket; return whether it was resolved.

    :param run: resolve it only if this run was the last to add to it; None for in any case.
    """
    if ticket is None:
        return False
    try:
        if run is not None and tickets.get(env.store, ticket)["run"] != run:
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


def _status(env, run):
    return _outcome(env, run)[0]


def _outcome(env, run):
    """Look up how a run ended.

    :returns: (status, end in seconds since the epoch); both None if the run no longer exists, the
        end None while it is running.
    :raises StackStormError: StackStorm is unavailable: a run of unknown status has not ended.
    """
    if not run:
        return None, None
    try:
        execution = env.api.execution(run, "status,end_timestamp")
    except ExecutionNotFound:
        return None, None
    return execution.get("status"), parse_iso(execution.get("end_timestamp"))


def is_later(since, earlier):
    """Whether `since` is later than `earlier`, both in ISO 8601."""
    first, second = parse_iso(since), parse_iso(earlier)
    if first is None or second is None:
        return since != earlier
    return first - second > CLOCK_SKEW_SECONDS


def _event(incident, kind, run=None, ticket=None):
    return {
        "kind": kind,
        "since": incident.since,
        "workflow": incident.workflow,
        "subject": incident.subject,
        "run": run,
        "ticket": ticket,
    }


def _result(incident, outcome, run=None, ticket=None):
    return {
        "outcome": outcome,
        "subject": incident.subject,
        "workflow": incident.workflow,
        "run": run,
        "ticket": ticket,
    }


def _require_store(env):
    require_available(env.store, "%s: without it every alert of a storm would start a run")
