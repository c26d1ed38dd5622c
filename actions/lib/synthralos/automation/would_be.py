"""What a run would do, planned by rules and without effect: no LLM is asked and nobody is assigned.
"""

from typing import Any

from synthralos.automation.incident import Incident
from synthralos.core.errors import InvalidInput
from synthralos.runtime.environment import Environment
from synthralos.storage.stackstorm_api import StackStormError


def plan(env: Environment, incident: Incident) -> dict[str, Any]:
    """Return what the run of an incident would begin with.

    :returns: {assignments: [{node, crew, requires_approval}, with {action, parameters} of the step
        of a runbook], unassigned: [{node, reason}]} of infrastructure_repair; {agent_id,
        failure_type} of agent_recovery; {failure_type} of the others; {error}, a text, if it cannot
        be planned. A run would fail in the same way.
    """
    if incident.workflow == "infrastructure_repair":
        try:
            return _repair(env, incident)
        except (InvalidInput, StackStormError) as error:
            return {"error": env.redactor.redact_text(str(error))}
    names = ("agent_id", "failure_type")
    named = {name: incident.parameters[name] for name in names if name in incident.parameters}
    return dict({"failure_type": incident.failure["type"]}, **named)


def crews_of(summary: dict[str, Any]) -> list[str]:
    """Return the names of the crews in what `plan` returned, each once."""
    return sorted({assignment["crew"] for assignment in summary.get("assignments") or ()})


def _repair(env: Environment, incident: Incident) -> dict[str, Any]:
    # Only the mode observe plans here, and these modules take a while to import.
    from synthralos.infrastructure import (
        crew_planner,
        crews,
        detection,
        impact,
        planner_tools,
        runbook_steps,
    )
    from synthralos.infrastructure.config import load_config
    from synthralos.infrastructure.topology import Topology

    config = load_config(env)
    topology = Topology.load(env, config)
    inputs = dict(incident.parameters, alert=incident.request.get("alert"))
    request = detection.parse_request(config, inputs)
    nodes, unresolved = detection.detect_failures(env, config, topology, request, seconds=0)
    case = {"request": request, "failures": nodes, "tried": {}, "ineffective": {}}
    by_runbook, unassigned_by_runbook = runbook_steps.plan(env, config, topology, case)
    planned = {entry["node"] for entry in by_runbook + unassigned_by_runbook}
    open_nodes = tuple(name for name in nodes if name not in planned)
    facts = planner_tools.PlannerFacts(
        env, config, topology, open_nodes, crews.crew_loads(env, config), {}
    )
    by_crews, unassigned = crew_planner.plan_by_rules(
        facts, impact.estimate(topology, nodes), failed_crews={}
    )
    names = ("node", "crew", "requires_approval", "action", "parameters")
    return {
        "assignments": [
            {name: assignment[name] for name in names if assignment.get(name) is not None}
            for assignment in by_runbook + by_crews
        ],
        "unassigned": unassigned_by_runbook + unassigned + [
            {"node": entry["name"], "reason": entry["reason"]} for entry in unresolved
        ],
    }
