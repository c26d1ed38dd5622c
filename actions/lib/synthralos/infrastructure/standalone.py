"""The tasks of infrastructure_repair as actions by themselves, with plain parameters."""

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.infrastructure import crews, detection, infrastructure_repair, node_names, outcome
from synthralos.infrastructure import impact as impacts
from synthralos.infrastructure.config import configuration
from synthralos.infrastructure.topology import Topology

DETECTION_SECONDS = 60.0


def detect(env, parameters):
    """(ok, result) of detect_failure_nodes outside a run: {failures, unresolved_alerts, source}."""
    config = configuration(env)
    request = detection.request_of(config, parameters)
    topology = Topology.of(env, config)
    try:
        found, unresolved_alerts = detection.detect_failures(
            env, config, topology, request, DETECTION_SECONDS
        )
    except CallError as error:
        told = error.failure.as_dict()
        summary = "the failed nodes are not known: %s" % error.failure.message
        return False, {"summary": summary, "error": told}
    summary = "%d nodes have failed" % len(found)
    found = {"failures": found, "unresolved_alerts": unresolved_alerts, "source": request["source"]}
    return True, dict({"summary": summary}, **found)


def build_case(env, parameters, names, started):
    """The case of an action that no workflow started, in which `names` have failed."""
    given = dict(parameters, source=detection.LIST, nodes=names)
    case = infrastructure_repair.new_case(env, given, started)
    topology = Topology.of(env, configuration(env))
    case["failures"] = list(
        dict.fromkeys(topology.resolved(name) for name in case["request"]["nodes"])
    )
    case["known"] = list(case["failures"])
    case["impact"] = impacts.estimate(topology, case["failures"])
    return case


def estimate(env, parameters, started):
    """The result of estimate_impact outside a run."""
    case = build_case(env, parameters, parameters.get("nodes") or [], started)
    total = case["impact"]["total"]
    summary = "%s: %d people, %d nodes affected" % (
        total["criticality"], total["population_affected"], total["nodes_affected"],
    )
    return {"summary": summary, "impact": case["impact"]}


def plan(env, parameters, started):
    """(ok, result) of plan_repairs outside a run."""
    case = build_case(env, parameters, parameters.get("nodes") or [], started)
    made, told = infrastructure_repair.make_plan(env, case, configuration(env))
    if made is None:
        error = {"cause": outcome.MAX_RETRIES, "message": told["reason"]}
        return False, {"summary": "no plan: " + told["reason"], "error": error, "planner": told}
    summary = "plan from the %s: %d nodes, %d without a crew" % (
        made["source"], len(made["assignments"]), len(made["unassigned"]),
    )
    result = {"summary": summary, "plan": made, "impact": case["impact"]}
    if told is not None:
        result["planner"] = told
    return not made["unassigned"], result


def assign(env, parameters, started):
    """(ok, result) of assign_repair_crew outside a run: node_ids to crew_ids, pair by pair."""
    config = configuration(env)
    names = node_names.listed("node_ids", parameters.get("node_ids") or [])
    crew_ids = parameters.get("crew_ids") or []
    if not isinstance(crew_ids, list) or not all(is_name(one) for one in crew_ids) or not crew_ids:
        raise InvalidInput(
            "crew_ids", crew_ids, "is no list of crews", "List one, or one for each node"
        )
    case = build_case(env, parameters, names, started)
    crew_ids = crew_ids * len(names) if len(crew_ids) == 1 else crew_ids
    if len(crew_ids) != len(names) or len(case["failures"]) != len(names):
        why = "has %d crews for %d nodes" % (len(crew_ids), len(set(names)))
        raise InvalidInput("crew_ids", None, why, "Give one crew for each node, or one for all")
    wanted = []
    for name, crew_id in zip(case["failures"], crew_ids):
        crew = config.crew(crew_id)
        if crew is None:
            known = ", ".join(one.name for one in config.crews) or "none"
            raise InvalidInput("crew_ids", crew_id, "is no crew", "Crews: " + known)
        if crew.requires_approval and not parameters.get("approved"):
            way_out = "Run infrastructure_repair, which asks, or set approved=true"
            raise InvalidInput("crew_ids", crew_id, "asks for consent first", way_out)
        wanted.append({"node": name, "crew": crew_id})
    done = infrastructure_repair.assign(env, case, config, wanted)
    failed = [one["node"] for one in done if one["status"] == crews.FAILED]
    summary = "%d nodes assigned, %d failed" % (len(done) - len(failed), len(failed))
    details = [{"node": one["node"], "status": one["status"]} for one in done]
    result = {"summary": summary, "details": details, "assignments": done}
    return not failed, result
