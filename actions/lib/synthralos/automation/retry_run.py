"""Manual retry of a failed run."""

from synthralos.automation import admission, failure_intake, outcomes
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.runtime import run_parameters
from synthralos.storage.stackstorm_api import ENDED

ATTRIBUTES = "id,status,parameters,result,context,action,start_timestamp,trigger_instance"
# Parameters that are passed to the new run unchanged: numbers, enums and names.
_PLAIN = ("agent_id", "failure_type", "max_retries", "retry_delay", "timeout", "max_steps")
_TEXT = {
    "agent_recovery": ("original_query", "failure_details", "context"),
    "llm_retry": ("original_request", "failure_reason"),
    "reroute_request": ("original_request", "failure_reason"),
}
_CONSTANTS = {"original_query": "@case", "failure_reason": "@case", "original_request": {}}


def retry(env, config, execution, model=None, region=None):
    """Start a failed execution again.

    A run of this pack is started with its own parameters; the failed execution of another action is
    handled as the rule failed_execution would handle it.

    :param execution: an execution of StackStorm, with ATTRIBUTES.
    :param model: for llm_retry, the first fallback model.
    :param region: for reroute_request, the first fallback region.
    :returns: {run, workflow} of the new run.
    :raises InvalidInput: the execution has not ended, or no workflow fits it.
    """
    execution_id = execution["id"]
    if execution.get("status") not in ENDED:
        raise InvalidInput(
            "execution_id", execution_id, "has not ended", "Wait until it ends, or cancel it"
        )
    ref = (execution.get("action") or {}).get("ref") or ""
    pack, _, name = ref.partition(".")
    if pack == failure_intake.PACK:
        workflow, parameters, request = _pack_run(env, execution, name)
    else:
        incident = failure_intake.incident_of(env, config, execution)
        if incident.workflow is None or incident.blocked is not None:
            raise InvalidInput(
                "execution_id", execution_id, outcomes.REASONS[incident.blocked],
                "Name a workflow for %s in automation.failed_actions" % ref,
            )
        workflow, parameters = incident.workflow, incident.parameters
        request = incident.request
    parameters = dict(parameters, **_override_target(workflow, model, region))
    run = admission.start(env, workflow, parameters, request, "retry-" + execution_id)
    return {"run": run, "workflow": workflow}


def _pack_run(env, execution, name):
    if name not in _TEXT:
        hint = "Retry a run of " + ", ".join(_TEXT)
        raise InvalidInput("execution_id", execution["id"], "is a run of %s" % name, hint)
    inputs = run_parameters.read_parameters(execution, env.store)
    parameters = {key: inputs[key] for key in _PLAIN if inputs.get(key) is not None}
    parameters.update(
        {key: _CONSTANTS[key] for key in _TEXT[name] if key in _CONSTANTS}
    )
    for key in ("fallback_models", "fallback_regions", "fallback_providers"):
        if inputs.get(key):
            parameters[key] = [require_identifier(key, target) for target in inputs[key]]
    return name, parameters, {key: inputs[key] for key in _TEXT[name] if inputs.get(key)}


def _override_target(workflow, model, region):
    overrides = {}
    if model is not None:
        overrides["llm_retry"] = {"fallback_models": [require_identifier("model", model)]}
    if region is not None:
        overrides["reroute_request"] = {"fallback_regions": [require_identifier("region", region)]}
    for name, override in overrides.items():
        if name != workflow:
            field = "model" if name == "llm_retry" else "region"
            value = next(iter(override.values()))[0]
            raise InvalidInput(field, value, "does not apply to %s" % workflow, "Leave it out")
    return overrides.get(workflow, {})
