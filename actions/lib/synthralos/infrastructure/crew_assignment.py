"""Carries out the assignments of a plan: by the action of a runbook's step, or by a crew."""

from collections.abc import Collection, Mapping
from typing import Any

from synthralos.infrastructure import (
    check_records,
    crews,
    repair_check,
    runbook_steps,
    silences,
    turns,
)
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.crews import AssignmentEntry
from synthralos.infrastructure.runbook_steps import NodeStep
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment


def assign(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    requested: Collection[Mapping[str, Any]],
) -> list[AssignmentEntry]:
    """Assign the requested [{node, crew}], update the case, and return the entries.

    :param requested: of runbooks too, as runbook_steps.plan returns them.
    """
    topology, began_at = Topology.load(env, config), env.now()
    steps: dict[tuple[str, str], NodeStep] = {}
    by_crew: dict[str, list[str]] = {}
    for assignment in requested:
        node_step = runbook_steps.find_step(config, topology, case, assignment)
        if node_step is not None:
            steps[assignment["node"], assignment["crew"]] = node_step
        if node_step is None or node_step.step.action is None:
            by_crew.setdefault(assignment["crew"], []).append(assignment["node"])
    _silence(env, case, config, requested, steps)
    entries = _carry_out(env, case, config, topology, steps, by_crew)
    assigned = {entry["node"] for entry in entries if entry["status"] == crews.ASSIGNED}
    case["failures"] = [name for name in case["failures"] if name not in assigned]
    case["assignments"] += entries
    for entry in entries:
        if entry["status"] == crews.FAILED:
            case["tried"].setdefault(entry["node"], []).append(entry["crew"])
            continue
        node_step = steps.get((entry["node"], entry["crew"]))
        check = repair_check.new_check(
            env, config, topology, case, entry, node_step, began_at
        )
        check_records.put(case, check)
    return entries


def _carry_out(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    topology: Topology,
    steps: Mapping[tuple[str, str], NodeStep],
    by_crew: Mapping[str, list[str]],
) -> list[AssignmentEntry]:
    """Run the actions of the steps, then assign to each crew its nodes; return the entries.

    :param steps: {(node, crew): the NodeStep of an assignment by a runbook}.
    :param by_crew: {crew: nodes}.
    """
    sleep = silences.extending_sleep(env, case)

    def on_start(execution_id: str) -> None:
        turns.note_execution(env, case, execution_id)

    actions = [node_step for node_step in steps.values() if node_step.step.action is not None]
    entries = runbook_steps.run_steps(
        env, config, topology, actions, _seconds_left(env, case), sleep, on_start
    )
    for name, nodes in by_crew.items():
        crew = config.crew(name)
        if crew is None:
            # The configuration has changed since the plan.
            details = "the crew is no longer configured"
            entries += [
                {"node": node, "crew": name, "status": crews.FAILED, "details": details}
                for node in nodes
            ]
            continue
        entries += crews.assign(
            env, config, crew, nodes, case["impact"], _seconds_left(env, case), sleep, on_start
        )
    return entries


def _seconds_left(env: Environment, case: Mapping[str, Any]) -> float:
    seconds_left: float = env.deadline(case).seconds_left()
    return max(0.0, seconds_left)


def _silence(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    requested: Collection[Mapping[str, Any]],
    steps: Mapping[tuple[str, str], NodeStep],
) -> None:
    """Silence the alerts that the assignments are for.

    :param steps: {(node, crew): the NodeStep of an assignment by a runbook}.
    """
    keys = []
    for assignment in requested:
        node_step = steps.get((assignment["node"], assignment["crew"]))
        keys += [
            key
            for key in case["alerts"].get(assignment["node"], ())
            if node_step is None or key["alert"] == node_step.alert
        ]
    silences.begin(env, config, case, keys)
