"""The check of a step: which series speak of what an alert is about, and what they prove."""
import pytest

from synthralos.infrastructure import runbook_check, runbook_steps
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.repair_evidence import FAILED, HEALTHY, UNKNOWN, Calls
from synthralos.infrastructure.runbooks import find_runbook
from synthralos.storage import incidents

from .runbook_plant import CHECK, FULL, SETTLE, Plant, runbook, step

POD = {"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "web-7f9c",
       "container": "web", "job": "kube-state-metrics", "instance": "10.244.1.5:8080"}


@pytest.fixture
def plant(infra, clock):
    return Plant(infra, clock)


@pytest.fixture
def evidence(plant):
    """evidence(labels of the alert, [labels of a series], ...) -> Evidence after SETTLE seconds."""

    def find(labels, *series, then=lambda seconds: True, **more):
        env = plant.configure(
            runbook(step("clean", check=CHECK), alertname=labels["alertname"]), **more)
        config = load_config(env)
        matching = find_runbook(config.runbooks, labels)
        node_step = runbook_steps.NodeStep("web-1", 0, matching, matching.steps[0], labels, "c")
        question, ended_at = runbook_check.question_of(env, config, node_step), plant.clock()
        plant.prometheus.series.clear()
        for own in series:
            plant.heals(own, then)
        plant.clock.forward(SETTLE)
        return runbook_check.ask(env, Calls(env, env.now() + 10), config, question, ended_at)

    return find


@pytest.mark.parametrize("series, state", [
    ({"instance": "web-1:9100", "mountpoint": "/data"}, HEALTHY),
    ({"instance": "web-1:9100", "mountpoint": "/data", "job": "other", "cpu": "0"}, HEALTHY),
    ({"instance": "web-1:9091", "mountpoint": "/data"}, HEALTHY),
    ({"instance": "web-1", "mountpoint": "/data"}, HEALTHY),
    ({"mountpoint": "/data"}, HEALTHY),
    ({"instance": "web-1:9100"}, HEALTHY),
    ({}, HEALTHY),
    ({"__name__": "x", "job": "node"}, HEALTHY),
    ({"instance": "web-2:9100", "mountpoint": "/data"}, FAILED),
    ({"instance": "web-10:9100", "mountpoint": "/data"}, FAILED),
    ({"instance": "web-1:9100", "mountpoint": "/var"}, FAILED),
    ({"mountpoint": "/var"}, FAILED),
    ({"queue": "orders"}, FAILED),
    ({"host": "web-2"}, FAILED),
])
def test_only_a_series_of_the_thing_itself_counts(evidence, series, state):
    assert evidence(FULL, series).state == state


def test_one_of_several_is_enough(evidence):
    other = {"instance": "web-2:9100", "mountpoint": "/data"}
    assert evidence(FULL, other, dict(other, instance="web-1:9100")).state == HEALTHY


def test_an_empty_result_proves_nothing(evidence):
    result = evidence(FULL)
    assert result.state == FAILED and "no healthy result" in result.reason


@pytest.mark.parametrize("then, state, reason", [
    (lambda seconds: seconds >= 20, HEALTHY, ""),
    (lambda seconds: seconds < 50, FAILED, "failed again"),
    (lambda seconds: not 20 < seconds < 30, FAILED, "failed again"),
    (lambda seconds: seconds // 10 % 2 == 0, FAILED, "failed again"),
    (lambda seconds: False, FAILED, "no healthy result"),
])
def test_it_is_healthy_from_some_time_on(evidence, then, state, reason):
    result = evidence(FULL, {"instance": "web-1:9100", "mountpoint": "/data"}, then=then)
    assert result.state == state and reason in result.reason


def test_it_is_healthy_since_its_first_sample(evidence, clock):
    began = clock()
    result = evidence(FULL, {"instance": "web-1:9100"}, then=lambda seconds: seconds >= 20)
    assert 20 <= result.since - began <= 22


@pytest.mark.parametrize("status", ["network", "timeout", 400, 422, 503])
def test_no_response_is_not_known(plant, evidence, status):
    plant.prometheus.status = status
    result = evidence(FULL, {"instance": "web-1:9100"})
    assert result.state == UNKNOWN and "could not be queried" in result.reason


def test_the_queue_of_an_alert_is_that_of_its_series(evidence):
    """Commas, quotes and backslashes in labels are compared, never parsed."""
    labels = {"alertname": "QueueGrowing", "queue": "gum,latency", "path": 'C:\\t "x"',
              "expr": "a|b.*"}
    assert evidence(labels, {"queue": "gum,latency"}).state == HEALTHY
    assert evidence(labels, {"queue": "gum"}).state == FAILED
    assert evidence(labels, {"queue": "gum,latency", "path": "C:\\t"}).state == FAILED
    assert evidence(labels, {"queue": "gum,latency", "expr": "a|bcd"}).state == FAILED
    assert evidence(labels, dict(labels, __name__="x", job="j")).state == HEALTHY


@pytest.mark.parametrize("series, state", [
    ({"namespace": "shop", "pod": "web-7f9c", "instance": "10.244.9.9:8080"}, HEALTHY),
    ({"namespace": "shop", "pod": "web-7f9c", "container": "web"}, HEALTHY),
    ({"namespace": "shop", "pod": "web-7f9c", "container": "sidecar"}, FAILED),
    ({"namespace": "shop", "pod": "web-8e0d"}, FAILED),
    ({"namespace": "test", "pod": "web-7f9c"}, FAILED),
    ({"namespace": "shop"}, HEALTHY),
])
def test_the_exporter_s_own_address_is_no_difference(evidence, series, state):
    assert evidence(POD, dict(series, job="kube-state-metrics")).state == state


class TestClusters:
    """The same name in two clusters."""

    EU = dict(POD, cluster="eu")
    OWN = {"namespace": "shop", "pod": "web-7f9c"}

    @pytest.fixture(autouse=True, params=["alerts", "topology", "topology without namespace"])
    def both(self, request, plant, evidence):
        self.more = {}
        if request.param == "alerts":
            for cluster in ("eu", "us"):
                incidents.record_cluster(plant.infra.env.store, "shop/web-7f9c", cluster)
        else:
            name = "shop/web-7f9c" if request.param == "topology" else "web-7f9c"
            self.more = {"topology": [{"name": "eu/" + name}, {"name": "us/" + name}]}
        self.evidence = lambda labels, *series: evidence(labels, *series, **self.more)

    def test_a_series_of_the_other_is_no_answer(self):
        assert self.evidence(self.EU, dict(self.OWN, cluster="us")).state == FAILED
        assert self.evidence(self.EU, dict(self.OWN, cluster="eu")).state == HEALTHY

    def test_a_series_without_a_cluster_may_be_the_other_s(self):
        result = self.evidence(self.EU, self.OWN)
        assert result.state == UNKNOWN and "which cluster" in result.reason
        assert self.evidence(self.EU, self.OWN, dict(self.OWN, cluster="us")).state == UNKNOWN

    def test_a_series_without_a_cluster_does_not_hide_that_its_own_is_missing(self, plant):
        result = self.evidence(self.EU, {}, dict(self.OWN, cluster="us"))
        assert result.state == UNKNOWN

    def test_an_alert_without_a_cluster_is_not_answered_by_both(self):
        result = self.evidence(
            POD, dict(self.OWN, cluster="us"), dict(self.OWN, cluster="eu"))
        assert result.state == UNKNOWN and "several clusters" in result.reason


def test_a_name_that_one_cluster_has_needs_no_cluster_in_its_series(evidence, plant):
    incidents.record_cluster(plant.infra.env.store, "shop/web-7f9c", "eu")
    own = {"namespace": "shop", "pod": "web-7f9c"}
    assert evidence(dict(POD, cluster="eu"), own).state == HEALTHY


def test_a_cluster_whose_name_needs_quotes_is_no_other(evidence, plant):
    """What is stored of a cluster is its name in the alphabet of names."""
    incidents.record_cluster(plant.infra.env.store, "shop/web-7f9c", "eu_west")
    own = {"namespace": "shop", "pod": "web-7f9c"}
    assert evidence(dict(POD, cluster="eu west"), own).state == HEALTHY


def test_the_configuration_says_which_label_is_the_cluster(evidence):
    labels, series = dict(FULL, site="eu"), {"instance": "web-1:9100", "mountpoint": "/data"}
    more = {"alert_cluster_labels": ["site"]}
    assert evidence(labels, dict(series, site="us"), **more).state == FAILED
    assert evidence(labels, dict(series, site="eu"), **more).state == HEALTHY


def test_replicas_of_prometheus_are_no_difference(evidence):
    labels = dict(FULL, prometheus_replica="a", prometheus="monitoring/k8s")
    series = {"instance": "web-1:9100", "mountpoint": "/data", "prometheus_replica": "b"}
    assert evidence(labels, series).state == HEALTHY
