"""The check of a repair: whether the alert or the query that showed a failure says that it is over.

A check belongs to one repair: a node, and the crew that was assigned to it. It is due
`settle_seconds` after the repair has ended. Each source that has shown the failure is asked, and a
node is repaired only if every one of them has positive evidence:

- Alertmanager: every member responds, has been running for long enough to know all alerts, and none
  lists the alert; silenced and inhibited alerts count as listed. It knows nothing of the past, so
  the alert must be gone twice, `settle_seconds` apart.
- Prometheus: the node is in the result of the opposite query, or of the configured check. That it
  is missing from the query for failed nodes proves nothing, because the series of a dead exporter
  vanish, too. It knows the past, so one range query shows whether the node has been healthy for
  `settle_seconds`, and whether it has failed again after it was healthy.

A source that does not respond is no evidence either way: the node is neither repaired nor failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, TypedDict
from urllib.parse import urlencode

from synthralos.calls.http import CallError, Response
from synthralos.config.settings import Connection
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.core.plurals import count_noun
from synthralos.infrastructure import detection, node_names
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.promql import opposite_of
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads, alertmanager_api
from synthralos.sensing.config import Alertmanager
from synthralos.sensing.config import alertmanager as read_alertmanager

ALERTMANAGER, PROMETHEUS = "alertmanager", "prometheus"
# What one source shows.
HEALTHY, FAILED, UNKNOWN = "healthy", "failed", "unknown"
# What follows for a repair. A pending one is asked about again; an assigned one is with people, or
# cannot be checked.
PENDING, REPAIRED, NOT_REPAIRED = "pending", "repaired", "not_repaired"
ASSIGNED, UNCHECKED = "assigned", "unchecked"

RANGE_PATH = "/api/v1/query_range"
# Points of a range query: a flap that is shorter than a step between two of them may be missed.
MAX_POINTS = 30
MAX_WINDOW_SECONDS = 3600
# Between two questions to a source that did not respond: doubled each time, up to the maximum.
RETRY_SECONDS, MAX_RETRY_SECONDS = 10.0, 60.0
# Longer label values may have been truncated on their way here.
MAX_FILTER_CHARS = 500


class AlertKey(TypedDict):
    """An alert that Alertmanager is asked for; its name only narrows the list."""

    fingerprint: str
    alertname: str


class Check(TypedDict):
    """The check of one repair, as a case stores it. Times are seconds since the epoch.

    `alerts_gone_at`: when Alertmanager first did not list the alerts any more; `retries`: how often
    in a row a source did not respond; `status`, `reason`: of the last check; `due_at`: when a
    pending one is checked again.
    """

    node: str
    crew: str
    by_people: bool
    ended_at: float
    sources: list[str]
    alerts: list[AlertKey]
    alerts_gone_at: Optional[float]
    retries: int
    status: str
    reason: str
    due_at: float


@dataclass(frozen=True)
class Evidence:
    """What one source shows of one node.

    :ivar since: HEALTHY: since when, in seconds since the epoch.
    :ivar reason: FAILED or UNKNOWN: why, in words without any text from elsewhere.
    :ivar retry_after: UNKNOWN: seconds after which the source will know, or None if it may know at
        any time.
    """

    state: str
    since: float = 0.0
    reason: str = ""
    retry_after: Optional[float] = None


def find_alerts(
    env: Environment, config: InfrastructureConfig, topology: Topology, request: Mapping[str, Any]
) -> dict[str, list[AlertKey]]:
    """Return the alerts of a run by node, as far as Alertmanager can be asked for them.

    An alert that a person describes has no fingerprint; Alertmanager is asked for it now, because
    its absence later proves something only if it is listed before the repair.

    :param request: of a run whose source is an alert; see detection.parse_request.
    :raises InvalidInput: `sensors.alertmanager` is invalid.
    """
    alertmanager = load_alertmanager(env)
    if alertmanager is None:
        return {}
    body = request["alert"]
    alerts: dict[str, list[AlertKey]] = {}
    for item in body["alerts"] if isinstance(body.get("alerts"), list) else [body]:
        try:
            [payload] = alert_payloads.from_webhook(dict(body, alerts=[item]), env.now())
            nodes, _ = detection.detect_failures(
                env, config, topology, dict(request, alert=item), 0.0
            )
        except InvalidInput:
            # It names no node: the run reports it as unresolved.
            continue
        source = item.get("source") or payload["source"]
        if payload["status"] != alert_payloads.FIRING or source != ALERTMANAGER:
            continue
        if isinstance(item.get("fingerprint"), str):
            keys = [_key(payload)]
        else:
            keys = _look_up(env, alertmanager, payload["labels"])
        for node in nodes:
            alerts.setdefault(node, []).extend(keys)
    return {node: keys for node, keys in alerts.items() if keys}


def load_alertmanager(env: Environment) -> Optional[Alertmanager]:
    """Return the configured Alertmanager, which the sensor reads, too; None if there is none.

    :raises InvalidInput: `sensors.alertmanager` is invalid.
    """
    alertmanager: Optional[Alertmanager] = read_alertmanager(
        env.settings.sensors.get("alertmanager")
    )
    return alertmanager


def new_check(
    env: Environment,
    config: InfrastructureConfig,
    case: Mapping[str, Any],
    entry: Mapping[str, Any],
) -> Check:
    """Return the check of the repair that has just been assigned by `entry`, {node, crew}.

    :param case: of the run, with `alerts` by node and the nodes that Prometheus has shown as failed.
    """
    node, crew = entry["node"], config.crew(entry["crew"])
    sources, alerts = [], case["alerts"].get(node, [])
    if alerts:
        sources.append(ALERTMANAGER)
    if _can_testify(config.prometheus, case, node):
        sources.append(PROMETHEUS)
    now = env.now()
    return {
        "node": node,
        "crew": entry["crew"],
        "by_people": crew is None or crew.action is None,
        "ended_at": now,
        "sources": sources,
        "alerts": alerts,
        "alerts_gone_at": None,
        "retries": 0,
        "status": PENDING if sources else ASSIGNED,
        "reason": "" if sources else "nothing that could be asked has shown this failure",
        "due_at": now + config.settle_seconds,
    }


def _can_testify(prometheus: Optional[Prometheus], case: Mapping[str, Any], node: str) -> bool:
    """Whether a healthy result of Prometheus would prove that the failure of `node` is over.

    It does if Prometheus has shown that failure: a node that never was in the result of the query
    fails in a way that the query does not measure. A configured check is a statement of its own.
    """
    if prometheus is None or health_query(prometheus, case["request"]["query"]) is None:
        return False
    return prometheus.check is not None or node in case["seen_down"]


def health_query(prometheus: Prometheus, query: Optional[str]) -> Optional[str]:
    """Return PromQL with one sample for each healthy node, or None if it cannot be derived.

    :param query: of the run, or None for the configured query.
    """
    if query is not None:
        return opposite_of(query) or prometheus.check
    return prometheus.check or opposite_of(prometheus.query)


def run_checks(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    down: Iterable[str],
    deadline_seconds: float,
) -> None:
    """Ask the sources about the repairs that are pending, and update their checks in the case.

    :param down: the nodes that Prometheus has just returned as failed.
    :param deadline_seconds: how long the calls may take together.
    """
    checks: list[Check] = [
        check for check in case["checks"].values() if check["status"] == PENDING
    ]
    if not checks:
        return
    calls = _Calls(env, env.now() + deadline_seconds)
    evidence_by_node: dict[str, list[Evidence]] = {check["node"]: [] for check in checks}
    _ask_alertmanager(env, calls, checks, evidence_by_node)
    in_prometheus = [check for check in checks if PROMETHEUS in check["sources"]]
    if in_prometheus:
        series = _Series(calls, config.prometheus, topology, case["request"]["query"])
        series.load(min(check["ended_at"] for check in in_prometheus), env.now())
        for check in in_prometheus:
            evidence_by_node[check["node"]].append(series.evidence(check))
    for node in set(down) & set(evidence_by_node):
        # Also where its series cannot be read, or say nothing of this failure.
        evidence_by_node[node].append(Evidence(FAILED, reason="Prometheus shows it as failed"))
    for check in checks:
        _conclude(check, evidence_by_node[check["node"]], env.now(), config.settle_seconds)


def _conclude(check: Check, evidence: list[Evidence], now: float, settle_seconds: float) -> None:
    """Update the status of a check by what its sources show."""
    failed = [item for item in evidence if item.state == FAILED]
    unknown = [item for item in evidence if item.state == UNKNOWN]
    check["retries"] = check["retries"] + 1 if unknown else 0
    if failed:
        check["reason"] = failed[0].reason
        check["due_at"] = check["ended_at"] + settle_seconds
        # A shorter wait, because little time was left, shows that the node is not repaired yet.
        check["status"] = NOT_REPAIRED if now >= check["due_at"] else PENDING
    elif unknown:
        check["reason"] = unknown[0].reason
        hints = [item.retry_after for item in unknown if item.retry_after is not None]
        delay = min(RETRY_SECONDS * 2.0 ** (check["retries"] - 1), MAX_RETRY_SECONDS)
        check["due_at"] = now + max([delay] if len(hints) < len(unknown) else hints)
    else:
        check["due_at"] = max(item.since for item in evidence) + settle_seconds
        check["reason"] = "it has not been healthy for settle_seconds yet"
        if now >= check["due_at"]:
            check["status"], check["reason"] = REPAIRED, "healthy for settle_seconds"
    if check["by_people"] and (failed or unknown):
        # People take longer than a run: the node stays with them, and nobody else is sent.
        check["status"] = ASSIGNED


class _Calls:
    """GETs within a time limit for all of them; an error status raises CallError."""

    def __init__(self, env: Environment, ends_at: float) -> None:
        self._env, self._ends_at = env, ends_at

    def get(self, connection: Connection, path: str) -> Response:
        seconds = min(connection.timeout, self._ends_at - self._env.now())
        if seconds <= 0:
            raise CallError(make_failure("timeout", "no time was left"))
        response: Response = self._env.client.request(connection, "GET", path, seconds)
        if response.status != 200:
            raise CallError(self._env.client.failure_of(response, "request"))
        return response


# Alertmanager

def _key(payload: Mapping[str, Any]) -> AlertKey:
    return {"fingerprint": payload["fingerprint"], "alertname": payload["alertname"]}


def _look_up(
    env: Environment, alertmanager: Alertmanager, labels: Mapping[str, str]
) -> list[AlertKey]:
    """Return the alerts with these labels, and perhaps more, that any member lists as firing."""
    calls = _Calls(env, env.now() + alertmanager.connections[0].timeout)
    path, keys = alertmanager_api.alerts_path(_matchers(labels)), {}
    for connection in alertmanager.connections:
        try:
            entries, clock = alertmanager_api.list_alerts(calls.get, connection, path, env.now())
        except CallError:
            continue
        for payload in _firing(entries, clock):
            if labels.items() <= payload["labels"].items():
                keys[payload["fingerprint"]] = _key(payload)
    return list(keys.values())


def _matchers(labels: Mapping[str, str]) -> list[str]:
    matchers = [
        alertmanager_api.matcher_of(name, value)
        for name, value in sorted(labels.items())
        if len(value) <= MAX_FILTER_CHARS
    ]
    return [matcher for matcher in matchers if matcher is not None]


def _firing(entries: Iterable[Any], clock: float) -> list[dict[str, Any]]:
    """Return the payloads of the entries that fire.

    :raises CallError: an entry is not an alert, so the list may hide one.
    """
    try:
        payloads = [alert_payloads.from_api(entry, clock) for entry in entries]
    except InvalidInput as error:
        raise CallError(
            make_failure("malformed_answer", "an entry of Alertmanager's list is not an alert")
        ) from error
    return [payload for payload in payloads if payload["status"] == alert_payloads.FIRING]


def _ask_alertmanager(
    env: Environment,
    calls: _Calls,
    checks: list[Check],
    evidence_by_node: dict[str, list[Evidence]],
) -> None:
    """Add what Alertmanager shows to the evidence; each alert's name is asked for once."""
    with_alerts = [check for check in checks if ALERTMANAGER in check["sources"]]
    if not with_alerts:
        return
    alertmanager = load_alertmanager(env)
    names = {key["alertname"] for check in with_alerts for key in check["alerts"]}
    firing: set[str] = set()
    doubt = Evidence(UNKNOWN, reason="Alertmanager is no longer configured")
    if alertmanager is not None:
        firing, doubt = _ask_members(env, calls, alertmanager, sorted(names))
    for check in with_alerts:
        is_listed = any(key["fingerprint"] in firing for key in check["alerts"])
        evidence = Evidence(HEALTHY, check["alerts_gone_at"] or env.now())
        if is_listed:
            was_gone = check["alerts_gone_at"] is not None
            reason = "its alert fires again" if was_gone else "its alert still fires"
            evidence = Evidence(FAILED, reason=reason)
        elif doubt.state == UNKNOWN:
            evidence = doubt
        check["alerts_gone_at"] = evidence.since if evidence.state == HEALTHY else None
        evidence_by_node[check["node"]].append(evidence)


def _ask_members(
    env: Environment, calls: _Calls, alertmanager: Alertmanager, names: list[str]
) -> tuple[set[str], Evidence]:
    """Return (fingerprints of firing alerts, evidence of what is not among them).

    The evidence is UNKNOWN if a member did not respond, or may not know all alerts yet.
    """
    firing: set[str] = set()
    silent, unsettled = 0, [0.0]
    for connection in alertmanager.connections:
        try:
            for name in names:
                is_filter = 0 < len(name) <= MAX_FILTER_CHARS and not name.endswith("...")
                path = alertmanager_api.alerts_path(
                    _matchers({"alertname": name}) if is_filter else []
                )
                entries, clock = alertmanager_api.list_alerts(
                    calls.get, connection, path, env.now()
                )
                firing.update(payload["fingerprint"] for payload in _firing(entries, clock))
            seconds = alertmanager_api.seconds_until_settled(
                calls.get, connection, clock, alertmanager.settle_seconds
            )
        except CallError:
            silent += 1
            continue
        if seconds is None:
            silent += 1
        else:
            unsettled.append(seconds)
    total = len(alertmanager.connections)
    if silent:
        reason = "%d of %s did not respond as expected" % (silent, count_noun(total, "Alertmanager"))
        return firing, Evidence(UNKNOWN, reason=reason)
    if max(unsettled) > 0:
        reason = "an Alertmanager was started so recently that it may not know all alerts"
        return firing, Evidence(UNKNOWN, reason=reason, retry_after=max(unsettled))
    return firing, Evidence(HEALTHY)


# Prometheus

class _Series:
    """Which nodes were failed and which healthy since the first repair, at equal steps until now.

    :ivar times: seconds since the epoch, oldest first; the last one is now.
    """

    def __init__(
        self,
        calls: _Calls,
        prometheus: Optional[Prometheus],
        topology: Topology,
        query: Optional[str],
    ) -> None:
        self._calls, self._prometheus, self._topology = calls, prometheus, topology
        self._query = query
        self.times: list[float] = []
        self._failed: dict[str, set[int]] = {}
        self._healthy: dict[str, set[int]] = {}
        self._doubt: Optional[Evidence] = None

    def load(self, start: float, now: float) -> None:
        """Query Prometheus for the time from `start` to `now`; see MAX_WINDOW_SECONDS."""
        window = min(max(now - start, 1.0), MAX_WINDOW_SECONDS)
        step = float(math.ceil(window / MAX_POINTS))
        count = math.ceil(window / step)
        self.times = [now - step * (count - index) for index in range(count + 1)]
        prometheus = self._prometheus
        healthy = None if prometheus is None else health_query(prometheus, self._query)
        try:
            if prometheus is None or healthy is None:
                raise CallError(make_failure("configuration", "the check is no longer configured"))
            self._healthy = self._nodes_by_index(prometheus, healthy, step)
            query = self._query or prometheus.query
            self._failed = self._nodes_by_index(prometheus, query, step)
        except CallError as error:
            reason = "Prometheus could not be queried (%s)" % error.failure.cause
            self._doubt = Evidence(UNKNOWN, reason=reason)

    def evidence(self, check: Check) -> Evidence:
        """Return what the series show of the node since its repair ended."""
        if self._doubt is not None:
            return self._doubt
        failed = self._failed.get(check["node"], set())
        healthy = self._healthy.get(check["node"], set()) - failed
        last = len(self.times) - 1
        indices = [i for i in range(last) if self.times[i] >= check["ended_at"]] + [last]
        since, was_healthy = indices[0], False
        for index in indices:
            if index in failed and was_healthy:
                return Evidence(FAILED, reason="it was healthy and failed again")
            was_healthy = was_healthy or index in healthy
            if index not in healthy:
                since = index + 1
        if last in failed:
            return Evidence(FAILED, reason="Prometheus shows it as failed")
        if last not in healthy:
            return Evidence(FAILED, reason="Prometheus has no sample of it")
        return Evidence(HEALTHY, self.times[since])

    def _nodes_by_index(
        self, prometheus: Prometheus, query: str, step: float
    ) -> dict[str, set[int]]:
        """Return {node: indices of the times at which the result of `query` has the node}.

        :raises CallError: Prometheus did not respond, or not with series.
        """
        parameters = {
            "query": query.encode("utf-8", "replace"),
            "start": "%.3f" % self.times[0],
            "end": "%.3f" % self.times[-1],
            "step": "%d" % step,
        }
        path = "%s?%s" % (RANGE_PATH, urlencode(parameters))
        body = self._calls.get(prometheus.connection, path).json()
        data = body.get("data") if isinstance(body, dict) else None
        result = data.get("result") if isinstance(data, dict) else None
        if not isinstance(result, list) or data.get("resultType") != "matrix":
            raise CallError(
                make_failure("malformed_answer", "Prometheus did not return series of samples")
            )
        indices: dict[str, set[int]] = {}
        for series in result:
            metric = series.get("metric") if isinstance(series, dict) else None
            name = metric.get(prometheus.label) if isinstance(metric, dict) else None
            if not node_names.is_node_name(name):
                continue
            node = indices.setdefault(self._topology.canonical_name(name), set())
            for value in series.get("values") or ():
                timestamp = value[0] if isinstance(value, list) and value else None
                if isinstance(timestamp, (int, float)):
                    node.add(round((timestamp - self.times[0]) / step))
        return indices


# The checks of a run

def has_open_check(case: Mapping[str, Any]) -> bool:
    """Whether a repair is still to be checked."""
    return any(check["status"] == PENDING for check in case["checks"].values())


def next_check_at(case: Mapping[str, Any]) -> Optional[float]:
    """Return when the next pending check is due, in seconds since the epoch, or None."""
    due = [check["due_at"] for check in case["checks"].values() if check["status"] == PENDING]
    return min(due, default=None)


def nodes_with(case: Mapping[str, Any], status: str) -> list[str]:
    """Return the nodes whose last repair has this status, in the order of the repairs."""
    return [node for node, check in case["checks"].items() if check["status"] == status]


def close_checks(case: Mapping[str, Any]) -> None:
    """End the checks that are still pending: the run has no time left for them."""
    for check in case["checks"].values():
        if check["status"] == PENDING:
            check["status"] = ASSIGNED if check["by_people"] else UNCHECKED
            check["reason"] = check["reason"] or "the run ended before it could be checked"


def report(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return [{node, crew, status, reason, sources}], one entry for the last repair of each node."""
    names = ("node", "crew", "status", "reason", "sources")
    return [{name: check[name] for name in names} for check in case["checks"].values()]
