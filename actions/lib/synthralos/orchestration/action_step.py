"""Action steps: start a StackStorm action that the configuration allows, and wait for its end.

StackStorm renders the parameters of an action as Jinja, and the inputs of a workflow as YAQL too.
The parameters of a step come from models and callers, so they must not reach it as templates. Text
with template marks is passed to a workflow of this pack as `base64:...`, which it decodes. For any
other action the marks are broken by a space, as in everything that leaves the pack, and the step
log names the parameters that were changed.
"""

import base64
import json
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, TypedDict

from synthralos.calls import output_schema
from synthralos.calls.deadline import MIN_ATTEMPT_SECONDS
from synthralos.core import sanitize, sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import to_json_safe
from synthralos.orchestration import templates
from synthralos.orchestration.config import configuration
from synthralos.orchestration.step_limits import StepError, StepOutcome, StepTimeLimit
from synthralos.runtime.run_parameters import ENCODED
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError
from synthralos.telemetry import run_log, tracing

if TYPE_CHECKING:
    from synthralos.orchestration.run_context import Context
    from synthralos.orchestration.scheduler import LogEntry
    from synthralos.orchestration.step_schema import Step
    from synthralos.runtime.environment import Environment
    from synthralos.runtime.workflow_run import Case

PACK = "synthralos"
AGENT_WORKFLOW = "synthralos.agent_recovery"
MAX_ERROR_SHOWN = 500
POLL_SECONDS = 0.5


class Action(TypedDict):
    """An action of StackStorm. `ref`: with its pack, such as core.http."""

    ref: str
    pack: Optional[str]
    runner_type: Optional[str]


def run(
    env: "Environment",
    case: "Case",
    step: "Step",
    step_input: dict[str, Any],
    request: str,
    sleep: Callable[[float], None] = time.sleep,
) -> StepOutcome:
    """Run the action of `step` until an attempt succeeds or no attempt or time remains.

    :param step_input: the rendered parameters of the action.
    :param request: identifies the step in the run and in all runs that continue it.
    :param sleep: waits between attempts and polls, in seconds.
    :returns: a StepOutcome; a failed action is an outcome, not an exception.
    :raises InvalidInput: the action is not allowed, or does not exist.
    """
    action = allowed(env, step["action"])
    parameters, note = _safe(action, _with_key(action["ref"], step_input, request))
    limits = StepTimeLimit(step, env.deadline(case), env.now)
    retries, delay = step.get("max_retries") or 0, step.get("retry_delay") or 0
    log_fields: LogEntry = {"note": note} if note else {}
    attempts = 0
    while True:
        attempts += 1
        seconds = limits.attempt().seconds_left()
        error: Optional[StepError]
        if seconds < MIN_ATTEMPT_SECONDS:
            error = {"cause": "timeout", "message": "no time remained to start the action"}
        else:
            with tracing.span("execute " + action["ref"], {"synthralos.attempt": attempts}) as span:
                output, error, log_fields["execution_id"] = _execute_once(
                    env, action["ref"], _traced(action, parameters), seconds, sleep
                )
                span.set({"synthralos.started": log_fields["execution_id"]})
                if error is not None:
                    span.fail(error["cause"])
            if error is None and step.get("schema"):
                output, problem = output_schema.accept_output(output, step["schema"])
                if problem is not None:
                    error = {"cause": problem.cause, "message": problem.message}
            if error is None:
                return StepOutcome(attempts, output, log_fields=log_fields)
        run_log.emit("step_attempt", number=attempts, outcome=error["cause"])
        unknown = error["cause"] == "unknown"
        if attempts > retries or unknown or not limits.allows(delay):
            return StepOutcome(attempts, error=error, log_fields=log_fields)
        sleep(delay)


def allowed(env: "Environment", ref: Optional[str]) -> Action:
    """Return the action `ref`.

    :raises InvalidInput: the configuration does not allow it, or StackStorm does not have it.
    """
    config = configuration(env)
    if ref not in config.allowed_actions:
        allowed_names = ", ".join(config.allowed_actions) or "none"
        hint = (
            "Add it to orchestration.allowed_actions of the configuration (now: %s)" % allowed_names
        )
        raise InvalidInput("action", ref, "is not allowed", hint)
    if env.api is None:
        raise InvalidInput(
            "action", ref, "cannot run without StackStorm's API", "Run on StackStorm"
        )
    action = env.api.action(ref)
    if action is None:
        raise InvalidInput("action", ref, "does not exist in this StackStorm", "Install its pack")
    return {
        "ref": ref, "pack": action.get("pack"), "runner_type": action.get("runner_type")
    }


def parameters_of(step: "Step", context: "Context") -> dict[str, Any]:
    """Render the parameters of `step` from the context; its input mapping overrides them."""
    parameters = dict(step.get("parameters") or {})
    step_input = step.get("input")
    # Only that of an LLM step may be a text.
    assert not isinstance(step_input, str)
    parameters.update(step_input or {})
    rendered: dict[str, Any] = templates.render(parameters, context.template_roots(parameters))
    return rendered


def _with_key(ref: str, parameters: dict[str, Any], request: str) -> dict[str, Any]:
    """Add to the parameters of an agent's run what lets a resumed orchestration join it."""
    context = parameters.get("context") or {}
    if ref != AGENT_WORKFLOW or not isinstance(context, dict):
        return parameters
    return dict(parameters, context=dict({"idempotency_key": request}, **context))


def _execute_once(
    env: "Environment",
    ref: str,
    parameters: dict[str, Any],
    seconds: float,
    sleep: Callable[[float], None],
) -> tuple[Any, Optional[StepError], Optional[str]]:
    """Run the action once.

    :param seconds: how long to wait before the execution is cancelled.
    :returns: (output, None, execution id), or (None, error, execution id or None).
    """
    deadline = env.now() + seconds
    try:
        started = env.api.start(ref, parameters)
    except StackStormError as error:
        # Unless StackStorm refused it, the action may be running: do not start it twice.
        cause = "not_started" if error.refused else "unknown"
        return None, {"cause": cause, "message": str(error)}, None
    execution = _wait_for_end(env, started, deadline, sleep)
    if execution is None:
        env.api.cancel(started)
        message = "execution %s did not end within %d s and was cancelled" % (started, seconds)
        return None, {"cause": "timeout", "message": message}, started
    result = execution.get("result")
    if execution["status"] == "succeeded":
        return _output_of(result), None, started
    message = "execution %s ended as %s%s" % (
        started,
        execution["status"],
        _failure_text(env, result),
    )
    return None, {"cause": "action_failed", "message": message}, started


def _wait_for_end(
    env: "Environment", started: str, deadline: float, sleep: Callable[[float], None]
) -> Optional[dict[str, Any]]:
    """Poll the execution until it ends; return it, or None when `deadline` passes first."""
    while True:
        try:
            execution: dict[str, Any] = env.api.execution(started, "status,result")
        except ExecutionNotFound:
            raise
        except StackStormError:
            # The API is briefly unavailable; the execution itself continues.
            execution = {}
        if execution.get("status") in ENDED:
            return execution
        if env.now() >= deadline:
            return None
        sleep(min(POLL_SECONDS, max(0.05, deadline - env.now())))


def _output_of(result: Any) -> Any:
    """Return the output of an action; where it is depends on the action's runner."""
    if isinstance(result, dict):
        for name in ("result", "output"):
            if name in result:
                return result[name]
    return result


def _failure_text(env: "Environment", result: Any) -> str:
    """Return ": " and the end of a failed action's own error text, or "" if it has none."""
    result = result if isinstance(result, dict) else {}
    # A workflow of this pack says in its output why it failed.
    body = result.get("result") or result.get("output")
    body = body if isinstance(body, dict) else {}
    for detail in (body.get("error"), body.get("summary"), result.get("error"),
                  result.get("stderr"), result.get("errors")):
        if detail:
            detail = detail.get("message", detail) if isinstance(detail, dict) else detail
            text = detail if isinstance(detail, str) else json.dumps(detail)
            return ": " + env.redactor.redact_text(" ".join(text.split()))[-MAX_ERROR_SHOWN:]
    return ""


def _is_own_workflow(action: Action) -> bool:
    return action.get("pack") == PACK and action.get("runner_type") == "orquesta"


def _traced(action: Action, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add the trace context to the parameters of this pack's workflows, in a case of its own."""
    trace = tracing.propagation_headers()
    if trace is None or "case" in parameters or not _is_own_workflow(action):
        return parameters
    return dict(parameters, case=sealing.seal({"request": {}, "trace": trace}))


def _safe(action: Action, parameters: dict[str, Any]) -> tuple[dict[str, Any], Optional[str]]:
    """Remove everything that StackStorm would render.

    :returns: (parameters, a note for the step log or None when nothing was changed).
    """
    own_workflow = _is_own_workflow(action)
    changed: list[str] = []
    safe = _neutralize(to_json_safe(parameters), own_workflow, "", changed)
    if not changed:
        return safe, None
    treatment = "were sent encoded" if own_workflow else "were broken by spaces"
    names = ", ".join(sorted(map(sanitize.break_template_marks, set(changed))))
    return safe, "template marks %s in: %s" % (treatment, names)


def _neutralize(value: Any, own_workflow: bool, name: str, changed: list[str]) -> Any:
    if isinstance(value, str):
        if not sanitize.has_template_marks(value):
            return value
        changed.append(name)
        if not own_workflow:
            return sanitize.break_template_marks(value)
        return ENCODED + base64.b64encode(value.encode("utf-8")).decode("ascii")
    if isinstance(value, dict):
        return {
            sanitize.break_template_marks(key): _neutralize(
                item, own_workflow, name or key, changed
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_neutralize(item, own_workflow, name, changed) for item in value]
    return value
