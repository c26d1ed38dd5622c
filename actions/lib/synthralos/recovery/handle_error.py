"""The workflow handle_error: record, assess, choose a strategy, carry it out, validate.

Strategies that need no other workflow are carried out in the action that gets to them. A recovery,
an inquiry and the wait of a validation are tasks of the workflow: the action says so in `do`, and
`error.proceed` continues from their results.
"""
import json
from collections.abc import Mapping
from typing import Any, Optional, TypedDict

from synthralos.calls import agent_targets, snapshot_restore
from synthralos.calls.agent_platforms import connect
from synthralos.calls.http import CallError
from synthralos.core import causes, sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part, require_identifier
from synthralos.recovery import agent_recovery, checkpoints, error_case, playbooks, strategies
from synthralos.recovery.error_case import WORKFLOW, ReportedError
from synthralos.recovery.repair_actions import RESTORE_SNAPSHOT, RESUME_CHECKPOINT
from synthralos.runtime import child_runs, failure_record, run_parameters, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case
from synthralos.storage import history, inquiries, pauses, state_codec
from synthralos.storage.datastore import PREFIX
from synthralos.storage.snapshots import Snapshot
from synthralos.telemetry import tracing

DEFAULT_RUN_SECONDS = 600
HEALTH_SECONDS = 5.0
MAX_STABILITY_SECONDS = 300
CHILD_LEAST_SECONDS = 15
# What runs a child of the workflow, by what `do` says.
CHILDREN = {
    "agent": "synthralos.agent_recovery",
    "llm": "synthralos.llm_retry",
    "ask": child_runs.ASK,
}
NOT_PUT_BACK = "verified, but no platform has a restore_path: put back what the result has"


class RaisedError(TypedDict):
    """An error as a caller reports it. `type`: one of causes.TYPES or ALIASES; `severity`: one of
    causes.SEVERITIES, or None if nobody rated it.
    """

    type: str
    message: str
    details: dict[str, Any]
    severity: Optional[str]


class HandledError(TypedDict):
    """What the workflow was started for.

    `original_query`, `original_request`: what failed, one of them at most; `strategy`: auto or the
    name of one; `stability_window`: seconds after a recovery in which no error may come.
    """

    agent_id: str
    task_id: str
    error: RaisedError
    context: dict[str, Any]
    state: dict[str, Any]
    original_query: Optional[str]
    original_request: dict[str, Any]
    strategy: str
    max_retries: int
    stability_window: int


class RestoredCheckpoint(TypedDict):
    """The checkpoint of a platform that was restored. `handle`: of the run that left it."""

    handle: dict[str, Any]
    id: Optional[str]


class Check(TypedDict):
    """A check of a recovery, and what it has shown."""

    check: str
    passed: bool
    details: str


def assess(
    env: Environment, parameters: dict[str, Any], started: float, parent_pack: Optional[str] = None
) -> dict[str, Any]:
    """The result of error.assess: the error on record, a strategy chosen and begun.

    :param parent_pack: of the workflow that started this run, or None.
    """
    if parent_pack == "synthralos":
        raise InvalidInput(
            "agent_id",
            parameters.get("agent_id"),
            "is being recovered by the run that started this one",
            "Handle the error when that run has ended",
        )
    request = _request(parameters, env.settings.retry.max_retries)
    failure = agent_recovery.failure_of(
        {
            "failure_type": request["error"]["type"],
            "failure_details": _details(request),
        }
    )
    reported = _reported(request)
    assessed = error_case.assess(env, reported, failure)
    error_case.record_error(env, reported, failure)
    assessment = assessed.assessment
    choice = strategies.choose_strategy(assessment, request["strategy"])
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        request,
        {},
        failure=dict(failure.as_dict(), severity=assessment.severity),
        choice=choice.as_dict(),
        todo=list(choice.strategies),
        steps=[],
        looping=assessed.loop,
        success_rate=assessment.success_rate,
        snapshot=None,
        ticket=None,
        child=None,
        recovered_at=None,
    )
    extra = {"assessment": assessed.as_dict(), "plan": choice.as_dict(), "loop": assessed.loop}
    return dict(_run_next_strategy(env, case), **extra)


def proceed(env: Environment, case: Case) -> dict[str, Any]:
    """The result of error.proceed: what came of the last task, and what is next."""
    if case["recovered_at"] is not None:
        return _validate(env, case)
    name = case["todo"].pop(0)
    child = child_runs.latest_child(env, case["run"], CHILDREN.values())
    if name == "manual":
        approved = child_runs.answer_of(child, "resolved") is True
        summary = "a person said it is resolved" if approved else "a person did not resolve it"
        _step(case, name, approved, summary, inquiry=child.get("id"))
        return _after_success(env, case) if approved else _run_next_strategy(env, case)
    # The time that people took to answer the agent does not count for this run either.
    case["deadline"] += inquiries.total_wait(env.store, child["id"]) if child else 0
    output = (child.get("result") or {}).get("output") or {}
    succeeded = child.get("status") == "succeeded" and output.get("success") is True
    case["ticket"] = output.get("ticket") or case["ticket"]
    _save_outcome(case, **{name: output.get(name) for name in ("recovery_result", "result")})
    error = output.get("error") or {}
    summary = "recovered" if succeeded else error.get("reason", "it did not recover")
    _step(
        case,
        name,
        succeeded,
        summary,
        execution_id=child.get("id"),
        attempts=output.get("attempts"),
    )
    return _after_success(env, case) if succeeded else _run_next_strategy(env, case)


def subject(case: Optional[Case], parameters: dict[str, Any]) -> str:
    """The agent of a failed run: of its case, or of its unchecked parameters without one."""
    if case is not None:
        agent_id: str = case["request"]["agent_id"]
        return agent_id
    return failure_record.name_or_unknown(parameters.get("agent_id"))


def _request(parameters: Mapping[str, Any], max_retries: int) -> HandledError:
    error = run_parameters.require_object("error", parameters.get("error"))
    kind = error.get("type", "unknown")
    if causes.resolve_type(kind) is None:
        allowed = list(causes.TYPES) + list(causes.ALIASES)
        raise InvalidInput(
            "error.type", kind, "is not an error type", "Use one of " + ", ".join(allowed)
        )
    severity = error.get("severity")
    if severity is not None and severity not in causes.SEVERITIES:
        hint = "Use one of " + ", ".join(causes.SEVERITIES)
        raise InvalidInput("error.severity", severity, "is not a severity", hint)
    request: HandledError = {
        "agent_id": require_identifier("agent_id", parameters.get("agent_id")),
        "task_id": require_identifier("task_id", parameters.get("task_id") or "default"),
        "error": {
            "type": kind,
            "message": str(error.get("message") or ""),
            "details": run_parameters.require_object("error.details", error.get("details")),
            "severity": severity,
        },
        "context": run_parameters.require_object("context", parameters.get("context")),
        "state": run_parameters.require_object("state", parameters.get("state")),
        "original_query": parameters.get("original_query"),
        "original_request": run_parameters.require_object(
            "original_request", parameters.get("original_request")
        ),
        "strategy": parameters.get("strategy") or "auto",
        "max_retries": workflow_run.max_retries_param(parameters, max_retries),
        "stability_window": workflow_run.whole_number(
            dict({"stability_window": 0}, **parameters),
            "stability_window",
            0,
            MAX_STABILITY_SECONDS,
        ),
    }
    if request["original_query"] is not None and request["original_request"]:
        raise InvalidInput(
            "original_request",
            request["original_request"],
            "is given beside original_query",
            "Give the one that failed",
        )
    state_codec.canonical_json("state", request["state"])
    return request


def _details(request: HandledError) -> dict[str, Any]:
    return dict(request["error"]["details"], message=request["error"]["message"])


def _reported(request: HandledError) -> ReportedError:
    error, context = request["error"], request["context"]
    attempts, count = context.get("recovery_attempts"), context.get("retry_count")
    return ReportedError(
        agent_id=request["agent_id"],
        task_id=request["task_id"],
        type=error["type"],
        message=error["message"],
        details=error["details"],
        severity=error["severity"],
        recovery_attempts=len(attempts) if isinstance(attempts, list) else 0,
        retry_count=count if isinstance(count, int) and not isinstance(count, bool) else 0,
        state=request["state"],
    )


def _run_next_strategy(env: Environment, case: Case) -> dict[str, Any]:
    """Carries out what is to do, up to the first strategy that succeeds or needs a task."""
    while case["todo"]:
        name = case["todo"][0]
        if name == "auto_retry":
            handed_off = _hand_off(env, case)
            if handed_off is not None:
                return handed_off
            _step(case, name, False, "there is no original_query and no original_request")
        elif name == "manual":
            return _goto(env, case, "ask", "a person is asked")
        elif name == "rollback":
            if _roll_back(env, case):
                case["todo"].pop(0)
                if not _pending_work(case):
                    return _after_success(env, case)
                # The failed work must still run: a restored state does not answer a query.
                case["todo"] = ["auto_retry"] + [
                    strategy for strategy in case["todo"] if strategy != "auto_retry"
                ]
                continue
        elif name == "circuit_breaker":
            _pause_agent(env, case)
        else:
            case["todo"].clear()
            return _escalated_end(env, case)
        case["todo"].pop(0)
    return _escalated_end(env, case)


def _pending_work(case: Mapping[str, Any]) -> bool:
    """Whether something is to be run again."""
    return bool(case["request"]["original_query"] or case["request"]["original_request"])


def _hand_off(env: Environment, case: Case) -> Optional[dict[str, Any]]:
    """The result that hands the recovery to agent_recovery or llm_retry; None without a request."""
    request, retry = case["request"], env.settings.retry
    cause = case["failure"]["cause"]
    rules = {
        "strategy": strategies.backoff_of(cause),
        "base_delay": retry.base_delay,
        "max_delay": retry.max_delay,
        "multiplier": retry.backoff_multiplier,
        "base_delay_given": True,
        "success_rate": case["success_rate"],
    }
    if request["original_request"]:
        child_request: dict[str, Any] = {
            "original_request": request["original_request"],
            "failure_reason": request["error"]["message"] or cause.replace("_", " "),
        }
        task = "llm"
    elif request["original_query"]:
        context = dict(request["context"])
        checkpoint = case.get("restored_checkpoint")
        if checkpoint is not None:
            context = _from_checkpoint(context, checkpoint)
        if "repairPlan" not in context and "repair_plan" not in context:
            names: tuple[str, ...] = strategies.ADJUSTMENTS
            if cause in playbooks.RESUMABLE_CAUSES and _leaves_checkpoints(env, request):
                names = (RESUME_CHECKPOINT, *names)
            context["repairPlan"] = {"steps": [{"action": name} for name in names]}
        child_request = {
            "original_query": request["original_query"],
            "failure_details": _details(request),
            "context": context,
        }
        task = "agent"
    else:
        return None
    content = env.redactor.remove_secrets({"request": dict(child_request, rules=rules)})
    # The run that recovers is part of this one's trace.
    content["trace"] = tracing.propagation_headers()
    key = "%scase.%s.handed" % (PREFIX, encode_key_part(env.run or "none"))
    seconds_left = int(env.deadline(case).seconds_left()) - request["stability_window"]
    following = {
        "child_case": sealing.seal(content, env.store, key),
        "agent_id": request["agent_id"],
        "failure_type": case["failure"]["type"],
        "max_retries": request["max_retries"],
        "timeout": max(CHILD_LEAST_SECONDS, seconds_left),
    }
    return _goto(env, case, task, "%s recovers" % CHILDREN[task], **following)


def _leaves_checkpoints(env: Environment, request: HandledError) -> bool:
    """Whether a run of the agent that failed can be continued at one of its platforms."""
    endpoints = env.settings.agent_endpoints(request["agent_id"])
    return checkpoints.can_resume(agent_targets.targets_of(endpoints, False))


def _restored_checkpoint(snapshot: Snapshot) -> Optional[RestoredCheckpoint]:
    """The platform's checkpoint that was restored, or None if it was a state."""
    checkpoint = snapshot_restore.checkpoint_of(snapshot["state"])
    if checkpoint is None:
        return None
    return {"handle": checkpoint.handle.as_dict(), "id": checkpoint.id}


def _from_checkpoint(context: Mapping[str, Any], checkpoint: RestoredCheckpoint) -> dict[str, Any]:
    """`context` for a run that goes on from a checkpoint that was restored."""
    steps: list[dict[str, Any]] = [
        {"action": RESUME_CHECKPOINT},
        {"action": RESTORE_SNAPSHOT, "parameters": {"snapshot_id": checkpoint["id"]}},
    ]
    plan = {"steps": steps + [{"action": name} for name in strategies.ADJUSTMENTS]}
    return dict(context, handle=checkpoint["handle"], repairPlan=plan)


def _roll_back(env: Environment, case: Case) -> bool:
    """Whether the newest good snapshot is the agent's state again; `child` has it either way."""
    request = case["request"]
    snapshot = error_case.newest_snapshot(env, request["agent_id"], request["task_id"])
    if snapshot is None:
        reason = "there is no good snapshot of this agent and task"
        if env.store.unavailable_reason:
            reason = "the snapshots could not be read: %s" % env.store.unavailable_reason
        _step(case, "rollback", False, env.redactor.redact_text(reason))
        return False
    snapshot_id = case["snapshot"] = snapshot["snapshot_id"]
    try:
        platform = snapshot_restore.restore_at_platform(
            env.client, env.settings.platforms, snapshot, env.run
        )
        summary = "restored by %s" % platform if platform else NOT_PUT_BACK
    except CallError as error:
        platform, summary = None, error.failure.message
    restored = platform is not None
    if restored:
        case["restored_checkpoint"] = _restored_checkpoint(snapshot)
    _step(case, "rollback", restored, summary, snapshot=snapshot_id, restored=restored)
    _save_outcome(case, restored=restored, state=snapshot["state"])
    return restored


def _save_outcome(case: Case, **fields: Any) -> None:
    """Adds to what the strategies gave: the result of the run, however it ends."""
    case["child"] = dict(case["child"] or {}, **fields)


def _pause_agent(env: Environment, case: Case) -> None:
    reason = case["looping"]["reason"] or "%s was reported" % case["failure"]["cause"]
    paused = error_case.pause_agent(env, case["request"]["agent_id"], reason)
    summary = "the agent is paused" if paused else "the agent could not be paused"
    # A paused agent is safe, but nothing is recovered yet.
    _step(case, "circuit_breaker", False, summary, paused=paused)


def _after_success(env: Environment, case: Case) -> dict[str, Any]:
    """What follows a strategy that succeeded: the validation, after the stability window."""
    case["recovered_at"] = env.now()
    window = case["request"]["stability_window"]
    if window and env.deadline(case).allows_attempt_at(env.now() + window):
        return _goto(env, case, "settle", "validated in %d s" % window, delay=window)
    return _validate(env, case)


def _validate(env: Environment, case: Case) -> dict[str, Any]:
    last = case["steps"][-1]
    checks: list[Check] = [
        {"check": "recovery_success", "passed": True, "details": last["summary"]}
    ]
    if last["strategy"] == "auto_retry" and case["request"]["original_query"]:
        checks.append(_platform_answers(env, case["request"]["agent_id"]))
    checks.append(_no_new_error(env, case))
    paused = pauses.pause_of(env.store, case["request"]["agent_id"], env.now())
    checks.append(
        {"check": "agent_not_paused", "passed": paused is None,
         "details": paused["reason"] if paused else "it is not paused"}
    )
    case["validation"] = {
        "is_valid": all(check["passed"] for check in checks),
        "checks_performed": checks,
    }
    if not case["validation"]["is_valid"]:
        case["recovered_at"] = None
        return _run_next_strategy(env, case)
    recovery_info = {"strategy": last["strategy"], "cause": case["failure"]["cause"]}
    request = case["request"]
    error_case.record(
        env, request["agent_id"], request["task_id"], error_case.RECOVERY, recovery_info
    )
    summary = "%s recovered by %s" % (case["request"]["agent_id"], recovery_info["strategy"])
    return _final_result(env, case, "done", summary, recovered=True, escalated=False)


def _platform_answers(env: Environment, agent_id: str) -> Check:
    endpoint = env.settings.agent_endpoints(agent_id)[0]
    try:
        result = connect(env.client, endpoint.platform).check(endpoint.agent, HEALTH_SECONDS)
        passed, details = result.is_up, "it " + result.details
    except CallError as error:
        passed, details = False, error.failure.message
    return {"check": "platform_answers", "passed": passed, "details": details}


def _no_new_error(env: Environment, case: Mapping[str, Any]) -> Check:
    since = case["recovered_at"]
    errors = [
        entry
        for entry in history.recent_entries(env.store, case["request"]["agent_id"], limit=20)
        if entry.get("event") == "error" and error_case.time_of_entry(entry) > since
    ]
    details = "%d new errors in %d s" % (len(errors), case["request"]["stability_window"])
    return {"check": "no_new_error", "passed": not errors, "details": details}


def _escalated_end(env: Environment, case: Case) -> dict[str, Any]:
    """The end of what no strategy cured: a person must know. Escalated is not recovered."""
    failure, request = case["failure"], case["request"]
    if case["ticket"] is None:
        opened = error_case.open_ticket(
            env,
            request["agent_id"],
            failure,
            [step["strategy"] for step in case["steps"]],
            attempts=sum(step.get("attempts") or 0 for step in case["steps"]),
        )
        case["ticket"] = opened["ticket"] if opened else None
        _step(case, "escalation", opened is not None, "ticket %s" % case["ticket"],
              notifications=opened["notifications"] if opened else [])
    summary = "%s is not recovered; ticket %s" % (request["agent_id"], case["ticket"])
    error = {name: failure.get(name) for name in ("type", "cause", "severity", "message")}
    error = dict(env.redactor.redact_value(error), reason=_failure_reason(case))
    return dict(
        _final_result(env, case, "failed", summary, recovered=False, escalated=True), error=error
    )


def _failure_reason(case: Mapping[str, Any]) -> str:
    """Why the run ends without a recovery, in words: what its strategies came to."""
    reasons = [
        "%s: %s" % (step["strategy"], step["summary"])
        for step in case["steps"]
        if step["strategy"] != "escalation"
    ]
    return "; ".join(reasons) or "%s is for a person to cure" % case["failure"]["cause"]


def _final_result(
    env: Environment, case: Case, next_task: str, summary: str, recovered: bool, escalated: bool
) -> dict[str, Any]:
    steps = case["steps"]
    end = "escalated" if escalated else "recovered" if recovered else "failed"
    outcome = "recovered" if recovered else "failed"
    workflow_run.record_end(env, case, outcome, case["failure"], end=end)
    return {
        "summary": summary,
        "next_task": next_task,
        "recovered": recovered,
        "escalated": escalated,
        "strategy": case["choice"]["strategy"],
        "strategies_tried": [step["strategy"] for step in steps],
        "steps": steps,
        "validation": case.get("validation"),
        "ticket": None if recovered else case["ticket"],
        "snapshot": case["snapshot"],
        "result": _fit_to_result_size(env, case["child"]),
        "duration": round(env.now() - case["started"], 3),
    }


def _fit_to_result_size(env: Environment, value: Any) -> Any:
    """What the last strategy gave, where it is small enough for a result."""
    size = len(json.dumps(value))
    return value if size <= env.settings.max_result_bytes else {"bytes": size}


def _goto(
    env: Environment, case: Case, next_task: str, summary: str, delay: int = 0, **more: Any
) -> dict[str, Any]:
    """The result that sends the workflow to the task for `next_task`."""
    case["progress"]["cursor"] += 1
    following = dict(workflow_run.next_step(env, case, delay), **more)
    return {"summary": summary, "next_task": next_task, "next": following, "steps": case["steps"]}


def _step(case: Case, strategy: str, ok: bool, summary: str, **more: Any) -> None:
    case["steps"].append(dict({"strategy": strategy, "ok": ok, "summary": summary}, **more))
