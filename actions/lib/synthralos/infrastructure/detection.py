"""Detects the failed nodes: from a list, an alert, or Prometheus."""

import time
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

AUTO, LIST, ALERT, QUERY = SOURCES = ("auto", "list", "alert", "query")
MAX_FAILURES = 200
MAX_UNRESOLVED = 20
MAX_ATTEMPTS = 2
RETRY_DELAY_SECONDS = 1.0
QUERY_PATH = "/api/v1/query"


def parse_request(config, parameters, payload=None):
    """Return {source, nodes, query, alert} of a run's parameters; `auto` is resolved.

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


def _alert_in(payload):
    """Return the alert in a trigger's payload, or {}."""
    if not isinstance(payload, dict):
        return {}
    body = payload.get("body") if isinstance(payload.get("body"), dict) else payload
    is_alert = isinstance(body.get("labels"), dict) or isinstance(body.get("alerts"), list)
    return body if is_alert else {}


def detect_failures(env, config, topology, request, seconds, sleep=time.sleep):
    """Return the failed nodes of `request`, each once, by the topology's names for them.

    :param seconds: the time limit for querying Prometheus.
    :returns: (nodes, unresolved): unresolved is a list of {name, reason} of failures that could
        not be mapped to a node.
    :raises CallError: Prometheus did not respond, or its response is malformed.
    """
    if request["source"] == LIST:
        nodes, unresolved_alerts = request["nodes"], []
    elif request["source"] == ALERT:
        nodes, unresolved_alerts = _nodes_of_alert(config, topology, request["alert"])
    else:
        return query_prometheus(env, config, topology, request["query"], seconds, sleep)
    return _resolve_names(topology, nodes), unresolved_alerts


def query_prometheus(env, config, topology, query, seconds, sleep=time.sleep):
    """Like `detect_failures`, from Prometheus only.

    :param query: PromQL, or None for the configured query.
    """
    prometheus = config.prometheus
    if prometheus is None:
        # The configuration has changed since the run began.
        message = "infrastructure.prometheus is no longer configured"
        raise CallError(make_failure("configuration", message))
    samples = _query_with_retry(env, prometheus, query or prometheus.query, seconds, sleep)
    nodes, unresolved_alerts = [], []
    for sample in samples:
        metric = sample.get("metric") if isinstance(sample, dict) else None
        metric = metric if isinstance(metric, dict) else {}
        name = metric.get(prometheus.label)
        if node_names.is_node_name(name):
            nodes.append(name)
        else:
            reason = "its label %s does not name a node" % prometheus.label
            unresolved_alerts.append(
                {"name": shorten_repr(name if name is not None else metric), "reason": reason}
            )
    return _limit(_resolve_names(topology, nodes), unresolved_alerts)


def _limit(nodes, unresolved_alerts):
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


def _resolve_names(topology, names):
    return list(dict.fromkeys(topology.canonical_name(name) for name in names))


def _nodes_of_alert(config, topology, alert):
    """Return (nodes, unresolved) of one alert, or of a group as Alertmanager sends it."""
    nodes, unresolved_alerts = [], []
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


def labels_by_node(config, topology, alert):
    """Return {node: {position: labels of the alert}} of the firing alerts, in their order.

    :param alert: one alert, or a group as Alertmanager sends it; an alert that names no node is
        left out.
    """
    labels_of_node = {}
    for position, node, labels, reason in _firing_alerts(config, topology, alert):
        if reason is None:
            labels_of_node.setdefault(node, {})[position] = labels
    return labels_of_node


def alerts_in(alert):
    """Return the alerts of a group as Alertmanager sends it; a single alert is a group of one."""
    return alert["alerts"] if isinstance(alert.get("alerts"), list) else [alert]


def _firing_alerts(config, topology, alert):
    """Yield (position, node, labels, None) of each firing alert; if it names no node, (position,
    name or None, labels, reason).
    """
    for n, item in enumerate(alerts_in(alert)):
        path = "alert.alerts[%d]" % n if "alerts" in alert else "alert"
        item = run_parameters.require_object(path, item)
        if item.get("status") == "resolved":
            continue
        labels = run_parameters.require_object(path + ".labels", item.get("labels"))
        subject = alert_subjects.find_subject(labels, config.alert_rules)
        if subject is None:
            yield n, None, labels, "no label names a node"
        elif not node_names.is_node_name(subject.name):
            yield n, subject.name, labels, "a label does not name a node"
        else:
            yield n, topology.name_of_subject(subject.name, subject.cluster), labels, None


def _query_with_retry(env, prometheus, query, seconds, sleep):
    deadline = env.now() + min(seconds, MAX_ATTEMPTS * prometheus.connection.timeout)
    for attempt_number in range(1, MAX_ATTEMPTS + 1):
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


def _query_once(env, prometheus, query, seconds):
    connection = prometheus.connection
    path = "%s?%s" % (QUERY_PATH, urlencode({"query": query.encode("utf-8", "replace")}))
    response = env.client.request(connection, "GET", path, min(seconds, connection.timeout))
    if not 200 <= response.status < 300:
        raise CallError(env.client.failure_of(response, "request"))
    body = response.json()
    data = body.get("data") if isinstance(body, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, list) or data.get("resultType") not in ("vector", "matrix"):
        message = "Prometheus did not return samples; the query must evaluate to a vector"
        raise CallError(make_failure("malformed_answer", message))
    if not result and is_partial(body):
        message = "Prometheus did not return all series"
        raise CallError(make_failure("malformed_answer", message))
    return result
