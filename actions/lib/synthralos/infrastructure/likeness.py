"""Whether alerts, and the series of Prometheus, are about the same thing, by their labels.

Labels change while the same thing keeps failing: those of replicas of Prometheus, the address of an
exporter that has moved, the name of a pod that was replaced.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from synthralos.infrastructure.workloads import workload_of
from synthralos.sensing import alert_payloads, alert_subjects
from synthralos.sensing.alert_subjects import SubjectRules

# Labels that say how a series was measured, or which rule has made an alert of it.
_OF_MEASUREMENT = frozenset((
    "job", "endpoint", "alertname", "alertgroup", "severity", "alertstate", "prometheus",
    "metrics_path", "uid", "__name__",
))
# Of the same in another form, in which a pod is replaced.
_PODS = ("pod", "pod_name")
# The pod of a stateful set keeps its name.
_ORDINAL = re.compile(r"-[0-9]{1,4}\Z")
_CONTROLLERS = ("deployment", "statefulset", "daemonset", "replicaset", "replicationcontroller")


def identity_of(labels: Mapping[str, Any], rules: SubjectRules) -> dict[str, str]:
    """Return the labels of an alert or a series that identify what it is about in its cluster."""
    ignored = _OF_MEASUREMENT.union(rules.clusters, alert_subjects.CLUSTERS)
    return {name: value for name, value in _own_labels(labels, rules).items()
            if name not in ignored and value}


def is_same_alert(
    labels: Mapping[str, str], other: Mapping[str, str], rules: SubjectRules
) -> bool:
    """Return whether two alerts of one name report the same, whoever has measured it."""
    return _own_labels(labels, rules) == _own_labels(other, rules)


def is_about_the_same(
    labels: Mapping[str, str], other: Mapping[str, str], rules: SubjectRules
) -> bool:
    """Return whether two alerts are about the same thing, perhaps with other severities."""
    identity = identity_of(labels, rules)
    return bool(identity) and identity == identity_of(other, rules) and (
        _in_same_cluster(labels, other, rules)
    )


def may_replace(labels: Mapping[str, str], other: Mapping[str, str], rules: SubjectRules) -> bool:
    """Return whether an alert may be about the pod that took the place of a failed one.

    :param other: of the alert that is perhaps about its successor.
    """
    identities = [_without_pods(identity_of(own, rules), own) for own in (labels, other)]
    return bool(identities[0]) and identities[0] == identities[1] and (
        _in_same_cluster(labels, other, rules)
    )


def _in_same_cluster(
    labels: Mapping[str, str], other: Mapping[str, str], rules: SubjectRules
) -> bool:
    cluster = alert_subjects.find_cluster(labels, rules)
    return bool(cluster == alert_subjects.find_cluster(other, rules))


def is_other_workload(
    identity: Mapping[str, str], other: Mapping[str, str]
) -> bool:
    """Return whether two identities name pods or controllers that do not belong together.

    Where one names a pod and the other its controller, they have only the namespace in common.
    """
    workloads = [set(_workloads(labels)) for labels in (identity, other)]
    return all(workloads) and not workloads[0] & workloads[1]


def series_key(labels: Mapping[str, Any], rules: SubjectRules) -> str:
    """Return a key of what a series measures; the same if a pod of it was replaced."""
    identity = _without_pods(_own_labels(labels, rules), labels)
    key: str = alert_payloads.fingerprint(
        {name: value for name, value in identity.items() if name not in ("uid", "endpoint")}
    )
    return key


def _own_labels(labels: Mapping[str, Any], rules: SubjectRules) -> dict[str, str]:
    texts = {name: value for name, value in labels.items() if isinstance(value, str)}
    subject = alert_subjects.find_subject(texts, rules)
    return alert_subjects.identity_labels(texts, subject.label if subject else None, rules)


def _without_pods(identity: Mapping[str, str], labels: Mapping[str, Any]) -> dict[str, str]:
    """Return an identity with the workloads in place of the pods that others replace."""
    namespace = labels.get("namespace") or ""
    return {
        name: workload_of("%s/%s" % (namespace, value))
        if name in _PODS and _ORDINAL.search(value) is None else value
        for name, value in identity.items()
    }


def _workloads(labels: Mapping[str, str]) -> Iterable[str]:
    for name in _PODS + _CONTROLLERS:
        if labels.get(name):
            yield workload_of("%s/%s" % (labels.get("namespace") or "", labels[name]))
