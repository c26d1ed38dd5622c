"""Closes the runs that nothing will end: logged, ticketed, ended.

An action runner that dies leaves its action `running` and the workflow waiting; a scheduler that
dies as it delays an action forgets it; a run that is cancelled gets no log task; and StackStorm
ends no approval by itself unless told to. Two reapers at once do no harm; what goes wrong with one
run keeps nobody from the next.
"""

from functools import partial

from synthralos.automation import admission, approvals
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.infrastructure import outcome
from synthralos.orchestration import run_completion
from synthralos.recovery import agent_recovery, handle_error, llm_retry, reroute_request
from synthralos.runtime import failure_record, run_parameters
from synthralos.storage import incidents
from synthralos.storage import inquiries as asked
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, DatastoreUnavailable
from synthralos.storage.keyspace import lifetime_of
from synthralos.storage.stackstorm_api import ENDED, StackStormError

# What a run without a case was about, by workflow.
_REQUESTED_SUBJECTS = {
    agent_recovery.WORKFLOW: partial(agent_recovery.subject, None),
    llm_retry.WORKFLOW: partial(llm_retry.subject, None),
    reroute_request.WORKFLOW: partial(reroute_request.subject, None),
    handle_error.WORKFLOW: partial(handle_error.subject, None),
    run_completion.WORKFLOW: run_completion.requested_subject,
}
WORKFLOWS = (*_REQUESTED_SUBJECTS, outcome.WORKFLOW)
# Its policy has all others cancelled while one counts as running.
ROLL_UP, ROLL_UP_SECONDS = "metrics.roll_up", 300
# Seconds past its deadline that a run has to end by itself.
GRACE_SECONDS = 60
# Seconds that an action of ours which started late, or waits for a slow StackStorm, may still need.
LATE_START_SECONDS = 120
# Seconds past the deadline, and since it was requested, after which an action of ours that has not
# begun is taken for lost: in a burst actions queue for minutes.
MAX_QUEUE_SECONDS = 300
LOOK_BACK = 24 * 3600
MAX_PAGES = 10
_LOGGED_SECONDS = lifetime_of("reaped_run")
_WAITING = ("requested", "scheduled", "delayed")
_LIVE = _WAITING + ("running", "pausing", "paused", "resuming", "canceling")
# Not `action.parameters.timeout`: StackStorm adds action.parameters where parameters are asked for,
# and MongoDB refuses a field beside one that contains it.
_ATTRIBUTES = "id,status,start_timestamp,parameters,action.ref,action.parameters,context"
_CHILDREN = "id,status,action.ref,action.runner_type,start_timestamp,end_timestamp"
_REAPED = PREFIX + "reaped_run."
_DEAD = "its action runner died: it has run past the deadline of its run"
_LOST = "StackStorm's scheduler lost it: it has not begun by the deadline of its run"


def reap(env, config):
    """{summary, abandoned, canceled, resumed, logged, expired, closed, errors}: lists of
    {run, workflow ...}; errors are {run or null, error}.
    """
    names = ("abandoned", "canceled", "resumed", "logged", "expired", "closed", "errors")
    done = {name: [] for name in names}
    _collect_errors(done, None, _expire, env, config, done)
    known = _reaped(env)
    since = to_iso(env.now() - LOOK_BACK - config.approval_timeout)
    for workflow in WORKFLOWS:
        for status in _LIVE:
            for run in _list_runs(env, done, workflow, status=status, sort_asc="true"):
                _collect_errors(done, run["id"], _close_run, env, workflow, run, done)
        for status in ("canceled", "abandoned", "timeout"):
            for run in _list_runs(env, done, workflow, status=status, timestamp_gt=since):
                if run["id"] not in known:
                    _collect_errors(done, run["id"], _log_missing_record, env, workflow, run, done)
    for run in _list_runs(env, done, ROLL_UP, status="running"):
        _collect_errors(done, run["id"], _end_roll_up, env, run, done)
    for run, by in incidents.scheduled_closes(env.store):
        _collect_errors(done, run, _close_ticket, env, run, by, done)
    counts = ", ".join("%d %s" % (len(found), name) for name, found in done.items())
    return dict({"summary": counts}, **done)


def _collect_errors(done, run, work, *arguments, **named):
    try:
        return work(*arguments, **named)
    except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
        done["errors"].append({"run": run, "error": str(error)})


def _list_runs(env, done, workflow, **filters):
    """The executions of a workflow, oldest first, page by page, of at most PAGES pages."""
    found, ref = [], "synthralos." + workflow
    for page in range(MAX_PAGES):
        told = dict(filters, action=ref, offset=page * PAGE_SIZE)
        rows = _collect_errors(done, None, env.api.executions, _ATTRIBUTES, **told)
        found += rows or []
        if len(rows or ()) < PAGE_SIZE:
            break
    return found


def _expire(env, config, done):
    done["expired"] += approvals.expire(env, config.approval_timeout)


def _close_run(env, workflow, run, done):
    """Ends what keeps `run` from ending; when nothing does, the run."""
    if env.now() <= _deadline(run) + GRACE_SECONDS and run["status"] != "paused":
        return
    children = env.api.children(run["id"], _CHILDREN)
    live = [child for child in children if child.get("status") not in ENDED]
    if run["status"] == "paused":
        # A person may have paused it; what an approval has paused goes on when that has ended.
        inquiries = [child for child in children if _ref(child) == "core.ask"]
        is_over = inquiries and inquiries[-1].get("status") == "timeout" and not live
        if is_over and approvals.resume(env, run["id"]):
            done["resumed"].append({"run": run["id"], "workflow": workflow})
        return
    # The deadline of a run stands still while people are asked.
    waited = max(_asked_seconds(children, env.now()), asked.total_wait(env.store, run["id"]))
    over = env.now() - _deadline(run) - waited
    if over <= GRACE_SECONDS:
        return
    for child in live:
        why = _abandon_reason(child, over, env.now())
        # With that the workflow goes on to its log task by itself.
        if why is not None and env.api.set_status(child["id"], "abandoned", {"error": why}):
            told = {"run": run["id"], "workflow": workflow, "execution": child["id"]}
            done["abandoned"].append(told)
    if live:
        return
    if run["status"] == "canceling":
        ended = env.api.set_status(run["id"], "canceled")
    else:
        ended = env.api.cancel(run["id"])
    if ended:
        done["canceled"].append({"run": run["id"], "workflow": workflow})


def _abandon_reason(child, over, now):
    """Why nothing else will end this action of ours, or None: something may.

    :param over: seconds since its run's deadline.
    """
    age = now - (parse_iso(child.get("start_timestamp")) or now)
    if _is_workflow(child) or not _ref(child).startswith("synthralos."):
        return None
    if child["status"] == "running" and age >= LATE_START_SECONDS:
        return _DEAD
    # Once begun it would find that the time is up.
    return _LOST if child["status"] in _WAITING and min(age, over) >= MAX_QUEUE_SECONDS else None


def _asked_seconds(children, now):
    total = 0.0
    for child in children:
        if _ref(child) == "core.ask":
            began = parse_iso(child.get("start_timestamp"))
            total += (parse_iso(child.get("end_timestamp")) or now) - (began or now)
    return total


def _ref(child):
    return (child.get("action") or {}).get("ref") or ""


def _is_workflow(child):
    return (child.get("action") or {}).get("runner_type") == "orquesta"


def _reaped(env):
    """The runs that were logged already."""
    found = set()
    for page in range(MAX_PAGES):
        rows = env.store.list(_REAPED, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        found.update(name[len(_REAPED):] for name, _ in rows)
        if len(rows) < PAGE_SIZE:
            break
    return found


def _log_missing_record(env, workflow, run, done):
    """Writes the record that the run's own log task did not, once."""
    parent = (run.get("context") or {}).get("parent") or {}
    if parent.get("pack") == approvals.PACK:
        return
    key = _REAPED + encode_key_part(run["id"])
    if env.store.unavailable_reason or env.store.get(key) is not None:
        return
    why = "the run was ended as %s" % run["status"]
    error = {"cause": "cancelled", "message": why}
    # The record is the run's, not the reaper's.
    own, env.run = env.run, run["id"]
    try:
        given = _parameters(env, run)
        if workflow == outcome.WORKFLOW:
            told = outcome.record_failure(env, None, given, dict(error, reason=why))
        else:
            subject = _REQUESTED_SUBJECTS[workflow](given)
            failed = failure_record.failed_run(workflow, subject, {"refused": error})
            told = failure_record.record_failed_run(env, failed)
    finally:
        env.run = own
    env.store.put(key, "1", _LOGGED_SECONDS)
    done["logged"].append({"run": run["id"], "workflow": workflow, "ticket": told["ticket"]})


def _parameters(env, run):
    """What the run was to work on; a rule's runs have it in their case."""
    try:
        given = run_parameters.read_parameters(run, env.store)
    except InvalidInput:
        return run.get("parameters") or {}
    alert = given.get("alert")
    labels = alert.get("labels") if isinstance(alert, dict) else None
    if isinstance(labels, dict) and not given.get("nodes"):
        named = [labels[name] for name in ("node", "instance", "host") if labels.get(name)]
        given["nodes"] = named[:1]
    return given


def _end_roll_up(env, run, done):
    """Ends a roll-up that runs longer than it can: its action runner died."""
    age = env.now() - (parse_iso(run.get("start_timestamp")) or env.now())
    if age > ROLL_UP_SECONDS and env.api.set_status(run["id"], "abandoned", {"error": _DEAD}):
        done["abandoned"].append({"run": run["id"], "workflow": ROLL_UP, "execution": run["id"]})


def _close_ticket(env, run, by, done):
    """Resolves the ticket of a run whose problem was over before it had ended."""
    status = env.api.execution(run, "status").get("status")
    if status not in ENDED:
        return
    ticket = admission.close_run_ticket(env, run, by)
    incidents.remove_scheduled_close(env.store, run)
    done["closed"].append({"run": run, "ticket": ticket})


def _deadline(run):
    """When the run should have ended at the latest, in seconds since the epoch."""
    declared = ((run.get("action") or {}).get("parameters") or {}).get("timeout") or {}
    seconds = (run.get("parameters") or {}).get("timeout") or declared.get("default") or 3600
    return (parse_iso(run.get("start_timestamp")) or 0) + seconds
