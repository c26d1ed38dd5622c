"""The runs of orchestrations, as people and agents look at them, and what may be done with one."""

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
from synthralos.orchestration.run_completion import WORKFLOW
from synthralos.orchestration.run_context import STATE, Context
from synthralos.orchestration.run_store import RunStore
from synthralos.storage import inquiries
from synthralos.storage.datastore import PAGE_SIZE
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError

REF = "synthralos." + WORKFLOW
MAX_RUNS_LISTED = 100
PENDING, RUNNING, WAITING, CANCELLED = "pending", "running", "waiting", "cancelled"
# What the key `state` of the context counts for before a step has set it.
CREATED = "CREATED"
_STATUS = {
    "requested": PENDING, "scheduled": PENDING, "delayed": PENDING, "pausing": WAITING,
    "paused": WAITING, "succeeded": scheduler.COMPLETED, "canceled": CANCELLED,
    "canceling": CANCELLED, "failed": scheduler.FAILED, "timeout": scheduler.FAILED,
    "abandoned": scheduler.FAILED,
}
_ATTRIBUTES = "status,start_timestamp,end_timestamp,action.ref,result"


def status(env, run_id, step=None):
    """What is known of a run: {execution_id, orchestration, status, state, started_at,
    completed_at, resume_of, resumed_by, auto_resume, error, waiting, checkpoints, result {output},
    stepLogs}; see _state_of and resuming.View.

    :param step: the name of a step; then only its logs are told.
    """
    execution = _execution(env, run_id)
    kept = RunStore(env, run_id)
    told, ended = kept.definition() or {}, kept.ended()
    found = {
        "execution_id": run_id,
        "orchestration": told.get("name"),
        "status": _public_status(execution, ended),
        "state": None,
        "started_at": execution.get("start_timestamp"),
        "completed_at": execution.get("end_timestamp"),
        "resume_of": told.get("resume_of"),
        "resumed_by": kept.resumed_by(),
        "auto_resume": None,
        "error": ended["error"] if ended else _error_of(execution),
        "waiting": None,
    }
    pending = execution["status"] not in ENDED and found["resumed_by"] is None
    found["auto_resume"] = resuming.view(told, ended, pending)
    state = kept.newest()
    found["state"] = _state_of(kept, told, ended or state, found["status"])
    log = kept.log(ended) if ended else _partial_log(kept, state)
    if found["status"] == WAITING:
        found["waiting"] = _open_inquiry(env, run_id)
    found["checkpoints"] = kept.waves(told, state)
    if step is not None:
        log = [entry for entry in log if entry["step_name"] == step]
        if not log:
            raise InvalidInput(
                "step_name", step, "has no log yet", "Leave it out to see every step"
            )
    output = ended["output"] if ended else None
    found["result"] = run_completion.fit_output(env, run_id, output)
    found["stepLogs"] = run_completion.step_logs(env, kept, log)
    return found


def list_runs(env, orchestration=None, wanted=None, limit=20):
    """The newest runs, newest first: [{execution_id, orchestration, status, started_at,
    resume_of, resumed_by, resumes, parent}].

    :param orchestration: a name or an id; wanted: a status.
    """
    statuses = set(_STATUS.values()) | {RUNNING, scheduler.REFUSED}
    if wanted is not None and wanted not in statuses:
        way_out = "Use one of " + ", ".join(sorted(statuses))
        raise InvalidInput("status", wanted, "is no status", way_out)
    rows = run_store.runs(env, MAX_RUNS_LISTED)
    # Of several that resume the same run the newest, which comes first.
    resumed_by = {
        row["resume_of"]: row["run"] for row in reversed(rows) if not row["parent_run"]
    }
    rows = [row for row in rows if orchestration in (None, row["name"], row["id"])]
    known, found = _newest_executions(env), []
    for row in rows:
        if len(found) >= limit:
            break
        if row["run"] in known:
            execution = known[row["run"]]
        else:
            try:
                execution = env.api.execution(row["run"], "status")
            except StackStormError:
                # StackStorm has forgotten it sooner than the datastore.
                continue
        ended = None
        if execution["status"] == "succeeded":
            # Completed, or refused by a person.
            ended = RunStore(env, row["run"]).ended()
        now = _public_status(execution, ended)
        if wanted in (None, now):
            found.append(
                {
                    "execution_id": row["run"],
                    "orchestration": row["name"],
                    "status": now,
                    "started_at": to_iso(row["at"]),
                    "resume_of": row["resume_of"],
                    "resumed_by": resumed_by.get(row["run"]),
                    "resumes": row.get("resumes") or 0,
                    "parent": row["parent_run"],
                }
            )
    return found


def cancel(env, run_id):
    """Asks for the end of a run; what runs of it is left to end. InvalidInput when it is over."""
    execution = _execution(env, run_id)
    if execution["status"] in ENDED or not env.api.cancel(run_id):
        raise InvalidInput("execution_id", run_id, "is over", "See it with orchestration.status")


def resume(env, run_id, timeout=None):
    """The execution id of a new run that goes on where the run ended. InvalidInput when it still runs,
    or has completed.
    """
    _execution(env, run_id)
    check_resumable(env, run_id, "execution_id")
    parameters = {"resume_of": run_id}
    if timeout is not None:
        parameters["timeout"] = timeout
    return env.api.start(REF, parameters)


def resume_automatically(env, run_id):
    """As `resume`, within what the run's own definition allows; see resuming."""
    return resuming.start(env, run_id, _execution(env, run_id)["status"])


def check_resumable(env, run_id, name="resume_of"):
    """What the run of that id began with. InvalidInput, by the parameter's name, when it cannot be
    resumed.
    """
    kept = RunStore(env, run_id)
    told = kept.definition()
    if told is None:
        raise InvalidInput(
            name, run_id, "is no run of an orchestration, or was more than two weeks ago",
            "List them with `st2 run synthralos.orchestration.list_runs`",
        )
    ended = kept.ended()
    if ended is None and _is_running(env, kept):
        raise InvalidInput(
            name, run_id, "still runs",
            "Wait for it, or end it with `st2 run synthralos.orchestration.cancel`",
        )
    if ended is not None and ended["status"] == scheduler.COMPLETED and not told.get("parent_run"):
        raise InvalidInput(name, run_id, "has completed", "Start the orchestration anew")
    return told


def _is_running(env, kept):
    """Whether the run is still on its way. One past its deadline is not, whatever its status: what
    ran it has died.
    """
    state = kept.newest() or {}
    try:
        status = env.api.execution(kept.run, "status").get("status") if env.api else None
    except ExecutionNotFound:
        return False
    if status in ENDED or status is None:
        return False
    return status in ("pausing", "paused") or env.now() < state.get("deadline", env.now() + 1)


def _execution(env, run_id):
    """The execution of a run. InvalidInput when it is none of an orchestration."""
    if env.api is None:
        raise InvalidInput("execution_id", run_id, "there is no StackStorm API", "Run it there")
    execution = env.api.execution(run_id, _ATTRIBUTES)
    if (execution.get("action") or {}).get("ref") != REF:
        raise InvalidInput(
            "execution_id", run_id, "is no run of an orchestration",
            "List them with `st2 run synthralos.orchestration.list_runs`",
        )
    return execution


def _newest_executions(env):
    rows = env.api.executions("id,status", action=REF) if env.api else []
    return {row["id"]: row for row in rows[:PAGE_SIZE]}


def _public_status(execution, ended):
    found = _STATUS.get(execution["status"], RUNNING)
    if found == scheduler.COMPLETED and ended:
        # A refused run has succeeded for StackStorm: nothing of it went wrong.
        return ended["status"]
    return found


def _state_of(kept, told, newest, now):
    """In which state its steps say that the run is: what they last set `state` to, CREATED before
    they have. Where the run ended otherwise it is FAILED, REFUSED or CANCELLED. None for an
    orchestration none of whose steps sets `state`, and where it is no name.

    :param newest: the end of the run, or the state before its newest wave, or None.
    """
    steps = (told.get("definition") or {}).get("steps") or []
    if not any(STATE in (step["output"] or {}) for step in orchestration_schema.every_step(steps)):
        return None
    if now in (scheduler.FAILED, scheduler.REFUSED, CANCELLED):
        return now.upper()
    slot = newest["context"].get(STATE) if newest else None
    if slot is None:
        return CREATED
    value = Context(kept, {}, None).value(slot)
    return value if is_title(value) else None


def _error_of(execution):
    """The error of a run that has left nothing in the datastore: it was refused."""
    result = execution.get("result")
    output = result.get("output") if isinstance(result, dict) else None
    return output.get("error") if isinstance(output, dict) else None


def _partial_log(kept, state):
    """The log of a run that has not ended, with what its last wave has left."""
    if state is None:
        return []
    log, wave = kept.log(state), state["wave"]
    if wave["kind"] == scheduler.APPROVAL:
        return log
    records = kept.records(state["cursor"])
    for n, name in enumerate(wave["jobs"]):
        key = kept.step_key(state["cursor"], n)
        if key in records:
            log.append(
                dict(
                    {"step_id": scheduler.id_of(state, name), "step_name": name},
                    **records[key]["log"],
                    at=key,
                )
            )
    return log


def _open_inquiry(env, run_id):
    noted = inquiries.get_inquiry(env.store, run_id)
    if not noted:
        return None
    return {
        "question": noted["question"],
        "until": to_iso(noted["until"]),
        "answer": "st2 run synthralos.approval.answer execution_id=%s approved=true" % run_id,
    }
