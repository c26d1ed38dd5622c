"""What an alert is about: the thing that failed, and the cluster it is in, by the alert's labels.

Prometheus adds the labels of the target that it scraped: `instance`, `job`, and in Kubernetes the
namespace, pod and container of that target. Where an exporter reports on other things, these name
the exporter, not what failed, and they change when the exporter moves.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Optional

OBJECTS, OWN, SCOPE, TARGET, HOST, SERVICE = (
    "objects", "own", "scope", "target", "host", "service")


class Exporter(NamedTuple):
    """Exporters of one kind, and what the label `instance` of their series is.

    :ivar names: words in the names of their jobs and services.
    :ivar instance: OBJECTS: their own address, as they report on objects of Kubernetes. OWN: their
        own address, as they report on things that other labels name. SCOPE: the same, but two of
        them may report on different things of one name, such as topics of two clusters. TARGET:
        what they probe, by the relabelling that their documentation recommends. HOST: the host
        that they run on. SERVICE: the address of the service that they describe; in Kubernetes
        that of their own pod.
    :ivar labels: labels that name what they report on, the most telling first.
    """

    names: tuple[str, ...]
    instance: str
    labels: tuple[str, ...] = ()


# The first that matches counts, by the job, then by the service, then by the other labels.
EXPORTERS = (
    Exporter(("kube-state-metrics", "ksm", "opencost", "event-exporter"), OBJECTS),
    Exporter(("cloudwatch", "yace", "stackdriver", "azure-metrics", "azuremonitor"), OWN),
    Exporter(("pushgateway", "statsd", "graphite", "collectd"), SCOPE),
    Exporter(("openstack",), SCOPE, ("hypervisor_hostname", "agent_host", "hostname")),
    Exporter(("vmware", "vsphere", "vcenter"), SCOPE, ("vm_name", "host_name", "ds_name")),
    Exporter(("pve", "proxmox"), SCOPE, ("id",)),
    Exporter(("digitalocean", "hcloud", "hetzner", "scaleway"), SCOPE, ("name",)),
    Exporter(("cloudflare",), SCOPE, ("pool_name", "zone")),
    Exporter(("elasticsearch-exporter", "opensearch-exporter"), SCOPE, ("name", "cluster")),
    Exporter(
        ("kafka-exporter", "kafka-lag-exporter", "kminion", "burrow"), SCOPE,
        ("consumergroup", "group_id", "group", "topic", "topic_name"),
    ),
    Exporter(("argocd", "argo-cd", "cert-manager", "flux", "fluxcd"), SCOPE, ("name",)),
    Exporter(("velero",), SCOPE, ("schedule",)),
    Exporter(
        ("blackbox", "probe", "snmp", "ipmi", "ping-exporter", "smokeping", "ssl-exporter",
         "json-exporter", "junos", "cisco", "mikrotik", "redfish"),
        TARGET,
    ),
    Exporter(("dcgm",), HOST, ("hostname",)),
    Exporter(
        ("node-exporter", "kubelet", "cadvisor", "windows", "telegraf", "netdata",
         "process-exporter", "systemd-exporter", "smartctl", "ebpf-exporter"),
        HOST,
    ),
)
_OTHER_EXPORTER = Exporter(("exporter",), SERVICE)
# Objects of Kubernetes, which have a namespace; controllers before their pods.
NAMESPACED = (
    "persistentvolumeclaim", "horizontalpodautoscaler", "hpa", "cronjob", "job_name",
    "statefulset", "daemonset", "deployment", "replicaset", "replicationcontroller",
    "poddisruptionbudget", "ingress", "resourcequota", "scaled_object", "scaled_job", "workload",
    "pod", "pod_name",
)
# Objects without a namespace, and hosts.
CLUSTER_WIDE = ("node", "persistentvolume", "kubernetes_node", "nodename")
# Names of things in clouds, in the form of _own_name_of.
CLOUD = (
    "instance_id", "dbinstance_identifier", "dbcluster_identifier", "cache_cluster_id",
    "auto_scaling_group_name", "load_balancer", "load_balancer_name", "target_group",
    "function_name", "queue_name", "topic_name", "table_name", "bucket_name", "stream_name",
    "nat_gateway_id", "volume_id", "file_system_id", "database_id", "subscription_id", "topic_id",
    "instance_name", "resource_name", "resource_id", "name",
)
# In the order of older versions; `instance` comes before or after them.
PLAIN = ("host", "hostname", "host_name", "device", "service")
# Parts of a service, in alerts that are aggregated over its instances.
PARTS = (
    "server", "backend", "proxy", "queue", "consumergroup", "topic", "datname", "database",
    "destination_workload", "destination_canonical_service", "destination_service_name",
    "service_name",
)
CLUSTERS = ("cluster", "k8s_cluster", "k8s_cluster_name", "cluster_name", "kubernetes_cluster")
REPLICAS = ("replica", "prometheus_replica", "__replica__", "rule_replica", "thanos_replica")
# What a scrape adds about its target, besides job, namespace and service.
ADDRESS = ("instance", "pod", "container", "endpoint", "uid")
_EXPORTED = "exported_"
# Resources of other kinds, in series of kube-state-metrics.
_RESOURCE_KIND = "customresource_kind"
# Dimensions of CloudWatch are written as `dimension_InstanceId`, `instance_id` or `InstanceId`,
# labels of Google Cloud as `resource.label.instance_id` or with underscores.
_ORIGIN = re.compile(r"(?:dimension|(?:resource|metric)[._]label)[._]")
_WORD_STARTS = re.compile(r"([a-z0-9])([A-Z])")
_NO_WORD = re.compile(r"[^A-Za-z0-9]+")
# OpenTelemetry, and the configuration that Prometheus gives as an example for Kubernetes.
_KUBERNETES = re.compile(
    r"(?:k8s|kubernetes)_(pod|namespace|node|container|deployment|statefulset|daemonset|replicaset"
    r"|cronjob|job)(?:_name)?\Z"
)
# Jobs of that example, whose targets have the node that they run on as `node`.
_DISCOVERY_JOB = re.compile(r"kubernetes-(?:service|pod)")
_IP_ADDRESS = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:]+\])(?::\d+)?\Z")
_WORD = re.compile(r"[a-z0-9]+")
_TABLES = frozenset(
    NAMESPACED + CLUSTER_WIDE + CLOUD + PLAIN + PARTS + CLUSTERS +
    ("namespace", "target", "instance", "app", "job") +
    tuple(label for exporter in EXPORTERS for label in exporter.labels)
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
    :ivar label: the label that names it, in the form of _own_name_of.
    :ivar cluster: the cluster that it is in, or None if the alert names none or is about it.
    """

    name: Any
    label: str
    cluster: Optional[str] = None


class _Series(NamedTuple):
    """What the labels of an alert say of the failed thing.

    :ivar labels: without those of the exporter's own pod, by the names of the tables.
    :ivar exporter: the exporter that reports it, or None.
    :ivar instance: what the label `instance` is, as in Exporter; SERVICE without an exporter.
    :ivar has_own_job: whether the job is that of the thing, although another one was scraped.
    :ivar is_address_of_pod: whether `instance` is the address of a pod of Kubernetes.
    """

    labels: dict[str, Any]
    exporter: Optional[Exporter]
    instance: str
    has_own_job: bool
    is_address_of_pod: bool


def find_subject(
    labels: Mapping[str, Any], rules: SubjectRules = SubjectRules()
) -> Optional[Subject]:
    """Return the Subject of an alert, or None if no label names one.

    Its name is as the label has it, which need not be the name of a node.
    """
    for label in rules.labels:
        if labels.get(label):
            return Subject(labels[label], label, find_cluster(labels, rules))
    series = _series_of(labels, rules)
    clusters = rules.clusters + CLUSTERS
    namespace = _namespace_of(series.labels)
    for label in _order(series, namespace) + clusters:
        name = series.labels.get(label)
        if not name:
            continue
        if namespace and label in NAMESPACED + ("service", "job") + _named_objects(series.labels):
            name = name if str(name).startswith(namespace + "/") else "%s/%s" % (namespace, name)
        cluster = None if label in clusters else find_cluster(labels, rules)
        return Subject(name, label, cluster)
    return None


def find_cluster(labels: Mapping[str, Any], rules: SubjectRules = SubjectRules()) -> Optional[str]:
    """Return the cluster that an alert names, or None."""
    named_labels = _by_own_names(labels)
    for label in rules.clusters + CLUSTERS:
        value = labels.get(label) or named_labels.get(label)
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
    series = _series_of(labels, rules)
    ignored = set(rules.replicas + REPLICAS)
    if subject_label is not None and subject_label not in _TABLES:
        ignored.update(ADDRESS)
    elif subject_label is not None and not _is_part_of_instance(series, subject_label):
        ignored.add("instance")
    if subject_label in NAMESPACED:
        # Where it runs, or where the exporter does.
        ignored.update(CLUSTER_WIDE)
    ignored.discard(subject_label or "")
    return {name: value for name, value in series.labels.items() if name not in ignored}


def _is_part_of_instance(series: _Series, subject_label: str) -> bool:
    """Return whether several things may have this name: one for each `instance`."""
    if series.instance == SCOPE:
        return not series.is_address_of_pod
    return series.instance == SERVICE and subject_label == "service"


def _order(series: _Series, namespace: Optional[str]) -> tuple[str, ...]:
    """Return the labels that may name the subject, the most telling first."""
    labels, instance = series.labels, series.instance
    first = series.exporter.labels if series.exporter else ()
    if instance == OBJECTS:
        return first + NAMESPACED + _named_objects(labels) + CLUSTER_WIDE + CLOUD + PLAIN + (
            "namespace", "target", "instance", "job")
    if instance in (OWN, SCOPE):
        job = ("job",) if series.has_own_job else ()
        return first + NAMESPACED + CLOUD + CLUSTER_WIDE + PLAIN[:-1] + PARTS + job + (
            "service", "target", "instance", "job", "namespace")
    # Without its namespace, an object of Kubernetes is not told apart from others of its name.
    objects = NAMESPACED + CLUSTER_WIDE if namespace else CLUSTER_WIDE
    rest = NAMESPACED + CLOUD + PARTS + ("app", "job", "namespace", "target")
    if instance == TARGET:
        return first + objects + ("target", "instance") + PLAIN + rest
    if instance == SERVICE and series.is_address_of_pod:
        return first + objects + ("service", "instance") + PLAIN + rest
    return first + objects + ("instance",) + PLAIN + rest


def _namespace_of(labels: Mapping[str, Any]) -> Optional[str]:
    """Return the namespace of Kubernetes, or None; that of CloudWatch (`AWS/EC2`) is none."""
    namespace = labels.get("namespace")
    return str(namespace) if namespace and "/" not in str(namespace) else None


def _named_objects(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the label `name` if it is that of an object, which has a namespace."""
    is_object = _RESOURCE_KIND in labels or _EXPORTED + "namespace" in labels
    return ("name",) if is_object else ()


def _series_of(labels: Mapping[str, Any], rules: SubjectRules) -> _Series:
    """Return what the labels say of the failed thing.

    Where the scraped target has a label of the same name, Prometheus stores what the series says as
    `exported_<name>`; it replaces the target's.
    """
    cleaned = _by_own_names(labels)
    exporter = _exporter_of(cleaned, rules)
    instance = SERVICE if exporter is None else exporter.instance
    exported = {
        name[len(_EXPORTED):]: value for name, value in cleaned.items()
        if name.startswith(_EXPORTED) and value
    }
    is_address_of_pod = _is_address_of_pod(cleaned)
    if exporter is not None and _is_pod_of(exporter, cleaned):
        _drop_pod(cleaned, exporter, is_address_of_pod, exported)
    is_discovered = bool(_DISCOVERY_JOB.match(str(cleaned.get("job") or "")))
    if instance == SERVICE and is_discovered and "node" not in exported:
        cleaned.pop("node", None)
    if "namespace" in exported and instance in (OWN, SCOPE, SERVICE):
        # An operator or the like, which reports on objects of other namespaces.
        instance = OBJECTS
        for name in ("pod", "container", "uid"):
            cleaned.pop(name, None)
    is_own_service = exporter is None or exporter.instance != OBJECTS or _matches(
        cleaned.get("service"), exporter.names
    )
    if instance == OBJECTS and is_own_service and cleaned.get("instance"):
        # Without an instance, all its targets are meant.
        cleaned.pop("service", None)
    if "instance" in exported and instance != OBJECTS:
        instance = HOST
    for name, value in exported.items():
        cleaned[name] = value
        if name != "namespace":
            cleaned.pop(_EXPORTED + name)
    return _Series(cleaned, exporter, instance, "job" in exported, is_address_of_pod)


def _by_own_names(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels by the names of the tables, where these are not taken."""
    names = {name: name if name in _TABLES else _own_name_of(name) for name in sorted(labels)}
    cleaned: dict[str, Any] = {}
    for name, own_name in names.items():
        is_free = own_name not in labels and own_name not in cleaned
        cleaned[own_name if is_free else name] = labels[name]
    return cleaned


@lru_cache(maxsize=1024)
def _own_name_of(name: str) -> str:
    """Return a label's name in the form of the tables: `instance_id` for `InstanceId`."""
    if name.startswith(("__", _EXPORTED)):
        return name
    words = _WORD_STARTS.sub(r"\1_\2", _ORIGIN.sub("", name, count=1))
    own_name = _NO_WORD.sub("_", words).strip("_").lower()
    match = _KUBERNETES.match(own_name)
    if match is None:
        return own_name or name
    return "job_name" if match.group(1) == "job" else match.group(1)


def _exporter_of(labels: Mapping[str, Any], rules: SubjectRules) -> Optional[Exporter]:
    configured = Exporter(rules.exporters, OWN)
    instance = str(labels.get("instance") or "")
    values = [labels.get("job"), labels.get("service")]
    pod_values = [labels.get("pod"), labels.get("container")]
    if "://" not in instance:
        values.append(instance)
    for value in values:
        for exporter in (configured,) + EXPORTERS:
            if _matches(value, exporter.names):
                return exporter
    for exporter in EXPORTERS:
        if exporter.instance == HOST and any(_matches(v, exporter.names) for v in pod_values):
            return exporter
    is_exporter = any(_matches(value, _OTHER_EXPORTER.names) for value in values + pod_values)
    return _OTHER_EXPORTER if is_exporter else None


def _is_pod_of(exporter: Exporter, labels: Mapping[str, Any]) -> bool:
    """Return whether the alert's target is one of the exporter's own pods, as its labels say."""
    if exporter.instance == SERVICE:
        # It may run beside what it describes, in a pod of that.
        return _matches(labels.get("pod") or labels.get("service"), exporter.names)
    names = [labels.get("job"), labels.get("service")]
    own_names = tuple(name for name in names if isinstance(name, str) and name)
    return _matches(labels.get("pod"), own_names + exporter.names)


def _drop_pod(
    labels: dict[str, Any], exporter: Exporter, is_address_of_pod: bool, exported: Iterable[str]
) -> None:
    """Remove what names the exporter's own pod, if something else names the subject."""
    names = {"pod", "container", "uid"}
    subjects = set(NAMESPACED + CLUSTER_WIDE + CLOUD + PLAIN[:-1] + exporter.labels)
    if exporter.instance in (TARGET, HOST):
        subjects |= {"instance", "target"}
    elif exporter.instance != OBJECTS and is_address_of_pod:
        # The address changes with the pod; the service and the job stay the same.
        names |= {"instance"}
        subjects |= {"service", "job"}
    elif exporter.instance == SERVICE:
        # By relabelling, it is the address of the service.
        subjects |= {"instance"}
    if exported or any(labels.get(name) for name in subjects - {"pod", "pod_name"}):
        for name in names.difference(exported):
            labels.pop(name, None)


def _is_address_of_pod(labels: Mapping[str, Any]) -> bool:
    """Return whether `instance` is the address of a pod, in Prometheus' service discovery."""
    is_in_kubernetes = any(labels.get(name) for name in ("pod", "container", "endpoint"))
    is_in_kubernetes |= bool(_DISCOVERY_JOB.match(str(labels.get("job") or "")))
    is_address = bool(_IP_ADDRESS.match(str(labels.get("instance") or "")))
    return bool(labels.get("namespace")) and is_in_kubernetes and is_address


def _matches(value: Any, names: tuple[str, ...]) -> bool:
    """Return whether the words of one of `names` follow each other in `value`."""
    if not isinstance(value, str):
        return False
    return any(_contains(_words(value), _words(name)) for name in names)


# A notification has many alerts of few jobs.
@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=8192)
def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    if not part:
        return False
    plural = part[:-1] + (part[-1] + "s",)
    windows = (words[start: start + len(part)] for start in range(len(words)))
    return any(window in (part, plural) for window in windows)
