"""What the alerts of public rules are about; tests/fixtures/alerts/README.md names the sources."""
import json
import pathlib

import pytest

from synthralos.sensing import alert_subjects
from synthralos.sensing.alert_subjects import SubjectRules

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
ROWS = json.loads((FIXTURES / "alerts_of_rules.json").read_text(encoding="utf-8"))
IDS = ["%03d-%s" % (index, row[1]) for index, row in enumerate(ROWS)]
POD_ADDRESS, POD_SUFFIX = "10.244.1.5", "-x2x4q"
# Reported by an exporter in a pod; a pod that fails may also be the subject itself.
IN_PODS = [
    index for index, (_, _, labels, _, label) in enumerate(ROWS)
    if labels.get("instance", "").startswith(POD_ADDRESS) and "exporter" in str(labels) and
    label not in ("pod", "instance")
]


def subject_of(labels, **rules):
    subject = alert_subjects.find_subject(labels, SubjectRules(**rules))
    return (None, None) if subject is None else (subject.name, subject.label)


def identity(labels):
    return alert_subjects.identity_labels(labels, subject_of(labels)[1])


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_an_alert_is_about(row):
    _, _, labels, name, label = row
    assert subject_of(labels) == (name, label)


@pytest.mark.parametrize("index", IN_PODS, ids=[IDS[index] for index in IN_PODS])
def test_another_pod_of_an_exporter_is_no_other_incident(index):
    labels = ROWS[index][2]
    moved = {
        name: value.replace(POD_ADDRESS, "10.244.9.9").replace(POD_SUFFIX, "-z9z9z")
        for name, value in labels.items()
    }
    assert moved != labels
    assert (subject_of(moved), identity(moved)) == (subject_of(labels), identity(labels))


@pytest.mark.parametrize("labels, changes", [
    # Exporters of two clusters of Kafka, or of two vCenters, whose names are not unique.
    ({"job": "kafka-exporter", "instance": "kafka-a:9308", "topic": "orders"},
     {"instance": "kafka-b:9308"}),
    ({"job": "vmware", "instance": "vcenter-a:9272", "vm_name": "web"},
     {"instance": "vcenter-b:9272"}),
    ({"job": "pve", "instance": "pve-a", "id": "qemu/100"}, {"instance": "pve-b"}),
    # Hosts that push under one name.
    ({"job": "pushgateway", "instance": "pushgateway:9091", "exported_instance": "a",
      "name": "full"}, {"exported_instance": "b"}),
    # Containers of one name on two hosts; units of one name.
    ({"job": "cadvisor", "instance": "a:8080", "name": "web"}, {"instance": "b:8080"}),
    ({"job": "node", "instance": "a:9100", "name": "cron.service"}, {"instance": "b:9100"}),
    # Replicas of a service.
    ({"job": "kubernetes-service-endpoints", "service": "web", "namespace": "shop",
      "instance": "10.244.1.5:80"}, {"instance": "10.244.1.6:80"}),
    # The same in another namespace, also where the namespace is that of the series.
    ({"job": "mysql", "namespace": "shop", "service": "mysql"}, {"namespace": "crm"}),
    ({"job": "flux", "namespace": "flux-system", "exported_namespace": "shop", "name": "web"},
     {"exported_namespace": "crm"}),
    ({"job": "kube-state-metrics", "namespace": "shop", "customresource_kind": "HelmRelease",
      "name": "web"}, {"namespace": "crm"}),
    # Clusters of Elasticsearch.
    ({"job": "elasticsearch-exporter", "instance": "es-exporter-a:9114", "name": "node-1"},
     {"instance": "es-exporter-b:9114"}),
])
def test_things_of_one_name_are_told_apart(labels, changes):
    assert identity(labels) != identity(dict(labels, **changes))


@pytest.mark.parametrize("labels, name", [
    # Its words are in the address, not in the job.
    ({"job": "blackbox", "instance": "https://ksm.example.com", "namespace": "monitoring"},
     "https://ksm.example.com"),
    # An application that is called like a tool.
    ({"job": "ping-service", "instance": "10.244.1.5:80", "namespace": "shop",
      "pod": "ping-service-0"}, "shop/ping-service-0"),
    # A crash-looping pod of an exporter, without the address of who reports it.
    ({"namespace": "monitoring", "pod": "node-exporter-8pkz2", "container": "node-exporter"},
     "monitoring/node-exporter-8pkz2"),
    ({"namespace": "monitoring", "pod": "redis-exporter-5b7d", "container": "redis-exporter"},
     "monitoring/redis-exporter-5b7d"),
    # The job says what it is, whatever the container is called.
    ({"job": "kube-state-metrics", "instance": "10.244.1.5:8443", "namespace": "monitoring",
      "pod": "blackbox-exporter-0", "container": "blackbox-exporter"},
     "monitoring/blackbox-exporter-0"),
    ({"job": "exporters", "service": "kube-state-metrics", "instance": "10.244.1.5:8443",
      "namespace": "shop", "deployment": "web"}, "shop/web"),
    # Not a namespace of Kubernetes.
    ({"namespace": "AWS/SQS", "job": "sqs"}, "sqs"),
    # Its own name comes before one that only resembles it.
    ({"instance_id": "i-1", "InstanceId": "i-2"}, "i-1"),
    ({"Host": "db-1", "host": "db-2"}, "db-2"),
    ({"alertname": "A", "severity": "critical", "team": "db"}, None),
])
def test_what_only_resembles_an_exporter_or_a_name(labels, name):
    assert subject_of(labels)[0] == name


def test_the_order_of_the_labels_does_not_matter():
    labels = {"InstanceId": "i-2", "instanceId": "i-1", "job": "x"}
    backwards = dict(reversed(list(labels.items())))
    assert subject_of(labels) == subject_of(backwards)
    assert identity(labels) == identity(backwards)


def test_the_configuration_says_which_exporter_reports_on_other_things():
    labels = {"job": "gluster", "instance": "10.244.1.5:9713", "namespace": "monitoring",
              "pod": "gluster-5b7d", "service": "gluster", "hostname": "brick-1"}
    assert subject_of(labels) == ("monitoring/gluster-5b7d", "pod")
    assert subject_of(labels, exporters=("gluster",)) == ("brick-1", "hostname")


@pytest.mark.parametrize("labels, cluster", [
    ({"cluster": "eu"}, "eu"), ({"k8s.cluster.name": "eu"}, "eu"), ({"clusterName": "eu"}, "eu"),
    ({"cluster": "eu", "k8s_cluster_name": "us"}, "eu"), ({"cluster": " "}, None), ({}, None),
])
def test_the_cluster_of_an_alert(labels, cluster):
    assert alert_subjects.find_cluster(labels) == cluster


def test_an_alert_about_a_cluster_is_not_in_one():
    subject = alert_subjects.find_subject({"cluster": "eu"})
    assert (subject.name, subject.label, subject.cluster) == ("eu", "cluster", None)
