"""The check of a runbook's step: PromQL with one sample for each healthy thing.

An empty result proves nothing, because the series of what has died vanish. A series speaks of what
an alert is about if it has all labels of the alert that identify it, as far as it has labels of
these names, and at least one of them; a series without labels speaks of everything.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import to_name
from synthralos.infrastructure.check_records import CheckQuestion
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.prometheus_history import (
    FAILED_AGAIN,
    Series,
    Window,
    doubt_of,
    query_series,
)
from synthralos.infrastructure.repair_evidence import FAILED, HEALTHY, UNKNOWN, Calls, Evidence
from synthralos.infrastructure.runbook_steps import NodeStep
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_subjects
from synthralos.sensing.alert_subjects import SubjectRules
from synthralos.storage import incidents

STEP_CHECK = "step_check"
# Labels that say how a series was measured, or which rule has made an alert of it.
_OF_MEASUREMENT = frozenset((
    "job", "endpoint", "alertname", "alertgroup", "severity", "alertstate", "prometheus",
    "metrics_path", "uid", "__name__",
))


def question_of(
    env: Environment, config: InfrastructureConfig, node_step: NodeStep
) -> CheckQuestion:
    """Return the question of a step that has a check."""
    rules, labels = config.alert_rules, node_step.labels
    subject = alert_subjects.find_subject(labels, rules)
    cluster = alert_subjects.find_cluster(labels, rules)
    return {
        "query": node_step.step.check or "",
        "labels": _identity_of(labels, rules),
        "cluster": cluster,
        "is_shared_name": cluster is not None and subject is not None and _is_shared(
            env, config, str(subject.name), cluster
        ),
    }


def _is_shared(
    env: Environment, config: InfrastructureConfig, name: str, cluster: str
) -> bool:
    """Return whether another cluster has a thing of this name, by alerts and by the topology."""
    clusters = incidents.clusters_with(env.store, to_name(name) or name)
    try:
        clusters += Topology.load(env, config).clusters_with(name)
    except InvalidInput:
        # The run reports it where it needs the topology.
        pass
    return not set(clusters) <= {cluster, to_name(cluster)}


def ask(
    env: Environment,
    calls: Calls,
    config: InfrastructureConfig,
    question: CheckQuestion,
    ended_at: float,
) -> Evidence:
    """Return what the check shows since `ended_at`, the end of the repair."""
    prometheus: Optional[Prometheus] = config.prometheus
    rules = config.alert_rules
    if prometheus is None:
        return Evidence(UNKNOWN, reason="Prometheus is no longer configured")
    window = Window.since(ended_at, env.now())
    try:
        result = query_series(calls, prometheus, question["query"], window)
    except CallError as error:
        return doubt_of(error)
    own = [series for series in result if _speaks_of(series.labels, question, rules)]
    clusters = [alert_subjects.find_cluster(series.labels, rules) for series in own]
    if question["cluster"] is None and len({name for name in clusters if name is not None}) > 1:
        reason = "its check speaks of several clusters, and the alert names none"
        return Evidence(UNKNOWN, reason=reason)
    if question["is_shared_name"] and own:
        own = [series for series, cluster in zip(own, clusters) if cluster is not None]
        if not own:
            reason = "its check does not say which cluster it speaks of, and several have this name"
            return Evidence(UNKNOWN, reason=reason)
    return _evidence(own, window, ended_at)


def _evidence(own: Iterable[Series], window: Window, ended_at: float) -> Evidence:
    healthy: set[int] = set()
    for series in own:
        healthy.update(series.indices)
    indices = window.indices_since(ended_at)
    first = next((index for index in indices if index in healthy), None)
    if first is None or indices[-1] not in healthy:
        reason = "its check has no healthy result for it"
        return Evidence(FAILED, reason=reason if first is None else FAILED_AGAIN)
    if any(index not in healthy for index in indices if index > first):
        return Evidence(FAILED, reason=FAILED_AGAIN)
    return Evidence(HEALTHY, window.times[first])


def _speaks_of(
    labels: Mapping[str, Any], question: CheckQuestion, rules: SubjectRules
) -> bool:
    """Return whether a series with these labels speaks of what the alert is about."""
    cluster = alert_subjects.find_cluster(labels, rules)
    if cluster is not None and question["cluster"] is not None and cluster != question["cluster"]:
        return False
    identity = _identity_of(labels, rules)
    if not identity:
        return True
    shared = [name for name in identity if name in question["labels"]]
    return bool(shared) and all(
        _same(name, identity[name], question["labels"][name]) for name in shared
    )


def _identity_of(labels: Mapping[str, Any], rules: SubjectRules) -> dict[str, str]:
    """Return the labels of an alert or a series that identify what it is about in its cluster."""
    texts = {name: value for name, value in labels.items() if isinstance(value, str)}
    subject = alert_subjects.find_subject(texts, rules)
    identity = alert_subjects.identity_labels(texts, subject.label if subject else None, rules)
    ignored = _OF_MEASUREMENT.union(rules.clusters, alert_subjects.CLUSTERS)
    return {name: value for name, value in identity.items() if name not in ignored and value}


def _same(name: str, first: str, second: str) -> bool:
    """Return whether two labels are equal; an address may be that of another port."""
    if name != "instance":
        return first == second
    return _host(first) == _host(second)


def _host(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() else address
