"""What an alert is about: the thing that failed, and the cluster it is in, by the alert's labels.

Prometheus adds the labels of the target that it scraped: `instance`, `job`, and in Kubernetes the
namespace, pod and container of that target. Where an exporter reports on other things, these name
the exporter, not what failed, and they change when the exporter moves.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

OWN, TARGET, HOST = "own", "target", "host"


class Exporter(NamedTuple):
    """Exporters of one kind, and what the label `instance` of their series is.

    :ivar names: words in the names of their jobs and services.
    :ivar instance: OWN: their own address, as they report on things that other labels name. TARGET:
        what they probe, by the relabelling that their documentation recommends. HOST: the address
        of the host or service that they describe.
    """

    names: tuple[str, ...]
    instance: str


# The first that matches counts.
EXPORTERS = (
    Exporter(("kube-state-metrics", "ksm", "kubelet", "opencost", "event-exporter"), OWN),
    Exporter(("cloudwatch", "yace", "stackdriver", "azure-metrics", "azuremonitor"), OWN),
    Exporter(("pushgateway", "statsd", "graphite", "collectd"), OWN),
    Exporter(
        ("blackbox", "probe", "snmp", "ipmi", "ping", "smokeping", "ssl-exporter", "json-exporter"),
        TARGET,
    ),
    Exporter(("exporter", "cadvisor", "telegraf"), HOST),
)
# Objects of Kubernetes, which have a namespace; controllers before their pods.
NAMESPACED = (
    "persistentvolumeclaim", "horizontalpodautoscaler", "hpa", "cronjob", "job_name",
    "statefulset", "daemonset", "deployment", "replicaset", "replicationcontroller",
    "poddisruptionbudget", "ingress", "resourcequota", "pod", "pod_name",
)
# Objects without a namespace, and hosts.
CLUSTER_WIDE = ("node", "persistentvolume", "kubernetes_node", "nodename")
# Names of things in clouds. Dimensions of CloudWatch are written as `dimension_InstanceId` by one
# exporter, and as `instance_id` by the other.
CLOUD = (
    "instance_id", "dbinstance_identifier", "dbcluster_identifier", "cache_cluster_id",
    "auto_scaling_group_name", "load_balancer", "load_balancer_name", "target_group",
    "function_name", "queue_name", "topic_name", "table_name", "bucket_name", "stream_name",
    "nat_gateway_id", "volume_id", "file_system_id", "database_id", "subscription_id", "topic_id",
    "instance_name", "resource_name", "resource_id", "name",
)
# In the order of older versions; `instance` comes before or after them.
PLAIN = ("host", "hostname", "device", "service")
CLUSTERS = ("cluster", "k8s_cluster", "k8s_cluster_name", "cluster_name", "kubernetes_cluster")
REPLICAS = ("replica", "prometheus_replica", "__replica__", "rule_replica", "thanos_replica")
# What a scrape adds about its target, besides job, namespace and service.
ADDRESS = ("instance", "pod", "container", "endpoint", "uid")
_EXPORTED = "exported_"
_DIMENSION = "dimension_"
_WORD_STARTS = re.compile(r"([a-z0-9])([A-Z])")
_WORD = re.compile(r"[a-z0-9]+")
_TABLES = frozenset(
    NAMESPACED + CLUSTER_WIDE + CLOUD + PLAIN + ("namespace", "target", "instance")
)


@dataclass(frozen=True)
class SubjectRules:
    """What the configuration adds to the tables of this module.

    :ivar labels: labels that name the failed thing, before those of the tables.
    :ivar exporters: parts of the names of jobs whose `instance` is their own address.
    :ivar clusters: labels that name a cluster, before CLUSTERS.
    :ivar replicas: labels that tell replicas of one Prometheus apart, besides REPLICAS.
    """

    labels: tuple[str, ...] = ()
    exporters: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """The thing that an alert is about.

    :ivar name: as the labels write it, `namespace/name` for an object of Kubernetes.
    :ivar label: the label that names it.
    :ivar cluster: the cluster that it is in, or None if the alert names none.
    """

    name: Any
    label: str
    cluster: Optional[str] = None


def find_subject(
    labels: Mapping[str, Any], rules: SubjectRules = SubjectRules()
) -> Optional[Subject]:
    """Return the Subject of an alert, or None if no label names one.

    Its name is as the label has it, which need not be the name of a node.
    """
    for label in rules.labels:
        if labels.get(label):
            return Subject(labels[label], label, find_cluster(labels, rules))
    own_labels, exporter = _of_failed_thing(labels, rules)
    namespace = own_labels.get("namespace")
    for label in _order(exporter, bool(namespace)):
        name = own_labels.get(label)
        if not name:
            continue
        if namespace and label in NAMESPACED:
            name = "%s/%s" % (namespace, name)
        return Subject(name, label, find_cluster(labels, rules))
    return None


def find_cluster(labels: Mapping[str, Any], rules: SubjectRules = SubjectRules()) -> Optional[str]:
    """Return the cluster that an alert names, or None."""
    for label in rules.clusters + CLUSTERS:
        value = labels.get(label)
        if isinstance(value, str) and value.strip():
            return value
    return None


def identity_labels(
    labels: Mapping[str, str], subject_label: Optional[str], rules: SubjectRules = SubjectRules()
) -> dict[str, str]:
    """Return the labels that distinguish one incident from another.

    The labels of replicas are left out, and those of the scraped target where another label names
    the subject: they change while the same thing keeps failing.

    :param subject_label: the label that names the subject, or None if none does.
    """
    own_labels, _ = _of_failed_thing(labels, rules)
    ignored = set(rules.replicas + REPLICAS)
    if subject_label is not None and subject_label not in _TABLES:
        ignored.update(ADDRESS)
    elif subject_label is not None and subject_label != "instance":
        ignored.add("instance")
    if subject_label in NAMESPACED:
        # Where it runs, or where the exporter does.
        ignored.update(CLUSTER_WIDE)
    ignored.discard(subject_label or "")
    return {name: value for name, value in own_labels.items() if name not in ignored}


def _order(exporter: Optional[Exporter], has_namespace: bool) -> tuple[str, ...]:
    """Return the labels that may name the subject, the most telling first."""
    kind = HOST if exporter is None else exporter.instance
    if kind == OWN:
        return NAMESPACED + CLUSTER_WIDE + CLOUD + PLAIN + ("namespace", "target", "instance")
    # Without its namespace, an object of Kubernetes is not told apart from others of its name.
    objects = NAMESPACED + CLUSTER_WIDE if has_namespace else CLUSTER_WIDE
    if kind == TARGET:
        return objects + ("target", "instance") + PLAIN + CLOUD + NAMESPACED
    return objects + ("instance",) + PLAIN + NAMESPACED + CLOUD + ("namespace", "target")


def _of_failed_thing(
    labels: Mapping[str, Any], rules: SubjectRules
) -> tuple[dict[str, Any], Optional[Exporter]]:
    """Return the labels without those of the exporter's own pod, and the exporter, or None.

    Where the scraped target has a label of the same name, Prometheus stores what the series says as
    `exported_<name>`; it replaces the target's.
    """
    exporter = _exporter_of(labels, rules)
    cleaned: dict[str, Any] = {}
    for name, value in labels.items():
        if name.startswith(_DIMENSION):
            name = _WORD_STARTS.sub(r"\1_\2", name[len(_DIMENSION):]).lower()
        cleaned.setdefault(name, value)
    for name in list(cleaned):
        if name.startswith(_EXPORTED) and cleaned[name]:
            cleaned[name[len(_EXPORTED):]] = cleaned.pop(name)
    if exporter is None:
        return cleaned, None
    if _is_pod_of(exporter, labels, rules) and _has_other_name(cleaned, exporter):
        for name in ("pod", "container", "uid"):
            if _EXPORTED + name not in labels:
                cleaned.pop(name, None)
    is_own_service = _EXPORTED + "service" not in labels and _matches(
        labels.get("service"), exporter.names
    )
    if exporter.instance != HOST and is_own_service:
        cleaned.pop("service", None)
    return cleaned, exporter


def _exporter_of(labels: Mapping[str, Any], rules: SubjectRules) -> Optional[Exporter]:
    configured = Exporter(rules.exporters, OWN)
    for exporter in (configured,) + EXPORTERS:
        fields = ["job", "service", "instance"]
        if exporter.instance == HOST:
            fields += ["pod", "container"]
        if any(_matches(labels.get(name), exporter.names) for name in fields):
            return exporter
    return None


def _is_pod_of(exporter: Exporter, labels: Mapping[str, Any], rules: SubjectRules) -> bool:
    """Return whether the label `pod` names one of the exporter's own pods."""
    names = [labels.get("job"), labels.get("service")]
    own_names = tuple(name for name in names if isinstance(name, str) and name)
    return _EXPORTED + "pod" not in labels and _matches(
        labels.get("pod"), own_names + exporter.names
    )


def _has_other_name(labels: Mapping[str, Any], exporter: Exporter) -> bool:
    """Return whether a label other than that of a pod names the subject."""
    names = set(NAMESPACED + CLUSTER_WIDE + CLOUD) - {"pod", "pod_name"}
    if exporter.instance != OWN:
        names |= {"instance", "target"}
    return any(labels.get(name) for name in names)


def _matches(value: Any, names: tuple[str, ...]) -> bool:
    """Return whether the words of one of `names` follow each other in `value`."""
    if not isinstance(value, str):
        return False
    words = _words(value)
    return any(_contains(words, _words(name)) for name in names)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _contains(words: list[str], part: list[str]) -> bool:
    if not part:
        return False
    plural = part[:-1] + [part[-1] + "s"]
    windows = (words[start: start + len(part)] for start in range(len(words)))
    return any(window in (part, plural) for window in windows)
