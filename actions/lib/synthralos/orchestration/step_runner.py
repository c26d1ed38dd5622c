"""The task of a wave: one LLM or action step, whose record it leaves in the datastore."""

import json
import time

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import action_step, llm_step, scheduler
from synthralos.orchestration.run_context import Context
from synthralos.orchestration.run_store import RunStore
from synthralos.orchestration.step_limits import StepOutcome
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError

MAX_INPUT_BYTES = 64 * 1024
MAX_LOGGED_BYTES = 16 * 1024


def run_step(env, case, number, sleep=time.sleep):
    """(ok, result) of orchestration.step: step `number` of the case's wave, from 0."""
    kept, cursor = RunStore(env, case["run"]), case["progress"]["cursor"]
    told, state = kept.definition(), kept.state(cursor)
    jobs = state["wave"]["jobs"] if told is not None and state is not None else []
    if not 0 <= number < len(jobs):
        raise InvalidInput("step", number, "is no step of this wave", "Pass on `next` as it was")
    step = scheduler.step_of(told["definition"], state, jobs[number])
    key = kept.step_key(cursor, number)
    left = kept.record(key)
    if left is not None:
        # A task that StackStorm runs again finds what it did the first time.
        return _shown(step, left)
    context = Context(kept, state["context"], told["input"])
    began = env.now()
    try:
        given, done = _execute(env, case, step, context, sleep)
        values = None
        if done.error is None and step.get("output") is not None:
            values = context.output_values(step, done.output)
    except (InvalidInput, StackStormError, DatastoreUnavailable) as error:
        given, values = None, None
        done = StepOutcome(0, error={"cause": "refused", "message": str(error)})
    record = {"log": _log(env, done, began), "input": _limit_input(given)}
    if done.error is None:
        record.update(output=done.output, context=values)
    try:
        kept.put_record(key, record)
    except InvalidInput as error:
        done.error = {"cause": "too_large", "message": str(error)}
        record = {"log": _log(env, done, began), "input": _limit_input(given)}
        kept.put_record(key, record)
    return _shown(step, record)


def _execute(env, case, step, context, sleep):
    """(input, Done) of the step."""
    if step["kind"] == "action":
        given = action_step.parameters_of(step, context)
        return given, action_step.run(env, case, step, given, sleep)
    given = context.step_input(step)
    return given, llm_step.run(env, case, step, given, sleep)


def _log(env, done, began):
    entry = {
        "status": scheduler.FAILED if done.error else scheduler.COMPLETED,
        "duration": round(env.now() - began, 3),
        "attempts": done.attempts,
    }
    entry.update((name, value) for name, value in done.log_fields.items() if value is not None)
    if done.error:
        entry["error"] = env.redactor.redact_text(done.error["message"])
        entry["cause"] = done.error["cause"]
    return entry


def _limit_input(given):
    size = len(json.dumps(given))
    return given if size <= MAX_INPUT_BYTES else {"bytes": size}


def _shown(step, record):
    entry = record["log"]
    result = {"summary": "%s %s" % (step["name"], entry["status"])}
    if entry.get("error"):
        result["summary"] += ": " + entry["error"]
    result.update(step=step["name"], **entry)
    output = record.get("output")
    if output is not None:
        size = len(json.dumps(output))
        result["output"] = output if size <= MAX_LOGGED_BYTES else {"bytes": size}
    return entry["status"] == scheduler.COMPLETED, result
