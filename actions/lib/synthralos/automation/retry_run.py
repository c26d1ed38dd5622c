"""A failed run once more, because a person wants it."""

from synthralos.automation import admission, failure_intake
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.runtime import run_parameters
from synthralos.storage.stackstorm_api import ENDED

ATTRIBUTES = "id,status,parameters,result,context,action,start_timestamp,trigger_instance"
# What crosses into the new run as it is: numbers, enums and names.
_PLAIN = ("agent_id", "failure_type", "max_retries", "retry_delay", "timeout", "max_steps")
_TEXT = {
    "agent_recovery": ("original_query", "failure_details", "context"),
    "llm_retry": ("original_request", "failure_reason"),
    "reroute_request": ("original_request", "failure_reason"),
}
_CONSTANTS = {"original_query": "@case", "failure_reason": "@case", "original_request": {}}


def retry(env, config, execution, model=None, region=None):
    """{run, workflow} of the new run.

    A run of this pack is started again with its own parameters, the failed execution of another
    action as failed_execution would start it.

    :param execution: as StackStorm has it, with ATTRIBUTES.
    :param model: the first model to fall back to, for llm_retry; region: likewise for
        reroute_request.
    :raises InvalidInput: the execution goes on, or nothing fits it.
    """
    execution_id = execution["id"]
    if execution.get("status") not in ENDED:
        raise InvalidInput(
            "execution_id", execution_id, "has not ended", "Wait for it, or cancel it"
        )
    ref = (execution.get("action") or {}).get("ref") or ""
    pack, _, name = ref.partition(".")
    if pack == failure_intake.PACK:
        workflow, parameters, request = _pack_run(env, execution, name)
    else:
        incident = failure_intake.incident_of(env, config, execution)
        if incident.workflow is None or incident.blocked is not None:
            raise InvalidInput(
                "execution_id", execution_id, admission.REASONS[incident.blocked],
                "Name a workflow for %s in automation.failed_actions" % ref,
            )
        workflow, parameters = incident.workflow, incident.parameters
        request = incident.request
    parameters = dict(parameters, **_override_target(workflow, model, region))
    run = admission.start(env, workflow, parameters, request, "retry-" + execution_id)
    return {"run": run, "workflow": workflow}


def _pack_run(env, execution, name):
    if name not in _TEXT:
        way_out = "Retry a run of " + ", ".join(_TEXT)
        raise InvalidInput("execution_id", execution["id"], "is a run of %s" % name, way_out)
    given = run_parameters.read_parameters(execution, env.store)
    parameters = {key: given[key] for key in _PLAIN if given.get(key) is not None}
    parameters.update(
        {key: _CONSTANTS[key] for key in _TEXT[name] if key in _CONSTANTS}
    )
    for key in ("fallback_models", "fallback_regions", "fallback_providers"):
        if given.get(key):
            parameters[key] = [require_identifier(key, one) for one in given[key]]
    return name, parameters, {key: given[key] for key in _TEXT[name] if given.get(key)}


def _override_target(workflow, model, region):
    wanted = {}
    if model is not None:
        wanted["llm_retry"] = {"fallback_models": [require_identifier("model", model)]}
    if region is not None:
        wanted["reroute_request"] = {"fallback_regions": [require_identifier("region", region)]}
    for name, asked in wanted.items():
        if name != workflow:
            field = "model" if name == "llm_retry" else "region"
            value = next(iter(asked.values()))[0]
            raise InvalidInput(field, value, "means nothing to %s" % workflow, "Leave it out")
    return wanted.get(workflow, {})
