"""Ends a run: its output, report, stored end, summary or failure record, and webhook."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypedDict

from synthralos.calls.http import CallError
from synthralos.config.connection import connection
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.orchestration import scheduler, templates
from synthralos.orchestration.orchestration_schema import Orchestration
from synthralos.orchestration.run_context import STATE, Context
from synthralos.orchestration.run_store import (
    EndRecord,
    Logged,
    PlannedResume,
    RunRecord,
    RunStore,
)
from synthralos.orchestration.scheduler import LogEntry, Outcome, Slot, State
from synthralos.runtime import failure_record, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case
from synthralos.storage import inquiries
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable
from synthralos.telemetry import run_log

WORKFLOW = "orchestration.run"
MAX_SUBJECT_CHARS = 100
WEBHOOK_SECONDS = 10.0
# A larger output is left out of the webhook's body.
MAX_WEBHOOK_OUTPUT_BYTES = 64 * 1024
_KINDS = ("input", "output")
# The task that starts the run which resumes this one, and its input from the planned resume.
RESUME = "resume"
_RESUME = ("number", "max_resumes", "delay")


class RunError(TypedDict):
    """Why a run did not complete. `step`: the step that failed, or None."""

    cause: str
    message: str
    step: Optional[str]


class _Output(TypedDict):
    output: Any


class FittedOutput(_Output, total=False):
    """The output of a run. One that is too large for a result is None there; `output_key` is where
    it is stored, or None if it could not be.
    """

    output_key: Optional[str]
    output_bytes: int


class _RunReport(TypedDict):
    success: bool
    status: str
    error: Optional[Mapping[str, Any]]
    ticket: Optional[str]
    checkpoints: list[str]
    result: FittedOutput
    stepLogs: list[dict[str, Any]]


class Report(_RunReport, total=False):
    """What the result of a run says of it.

    `error`: at least its cause and message, or None; `checkpoints`: keys of the states before its
    waves; `stepLogs` has the name that the orchestration guide gives to the logs of the steps, see
    `step_logs`; `unrecorded`: what could not be stored.
    """

    trigger: str
    webhook: Optional[str]
    resumed_by: Optional[str]
    unrecorded: str


class Parent(TypedDict):
    """The run that has started a sub-orchestration, and the key of the step that is it."""

    run: str
    key: str


def empty_report() -> Report:
    """Return the report of a run that has done nothing."""
    return {
        "success": False,
        "status": "failed",
        "error": None,
        "ticket": None,
        "checkpoints": [],
        "result": {"output": None},
        "stepLogs": [],
    }


def finish_run(
    env: Environment,
    case: Case,
    run_store: RunStore,
    run_record: RunRecord,
    state: State,
    context: Context,
) -> dict[str, Any]:
    """End a run and return the result of its last task.

    :param state: of the run, whose outcome is set.
    :returns: a report whose `next_task` is "done", "failed", or "resume" for a failed run that will
        resume itself.
    """
    definition, outcome, log = run_record["definition"], state["outcome"], run_store.log(state)
    assert outcome is not None
    status, output = outcome["status"], None
    error: Optional[RunError] = None
    if status == scheduler.COMPLETED:
        try:
            output = _output(definition, context)
        except InvalidInput as refused:
            status, outcome = scheduler.FAILED, {**outcome, "error": str(refused)}
    if status != scheduler.COMPLETED:
        error = _error(env, status, outcome)
    plan = None
    if status == scheduler.FAILED and not case["parent"]:
        plan = _planned_resume(env, run_record)
    report: Report = {
        **empty_report(),
        "success": status == scheduler.COMPLETED,
        "status": status,
        "checkpoints": run_store.waves(run_record, state),
        "result": fit_output(env, case["run"], output),
        "stepLogs": step_logs(env, run_store, log),
    }
    public_context = {name: slot for name, slot in state["context"].items() if name == STATE}
    run_store.end(_end_record(env, status, state, output, error, public_context, plan))
    if case["parent"]:
        duration = round(env.now() - case["started"], 3)
        _report_to_parent(
            run_store,
            case["parent"],
            run_record["input"],
            status,
            output,
            error,
            duration,
            case["asked"],
        )
    case["transitions"] = _transitions(state["log"])
    report["error"] = error
    if plan is not None and error is not None:
        # A run that resumes itself needs no ticket; the last of its resumes opens one.
        return _resume_result(env, case, report, error, plan)
    if status == scheduler.FAILED and error is not None and not case["parent"]:
        case["gave_up"] = {"error": error, "reason": error["message"]}
        run = failure_record.failed_run(WORKFLOW, case["subject"], case)
        report["ticket"] = failure_record.record_failed_run(env, run)["ticket"]
    elif not case["parent"]:
        workflow_run.record_summary(env, case, "recovered", None, end=status, recovery=None)
    report["webhook"] = _post_webhook(env, definition, run_record, report, run_store.run)
    summary = "%s: %s" % (status, error["message"] if error else _counts(log))
    return dict({"summary": summary, "next_task": _next_task(status)}, **report)


def _end_record(
    env: Environment,
    status: str,
    state: Logged,
    output: Any,
    error: Optional[Mapping[str, Any]],
    context: dict[str, Slot],
    plan: Optional[PlannedResume],
) -> EndRecord:
    return {
        "status": status, "output": output, "error": error, "log": state["log"],
        "pages": state["pages"], "context": context, "at": env.now(), "resume": plan,
    }


def _planned_resume(env: Environment, run_record: RunRecord) -> Optional[PlannedResume]:
    """Return when a failed run resumes itself, see resuming; None if it does not."""
    policy = run_record["definition"].get("auto_resume")
    number = (run_record.get("resumes") or 0) + 1
    if not policy or number > policy["max_resumes"]:
        return None
    delay = math.ceil(policy["resume_delay"])
    return {
        "number": number, "max_resumes": policy["max_resumes"], "delay": delay,
        "at": env.now() + delay,
    }


def _resume_result(
    env: Environment, case: Case, report: Report, error: Mapping[str, Any], plan: PlannedResume
) -> dict[str, Any]:
    """Return the result of the task that ends a run which will resume itself by `plan`."""
    resume = {name: value for name, value in plan.items() if name in _RESUME}
    # The workflow waits until the resume begins, which may be later than the run's deadline.
    inquiries.record_wait(env.store, case["run"], case["asked"] + plan["delay"])
    workflow_run.record_summary(env, case, "failed", dict(case["failure"], cause=error["cause"]))
    summary = "failed: %s; resume %d of %d begins in %d s" % (
        error["message"], plan["number"], plan["max_resumes"], plan["delay"])
    return dict({"summary": summary, "next_task": RESUME, "resume": resume}, **report)


def _transitions(log: Iterable[LogEntry]) -> dict[str, int]:
    """Return {"FROM->TO": count} of the steps' transitions; skipped steps never were running."""
    counts: dict[str, int] = {}
    for entry in log:
        before = (
            "pending" if entry["status"] in (scheduler.SKIPPED, scheduler.BLOCKED) else "running"
        )
        name = "%s->%s" % (before, entry["status"])
        counts[name] = counts.get(name, 0) + 1
    return counts


def _next_task(status: str) -> str:
    # A refusal is a valid answer of a person, not a failure of the run.
    return "failed" if status == scheduler.FAILED else "done"


def _output(definition: Orchestration, context: Context) -> Any:
    if definition.get("output") is not None:
        return templates.render(definition["output"], context.template_roots(definition["output"]))
    values = context.template_roots()["context"]
    del values["input"]
    return values


def _error(env: Environment, status: str, outcome: Outcome) -> RunError:
    message = outcome["error"] or status
    if outcome["step"]:
        message = "Step %s failed: %s" % (outcome["step"], message)
    cause = "step_failed" if outcome["step"] else "failed"
    if status == scheduler.REFUSED:
        cause = "refused"
    return {"cause": cause, "message": env.redactor.redact_text(message), "step": outcome["step"]}


def _counts(log: Iterable[LogEntry]) -> str:
    counts: dict[str, int] = {}
    for entry in log:
        counts[entry["status"]] = counts.get(entry["status"], 0) + 1
    counted = ["%d %s" % (count, status) for status, count in sorted(counts.items())]
    return ", ".join(counted) or "no step"


def step_logs(
    env: Environment, run_store: RunStore, log: Iterable[LogEntry]
) -> list[dict[str, Any]]:
    """Return the step logs with their inputs and outputs.

    The largest inputs and outputs that do not fit into a result are replaced by their size and the
    key of the record that has them.

    :returns: of each step its LogEntry, and `step_input` and `step_output` as far as they are
        known; of one that is left out, `step_output_bytes` and `step_output_key`, and the same of
        the input.
    """
    entries: list[dict[str, Any]] = []
    # (bytes, index of the entry, one of _KINDS, key of the record)
    sizes: list[tuple[int, int, str, str]] = []
    safe_log: list[LogEntry] = env.redactor.remove_secrets(list(log))
    for index, log_entry in enumerate(safe_log):
        entry: dict[str, Any] = dict(log_entry)
        record_key = entry.pop("at", None)
        record: Optional[Mapping[str, Any]] = (
            run_store.record(record_key) if record_key else None
        )
        for kind in _KINDS:
            if record is not None and kind in record:
                entry["step_" + kind] = record[kind]
                sizes.append((len(json.dumps(record[kind])), index, kind, record_key))
        entries.append(entry)
    # The other half is for the output and the rest of the report.
    max_bytes = env.settings.max_result_bytes // 2
    total = sum(size for size, _, _, _ in sizes)
    for size, index, kind, record_key in sorted(sizes, reverse=True):
        if total <= max_bytes:
            break
        total -= size
        entry = entries[index]
        entry["step_" + kind] = None
        entry["step_%s_bytes" % kind], entry["step_%s_key" % kind] = size, record_key
    return entries


def fit_output(env: Environment, run_id: str, output: Any) -> FittedOutput:
    """Return the output, or the key under which one that is too large for a result is stored."""
    output = env.redactor.remove_secrets(output)
    size = len(json.dumps(output))
    if size <= env.settings.max_result_bytes // 2:
        return {"output": output}
    key = "%sanswer.%s" % (PREFIX, encode_key_part(run_id or "none"))
    content = sealing.seal(output)
    was_stored = env.store.put(key, content, workflow_run.ANSWER_SECONDS)
    return {"output": None, "output_key": key if was_stored else None, "output_bytes": size}


def _report_to_parent(
    run_store: RunStore,
    parent: Parent,
    run_input: Any,
    status: str,
    output: Any,
    error: Optional[Mapping[str, Any]],
    duration: Optional[float] = None,
    wait_seconds: float = 0,
) -> None:
    """Store the record of a sub-orchestration for the run that started it.

    :param run_input: the input of this run.
    :param duration, wait_seconds: how long this run took, and waited for people, in seconds.
    """
    entry: LogEntry = {
        "status": status,
        "duration": duration,
        "attempts": 1,
        "execution_id": run_store.run,
        "asked": wait_seconds,
    }
    if error:
        entry["error"] = error["message"]
    run_store.put_record(parent["key"], {"log": entry, "input": run_input, "output": output})


def _post_webhook(
    env: Environment, definition: Orchestration, run_record: RunRecord, report: Report, run_id: str
) -> Optional[str]:
    """Send the report to the orchestration's webhook.

    :returns: "taken", "not taken: <reason>", or None without a webhook.
    """
    hook = definition.get("webhook")
    if not hook:
        return None
    body: dict[str, Any] = {
        "status": report["status"],
        "success": report["success"],
        "error": report["error"],
        "ticket": report["ticket"],
        "orchestration": run_record["name"],
        "execution_id": run_id,
    }
    output = report["result"]["output"]
    if len(json.dumps(output)) <= MAX_WEBHOOK_OUTPUT_BYTES:
        body["output"] = output
    try:
        url, url_from = hook.get("url"), hook.get("url_from")
        if not url and url_from is not None:
            url = env.store.secret(url_from)
        webhook = connection(
            {"url": url, "headers_from": hook.get("headers_from")}, "webhook", "token",
            WEBHOOK_SECONDS, WEBHOOK_SECONDS / 2, "url",
        )
        response = env.client.request(
            webhook, "POST", "", WEBHOOK_SECONDS, body=env.redactor.remove_secrets(body)
        )
    except CallError as error:
        return "not taken: %s" % error.failure.cause
    except (InvalidInput, DatastoreUnavailable) as error:
        return "not taken: %s" % env.redactor.redact_text(str(error))
    except Exception as error:
        # A broken webhook must not fail a successful run.
        run_log.write_traceback(env.redactor.redact_text)
        return "not taken: %s" % env.redactor.redact_text(str(error) or type(error).__name__)
    if 200 <= response.status < 300:
        return "taken"
    return "not taken: it answered %d" % response.status


def log_failure(
    env: Environment, case: Optional[Case], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Record a run whose workflow failed; return the result of log_orchestration_failure.

    :param case: the case of the last task, as failure_record.failed_run takes it.
    :param parameters: of the workflow.
    """
    if case is None or "progress" not in case:
        return _log_failed_start(env, case, parameters)
    error, reason = failure_record.failure_reason(case, case["progress"])
    run_error: Mapping[str, Any] = dict(error, reason=reason)
    report = empty_report()
    report["error"] = run_error
    run_store, is_resumed = RunStore(env, case["run"]), False
    plan: Optional[PlannedResume] = None
    try:
        run_record: RunRecord = run_store.definition() or {}
        newest, end = run_store.newest(), run_store.ended()
        state: Logged = {"log": [], "pages": []} if newest is None else newest
        report["checkpoints"] = run_store.waves(run_record, newest)
        report["stepLogs"] = step_logs(env, run_store, run_store.log(state))
        if end is not None and end.get("resume"):
            # The run had already ended: this is about its resume, which is not attempted again.
            report["resumed_by"] = run_store.resumed_by()
            is_resumed = report["resumed_by"] is not None
            end_error = dict(end["error"] or {})
            if not is_resumed:
                reason = end_error["message"] + "; it could not be resumed"
                end_error["message"] = reason
            report["error"] = run_error = end_error
            case["gave_up"] = {"error": end_error, "reason": end_error["message"]}
            run_store.end({**end, "error": end_error, "resume": None})
        else:
            if newest and not case["parent"] and not case["dry_run"]:
                plan = _planned_resume(env, run_record)
            run_store.end(
                _end_record(env, scheduler.FAILED, state, None, run_error, {}, plan)
            )
        if case["parent"]:
            run_input = run_record.get("input")
            _report_to_parent(
                run_store, case["parent"], run_input, scheduler.FAILED, None, run_error
            )
    except (DatastoreUnavailable, InvalidInput) as unrecorded:
        report["unrecorded"], plan = _unrecorded(unrecorded), None
    if plan is not None:
        return _resume_result(env, case, report, run_error, plan)
    if not is_resumed and not case["parent"]:
        _record_failure(env, case, parameters, report)
    return dict({"summary": "%s failed: %s" % (WORKFLOW, reason)}, **report)


def _log_failed_start(
    env: Environment, case: Optional[Case], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Record a run whose first task failed, so that it left no complete case."""
    error, reason = failure_record.failure_reason(case, {})
    report = empty_report()
    report["error"] = dict(error, reason=reason)
    parent = _find_parent(env, parameters)
    if parent:
        try:
            run_store = RunStore(env, env.run)
            _report_to_parent(run_store, parent, None, scheduler.FAILED, None, report["error"])
        except (DatastoreUnavailable, InvalidInput) as unrecorded:
            report["unrecorded"] = _unrecorded(unrecorded)
    else:
        _record_failure(env, case, parameters, report)
    return dict({"summary": "%s failed: %s" % (WORKFLOW, reason)}, **report)


def _record_failure(
    env: Environment, case: Optional[Case], parameters: dict[str, Any], report: Report
) -> None:
    """Open the ticket of a failed run and send its trigger; add both to `report`."""
    complete = failure_record.complete_case(case)
    subject = complete["subject"] if complete else requested_subject(parameters)
    run = failure_record.failed_run(WORKFLOW, subject, case)
    record = failure_record.record_failed_run(env, run)
    report["ticket"], report["trigger"] = record["ticket"], record["trigger"]


def _unrecorded(error: Exception) -> str:
    """Return what `unrecorded` says in the result, in the form of all other actions."""
    return "not recorded: run (%s)" % error


def subject_of_name(name: Any) -> str:
    """The name of an orchestration, which may have spaces, as the subject of a ticket."""
    subject = re.sub(r"[^A-Za-z0-9._:/+-]+", "-", str(name or ""))
    return subject[:MAX_SUBJECT_CHARS].strip("-._:/+") or "orchestration"


def requested_subject(parameters: dict[str, Any]) -> str:
    """The subject of a run that has no case, from its unchecked parameters."""
    return subject_of_name(parameters.get("orchestration") or parameters.get("orchestration_id"))


def _find_parent(env: Environment, parameters: dict[str, Any]) -> Optional[Parent]:
    """Return the parent of a run that left no case; None if it has no parent."""
    try:
        inherited = sealing.unseal(parameters.get("case") or "", env.store)
        parent = inherited["request"]["rules"]["parent"]
    except (InvalidInput, KeyError, TypeError):
        return None
    if not isinstance(parent, dict) or not isinstance(parent.get("key"), str):
        return None
    return {"run": parent.get("run") or "", "key": parent["key"]}
