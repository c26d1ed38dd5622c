"""What comes of a run: its output, its report, its record, and who is told."""

import json
import math
import re
from typing import Any, Optional

from synthralos.calls.http import CallError
from synthralos.config.settings import connection
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.orchestration import scheduler, templates
from synthralos.orchestration.run_context import STATE
from synthralos.orchestration.run_store import RunStore
from synthralos.runtime import failure_record, workflow_run
from synthralos.storage import inquiries
from synthralos.storage.datastore import PREFIX, DatastoreUnavailable
from synthralos.telemetry import run_log

WORKFLOW = "orchestration.run"
MAX_SUBJECT_CHARS = 100
WEBHOOK_SECONDS = 10.0
# Of an output that is told to a webhook.
MAX_WEBHOOK_OUTPUT_BYTES = 64 * 1024
_KINDS = ("input", "output")
# The task that starts the run which resumes this one; what it is given of a planned resume.
RESUME = "resume"
_RESUME = ("number", "max_resumes", "delay")


def empty_report():
    """The report of a run that has done nothing.

    result is what its steps answered, as they did, and stepLogs, as the orchestration guide calls
    it, how each of them went; the rest is the pack's own words.
    """
    return {
        "success": False,
        "status": "failed",
        "error": None,
        "ticket": None,
        "checkpoints": [],
        "result": {"output": None},
        "stepLogs": [],
    }


def finish_run(env, case, kept, told, state, context):
    """The result of the task that ends the run: `do` is done, failed or, where a failed run is to
    resume itself, resume.
    """
    definition, outcome, log = told["definition"], state["outcome"], kept.log(state)
    status, output, error = outcome["status"], None, None
    if status == scheduler.COMPLETED:
        try:
            output = _output(definition, context)
        except InvalidInput as refused:
            status, outcome = scheduler.FAILED, dict(outcome, error=str(refused))
    if status != scheduler.COMPLETED:
        error = _error(env, status, outcome)
    plan = _planned_resume(env, told) if status == scheduler.FAILED and not case["parent"] else None
    report = dict(
        empty_report(),
        success=status == scheduler.COMPLETED,
        status=status,
        checkpoints=kept.waves(told, state),
        result=fit_output(env, case["run"], output),
        stepLogs=step_logs(env, kept, log),
    )
    told_state = {name: slot for name, slot in state["context"].items() if name == STATE}
    kept.end({"status": status, "output": output, "error": error, "log": state["log"],
              "pages": state["pages"], "context": told_state, "at": env.now(),
              "resume": plan})
    if case["parent"]:
        duration = round(env.now() - case["started"], 3)
        _report_to_parent(
            kept, case["parent"], told["input"], status, output, error, duration, case["asked"]
        )
    case["transitions"] = _transitions(state["log"])
    report.update(error=error)
    if plan is not None:
        # Nobody is called to a run that goes on by itself: its last resume does that.
        return _resumes(env, case, report, plan)
    if status == scheduler.FAILED and not case["parent"]:
        case["gave_up"] = {"error": error, "reason": error["message"]}
        run = failure_record.failed_run(WORKFLOW, case["subject"], case)
        report["ticket"] = failure_record.record_failed_run(env, run)["ticket"]
    elif not case["parent"]:
        workflow_run.record_summary(env, case, "recovered", None, end=status, recovery=None)
    report.update(webhook=_post_webhook(env, definition, told, report, kept.run))
    summary = "%s: %s" % (status, error["message"] if error else _counts(log))
    return dict({"summary": summary, "next_task": _next_task(status)}, **report)


def _planned_resume(env: Any, run_record: dict[str, Any]) -> Optional[dict[str, Any]]:
    """How a run that has failed resumes itself, as resuming says; None where it does not."""
    policy = run_record["definition"].get("auto_resume")
    number = (run_record.get("resumes") or 0) + 1
    if not policy or number > policy["max_resumes"]:
        return None
    delay = math.ceil(policy["resume_delay"])
    return {
        "number": number, "max_resumes": policy["max_resumes"], "delay": delay,
        "at": env.now() + delay,
    }


def _resumes(
    env: Any, case: dict[str, Any], report: dict[str, Any], plan: dict[str, Any]
) -> dict[str, Any]:
    """The result of a task that ends a run which is to resume itself, as `plan` says."""
    error, resume = report["error"], {name: plan[name] for name in _RESUME}
    # The run has not ended before its resume has begun, which may be later than its deadline.
    inquiries.record_wait(env.store, case["run"], case["asked"] + plan["delay"])
    workflow_run.record_summary(env, case, "failed", dict(case["failure"], cause=error["cause"]))
    summary = "failed: %s; resume %d of %d begins in %d s" % (
        error["message"], plan["number"], plan["max_resumes"], plan["delay"])
    return dict({"summary": summary, "next_task": RESUME, "resume": resume}, **report)


def _transitions(log):
    """{"FROM->TO": times} of the steps: what was passed over never ran."""
    found = {}
    for entry in log:
        before = (
            "pending" if entry["status"] in (scheduler.SKIPPED, scheduler.BLOCKED) else "running"
        )
        name = "%s->%s" % (before, entry["status"])
        found[name] = found.get(name, 0) + 1
    return found


def _next_task(status):
    # A refusal is an answer: the run did what it was to do.
    return "failed" if status == scheduler.FAILED else "done"


def _output(definition, context):
    if definition.get("output") is not None:
        return templates.render(definition["output"], context.template_roots(definition["output"]))
    found = context.template_roots()["context"]
    del found["input"]
    return found


def _error(env, status, outcome):
    message = outcome["error"] or status
    if outcome["step"]:
        message = "Step %s failed: %s" % (outcome["step"], message)
    cause = (
        "refused" if status == scheduler.REFUSED else "step_failed" if outcome["step"] else "failed"
    )
    return {"cause": cause, "message": env.redactor.redact_text(message), "step": outcome["step"]}


def _counts(log):
    found = {}
    for entry in log:
        found[entry["status"]] = found.get(entry["status"], 0) + 1
    return ", ".join("%d %s" % (n, status) for status, n in sorted(found.items())) or "no step"


def step_logs(env, kept, log):
    """The step logs, each with its input and output; what does not fit is named by its key."""
    told, sizes = [], []
    log = env.redactor.remove_secrets(log)
    for n, entry in enumerate(log):
        entry = dict(entry)
        at = entry.pop("at", None)
        left = kept.record(at) if at else None
        for kind in _KINDS:
            if left is not None and kind in left:
                entry["step_" + kind] = left[kind]
                sizes.append((len(json.dumps(left[kind])), n, kind, at))
        told.append(entry)
    # The other half is the output's, and what is beside these.
    most = env.settings.max_result_bytes // 2
    total = sum(size for size, _, _, _ in sizes)
    for size, n, kind, at in sorted(sizes, reverse=True):
        if total <= most:
            break
        total -= size
        told[n]["step_" + kind] = None
        told[n]["step_%s_bytes" % kind], told[n]["step_%s_key" % kind] = size, at
    return told


def fit_output(env, run_id, output):
    """{output}, or the key under which an output is kept that is too large for a result."""
    output = env.redactor.remove_secrets(output)
    size = len(json.dumps(output))
    if size <= env.settings.max_result_bytes // 2:
        return {"output": output}
    key = "%sanswer.%s" % (PREFIX, encode_key_part(run_id or "none"))
    content = sealing.seal(output)
    kept = env.store.put(key, content, workflow_run.ANSWER_SECONDS)
    return {"output": None, "output_key": key if kept else None, "output_bytes": size}


def _report_to_parent(kept, parent, given, status, output, error, duration=None, asked=0):
    """Leaves the record that the run which started this one looks for.

    :param parent: {run, key}; given: what this run was to work on.
    """
    entry = {
        "status": status,
        "duration": duration,
        "attempts": 1,
        "execution_id": kept.run,
        "asked": asked,
    }
    if error:
        entry["error"] = error["message"]
    kept.put_record(parent["key"], {"log": entry, "input": given, "output": output})


def _post_webhook(env, definition, told, report, run_id):
    """Whether the orchestration's webhook took the end of the run; None where it has none."""
    hook = definition.get("webhook")
    if not hook:
        return None
    body = {name: report[name] for name in ("status", "success", "error", "ticket")}
    body.update(orchestration=told["name"], execution_id=run_id)
    output = report["result"]["output"]
    if len(json.dumps(output)) <= MAX_WEBHOOK_OUTPUT_BYTES:
        body["output"] = output
    try:
        url = hook.get("url") or env.store.secret(hook["url_from"])
        where = connection(
            {"url": url, "headers_from": hook.get("headers_from")}, "webhook", "token",
            WEBHOOK_SECONDS, WEBHOOK_SECONDS / 2, "url",
        )
        answer = env.client.request(
            where, "POST", "", WEBHOOK_SECONDS, body=env.redactor.remove_secrets(body)
        )
    except CallError as error:
        return "not taken: %s" % error.failure.cause
    except (InvalidInput, DatastoreUnavailable) as error:
        return "not taken: %s" % env.redactor.redact_text(str(error))
    except Exception as error:
        # A webhook that is wrong must not fail a run that is right.
        run_log.write_traceback(env.redactor.redact_text)
        return "not taken: %s" % env.redactor.redact_text(str(error) or type(error).__name__)
    return "taken" if 200 <= answer.status < 300 else "not taken: it answered %d" % answer.status


def log_failure(env, case, parameters):
    """The result of log_orchestration_failure, for a run that a task ended.

    :param case: what the last task left, as failure_record.failed_run takes it.
    """
    whole = case is not None and "progress" in case
    error, reason = failure_record.failure_reason(case, case["progress"] if whole else {})
    error = dict(error, reason=reason)
    report = dict(empty_report(), error=error)
    parent = case["parent"] if whole else _parent_of(env, parameters)
    plan = None
    kept = RunStore(env, case["run"] if whole else env.run)
    try:
        given = None
        if whole:
            told, newest = kept.definition() or {}, kept.newest()
            state = newest or {"log": [], "pages": []}
            given = told.get("input")
            report["checkpoints"] = kept.waves(told, newest)
            report["stepLogs"] = step_logs(env, kept, kept.log(state))
            end = kept.ended() or {}
            if end.get("resume"):
                # The run had ended already: this is about its resume, which is not tried again.
                report["resumed_by"] = kept.resumed_by()
                error = dict(end["error"])
                if report["resumed_by"] is None:
                    reason = error["message"] + "; it could not be resumed"
                    error["message"] = reason
                report["error"] = error
                case["gave_up"] = {"error": error, "reason": error["message"]}
                kept.end(dict(end, error=error, resume=None))
            else:
                if newest and not parent and not case["dry_run"]:
                    plan = _planned_resume(env, told)
                kept.end({"status": scheduler.FAILED, "output": None, "error": error,
                          "log": state["log"], "pages": state["pages"], "context": {},
                          "at": env.now(), "resume": plan})
        if parent:
            _report_to_parent(kept, parent, given, scheduler.FAILED, None, error)
    except (DatastoreUnavailable, InvalidInput) as away:
        report["not_kept"], plan = str(away), None
    if plan is not None:
        return _resumes(env, case, report, plan)
    if report.get("resumed_by") is None and not parent:
        subject = case["subject"] if whole else requested_subject(parameters)
        run = failure_record.failed_run(WORKFLOW, subject, case)
        told = failure_record.record_failed_run(env, run)
        report.update((name, told[name]) for name in ("ticket", "trigger"))
    return dict({"summary": "%s failed: %s" % (WORKFLOW, reason)}, **report)


def subject_of_name(name: Any) -> str:
    """The name of an orchestration, which may have spaces, as the subject of a ticket."""
    subject = re.sub(r"[^A-Za-z0-9._:/+-]+", "-", str(name or ""))
    return subject[:MAX_SUBJECT_CHARS].strip("-._:/+") or "orchestration"


def requested_subject(parameters: dict[str, Any]) -> str:
    """The subject of a run that has no case, from its unchecked parameters."""
    return subject_of_name(parameters.get("orchestration") or parameters.get("orchestration_id"))


def _parent_of(env, parameters):
    """Who has started the run whose first task left no case; None when it was nobody."""
    try:
        handed = sealing.unseal(parameters.get("case") or "", env.store)
        parent = handed["request"]["rules"]["parent"]
    except (InvalidInput, KeyError, TypeError):
        return None
    return parent if isinstance(parent, dict) and isinstance(parent.get("key"), str) else None
