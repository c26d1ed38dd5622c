"""What the failure of nodes touches: how many people, how critical, which other nodes."""

from synthralos.infrastructure.topology import CRITICALITIES

# A report is shown whole in a run's result: of more dependents only the number is told.
MAX_NODES_SHOWN = 20


def rank(criticality):
    return CRITICALITIES.index(criticality)


def estimate(topology, failed):
    """The impact report of the failed nodes.

    {nodes [{node, known, criticality, population_affected, direct, downstream, nodes_affected}],
    total {population_affected, criticality, nodes_affected}}. A node's criticality is the highest
    among itself and what depends on it; people and nodes are counted once in each, and once in the
    total whatever failures share them. The most severe node comes first.
    """
    told, everything = [], set()
    for name in failed:
        downstream = topology.downstream(name)
        touched = {name, *downstream}
        everything |= touched
        told.append(
            dict(
                {"node": name, "known": name in topology},
                **_sum(topology, touched),
                direct=topology.dependents(name)[:MAX_NODES_SHOWN],
                downstream=downstream[:MAX_NODES_SHOWN],
            )
        )
    told.sort(key=_severity)
    return {"nodes": told, "total": _sum(topology, everything)}


def _sum(topology, names):
    known = [topology.node(name) for name in names]
    return {
        "criticality": max(
            (node.criticality for node in known), key=rank, default=CRITICALITIES[0]
        ),
        "population_affected": sum(node.people for node in known),
        "nodes_affected": len(known),
    }


def _severity(told):
    """Sort key: the most critical first, then the most people, the most nodes, by name."""
    return (
        -rank(told["criticality"]),
        -told["population_affected"],
        -told["nodes_affected"],
        told["node"],
    )
