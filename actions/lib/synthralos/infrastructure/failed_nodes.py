"""The failed nodes of a run of infrastructure_repair, as its case stores them."""

from collections.abc import Iterable
from typing import Any

from synthralos.infrastructure import detection
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.infrastructure_repair import call_seconds
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment


def query_prometheus(
    env: Environment, case: dict[str, Any], config: InfrastructureConfig, topology: Topology
) -> tuple[list[str], list[detection.UnresolvedAlert]]:
    """Ask Prometheus which nodes are down now, and remember them as seen.

    :returns: (nodes, unresolved), as detection.detect_failures returns them.
    :raises CallError: Prometheus did not respond, or its response is malformed.
    """
    nodes, unresolved_alerts = detection.query_prometheus(
        env, config, topology, case["request"]["query"], call_seconds(env, case)
    )
    add_seen(case, nodes)
    return nodes, unresolved_alerts


def add_seen(case: dict[str, Any], nodes: Iterable[str]) -> None:
    """Remember that Prometheus has shown `nodes` as failed: it can show that they are healthy."""
    case["seen_down"] += [name for name in nodes if name not in case["seen_down"]]


def add_failures(case: dict[str, Any], nodes: Iterable[str]) -> list[str]:
    """Add those of `nodes` that are new to the run to its open failures, and return them."""
    new = [name for name in nodes if name not in case["known"]]
    case["known"] += new
    case["failures"] += new
    return new


def add_unresolved(
    case: dict[str, Any], unresolved_alerts: Iterable[detection.UnresolvedAlert]
) -> None:
    """Add failures that could not be mapped to a node, each once."""
    case["unresolved_alerts"] += [
        entry for entry in unresolved_alerts if entry not in case["unresolved_alerts"]
    ]
