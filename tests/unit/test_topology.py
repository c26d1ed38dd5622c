import json

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import impact, topology
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.topology import Topology

from .infrastructure import NODES


def topology_of(*entries):
    return Topology(topology.read_nodes("t", list(entries)))


@pytest.fixture
def sample_topology():
    return topology_of(*NODES)


def test_downstream_is_all_that_depends_on_it_nearest_first(sample_topology):
    assert sample_topology.downstream("switch") == ["db", "web"]
    assert (
        sample_topology.dependents("switch") == ["db"] and sample_topology.downstream("web") == []
    )


def test_a_cycle_is_tolerated():
    ring = topology_of({"name": "a", "depends_on": ["c"]}, {"name": "b", "depends_on": ["a"]},
              {"name": "c", "depends_on": ["b"]}, {"name": "self", "depends_on": ["self"]})
    assert sorted(ring.downstream("a")) == ["b", "c"] and ring.downstream("self") == []


def test_a_node_that_nobody_described(sample_topology):
    small_topology = topology_of({"name": "x", "depends_on": ["power"]})
    assert (
        small_topology.downstream("power") == ["x"] and
        "power" in small_topology and
        "moon" not in small_topology
    )
    assert small_topology.node("power").criticality == "low"


@pytest.mark.parametrize("name, resolved", [
    ("db", "db"), ("db:9100", "db"), ("moon:9100", "moon:9100"), ("db:x", "db:x"), (":1", ":1"),
])
def test_a_port_is_left_out_where_only_the_host_is_known(sample_topology, name, resolved):
    assert sample_topology.canonical_name(name) == resolved


@pytest.mark.parametrize("entry, field", [
    (7, "t[0]"), ({}, "t[0].name"), ({"name": "x", "depends": []}, "t[0].depends"),
    ({"name": "x", "depends_on": "y"}, "t[0].depends_on"),
    ({"name": "x", "criticality": "dire"}, "t[0].criticality"),
    ({"name": "x", "people": -1}, "t[0].people"), ({"name": "x", "people": True}, "t[0].people"),
    ({"name": "x", "skills": "all"}, "t[0].skills"), ({"name": "x", "zone": 7}, "t[0].zone"),
    ({"name": "x", "repair_seconds": "long"}, "t[0].repair_seconds"),
])
def test_a_wrong_node_is_named(entry, field):
    with pytest.raises(InvalidInput) as refused:
        topology_of(entry)
    assert refused.value.field == field


def test_the_datastore_s_nodes_go_over_the_config_s(make_env, datastore):
    env = make_env()
    config = InfrastructureConfig(topology=tuple(NODES), topology_from="nodes")
    for text in (None, "no json", "7", '{"nodes": 7}', '[{"name": 7}]'):
        if text is not None:
            datastore.put("nodes", text)
        with pytest.raises(InvalidInput):
            Topology.load(env, config)
    datastore.put("nodes", json.dumps({"nodes": [{"name": "web", "people": 7}, {"name": "new"}]}))
    read = Topology.load(env, config)
    assert read.node("web").people == 7 and "new" in read and read.node("db").people == 100


def test_impact_counts_each_node_once(sample_topology):
    report = impact.estimate(sample_topology, ["db", "web"])
    assert [node_impact["node"] for node_impact in report["nodes"]] == ["db", "web"]
    assert [node_impact["population_affected"] for node_impact in report["nodes"]] == [5100, 5000]
    assert report["total"] == {
        "criticality": "high", "population_affected": 5100, "nodes_affected": 2}


def test_impact_takes_the_criticality_of_what_depends_on_it():
    sample_topology = topology_of({"name": "cable"}, {"name": "heart", "depends_on": ["cable"],
                                   "criticality": "critical", "people": 1})
    node_impact = impact.estimate(sample_topology, ["cable"])["nodes"][0]
    assert (node_impact["criticality"], node_impact["population_affected"]) == ("critical", 1)
    assert node_impact["direct"] == node_impact["downstream"] == ["heart"]


def test_impact_of_an_unknown_node_is_low(sample_topology):
    report = impact.estimate(sample_topology, ["moon"])
    assert report["nodes"][0]["known"] is False and report["total"]["criticality"] == "low"


def test_the_most_severe_comes_first(sample_topology):
    report = impact.estimate(sample_topology, ["moon", "web", "db", "switch", "ant"])
    assert [node_impact["node"] for node_impact in report["nodes"]] == [
        "switch",
        "db",
        "web",
        "ant",
        "moon",
    ]


def test_a_large_topology_is_told_in_small():
    nodes = [{"name": "root"}] + [
        {"name": "n%d" % n, "depends_on": ["root"], "people": 1} for n in range(3000)]
    report = impact.estimate(topology_of(*nodes), ["root"])
    assert report["total"]["population_affected"] == 3000
    assert len(report["nodes"][0]["downstream"]) == impact.MAX_NODES_SHOWN
    assert impact.estimate(topology_of(), [])["total"]["nodes_affected"] == 0
