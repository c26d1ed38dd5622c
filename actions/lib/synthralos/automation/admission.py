"""Whether an incident starts a run, and the start itself.

A storm of one alert starts one run; an alert that comes back after a repair that succeeded, an
agent that is recovered too often, and a failure without a query to run again are a person's: they
become a ticket. What is started and what is held back is on record.
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
# Seconds after which a report of the same incident is looked at anew: what was held back may have
# its turn, and what a person has closed though it goes on is opened again.
RECHECK_SECONDS = 600
# By which two ways of telling the same time may differ.
CLOCK_SKEW_SECONDS = 1.5
# What became of an incident.
STARTED, DUPLICATE, RUNNING = "started", "duplicate", "running"
RECURRED, STILL_FAILING, TOO_MANY, NO_QUERY = "recurred", "still_failing", "too_many", "no_query"
RESOLVED, NOTHING_OPEN, NO_WORKFLOW = "resolved", "nothing_open", "no_workflow"
REASONS = {
    RECURRED: "it came back after a repair that succeeded",
    STILL_FAILING: "it goes on after a repair that succeeded",
    TOO_MANY: "rules have started as many runs of it as an hour may have",
    NO_QUERY: "there is no query to run again",
    NO_WORKFLOW: "no workflow fits it",
}


@dataclass(frozen=True)
class Incident:
    """What somebody reports, and the run that it asks for.

    :ivar id: text that is the same for every report of it.
    :ivar since: when it began, in ISO 8601: a later one of the same id is the incident coming back.
    :ivar subject: the agent or node, a name; its runs are counted.
    :ivar workflow: to start, or None when none fits.
    :ivar parameters: of the run, numbers, enums and names; request: its text, which is sealed.
    :ivar failure: {type, cause, severity}.
    :ivar summary: one line for people.
    :ivar held: why it starts no run whatever else holds, one of REASONS, or None.
    :ivar is_state: whether it is a state of its subject, which a run of that one sees to as well,
        and has a ticket of its own; else it is one request that failed.
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
    is_state: bool = True
    details: dict = field(default_factory=dict)


def admit(env, config, incident):
    """What became of `incident`: {outcome, subject, workflow, run, ticket}, null where none.

    :param config: an Automation.
    :raises DatastoreUnavailable: the datastore is unavailable, without which a storm would start a run
        each. Nothing is lost when it is reported again.
    :raises StackStormError: StackStorm's API is unavailable; likewise.
    """
    with locks.try_lock(env.store, "incident-" + encode_key_part(incident.id), env.now) as mine:
        _require_store(env)
        if not mine:
            return _result(incident, DUPLICATE)
        known = incidents.recent_events(env.store, incident.id)
        _require_store(env)
        outcome, run = _repeat_outcome(env, incident, known)
        if outcome is None:
            outcome, run = _hold_reason(env, config, incident, known), None
        if outcome in (DUPLICATE, RUNNING):
            return _result(incident, outcome, run=run)
        if outcome is not None:
            return hold_for_person(env, incident, outcome)
        # Other incidents of the same subject may have come at the same moment.
        with locks.try_lock(
            env.store, "subject-" + encode_key_part(incident.subject), env.now
        ) as first:
            _require_store(env)
            if not first and incident.is_state:
                return _result(incident, RUNNING)
            outcome, run = _subject_limit(env, config, incident)
            if outcome == RUNNING:
                return _result(incident, outcome, run=run)
            return hold_for_person(env, incident, outcome) if outcome else _start(env, incident)


def hold_for_person(env, incident, outcome):
    """Opens the ticket of an incident that starts no run, or adds to it, and records it.

    :raises StackStormError: the ticket could not be recorded.
    """
    ticket = _ticket(env, incident, outcome)
    told = _event(incident, incidents.ON_HOLD, ticket=ticket)
    incidents.record_event(env.store, env.now(), incident.id, told)
    _require_store(env)
    return _result(incident, outcome, ticket=ticket)


def resolve_incident(env, incident_id, since, by):
    """What became of an incident that is over: its ticket is resolved.

    :param since: when what is over began; a later beginning is not over.
    :param by: who says that it is over, a name.
    :returns: {outcome, run, ticket}.
    """
    with locks.try_lock(env.store, "incident-" + encode_key_part(incident_id), env.now):
        known = incidents.recent_events(env.store, incident_id)
        _require_store(env)
        last = known[0] if known else {"kind": incidents.RESOLVED}
        if last["kind"] == incidents.RESOLVED or _is_later(last["since"], since):
            return {"outcome": NOTHING_OPEN, "run": None, "ticket": None}
        ticket, run = last.get("ticket"), last.get("run")
        closed = ticket if _resolve(env, ticket, by, None) else None
        if run is not None:
            closed = close_run_ticket(env, run, by) or closed
        told = {"kind": incidents.RESOLVED, "since": last["since"], "run": run}
        incidents.record_event(env.store, env.now(), incident_id, told)
    return {"outcome": RESOLVED, "run": run, "ticket": closed}


def close_run_ticket(env, run, by):
    """The ticket of a run that nobody needs any more, resolved; None when it has none that is
    only its own. A run that goes on is remembered for the reaper.
    """
    try:
        execution = env.api.execution(run, "status,result")
    except StackStormError:
        incidents.schedule_close(env.store, run, by)
        return None
    if execution.get("status") not in ENDED:
        incidents.schedule_close(env.store, run, by)
        return None
    output = (execution.get("result") or {}).get("output") or {}
    ticket = output.get("ticket") if isinstance(output, dict) else None
    return ticket if _resolve(env, ticket, by, run) else None


def _repeat_outcome(env, incident, known):
    """(what a report of an incident that is known comes to, or None; the run that is meant)."""
    last = known[0] if known else None
    if (
        last is None or
        last["kind"] == incidents.RESOLVED or
        _is_later(incident.since, last["since"])
    ):
        return None, None
    run = last.get("run")
    status = _status(env, run)
    if status is not None and status not in ENDED:
        return RUNNING, run
    if not incident.is_state or env.now() - last["at"] < RECHECK_SECONDS:
        return DUPLICATE, run
    if status == "succeeded":
        # A crew takes its time; an agent that answered should not fail any more.
        return (STILL_FAILING if incident.workflow == "agent_recovery" else DUPLICATE), run
    return None, None


def _hold_reason(env, config, incident, known):
    """Why no run is started whatever its subject does, or None."""
    if incident.blocked is not None:
        return incident.blocked
    for event in known:
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
    """(RUNNING, TOO_MANY or None; the run that is meant): by what was started for the subject."""
    before = incidents.starts_since(env.store, incident.subject, env.now() - HOUR)
    _require_store(env)
    if before and incident.is_state:
        status = _status(env, before[0]["run"])
        if status is not None and status not in ENDED:
            return RUNNING, before[0]["run"]
    return (TOO_MANY, None) if len(before) >= config.recoveries_per_hour else (None, None)


def start(env, workflow, parameters, request, name):
    """The id of a new run.

    :param request: its text, which is sealed; name: what tells this case from others of the run.
    """
    key = "%scase.%s.%s" % (PREFIX, encode_key_part(env.run or "none"), encode_key_part(name)[:64])
    case = sealing.seal(env.redactor.remove_secrets({"request": request}), env.store, key)
    return env.api.start("synthralos." + workflow, dict(parameters, case=case))


def _start(env, incident):
    try:
        run = start(env, incident.workflow, incident.parameters, incident.request, incident.id)
    except StackStormError as error:
        if not error.refused:
            # It may have been started all the same: a report within REPEAT starts no other.
            told = _event(incident, incidents.STARTED)
            incidents.record_event(env.store, env.now(), incident.id, told)
        raise
    incidents.record_start(env.store, env.now(), incident.subject, run)
    told = _event(incident, incidents.STARTED, run=run)
    incidents.record_event(env.store, env.now(), incident.id, told)
    return _result(incident, STARTED, run=run)


def _ticket(env, incident, outcome):
    reason = REASONS.get(outcome, outcome)
    summary = env.redactor.redact_text(" ".join(("%s (%s)" % (incident.summary, reason)).split()))
    told = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        incident.id if incident.is_state else incident.workflow or "automation",
        incident.subject,
        incident.failure,
        summary[:MAX_SUMMARY_CHARS],
        level="supervisor_review",
        details=env.redactor.redact_value(incident.details),
    )
    if told is None:
        _require_store(env)
        raise DatastoreUnavailable("the ticket could not be recorded")
    return told["ticket"]


def _resolve(env, ticket, by, run):
    """Whether the ticket was resolved.

    :param run: the only run that may have added to it last, or None.
    """
    if ticket is None:
        return False
    try:
        if run is not None and tickets.get(env.store, ticket)["run"] != run:
            # Another run has met the same problem since, and nobody says that this is over.
            return False
        config = ticketing.load_config(env, env.settings.escalation)
        return (
            ticketing.resolve(env, config, ticket, "what it was opened for is over", by) is not None
        )
    except InvalidInput:
        # A person has resolved it already, or it has expired.
        return False


def _status(env, run):
    return _outcome(env, run)[0]


def _outcome(env, run):
    """(status or None, when it ended or None) of a run; None for a run that is gone.

    :raises StackStormError: StackStorm does not answer: an unknown run is not one that has ended.
    """
    if not run:
        return None, None
    try:
        execution = env.api.execution(run, "status,end_timestamp")
    except ExecutionNotFound:
        return None, None
    return execution.get("status"), parse_iso(execution.get("end_timestamp"))


def _is_later(since, than):
    """Whether one beginning is later than another, both in ISO 8601."""
    one, other = parse_iso(since), parse_iso(than)
    if one is None or other is None:
        return since != than
    return one - other > CLOCK_SKEW_SECONDS


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
    require_available(env.store, "%s: without it a storm would start a run each")
