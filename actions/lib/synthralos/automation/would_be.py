"""What a run would do, planned by rules and without effect: no LLM is asked and nobody is assigned.
"""

from typing import Any

from synthralos.automation.incident import Incident
from synthralos.core.errors import InvalidInput
from synthralos.runtime.environment import Environment
from synthralos.storage.stackstorm_api import StackStormError


def plan(env: Environment, incident: Incident) -> dict[str, Any]:
    """Return what the run of an incident would begin with.

    :returns: {assignments: [{node, crew, requires_approval, and of a runbook's step: step, action,
        parameters}], unassigned: [{node, reason}], steps (of the runbook): [{name, action, crew,
        approval}]} of infrastructure_repair; {agent_id, failure_type} of agent_recovery;
        {failure_type} of the others; {error}, a text, if it cannot be planned. A run would fail in
        the same way.
    """
    if incident.workflow == "infrastructure_repair":
        try:
            return _repair(env, incident)
        except (InvalidInput, StackStormError) as error:
            return {"error": env.redactor.redact_text(str(error))}
    names = ("agent_id", "failure_type")
    named = {name: incident.parameters[name] for name in names if name in incident.parameters}
    return dict({"failure_type": incident.failure["type"]}, **named)


def is_empty(summary: dict[str, Any]) -> bool:
    """Return whether the run of what `plan` returned would have nothing to do."""
    return "error" in summary or summary.get("assignments") == []


def crews_of(summary: dict[str, Any]) -> list[str]:
    """Return the names of the crews in what `plan` returned, each once; a runbook's step is none.
    """
    return sorted({
        assignment["crew"]
        for assignment in summary.get("assignments") or ()
        if assignment.get("action") is None
    })


def _repair(env: Environment, incident: Incident) -> dict[str, Any]:
    # Only the mode observe plans here, and these modules take a while to import.
    from synthralos.infrastructure import (
        detection,
        impact,
        infrastructure_repair,
        planning_state,
    )
    from synthralos.infrastructure.config import load_config
    from synthralos.infrastructure.topology import Topology

    config = load_config(env)
    topology = Topology.load(env, config)
    inputs = dict(incident.parameters, alert=incident.request.get("alert"))
    case = infrastructure_repair.new_case(env, inputs, env.now())
    nodes, unresolved = detection.detect_failures(
        env, config, topology, case["request"], seconds=0
    )
    case["failures"], case["known"] = list(nodes), list(nodes)
    case["impact"] = impact.estimate(topology, nodes)
    repair_plan = planning_state.make_plan_without_llm(env, case, config)
    summary = {
        "assignments": [_public_part(assignment) for assignment in repair_plan["assignments"]],
        "unassigned": repair_plan["unassigned"] + [
            {"node": entry["name"], "reason": entry["reason"]} for entry in unresolved
        ],
    }
    if incident.runbook is not None:
        summary["steps"] = _steps(config, incident.runbook)
    return summary


def _public_part(assignment: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "crew", "requires_approval", "step", "action", "parameters")
    return {name: assignment[name] for name in names if name in assignment}


def _steps(config: Any, name: str) -> list[dict[str, Any]]:
    """Return the steps of the runbook of this name, in order."""
    steps = next((runbook.steps for runbook in config.runbooks if runbook.name == name), ())
    return [
        {"name": step.name, "action": step.action, "crew": step.crew, "approval": step.approval}
        for step in steps
    ]
