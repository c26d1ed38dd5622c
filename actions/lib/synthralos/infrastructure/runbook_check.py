"""The check of a runbook's step: PromQL with one sample for each healthy thing.

An empty result proves nothing, because the series of what has died vanish. A series speaks of what
an alert is about if it has all labels of the alert that identify it, as far as it has labels of
these names, and at least one of them; a series without labels speaks of everything.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Optional, TypedDict

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
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
from synthralos.storage import incidents

STEP_CHECK = "step_check"
# Labels that say how a series was measured, or which rule has made an alert of it.
_OF_MEASUREMENT = frozenset((
    "job", "endpoint", "alertname", "alertgroup", "severity", "alertstate", "prometheus",
    "metrics_path", "uid",
))


class CheckQuestion(TypedDict):
    """What Prometheus is asked about one alert.

    `labels`: those that identify what the alert is about; `cluster`: the one that it names, or
    None; `is_shared_name`: whether another cluster has a thing of the same name.
    """

    query: str
    labels: dict[str, str]
    cluster: Optional[str]
    is_shared_name: bool


def question_of(
    env: Environment, config: InfrastructureConfig, node_step: NodeStep
) -> CheckQuestion:
    """Return the question of a step that has a check."""
    rules = config.alert_rules
    labels = {name: value for name, value in node_step.labels.items() if isinstance(value, str)}
    subject = alert_subjects.find_subject(labels, rules)
    identity = alert_subjects.identity_labels(labels, subject.label if subject else None, rules)
    clusters = frozenset(rules.clusters + alert_subjects.CLUSTERS)
    cluster = alert_subjects.find_cluster(labels, rules)
    return {
        "query": node_step.step.check or "",
        "labels": {
            name: value
            for name, value in identity.items()
            if name not in _OF_MEASUREMENT and name not in clusters and value
        },
        "cluster": cluster,
        "is_shared_name": cluster is not None and subject is not None and _is_shared(
            env, config, str(subject.name), cluster
        ),
    }


def _is_shared(
    env: Environment, config: InfrastructureConfig, name: str, cluster: str
) -> bool:
    clusters = {cluster, *incidents.clusters_with(env.store, name)}
    try:
        clusters.update(Topology.load(env, config).clusters_with(name))
    except InvalidInput:
        # The run reports it where it needs the topology.
        pass
    return len(clusters) > 1


def ask(
    env: Environment,
    calls: Calls,
    prometheus: Optional[Prometheus],
    question: CheckQuestion,
    ended_at: float,
) -> Evidence:
    """Return what the check shows since `ended_at`, the end of the repair."""
    if prometheus is None:
        return Evidence(UNKNOWN, reason="Prometheus is no longer configured")
    window = Window.since(ended_at, env.now())
    try:
        result = query_series(calls, prometheus, question["query"], window)
    except CallError as error:
        return doubt_of(error)
    own = [series for series in result if _speaks_of(series.labels, question)]
    if question["is_shared_name"] and not any(_names_cluster(series) for series in own) and own:
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


def _speaks_of(labels: Mapping[str, Any], question: CheckQuestion) -> bool:
    """Return whether a series with these labels speaks of what the alert is about."""
    cluster = alert_subjects.find_cluster(labels)
    if cluster is not None and question["cluster"] is not None and cluster != question["cluster"]:
        return False
    identity = _identity_of_series(labels)
    if not identity:
        return True
    shared = [name for name in identity if name in question["labels"]]
    return bool(shared) and all(
        _same(name, identity[name], question["labels"][name]) for name in shared
    )


def _identity_of_series(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a series that identify what it speaks of."""
    texts = {str(name): str(value) for name, value in labels.items() if name != "__name__"}
    subject = alert_subjects.find_subject(texts)
    identity = alert_subjects.identity_labels(texts, subject.label if subject else None)
    ignored = _OF_MEASUREMENT.union(alert_subjects.CLUSTERS)
    return {name: value for name, value in identity.items() if name not in ignored}


def _same(name: str, first: str, second: str) -> bool:
    """Return whether two labels are equal; an address may be that of another port."""
    if name != "instance":
        return first == second
    return _host(first) == _host(second)


def _host(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() else address


def _names_cluster(series: Series) -> bool:
    return alert_subjects.find_cluster(series.labels) is not None
