"""The impact of failed nodes: affected people, criticality, and dependent nodes."""

from collections.abc import Collection, Iterable, Sequence
from typing import TypedDict

from synthralos.core.plurals import count_noun
from synthralos.infrastructure.topology import CRITICALITIES, Topology

# The whole report is part of a run's result: of further dependents only the number is shown.
MAX_NODES_SHOWN = 20


class Totals(TypedDict):
    """The impact of one or more failed nodes; `nodes_affected` counts them, too."""

    criticality: str
    population_affected: int
    nodes_affected: int


# The functional form, because the key is no name for code.
_TopologyFact = TypedDict("_TopologyFact", {"known": bool})  # noqa: UP013


class NodeImpact(Totals, _TopologyFact):
    """The impact of one failed node.

    `known`: whether the topology has the node; `direct`, `downstream`: the nodes that depend on
    it directly, and all that do, at most MAX_NODES_SHOWN of each.
    """

    node: str
    direct: Sequence[str]
    downstream: list[str]


class ImpactReport(TypedDict):
    """The impact of failed nodes, the most severe node first."""

    nodes: list[NodeImpact]
    total: Totals


def rank(criticality: str) -> int:
    return CRITICALITIES.index(criticality)


def estimate(topology: Topology, failed: Iterable[str]) -> ImpactReport:
    """Return the impact report of the failed nodes.

    A node's criticality is the highest among itself and its dependents. People and nodes are
    counted once for each failed node, and once in the total even if failures share them.
    """
    node_impacts: list[NodeImpact] = []
    all_affected: set[str] = set()
    for name in failed:
        downstream = topology.downstream(name)
        affected = {name, *downstream}
        all_affected |= affected
        node_impacts.append(
            {
                "node": name,
                "known": name in topology,
                **_totals(topology, affected),
                "direct": topology.dependents(name)[:MAX_NODES_SHOWN],
                "downstream": downstream[:MAX_NODES_SHOWN],
            }
        )
    node_impacts.sort(key=_severity_key)
    return {"nodes": node_impacts, "total": _totals(topology, all_affected)}


def describe(impact: Totals) -> str:
    """Return one line of text for a node's impact or for the total of a report."""
    return "%s: %s, %s affected" % (
        impact["criticality"],
        count_noun(impact["population_affected"], "person", "people"),
        count_noun(impact["nodes_affected"], "node"),
    )


def _totals(topology: Topology, names: Collection[str]) -> Totals:
    nodes = [topology.node(name) for name in names]
    return {
        "criticality": max(
            (node.criticality for node in nodes), key=rank, default=CRITICALITIES[0]
        ),
        "population_affected": sum(node.people for node in nodes),
        "nodes_affected": len(nodes),
    }


def _severity_key(node_impact: NodeImpact) -> tuple[int, int, int, str]:
    """Sort key: the most critical first, then the most people, the most nodes, by name."""
    return (
        -rank(node_impact["criticality"]),
        -node_impact["population_affected"],
        -node_impact["nodes_affected"],
        node_impact["node"],
    )
