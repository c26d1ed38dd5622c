"""Whether an incident starts a run, and the start itself.

A storm of one alert starts one run; an alert that comes back after a repair that succeeded, an
agent that is recovered too often, and a failure without a query to run again are a person's: they
become a ticket. What is started and what is held back is on record.
"""

from dataclasses import dataclass, field
from typing import Optional

from synthralos import seal
from synthralos.escalation import claims, desk
from synthralos.names import key_part
from synthralos.refusals import Refused
from synthralos.state import starts
from synthralos.state.datastore import PREFIX
from synthralos.state.stackstorm import ENDED, ApiError

HOUR = 3600
LONGEST_SUMMARY = 300
# What became of an incident.
STARTED, DUPLICATE, RUNNING = "started", "duplicate", "running"
RETURNED, TOO_MANY, NO_QUERY = "returned", "too_many", "no_query"
RESOLVED, NOTHING_OPEN, NO_WORKFLOW = "resolved", "nothing_open", "no_workflow"
REASONS = {
    RETURNED: "it came back after a repair that succeeded",
    TOO_MANY: "rules have started as many runs of it as an hour may have",
    NO_QUERY: "there is no query to run again",
    NO_WORKFLOW: "no workflow fits it",
}


@dataclass(frozen=True)
class Incident:
    """What somebody reports, and the run that it asks for.

    :ivar id: text that is the same for every report of it.
    :ivar since: when it began, as text: a later one of the same id is the incident coming back.
    :ivar subject: the agent or node, a name; its runs are counted.
    :ivar workflow: to start, or None when none fits.
    :ivar parameters: of the run, numbers, enums and names; request: its text, which is sealed.
    :ivar failure: {type, cause, severity}.
    :ivar summary: one line for people.
    :ivar held: why it starts no run whatever else holds, one of REASONS, or None.
    """

    id: str
    since: str
    subject: str
    workflow: Optional[str]
    parameters: dict
    request: dict
    failure: dict
    summary: str
    held: Optional[str] = None
    details: dict = field(default_factory=dict)


def begin(env, config, incident):
    """What became of `incident`: {outcome, subject, workflow, run, ticket}, null where none.

    :param config: an Automation.
    :raises ApiError: the datastore is away, without which a storm would start a run each.
    """
    what = "incident-" + key_part(incident.id)
    with claims.claim(env.store, what, env.now) as mine:
        _answered(env)
        if not mine:
            return _told(incident, DUPLICATE)
        known = starts.events(env.store, incident.id)
        _answered(env)
        outcome, run = _decide(env, config, incident, known)
        if outcome in (DUPLICATE, RUNNING):
            return _told(incident, outcome, run=run)
        if outcome is not None:
            return hold(env, incident, outcome)
        # Other incidents of the same agent may have come at the same moment.
        with claims.claim(env.store, "subject-" + key_part(incident.subject), env.now) as first:
            _answered(env)
            return _start(env, incident) if first else _told(incident, RUNNING)


def hold(env, incident, outcome):
    """Opens the ticket of an incident that starts no run, and records it."""
    ticket = _ticket(env, incident, outcome)
    told = _event(incident, starts.HELD, ticket=ticket)
    starts.record(env.store, env.now(), incident.id, told)
    return _told(incident, outcome, ticket=ticket)


def end(env, incident_id, by):
    """What became of an incident that is over: the tickets that it has opened are resolved.

    :param by: who says that it is over, a name.
    :returns: {outcome, run, ticket}.
    """
    known = starts.events(env.store, incident_id)
    _answered(env)
    if not known or known[0]["kind"] == starts.RESOLVED:
        return {"outcome": NOTHING_OPEN, "run": None, "ticket": None}
    last = known[0]
    resolved = None
    for ticket in {last.get("ticket"), _ticket_of_run(env, last.get("run"))} - {None}:
        if _resolve(env, ticket, by):
            resolved = ticket
    told = {"kind": starts.RESOLVED, "since": last["since"], "run": last.get("run")}
    starts.record(env.store, env.now(), incident_id, told)
    return {"outcome": RESOLVED, "run": last.get("run"), "ticket": resolved}


def _decide(env, config, incident, known):
    """(why no run is started, or None; the run that is meant, or None)."""
    last = known[0] if known else None
    if last is not None and last["since"] == incident.since and last["kind"] != starts.RESOLVED:
        return DUPLICATE, last.get("run")
    if incident.held is not None:
        return incident.held, None
    for event in known:
        if event["kind"] != starts.STARTED:
            continue
        status = _status(env, event.get("run"))
        if status is not None and status not in ENDED:
            return RUNNING, event["run"]
        recent = env.now() - event["at"] <= config.returned_within
        if status == "succeeded" and recent:
            return RETURNED, event["run"]
        break
    before = starts.since(env.store, incident.subject, env.now() - HOUR)
    _answered(env)
    if before:
        status = _status(env, before[0]["run"])
        if status is not None and status not in ENDED:
            return RUNNING, before[0]["run"]
    return (TOO_MANY, None) if len(before) >= config.recoveries_per_hour else (None, None)


def start(env, workflow, parameters, request, name):
    """The id of a new run.

    :param request: its text, which is sealed; name: what tells this case from others of the run.
    """
    key = "%scase.%s.%s" % (PREFIX, key_part(env.run or "none"), key_part(name)[:64])
    case = seal.seal(env.redactor.secrets_only({"request": request}), env.store, key)
    return env.api.start("synthralos." + workflow, dict(parameters, case=case))


def _start(env, incident):
    run = start(env, incident.workflow, incident.parameters, incident.request, incident.id)
    starts.started(env.store, env.now(), incident.subject, run)
    told = _event(incident, starts.STARTED, run=run)
    starts.record(env.store, env.now(), incident.id, told)
    return _told(incident, STARTED, run=run)


def _ticket(env, incident, outcome):
    reason = REASONS.get(outcome, outcome)
    summary = env.redactor.text(" ".join(("%s (%s)" % (incident.summary, reason)).split()))
    told = desk.record_failure(
        env,
        env.settings.escalation,
        incident.workflow or "automation",
        incident.subject,
        incident.failure,
        summary[:LONGEST_SUMMARY],
        level="supervisor_review" if outcome == RETURNED else None,
        details=env.redactor.value(incident.details),
    )
    return told["ticket"] if told else None


def _ticket_of_run(env, run):
    if run is None:
        return None
    try:
        execution = env.api.execution(run, "status,result")
    except ApiError:
        return None
    output = (execution.get("result") or {}).get("output") or {}
    return output.get("ticket") if isinstance(output, dict) else None


def _resolve(env, ticket, by):
    try:
        config = desk.configuration(env, env.settings.escalation)
        return desk.resolve(env, config, ticket, "what it was opened for is over", by) is not None
    except Refused:
        # A person has resolved it already, or it has expired.
        return False


def _status(env, run):
    """The status of a run; None when it cannot be read, for then nobody waits for it."""
    if not run:
        return None
    try:
        return env.api.execution(run, "status").get("status")
    except ApiError:
        return None


def _event(incident, kind, run=None, ticket=None):
    return {
        "kind": kind,
        "since": incident.since,
        "workflow": incident.workflow,
        "subject": incident.subject,
        "run": run,
        "ticket": ticket,
    }


def _told(incident, outcome, run=None, ticket=None):
    return {
        "outcome": outcome,
        "subject": incident.subject,
        "workflow": incident.workflow,
        "run": run,
        "ticket": ticket,
    }


def _answered(env):
    if env.store.away:
        raise ApiError("%s: without it a storm would start a run each" % env.store.away)
