"""The state REPAIR_PLANNING: who repairs which node, by the runbooks, the LLM, or the rules."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypedDict

from synthralos.calls import backoff
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import (
    crew_planner,
    crews,
    evidence_collection,
    outcome,
    planner_tools,
    runbook_steps,
)
from synthralos.infrastructure.config import InfrastructureConfig, load_config
from synthralos.infrastructure.crew_planner import PlannerInfo
from synthralos.infrastructure.infrastructure_repair import (
    EXECUTION,
    FINAL,
    PLANNING,
    Result,
    limit_delay,
    record_step,
    require_state,
    transition_to,
)
from synthralos.infrastructure.outcome import summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment

BY_LLM, BY_RULES = "llm", "rules"


class RepairPlan(TypedDict):
    """A plan.

    `source`: of its decisions, BY_LLM, BY_RULES or runbook_steps.SOURCE; `thoughts`: of the LLM, or
    None; `assignments`: [{node, crew, requires_approval, source}], those of a runbook's step as
    runbook_steps.plan returns them; `unassigned`: [{node, reason}], with `runbook` if a runbook
    matches the node.
    """

    source: str
    thoughts: Optional[str]
    assignments: list[dict[str, Any]]
    unassigned: list[dict[str, Any]]


def plan(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of plan_repairs: state REPAIR_PLANNING."""
    require_state(case, PLANNING)
    repair_plan, planner_info = make_plan(env, case, load_config(env))
    extra: dict[str, Any] = {"plan": repair_plan}
    if planner_info is not None:
        extra["planner"] = planner_info
    if repair_plan is None or not repair_plan["assignments"]:
        return _end_unplanned(env, case, repair_plan, extra)
    case["plan"] = repair_plan
    assignments = repair_plan["assignments"]
    if runbook_steps.is_further(case, assignments):
        # The runbook itself limits how many steps there are.
        case["max_steps"] += runbook_steps.TRANSITIONS
    decision = {
        "thoughts": repair_plan["thoughts"],
        "action": planner_tools.ASSIGN,
        "arguments": {
            "node_ids": [assignment["node"] for assignment in assignments],
            "crew_ids": [assignment["crew"] for assignment in assignments],
        },
    }
    summary = "plan from the %s: %s to %s" % (
        repair_plan["source"],
        count_noun(len(assignments), "node"),
        summarize_names(sorted({assignment["crew"] for assignment in assignments})),
    )
    next_state, delay = EXECUTION, _retry_delay(env, case, assignments)
    if case["dry_run"]:
        next_state, delay, case["outcome"] = FINAL, 0, outcome.PLANNED
    return transition_to(
        env,
        case,
        next_state,
        "%s_decision_assign_crew" % repair_plan["source"],
        {"decision": decision},
        summary,
        delay=delay,
        **extra,
    )


def _end_unplanned(
    env: Environment,
    case: dict[str, Any],
    repair_plan: Optional[RepairPlan],
    extra: dict[str, Any],
) -> Result:
    """Return the result that ends the run because no node can be assigned.

    :param repair_plan: without assignments, or None.
    :param extra: {plan, planner (if the LLM was asked)}.
    """
    case["outcome"] = outcome.MAX_RETRIES
    if repair_plan is None:
        reason = extra["planner"]["reason"]
    else:
        case["plan"] = repair_plan
        first = repair_plan["unassigned"][0]
        reason = first["reason"]
        if "runbook" in first:
            case["outcome"] = outcome.INCOMPLETE
    case["reason"] = reason
    data = {"retry_count": case["retry_count"], "reason": reason}
    summary = "no plan: " + reason
    return transition_to(env, case, FINAL, case["outcome"], data, summary, **extra)


def make_plan(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig
) -> tuple[Optional[RepairPlan], Optional[PlannerInfo]]:
    """Plan by the runbooks, then by the LLM if one is configured, then by the rules.

    :returns: (plan, planner_info). The plan is None if the LLM made no decision and the rules may
        not plan. planner_info is None if the LLM was not asked, and has no thoughts.
    """
    topology = Topology.load(env, config)
    by_runbook, unassigned, facts = _plan_by_runbooks(env, case, config, topology)
    if env.settings.planner_model is None or not config.crews or not facts.failures:
        return _complete_plan(case, by_runbook, unassigned, facts), None
    evidence = evidence_collection.collect(env, config, topology, case, facts.failures)
    facts = dataclasses.replace(facts, evidence=evidence)
    by_llm, planner_info = crew_planner.plan_by_llm(
        env, facts, case, lambda *used: _record_tool_call(case, *used)
    )
    case["retry_count"] = planner_info["retry_count"]
    thoughts = planner_info.pop("thoughts", None)
    if by_llm is None and not config.fallback:
        return None, planner_info
    return _complete_plan(case, by_runbook, unassigned, facts, by_llm, thoughts), planner_info


def make_plan_without_llm(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig
) -> RepairPlan:
    """Plan by the runbooks, then by the rules."""
    return _complete_plan(case, *_plan_by_runbooks(env, case, config, Topology.load(env, config)))


def _plan_by_runbooks(
    env: Environment, case: Mapping[str, Any], config: InfrastructureConfig, topology: Topology
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], planner_tools.PlannerFacts]:
    """Return (assignments, unassigned, facts): the facts are of the nodes without a runbook."""
    assignments, unassigned = runbook_steps.plan(env, config, topology, case)
    planned = {entry["node"] for entry in assignments + unassigned}
    open_nodes = [name for name in case["failures"] if name not in planned]
    return assignments, unassigned, planner_facts(env, case, config, topology, open_nodes)


def _complete_plan(
    case: Mapping[str, Any],
    by_runbook: list[dict[str, Any]],
    unassigned: list[dict[str, Any]],
    facts: planner_tools.PlannerFacts,
    by_llm: Optional[list[dict[str, Any]]] = None,
    thoughts: Optional[str] = None,
) -> RepairPlan:
    """Return the plan: what is left is planned by the rules, if they may.

    :param by_llm: the assignments of the LLM, or None if it made no decision.
    """
    nodes = {assignment["node"] for assignment in by_llm or ()}
    remaining = [name for name in facts.failures if name not in nodes]
    if by_llm is None or facts.config.fallback:
        assigned_counts = Counter(assignment["crew"] for assignment in by_llm or ())
        by_rules, unassigned_by_rules = crew_planner.plan_by_rules(
            facts, case["impact"], case["tried"], remaining, assigned_counts
        )
    else:
        reason = "the planner did not assign it"
        by_rules, unassigned_by_rules = [], [
            {"node": name, "reason": reason} for name in remaining
        ]
    source = BY_RULES if by_llm is None else BY_LLM
    return {
        "source": runbook_steps.SOURCE if by_runbook and not facts.failures else source,
        "thoughts": thoughts,
        "assignments": by_runbook + (by_llm or []) + by_rules,
        "unassigned": unassigned + unassigned_by_rules,
    }


def planner_facts(
    env: Environment,
    case: Mapping[str, Any],
    config: InfrastructureConfig,
    topology: Topology,
    open_nodes: Iterable[str],
) -> planner_tools.PlannerFacts:
    """Return the PlannerFacts of the run as it is now, for these nodes."""
    return planner_tools.PlannerFacts(
        env,
        config,
        topology,
        tuple(open_nodes),
        _loads(env, case, config),
        case["ineffective"],
    )


def _loads(
    env: Environment, case: Mapping[str, Any], config: InfrastructureConfig
) -> dict[str, int]:
    """Return {crew: number of nodes}, including this run's own even if they are not stored."""
    loads = crews.crew_loads(env, config)
    for crew in config.crews:
        own_count = sum(
            assignment["crew"] == crew.name and assignment["status"] == crews.ASSIGNED
            for assignment in case["assignments"]
        )
        loads[crew.name] = max(loads[crew.name], own_count)
    return loads


def _record_tool_call(
    case: Mapping[str, Any], thoughts: str, tool: str, arguments: Any, result: Any
) -> None:
    data = {"tool": tool, "arguments": arguments, "result": result}
    record_step(case, PLANNING, PLANNING, "llm_decision_use_tool", data)


def _retry_delay(
    env: Environment, case: Mapping[str, Any], assignments: list[dict[str, Any]]
) -> int:
    """Return the seconds to wait before a crew is assigned a node again that it has failed on."""
    max_failures = max(
        case["tried"].get(assignment["node"], []).count(assignment["crew"])
        for assignment in assignments
    )
    if not max_failures:
        return 0
    rules = env.settings.backoff
    seconds = backoff.full_delay(rules.strategy, max_failures, rules.base_delay, rules.max_delay)
    return limit_delay(env, case, seconds)
