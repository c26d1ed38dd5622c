"""Ends and records runs that would never end by themselves.

An action runner that dies leaves its action `running` and the workflow waiting. A scheduler that
dies while it delays an action loses it. A cancelled run does not execute its log task. StackStorm
ends approvals only if it is configured to. Concurrent reapers do no harm, and an error with one
run does not affect the others.
"""

import functools
from functools import partial

from synthralos.automation import (
    admission,
    agent_run_reaper,
    approvals,
    recovery_with_approval,
    silence_reaper,
)
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.infrastructure import outcome
from synthralos.operations import redrive, redrive_report
from synthralos.orchestration import run_completion
from synthralos.recovery import agent_recovery, handle_error, llm_retry, reroute_request
from synthralos.runtime import failure_record, run_parameters
from synthralos.storage import agent_runs, incidents, inquiries, reaped_runs
from synthralos.storage.datastore import PAGE_SIZE, DatastoreUnavailable
from synthralos.storage.stackstorm_api import ENDED, StackStormError

# What a run without a case was about, by workflow.
_REQUESTED_SUBJECTS = {
    agent_recovery.WORKFLOW: partial(agent_recovery.subject, None),
    llm_retry.WORKFLOW: partial(llm_retry.subject, None),
    reroute_request.WORKFLOW: partial(reroute_request.subject, None),
    handle_error.WORKFLOW: partial(handle_error.subject, None),
    recovery_with_approval.WORKFLOW: partial(recovery_with_approval.subject, None),
    run_completion.WORKFLOW: run_completion.requested_subject,
}
WORKFLOWS = (*_REQUESTED_SUBJECTS, outcome.WORKFLOW, redrive_report.WORKFLOW)
# Its policy cancels further roll-ups while one counts as running.
ROLL_UP, ROLL_UP_SECONDS = "metrics.roll_up", 300
# Seconds after its deadline within which a run may still end by itself.
GRACE_SECONDS = 60
# Seconds that one of our actions may need if it started late, or waits for a slow StackStorm.
LATE_START_SECONDS = 120
# Seconds after the deadline, and after the request, until one of our actions that has not started
# counts as lost: in a burst, actions queue for minutes.
MAX_QUEUE_SECONDS = 300
# What a run must have left for its rounds to be judged by their own limit: longer than any round,
# which has up to an hour for a platform that answers within one request.
LONG_SECONDS, ROUND_SECONDS = 3600, 3700
# Of a round that only asks what became of an agent.
POLL_SECONDS = 300
# After the time at which it was due, until a round of a long run that has not started is lost.
LOST_ROUND_SECONDS = 900
LOOK_BACK = 2 * 24 * 3600
MAX_PAGES = 10
_WAITING = ("requested", "scheduled", "delayed")
_LIVE = _WAITING + ("running", "pausing", "paused", "resuming", "canceling")
# Not `action.parameters.timeout`: StackStorm adds action.parameters whenever parameters are
# requested, and MongoDB rejects a projection with a field and its parent.
_ATTRIBUTES = "id,status,start_timestamp,parameters,action.ref,action.parameters,context"
# Of an inquiry: it has timed out, or it was answered.
_SETTLED = ("timeout", "succeeded")
_CHILDREN = "id,status,action.ref,action.runner_type,start_timestamp,end_timestamp,log,delay"
_DEAD = "its action runner died: it is still running after the deadline of its run"
_DEAD_ROUND = "its action runner died: it is still running after the limit of a round"
_LOST_ROUND = "StackStorm lost it: it was due %d minutes ago, and has not started"
_LOST = "StackStorm's scheduler lost it: it had not started by the deadline of its run"


def reap(env, config):
    """Process all stuck runs, expired approvals and scheduled closes once.

    :returns: {summary, abandoned, canceled, resumed, logged, expired, closed, agents, silences,
        errors}: lists of {run, workflow ...}; agents, cancelled at their platforms, are {run,
        agent_id, target, confirmed}; silences are as silence_reaper.end_left_behind returns them;
        errors are {run or null, error}.
    """
    names = (
        "abandoned", "canceled", "resumed", "logged", "expired", "closed", "agents",
        "silences", "errors",
    )
    report = {name: [] for name in names}
    _collect_errors(report, None, _expire, env, config, report)
    logged_runs = reaped_runs.list_runs(env.store)
    polling_runs = functools.cache(partial(_polling_runs, env))
    since = to_iso(env.now() - LOOK_BACK - config.approval_timeout)
    for workflow in WORKFLOWS:
        for status in _LIVE:
            for run in _list_runs(env, report, workflow, status=status, sort_asc="true"):
                _collect_errors(
                    report, run["id"], _close_run, env, workflow, run, report, polling_runs
                )
        for status in ("canceled", "abandoned", "timeout"):
            for run in _list_runs(env, report, workflow, status=status, timestamp_gt=since):
                if run["id"] not in logged_runs:
                    _collect_errors(
                        report, run["id"], _log_missing_record, env, workflow, run, report
                    )
    for run in _list_runs(env, report, ROLL_UP, status="running"):
        _collect_errors(report, run["id"], _end_roll_up, env, run, report)
    for run, actor in incidents.scheduled_closes(env.store):
        _collect_errors(report, run, _close_ticket, env, run, actor, report)
    cancelled = _collect_errors(report, None, agent_run_reaper.cancel_left_behind, env)
    report["agents"] += cancelled or []
    ended = _collect_errors(report, None, silence_reaper.end_left_behind, env, config)
    report["silences"] += ended or []
    counts = ", ".join("%d %s" % (len(entries), name) for name, entries in report.items())
    return dict({"summary": counts}, **report)


def _collect_errors(report, run, function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
        report["errors"].append({"run": run, "error": str(error)})


def _list_runs(env, report, workflow, **filters):
    """Return the executions of a workflow, oldest first, of at most MAX_PAGES pages."""
    runs, ref = [], "synthralos." + workflow
    for page in range(MAX_PAGES):
        query = dict(filters, action=ref, offset=page * PAGE_SIZE)
        rows = _collect_errors(report, None, env.api.executions, _ATTRIBUTES, **query)
        runs += rows or []
        if len(rows or ()) < PAGE_SIZE:
            break
    return runs


def _expire(env, config, report):
    report["expired"] += approvals.expire(env, config.approval_timeout)


def _close_run(env, workflow, run, report, polling_runs):
    """End the actions that keep `run` from ending, or the run itself if there are none.

    :param polling_runs: a callable that returns the ids of the runs that ask for an agent.
    """
    if env.now() <= _deadline(run) + GRACE_SECONDS and run["status"] != "paused":
        is_long = _deadline(run) - env.now() > LONG_SECONDS
        if is_long and workflow == agent_recovery.WORKFLOW:
            limit = POLL_SECONDS if run["id"] in polling_runs() else ROUND_SECONDS
            _abandon_dead_rounds(env, workflow, run, report, limit)
        return
    children = env.api.children(run["id"], _CHILDREN)
    live = [child for child in children if child.get("status") not in ENDED]
    if run["status"] == "paused":
        # A person may have paused it. A run that an approval paused is resumed once that has ended:
        # StackStorm does so itself after an answer, unless it was still pausing the run.
        last = children[-1] if children else {}
        is_over = _ref(last) == "core.ask" and last.get("status") in _SETTLED and not live
        if is_over and approvals.resume(env, run["id"]):
            report["resumed"].append({"run": run["id"], "workflow": workflow})
        return
    # The time that people take to answer does not count against the deadline of a run.
    overdue_seconds = env.now() - _deadline(run) - _wait_seconds(env, run["id"], children)
    if overdue_seconds <= GRACE_SECONDS:
        return
    for child in live:
        reason = _abandon_reason(child, overdue_seconds, env.now())
        # After that the workflow continues with its log task by itself.
        if reason is not None and env.api.set_status(child["id"], "abandoned", {"error": reason}):
            entry = {"run": run["id"], "workflow": workflow, "execution": child["id"]}
            report["abandoned"].append(entry)
    if live:
        return
    if run["status"] == "canceling":
        ended = env.api.set_status(run["id"], "canceled")
    else:
        ended = env.api.cancel(run["id"])
    if ended:
        report["canceled"].append({"run": run["id"], "workflow": workflow})


def _polling_runs(env):
    """Return the ids of the runs that ask for the outcome of an agent: they started it, or have
    joined it.
    """
    run_ids = set()
    for agent_run in agent_runs.undelivered(env.store):
        run_ids.add(agent_run.started_by)
        run_ids.update(agent_runs.waiters(env.store, agent_run))
    return run_ids


def _abandon_dead_rounds(env, workflow, run, report, limit):
    """End the rounds of a long run that will never end: the run would last until its deadline.

    A round that runs an agent ends within its own limit, however long the agent works.

    :param limit: seconds after which a round that is still running has lost its action runner.
    """
    for child in env.api.children(run["id"], _CHILDREN):
        if _is_workflow(child) or not _ref(child).startswith("synthralos."):
            continue
        age = env.now() - (parse_iso(child.get("start_timestamp")) or env.now())
        overdue = _overdue_seconds(child, env.now())
        reason = None
        if child.get("status") == "running" and age > limit:
            reason = _DEAD_ROUND
        elif overdue > LOST_ROUND_SECONDS:
            reason = _LOST_ROUND % (overdue // 60)
        if reason is not None and env.api.set_status(child["id"], "abandoned", {"error": reason}):
            entry = {"run": run["id"], "workflow": workflow, "execution": child["id"]}
            report["abandoned"].append(entry)


def _overdue_seconds(child, now):
    """Return for how many seconds an action that has not started has been due; 0 if it is not, or
    if that is unknown.
    """
    log = child.get("log")
    if child.get("status") not in _WAITING or not isinstance(log, list) or not log:
        return 0.0
    since = parse_iso(log[-1].get("timestamp"))
    delay = (child.get("delay") or 0) / 1000 if child["status"] == "delayed" else 0
    return 0.0 if since is None else max(0.0, now - since - delay)


def _abandon_reason(child, overdue_seconds, now):
    """Return why one of our actions will never end by itself, or None if it may.

    :param overdue_seconds: seconds since the deadline of its run.
    """
    age = now - (parse_iso(child.get("start_timestamp")) or now)
    if _is_workflow(child) or not _ref(child).startswith("synthralos."):
        return None
    if child["status"] == "running" and age >= LATE_START_SECONDS:
        return _DEAD
    # An action that does start would notice that its time is up.
    return (
        _LOST
        if child["status"] in _WAITING and min(age, overdue_seconds) >= MAX_QUEUE_SECONDS
        else None
    )


def _wait_seconds(env, run_id, children, depth=approvals.MAX_DEPTH):
    """Return for how long a run, and the workflows that are a part of it, have waited for people.
    """
    seconds = max(_approval_seconds(children, env.now()), inquiries.total_wait(env.store, run_id))
    for child in children:
        if _is_workflow(child) and depth:
            grandchildren = env.api.children(child["id"], _CHILDREN)
            seconds += _wait_seconds(env, child["id"], grandchildren, depth - 1)
    return seconds


def _approval_seconds(children, now):
    total = 0.0
    for child in children:
        if _ref(child) == "core.ask":
            started_at = parse_iso(child.get("start_timestamp"))
            total += (parse_iso(child.get("end_timestamp")) or now) - (started_at or now)
    return total


def _ref(child):
    return (child.get("action") or {}).get("ref") or ""


def _is_workflow(child):
    return (child.get("action") or {}).get("runner_type") == "orquesta"


def _log_missing_record(env, workflow, run, report):
    """Write the record that the run's own log task did not write, once."""
    parent = (run.get("context") or {}).get("parent") or {}
    if parent.get("pack") == approvals.PACK:
        return
    if env.store.unavailable_reason or reaped_runs.is_recorded(env.store, run["id"]):
        return
    reason = "the run was ended as %s" % run["status"]
    error = {"cause": "cancelled", "message": reason}
    # The record belongs to the run, not to the reaper.
    reaper_run, env.run = env.run, run["id"]
    try:
        parameters = _parameters(env, run)
        if workflow == redrive_report.WORKFLOW:
            record = redrive.finish_ended(env, run["id"], run["status"]) or {"ticket": None}
        elif workflow == outcome.WORKFLOW:
            record = outcome.record_failure(env, None, parameters, dict(error, reason=reason))
        else:
            subject = _REQUESTED_SUBJECTS[workflow](parameters)
            failed = failure_record.failed_run(workflow, subject, {"refused": error})
            record = failure_record.record_failed_run(env, failed)
    finally:
        env.run = reaper_run
    reaped_runs.record(env.store, run["id"], record["ticket"])
    report["logged"].append({"run": run["id"], "workflow": workflow, "ticket": record["ticket"]})


def _parameters(env, run):
    """Return the inputs of the run; runs that a rule started have them in their case."""
    try:
        parameters = run_parameters.read_parameters(run, env.store)
    except InvalidInput:
        return run.get("parameters") or {}
    alert = parameters.get("alert")
    labels = alert.get("labels") if isinstance(alert, dict) else None
    if isinstance(labels, dict) and not parameters.get("nodes"):
        nodes = [labels[name] for name in ("node", "instance", "host") if labels.get(name)]
        parameters["nodes"] = nodes[:1]
    return parameters


def _end_roll_up(env, run, report):
    """End a roll-up that runs longer than it may: its action runner died."""
    age = env.now() - (parse_iso(run.get("start_timestamp")) or env.now())
    if age > ROLL_UP_SECONDS and env.api.set_status(run["id"], "abandoned", {"error": _DEAD}):
        report["abandoned"].append({"run": run["id"], "workflow": ROLL_UP, "execution": run["id"]})


def _close_ticket(env, run, actor, report):
    """Resolve the ticket of a run whose problem was over before the run ended."""
    execution = env.api.execution(run, "status,action.ref")
    if execution.get("status") not in ENDED:
        admission.withdraw_question(env, run, execution)
        return
    ticket = admission.close_run_ticket(env, run, actor)
    incidents.remove_scheduled_close(env.store, run)
    report["closed"].append({"run": run, "ticket": ticket})


def _deadline(run):
    """Return the time by which the run should have ended, in seconds since the epoch."""
    declared = ((run.get("action") or {}).get("parameters") or {}).get("timeout") or {}
    seconds = (run.get("parameters") or {}).get("timeout") or declared.get("default") or 3600
    return (parse_iso(run.get("start_timestamp")) or 0) + seconds
