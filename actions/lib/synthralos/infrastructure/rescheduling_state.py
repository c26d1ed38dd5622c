"""The state RESCHEDULING: whether the repairs have helped, and whether more nodes have failed."""

from typing import Any

from synthralos.calls import backoff
from synthralos.calls.http import CallError
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import (
    check_records,
    crew_planner,
    failed_nodes,
    outcome,
    planning_state,
    reopening,
    repair_check,
    silences,
)
from synthralos.infrastructure.check_records import Check
from synthralos.infrastructure.config import InfrastructureConfig, load_config
from synthralos.infrastructure.infrastructure_repair import (
    DETECTION,
    FINAL,
    PLANNING,
    RESCHEDULING,
    Result,
    call_seconds,
    record_step,
    repeat_state,
    require_state,
    transition_to,
)
from synthralos.infrastructure.outcome import summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment


def recheck(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of detect_failure_nodes in RESCHEDULING: check the repairs, and whether
    more nodes have failed.
    """
    require_state(case, RESCHEDULING)
    config = load_config(env)
    topology = Topology.load(env, config)
    nodes: list[str] = []
    failure = None
    if case.get("watched"):
        try:
            nodes, unresolved_alerts = failed_nodes.query_prometheus(env, case, config, topology)
            failed_nodes.add_unresolved(case, unresolved_alerts)
        except CallError as error:
            failure = error.failure
    repair_check.run_checks(env, config, topology, case, nodes, call_seconds(env, case))
    still_failed, further = _reopen(env, case, config, topology)
    # What has repaired one alert of a node may have repaired its others.
    case["look_first"] = list(further)
    case["resolved"] += [
        name for name in check_records.repaired_nodes(case) if name not in case["resolved"]
    ]
    new = failed_nodes.add_failures(case, nodes)
    if new:
        case["cascade"] = new
        summary = "%s failed: %s" % (
            count_noun(len(new), "more node has", "more nodes have"), summarize_names(new)
        )
        data: dict[str, Any] = {"new_failures": new}
        return transition_to(
            env, case, DETECTION, "cascading_failures", data, summary, **data
        )
    if still_failed:
        summary = "%s still failed: %s" % (
            count_noun(len(still_failed), "node is", "nodes are"), summarize_names(still_failed)
        )
        data = {"nodes": still_failed, "checks": check_records.report(case)}
        return transition_to(env, case, PLANNING, "repairs_failed", data, summary)
    if further:
        summary = "further alerts of %s" % summarize_names(further)
        return transition_to(env, case, PLANNING, "further_alerts", {"nodes": further}, summary)
    check_at = check_records.next_check_at(case)
    if check_at is not None and env.deadline(case).allows_attempt_at(check_at):
        return _check_again(env, case, check_at)
    check_records.close_checks(case)
    if failure is not None:
        case["reason"] = "could not check for new failures: %s" % failure.cause
        data = {"cause": failure.cause}
        return transition_to(env, case, FINAL, "not_checked", data, case["reason"])
    return _end(env, case)


def _reopen(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig, topology: Topology
) -> tuple[list[str], list[str]]:
    """Open the nodes again for which there is something else to do.

    :returns: (still_failed, further): the nodes whose repair has failed its check, as far as there
        is another step or crew for that, and those of which another alert comes next.
    """
    ineffective = reopening.note_ineffective(case)
    failed = {(check["node"], check["alert"]) for check in ineffective}
    nodes = reopening.nodes_with_further_steps(config, topology, case)
    still_failed = [name for name, alert in nodes.items() if (name, alert) in failed]
    if case["repair_retries"] < case["max_retries"]:
        facts = planning_state.planner_facts(env, case, config, topology, case["failures"])
        by_crews = [
            check["node"]
            for check in ineffective
            if check["alert"] is None and check["node"] not in nodes and
            crew_planner.has_next_crew(facts, check["node"])
        ]
        case["repair_retries"] += bool(by_crews)
        still_failed += by_crews
    further = [name for name in nodes if name not in still_failed]
    case["failures"] += still_failed + further
    if still_failed:
        _tell_planner(case, ineffective)
    return still_failed, further


def _tell_planner(case: dict[str, Any], ineffective: list[Check]) -> None:
    """Add the repairs that have not helped to the conversation with the LLM."""
    for check in ineffective:
        if not check["crew"]:
            continue
        crew_planner.remember(
            case,
            {
                "role": "check_result",
                "message": "%s has not repaired %s" % (check["crew"], check["node"]),
                "reason": check["reason"],
            },
        )


def _check_again(env: Environment, case: dict[str, Any], check_at: float) -> Result:
    """Return the result that checks the repairs again at `check_at`, in seconds since the epoch."""
    nodes = check_records.nodes_with(case, check_records.PENDING)
    delay = max(1, backoff.round_up(check_at - env.now()))
    data = {"nodes": nodes, "checks": check_records.report(case)}
    record_step(case, RESCHEDULING, RESCHEDULING, "repairs_pending", data)
    silences.extend(env, case, delay)
    summary = "not certain yet: %s" % summarize_names(nodes)
    return repeat_state(env, case, "repairs_pending", summary, delay, checks=data["checks"])


def _end(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of the transition to FINAL; no check is pending any more."""
    label, _ = outcome.outcome_of(case)
    data, summary = {}, "no new failure"
    if case["failures"] or case["refused_nodes"] or case["unresolved_alerts"]:
        data = {"unassigned": outcome.unassigned_nodes(case)}
        summary = "no new failure; without a crew: %s" % (
            summarize_names(data["unassigned"]) or "nodes whose names are unknown"
        )
        label = outcome.INCOMPLETE if label in (outcome.REFUSED, outcome.HEALTHY) else label
    return transition_to(
        env, case, FINAL, label, data, summary, checks=check_records.report(case)
    )
