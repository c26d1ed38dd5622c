"""Detects the failed nodes: from a list, an alert, or Prometheus."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, TypedDict
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput, shorten_repr
from synthralos.core.failures import make_failure
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import node_names
from synthralos.infrastructure.prometheus_responses import is_partial
from synthralos.infrastructure.promql import require_query
from synthralos.runtime import run_parameters
from synthralos.sensing import alert_subjects

if TYPE_CHECKING:
    from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
    from synthralos.infrastructure.topology import Topology
    from synthralos.runtime.environment import Environment

AUTO, LIST, ALERT, QUERY = SOURCES = ("auto", "list", "alert", "query")
MAX_FAILURES = 200
MAX_UNRESOLVED = 20
MAX_ATTEMPTS = 2
RETRY_DELAY_SECONDS = 1.0
QUERY_PATH = "/api/v1/query"


class Request(TypedDict):
    """Where a run finds its failures.

    `source`: LIST, ALERT or QUERY; `query`: PromQL, or None for the configured query; `alert`: one
    alert, or a group as Alertmanager sends it, or {}.
    """

    source: str
    nodes: list[str]
    query: Optional[str]
    alert: dict[str, Any]


class UnresolvedAlert(TypedDict):
    """A failure that could not be mapped to a node, and why."""

    name: str
    reason: str


class _FiringAlert(NamedTuple):
    """A firing alert, by its position in its group.

    :ivar node: its node, or what a label has in place of the name of one, or None.
    :ivar reason: why it names no node, or None.
    """

    position: int
    node: Any
    labels: dict[str, Any]
    reason: Optional[str]


def parse_request(
    config: "InfrastructureConfig",
    parameters: Mapping[str, Any],
    payload: Optional[Mapping[str, Any]] = None,
) -> Request:
    """Return the request of a run's parameters; `auto` is resolved.

    :param payload: of the trigger that started the run; used as the alert if there is none.
    :raises InvalidInput: a parameter is invalid, or the source has no input or is not configured.
    """
    nodes = node_names.require_node_list("nodes", parameters.get("nodes") or [])
    alert = run_parameters.require_object("alert", parameters.get("alert"))
    source = parameters.get("source") or AUTO
    if source not in SOURCES:
        raise InvalidInput(
            "source", source, "is not a valid source", "Use one of " + ", ".join(SOURCES)
        )
    if source in (AUTO, ALERT) and not alert and not nodes:
        alert = _alert_in(payload)
    if source == AUTO:
        source = LIST if nodes else ALERT if alert else QUERY
    if source == LIST and not nodes:
        raise InvalidInput(
            "nodes", [], "must name at least one node", "List the failed nodes, or use source=query"
        )
    if source == ALERT and not alert:
        raise InvalidInput(
            "alert", {}, "must not be empty", "Give {labels: {...}}, or start the run from a rule"
        )
    if len(nodes) > MAX_FAILURES:
        hint = "Give at most %d nodes to a run" % MAX_FAILURES
        raise InvalidInput("nodes", len(nodes), "exceeds the limit", hint)
    query = parameters.get("query") or None
    if query is not None:
        query = require_query("query", query)
    if source == QUERY and config.prometheus is None:
        raise InvalidInput(
            "infrastructure.prometheus.base_url",
            None,
            "no Prometheus is configured",
            "Set it in the pack's config, or give `nodes` or `alert`",
        )
    return {"source": source, "nodes": nodes, "query": query, "alert": alert}


def _alert_in(payload: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the alert in a trigger's payload, or {}."""
    if not isinstance(payload, dict):
        return {}
    body: dict[str, Any] = payload
    if isinstance(payload.get("body"), dict):
        body = payload["body"]
    is_alert = isinstance(body.get("labels"), dict) or isinstance(body.get("alerts"), list)
    return body if is_alert else {}


def detect_failures(
    env: "Environment",
    config: "InfrastructureConfig",
    topology: "Topology",
    request: Request,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[str], list[UnresolvedAlert]]:
    """Return the failed nodes of `request`, each once, by the topology's names for them.

    :param seconds: the time limit for querying Prometheus.
    :returns: (nodes, the failures that could not be mapped to a node).
    :raises CallError: Prometheus did not respond, or its response is malformed.
    """
    unresolved_alerts: list[UnresolvedAlert] = []
    if request["source"] == LIST:
        nodes = request["nodes"]
    elif request["source"] == ALERT:
        nodes, unresolved_alerts = _nodes_of_alert(config, topology, request["alert"])
    else:
        return query_prometheus(env, config, topology, request["query"], seconds, sleep)
    return _resolve_names(topology, nodes), unresolved_alerts


def query_prometheus(
    env: "Environment",
    config: "InfrastructureConfig",
    topology: "Topology",
    query: Optional[str],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[str], list[UnresolvedAlert]]:
    """Like `detect_failures`, from Prometheus only.

    :param query: PromQL, or None for the configured query.
    """
    prometheus = config.prometheus
    if prometheus is None:
        # The configuration has changed since the run began.
        message = "infrastructure.prometheus is no longer configured"
        raise CallError(make_failure("configuration", message))
    samples = _query_with_retry(env, prometheus, query or prometheus.query, seconds, sleep)
    nodes: list[str] = []
    unresolved_alerts: list[UnresolvedAlert] = []
    for sample in samples:
        metric = sample.get("metric") if isinstance(sample, dict) else None
        metric = metric if isinstance(metric, dict) else {}
        name = metric.get(prometheus.label)
        if isinstance(name, str) and node_names.is_node_name(name):
            nodes.append(name)
        else:
            reason = "its label %s does not name a node" % prometheus.label
            unresolved_alerts.append(
                {"name": shorten_repr(name if name is not None else metric), "reason": reason}
            )
    return _limit(_resolve_names(topology, nodes), unresolved_alerts)


def _limit(
    nodes: list[str], unresolved_alerts: list[UnresolvedAlert]
) -> tuple[list[str], list[UnresolvedAlert]]:
    nodes, extra_nodes = nodes[:MAX_FAILURES], len(nodes) - MAX_FAILURES
    unresolved_alerts, extra_unresolved = (
        unresolved_alerts[:MAX_UNRESOLVED],
        len(unresolved_alerts) - MAX_UNRESOLVED,
    )
    if extra_nodes > 0:
        reason = "a run repairs at most %d nodes" % MAX_FAILURES
        unresolved_alerts.append({"name": count_noun(extra_nodes, "more node"), "reason": reason})
    if extra_unresolved > 0:
        unresolved_alerts.append(
            {"name": count_noun(extra_unresolved, "more sample"), "reason": "same as above"}
        )
    return nodes, unresolved_alerts


def _resolve_names(topology: "Topology", names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(topology.canonical_name(name) for name in names))


def _nodes_of_alert(
    config: "InfrastructureConfig", topology: "Topology", alert: Mapping[str, Any]
) -> tuple[list[str], list[UnresolvedAlert]]:
    """Return (nodes, unresolved) of one alert, or of a group as Alertmanager sends it."""
    nodes: list[str] = []
    unresolved_alerts: list[UnresolvedAlert] = []
    for _, node, labels, reason in _firing_alerts(config, topology, alert):
        if reason is None:
            nodes.append(node)
        else:
            name = shorten_repr(node if node is not None else sorted(map(str, labels)))
            unresolved_alerts.append({"name": name, "reason": reason})
    if unresolved_alerts and not nodes:
        raise InvalidInput(
            "alert.labels",
            None,
            "%s: %s" % (unresolved_alerts[0]["name"], unresolved_alerts[0]["reason"]),
            "Add such a label to the alert, or set infrastructure.alert_labels",
        )
    return _limit(list(dict.fromkeys(nodes)), unresolved_alerts)


def labels_by_node(
    config: "InfrastructureConfig", topology: "Topology", alert: Mapping[str, Any]
) -> dict[str, dict[int, dict[str, Any]]]:
    """Return {node: {position: labels of the alert}} of the firing alerts, in their order.

    :param alert: one alert, or a group as Alertmanager sends it; an alert that names no node is
        left out.
    """
    labels_of_node: dict[str, dict[int, dict[str, Any]]] = {}
    for position, node, labels, reason in _firing_alerts(config, topology, alert):
        if reason is None:
            labels_of_node.setdefault(node, {})[position] = labels
    return labels_of_node


def alerts_in(alert: Mapping[str, Any]) -> list[Any]:
    """Return the alerts of a group as Alertmanager sends it; a single alert is a group of one."""
    alerts = alert.get("alerts")
    return alerts if isinstance(alerts, list) else [alert]


def _firing_alerts(
    config: "InfrastructureConfig", topology: "Topology", alert: Mapping[str, Any]
) -> Iterator[_FiringAlert]:
    for n, item in enumerate(alerts_in(alert)):
        path = "alert.alerts[%d]" % n if "alerts" in alert else "alert"
        item = run_parameters.require_object(path, item)
        if item.get("status") == "resolved":
            continue
        labels = run_parameters.require_object(path + ".labels", item.get("labels"))
        subject = alert_subjects.find_subject(labels, config.alert_rules)
        if subject is None:
            yield _FiringAlert(n, None, labels, "no label names a node")
        elif not node_names.is_node_name(subject.name):
            yield _FiringAlert(n, subject.name, labels, "a label does not name a node")
        else:
            node = topology.name_of_subject(subject.name, subject.cluster)
            yield _FiringAlert(n, node, labels, None)


def _query_with_retry(
    env: "Environment",
    prometheus: "Prometheus",
    query: str,
    seconds: float,
    sleep: Callable[[float], None],
) -> list[Any]:
    deadline = env.now() + min(seconds, MAX_ATTEMPTS * prometheus.connection.timeout)
    attempt_number = 0
    while True:
        attempt_number += 1
        try:
            return _query_once(env, prometheus, query, deadline - env.now())
        except CallError as error:
            seconds_left = deadline - env.now() - RETRY_DELAY_SECONDS
            if (
                attempt_number == MAX_ATTEMPTS or
                not error.failure.policy.retry_same_target or
                seconds_left < RETRY_DELAY_SECONDS
            ):
                raise
            sleep(RETRY_DELAY_SECONDS)


def _query_once(
    env: "Environment", prometheus: "Prometheus", query: str, seconds: float
) -> list[Any]:
    connection = prometheus.connection
    path = "%s?%s" % (QUERY_PATH, urlencode({"query": query.encode("utf-8", "replace")}))
    response = env.client.request(connection, "GET", path, min(seconds, connection.timeout))
    if not 200 <= response.status < 300:
        raise CallError(env.client.failure_of(response, "request"))
    body = response.json()
    data = body.get("data") if isinstance(body, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    kind = data.get("resultType") if isinstance(data, dict) else None
    if not isinstance(result, list) or kind not in ("vector", "matrix"):
        message = "Prometheus did not return samples; the query must evaluate to a vector"
        raise CallError(make_failure("malformed_answer", message))
    if not result and is_partial(body):
        message = "Prometheus did not return all series"
        raise CallError(make_failure("malformed_answer", message))
    return result
