"""Queries and commands for the runs of orchestrations: status, list, cancel, resume."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict, Union

from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.orchestration import (
    orchestration_schema,
    resuming,
    run_completion,
    run_store,
    scheduler,
)
from synthralos.orchestration.field_reader import is_title
from synthralos.orchestration.run_completion import WORKFLOW, FittedOutput
from synthralos.orchestration.run_context import STATE, Context
from synthralos.orchestration.run_store import EndRecord, RunRecord, RunStore
from synthralos.orchestration.scheduler import LogEntry, State
from synthralos.runtime import child_runs
from synthralos.storage import inquiries
from synthralos.storage.datastore import PAGE_SIZE
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

REF = "synthralos." + WORKFLOW
MAX_RUNS_LISTED = 100
PENDING, RUNNING, WAITING, CANCELLED = "pending", "running", "waiting", "cancelled"
# The state of a run before a step has set the context key `state`.
CREATED = "CREATED"
_STATUS = {
    "requested": PENDING, "scheduled": PENDING, "delayed": PENDING, "pausing": WAITING,
    "paused": WAITING, "succeeded": scheduler.COMPLETED, "canceled": CANCELLED,
    "canceling": CANCELLED, "failed": scheduler.FAILED, "timeout": scheduler.FAILED,
    "abandoned": scheduler.FAILED,
}
_ATTRIBUTES = "status,start_timestamp,end_timestamp,action.ref,result"


class OpenInquiry(TypedDict):
    """What a run asks a person. `until`: in ISO 8601; `answer`: the command that answers it."""

    question: str
    until: Optional[str]
    answer: str


class RunStatus(TypedDict):
    """The status of a run.

    `orchestration`: its name; `state`: see _state_of; `started_at`, `completed_at`: as StackStorm
    has them; `error`: at least its cause and message; `checkpoints`, `stepLogs`: see
    run_completion.Report. What is unknown, or is not the case, is None.
    """

    execution_id: str
    orchestration: Optional[str]
    status: str
    state: Optional[str]
    started_at: Optional[str]
    completed_at: Optional[str]
    resume_of: Optional[str]
    resumed_by: Optional[str]
    auto_resume: Optional[resuming.View]
    error: Optional[Mapping[str, Any]]
    waiting: Optional[OpenInquiry]
    checkpoints: list[str]
    result: FittedOutput
    stepLogs: list[dict[str, Any]]


class ListedRun(TypedDict):
    """A run in the list of runs. `started_at`: in ISO 8601; `parent`: the run that started it."""

    execution_id: str
    orchestration: str
    status: str
    started_at: str
    resume_of: Optional[str]
    resumed_by: Optional[str]
    resumes: int
    parent: Optional[str]


def status(env: "Environment", run_id: str, step: Optional[str] = None) -> RunStatus:
    """Return the status of a run.

    :param step: the name of a step, to return only its logs.
    :raises InvalidInput: it is not a run of an orchestration, or the step has no log yet.
    """
    execution = _execution(env, run_id)
    store = RunStore(env, run_id)
    run_record: RunRecord = store.definition() or {}
    ended, resumed_by = store.ended(), store.resumed_by()
    public_status = _public_status(execution, ended)
    pending = execution["status"] not in ENDED and resumed_by is None
    state = store.newest()
    state_name = _state_of(store, run_record, ended or state, public_status)
    log = store.log(ended) if ended else _partial_log(store, state)
    waiting = _open_inquiry(env, run_id) if public_status == WAITING else None
    if step is not None:
        log = [entry for entry in log if entry["step_name"] == step]
        if not log:
            raise InvalidInput(
                "step_name", step, "has no log yet", "Leave it out to see every step"
            )
    return {
        "execution_id": run_id,
        "orchestration": run_record.get("name"),
        "status": public_status,
        "state": state_name,
        "started_at": execution.get("start_timestamp"),
        "completed_at": execution.get("end_timestamp"),
        "resume_of": run_record.get("resume_of"),
        "resumed_by": resumed_by,
        "auto_resume": resuming.view(run_record, ended, pending),
        "error": ended["error"] if ended else _error_of(execution),
        "waiting": waiting,
        "checkpoints": store.waves(run_record, state),
        "result": run_completion.fit_output(env, run_id, ended["output"] if ended else None),
        "stepLogs": run_completion.step_logs(env, store, log),
    }


def list_runs(
    env: "Environment",
    orchestration: Optional[str] = None,
    requested_status: Optional[str] = None,
    limit: int = 20,
) -> list[ListedRun]:
    """Return the newest runs, newest first.

    :param orchestration: a name or an id; requested_status: a status; None is all of them.
    :param limit: the maximum number of runs.
    """
    statuses = set(_STATUS.values()) | {RUNNING, scheduler.REFUSED}
    if requested_status is not None and requested_status not in statuses:
        hint = "Use one of " + ", ".join(sorted(statuses))
        raise InvalidInput("status", requested_status, "is not a status", hint)
    rows = run_store.recent_runs(env, MAX_RUNS_LISTED)
    # If several runs resume the same one, the newest counts; rows are newest first.
    resumed_by = {
        row["resume_of"]: row["run"] for row in reversed(rows) if not row["parent_run"]
    }
    rows = [row for row in rows if orchestration in (None, row["name"], row["id"])]
    executions = _newest_executions(env)
    runs: list[ListedRun] = []
    for row in rows:
        if len(runs) >= limit:
            break
        if row["run"] in executions:
            execution = executions[row["run"]]
        else:
            try:
                execution = env.api.execution(row["run"], "status")
            except StackStormError:
                # StackStorm has purged it before the datastore did.
                continue
        ended = None
        if execution["status"] == "succeeded":
            # It completed, or a person refused it.
            ended = RunStore(env, row["run"]).ended()
        now = _public_status(execution, ended)
        if requested_status in (None, now):
            runs.append(
                {
                    "execution_id": row["run"],
                    "orchestration": row["name"],
                    "status": now,
                    "started_at": to_iso(row["at"]),
                    "resume_of": row["resume_of"],
                    "resumed_by": resumed_by.get(row["run"]),
                    "resumes": row["resumes"],
                    "parent": row["parent_run"],
                }
            )
    return runs


def cancel(env: "Environment", run_id: str) -> None:
    """Request the end of a run; its running steps may finish.

    :raises InvalidInput: it has already ended.
    """
    execution = _execution(env, run_id)
    if execution["status"] in ENDED or not env.api.cancel(run_id):
        raise InvalidInput(
            "execution_id", run_id, "has already ended", "See it with orchestration.status"
        )


def resume(env: "Environment", run_id: str, timeout: Optional[float] = None) -> str:
    """Start a run that continues where a run ended; return its execution id.

    :param timeout: of the new run, in seconds; None is the default.
    :raises InvalidInput: the run is still running, or has completed.
    """
    _execution(env, run_id)
    check_resumable(env, run_id, "execution_id")
    parameters: dict[str, Any] = {"resume_of": run_id}
    if timeout is not None:
        parameters["timeout"] = timeout
    started: str = env.api.start(REF, parameters)
    return started


def resume_automatically(env: "Environment", run_id: str) -> str:
    """Like `resume`, within the limits of the run's own definition; see resuming."""
    return resuming.start(env, run_id, _execution(env, run_id)["status"])


def check_resumable(env: "Environment", run_id: str, name: str = "resume_of") -> RunRecord:
    """Return the run record of a run that can be resumed.

    :param name: the name of the parameter that holds its id, for error messages.
    :raises InvalidInput: it cannot be resumed.
    """
    store = RunStore(env, run_id)
    run_record = store.definition()
    if run_record is None:
        raise InvalidInput(
            name, run_id, "is not a run of an orchestration, or is more than two weeks old",
            "List them with `st2 run synthralos.orchestration.list_runs`",
        )
    ended = store.ended()
    if ended is None and _is_running(env, store):
        raise InvalidInput(
            name, run_id, "is still running",
            "Wait for it, or end it with `st2 run synthralos.orchestration.cancel`",
        )
    if (
        ended is not None and
        ended["status"] == scheduler.COMPLETED and
        not run_record.get("parent_run")
    ):
        raise InvalidInput(name, run_id, "has completed", "Start the orchestration again")
    return run_record


def _is_running(env: "Environment", store: RunStore) -> bool:
    """Return whether the run is still in progress.

    A run past its deadline is not, whatever its status: the process that ran it has died.
    """
    state = store.newest()
    try:
        status = env.api.execution(store.run, "status").get("status") if env.api else None
    except ExecutionNotFound:
        return False
    if status in ENDED or status is None:
        return False
    if status in ("pausing", "paused") or state is None or "deadline" not in state:
        return True
    return env.now() < state["deadline"]


def _execution(env: "Environment", run_id: str) -> dict[str, Any]:
    """Return the execution of a run.

    :raises InvalidInput: it is not a run of an orchestration.
    """
    if env.api is None:
        raise InvalidInput(
            "execution_id",
            run_id,
            "cannot be read without StackStorm's API",
            "Run it on StackStorm",
        )
    execution: dict[str, Any] = env.api.execution(run_id, _ATTRIBUTES)
    if (execution.get("action") or {}).get("ref") != REF:
        raise InvalidInput(
            "execution_id", run_id, "is not a run of an orchestration",
            "List them with `st2 run synthralos.orchestration.list_runs`",
        )
    return execution


def _newest_executions(env: "Environment") -> dict[str, dict[str, Any]]:
    rows = env.api.executions("id,status", action=REF) if env.api else []
    return {row["id"]: row for row in rows[:PAGE_SIZE]}


def _public_status(execution: Mapping[str, Any], ended: Optional[EndRecord]) -> str:
    public_status = _STATUS.get(execution["status"], RUNNING)
    if public_status == scheduler.COMPLETED and ended:
        # StackStorm has a refused run as succeeded: nothing in it failed.
        return ended["status"]
    return public_status


def _state_of(
    store: RunStore, run_record: RunRecord, newest: Union[EndRecord, State, None], now: str
) -> Optional[str]:
    """Return the state of the run that its steps last reported in the context key `state`.

    It is CREATED before they have, and FAILED, REFUSED or CANCELLED if the run ended that way. It
    is None if no step sets `state`, or its value is not a name.

    :param newest: the end of the run, or the state before its newest wave, or None.
    """
    definition = run_record.get("definition")
    steps = definition["steps"] if definition else []
    if not any(STATE in (step["output"] or {}) for step in orchestration_schema.every_step(steps)):
        return None
    if now in (scheduler.FAILED, scheduler.REFUSED, CANCELLED):
        return now.upper()
    slot = newest["context"].get(STATE) if newest else None
    if slot is None:
        return CREATED
    value: str = Context(store, {}, None).value(slot)
    return value if is_title(value) else None


def _error_of(execution: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    """Return the error of a run without a record in the datastore: it could not begin."""
    result = execution.get("result")
    output = result.get("output") if isinstance(result, dict) else None
    error: Optional[Mapping[str, Any]] = output.get("error") if isinstance(output, dict) else None
    return error


def _partial_log(store: RunStore, state: Optional[State]) -> list[LogEntry]:
    """Return the log of a run that has not ended, with the records of its last wave so far."""
    if state is None:
        return []
    log, wave = store.log(state), state["wave"]
    if wave is None or wave["kind"] == scheduler.APPROVAL:
        return log
    records = store.records(state["cursor"])
    for index, name in enumerate(wave["jobs"]):
        key = store.step_key(state["cursor"], index)
        if key in records:
            log.append({
                "step_id": scheduler.id_of(state, name),
                "step_name": name,
                **records[key]["log"],
                "at": key,
            })
    return log


def _open_inquiry(env: "Environment", run_id: str) -> Optional[OpenInquiry]:
    inquiry = inquiries.get_inquiry(env.store, run_id)
    if not inquiry:
        return None
    until = inquiry["until"]
    return {
        "question": inquiry["question"],
        "until": None if until is None else to_iso(until),
        "answer": "st2 run synthralos.approval.answer execution_id=%s approved=true" % (
            child_runs.last_question_id(env, run_id)
        ),
    }
