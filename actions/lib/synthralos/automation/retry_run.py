"""Runs that have failed, started again: by a person, or by a redrive.

A run of this pack is run again as StackStorm runs executions again, so that the new run refers to
it: it joins what an agent may still do for it. Its text is sealed into a case, because StackStorm
renders parameters as templates each time.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.automation import admission, decision, failure_intake, outcomes
from synthralos.automation.config import AutomationConfig
from synthralos.core import sealing
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import encode_key_part, require_identifier
from synthralos.runtime import run_parameters
from synthralos.runtime.environment import Environment
from synthralos.runtime.run_parameters import RedriveMark
from synthralos.storage.datastore import PREFIX
from synthralos.storage.retention_store import case_seconds
from synthralos.storage.stackstorm_api import ENDED

ATTRIBUTES = "id,status,parameters,result,context,action,start_timestamp,trigger_instance"
# The parameters that hold text, and what stands in their place while a case holds it.
_TEXT: dict[str, dict[str, Any]] = {
    "agent_recovery": {"original_query": "@case", "failure_details": {}, "context": {}},
    "llm_retry": {"original_request": {}, "failure_reason": "@case"},
    "reroute_request": {"original_request": {}, "failure_reason": "@case"},
}
WORKFLOWS = tuple(_TEXT)
_TEMPLATE = re.compile(r"\{\{|\{%")


@dataclass(frozen=True)
class Rerun:
    """What a run is run again with.

    :ivar workflow: one of WORKFLOWS.
    :ivar inputs: its parameters, with the text that they stand for.
    :ivar execution: the run itself, as StackStorm's API returns it.
    """

    workflow: str
    inputs: dict[str, Any]
    execution: dict[str, Any]

    def start(
        self,
        env: Environment,
        overrides: Optional[dict[str, Any]] = None,
        mark: Optional[RedriveMark] = None,
    ) -> str:
        """Start it, and return the id of the new run.

        :param overrides: parameters in place of its own: names and lists of names.
        :raises StackStormError: it may have been started nevertheless, unless the error is
            `refused`.
        """
        constants = _TEXT[self.workflow]
        request = {name: self.inputs[name] for name in constants if self.inputs.get(name)}
        if isinstance(self.inputs.get("rules"), dict):
            request["rules"] = self.inputs["rules"]
        content: dict[str, Any] = {"request": request}
        if self.inputs.get("trace"):
            content["trace"] = self.inputs["trace"]
        if mark is not None:
            content["redrive"] = mark
        key = "%scase.%s.retry-%s" % (
            PREFIX, encode_key_part(env.run or "none"), self.execution["id"]
        )
        seconds = case_seconds(env.settings, self.inputs.get("timeout") or decision.HOUR)
        case = sealing.seal(
            env.redactor.remove_secrets(content), env.store, key, seconds=seconds
        )
        api: Any = env.api
        parameters = dict(constants, case=case, **(overrides or {}))
        run: str = api.re_run(self.execution["id"], parameters)
        return run


def prepare(env: Environment, execution: dict[str, Any]) -> Rerun:
    """Return the Rerun of a run of this pack.

    :param execution: an execution of StackStorm, with ATTRIBUTES.
    :raises InvalidInput: no workflow runs it again, or its request is no longer known.
    """
    name = ((execution.get("action") or {}).get("ref") or "").partition(".")[2]
    if name not in _TEXT:
        hint = "Retry a run of " + ", ".join(_TEXT)
        raise InvalidInput("execution_id", execution["id"], "is a run of %s" % name, hint)
    stored = execution.get("parameters") or {}
    _refuse_masked(stored)
    for parameter, value in stored.items():
        if parameter not in _TEXT[name] and _TEMPLATE.search(json.dumps(value)):
            raise InvalidInput(
                parameter, None, "holds a template, which StackStorm would render",
                "Start the workflow with other parameters",
            )
    return Rerun(name, run_parameters.read_parameters(execution, env.store), execution)


def retry(
    env: Environment,
    config: AutomationConfig,
    execution: dict[str, Any],
    model: Optional[str] = None,
    region: Optional[str] = None,
) -> dict[str, Any]:
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
    if ref.partition(".")[0] == failure_intake.PACK:
        rerun = prepare(env, execution)
        run = rerun.start(env, _override_target(rerun.workflow, model, region))
        return {"run": run, "workflow": rerun.workflow}
    incident = failure_intake.incident_of(env, config, execution)
    if incident.workflow is None or incident.blocked is not None:
        reason = outcomes.REASONS[incident.blocked or outcomes.NO_WORKFLOW]
        raise InvalidInput(
            "execution_id", execution_id, reason,
            incident.details.get("hint") or
            "Name a workflow for %s in automation.failed_actions" % ref,
        )
    workflow = incident.workflow
    parameters = dict(incident.parameters, **_override_target(workflow, model, region))
    run = admission.start(env, workflow, parameters, incident.request, "retry-" + execution_id)
    return {"run": run, "workflow": workflow}


def _refuse_masked(stored: dict[str, Any]) -> None:
    """Raise InvalidInput for a parameter that StackStorm has masked: its text is not known."""
    for name, value in stored.items():
        if failure_intake.MASKED in _texts(value):
            raise InvalidInput(
                name, failure_intake.MASKED, "is a secret that StackStorm does not show",
                "Start the workflow again with the text itself, or as base64:<UTF-8 in base64>",
            )


def _texts(value: Any) -> set[str]:
    """Return the texts in a JSON value, at any depth."""
    if isinstance(value, str):
        return {value}
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)):
        return set()
    return set().union(*map(_texts, members))


def _override_target(
    workflow: str, model: Optional[str], region: Optional[str]
) -> dict[str, Any]:
    overrides: dict[str, dict[str, Any]] = {}
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
