"""The workflow orchestration.run: from its first task to the last wave.

    begin -> wave -> wave -> (steps | ask | child) -> next_wave -> wave ... -> end

`begin`, `next_wave` and `wave` (a wave of a single step) name the next wave in `next_task`, or end
the run themselves. Each of them stores the state of the run before the wave that it names, so that
an interrupted run can be resumed from there. Only numbers and a small case pass through the
workflow; everything else is in the datastore, see run_store.
"""

import math
from collections.abc import Mapping
from typing import Any, Callable, Optional

from synthralos.core import sanitize, sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part
from synthralos.orchestration import (
    action_step,
    conditions,
    definition_store,
    llm_step,
    orchestration_schema,
    run_completion,
    run_queries,
    scheduler,
    step_limits,
    step_runner,
    templates,
)
from synthralos.orchestration.conditions import Condition
from synthralos.orchestration.config import configuration
from synthralos.orchestration.orchestration_schema import Orchestration
from synthralos.orchestration.run_completion import WORKFLOW
from synthralos.orchestration.run_context import Context, make_slot, make_slots
from synthralos.orchestration.run_store import (
    FRESH_SECONDS,
    RUN,
    RunRecord,
    RunStore,
    StepRecord,
    attempts_of,
)
from synthralos.orchestration.scheduler import Checkpoint, LogEntry, Slot, State, StepResult
from synthralos.orchestration.step_schema import Step
from synthralos.runtime import workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case
from synthralos.storage import inquiries
from synthralos.storage.datastore import PREFIX
from synthralos.telemetry import run_log, tracing

DEFAULT_RUN_SECONDS = 1800
# Shorter than the lifetime of a run's records.
MAX_RUN_SECONDS = 24 * 3600
MAX_DEPTH = 5
QUESTION_CHARACTERS = 500
# Reserved of a run's time, to merge the end of a sub-orchestration.
CHILD_SECONDS = 5
APPROVED, REFUSED, UNANSWERED = "approved", "refused", "none"
# The task of a wave of one step, which merges the wave itself.
SINGLE_STEP_TASK = "wave"
CANCELLED = ("canceling", "canceled")


def begin(env: Environment, parameters: dict[str, Any], started: float) -> dict[str, Any]:
    """Return the result of orchestration.begin: the first wave, or the end of a run without one.

    :param parameters: the workflow's parameters, resolved.
    :param started: when the run began, in seconds since the epoch.
    :raises InvalidInput: the run cannot begin.
    """
    inherited = parameters.get("rules") or {}
    depth = inherited.get("depth", 1)
    if depth > MAX_DEPTH:
        raise InvalidInput(
            "orchestration", None, "is nested in %d others" % (depth - 1),
            "Orchestrations nest at most %d deep; one may not run itself" % MAX_DEPTH,
        )
    resumed = parameters.get("resume_of") or inherited.get("resume_of")
    run_record = (
        run_queries.check_resumable(env, resumed)
        if resumed
        else _start_record(env, parameters, inherited)
    )
    parent = inherited.get("parent")
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        {},
        {},
        max_seconds=MAX_RUN_SECONDS,
        subject=run_completion.subject_of_name(run_record["name"]),
        failure={"type": "error", "cause": "unknown", "severity": "medium"},
        depth=depth,
        parent=parent,
        asked=0.0,
    )
    if resumed:
        case["rerun_of"] = resumed
    run_record.update({
        "started": started,
        "resume_of": resumed,
        "origin": run_record.get("origin") or resumed or case["run"],
        "parent_run": parent["run"] if parent else None,
        "resumes": inherited.get("resumes", 0),
        "timeout": parameters.get("timeout"),
    })
    if case["dry_run"]:
        return _dry_run_result(env, run_record)
    run_store = RunStore(env, case["run"])
    if resumed:
        state = _state_of(env, run_record, RunStore(env, resumed))
    else:
        state = scheduler.initial_state(run_record["definition"], env.now())
    # In place of that of the run that is resumed.
    run_record["first"] = state["cursor"] + 1
    run_store.begin(run_record)
    if parent:
        run_store.put_record(parent["key"] + RUN, {"run": case["run"]})
    elif resumed:
        RunStore(env, resumed).mark_resumed(case["run"])
    return _next_wave_result(env, case, run_store, run_record, state)


def _start_record(
    env: Environment, parameters: Mapping[str, Any], inherited: Mapping[str, Any]
) -> RunRecord:
    """Return the start of a run record: {definition, id, name, input}."""
    requested, alias = parameters.get("orchestration"), parameters.get("orchestration_id")
    if alias is not None:
        if requested is not None:
            raise InvalidInput(
                "orchestration_id",
                alias,
                "cannot be combined with orchestration",
                "Use one of them",
            )
        requested = alias
    if not isinstance(requested, str) or not requested.strip():
        raise InvalidInput(
            "orchestration", requested, "is missing", "Name the orchestration, or set resume_of"
        )
    definition = definition_store.orchestration_by(env.store, requested)
    if definition is None:
        raise InvalidInput(
            "orchestration", requested, "is not a known orchestration",
            "List them with `st2 run synthralos.orchestration.list`",
        )
    _check_roles(env, definition)
    name = definition["name"]
    if not definition.get("active", True):
        raise InvalidInput(
            "orchestration", name, "is not active",
            "Set active to true with synthralos.orchestration.update",
        )
    return {
        "definition": definition,
        "id": definition.get("id"),
        "name": name,
        "input": inherited["input"] if "input" in inherited else _input(parameters),
    }


def _check_roles(env: Environment, definition: Orchestration) -> None:
    """Check that the roles of all steps exist, before any token is spent.

    :raises InvalidInput: a role does not exist.
    """
    checked: set[str] = set()
    for step in orchestration_schema.every_step(definition["steps"]):
        critic = step.get("critic")
        for name in (step.get("role"), critic["role"] if critic else None):
            if name and name not in checked:
                llm_step.role_of(env, name, step["name"])
                checked.add(name)


def _input(parameters: Mapping[str, Any]) -> Any:
    raw_input, text = parameters.get("input"), parameters.get("text")
    if text is not None and raw_input:
        raise InvalidInput("text", text, "cannot be combined with input", "Use one of them")
    return raw_input if text is None else text


def _state_of(env: Environment, run_record: RunRecord, previous: RunStore) -> State:
    """Return the state from which a resumed run continues.

    It is the state before the last wave of `previous`, plus the steps of that wave that completed.

    :param previous: of the run that is resumed.
    :raises InvalidInput: records that the run needs have expired.
    """
    definition, state = run_record["definition"], previous.newest()
    if state is None:
        return scheduler.initial_state(definition, env.now())
    if env.now() - state.pop("at") > FRESH_SECONDS:
        pages = {page["at"] for page in state["pages"]}
        full_state: Checkpoint = {**state, "log": previous.log(state)}
        missing = previous.renew(sorted(pages | scheduler.records_of(full_state)))
        if missing:
            hint = "Records are stored for two weeks; start the orchestration again"
            raise InvalidInput("resume_of", previous.run, "lacks the outputs of its steps", hint)
    results: dict[str, StepResult] = {}
    # An approval is asked again: an answer that came after the run had ended does not count.
    if scheduler.wave_of(state)["kind"] != scheduler.APPROVAL:
        results = _results(
            definition, state, Context(previous, state["context"], run_record["input"]), previous
        )
    scheduler.reuse_completed(definition, state, results, env.now())
    return state


def next_wave(env: Environment, case: Case, decision: str) -> dict[str, Any]:
    """Return the result of orchestration.next_wave: merge the last wave and name the next one.

    :param decision: APPROVED, REFUSED or UNANSWERED, if the wave was an approval.
    :raises InvalidInput: the run has no record in the datastore.
    """
    run_store = RunStore(env, case["run"])
    run_record, state = run_store.definition(), run_store.state(case["progress"]["cursor"])
    if run_record is None or state is None:
        reason = "has no record in the datastore"
        raise InvalidInput("case", case["run"], reason, "Start the orchestration again")
    definition, timestamp = run_record["definition"], state.pop("at")
    context = Context(run_store, state["context"], run_record["input"])
    wave = scheduler.wave_of(state)
    if wave["kind"] == scheduler.APPROVAL:
        step = scheduler.step_of(definition, state, wave["jobs"][0])
        seconds = round(env.now() - timestamp, 3)
        approval_result = _approval_result(
            context, run_store, state["cursor"], step, decision, seconds
        )
        results = {step["name"]: approval_result}
    else:
        results = _results(definition, state, context, run_store)
    seconds = sum(result.wait_seconds for result in results.values())
    # Time in which people were asked does not count: extend the run's deadline by it.
    if seconds:
        case["asked"] += seconds
        case["deadline"] += seconds
        inquiries.record_wait(env.store, case["run"], case["asked"])
    delay = scheduler.merge_results(definition, state, results, env.now())
    return _next_wave_result(env, case, run_store, run_record, state, delay)


def run_single_step(env: Environment, case: Case) -> tuple[bool, dict[str, Any]]:
    """Run a wave of one step, merge it and name the next wave.

    :returns: (succeeded, the result of orchestration.wave).
    """
    succeeded, step = step_runner.run_step(env, case, 0)
    # A step may finish although its run was cancelled; the run has ended, so nothing is merged.
    if env.api.execution(case["run"], "status").get("status") in CANCELLED:
        return succeeded, step
    result = next_wave(env, case, UNANSWERED)
    summary = "%s; %s" % (step.pop("summary"), result["summary"])
    # The task that ends a run succeeds even if its step failed.
    return succeeded or result.get("next") is None, dict(result, summary=summary, step=step)


def _results(
    definition: Orchestration, state: State, context: Context, run_store: RunStore
) -> dict[str, StepResult]:
    """Return {step name: StepResult} of the state's wave; a step without a record has crashed."""
    cursor, records = state["cursor"], run_store.records(state["cursor"])
    results: dict[str, StepResult] = {}
    for index, name in enumerate(scheduler.wave_of(state)["jobs"]):
        key = run_store.step_key(cursor, index)
        step = scheduler.step_of(definition, state, name)
        child = records.get(key + RUN, {}).get("run")
        if key in records:
            results[name] = _result(context, run_store, step, key, records[key], child)
        else:
            results[name] = scheduler.crashed_result(child)
    return results


def _result(
    context: Context,
    run_store: RunStore,
    step: Step,
    key: str,
    record: StepRecord,
    child: Optional[str],
) -> StepResult:
    """Return the StepResult of a step whose record is stored at `key`."""
    entry: LogEntry = {**record["log"], "at": key}
    status, asked_seconds = entry.pop("status"), entry.pop("asked", 0)
    if status != scheduler.COMPLETED:
        return scheduler.StepResult(status, entry, child=child, wait_seconds=asked_seconds)
    output, values = make_slot(record["output"], {"at": key, "name": None}), record.get("context")
    if values is not None:
        slots = make_slots(key, values)
    elif step.get("output") is None:
        slots = {step["name"]: output}
    else:
        # A sub-orchestration does not know how its output is mapped.
        slots = _store_values(
            run_store, key + ".set", context.output_values(step, record["output"])
        )
    return scheduler.StepResult(status, entry, slots, output, wait_seconds=asked_seconds)


def _store_values(run_store: RunStore, key: str, values: Mapping[str, Any]) -> dict[str, Slot]:
    """Return the slots of values that no step's record holds; if one is long, store all at `key`.
    """
    slots = make_slots(key, values)
    if any("at" in slot for slot in slots.values()):
        run_store.put_record(key, {"context": values})
    return slots


def _approval_result(
    context: Context, run_store: RunStore, cursor: int, step: Step, decision: str, seconds: float
) -> StepResult:
    """Return the StepResult of an approval."""
    output = {"approved": decision == APPROVED, "answered": decision != UNANSWERED}
    slots = _store_values(
        run_store, run_store.step_key(cursor, 0) + ".set", context.output_values(step, output)
    )
    entry: LogEntry = {"duration": seconds, "attempts": 1}
    if decision == APPROVED:
        return scheduler.StepResult(
            scheduler.COMPLETED, entry, slots, {"v": output}, wait_seconds=seconds
        )
    if decision == REFUSED:
        entry["error"] = "refused by a person"
        return scheduler.StepResult(scheduler.REFUSED, entry, slots, wait_seconds=seconds)
    entry["error"] = "unanswered within %d s" % round(seconds)
    return scheduler.StepResult(scheduler.FAILED, entry, slots, wait_seconds=seconds)


class _SchedulerHooks:
    """What the scheduler needs from the run; see scheduler.advance."""

    def __init__(
        self,
        env: Environment,
        run_store: RunStore,
        context: Context,
        state: State,
        max_concurrent: int,
    ) -> None:
        self.max_concurrent = max_concurrent
        self._env, self._run_store, self._context, self._state = env, run_store, context, state
        self._number = 0

    def now(self) -> float:
        return self._env.now()

    def holds(self, condition: Condition) -> bool:
        return conditions.holds(condition, self._context.template_roots(condition))

    def keep(self, step: Step, slot: Slot) -> None:
        if step.get("output") is None:
            self._state["context"][step["name"]] = slot
            return
        values = self._context.output_values(step, self._context.value(slot))
        self._number += 1
        key = "%s.end%d" % (self._run_store.step_key(self._state["cursor"], 0), self._number)
        self._state["context"].update(_store_values(self._run_store, key, values))


def _next_wave_result(
    env: Environment,
    case: Case,
    run_store: RunStore,
    run_record: RunRecord,
    state: State,
    delay: float = 0,
) -> dict[str, Any]:
    """Return the result that names the next wave, or that ends the run.

    :param delay: seconds to wait before the next wave.
    """
    definition = run_record["definition"]
    context = Context(run_store, state["context"], run_record["input"])
    max_concurrent = configuration(env).max_concurrent
    max_concurrent = min(max_concurrent, definition.get("max_concurrent") or max_concurrent)
    hooks = _SchedulerHooks(env, run_store, context, state, max_concurrent)
    scheduler.advance(definition, state, hooks)
    if state["outcome"] is None and not env.deadline(case).allows_attempt_at(env.now() + delay):
        state["outcome"] = {
            "status": scheduler.FAILED, "step": None, "error": "the run timed out",
        }
        # There is no checkpoint of a wave that has not begun.
        state.update({"wave": None, "cursor": state["cursor"] - 1})
    case["progress"]["cursor"] = state["cursor"]
    case["progress"]["attempts"] = attempts_of(state["log"]) + sum(
        page["attempts"] for page in state["pages"]
    )
    if state["outcome"] is not None:
        return run_completion.finish_run(env, case, run_store, run_record, state, context)
    wave, seconds_left = scheduler.wave_of(state), env.deadline(case).seconds_left()
    steps = [scheduler.step_of(definition, state, name) for name in wave["jobs"]]
    wave_input = _WAVE_INPUT[wave["kind"]](
        env, case, run_store, context, state, steps, seconds_left
    )
    run_store.checkpoint(state, case["deadline"])
    summary = "wave %d: %s" % (state["cursor"], ", ".join(wave["jobs"]))
    run_log.emit("wave", number=state["cursor"], what=wave["kind"], steps=len(wave["jobs"]))
    next_input = dict(
        workflow_run.next_step(env, case, math.ceil(delay)),
        concurrency=max_concurrent,
        **wave_input,
    )
    is_single_step = wave["kind"] == scheduler.STEPS and len(steps) == 1
    return {
        "summary": summary,
        "next_task": SINGLE_STEP_TASK if is_single_step else wave["kind"],
        "steps": list(wave["jobs"]),
        "next": next_input,
    }


def _steps_input(
    env: Environment,
    case: Case,
    run_store: RunStore,
    context: Context,
    state: State,
    steps: list[Step],
    seconds_left: float,
) -> dict[str, Any]:
    return {"steps": list(range(len(steps))), "limit": step_limits.limit(steps, seconds_left)}


def _approval_input(
    env: Environment,
    case: Case,
    run_store: RunStore,
    context: Context,
    state: State,
    steps: list[Step],
    seconds_left: float,
) -> dict[str, Any]:
    approval = steps[0]["approval"]
    assert approval is not None
    expires_at = env.now() + approval["timeout"]
    question = templates.render(approval["question"], context.template_roots(approval["question"]))
    question = templates.as_text(question)
    question = sanitize.sanitize_line(question, env.redactor, QUESTION_CHARACTERS)
    inquiries.record_inquiry(
        env.store, case["run"], expires_at, "%s: %s" % (steps[0]["name"], question)
    )
    # StackStorm counts whole minutes, and only if its inquiry garbage collection is enabled.
    return {"ttl": int((expires_at - env.now()) // 60) + 1}


def _sub_run_input(
    env: Environment,
    case: Case,
    run_store: RunStore,
    context: Context,
    state: State,
    steps: list[Step],
    seconds_left: float,
) -> dict[str, Any]:
    step = steps[0]
    key = run_store.step_key(state["cursor"], 0)
    frame = state["stack"][-1]
    rules: dict[str, Any] = {
        "depth": case["depth"] + 1,
        "input": context.step_input(step),
        "parent": {"run": case["run"], "key": key},
    }
    resumed = frame["children"].get(step["name"])
    if resumed and RunStore(env, resumed).definition() is not None:
        rules["resume_of"] = resumed
    content = {
        "request": {"orchestration": step["orchestration"], "rules": rules},
        "trace": tracing.propagation_headers(),
    }
    case_key = "%scase.%s.handed.%d" % (
        PREFIX,
        encode_key_part(case["run"] or "none"),
        state["cursor"],
    )
    seconds = min(step.get("timeout") or seconds_left, seconds_left - CHILD_SECONDS)
    return {
        "child_case": sealing.seal(env.redactor.remove_secrets(content), env.store, case_key),
        "limit": max(workflow_run.MIN_RUN_SECONDS, int(seconds)),
    }


_WaveInput = Callable[
    [Environment, Case, RunStore, Context, State, list[Step], float], dict[str, Any]
]
_WAVE_INPUT: dict[str, _WaveInput] = {
    scheduler.STEPS: _steps_input,
    scheduler.APPROVAL: _approval_input,
    scheduler.SUB_RUN: _sub_run_input,
}


def _dry_run_result(env: Environment, run_record: RunRecord) -> dict[str, Any]:
    """Return the result of a dry run: the steps in order. Nothing is called or stored."""
    definition = run_record["definition"]
    plan: list[dict[str, Any]] = []
    for entry, step in scheduler.preview(definition):
        plan.append(dict(entry))
        if step["kind"] == "llm":
            plan[-1]["models"] = llm_step.planned(env, step)
        elif step["kind"] == "action":
            action_step.allowed(env, step["action"])
    summary = "dry run: nothing was called; %d steps" % len(plan)
    report = run_completion.empty_report()
    report["status"], report["stepLogs"] = "planned", plan
    return dict({"summary": summary, "next_task": "done"}, **report)
