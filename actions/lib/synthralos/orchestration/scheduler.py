"""The scheduler of a run: selects the next steps, without clock, datastore or network.

A run is a sequence of waves. A wave is a set of LLM and action steps that run at the same time, or
one approval, or one sub-orchestration. A loop or branch opens a frame of its own, whose steps run
in waves like any others; while it is open, the steps beside it wait.

The state of a run is JSON, so that it can be stored before each wave:

    {cursor: waves so far,
     stack: [frame], the orchestration's own first, the innermost last,
     context: {key: slot}, log: [entry], pages: where earlier entries are, see run_store,
     wave: {kind, jobs [step names]} or null,
     outcome: null, or {status: completed | failed | refused, step, error}}

A checkpoint also has `at` and `deadline`, in seconds since the epoch.

    frame: {step: the loop or branch it belongs to, or null, kind, round, began,
            done {name: its status}, tries {name: attempts}, children {name: run of a
            sub-orchestration, to be resumed}, failed: null or {step, error, refused},
            last: slot of the newest output, or null; in a branch also case: its index, or null}

A slot locates a value: {"v": the value} or {"at": key of a record, "name": a key of its context, or
null for its output}. An entry of the log is a step log without its input and output, which are in
the record at the key `at`.
"""

from synthralos.orchestration import dependencies
from synthralos.orchestration.orchestration_schema import inside

ORCHESTRATION = "orchestration"
STEPS, APPROVAL, SUB_RUN = "steps", "ask", "child"
AT_ONCE = ("llm", "action")
COMPLETED, FAILED, SKIPPED, BLOCKED = "completed", "failed", "skipped", "blocked"
REFUSED = "refused"
NOT_MET = "Condition not met"
# Further steps run in the next wave.
MAX_WAVE_STEPS = 20
# The limit of a whole run, so that nested loops end too.
MAX_WAVES = 2000
_WAVE_OF = {"approval": APPROVAL, ORCHESTRATION: SUB_RUN}


def initial_state(definition, now):
    """Return the state of a run that has not begun."""
    return {
        "cursor": 0,
        "stack": [_frame(None, "root", now)],
        "context": {},
        "log": [],
        "pages": [],
        "wave": None,
        "outcome": None,
    }


def _frame(step, kind, now, **more):
    return dict(
        {
            "step": step,
            "kind": kind,
            "round": 1,
            "began": now,
            "done": {},
            "tries": {},
            "children": {},
            "failed": None,
            "last": None,
        },
        **more,
    )


def steps_of(definition, state):
    """Return the steps of the innermost frame."""
    steps = definition["steps"]
    for frame in state["stack"][1:]:
        steps = _frame_steps(_named(steps, frame["step"]), frame)
    return steps


def _frame_steps(step, frame):
    if frame["kind"] == "loop":
        return step["loop"]["steps"]
    if frame["case"] is None:
        return step["branch"]["otherwise"]
    return step["branch"]["cases"][frame["case"]]["steps"]


def _named(steps, name):
    return next(step for step in steps if step["name"] == name)


def step_of(definition, state, name):
    """Return the step `name` of the innermost frame."""
    return _named(steps_of(definition, state), name)


def id_of(state, name):
    """Return the id of a step in its run, which includes the rounds of the loops around it."""
    outer = [
        "%s[%d]/" % (frame["step"], frame["round"]) if frame["kind"] == "loop"
        else "%s/" % frame["step"]
        for frame in state["stack"][1:]
    ]
    return "".join(outer) + name


def policy(definition, step):
    """Return "fail" or "continue": what the run does when the step fails."""
    return step.get("on_failure") or definition.get("on_failure") or "fail"


def advance(definition, state, hooks):
    """Advance `state` to its next wave, or to its outcome.

    :param hooks: access to the run: `holds(condition)` evaluates a condition; `keep(step, slot)`
        puts the output of a loop or branch into the context; `now()` is the time in seconds since
        the epoch; `max_concurrent` is how many steps may run at the same time.
    """
    state["wave"] = None
    while state["outcome"] is None and state["wave"] is None:
        frame = state["stack"][-1]
        steps = steps_of(definition, state)
        remaining = [step for step in steps if step["name"] not in frame["done"]]
        if frame["failed"] or not remaining:
            _finish_frame(definition, state, remaining, hooks)
            continue
        if state["cursor"] >= MAX_WAVES:
            _fail_run(state, "the run has had %d waves, and no run may have more" % MAX_WAVES)
            return
        ready = _ready(definition, steps, frame)
        if not ready:
            # Definitions are checked for cycles; this ends one that bypassed the checks.
            _fail_run(state, "no step can run: each waits for another")
            return
        if _skip_steps(state, frame, ready, hooks):
            continue
        _start_next(state, frame, ready, hooks)


def _ready(definition, steps, frame):
    steps_by_name = {step["name"]: step for step in steps}
    plan = dependencies.dependency_map(dict(definition, steps=steps))
    completed = set(frame["done"])
    return [
        steps_by_name[name] for name in dependencies.ready(plan, completed) if name not in completed
    ]


def _skip_steps(state, frame, ready, hooks):
    """Skip the steps of `ready` that must not run; return whether there were any."""
    before = len(frame["done"])
    for step in ready:
        missing = [
            name for name in step.get("depends_on") or []
            if frame["done"].get(name) in (FAILED, BLOCKED)
        ]
        if missing:
            reason = "it depends on %s, which did not complete" % ", ".join(missing)
            _log_skipped(state, step, reason)
            frame["done"][step["name"]] = BLOCKED
        elif step.get("condition") and not hooks.holds(step["condition"]):
            _log_skipped(state, step, NOT_MET)
            frame["done"][step["name"]] = SKIPPED
    return len(frame["done"]) > before


def _log_skipped(state, step, reason):
    state["log"].append(
        {
            "step_id": id_of(state, step["name"]),
            "step_name": step["name"],
            "status": SKIPPED,
            "reason": reason,
        }
    )


def _start_next(state, frame, ready, hooks):
    """Start the wave, or the frame, of the first step in `ready`."""
    first = ready[0]
    if first["kind"] in AT_ONCE:
        # With a concurrency of 1, Orquesta drops the items after a failed one: then each step
        # is a wave of its own.
        max_steps = 1 if hooks.max_concurrent == 1 else MAX_WAVE_STEPS
        jobs = [step["name"] for step in ready if step["kind"] in AT_ONCE][:max_steps]
        _start_wave(state, STEPS, jobs)
    elif first["kind"] in _WAVE_OF:
        _start_wave(state, _WAVE_OF[first["kind"]], [first["name"]])
    elif first["kind"] == "loop":
        state["stack"].append(_frame(first["name"], "loop", hooks.now()))
    else:
        cases = first["branch"]["cases"]
        matching_cases = [index for index, case in enumerate(cases) if hooks.holds(case["when"])]
        steps = (
            cases[matching_cases[0]]["steps"]
            if matching_cases
            else first["branch"].get("otherwise") or []
        )
        if not steps:
            _log_skipped(
                state, first, "no case holds" if not matching_cases else "its case has no steps"
            )
            frame["done"][first["name"]] = SKIPPED
            return
        case = matching_cases[0] if matching_cases else None
        state["stack"].append(_frame(first["name"], "branch", hooks.now(), case=case))


def _start_wave(state, kind, jobs):
    state["cursor"] += 1
    state["wave"] = {"kind": kind, "jobs": jobs}


def merge_results(definition, state, results, now):
    """Merge the results of the wave's steps into `state`.

    :param results: {step name: StepResult} of all its steps.
    :returns: seconds to wait before the next wave: the retry delay of a sub-orchestration that is
        to run again, else 0.
    """
    delay = 0
    jobs = state["wave"]["jobs"]
    for name in jobs:
        step = step_of(definition, state, name)
        delay = max(delay, _apply_result(definition, state, step, results[name], now))
    state["wave"] = None
    return delay


class StepResult:
    """The result of one step.

    :ivar status: COMPLETED, FAILED or REFUSED.
    :ivar log: the fields of its step log besides id, name and status.
    :ivar slots: {context key: slot} that the step sets.
    :ivar output: slot of its output, or None.
    :ivar child: the run of a sub-orchestration, which the next attempt resumes.
    :ivar wait_seconds: how long it waited for people.
    """

    def __init__(self, status, log, slots=None, output=None, child=None, wait_seconds=0):
        self.status, self.log, self.slots = status, log, slots or {}
        self.output, self.child, self.wait_seconds = output, child, wait_seconds


def crashed_result(child=None):
    """Return the StepResult of a step that left no record."""
    error = "its action ended without a result: it crashed, was killed, or timed out"
    return StepResult(FAILED, {"error": error, "attempts": 1, "duration": None}, child=child)


def reuse_completed(definition, state, results, now):
    """Merge only the completed steps of the state's wave; the others will run again."""
    frame = state["stack"][-1]
    for name in state["wave"]["jobs"]:
        result = results.get(name)
        if result is not None and result.status == COMPLETED:
            _apply_result(definition, state, step_of(definition, state, name), result, now)
        elif result is not None and result.child:
            frame["children"][name] = result.child
    frame["tries"] = {}
    state["wave"] = None


def _apply_result(definition, state, step, result, now):
    frame, name = state["stack"][-1], step["name"]
    tries = frame["tries"][name] = frame["tries"].get(name, 0) + 1
    log = dict(
        {"step_id": id_of(state, name), "step_name": name, "status": result.status}, **result.log
    )
    frame["children"].pop(name, None)
    if step["kind"] == ORCHESTRATION:
        log["attempts"] = tries
        if result.status == FAILED and tries <= (step.get("max_retries") or 0):
            if result.child:
                frame["children"][name] = result.child
            return step.get("retry_delay") or 0
    state["log"].append(dict(log, status=FAILED) if result.status == REFUSED else log)
    state["context"].update(result.slots)
    if result.status == COMPLETED:
        frame["done"][name] = COMPLETED
        frame["last"] = result.output
    else:
        _mark_failed(definition, state, step, result.log.get("error"), result.status == REFUSED)
    return 0


def _mark_failed(definition, state, step, error, refused=False):
    """Mark a step as failed, and its frame too if the step's policy says so."""
    frame = state["stack"][-1]
    frame["done"][step["name"]] = FAILED
    if policy(definition, step) == "fail" and not frame["failed"]:
        frame["failed"] = {"step": step["name"], "error": error, "refused": refused}


def _finish_frame(definition, state, remaining, hooks):
    """End the innermost frame, or start the next round of its loop."""
    frame = state["stack"][-1]
    failed = frame["failed"]
    for step in remaining:
        _log_skipped(state, step, "not reached: step %s failed" % failed["step"])
    if frame["kind"] == "root":
        status = COMPLETED if not failed else REFUSED if failed["refused"] else FAILED
        state["outcome"] = dict(
            {"status": status, "step": None, "error": None}, **_error_fields(failed)
        )
        return
    step = _named(_outer_steps(definition, state), frame["step"])
    error = "Step %(step)s failed: %(error)s" % failed if failed else None
    if frame["kind"] == "loop" and not failed:
        until, max_rounds = step["loop"].get("until"), step["loop"]["max_rounds"]
        met = until is not None and hooks.holds(until)
        if not met and frame["round"] < max_rounds:
            frame.update(round=frame["round"] + 1, done={}, tries={}, children={})
            return
        if until is not None and not met:
            error = "its condition did not hold after %d rounds" % max_rounds
    state["stack"].pop()
    name = step["name"]
    log = {
        "step_id": id_of(state, name),
        "step_name": name,
        "status": FAILED if error else COMPLETED,
        "duration": round(hooks.now() - frame["began"], 3),
        "attempts": 1,
    }
    if frame["kind"] == "loop":
        log["rounds"] = frame["round"]
    if error:
        log["error"] = error
    state["log"].append(log)
    if error:
        _mark_failed(definition, state, step, error, bool(failed and failed["refused"]))
        return
    above = state["stack"][-1]
    above["done"][name] = COMPLETED
    if frame["last"] is not None:
        above["last"] = frame["last"]
        hooks.keep(step, frame["last"])


def _outer_steps(definition, state):
    return steps_of(definition, dict(state, stack=state["stack"][:-1]))


def _error_fields(failed):
    return {"step": failed["step"], "error": failed["error"]} if failed else {}


def _fail_run(state, reason):
    state["outcome"] = {"status": FAILED, "step": None, "error": reason}


def records_of(state):
    """Return the keys of the records that the state refers to."""
    keys = {entry["at"] for entry in state["log"] if entry.get("at")}
    slots = list(state["context"].values()) + [frame["last"] for frame in state["stack"]]
    return keys | {slot["at"] for slot in slots if slot and "at" in slot}


def preview(definition, steps=None, outer="", first=1):
    """Return the steps in the order in which they would run if every condition held.

    :returns: [({step_id, step_name, kind, wave}, step)]; each loop or branch counts its waves from
        1.
    """
    steps = definition["steps"] if steps is None else steps
    frame, entries, wave = {"done": {}}, [], first
    while len(frame["done"]) < len(steps):
        ready = _ready(definition, steps, frame)
        if not ready:
            break
        at_once = [step for step in ready if step["kind"] in AT_ONCE][:MAX_WAVE_STEPS]
        for step in at_once if ready[0]["kind"] in AT_ONCE else ready[:1]:
            name = step["name"]
            entry = {"step_id": outer + name, "step_name": name, "kind": step["kind"], "wave": wave}
            entries.append((entry, step))
            frame["done"][name] = COMPLETED
            for inner in inside(step):
                entries += preview(definition, inner, "%s%s/" % (outer, name))
        wave += 1
    return entries
