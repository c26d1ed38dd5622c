"""Plans and runs the steps of the runbooks that match the alerts of a run.

The steps of a node's runbook are taken in order: the next one when the action of a step has failed
more often than its `retries`, or when the check shows that it has not repaired the node. Where
several alerts of one run concern the same node, the steps of the first alert's runbook come first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.core.sanitize import sanitize_value
from synthralos.infrastructure import crews, detection, runbook_parameters
from synthralos.infrastructure.config import Crew, InfrastructureConfig
from synthralos.infrastructure.runbooks import Runbook, RunbookStep, find_runbook
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.storage.stackstorm_api import StackStormError

SOURCE = "runbook"
MAX_SHOWN_CHARS = 200
# Transitions of a further step: planning, execution, check.
TRANSITIONS = 3


@dataclass(frozen=True)
class NodeStep:
    """A step of a runbook for one node.

    :ivar labels: of the alert that the runbook matches.
    :ivar crew: the name under which results report it: that of its crew, or `runbook/step`.
    """

    node: str
    runbook: Runbook
    step: RunbookStep
    labels: Mapping[str, Any]
    crew: str


def steps_by_node(
    config: InfrastructureConfig, topology: Topology, case: Mapping[str, Any]
) -> dict[str, list[NodeStep]]:
    """Return the steps of each node that has a runbook, in order."""
    if not config.runbooks or case["request"]["source"] != detection.ALERT:
        return {}
    steps: dict[str, list[NodeStep]] = {}
    labels_by_node = detection.labels_by_node(config, topology, case["request"]["alert"])
    for node, alerts in labels_by_node.items():
        counts: dict[str, int] = {}
        for labels in alerts:
            runbook = find_runbook(config.runbooks, labels)
            if runbook is None:
                continue
            counts[runbook.name] = counts.get(runbook.name, 0) + 1
            node_steps = _node_steps(node, runbook, labels, counts[runbook.name])
            steps.setdefault(node, []).extend(node_steps)
    return steps


def _node_steps(
    node: str, runbook: Runbook, labels: Mapping[str, Any], count: int
) -> Iterator[NodeStep]:
    suffix = "" if count == 1 else "/%d" % count
    for step in runbook.steps:
        crew = step.crew or "%s/%s%s" % (runbook.name, step.name, suffix)
        yield NodeStep(node, runbook, step, labels, crew)


def next_step(
    config: InfrastructureConfig, case: Mapping[str, Any], node: str, steps: list[NodeStep]
) -> Optional[NodeStep]:
    """Return the step that comes next for a node, or None if none is left."""
    failed = case["tried"].get(node, [])
    ineffective = case["ineffective"].get(node, [])
    for node_step in steps:
        crew = None if node_step.step.crew is None else config.crew(node_step.step.crew)
        if crew is not None and not crew.available:
            continue
        has_failed = failed.count(node_step.crew) > node_step.step.retries
        if not has_failed and node_step.crew not in ineffective:
            return node_step
    return None


def plan(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Plan the next step of each open node that has a runbook.

    :returns: (assignments, unassigned): [{node, crew, requires_approval, source, runbook, step,
        action, parameters}] and [{node, reason, runbook}]. `parameters` is for people: without
        secrets and templates.
    """
    assignments, unassigned = [], []
    for node, steps in steps_by_node(config, topology, case).items():
        if node not in case["failures"]:
            continue
        node_step = next_step(config, case, node, steps)
        reason = "no step of its runbook is left"
        if node_step is not None:
            try:
                assignments.append(_assignment(env, config, topology, node_step))
                continue
            except InvalidInput as error:
                # The value may be any text; runbook.explain shows it.
                reason = "%s: %s" % (error.field, error.reason)
        unassigned.append({"node": node, "reason": reason, "runbook": steps[0].runbook.name})
    return assignments, unassigned


def _assignment(
    env: Environment, config: InfrastructureConfig, topology: Topology, node_step: NodeStep
) -> dict[str, Any]:
    """Return the assignment of a step.

    :raises InvalidInput: the parameters of any step of the runbook cannot be resolved.
    """
    runbook_parameters.resolve_all(node_step.runbook, node_step.labels, topology)
    step = node_step.step
    crew = crew_of(config, topology, node_step)
    return {
        "node": node_step.node,
        "crew": node_step.crew,
        "requires_approval": crew.requires_approval,
        "source": SOURCE,
        "runbook": node_step.runbook.name,
        "step": step.name,
        "action": crew.action,
        "parameters": sanitize_value(dict(crew.parameters), env.redactor, MAX_SHOWN_CHARS),
    }


def crew_of(config: InfrastructureConfig, topology: Topology, node_step: NodeStep) -> Crew:
    """Return the crew that carries out a step: the configured one, or one made of its action.

    :raises InvalidInput: a parameter cannot be resolved, or the crew is no longer configured.
    """
    step = node_step.step
    if step.crew is not None:
        crew: Optional[Crew] = config.crew(step.crew)
        if crew is None:
            raise InvalidInput("crew", step.crew, "is no longer configured", "Start the run again")
        return crew
    return Crew(
        name=node_step.crew,
        action=step.action,
        node_parameter=None,
        parameters=runbook_parameters.resolve_parameters(step, node_step.labels, topology),
        approval=step.approval,
        seconds=step.seconds,
    )


def is_further(case: Mapping[str, Any], assignments: list[dict[str, Any]]) -> bool:
    """Return whether a plan has a step of a runbook for a node that has had one before."""
    return any(
        assignment["source"] == SOURCE and
        (assignment["node"] in case["tried"] or assignment["node"] in case["checks"])
        for assignment in assignments
    )


def find_step(
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    assignment: Mapping[str, Any],
) -> Optional[NodeStep]:
    """Return the step of an assignment; None if the configuration has changed since the plan."""
    for node_step in steps_by_node(config, topology, case).get(assignment["node"], []):
        names = (node_step.runbook.name, node_step.step.name, node_step.crew)
        if names == (assignment["runbook"], assignment["step"], assignment["crew"]):
            return node_step
    return None


def run_steps(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    assignments: list[dict[str, Any]],
    seconds: float,
) -> list[dict[str, Any]]:
    """Run the actions of the planned steps, side by side.

    :param assignments: as `plan` returns them, whose steps are actions.
    :param seconds: the time limit for all of them together.
    :returns: [{node, crew, status, details, execution_id}], as crews.assign returns it.
    """
    entries, jobs = [], []
    for assignment in assignments:
        try:
            node_step = find_step(config, topology, case, assignment)
            if node_step is None:
                raise InvalidInput("runbook", assignment["runbook"], "has been changed", "")
            _require_runnable(env, node_step.step)
            jobs.append((assignment["node"], crew_of(config, topology, node_step)))
        except (InvalidInput, StackStormError) as error:
            details = "%s: %s" % (error.field, error.reason) if isinstance(
                error, InvalidInput) else str(error)
            entries.append({
                "node": assignment["node"], "crew": assignment["crew"],
                "status": crews.FAILED, "details": details,
            })
    started: list[dict[str, Any]] = crews.run_actions(env, jobs, seconds)
    return entries + started


def _require_runnable(env: Environment, step: RunbookStep) -> None:
    """Raise InvalidInput if the action of `step` cannot be run with its parameters."""
    if env.api is None:
        raise StackStormError("there is no StackStorm API to run %s" % step.action)
    api: Any = env.api
    problem = runbook_parameters.action_problem(step, api.action(step.action))
    if problem is not None:
        field, reason, hint = problem
        raise InvalidInput("%s.%s" % (step.action, field), None, reason, hint)
