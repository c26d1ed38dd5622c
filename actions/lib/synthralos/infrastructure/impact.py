"""The impact of failed nodes: affected people, criticality, and dependent nodes."""

from synthralos.core.plurals import count_noun
from synthralos.infrastructure.topology import CRITICALITIES

# The whole report is part of a run's result: of further dependents only the number is shown.
MAX_NODES_SHOWN = 20


def rank(criticality):
    return CRITICALITIES.index(criticality)


def estimate(topology, failed):
    """Return the impact report of the failed nodes.

    A node's criticality is the highest among itself and its dependents. People and nodes are
    counted once for each failed node, and once in the total even if failures share them.

    :returns: {nodes [{node, known, criticality, population_affected, direct, downstream,
        nodes_affected}], total {population_affected, criticality, nodes_affected}}, the most
        severe node first.
    """
    node_impacts, all_affected = [], set()
    for name in failed:
        downstream = topology.downstream(name)
        affected = {name, *downstream}
        all_affected |= affected
        node_impacts.append(
            dict(
                {"node": name, "known": name in topology},
                **_totals(topology, affected),
                direct=topology.dependents(name)[:MAX_NODES_SHOWN],
                downstream=downstream[:MAX_NODES_SHOWN],
            )
        )
    node_impacts.sort(key=_severity_key)
    return {"nodes": node_impacts, "total": _totals(topology, all_affected)}


def describe(impact):
    """Return one line of text for a node's impact or for the total of a report."""
    return "%s: %s, %s affected" % (
        impact["criticality"],
        count_noun(impact["population_affected"], "person", "people"),
        count_noun(impact["nodes_affected"], "node"),
    )


def _totals(topology, names):
    nodes = [topology.node(name) for name in names]
    return {
        "criticality": max(
            (node.criticality for node in nodes), key=rank, default=CRITICALITIES[0]
        ),
        "population_affected": sum(node.people for node in nodes),
        "nodes_affected": len(nodes),
    }


def _severity_key(node_impact):
    """Sort key: the most critical first, then the most people, the most nodes, by name."""
    return (
        -rank(node_impact["criticality"]),
        -node_impact["population_affected"],
        -node_impact["nodes_affected"],
        node_impact["node"],
    )
