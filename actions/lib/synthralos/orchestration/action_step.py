"""An action step: a StackStorm action that the configuration allows, started and waited for.

StackStorm renders what it is given as Jinja, and a workflow's inputs as YAQL too. The parameters of
a step come of models and callers, so they must not reach it as templates. A text parameter with a
template's marks goes to a workflow of this pack as `base64:...`, which it decodes; for any other
action the marks are broken by a space, as in everything that leaves the pack, and the step log
says in which parameters.
"""

import base64
import json
import time

from synthralos.calls import agent_platform
from synthralos.calls.deadline import MIN_ATTEMPT_SECONDS
from synthralos.core import sanitize, sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import to_json_safe
from synthralos.orchestration import templates
from synthralos.orchestration.config import configuration
from synthralos.orchestration.step_limits import StepOutcome, StepTimeLimit
from synthralos.runtime.run_parameters import ENCODED
from synthralos.storage.stackstorm_api import ENDED, ExecutionNotFound, StackStormError
from synthralos.telemetry import run_log, tracing

PACK = "synthralos"
MAX_ERROR_SHOWN = 500
POLL_SECONDS = 0.5


def run(env, case, step, given, sleep=time.sleep):
    """The Done of the step; `given` is its parameters, resolved. InvalidInput when it may not run."""
    action = allowed(env, step["action"])
    parameters, note = _safe(action, given)
    limits = StepTimeLimit(step, env.deadline(case), env.now)
    retries, delay = step.get("max_retries") or 0, step.get("retry_delay") or 0
    told = {"note": note} if note else {}
    attempts = 0
    while True:
        attempts += 1
        seconds = limits.attempt().seconds_left()
        if seconds < MIN_ATTEMPT_SECONDS:
            error = {"cause": "timeout", "message": "the time was up before the action could begin"}
        else:
            with tracing.span("execute " + action["ref"], {"synthralos.attempt": attempts}) as span:
                output, error, told["execution_id"] = _once(
                    env, action["ref"], _traced(action, parameters), seconds, sleep
                )
                span.set({"synthralos.started": told["execution_id"]})
                if error is not None:
                    span.fail(error["cause"])
            if error is None and step.get("schema"):
                problem = agent_platform.validate_output(output, step["schema"])
                if problem is not None:
                    error = {"cause": problem.cause, "message": problem.message}
            if error is None:
                return StepOutcome(attempts, output, **told)
        run_log.emit("step_attempt", number=attempts, outcome=error["cause"])
        unknown = error["cause"] == "unknown"
        if attempts > retries or unknown or not limits.allows(delay):
            return StepOutcome(attempts, error=error, **told)
        sleep(delay)


def allowed(env, ref):
    """StackStorm's metadata of the action `ref`. InvalidInput when no step may run it."""
    config = configuration(env)
    if ref not in config.allowed_actions:
        known = ", ".join(config.allowed_actions) or "none"
        way_out = "Add it to orchestration.allowed_actions of the configuration (now: %s)" % known
        raise InvalidInput("action", ref, "is not allowed", way_out)
    if env.api is None:
        raise InvalidInput(
            "action", ref, "there is no StackStorm API to run it", "Run on StackStorm"
        )
    action = env.api.action(ref)
    if action is None:
        raise InvalidInput("action", ref, "is no action of this StackStorm", "Install its pack")
    return dict(action, ref=ref)


def parameters_of(step, context):
    """The parameters of the step, resolved from the context; its input mapping is over them."""
    given = dict(step.get("parameters") or {})
    given.update(step.get("input") or {})
    return templates.render(given, context.template_roots(given))


def _once(env, ref, parameters, seconds, sleep):
    """(output, None, execution id) or (None, error, execution id or None) of one execution."""
    until = env.now() + seconds
    try:
        started = env.api.start(ref, parameters)
    except StackStormError as error:
        # It may run all the same: then another one would be one too many.
        cause = "not_started" if error.refused else "unknown"
        return None, {"cause": cause, "message": str(error)}, None
    execution = _ended(env, started, until, sleep)
    if execution is None:
        env.api.cancel(started)
        message = "execution %s was not over within %d s: it was cancelled" % (started, seconds)
        return None, {"cause": "timeout", "message": message}, started
    result = execution.get("result")
    if execution["status"] == "succeeded":
        return _output_of(result), None, started
    message = "execution %s ended as %s%s" % (started, execution["status"], _said(env, result))
    return None, {"cause": "action_failed", "message": message}, started


def _ended(env, started, until, sleep):
    """The execution once it has ended; None when it has not by then."""
    while True:
        try:
            execution = env.api.execution(started, "status,result")
        except ExecutionNotFound:
            raise
        except StackStormError:
            # StackStorm is away for a moment; what it runs goes on.
            execution = {}
        if execution.get("status") in ENDED:
            return execution
        if env.now() >= until:
            return None
        sleep(min(POLL_SECONDS, max(0.05, until - env.now())))


def _output_of(result):
    """What an action gives, by the form of its runner's result."""
    if isinstance(result, dict):
        for name in ("result", "output"):
            if name in result:
                return result[name]
    return result


def _said(env, result):
    """What a failed action says of its failure."""
    result = result if isinstance(result, dict) else {}
    inner = result.get("result")
    inner = inner if isinstance(inner, dict) else {}
    for found in (inner.get("error"), inner.get("summary"), result.get("error"),
                  result.get("stderr"), result.get("errors")):
        if found:
            found = found.get("message", found) if isinstance(found, dict) else found
            found = found if isinstance(found, str) else json.dumps(found)
            return ": " + env.redactor.redact_text(" ".join(found.split()))[-MAX_ERROR_SHOWN:]
    return ""


def _is_ours(action):
    return action.get("pack") == PACK and action.get("runner_type") == "orquesta"


def _traced(action, parameters):
    """The parameters; a workflow of this pack gets the trace too, in a case that holds no more."""
    trace = tracing.propagation_headers()
    if trace is None or "case" in parameters or not _is_ours(action):
        return parameters
    return dict(parameters, case=sealing.seal({"request": {}, "trace": trace}))


def _safe(action, given):
    """(parameters, note): without anything that StackStorm would render."""
    ours = _is_ours(action)
    changed = []
    safe = _harmless(to_json_safe(given), ours, None, changed)
    if not changed:
        return safe, None
    how = "went encoded" if ours else "were broken by spaces"
    names = ", ".join(sorted(map(sanitize.break_template_marks, set(changed))))
    return safe, "template marks %s in: %s" % (how, names)


def _harmless(value, ours, name, changed):
    if isinstance(value, str):
        if not sanitize.has_template_marks(value):
            return value
        changed.append(name)
        if not ours:
            return sanitize.break_template_marks(value)
        return ENCODED + base64.b64encode(value.encode("utf-8")).decode("ascii")
    if isinstance(value, dict):
        return {
            sanitize.break_template_marks(key): _harmless(item, ours, name or key, changed)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_harmless(item, ours, name, changed) for item in value]
    return value
