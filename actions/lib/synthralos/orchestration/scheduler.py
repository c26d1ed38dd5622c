"""Which steps come next: the scheduler of a run, without clock, datastore or network.

A run is a sequence of waves. A wave is a set of LLM and action steps that run at once, or one
approval, or one sub-orchestration. A loop and a branch open a frame of their own, whose steps are
waves like any others; while it is open, the steps beside it wait.

The state of a run is JSON, so that it can be kept before each wave:

    {cursor: waves so far,
     stack: [frame], the orchestration's own first, the innermost last,
     context: {key: slot}, log: [entry], pages: where earlier ones are, see checkpoints,
     wave: {kind, jobs [step names]} or null,
     outcome: null, or {status: completed | failed | refused, step, error}}

A checkpoint has at and deadline beside these, in seconds since the epoch.

    frame: {step: the loop or branch it belongs to, or null, kind, round, began,
            done {name: how it ended}, tries {name: times}, children {name: run of a
            sub-orchestration, to be resumed}, failed: null or {step, error, refused},
            last: slot of the newest output, or null; of a branch also case: its number, or null}

A slot says where a value is: {"v": the value} or {"at": record's key, "name": a key of its context,
or null for its output}. An entry of the log is a step log without its input and output, which stand
in the record that `at` names.
"""

from synthralos.orchestration import dependencies
from synthralos.orchestration.orchestration_schema import inside

ORCHESTRATION = "orchestration"
STEPS, APPROVAL, SUB_RUN = "steps", "ask", "child"
AT_ONCE = ("llm", "action")
COMPLETED, FAILED, SKIPPED, BLOCKED = "completed", "failed", "skipped", "blocked"
REFUSED = "refused"
NOT_MET = "Condition not met"
# Of one wave: what is beyond it is the next wave's.
MAX_WAVE_STEPS = 20
# Of a whole run, so that loops within loops end too.
MAX_WAVES = 2000
_WAVE_OF = {"approval": APPROVAL, ORCHESTRATION: SUB_RUN}


def initial_state(definition, now):
    """The state of a run that has not begun."""
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
    """The steps among which the innermost frame chooses."""
    steps = definition["steps"]
    for frame in state["stack"][1:]:
        steps = _inside(_named(steps, frame["step"]), frame)
    return steps


def _inside(step, frame):
    if frame["kind"] == "loop":
        return step["loop"]["steps"]
    if frame["case"] is None:
        return step["branch"]["otherwise"]
    return step["branch"]["cases"][frame["case"]]["steps"]


def _named(steps, name):
    return next(step for step in steps if step["name"] == name)


def step_of(definition, state, name):
    """The step `name` of the innermost frame."""
    return _named(steps_of(definition, state), name)


def id_of(state, name):
    """What tells a step of a run from any other, the rounds of a loop included."""
    outer = [
        "%s[%d]/" % (frame["step"], frame["round"]) if frame["kind"] == "loop"
        else "%s/" % frame["step"]
        for frame in state["stack"][1:]
    ]
    return "".join(outer) + name


def policy(definition, step):
    """"fail" or "continue": what becomes of the run when the step fails."""
    return step.get("on_failure") or definition.get("on_failure") or "fail"


def advance(definition, state, look):
    """Brings `state` to its next wave, or to its outcome.

    :param look: what this needs of the run: `holds(condition)`, a boolean; `keep(step, slot)`,
        which puts a loop's or branch's output into the context; `now()`; `most`, how many steps
        may run at once.
    """
    state["wave"] = None
    while state["outcome"] is None and state["wave"] is None:
        frame = state["stack"][-1]
        steps = steps_of(definition, state)
        left = [step for step in steps if step["name"] not in frame["done"]]
        if frame["failed"] or not left:
            _finish_frame(definition, state, left, look)
            continue
        if state["cursor"] >= MAX_WAVES:
            _fail_run(state, "the run has had %d waves, and no run may have more" % MAX_WAVES)
            return
        ready = _ready(definition, steps, frame)
        if not ready:
            # A definition is checked for cycles; one that was written past the checks ends here.
            _fail_run(state, "no step can run: each waits for another")
            return
        if _skip_steps(state, frame, ready, look):
            continue
        _start_next(state, frame, ready, look)


def _ready(definition, steps, frame):
    known = {step["name"]: step for step in steps}
    plan = dependencies.dependency_map(dict(definition, steps=steps))
    done = set(frame["done"])
    return [known[name] for name in dependencies.ready(plan, done) if name not in done]


def _skip_steps(state, frame, ready, look):
    """Whether some of `ready` are not to run at all; they are logged and done."""
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
        elif step.get("condition") and not look.holds(step["condition"]):
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


def _start_next(state, frame, ready, look):
    """The wave, or the frame, that begins with the first of `ready`."""
    first = ready[0]
    if first["kind"] in AT_ONCE:
        # Orquesta drops the items after one that failed where one runs at a time: then they are
        # waves of their own.
        most = 1 if look.most == 1 else MAX_WAVE_STEPS
        jobs = [step["name"] for step in ready if step["kind"] in AT_ONCE][:most]
        _start_wave(state, STEPS, jobs)
    elif first["kind"] in _WAVE_OF:
        _start_wave(state, _WAVE_OF[first["kind"]], [first["name"]])
    elif first["kind"] == "loop":
        state["stack"].append(_frame(first["name"], "loop", look.now()))
    else:
        cases = first["branch"]["cases"]
        found = [n for n, case in enumerate(cases) if look.holds(case["when"])]
        steps = cases[found[0]]["steps"] if found else first["branch"].get("otherwise") or []
        if not steps:
            _log_skipped(state, first, "no case holds" if not found else "its case has no steps")
            frame["done"][first["name"]] = SKIPPED
            return
        case = found[0] if found else None
        state["stack"].append(_frame(first["name"], "branch", look.now(), case=case))


def _start_wave(state, kind, jobs):
    state["cursor"] += 1
    state["wave"] = {"kind": kind, "jobs": jobs}


def merge_results(definition, state, results, now):
    """Takes what became of the wave's steps into `state`.

    :param results: {step name: Result} of each of its steps.
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
    """What became of one step.

    :ivar status: COMPLETED, FAILED or REFUSED.
    :ivar log: what its step log has beside id, name and status.
    :ivar slots: {context key: slot} that the step sets.
    :ivar output: slot of its output, or None.
    :ivar child: of a sub-orchestration: its run, which the next try resumes.
    :ivar asked: seconds of it in which people were asked.
    """

    def __init__(self, status, log, slots=None, output=None, child=None, asked=0):
        self.status, self.log, self.slots = status, log, slots or {}
        self.output, self.child, self.asked = output, child, asked


def crashed_result(child=None):
    """The Result of a step that left nothing."""
    error = "its action ended without a result: it crashed, was killed, or ran out of time"
    return StepResult(FAILED, {"error": error, "attempts": 1, "duration": None}, child=child)


def reuse_completed(definition, state, results, now):
    """Takes only what completed of the state's wave; the rest of it is still to run."""
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
        _failed(definition, state, step, result.log.get("error"), result.status == REFUSED)
    return 0


def _failed(definition, state, step, error, refused=False):
    """The step has failed; its policy says whether its frame has too."""
    frame = state["stack"][-1]
    frame["done"][step["name"]] = FAILED
    if policy(definition, step) == "fail" and not frame["failed"]:
        frame["failed"] = {"step": step["name"], "error": error, "refused": refused}


def _finish_frame(definition, state, left, look):
    """Ends the innermost frame, or begins the next round of its loop."""
    frame = state["stack"][-1]
    failed = frame["failed"]
    for step in left:
        _log_skipped(state, step, "not reached: step %s failed" % failed["step"])
    if frame["kind"] == "root":
        status = COMPLETED if not failed else REFUSED if failed["refused"] else FAILED
        state["outcome"] = dict(
            {"status": status, "step": None, "error": None}, **_error_fields(failed)
        )
        return
    step = _named(_outer(definition, state), frame["step"])
    error = "Step %(step)s failed: %(error)s" % failed if failed else None
    if frame["kind"] == "loop" and not failed:
        until, most = step["loop"].get("until"), step["loop"]["max_rounds"]
        met = until is not None and look.holds(until)
        if not met and frame["round"] < most:
            frame.update(round=frame["round"] + 1, done={}, tries={}, children={})
            return
        if until is not None and not met:
            error = "its condition did not hold after %d rounds" % most
    state["stack"].pop()
    name = step["name"]
    log = {
        "step_id": id_of(state, name),
        "step_name": name,
        "status": FAILED if error else COMPLETED,
        "duration": round(look.now() - frame["began"], 3),
        "attempts": 1,
    }
    if frame["kind"] == "loop":
        log["rounds"] = frame["round"]
    if error:
        log["error"] = error
    state["log"].append(log)
    if error:
        _failed(definition, state, step, error, bool(failed and failed["refused"]))
        return
    above = state["stack"][-1]
    above["done"][name] = COMPLETED
    if frame["last"] is not None:
        above["last"] = frame["last"]
        look.keep(step, frame["last"])


def _outer(definition, state):
    return steps_of(definition, dict(state, stack=state["stack"][:-1]))


def _error_fields(failed):
    return {"step": failed["step"], "error": failed["error"]} if failed else {}


def _fail_run(state, why):
    state["outcome"] = {"status": FAILED, "step": None, "error": why}


def records_of(state):
    """The keys of the records that the state refers to."""
    found = {entry["at"] for entry in state["log"] if entry.get("at")}
    slots = list(state["context"].values()) + [frame["last"] for frame in state["stack"]]
    return found | {slot["at"] for slot in slots if slot and "at" in slot}


def preview(definition, steps=None, outer="", first=1):
    """[({step_id, step_name, kind, wave}, step)] in the order in which the steps would run, were
    every condition to hold; within a loop or a branch waves are counted anew.
    """
    steps = definition["steps"] if steps is None else steps
    frame, found, wave = {"done": {}}, [], first
    while len(frame["done"]) < len(steps):
        ready = _ready(definition, steps, frame)
        if not ready:
            break
        at_once = [step for step in ready if step["kind"] in AT_ONCE][:MAX_WAVE_STEPS]
        for step in at_once if ready[0]["kind"] in AT_ONCE else ready[:1]:
            name = step["name"]
            entry = {"step_id": outer + name, "step_name": name, "kind": step["kind"], "wave": wave}
            found.append((entry, step))
            frame["done"][name] = COMPLETED
            for inner in inside(step):
                found += preview(definition, inner, "%s%s/" % (outer, name))
        wave += 1
    return found
