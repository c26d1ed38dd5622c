"""Ends and records runs that would never end by themselves.

An action runner that dies leaves its action `running` and the workflow waiting. A scheduler that
dies while it delays an action loses it. A cancelled run does not execute its log task. StackStorm
ends approvals only if it is configured to. Concurrent reapers do no harm, and an error with one
run does not affect the others.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

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
from synthralos.recovery import (
    agent_recovery,
    error_case,
    handle_error,
    llm_retry,
    reroute_request,
)
from synthralos.runtime import failure_record, run_parameters
from synthralos.storage import agent_runs, incidents, inquiries, reaped_runs
from synthralos.storage.datastore import PAGE_SIZE, DatastoreUnavailable
from synthralos.storage.stackstorm_api import ENDED, Page, Row, StackStormError

if TYPE_CHECKING:
    from synthralos.automation.approvals import PendingApproval
    from synthralos.automation.config import AutomationConfig
    from synthralos.runtime.environment import Environment

# What a run without a case was about, by workflow.
_REQUESTED_SUBJECTS: dict[str, Callable[[dict[str, Any]], str]] = {
    agent_recovery.WORKFLOW: partial(agent_recovery.subject, None),
    llm_retry.WORKFLOW: partial(llm_retry.subject, None),
    reroute_request.WORKFLOW: partial(reroute_request.subject, None),
    error_case.WORKFLOW: partial(handle_error.subject, None),
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


T = TypeVar("T")


@dataclass
class Report:
    """What a reaper has done.

    :ivar abandoned: [{run, workflow, execution}].
    :ivar canceled, resumed: [{run, workflow}].
    :ivar logged: [{run, workflow, ticket}].
    :ivar closed: [{run, ticket}].
    :ivar agents: cancelled at their platforms, as agent_run_reaper.cancel_left_behind returns them.
    :ivar silences: as silence_reaper.end_left_behind returns them.
    :ivar errors: [{run or null, error}].
    """

    abandoned: list[dict[str, str]] = field(default_factory=list)
    canceled: list[dict[str, str]] = field(default_factory=list)
    resumed: list[dict[str, str]] = field(default_factory=list)
    logged: list[dict[str, Optional[str]]] = field(default_factory=list)
    expired: "list[PendingApproval]" = field(default_factory=list)
    closed: list[dict[str, Optional[str]]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)
    silences: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Optional[str]]] = field(default_factory=list)


def reap(env: "Environment", config: "AutomationConfig") -> dict[str, Any]:
    """Process all stuck runs, expired approvals and scheduled closes once.

    :returns: the fields of a Report, and a `summary`.
    """
    report = Report()
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
    for run_id, actor in incidents.scheduled_closes(env.store):
        _collect_errors(report, run_id, _close_ticket, env, run_id, actor, report)
    cancelled = _collect_errors(report, None, agent_run_reaper.cancel_left_behind, env)
    report.agents += cancelled or []
    ended = _collect_errors(report, None, silence_reaper.end_left_behind, env, config)
    report.silences += ended or []
    counts = ", ".join("%d %s" % (len(entries), name) for name, entries in vars(report).items())
    return dict({"summary": counts}, **vars(report))


def _collect_errors(
    report: Report,
    run: Optional[str],
    function: Callable[..., T],
    *arguments: Any,
    **keywords: Any,
) -> Optional[T]:
    """Return what the call returns, or None if it failed: the error is in the report."""
    try:
        return function(*arguments, **keywords)
    except (StackStormError, DatastoreUnavailable, InvalidInput) as error:
        report.errors.append({"run": run, "error": str(error)})
        return None


def _list_runs(env: "Environment", report: Report, workflow: str, **filters: str) -> Page:
    """Return the executions of a workflow, oldest first, of at most MAX_PAGES pages."""
    runs: Page = []
    for page in range(MAX_PAGES):
        rows: Optional[Page] = _collect_errors(
            report, None, env.api.executions, _ATTRIBUTES,
            action="synthralos." + workflow, offset=page * PAGE_SIZE, **filters,
        )
        runs += rows or []
        if len(rows or ()) < PAGE_SIZE:
            break
    return runs


def _expire(env: "Environment", config: "AutomationConfig", report: Report) -> None:
    report.expired += approvals.expire(env, config.approval_timeout)


def _close_run(
    env: "Environment",
    workflow: str,
    run: Row,
    report: Report,
    polling_runs: Callable[[], set[str]],
) -> None:
    """End the actions that keep `run` from ending, or the run itself if there are none.

    :param polling_runs: returns the ids of the runs that ask for an agent.
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
            report.resumed.append({"run": run["id"], "workflow": workflow})
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
            report.abandoned.append(entry)
    if live:
        return
    if run["status"] == "canceling":
        ended = env.api.set_status(run["id"], "canceled")
    else:
        ended = env.api.cancel(run["id"])
    if ended:
        report.canceled.append({"run": run["id"], "workflow": workflow})


def _polling_runs(env: "Environment") -> set[str]:
    """Return the ids of the runs that ask for the outcome of an agent: they started it, or have
    joined it.
    """
    run_ids: set[str] = set()
    for agent_run in agent_runs.undelivered(env.store):
        run_ids.add(agent_run.started_by)
        run_ids.update(agent_runs.waiters(env.store, agent_run))
    return run_ids


def _abandon_dead_rounds(
    env: "Environment", workflow: str, run: Row, report: Report, limit: float
) -> None:
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
            report.abandoned.append(entry)


def _overdue_seconds(child: Row, now: float) -> float:
    """Return for how many seconds an action that has not started has been due; 0 if it is not, or
    if that is unknown.
    """
    log = child.get("log")
    if child.get("status") not in _WAITING or not isinstance(log, list) or not log:
        return 0.0
    since = parse_iso(log[-1].get("timestamp"))
    delay = (child.get("delay") or 0) / 1000 if child["status"] == "delayed" else 0
    return 0.0 if since is None else max(0.0, now - since - delay)


def _abandon_reason(child: Row, overdue_seconds: float, now: float) -> Optional[str]:
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


def _wait_seconds(
    env: "Environment", run_id: str, children: Iterable[Row], depth: int = approvals.MAX_DEPTH
) -> float:
    """Return for how long a run, and the workflows that are a part of it, have waited for people.
    """
    seconds = max(_approval_seconds(children, env.now()), inquiries.total_wait(env.store, run_id))
    for child in children:
        if _is_workflow(child) and depth:
            grandchildren = env.api.children(child["id"], _CHILDREN)
            seconds += _wait_seconds(env, child["id"], grandchildren, depth - 1)
    return seconds


def _approval_seconds(children: Iterable[Row], now: float) -> float:
    total = 0.0
    for child in children:
        if _ref(child) == "core.ask":
            started_at = parse_iso(child.get("start_timestamp"))
            total += (parse_iso(child.get("end_timestamp")) or now) - (started_at or now)
    return total


def _ref(child: Row) -> str:
    ref: Optional[str] = (child.get("action") or {}).get("ref")
    return ref or ""


def _is_workflow(child: Row) -> bool:
    return bool((child.get("action") or {}).get("runner_type") == "orquesta")


def _log_missing_record(env: "Environment", workflow: str, run: Row, report: Report) -> None:
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
            ticket = (redrive.finish_ended(env, run["id"], run["status"]) or {}).get("ticket")
        elif workflow == outcome.WORKFLOW:
            record = outcome.record_failure(env, None, parameters, dict(error, reason=reason))
            ticket = record["ticket"]
        else:
            subject = _REQUESTED_SUBJECTS[workflow](parameters)
            failed = failure_record.failed_run(workflow, subject, {"refused": error})
            ticket = failure_record.record_failed_run(env, failed)["ticket"]
    finally:
        env.run = reaper_run
    reaped_runs.record(env.store, run["id"], ticket)
    report.logged.append({"run": run["id"], "workflow": workflow, "ticket": ticket})


def _parameters(env: "Environment", run: Row) -> dict[str, Any]:
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


def _end_roll_up(env: "Environment", run: Row, report: Report) -> None:
    """End a roll-up that runs longer than it may: its action runner died."""
    age = env.now() - (parse_iso(run.get("start_timestamp")) or env.now())
    if age > ROLL_UP_SECONDS and env.api.set_status(run["id"], "abandoned", {"error": _DEAD}):
        report.abandoned.append({"run": run["id"], "workflow": ROLL_UP, "execution": run["id"]})


def _close_ticket(env: "Environment", run: str, actor: str, report: Report) -> None:
    """Resolve the ticket of a run whose problem was over before the run ended."""
    execution = env.api.execution(run, "status,action.ref")
    if execution.get("status") not in ENDED:
        admission.withdraw_question(env, run, execution)
        return
    ticket = admission.close_run_ticket(env, run, actor)
    incidents.remove_scheduled_close(env.store, run)
    report.closed.append({"run": run, "ticket": ticket})


def _deadline(run: Row) -> float:
    """Return the time by which the run should have ended, in seconds since the epoch."""
    declared = ((run.get("action") or {}).get("parameters") or {}).get("timeout") or {}
    seconds = (run.get("parameters") or {}).get("timeout") or declared.get("default") or 3600
    return (parse_iso(run.get("start_timestamp")) or 0) + seconds
