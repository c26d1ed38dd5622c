"""Which nodes of a run are to be planned again: after a repair that has not helped, or because of
further alerts of the same node.
"""

from collections.abc import Mapping
from typing import Any, Optional

from synthralos.infrastructure import check_records, runbook_steps
from synthralos.infrastructure.check_records import Check
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.topology import Topology


def note_ineffective(case: Mapping[str, Any]) -> list[Check]:
    """Note which repairs have not helped, and return their checks, each in one call only."""
    new = [
        check
        for check in check_records.with_status(case, check_records.NOT_REPAIRED)
        if check["crew"] not in case["ineffective"].get(check["node"], ())
    ]
    for check in new:
        # It is "" where nothing was done, because the failure seemed to be over.
        case["ineffective"].setdefault(check["node"], []).append(check["crew"])
    return new


def nodes_with_further_steps(
    config: InfrastructureConfig, topology: Topology, case: Mapping[str, Any]
) -> dict[str, Optional[int]]:
    """Return the nodes for which runbooks have another step, or a crew is still to be assigned.

    A node is left out while it is open, while one of its repairs is being checked, if nothing has
    been done about it, and if a person has refused an action for it.

    :returns: {node: the alert that the step is for, or None for a crew}.
    """
    nodes: dict[str, Optional[int]] = {}
    for node, node_steps in runbook_steps.steps_by_node(config, topology, case).items():
        checks = check_records.of_node(case, node)
        is_busy = any(check["status"] == check_records.PENDING for check in checks)
        if not checks or is_busy or node in case["failures"] + case["refused_nodes"]:
            continue
        next_step = runbook_steps.next_step(config, case, node, node_steps.steps)
        if next_step is not None:
            nodes[node] = next_step.alert
        elif runbook_steps.needs_crew(case, node, node_steps):
            nodes[node] = None
    return nodes


def close_recovered(
    config: InfrastructureConfig, topology: Topology, case: Any, over: list[Check]
) -> list[str]:
    """Close the repairs that are not needed now, and their nodes as far as no other is.

    One whose check is still pending is opened again if the failure comes back.

    :param over: as repair_check.find_recovered returns it.
    :returns: the nodes that stay open, because of other alerts.
    """
    for check in over:
        is_pending = check["status"] == check_records.PENDING
        is_one_of_several = check["alert"] is not None or check_records.of_node(case, check["node"])
        if is_pending or is_one_of_several:
            check_records.put(case, check)
    names = [check["node"] for check in over]
    case["failures"] = [name for name in case["failures"] if name not in names]
    open_nodes = [
        name for name in nodes_with_further_steps(config, topology, case) if name in names
    ]
    case["failures"] += open_nodes
    case["resolved"] += [
        name
        for name in names
        if name not in open_nodes + case["resolved"] +
        check_records.nodes_with(case, check_records.NOT_REPAIRED) +
        check_records.nodes_with(case, check_records.PENDING)
    ]
    return open_nodes
