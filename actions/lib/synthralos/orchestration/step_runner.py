"""Runs one LLM or action step of a wave and stores its record in the datastore."""

import json
import time
from typing import Any, Callable

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import action_step, llm_step, scheduler
from synthralos.orchestration.run_context import Context
from synthralos.orchestration.run_store import RunStore, StepRecord
from synthralos.orchestration.scheduler import LogEntry
from synthralos.orchestration.step_limits import StepOutcome
from synthralos.orchestration.step_schema import Step
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError

MAX_INPUT_BYTES = 64 * 1024
MAX_LOGGED_BYTES = 16 * 1024


def run_step(
    env: Environment, case: Case, number: int, sleep: Callable[[float], None] = time.sleep
) -> tuple[bool, dict[str, Any]]:
    """(ok, result) of orchestration.step: step `number` of the case's wave, from 0."""
    run_store, cursor = RunStore(env, case["run"]), case["progress"]["cursor"]
    run_record, state = run_store.definition(), run_store.state(cursor)
    jobs = scheduler.wave_of(state)["jobs"] if run_record and state else []
    if run_record is None or state is None or not 0 <= number < len(jobs):
        raise InvalidInput("step", number, "is not a step of this wave", "Pass on `next` unchanged")
    step = scheduler.step_of(run_record["definition"], state, jobs[number])
    key = run_store.step_key(cursor, number)
    left = run_store.record(key)
    if left is not None:
        # StackStorm ran the task again: return the result of the first time.
        return _public_result(step, left)
    context = Context(run_store, state["context"], run_record["input"])
    started_at = env.now()
    try:
        request = "%s %s" % (run_record.get("origin"), scheduler.id_of(state, jobs[number]))
        step_input, outcome = _execute(env, case, step, context, request, sleep)
        values = None
        if outcome.error is None and step.get("output") is not None:
            values = context.output_values(step, outcome.output)
    except (InvalidInput, StackStormError, DatastoreUnavailable) as error:
        step_input, values = None, None
        outcome = StepOutcome(0, error={"cause": "refused", "message": str(error)})
    record: StepRecord = {
        "log": _log(env, outcome, started_at), "input": _limit_input(step_input)
    }
    if outcome.error is None:
        record.update({"output": outcome.output, "context": values})
    try:
        run_store.put_record(key, record)
    except InvalidInput as error:
        outcome.error = {"cause": "too_large", "message": str(error)}
        record = {"log": _log(env, outcome, started_at), "input": _limit_input(step_input)}
        run_store.put_record(key, record)
    return _public_result(step, record)


def _execute(
    env: Environment,
    case: Case,
    step: Step,
    context: Context,
    request: str,
    sleep: Callable[[float], None],
) -> tuple[Any, StepOutcome]:
    """Run the step; return (its input, its StepOutcome).

    :param request: identifies the step in the run and in all runs that continue it.
    """
    if step["kind"] == "action":
        step_input = action_step.parameters_of(step, context)
        return step_input, action_step.run(env, case, step, step_input, request, sleep)
    step_input = context.step_input(step)
    return step_input, llm_step.run(env, case, step, step_input, sleep)


def _log(env: Environment, outcome: StepOutcome, started_at: float) -> LogEntry:
    entry: LogEntry = {
        "status": scheduler.FAILED if outcome.error else scheduler.COMPLETED,
        "duration": round(env.now() - started_at, 3),
        "attempts": outcome.attempts,
        **outcome.log_fields,
    }
    if entry.get("execution_id", "") is None:
        # No action was started.
        del entry["execution_id"]
    if outcome.error:
        entry["error"] = env.redactor.redact_text(outcome.error["message"])
        entry["cause"] = outcome.error["cause"]
    return entry


def _limit_input(step_input: Any) -> Any:
    size = len(json.dumps(step_input))
    return step_input if size <= MAX_INPUT_BYTES else {"bytes": size}


def _public_result(step: Step, record: StepRecord) -> tuple[bool, dict[str, Any]]:
    entry = record["log"]
    result: dict[str, Any] = {"summary": "%s %s" % (step["name"], entry["status"])}
    if entry.get("error"):
        result["summary"] += ": " + entry["error"]
    result.update(step=step["name"], **entry)
    output = record.get("output")
    if output is not None:
        size = len(json.dumps(output))
        result["output"] = output if size <= MAX_LOGGED_BYTES else {"bytes": size}
    return entry["status"] == scheduler.COMPLETED, result
