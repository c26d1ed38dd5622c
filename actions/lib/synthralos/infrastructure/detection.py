"""Which nodes have failed: as a list says, an alert, or Prometheus."""

import time
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput, shorten_repr
from synthralos.core.failures import make_failure
from synthralos.infrastructure import config as configs
from synthralos.infrastructure import node_names
from synthralos.runtime import run_parameters

AUTO, LIST, ALERT, QUERY = SOURCES = ("auto", "list", "alert", "query")
MAX_FAILURES = 200
MAX_UNRESOLVED = 20
MAX_ATTEMPTS = 2
RETRY_DELAY_SECONDS = 1.0
QUERY_PATH = "/api/v1/query"


def request_of(config, parameters, payload=None):
    """{source, nodes, query, alert} of a run's parameters, checked; source is no longer `auto`.

    :param payload: of the trigger that started the run: it is the alert where none is given.
    """
    listed = node_names.listed("nodes", parameters.get("nodes") or [])
    alert = run_parameters.require_object("alert", parameters.get("alert"))
    source = parameters.get("source") or AUTO
    if source not in SOURCES:
        raise InvalidInput("source", source, "is no source", "Use one of " + ", ".join(SOURCES))
    if source in (AUTO, ALERT) and not alert and not listed:
        alert = _alert_in(payload)
    if source == AUTO:
        source = LIST if listed else ALERT if alert else QUERY
    if source == LIST and not listed:
        raise InvalidInput(
            "nodes", [], "names no node", "List the failed nodes, or use source=query"
        )
    if source == ALERT and not alert:
        raise InvalidInput(
            "alert", {}, "is empty", "Give {labels: {...}}, or start the run from a rule"
        )
    if len(listed) > MAX_FAILURES:
        way_out = "Give at most %d nodes to a run" % MAX_FAILURES
        raise InvalidInput("nodes", len(listed), "is too long", way_out)
    query = parameters.get("query") or None
    if query is not None:
        query = configs.query("query", query)
    if source == QUERY and config.prometheus is None:
        raise InvalidInput(
            "infrastructure.prometheus.base_url",
            None,
            "no Prometheus is configured",
            "Set it in the pack's config, or give `nodes` or `alert`",
        )
    return {"source": source, "nodes": listed, "query": query, "alert": alert}


def _alert_in(payload):
    """What a trigger's payload holds that may be an alert, or {}."""
    if not isinstance(payload, dict):
        return {}
    body = payload.get("body") if isinstance(payload.get("body"), dict) else payload
    is_alert = isinstance(body.get("labels"), dict) or isinstance(body.get("alerts"), list)
    return body if is_alert else {}


def detect_failures(env, config, topology, request, seconds, sleep=time.sleep):
    """(failed nodes, left out): what `request` says, by the topology's names, each node once.

    :param seconds: what asking may take.
    :returns: left out is a list of {what, why}: failures that no node could be told of.
    :raises CallError: Prometheus did not answer, or not as Prometheus does.
    """
    if request["source"] == LIST:
        found, unresolved_alerts = request["nodes"], []
    elif request["source"] == ALERT:
        found, unresolved_alerts = _nodes_of_alert(config, request["alert"])
    else:
        return query_prometheus(env, config, topology, request["query"], seconds, sleep)
    return _resolved(topology, found), unresolved_alerts


def query_prometheus(env, config, topology, query, seconds, sleep=time.sleep):
    """As `detect_failures`, of Prometheus alone; query: PromQL, or None for the configured one."""
    samples = _query_with_retry(
        env, config.prometheus, query or config.prometheus.query, seconds, sleep
    )
    found, unresolved_alerts = [], []
    for sample in samples:
        metric = sample.get("metric") if isinstance(sample, dict) else None
        metric = metric if isinstance(metric, dict) else {}
        name = metric.get(config.prometheus.label)
        if node_names.is_node(name):
            found.append(name)
        else:
            why = "its label %s names no node" % config.prometheus.label
            unresolved_alerts.append(
                {"name": shorten_repr(name if name is not None else metric), "reason": why}
            )
    return _limit(_resolved(topology, found), unresolved_alerts)


def _limit(found, unresolved_alerts):
    found, beyond = found[:MAX_FAILURES], len(found) - MAX_FAILURES
    unresolved_alerts, more = (
        unresolved_alerts[:MAX_UNRESOLVED],
        len(unresolved_alerts) - MAX_UNRESOLVED,
    )
    if beyond > 0:
        why = "one run repairs at most %d nodes" % MAX_FAILURES
        unresolved_alerts.append({"name": "%d nodes more" % beyond, "reason": why})
    if more > 0:
        unresolved_alerts.append({"name": "%d samples more" % more, "reason": "as the ones before"})
    return found, unresolved_alerts


def _resolved(topology, found):
    return list(dict.fromkeys(topology.resolved(name) for name in found))


def _nodes_of_alert(config, alert):
    """(nodes, left out) of one alert, or of a group of them as Alertmanager sends it."""
    alerts = alert.get("alerts") if isinstance(alert.get("alerts"), list) else [alert]
    found, unresolved_alerts = [], []
    for n, one in enumerate(alerts):
        where = "alert.alerts[%d]" % n if "alerts" in alert else "alert"
        one = run_parameters.require_object(where, one)
        if one.get("status") == "resolved":
            continue
        labels = run_parameters.require_object(where + ".labels", one.get("labels"))
        name = next((labels[key] for key in config.alert_labels if labels.get(key)), None)
        if name is None:
            known = ", ".join(config.alert_labels)
            why = "no label names a node (%s)" % known
            unresolved_alerts.append(
                {"name": shorten_repr(sorted(str(key) for key in labels)), "reason": why}
            )
        elif not node_names.is_node(name):
            unresolved_alerts.append(
                {"name": shorten_repr(name), "reason": "a label does not name a node"}
            )
        else:
            found.append(name)
    if unresolved_alerts and not found:
        raise InvalidInput(
            "alert.labels",
            None,
            "%s: %s" % (unresolved_alerts[0]["name"], unresolved_alerts[0]["reason"]),
            "Add such a label to the alert, or set infrastructure.alert_labels",
        )
    return _limit(list(dict.fromkeys(found)), unresolved_alerts)


def _query_with_retry(env, prometheus, query, seconds, sleep):
    ends = env.now() + min(seconds, MAX_ATTEMPTS * prometheus.connection.timeout)
    for number in range(1, MAX_ATTEMPTS + 1):
        try:
            return _query_once(env, prometheus, query, ends - env.now())
        except CallError as error:
            left = ends - env.now() - RETRY_DELAY_SECONDS
            if (
                number == MAX_ATTEMPTS or
                not error.failure.policy.retry_same_target or
                left < RETRY_DELAY_SECONDS
            ):
                raise
            sleep(RETRY_DELAY_SECONDS)


def _query_once(env, prometheus, query, seconds):
    connection = prometheus.connection
    path = "%s?%s" % (QUERY_PATH, urlencode({"query": query.encode("utf-8", "replace")}))
    answer = env.client.request(connection, "GET", path, min(seconds, connection.timeout))
    if not 200 <= answer.status < 300:
        raise CallError(env.client.failure_of(answer, "request"))
    told = answer.json()
    data = told.get("data") if isinstance(told, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if not isinstance(result, list) or data.get("resultType") not in ("vector", "matrix"):
        message = "Prometheus did not answer with samples; the query must give a vector"
        raise CallError(make_failure("malformed_answer", message))
    return result
