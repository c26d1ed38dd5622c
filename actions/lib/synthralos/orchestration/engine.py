"""The workflow orchestration.run: from its first task to the last wave.

    begin -> wave -> wave -> (steps | ask | child) -> next_wave -> wave ... -> end

`begin`, `next_wave` and `wave`, which is a step alone, name the next wave in `do` and end the run
themselves; each puts the state of the run into the datastore before the wave that it names, so that
a run that was cut off goes on from there. What crosses the workflow are numbers and a small case;
see checkpoints for the rest.
"""

import math

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
from synthralos.orchestration.config import configuration
from synthralos.orchestration.run_completion import WORKFLOW
from synthralos.orchestration.run_context import Context, make_slot, make_slots
from synthralos.orchestration.run_store import FRESH_SECONDS, RUN, RunStore, attempts_of
from synthralos.runtime import workflow_run
from synthralos.storage import inquiries
from synthralos.storage.datastore import PREFIX
from synthralos.telemetry import run_log, tracing

DEFAULT_RUN_SECONDS = 1800
# What is kept of a run outlives it.
MAX_RUN_SECONDS = 24 * 3600
MAX_DEPTH = 5
QUESTION_CHARACTERS = 500
# Of a run's time, for a sub-orchestration's end to be merged.
CHILD_SECONDS = 5
APPROVED, REFUSED, UNANSWERED = "approved", "refused", "none"
# The task of a wave that is one step: it merges the wave itself.
SINGLE_STEP_TASK = "wave"
CANCELLED = ("canceling", "canceled")


def begin(env, parameters, started):
    """The result of orchestration.begin: the first wave, or the end of a run that has none.

    :param parameters: of the workflow, resolved.
    """
    handed = parameters.get("rules") or {}
    depth = handed.get("depth", 1)
    if depth > MAX_DEPTH:
        raise InvalidInput(
            "orchestration", None, "is within %d others" % (depth - 1),
            "Orchestrations nest at most %d deep; one may not run itself" % MAX_DEPTH,
        )
    resumed = parameters.get("resume_of") or handed.get("resume_of")
    told = (
        run_queries.check_resumable(env, resumed)
        if resumed
        else _start_record(env, parameters, handed)
    )
    parent = handed.get("parent")
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        {},
        {},
        max_seconds=MAX_RUN_SECONDS,
        subject=run_completion.subject_of_name(told["name"]),
        failure={"type": "error", "cause": "unknown", "severity": "medium"},
        depth=depth,
        parent=parent,
        asked=0.0,
    )
    told.update(
        started=started,
        resume_of=resumed,
        parent_run=parent["run"] if parent else None,
        resumes=handed.get("resumes", 0),
        timeout=parameters.get("timeout"),
    )
    if case["dry_run"]:
        return _planned(env, told)
    kept = RunStore(env, case["run"])
    if resumed:
        state = _state_of(env, told, RunStore(env, resumed))
    else:
        state = scheduler.initial_state(told["definition"], env.now())
    kept.begin(dict(told, first=state["cursor"] + 1))
    if parent:
        kept.put_record(parent["key"] + RUN, {"run": case["run"]})
    elif resumed:
        RunStore(env, resumed).mark_resumed(case["run"])
    return _next_wave_result(env, case, kept, told, state)


def _start_record(env, parameters, handed):
    """What a run begins with: {definition, id, name, input}."""
    wanted, alias = parameters.get("orchestration"), parameters.get("orchestration_id")
    if alias is not None:
        if wanted is not None:
            raise InvalidInput(
                "orchestration_id", alias, "is given beside orchestration", "Give one of them"
            )
        wanted = alias
    if not isinstance(wanted, str) or not wanted.strip():
        raise InvalidInput(
            "orchestration", wanted, "is missing", "Name the orchestration, or give resume_of"
        )
    definition = definition_store.orchestration_by(env.store, wanted)
    if definition is None:
        raise InvalidInput(
            "orchestration", wanted, "is no orchestration",
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
        "input": handed["input"] if "input" in handed else _input(parameters),
    }


def _check_roles(env, definition):
    """InvalidInput when a step names a role that there is not: before a token is spent."""
    known = set()
    for step in orchestration_schema.every_step(definition["steps"]):
        names = [step.get("role"), (step.get("critic") or {}).get("role")]
        for name in [name for name in names if name and name not in known]:
            llm_step.role_of(env, name, step["name"])
            known.add(name)


def _input(parameters):
    given, worded = parameters.get("input"), parameters.get("text")
    if worded is not None and given:
        raise InvalidInput("text", worded, "is given beside input", "Give one of them")
    return given if worded is None else worded


def _state_of(env, told, old):
    """The state from which a resumed run goes on: before its last wave, of which what completed
    is taken over.
    """
    definition, state = told["definition"], old.newest()
    if state is None:
        return scheduler.initial_state(definition, env.now())
    if env.now() - state.pop("at") > FRESH_SECONDS:
        pages = {page["at"] for page in state["pages"]}
        whole = dict(state, log=old.log(state))
        missing = old.renew(sorted(pages | scheduler.records_of(whole)))
        if missing:
            way_out = "Records are kept for two weeks; start the orchestration anew"
            raise InvalidInput("resume_of", old.run, "lacks what its steps gave", way_out)
    if state["wave"]["kind"] == scheduler.APPROVAL:
        # It is asked again: an answer to a run that is over was none.
        results = {}
    else:
        results = _results(definition, state, Context(old, state["context"], told["input"]), old)
    scheduler.reuse_completed(definition, state, results, env.now())
    return state


def next_wave(env, case, decision):
    """The result of orchestration.next_wave: the wave before is merged, the next one named.

    :param decision: APPROVED, REFUSED or UNANSWERED, where the wave was an approval.
    """
    kept = RunStore(env, case["run"])
    told, state = kept.definition(), kept.state(case["progress"]["cursor"])
    if told is None or state is None:
        why = "has nothing in the datastore"
        raise InvalidInput("case", case["run"], why, "Start the orchestration anew")
    definition, at = told["definition"], state.pop("at")
    context = Context(kept, state["context"], told["input"])
    if state["wave"]["kind"] == scheduler.APPROVAL:
        step = scheduler.step_of(definition, state, state["wave"]["jobs"][0])
        seconds = round(env.now() - at, 3)
        decided = _approval_result(context, kept, state["cursor"], step, decision, seconds)
        results = {step["name"]: decided}
    else:
        results = _results(definition, state, context, kept)
    seconds = sum(result.asked for result in results.values())
    # People may take the time they are given: a run's deadline stands still meanwhile.
    if seconds:
        case["asked"] += seconds
        case["deadline"] += seconds
        inquiries.record_wait(env.store, case["run"], case["asked"])
    delay = scheduler.merge_results(definition, state, results, env.now())
    return _next_wave_result(env, case, kept, told, state, delay)


def run_single_step(env, case):
    """(ok, result) of orchestration.wave: its step is carried out, merged, the next wave named."""
    succeeded, step = step_runner.run_step(env, case, 0)
    # A step is left to its end when its run is cancelled; the run is over all the same, unmerged.
    if env.api.execution(case["run"], "status").get("status") in CANCELLED:
        return succeeded, step
    result = next_wave(env, case, UNANSWERED)
    summary = "%s; %s" % (step.pop("summary"), result["summary"])
    # What ends a run succeeds in that, whatever became of the step.
    return succeeded or result.get("next") is None, dict(result, summary=summary, step=step)


def _results(definition, state, context, kept):
    """{step name: waves.Result} of the state's wave; a step that left no record has crashed."""
    cursor, found = state["cursor"], {}
    records = kept.records(cursor)
    for n, name in enumerate(state["wave"]["jobs"]):
        key = kept.step_key(cursor, n)
        step = scheduler.step_of(definition, state, name)
        child = records.get(key + RUN, {}).get("run")
        if key in records:
            found[name] = _result(context, kept, step, key, records[key], child)
        else:
            found[name] = scheduler.crashed_result(child)
    return found


def _result(context, kept, step, key, left, child):
    """The waves.Result of a step that has left the record `left` at `key`."""
    entry = dict(left["log"], at=key)
    status, asked_seconds = entry.pop("status"), entry.pop("asked", 0)
    if status != scheduler.COMPLETED:
        return scheduler.StepResult(status, entry, child=child, asked=asked_seconds)
    output = make_slot(left["output"], {"at": key, "name": None})
    if left.get("context") is not None:
        slots = make_slots(key, left["context"])
    elif step.get("output") is None:
        slots = {step["name"]: output}
    else:
        # A sub-orchestration does not know what becomes of its output.
        slots = _store_values(kept, key + ".set", context.output_values(step, left["output"]))
    return scheduler.StepResult(status, entry, slots, output, asked=asked_seconds)


def _store_values(kept, key, values):
    """The slots of values that no step has recorded; where one is long, all are, at `key`."""
    slots = make_slots(key, values)
    if any("at" in one for one in slots.values()):
        kept.put_record(key, {"context": values})
    return slots


def _approval_result(context, kept, cursor, step, decision, seconds):
    """The waves.Result of an approval."""
    output = {"approved": decision == APPROVED, "answered": decision != UNANSWERED}
    slots = _store_values(
        kept, kept.step_key(cursor, 0) + ".set", context.output_values(step, output)
    )
    entry = {"duration": seconds, "attempts": 1}
    if decision == APPROVED:
        return scheduler.StepResult(scheduler.COMPLETED, entry, slots, {"v": output}, asked=seconds)
    if decision == REFUSED:
        entry["error"] = "a person refused it"
        return scheduler.StepResult(scheduler.REFUSED, entry, slots, asked=seconds)
    entry["error"] = "nobody answered within %d s" % round(seconds)
    return scheduler.StepResult(scheduler.FAILED, entry, slots, asked=seconds)


class _SchedulerHooks:
    """What the scheduler needs of the values that the run has made; see waves.advance."""

    def __init__(self, env, kept, context, state, most):
        self.most = most
        self._env, self._kept, self._context, self._state = env, kept, context, state
        self._number = 0

    def now(self):
        return self._env.now()

    def holds(self, condition):
        return conditions.holds(condition, self._context.template_roots(condition))

    def keep(self, step, slot):
        if step.get("output") is None:
            self._state["context"][step["name"]] = slot
            return
        values = self._context.output_values(step, self._context.value(slot))
        self._number += 1
        key = "%s.end%d" % (self._kept.step_key(self._state["cursor"], 0), self._number)
        self._state["context"].update(_store_values(self._kept, key, values))


def _next_wave_result(env, case, kept, told, state, delay=0):
    """The result that names the next wave, or that ends the run."""
    definition = told["definition"]
    context = Context(kept, state["context"], told["input"])
    most = configuration(env).max_concurrent
    most = min(most, definition.get("max_concurrent") or most)
    look = _SchedulerHooks(env, kept, context, state, most)
    scheduler.advance(definition, state, look)
    if state["outcome"] is None and not env.deadline(case).allows_attempt_at(env.now() + delay):
        state["outcome"] = {
            "status": scheduler.FAILED, "step": None, "error": "the time of the run was up",
        }
        # No checkpoint is of a wave that has not begun.
        state.update(wave=None, cursor=state["cursor"] - 1)
    case["progress"]["cursor"] = state["cursor"]
    case["progress"]["attempts"] = attempts_of(state["log"]) + sum(
        page["attempts"] for page in state["pages"]
    )
    if state["outcome"] is not None:
        return run_completion.finish_run(env, case, kept, told, state, context)
    wave, left = state["wave"], env.deadline(case).seconds_left()
    steps = [scheduler.step_of(definition, state, name) for name in wave["jobs"]]
    more = _WAVE_INPUT[wave["kind"]](env, case, kept, context, state, steps, left)
    kept.checkpoint(dict(state, deadline=case["deadline"]))
    summary = "wave %d: %s" % (state["cursor"], ", ".join(wave["jobs"]))
    run_log.emit("wave", number=state["cursor"], what=wave["kind"], steps=len(wave["jobs"]))
    following = dict(workflow_run.next_step(env, case, math.ceil(delay)), concurrency=most, **more)
    alone = wave["kind"] == scheduler.STEPS and len(steps) == 1
    return {
        "summary": summary,
        "next_task": SINGLE_STEP_TASK if alone else wave["kind"],
        "steps": list(wave["jobs"]),
        "next": following,
    }


def _steps_input(env, case, kept, context, state, steps, left):
    return {"steps": list(range(len(steps))), "limit": step_limits.limit(steps, left)}


def _approval_input(env, case, kept, context, state, steps, left):
    told = steps[0]["approval"]
    until = env.now() + told["timeout"]
    question = templates.render(told["question"], context.template_roots(told["question"]))
    question = templates.as_text(question)
    question = sanitize.sanitize_line(question, env.redactor, QUESTION_CHARACTERS)
    inquiries.record_inquiry(env.store, case["run"], until, "%s: %s" % (steps[0]["name"], question))
    # StackStorm counts whole minutes, and only where its collector of inquiries is on.
    return {"ttl": int((until - env.now()) // 60) + 1}


def _sub_run_input(env, case, kept, context, state, steps, left):
    step = steps[0]
    key = kept.step_key(state["cursor"], 0)
    frame = state["stack"][-1]
    rules = {
        "depth": case["depth"] + 1,
        "input": context.step_input(step),
        "parent": {"run": case["run"], "key": key},
    }
    resumed = frame["children"].get(step["name"])
    if resumed and RunStore(env, resumed).definition() is not None:
        rules["resume_of"] = resumed
    content = {"request": {"orchestration": step["orchestration"], "rules": rules}}
    content["trace"] = tracing.propagation_headers()
    where = "%scase.%s.handed.%d" % (
        PREFIX,
        encode_key_part(case["run"] or "none"),
        state["cursor"],
    )
    seconds = min(step.get("timeout") or left, left - CHILD_SECONDS)
    return {
        "child_case": sealing.seal(env.redactor.remove_secrets(content), env.store, where),
        "limit": max(workflow_run.MIN_RUN_SECONDS, int(seconds)),
    }


_WAVE_INPUT = {
    scheduler.STEPS: _steps_input,
    scheduler.APPROVAL: _approval_input,
    scheduler.SUB_RUN: _sub_run_input,
}


def _planned(env, told):
    """The result of a dry run: what would run in which order. Nothing is called or kept."""
    definition = told["definition"]
    plan = scheduler.preview(definition)
    for entry, step in plan:
        if step["kind"] == "llm":
            entry["models"] = llm_step.planned(env, step)
        elif step["kind"] == "action":
            action_step.allowed(env, step["action"])
    summary = "dry run: nothing was called; %d steps" % len(plan)
    report = run_completion.empty_report()
    report.update(status="planned")
    report["stepLogs"] = [entry for entry, _ in plan]
    return dict({"summary": summary, "next_task": "done"}, **report)
