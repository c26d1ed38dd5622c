import json
from urllib.parse import parse_qs, urlsplit

import pytest

from synthralos.calls.http import CallError, Response
from synthralos.core.errors import InvalidInput
from synthralos.infrastructure import detection
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Topology

from .infrastructure import samples


@pytest.fixture
def find(infra):
    """find(payload=..., **parameters) -> (nodes, left out)."""

    def find(payload=None, **parameters):
        config = load_config(infra.env)
        request = detection.parse_request(config, parameters, payload)
        slept = infra.slept = []
        return detection.detect_failures(
            infra.env, config, Topology.load(infra.env, config), request, 60, slept.append)

    return find


@pytest.mark.parametrize("parameters, source", [
    ({}, "query"), ({"nodes": ["a"]}, "list"), ({"alert": {"labels": {}}}, "alert"),
    ({"source": "query", "nodes": ["a"]}, "query"), ({"source": "list", "nodes": ["a"]}, "list"),
])
def test_auto_takes_what_is_given(infra, parameters, source):
    assert detection.parse_request(load_config(infra.env), parameters)["source"] == source


@pytest.mark.parametrize("payload, source", [
    (None, "query"), ({"executed_at": "now"}, "query"), ({"labels": {"node": "db"}}, "alert"),
    ({"body": {"alerts": [{"labels": {"node": "db"}}]}, "headers": {}}, "alert"), ("text", "query"),
])
def test_a_trigger_may_carry_the_alert(infra, payload, source):
    assert detection.parse_request(load_config(infra.env), {}, payload)["source"] == source


def test_a_list_is_taken_once_and_by_the_topology_s_names(find):
    assert find(nodes=["db:9100", "db", "new"]) == (["db", "new"], [])


@pytest.mark.parametrize("alert, nodes", [
    ({"labels": {"instance": "db:9100"}}, ["db"]),
    ({"labels": {"pod": "p", "node": "db"}}, ["db"]),
    ({"status": "resolved", "labels": {"node": "db"}}, []),
    ({"status": "firing", "labels": {"node": "{{ x }} <% y %>"}}, ["{{ x }} <% y %>"]),
    ({"alerts": [{"labels": {"node": "db"}}, {"status": "resolved", "labels": {"node": "web"}},
                 {"labels": {"node": "db"}}]}, ["db"]),
])
def test_an_alert_names_nodes(find, alert, nodes):
    assert find(alert=alert) == (nodes, [])


@pytest.mark.parametrize("alert", [
    {"labels": {}}, {"labels": {"team": "x"}}, {"labels": {"node": 7}}, {"labels": "x"},
    {"labels": {"node": "\x00"}}, {"labels": {"node": "x" * 201}}, {"alerts": ["x"]},
])
def test_an_alert_without_a_node_is_refused(find, alert):
    with pytest.raises(InvalidInput):
        find(alert=alert)


def test_of_several_alerts_the_unnamed_are_told(find):
    nodes, unresolved_alerts = find(
        alert={"alerts": [{"labels": {"node": "db"}}, {"labels": {"team": "x"}}]}
    )
    assert nodes == ["db"] and unresolved_alerts[0]["name"] == "['team']"


def test_the_labels_are_configurable(infra, find):
    infra.configure({"alert_labels": ["rack"]})
    assert find(alert={"labels": {"rack": "r7", "node": "db"}})[0] == ["r7"]


def test_prometheus_is_asked_the_query(infra, find):
    infra.down = [["db:9100", "web"]]
    hostile = "up{job=\"a b\"} == 0 & {{ x }} <% y %> \u00fc"
    assert find(query=hostile)[0] == ["db", "web"] and find()[0] == ["db", "web"]
    queries = [parse_qs(urlsplit(path).query)["query"][0] for path in infra.queries]
    assert queries == [hostile, "up == 0"]


@pytest.fixture
def answers(infra):
    """answers(body, status) makes Prometheus answer that."""

    def make(body, status=200):
        text = body if isinstance(body, str) else json.dumps(body)
        infra.request = lambda *_: Response(status, {}, text, 0.0)
        infra.failure_of = lambda answer, of: detection.make_failure("server_error", "HTTP")
        infra.env.client = infra

    return make


def test_samples_without_a_name_are_left_out_and_told(find, answers):
    body = samples(["db", "", " x", "a\u202eb", "y" * 300])
    body["data"]["result"] += [{"metric": {"job": "x"}}, {"metric": 7}, 7]
    answers(body)
    nodes, unresolved_alerts = find()
    assert nodes == ["db"] and len(unresolved_alerts) == 7
    assert all(
        alert["reason"] == "its label instance does not name a node" for alert in unresolved_alerts
    )


def test_beyond_the_bound_the_number_is_told(find, answers):
    answers(samples(["n%d" % n for n in range(250)] + [""] * 30))
    nodes, unresolved_alerts = find()
    assert len(nodes) == detection.MAX_FAILURES
    assert [alert["name"] for alert in unresolved_alerts[-2:]] == [
        "50 more nodes",
        "10 more samples",
    ]


@pytest.mark.parametrize("body", [
    "no json", [], {}, {"data": 7}, {"data": {"resultType": "vector"}},
    {"data": {"resultType": "scalar", "result": [0, "1"]}}, {"data": {"result": []}},
])
def test_what_is_no_answer_of_prometheus_is_no_health(find, answers, body):
    answers(body)
    with pytest.raises(CallError) as failed:
        find()
    assert failed.value.failure.cause == "malformed_answer"


def test_an_error_is_no_health(find, answers):
    answers({}, status=500)
    with pytest.raises(CallError):
        find()


def test_it_is_asked_twice(infra, find):
    infra.down = ["network", ["db"]]
    assert find()[0] == ["db"] and infra.slept == [detection.RETRY_DELAY_SECONDS]
    infra.down = ["network"]
    with pytest.raises(CallError):
        find()
    assert len(infra.queries) == 4
    infra.down = ["authentication"]
    with pytest.raises(CallError):
        find()
    assert len(infra.queries) == 5
