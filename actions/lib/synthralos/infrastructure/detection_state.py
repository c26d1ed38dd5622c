"""The states FAILURE_DETECTION and IMPACT_ANALYSIS: which nodes have failed, and how bad it is."""

from typing import Any

from synthralos.calls.http import CallError
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import (
    detection,
    failed_nodes,
    impact,
    repair_check,
    repair_evidence,
    rescheduling_state,
)
from synthralos.infrastructure.config import InfrastructureConfig, load_config
from synthralos.infrastructure.infrastructure_repair import (
    DETECTION,
    FINAL,
    IMPACT,
    PLANNING,
    RESCHEDULING,
    Result,
    TaskResult,
    call_seconds,
    fail_task,
    require_state,
    transition_to,
)
from synthralos.infrastructure.outcome import all_failed, summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.telemetry import run_log


def detect(env: Environment, case: dict[str, Any]) -> TaskResult:
    """Return the result of detect_failure_nodes: state FAILURE_DETECTION or RESCHEDULING."""
    if case["state"] == RESCHEDULING:
        return rescheduling_state.recheck(env, case)
    require_state(case, DETECTION)
    config = load_config(env)
    topology = Topology.load(env, config)
    if case["known"]:
        _detect_cascade(env, case, config, topology)
    else:
        try:
            nodes, unresolved_alerts = detection.detect_failures(
                env, config, topology, case["request"], call_seconds(env, case)
            )
        except CallError as error:
            return fail_task(env, case, "the failed nodes could not be determined", error.failure)
        failed_nodes.add_unresolved(case, unresolved_alerts)
        _begin_with(env, case, config, topology, nodes)
    if not case["failures"]:
        summary = "no node has failed" + (
            " whose name is known" if case["unresolved_alerts"] else ""
        )
        return transition_to(env, case, FINAL, "no_failures_detected", {}, summary)
    data: dict[str, Any] = {"failures": list(case["failures"])}
    summary = "%s failed: %s" % (
        count_noun(len(case["failures"]), "node has", "nodes have"),
        summarize_names(case["failures"]),
    )
    return transition_to(env, case, IMPACT, "failures_detected", data, summary, **data)


def _begin_with(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    topology: Topology,
    nodes: list[str],
) -> None:
    """Begin the run with the nodes that its request names: add them, and find their alerts."""
    source = case["request"]["source"]
    if source == detection.QUERY:
        failed_nodes.add_seen(case, nodes)
    failed_nodes.add_failures(case, nodes)
    _record_baseline(env, case, config, topology)
    if case["failures"] and source == detection.ALERT:
        case["alerts"] = repair_evidence.find_alerts(env, config, topology, case["request"])
        repair_evidence.look_at_alerts(env, case)


def _detect_cascade(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig, topology: Topology
) -> None:
    """Confirm by Prometheus the nodes that have failed since; those that are up again are resolved.

    One that is merely missing from the query may have vanished with its series.
    """
    unresolved_alerts: list[detection.UnresolvedAlert] = []
    try:
        nodes, unresolved_alerts = failed_nodes.query_prometheus(env, case, config, topology)
    except CallError:
        nodes = case["cascade"]
    failed_nodes.add_unresolved(case, unresolved_alerts)
    missing = [name for name in case["cascade"] if name not in nodes]
    up_again = repair_check.find_healthy(
        env, config, topology, case, missing, call_seconds(env, case)
    )
    case["cascade"] = []
    case["failures"] = [name for name in case["failures"] if name not in up_again]
    case["resolved"] += [name for name in up_again if name not in case["resolved"]]
    failed_nodes.add_failures(case, nodes)


def _record_baseline(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig, topology: Topology
) -> None:
    """Mark nodes that were down before the run as known: they are not a cascade of its nodes."""
    case["watched"] = config.prometheus is not None
    if case["watched"] and case["request"]["source"] != detection.QUERY:
        try:
            nodes, _ = failed_nodes.query_prometheus(env, case, config, topology)
            case["known"] += [name for name in nodes if name not in case["known"]]
        except CallError as error:
            run_log.emit("not_watched", cause=error.failure.cause)
            case["watched"] = False


def estimate(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of estimate_impact: IMPACT_ANALYSIS of all nodes that have failed."""
    require_state(case, IMPACT)
    topology = Topology.load(env, load_config(env))
    report = case["impact"] = impact.estimate(topology, all_failed(case))
    node_summaries = [
        {
            "node": node_impact["node"],
            "criticality": node_impact["criticality"],
            "population_affected": node_impact["population_affected"],
        }
        for node_impact in report["nodes"]
        if node_impact["node"] in case["failures"]
    ]
    return transition_to(
        env,
        case,
        PLANNING,
        "impact_analyzed",
        {"impact_report": node_summaries},
        impact.describe(report["total"]),
        impact=report,
    )
