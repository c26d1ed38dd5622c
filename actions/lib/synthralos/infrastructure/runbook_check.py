"""The check of a runbook's step: PromQL with one sample for each healthy thing.

An empty result proves nothing, because the series of what has died vanish. A series speaks of what
an alert is about if it has all labels of the alert that identify it, as far as it has labels of
these names, and at least one of them; a series without labels speaks of everything.

All series that speak of it must be healthy. Those that are not are the result of the opposite
query, if the check has one; then what was failed before the repair must be healthy after it, too.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Optional

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import to_name
from synthralos.infrastructure import likeness, node_names
from synthralos.infrastructure.check_records import CheckQuestion
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.prometheus_history import (
    FAILED_AGAIN,
    Series,
    Window,
    doubt_of,
    query_series,
)
from synthralos.infrastructure.promql import opposite_of
from synthralos.infrastructure.repair_evidence import FAILED, HEALTHY, UNKNOWN, Calls, Evidence
from synthralos.infrastructure.runbook_steps import NodeStep
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_subjects
from synthralos.sensing.alert_subjects import SubjectRules
from synthralos.storage import incidents

STEP_CHECK = "step_check"


def question_of(
    env: Environment, config: InfrastructureConfig, node_step: NodeStep
) -> CheckQuestion:
    """Return the question of a step that has a check."""
    rules, labels = config.alert_rules, node_step.labels
    subject = alert_subjects.find_subject(labels, rules)
    cluster = alert_subjects.find_cluster(labels, rules)
    return {
        "query": node_step.step.check or "",
        "labels": likeness.identity_of(labels, rules),
        "job": labels.get("job"),
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
    began_at: Optional[float] = None,
) -> Evidence:
    """Return what the check of a step shows since `ended_at`, the end of the repair.

    :param began_at: when the repair began; see the module.
    """
    if config.prometheus is None:
        return Evidence(UNKNOWN, reason="Prometheus is no longer configured")
    series = _OwnSeries(calls, config.prometheus, question, config.alert_rules)
    try:
        return _ask(series, question, Window.since(ended_at, env.now()), ended_at, began_at)
    except CallError as error:
        return doubt_of(error)


class _OwnSeries:
    """The series in the results of queries that speak of what the alert is about."""

    def __init__(
        self, calls: Calls, prometheus: Prometheus, question: CheckQuestion, rules: SubjectRules
    ) -> None:
        self._calls, self._prometheus = calls, prometheus
        self._question, self.rules = question, rules

    def of(self, query: str, window: Window) -> list[Series]:
        """Return those of a query; see query_series for the errors."""
        return [
            series for series in query_series(self._calls, self._prometheus, query, window)
            if _speaks_of(series.labels, self._question, self.rules)
        ]

    def cluster_of(self, series: Series) -> Optional[str]:
        return alert_subjects.find_cluster(series.labels, self.rules)

    def certain(self, series: list[Series]) -> list[Series]:
        """Return those that are not perhaps another cluster's."""
        if not self._question["is_shared_name"]:
            return series
        return [item for item in series if self.cluster_of(item) is not None]


def _ask(
    own_series: _OwnSeries,
    question: CheckQuestion,
    window: Window,
    ended_at: float,
    began_at: Optional[float],
) -> Evidence:
    """Return what the check of a step shows in a window.

    :raises CallError: Prometheus did not respond, or not with series.
    """
    candidates = own_series.of(question["query"], window)
    clusters = set(map(own_series.cluster_of, candidates)) - {None}
    if question["cluster"] is None and len(clusters) > 1:
        reason = "its check speaks of several clusters, and the alert names none"
        return Evidence(UNKNOWN, reason=reason)
    own = own_series.certain(candidates)
    if candidates and not own:
        reason = "its check does not say which cluster it speaks of, and several have this name"
        return Evidence(UNKNOWN, reason=reason)
    healthy = {index for series in own for index in series.measured}
    failed: set[int] = set()
    opposite = opposite_of(question["query"])
    if own and opposite is not None:
        bad = own_series.certain(own_series.of(opposite, window))
        failed = {index for series in bad for index in series.indices}
        before = [] if began_at is None else own_series.of(opposite, Window((began_at,), 1.0))
        for earlier in own_series.certain(before):
            healthy &= _indices_of(earlier, own, own_series.rules)
    return _evidence(healthy, failed, window, ended_at)


def _indices_of(earlier: Series, own: list[Series], rules: SubjectRules) -> set[int]:
    """Return the indices at which what was failed earlier is healthy."""
    key = likeness.series_key(earlier.labels, rules)
    return {
        index for series in own if likeness.series_key(series.labels, rules) == key
        for index in series.measured
    }


def _evidence(
    healthy: AbstractSet[int], failed: AbstractSet[int], window: Window, ended_at: float
) -> Evidence:
    """Return what the indices show at which series of the thing are healthy, and failed."""
    indices = window.indices_since(ended_at)
    first = next((index for index in indices if index in healthy - failed), None)
    if first is None and indices[-1] in failed:
        return Evidence(FAILED, reason="its check shows it as failed")
    if first is None or indices[-1] not in healthy:
        reason = "its check has no healthy result for it"
        return Evidence(FAILED, reason=reason if first is None else FAILED_AGAIN)
    if any(index not in healthy - failed for index in indices if index > first):
        return Evidence(FAILED, reason=FAILED_AGAIN)
    return Evidence(HEALTHY, window.times[first])


def _speaks_of(
    labels: Mapping[str, Any], question: CheckQuestion, rules: SubjectRules
) -> bool:
    """Return whether a series with these labels speaks of what the alert is about."""
    cluster = alert_subjects.find_cluster(labels, rules)
    if cluster is not None and question["cluster"] is not None and cluster != question["cluster"]:
        return False
    identity = likeness.identity_of(labels, rules)
    if not identity:
        return True
    alert = question["labels"]
    shared = [name for name in identity if name in alert]
    # Another job may measure the same host at another port; its own job has another instance there.
    is_other_job = question["job"] is None or labels.get("job") != question["job"]
    return (
        bool(shared) and
        all(
            identity[name] == alert[name] or
            name == "instance" and is_other_job and _is_same_host(identity[name], alert[name])
            for name in shared
        ) and
        not likeness.is_other_workload(identity, alert)
    )


def _is_same_host(first: str, second: str) -> bool:
    return bool(node_names.host_of(first) == node_names.host_of(second))
