"""The tasks of infrastructure_repair as standalone actions with plain parameters."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import (
    crew_assignment,
    crews,
    detection,
    infrastructure_repair,
    node_names,
    outcome,
    planning_state,
)
from synthralos.infrastructure import impact as impacts
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Topology

if TYPE_CHECKING:
    from synthralos.infrastructure.infrastructure_repair import Result
    from synthralos.runtime.environment import Environment

DETECTION_SECONDS = 60.0


def detect(env: "Environment", parameters: Mapping[str, Any]) -> "tuple[bool, Result]":
    """Run detect_failure_nodes outside a run.

    :returns: (succeeded, {failures, unresolved_alerts, source}).
    """
    config = load_config(env)
    request = detection.parse_request(config, parameters)
    topology = Topology.load(env, config)
    try:
        nodes, unresolved_alerts = detection.detect_failures(
            env, config, topology, request, DETECTION_SECONDS
        )
    except CallError as error:
        error_payload = error.failure.as_dict()
        summary = "the failed nodes could not be determined: %s" % error.failure.message
        return False, {"summary": summary, "error": error_payload}
    summary = count_noun(len(nodes), "node has failed", "nodes have failed")
    return True, {
        "summary": summary,
        "failures": nodes,
        "unresolved_alerts": unresolved_alerts,
        "source": request["source"],
    }


def build_case(
    env: "Environment", parameters: Mapping[str, Any], names: Any, started: float
) -> dict[str, Any]:
    """Build the case of a standalone action in which the nodes `names` have failed."""
    inputs = dict(parameters, source=detection.LIST, nodes=names)
    case = infrastructure_repair.new_case(env, inputs, started)
    topology = Topology.load(env, load_config(env))
    case["failures"] = list(
        dict.fromkeys(topology.canonical_name(name) for name in case["request"]["nodes"])
    )
    case["known"] = list(case["failures"])
    case["impact"] = impacts.estimate(topology, case["failures"])
    return case


def estimate(env: "Environment", parameters: Mapping[str, Any], started: float) -> "Result":
    """Run estimate_impact outside a run; return its result."""
    case = build_case(env, parameters, parameters.get("nodes") or [], started)
    summary = impacts.describe(case["impact"]["total"])
    return {"summary": summary, "impact": case["impact"]}


def plan(
    env: "Environment", parameters: Mapping[str, Any], started: float
) -> "tuple[bool, Result]":
    """Run plan_repairs outside a run; return (succeeded, result)."""
    case = build_case(env, parameters, parameters.get("nodes") or [], started)
    repair_plan, planner_info = planning_state.make_plan(env, case, load_config(env))
    if repair_plan is None:
        # Only the LLM, once it was asked, can leave a run without a plan.
        assert planner_info is not None
        error = {"cause": outcome.MAX_RETRIES, "message": planner_info["reason"]}
        return False, {
            "summary": "no plan: %s" % planner_info["reason"],
            "error": error,
            "planner": planner_info,
        }
    summary = "plan from the %s: %s, %d without a crew" % (
        repair_plan["source"],
        count_noun(len(repair_plan["assignments"]), "node"),
        len(repair_plan["unassigned"]),
    )
    result: Result = {"summary": summary, "plan": repair_plan, "impact": case["impact"]}
    if planner_info is not None:
        result["planner"] = planner_info
    return not repair_plan["unassigned"], result


def assign(
    env: "Environment", parameters: Mapping[str, Any], started: float
) -> "tuple[bool, Result]":
    """Run assign_repair_crew outside a run: assign node_ids to crew_ids, pair by pair.

    :returns: (succeeded, result).
    """
    config = load_config(env)
    names = node_names.require_node_list("node_ids", parameters.get("node_ids") or [])
    crew_ids = parameters.get("crew_ids") or []
    if not isinstance(crew_ids, list) or not all(map(is_name, crew_ids)) or not crew_ids:
        raise InvalidInput(
            "crew_ids", crew_ids, "must be a list of crews", "List one, or one for each node"
        )
    case = build_case(env, parameters, names, started)
    crew_ids = crew_ids * len(names) if len(crew_ids) == 1 else crew_ids
    if len(crew_ids) != len(names) or len(case["failures"]) != len(names):
        reason = "has %s for %s" % (
            count_noun(len(crew_ids), "crew"), count_noun(len(set(names)), "node")
        )
        raise InvalidInput("crew_ids", None, reason, "Give one crew for each node, or one for all")
    requested = []
    for name, crew_id in zip(case["failures"], crew_ids):
        crew = config.crew(crew_id)
        if crew is None:
            crew_names = ", ".join(crew.name for crew in config.crews) or "none"
            raise InvalidInput(
                "crew_ids", crew_id, "is not a configured crew", "Crews: " + crew_names
            )
        if crew.requires_approval and not parameters.get("approved"):
            hint = "Run infrastructure_repair, which asks for it, or set approved=true"
            raise InvalidInput("crew_ids", crew_id, "requires approval", hint)
        requested.append({"node": name, "crew": crew_id})
    entries = crew_assignment.assign(env, case, config, requested)
    failed = [entry["node"] for entry in entries if entry["status"] == crews.FAILED]
    assigned_count = len(entries) - len(failed)
    summary = "%s assigned, %d failed" % (count_noun(assigned_count, "node"), len(failed))
    details = [{"node": entry["node"], "status": entry["status"]} for entry in entries]
    result = {"summary": summary, "details": details, "assignments": entries}
    return not failed, result
