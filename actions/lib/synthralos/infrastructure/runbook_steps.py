"""Plans and runs the steps of the runbooks that match the alerts of a run.

Each alert of a node that matches a runbook is repaired by its steps, in order: the next one when
the action of a step has failed more often than its `retries`, or when its check shows that it has
not helped. Where several alerts of one run concern the same node, they are repaired one after the
other; those without a runbook come last, and crews repair them.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

from synthralos.core.errors import InvalidInput, shorten_repr
from synthralos.core.sanitize import sanitize_value
from synthralos.infrastructure import (
    check_records,
    crews,
    detection,
    runbook_actions,
    runbook_parameters,
)
from synthralos.infrastructure.config import Crew, InfrastructureConfig
from synthralos.infrastructure.crews import AssignmentEntry
from synthralos.infrastructure.parameter_names import holds_host
from synthralos.infrastructure.runbooks import Runbook, RunbookStep, find_runbook
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.storage.stackstorm_api import StackStormError

SOURCE = "runbook"
MAX_SHOWN_CHARS = 1000
# Transitions of a further step: planning, execution, check.
TRANSITIONS = 3


@dataclass(frozen=True)
class NodeStep:
    """A step of a runbook for one alert of a node.

    :ivar alert: the position of the alert in the notification.
    :ivar labels: of the alert.
    :ivar crew: the name under which results report it: that of its crew, or `runbook/step`.
    """

    node: str
    alert: int
    runbook: Runbook
    step: RunbookStep
    labels: Mapping[str, Any]
    crew: str


class NodeSteps(NamedTuple):
    """The steps of a node, in order; and whether it has alerts that match no runbook, too."""

    steps: list[NodeStep]
    has_other_alerts: bool


def steps_by_node(
    config: InfrastructureConfig, topology: Topology, case: Mapping[str, Any]
) -> dict[str, NodeSteps]:
    """Return the steps of each node that has an alert with a runbook."""
    if not config.runbooks or case["request"]["source"] != detection.ALERT:
        return {}
    steps_of_node: dict[str, NodeSteps] = {}
    alerts_of_node = detection.labels_by_node(config, topology, case["request"]["alert"])
    for node, alerts in alerts_of_node.items():
        steps: list[NodeStep] = []
        counts: dict[str, int] = {}
        has_other_alerts = False
        for position, labels in alerts.items():
            runbook = find_runbook(config.runbooks, labels)
            if runbook is None:
                has_other_alerts = True
                continue
            counts[runbook.name] = counts.get(runbook.name, 0) + 1
            steps += _node_steps(node, position, runbook, labels, counts[runbook.name])
        if steps:
            steps_of_node[node] = NodeSteps(steps, has_other_alerts)
    return steps_of_node


def _node_steps(
    node: str, alert: int, runbook: Runbook, labels: Mapping[str, Any], count: int
) -> Iterator[NodeStep]:
    suffix = "" if count == 1 else "/%d" % count
    for step in runbook.steps:
        crew = step.crew or "%s/%s%s" % (runbook.name, step.name, suffix)
        yield NodeStep(node, alert, runbook, step, labels, crew)


def next_step(
    config: InfrastructureConfig, case: Mapping[str, Any], node: str, steps: list[NodeStep]
) -> Optional[NodeStep]:
    """Return the step that comes next for a node, or None if none is left."""
    failed = case["tried"].get(node, [])
    ineffective = case["ineffective"].get(node, [])
    settled = {
        check["alert"]
        for check in check_records.of_node(case, node)
        if check["status"] != check_records.NOT_REPAIRED
    }
    for node_step in steps:
        if node_step.alert in settled:
            continue
        crew = None if node_step.step.crew is None else config.crew(node_step.step.crew)
        if crew is not None and not crew.available:
            continue
        has_failed = failed.count(node_step.crew) > node_step.step.retries
        if not has_failed and node_step.crew not in ineffective:
            return node_step
    return None


def needs_crew(case: Mapping[str, Any], node: str, node_steps: NodeSteps) -> bool:
    """Return whether a node has alerts without a runbook that no crew has been assigned to yet.

    :param node_steps: of the node, of which none is left.
    """
    return node_steps.has_other_alerts and not any(
        check["alert"] is None and (
            check["crew"] or check["status"] != check_records.NOT_REPAIRED
        )
        for check in check_records.of_node(case, node)
    )


def _is_with_crews(case: Mapping[str, Any], node: str, node_steps: NodeSteps) -> bool:
    """Return whether a crew is next for a node of whose runbooks no step is left: the first one, or
    one after a crew that has not helped.
    """
    return needs_crew(case, node, node_steps) or any(
        check["alert"] is None and check["status"] == check_records.NOT_REPAIRED
        for check in check_records.of_node(case, node)
    )


def plan(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Plan the next step of each open node that has a runbook.

    :returns: (assignments, unassigned): [{node, crew, requires_approval, source, runbook, step,
        alert, action, parameters, hosts, digest}] and [{node, reason, runbook}]. `parameters` is
        for people: without secrets and templates; `hosts` are those that the action works on
        besides the node; `digest` is that of everything that would be run.
    """
    assignments, unassigned = [], []
    for node, node_steps in steps_by_node(config, topology, case).items():
        if node not in case["failures"]:
            continue
        node_step = next_step(config, case, node, node_steps.steps)
        if node_step is None and _is_with_crews(case, node, node_steps):
            continue
        reason, runbook = "no step of its runbook is left", node_steps.steps[0].runbook
        if node_step is not None:
            runbook = node_step.runbook
            try:
                assignments.append(_assignment(env, config, topology, node_step))
                continue
            except InvalidInput as error:
                # The value may be any text; runbook.explain shows it.
                reason = "%s: %s" % (error.field, error.reason)
        unassigned.append({"node": node, "reason": reason, "runbook": runbook.name})
    return assignments, unassigned


def _assignment(
    env: Environment, config: InfrastructureConfig, topology: Topology, node_step: NodeStep
) -> dict[str, Any]:
    """Return the assignment of a step.

    :raises InvalidInput: the parameters of any step of the runbook cannot be resolved.
    """
    runbook_parameters.resolve_all(node_step.runbook, node_step.labels, topology)
    crew = crew_of(config, topology, node_step)
    parameters = dict(crew.parameters)
    if crew.action is not None and crew.node_parameter is not None:
        parameters[crew.node_parameter] = node_step.node
    content = json.dumps([crew.action, crew.parameters, crew.approval], default=str, sort_keys=True)
    return {
        "node": node_step.node,
        "crew": node_step.crew,
        "requires_approval": crew.requires_approval,
        "source": SOURCE,
        "runbook": node_step.runbook.name,
        "step": node_step.step.name,
        "alert": node_step.alert,
        "action": crew.action,
        "parameters": sanitize_value(parameters, env.redactor, MAX_SHOWN_CHARS),
        "hosts": [host for host in _hosts_of(topology, node_step, crew) if host != node_step.node],
        "digest": hashlib.sha256(content.encode()).hexdigest()[:16],
    }


def _hosts_of(topology: Topology, node_step: NodeStep, crew: Crew) -> list[str]:
    if node_step.step.action is None:
        return []
    return runbook_parameters.hosts_of(node_step.step, crew.parameters, topology)


def crew_of(config: InfrastructureConfig, topology: Topology, node_step: NodeStep) -> Crew:
    """Return the crew that carries out a step: the configured one, or one made of its action.

    :raises InvalidInput: a parameter cannot be resolved, the crew is no longer configured, or its
        action must not be passed the node.
    """
    step = node_step.step
    if step.crew is not None:
        crew = config.crew(step.crew)
        if crew is None:
            raise InvalidInput("crew", step.crew, "is no longer configured", "Start the run again")
        _require_known_node(topology, node_step, crew)
        return crew
    return Crew(
        name=node_step.crew,
        action=step.action,
        node_parameter=None,
        parameters=runbook_parameters.resolve_parameters(step, node_step.labels, topology),
        approval=step.approval,
        seconds=step.seconds,
    )


def _require_known_node(topology: Topology, node_step: NodeStep, crew: Crew) -> None:
    """Raise InvalidInput if the action of `crew` would be passed a host that is not known."""
    if crew.action is None or node_step.node in topology or (
        crew.node_parameter is not None and not holds_host(crew.node_parameter)
    ):
        return
    raise InvalidInput(
        "%s.crew" % node_step.step.name, crew.name,
        "acts on nodes of the topology only, and %s is not one" % shorten_repr(node_step.node),
        "Add it to infrastructure.topology",
    )


def is_further(case: Mapping[str, Any], assignments: list[dict[str, Any]]) -> bool:
    """Return whether a plan goes on with a node that a step of a runbook was planned for before."""
    return any(
        (assignment["source"] == SOURCE or any(check["alert"] is not None for check in checks)) and
        (assignment["node"] in case["tried"] or bool(checks))
        for assignment in assignments
        for checks in [check_records.of_node(case, assignment["node"])]
    )


def find_step(
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    assignment: Mapping[str, Any],
) -> Optional[NodeStep]:
    """Return the step of an assignment of a plan; None if no step of a runbook is assigned by it,
    or not any more.
    """
    if assignment.get("source") != SOURCE:
        return None
    node_steps = steps_by_node(config, topology, case).get(assignment["node"])
    for node_step in node_steps.steps if node_steps is not None else []:
        names = (node_step.runbook.name, node_step.step.name, node_step.alert)
        if names == (assignment["runbook"], assignment["step"], assignment["alert"]):
            return node_step
    return None


def has_changed(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    assignment: Mapping[str, Any],
) -> bool:
    """Return whether an assignment is no longer what it was when it was planned, or approved."""
    if assignment["source"] != SOURCE:
        return False
    node_step = find_step(config, topology, case, assignment)
    try:
        return node_step is None or _assignment(env, config, topology, node_step) != assignment
    except InvalidInput:
        return True


def run_steps(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    steps: list[NodeStep],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    on_start: Callable[[str], None] = crews.ignore_start,
) -> list[AssignmentEntry]:
    """Run the actions of the steps, side by side.

    :param seconds: the time limit for all of them together.
    :param sleep: called while they run, again and again; on_start: with the id of each execution.
    """
    entries: list[AssignmentEntry] = []
    jobs: list[tuple[str, Crew]] = []
    for node_step in steps:
        try:
            _require_runnable(env, node_step.step)
            jobs.append((node_step.node, crew_of(config, topology, node_step)))
        except (InvalidInput, StackStormError) as error:
            details = "%s: %s" % (error.field, error.reason) if isinstance(
                error, InvalidInput) else str(error)
            entries.append({
                "node": node_step.node, "crew": node_step.crew,
                "status": crews.FAILED, "details": details,
            })
    return entries + crews.run_actions(env, jobs, seconds, sleep, on_start)


def _require_runnable(env: Environment, step: RunbookStep) -> None:
    """Raise InvalidInput if the action of `step` cannot be run with its parameters."""
    if env.api is None:
        raise StackStormError("there is no StackStorm API to run %s" % step.action)
    api: Any = env.api
    action = api.action(step.action)
    runner_parameters = runbook_actions.runner_parameters_of(api, action)
    problem = runbook_actions.action_problem(step, action, runner_parameters)
    if problem is not None:
        field, reason, hint = problem
        raise InvalidInput("%s.%s" % (step.action, field), None, reason, hint)
