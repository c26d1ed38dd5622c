"""The scheduler of a run: selects the next steps, without clock, datastore or network.

A run is a sequence of waves. A wave is a set of LLM and action steps that run at the same time, or
one approval, or one sub-orchestration. A loop or branch opens a frame of its own, whose steps run
in waves like any others; while it is open, the steps beside it wait.

The state of a run is JSON, so that it can be stored before each wave.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, TypedDict

from synthralos.orchestration import dependencies
from synthralos.orchestration.conditions import Condition
from synthralos.orchestration.orchestration_schema import Orchestration, inside
from synthralos.orchestration.step_schema import Step, WithSteps

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


class Slot(TypedDict, total=False):
    """Where a value is: it is `v`, or in the record with the key `at`, under `name` in its context,
    or as its output if that is None.
    """

    v: Any
    at: str
    name: Optional[str]


# The functional form, because the keys are no names for code.
_Wait = TypedDict("_Wait", {"asked": float}, total=False)  # noqa: UP013
_Progress = TypedDict("_Progress", {"done": dict[str, str]})  # noqa: UP013


class LogEntry(_Wait, total=False):
    """The log of a step without its input and output, which are in the record with the key `at`.

    `duration`: seconds; `rounds`: of a loop; `reason`: why it was skipped; `error`, `cause`: why it
    failed; `usage`: tokens by kind; `cached`: whether no model was called; `targets`: the models of
    a step that failed; `execution_id`: what an action was started as; `asked`: for how many seconds
    people were waited for.
    """

    step_id: str
    step_name: str
    status: str
    at: str
    duration: Optional[float]
    attempts: int
    rounds: int
    reason: str
    error: str
    cause: str
    usage: dict[str, int]
    model: str
    cached: bool
    targets: list[str]
    execution_id: Optional[str]
    note: str


class LogPage(TypedDict):
    """Where earlier entries of the log are: in the record with the key `at`. `attempts`: of all."""

    at: str
    attempts: int


class StepFailure(TypedDict):
    """The step that has failed its frame. `refused`: whether a person refused it."""

    step: str
    error: Optional[str]
    refused: bool


class _AnyFrame(_Progress):
    step: Optional[str]
    kind: str
    round: int
    began: float
    tries: dict[str, int]
    children: dict[str, str]
    failed: Optional[StepFailure]
    last: Optional[Slot]


class Frame(_AnyFrame, total=False):
    """A list of steps that are run: those of the orchestration (`root`), a loop or a branch.

    `step`: the loop or branch, or None; `round`: from 1; `began`: seconds since the epoch; `done`:
    {step: its status}; `tries`: {step: attempts}; `children`: {step: run of a sub-orchestration, to
    be resumed}; `last`: the newest output; `case`: in a branch, the index of the case that holds,
    or None.
    """

    case: Optional[int]


class Wave(TypedDict):
    """The steps that run next. `kind`: STEPS, APPROVAL or SUB_RUN; `jobs`: their names."""

    kind: str
    jobs: list[str]


class Outcome(TypedDict):
    """How a run ends. `status`: COMPLETED, FAILED or REFUSED; `step`: the one that failed."""

    status: str
    step: Optional[str]
    error: Optional[str]


class State(TypedDict):
    """The state of a run.

    `cursor`: how many waves there have been; `stack`: the orchestration's own frame first, the
    innermost last; `pages`: of earlier entries of the log.
    """

    cursor: int
    stack: list[Frame]
    context: dict[str, Slot]
    log: list[LogEntry]
    pages: list[LogPage]
    wave: Optional[Wave]
    outcome: Optional[Outcome]


class Checkpoint(State, total=False):
    """A stored state: when it was stored and when the run has to end, in seconds since the epoch.
    """

    at: float
    deadline: float


class PreviewEntry(TypedDict):
    """A step in the order in which it would run. `wave`: from 1, in each loop or branch again."""

    step_id: str
    step_name: str
    kind: str
    wave: int


class Hooks(Protocol):
    """What the scheduler needs of the run. `max_concurrent`: how many steps may run at once."""

    max_concurrent: int

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""

    def holds(self, condition: Condition) -> bool:
        """Return whether a condition holds."""

    def keep(self, step: Step, slot: Slot) -> None:
        """Put the output of a loop or branch into the context."""


@dataclass(frozen=True)
class StepResult:
    """The result of one step.

    :ivar status: COMPLETED, FAILED or REFUSED.
    :ivar log: the fields of its step log besides id, name and status.
    :ivar slots: {context key: slot} that the step sets.
    :ivar output: slot of its output, or None.
    :ivar child: the run of a sub-orchestration, which the next attempt resumes.
    :ivar wait_seconds: how long it waited for people.
    """

    status: str
    log: LogEntry
    slots: dict[str, Slot] = field(default_factory=dict)
    output: Optional[Slot] = None
    child: Optional[str] = None
    wait_seconds: float = 0


def initial_state(definition: Orchestration, now: float) -> State:
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


def _frame(step: Optional[str], kind: str, now: float) -> Frame:
    return {
        "step": step,
        "kind": kind,
        "round": 1,
        "began": now,
        "done": {},
        "tries": {},
        "children": {},
        "failed": None,
        "last": None,
    }


def steps_of(definition: Orchestration, state: State) -> list[Step]:
    """Return the steps of the innermost frame."""
    steps = definition["steps"]
    for frame in state["stack"][1:]:
        steps = _frame_steps(_named(steps, frame["step"]), frame)
    return steps


def _frame_steps(step: Step, frame: Frame) -> list[Step]:
    if step["loop"] is not None:
        return step["loop"]["steps"]
    assert step["branch"] is not None
    if frame["case"] is None:
        return step["branch"]["otherwise"]
    return step["branch"]["cases"][frame["case"]]["steps"]


def _named(steps: list[Step], name: Optional[str]) -> Step:
    return next(step for step in steps if step["name"] == name)


def step_of(definition: Orchestration, state: State, name: str) -> Step:
    """Return the step `name` of the innermost frame."""
    return _named(steps_of(definition, state), name)


def id_of(state: State, name: str) -> str:
    """Return the id of a step in its run, which includes the rounds of the loops around it."""
    outer = [
        "%s[%d]/" % (frame["step"], frame["round"]) if frame["kind"] == "loop"
        else "%s/" % frame["step"]
        for frame in state["stack"][1:]
    ]
    return "".join(outer) + name


def policy(definition: Orchestration, step: Step) -> str:
    """Return "fail" or "continue": what the run does when the step fails."""
    return step.get("on_failure") or definition.get("on_failure") or "fail"


def advance(definition: Orchestration, state: State, hooks: Hooks) -> None:
    """Advance `state` to its next wave, or to its outcome."""
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
        ready = _ready(steps, frame["done"])
        if not ready:
            # Definitions are checked for cycles; this ends one that bypassed the checks.
            _fail_run(state, "no step can run: each waits for another")
            return
        if _skip_steps(state, frame, ready, hooks):
            continue
        _start_next(state, frame, ready, hooks)


def _ready(steps: list[Step], completed: Collection[str]) -> list[Step]:
    steps_by_name = {step["name"]: step for step in steps}
    plan = dependencies.dependency_map({"steps": steps})
    return [
        steps_by_name[name] for name in dependencies.ready(plan, completed) if name not in completed
    ]


def _skip_steps(state: State, frame: Frame, ready: list[Step], hooks: Hooks) -> bool:
    """Skip the steps of `ready` that must not run; return whether there were any."""
    before = len(frame["done"])
    for step in ready:
        condition = step.get("condition")
        missing = [
            name for name in step.get("depends_on") or []
            if frame["done"].get(name) in (FAILED, BLOCKED)
        ]
        if missing:
            reason = "it depends on %s, which did not complete" % ", ".join(missing)
            _log_skipped(state, step, reason)
            frame["done"][step["name"]] = BLOCKED
        elif condition and not hooks.holds(condition):
            _log_skipped(state, step, NOT_MET)
            frame["done"][step["name"]] = SKIPPED
    return len(frame["done"]) > before


def _log_skipped(state: State, step: Step, reason: str) -> None:
    state["log"].append(
        {
            "step_id": id_of(state, step["name"]),
            "step_name": step["name"],
            "status": SKIPPED,
            "reason": reason,
        }
    )


def _start_next(state: State, frame: Frame, ready: list[Step], hooks: Hooks) -> None:
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
        branch = first["branch"]
        assert branch is not None
        cases = branch["cases"]
        matching_cases = [index for index, case in enumerate(cases) if hooks.holds(case["when"])]
        steps = (
            cases[matching_cases[0]]["steps"] if matching_cases else branch.get("otherwise") or []
        )
        if not steps:
            _log_skipped(
                state, first, "no case holds" if not matching_cases else "its case has no steps"
            )
            frame["done"][first["name"]] = SKIPPED
            return
        branch_frame = _frame(first["name"], "branch", hooks.now())
        branch_frame["case"] = matching_cases[0] if matching_cases else None
        state["stack"].append(branch_frame)


def _start_wave(state: State, kind: str, jobs: list[str]) -> None:
    state["cursor"] += 1
    state["wave"] = {"kind": kind, "jobs": jobs}


def merge_results(
    definition: Orchestration, state: State, results: Mapping[str, StepResult], now: float
) -> float:
    """Merge the results of the wave's steps into `state`.

    :param results: {step name: StepResult} of all its steps.
    :returns: seconds to wait before the next wave: the retry delay of a sub-orchestration that is
        to run again, else 0.
    """
    delay = 0.0
    for name in wave_of(state)["jobs"]:
        step = step_of(definition, state, name)
        delay = max(delay, _apply_result(definition, state, step, results[name], now))
    state["wave"] = None
    return delay


def wave_of(state: State) -> Wave:
    """Return the wave of a state that has one, such as a checkpoint."""
    wave = state["wave"]
    assert wave is not None
    return wave


def crashed_result(child: Optional[str] = None) -> StepResult:
    """Return the StepResult of a step that left no record."""
    error = "its action ended without a result: it crashed, was killed, or timed out"
    return StepResult(FAILED, {"error": error, "attempts": 1, "duration": None}, child=child)


def reuse_completed(
    definition: Orchestration, state: State, results: Mapping[str, StepResult], now: float
) -> None:
    """Merge only the completed steps of the state's wave; the others will run again."""
    frame = state["stack"][-1]
    for name in wave_of(state)["jobs"]:
        result = results.get(name)
        if result is not None and result.status == COMPLETED:
            _apply_result(definition, state, step_of(definition, state, name), result, now)
        elif result is not None and result.child:
            frame["children"][name] = result.child
    frame["tries"] = {}
    state["wave"] = None


def _apply_result(
    definition: Orchestration, state: State, step: Step, result: StepResult, now: float
) -> float:
    frame, name = state["stack"][-1], step["name"]
    tries = frame["tries"][name] = frame["tries"].get(name, 0) + 1
    log: LogEntry = {
        "step_id": id_of(state, name), "step_name": name, "status": result.status, **result.log
    }
    frame["children"].pop(name, None)
    if step["kind"] == ORCHESTRATION:
        log["attempts"] = tries
        if result.status == FAILED and tries <= (step.get("max_retries") or 0):
            if result.child:
                frame["children"][name] = result.child
            return step.get("retry_delay") or 0
    if result.status == REFUSED:
        log["status"] = FAILED
    state["log"].append(log)
    state["context"].update(result.slots)
    if result.status == COMPLETED:
        frame["done"][name] = COMPLETED
        frame["last"] = result.output
    else:
        _mark_failed(definition, state, step, result.log.get("error"), result.status == REFUSED)
    return 0


def _mark_failed(
    definition: Orchestration, state: State, step: Step, error: Optional[str], refused: bool = False
) -> None:
    """Mark a step as failed, and its frame too if the step's policy says so."""
    frame = state["stack"][-1]
    frame["done"][step["name"]] = FAILED
    if policy(definition, step) == "fail" and not frame["failed"]:
        frame["failed"] = {"step": step["name"], "error": error, "refused": refused}


def _finish_frame(
    definition: Orchestration, state: State, remaining: list[Step], hooks: Hooks
) -> None:
    """End the innermost frame, or start the next round of its loop."""
    frame = state["stack"][-1]
    failed = frame["failed"]
    if failed:
        for step in remaining:
            _log_skipped(state, step, "not reached: step %s failed" % failed["step"])
    if frame["kind"] == "root":
        state["outcome"] = {"status": COMPLETED, "step": None, "error": None}
        if failed:
            status = REFUSED if failed["refused"] else FAILED
            state["outcome"] = {
                "status": status, "step": failed["step"], "error": failed["error"]
            }
        return
    step = _named(_outer_steps(definition, state), frame["step"])
    error = "Step %(step)s failed: %(error)s" % failed if failed else None
    loop = step["loop"]
    if loop is not None and not failed:
        until, max_rounds = loop.get("until"), loop["max_rounds"]
        met = until is not None and hooks.holds(until)
        if not met and frame["round"] < max_rounds:
            frame.update({"round": frame["round"] + 1, "done": {}, "tries": {}, "children": {}})
            return
        if until is not None and not met:
            error = "its condition did not hold after %d rounds" % max_rounds
    state["stack"].pop()
    name = step["name"]
    log: LogEntry = {
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


def _outer_steps(definition: Orchestration, state: State) -> list[Step]:
    return steps_of(definition, {**state, "stack": state["stack"][:-1]})


def _fail_run(state: State, reason: str) -> None:
    state["outcome"] = {"status": FAILED, "step": None, "error": reason}


def records_of(state: State) -> set[str]:
    """Return the keys of the records that the state refers to."""
    keys = {entry["at"] for entry in state["log"] if entry.get("at")}
    slots = list(state["context"].values()) + [frame["last"] for frame in state["stack"]]
    return keys | {slot["at"] for slot in slots if slot and "at" in slot}


def preview(definition: WithSteps, outer: str = "") -> list[tuple[PreviewEntry, Step]]:
    """Return the steps in the order in which they would run if every condition held.

    :param outer: the prefix of their ids.
    """
    steps, wave = definition["steps"], 1
    completed: set[str] = set()
    entries: list[tuple[PreviewEntry, Step]] = []
    while len(completed) < len(steps):
        ready = _ready(steps, completed)
        if not ready:
            break
        at_once = [step for step in ready if step["kind"] in AT_ONCE][:MAX_WAVE_STEPS]
        for step in at_once if ready[0]["kind"] in AT_ONCE else ready[:1]:
            name = step["name"]
            entry: PreviewEntry = {
                "step_id": outer + name, "step_name": name, "kind": step["kind"], "wave": wave
            }
            entries.append((entry, step))
            completed.add(name)
            for inner in inside(step):
                entries += preview({"steps": inner}, "%s%s/" % (outer, name))
        wave += 1
    return entries
