"""The workflow infrastructure_repair: a state machine, one task a state.

    INIT -> FAILURE_DETECTION -> IMPACT_ANALYSIS -> REPAIR_PLANNING -> EXECUTION -> RESCHEDULING
    -> FINAL, with EXECUTION -> REPAIR_PLANNING for nodes that could not be assigned,
    RESCHEDULING -> FAILURE_DETECTION for nodes that have failed since,
    RESCHEDULING -> REPAIR_PLANNING for nodes that the action of their crew has not repaired,
    RESCHEDULING -> RESCHEDULING, after a wait, while a repair cannot be judged yet,
    EXECUTION -> EXECUTION, after a wait, while another run acts on one of the nodes (turns),
    EXECUTION -> REPAIR_PLANNING if the configuration has changed since the plan, and
    RESCHEDULING or EXECUTION -> REPAIR_PLANNING for further alerts of a node.

Here are its states, its first task, and the transitions. Each of the modules detection_state,
planning_state, execution_state and rescheduling_state executes the states of its name and returns
the next task in `next_task`; outcome is the last. `failures` holds the nodes without a crew. A node
whose alert matches a runbook is repaired by its steps (runbook_steps), others by crews, and the
alerts of a node one after the other. A node that is assigned to people stays assigned; one whose
repair by an action fails its check (repair_check) is planned again, for the next step, or for a
crew that has not been assigned to it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from synthralos.calls import backoff
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.timestamps import to_iso
from synthralos.infrastructure import detection, outcome, silences
from synthralos.infrastructure.config import load_config
from synthralos.runtime import workflow_run
from synthralos.runtime.environment import Environment

DEFAULT_RUN_SECONDS = 600
MAX_STEPS, MAX_RETRIES = 100, 10
DEFAULTS = {"max_steps": 10, "max_retries": 3}
MIN_CALL_SECONDS = 1.0
INIT, DETECTION, IMPACT, PLANNING, EXECUTION, RESCHEDULING, FINAL = STATES = (
    "INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
    "RESCHEDULING", "FINAL",
)
# The task of a state, as in `next_task`.
_TASK_OF_STATE = {
    DETECTION: "detect", IMPACT: "estimate", PLANNING: "plan", EXECUTION: "execute",
    RESCHEDULING: "reschedule", FINAL: "final",
}
# The result of a task, {summary, next_task, state, action, next, and what the task adds}; with
# False before it, of a task after which the run cannot continue.
Result = dict[str, Any]
TaskResult = Union[Result, tuple[bool, Result]]


def begin(
    env: Environment,
    parameters: Mapping[str, Any],
    started: float,
    payload: Optional[Mapping[str, Any]] = None,
) -> Result:
    """Return the result of repair.begin: the run's case, in state FAILURE_DETECTION.

    :param parameters: of the workflow, resolved.
    :param payload: of the trigger that started the workflow, or None.
    """
    case = new_case(env, parameters, started, payload)
    request = case["request"]
    summary = "run %s: failures by %s" % (case["run"] or "local", request["source"])
    extra = {"source": request["source"], "deadline": to_iso(case["deadline"])}
    return transition_to(env, case, DETECTION, "initialize", {}, summary, **extra)


def new_case(
    env: Environment,
    parameters: Mapping[str, Any],
    started: float,
    payload: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
    """Return a new case in state INIT; see `begin` for the parameters."""
    config = load_config(env)
    inputs = dict(DEFAULTS, **{k: v for k, v in parameters.items() if v is not None})
    request = detection.parse_request(config, inputs, payload)
    case: dict[str, Any] = workflow_run.new_case(
        env,
        outcome.WORKFLOW,
        DEFAULT_RUN_SECONDS,
        inputs,
        started,
        request,
        {},
        failed_at=workflow_run.failed_at(started, *_alert_start_times(request["alert"])),
        max_steps=workflow_run.whole_number(inputs, "max_steps", 1, MAX_STEPS),
        max_retries=workflow_run.whole_number(inputs, "max_retries", 1, MAX_RETRIES),
        state=INIT,
        approval=inputs.get("approval"),
        steps=0,
        step_history=[],
        plan_history=[],
        failures=[],
        known=[],
        cascade=[],
        assignments=[],
        resolved=[],
        refused_nodes=[],
        unresolved_alerts=[],
        tried={},
        ineffective={},
        repair_retries=0,
        alerts={},
        witnessed=[],
        seen_down=[],
        checks=[],
        impact={"nodes": [], "total": {}},
        plan=None,
        retry_count=0,
        asked_at=None,
        asked_about={},
        approved=[],
        turn=None,
        silences=[],
        polls=0,
        look_first=[],
        outcome=None,
        reason=None,
    )
    return case


def _alert_start_times(alert: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the start times in an alert; a webhook of Alertmanager contains several alerts."""
    for item in detection.alerts_in(alert):
        if isinstance(item, dict):
            yield item.get("startsAt") or item.get("starts_at")


def require_state(case: Mapping[str, Any], state: str) -> None:
    """Raise InvalidInput if the case is in another state than `state`."""
    if case["state"] != state:
        raise InvalidInput(
            "case", None, "is in state %s" % case["state"], "Pass on `next` as it was returned"
        )


def record_step(
    case: Mapping[str, Any], before: str, after: str, action: str, data: Mapping[str, Any]
) -> None:
    """Append to the history of the run: `action` led from the state `before` to `after`."""
    case["step_history"].append(
        {"from_state": before, "to_state": after, "action": action, "data": data}
    )


def transition_to(
    env: Environment,
    case: dict[str, Any],
    next_state: str,
    action: str,
    data: Mapping[str, Any],
    summary: str,
    delay: int = 0,
    **extra: Any,
) -> Result:
    """Return the result that moves the workflow to `next_state`, or to FINAL if it must stop.

    A run that stops early keeps the state that it reached in its case. FINAL is always executed.

    :param action: the name of the transition in the history of the run; `data`: what belongs to it.
    :param delay: whole seconds until the next task.
    :param extra: further keys of the result.
    """
    record_step(case, case["state"], next_state, action, data)
    case["state"] = next_state
    case["steps"] += 1
    case["progress"]["cursor"] += 1
    next_task = _TASK_OF_STATE[next_state]
    if next_state != FINAL:
        stopped = None
        if case["steps"] >= case["max_steps"]:
            stopped = outcome.MAX_STEPS, "max_steps (%d) was reached" % case["max_steps"]
        elif not env.deadline(case).allows_attempt():
            stopped = outcome.OUT_OF_TIME, "the time limit was reached"
        if stopped is not None:
            (case["outcome"], case["reason"]), next_task, delay = stopped, _TASK_OF_STATE[FINAL], 0
            summary = "%s; stopped: %s" % (summary, stopped[1])
    if next_task != _TASK_OF_STATE[FINAL]:
        silences.extend(env, case, delay)
    result = {"summary": summary, "next_task": next_task, "state": case["state"], "action": action}
    return dict(result, **extra, next=workflow_run.next_step(env, case, delay))


def repeat_state(
    env: Environment, case: dict[str, Any], action: str, summary: str, delay: int, **extra: Any
) -> Result:
    """Return the result that executes the state of the case again after `delay` whole seconds.

    It is no transition to another state, so it does not count towards max_steps.

    :param extra: further keys of the result.
    """
    case["progress"]["cursor"] += 1
    return {
        "summary": summary,
        "next_task": _TASK_OF_STATE[case["state"]],
        "state": case["state"],
        "action": action,
        **extra,
        "next": workflow_run.next_step(env, case, delay),
    }


def fail_task(
    env: Environment, case: dict[str, Any], subject: str, failure: Failure
) -> tuple[bool, Result]:
    """Return (False, result) of a task after which the run cannot continue."""
    error = dict(failure.as_dict(), message="%s: %s" % (subject, failure.message))
    case["gave_up"] = {"reason": error["message"], "error": error}
    return False, {
        "summary": error["message"],
        "error": error,
        "next": None,
        "carry": workflow_run.seal_case(env, case),
    }


def call_seconds(env: Environment, case: Mapping[str, Any]) -> float:
    """Return the time limit of calls to Prometheus and Alertmanager: what is left of the run."""
    seconds_left: float = env.deadline(case).seconds_left()
    return max(MIN_CALL_SECONDS, seconds_left)


def limit_delay(env: Environment, case: Mapping[str, Any], seconds: float) -> int:
    """Return `seconds`, but at most half of what is left of the run, as whole seconds."""
    seconds_left: float = env.deadline(case).seconds_left()
    return backoff.round_up(min(seconds, max(0.0, seconds_left / 2)))
