import json

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import impact, topology
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.topology import Topology

from .infrastructure import NODES


def of(*entries):
    return Topology(topology.read("t", list(entries)))


@pytest.fixture
def known():
    return of(*NODES)


def test_downstream_is_all_that_depends_on_it_nearest_first(known):
    assert known.downstream("switch") == ["db", "web"]
    assert known.dependents("switch") == ["db"] and known.downstream("web") == []


def test_a_cycle_is_tolerated():
    ring = of({"name": "a", "depends_on": ["c"]}, {"name": "b", "depends_on": ["a"]},
              {"name": "c", "depends_on": ["b"]}, {"name": "self", "depends_on": ["self"]})
    assert sorted(ring.downstream("a")) == ["b", "c"] and ring.downstream("self") == []


def test_a_node_that_nobody_described(known):
    others = of({"name": "x", "depends_on": ["power"]})
    assert others.downstream("power") == ["x"] and "power" in others and "moon" not in others
    assert others.node("power").criticality == "low"


@pytest.mark.parametrize("given, resolved", [
    ("db", "db"), ("db:9100", "db"), ("moon:9100", "moon:9100"), ("db:x", "db:x"), (":1", ":1"),
])
def test_a_port_is_left_out_where_only_the_host_is_known(known, given, resolved):
    assert known.resolved(given) == resolved


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
        of(entry)
    assert refused.value.field == field


def test_the_datastore_s_nodes_go_over_the_config_s(make_env, datastore):
    env = make_env()
    config = InfrastructureConfig(topology=tuple(NODES), topology_from="nodes")
    for text in (None, "no json", "7", '{"nodes": 7}', '[{"name": 7}]'):
        if text is not None:
            datastore.put("nodes", text)
        with pytest.raises(InvalidInput):
            Topology.of(env, config)
    datastore.put("nodes", json.dumps({"nodes": [{"name": "web", "people": 7}, {"name": "new"}]}))
    read = Topology.of(env, config)
    assert read.node("web").people == 7 and "new" in read and read.node("db").people == 100


def test_impact_counts_each_node_once(known):
    report = impact.estimate(known, ["db", "web"])
    assert [told["node"] for told in report["nodes"]] == ["db", "web"]
    assert [told["population_affected"] for told in report["nodes"]] == [5100, 5000]
    assert report["total"] == {
        "criticality": "high", "population_affected": 5100, "nodes_affected": 2}


def test_impact_takes_the_criticality_of_what_depends_on_it():
    known = of({"name": "cable"}, {"name": "heart", "depends_on": ["cable"],
                                   "criticality": "critical", "people": 1})
    told = impact.estimate(known, ["cable"])["nodes"][0]
    assert (told["criticality"], told["population_affected"]) == ("critical", 1)
    assert told["direct"] == told["downstream"] == ["heart"]


def test_impact_of_an_unknown_node_is_low(known):
    report = impact.estimate(known, ["moon"])
    assert report["nodes"][0]["known"] is False and report["total"]["criticality"] == "low"


def test_the_most_severe_comes_first(known):
    report = impact.estimate(known, ["moon", "web", "db", "switch", "ant"])
    assert [told["node"] for told in report["nodes"]] == ["switch", "db", "web", "ant", "moon"]


def test_a_large_topology_is_told_in_small():
    nodes = [{"name": "root"}] + [
        {"name": "n%d" % n, "depends_on": ["root"], "people": 1} for n in range(3000)]
    report = impact.estimate(of(*nodes), ["root"])
    assert report["total"]["population_affected"] == 3000
    assert len(report["nodes"][0]["downstream"]) == impact.MAX_NODES_SHOWN
    assert impact.estimate(of(), [])["total"]["nodes_affected"] == 0
