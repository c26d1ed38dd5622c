"""What Alertmanager and Prometheus show of a node after a repair: healthy, failed, or unknown.

A source that does not respond, or that may not know all alerts yet, shows nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, TypedDict

from synthralos.calls.http import CallError, Response
from synthralos.config.connection import Connection
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.core.plurals import count_noun
from synthralos.core.timestamps import server_time
from synthralos.infrastructure import detection
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.promql import opposite_of
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads, alertmanager_api
from synthralos.sensing.config import Alertmanager
from synthralos.sensing.config import alertmanager as read_alertmanager

ALERTMANAGER, PROMETHEUS = "alertmanager", "prometheus"
# UNKNOWN may change; a source without any evidence never knew the failure.
HEALTHY, FAILED, UNKNOWN, NO_EVIDENCE = "healthy", "failed", "unknown", "no_evidence"

# Longer label values may have been truncated on their way here.
MAX_FILTER_CHARS = 500


class AlertKey(TypedDict):
    """An alert that Alertmanager is asked for; its name only narrows the list.

    `alert`: its position in the notification.
    """

    fingerprint: str
    alertname: str
    alert: int


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


class Calls:
    """Calls within a time limit for all of them; an error status raises CallError."""

    def __init__(self, env: Environment, ends_at: float) -> None:
        self._env, self._ends_at = env, ends_at
        self._skews: dict[str, float] = {}

    def skew_of(self, connection: Connection) -> float:
        """Return by how many seconds the clock of the server was ahead of this one, when it
        responded last; 0.0 if it has not responded, or does not report its clock.
        """
        return self._skews.get(connection.base_url, 0.0)

    def get(self, connection: Connection, path: str) -> Response:
        return self.send(connection, "GET", path)

    def send(
        self, connection: Connection, method: str, path: str, body: Optional[object] = None
    ) -> Response:
        seconds = min(connection.timeout, self._ends_at - self._env.now())
        if seconds <= 0:
            raise CallError(make_failure("timeout", "no time was left"))
        response: Response = self._env.client.request(connection, method, path, seconds, body)
        if response.status != 200:
            raise CallError(self._env.client.failure_of(response, "request"))
        now = self._env.now()
        self._skews[connection.base_url] = server_time(response.headers, now) - now
        return response


def find_alerts(
    env: Environment, config: InfrastructureConfig, topology: Topology, request: detection.Request
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
    for position, item in enumerate(detection.alerts_in(body)):
        try:
            [payload] = alert_payloads.from_webhook(dict(body, alerts=[item]), env.now())
            nodes, _ = detection.detect_failures(
                env, config, topology, {**request, "alert": item}, 0.0
            )
        except InvalidInput:
            # It names no node: the run reports it as unresolved.
            continue
        source = item.get("source") or payload["source"]
        if payload["status"] != alert_payloads.FIRING or source != ALERTMANAGER:
            continue
        if isinstance(item.get("fingerprint"), str):
            keys = [_key(payload, position)]
        else:
            keys = _look_up(env, alertmanager, payload["labels"], position)
        for node in nodes:
            alerts.setdefault(node, []).extend(keys)
    return {node: keys for node, keys in alerts.items() if keys}


def look_at_alerts(env: Environment, case: Mapping[str, Any]) -> None:
    """Note which alerts of a run Alertmanager lists before the repair: it is a witness of them.

    It may learn of the others later, if it has just been started or does not respond.
    """
    alertmanager = load_alertmanager(env)
    names = {key["alertname"] for keys in case["alerts"].values() for key in keys}
    if alertmanager is not None and names:
        calls = Calls(env, env.now() + alertmanager.connections[0].timeout)
        firing, _ = firing_alerts(env, calls, alertmanager, sorted(names))
        note_witnessed(case, firing)


def note_witnessed(case: Mapping[str, Any], fingerprints: Collection[str]) -> None:
    """Note which alerts of a run Alertmanager lists."""
    own = {key["fingerprint"] for keys in case["alerts"].values() for key in keys}
    witnessed: list[str] = case["witnessed"]
    witnessed += sorted(own.intersection(fingerprints).difference(witnessed))


def labels_by_alert(env: Environment, request: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Return the labels of the alerts of a request by their positions."""
    labels: dict[int, dict[str, str]] = {}
    for position, item in enumerate(detection.alerts_in(request["alert"])):
        try:
            [payload] = alert_payloads.from_webhook(
                dict(request["alert"], alerts=[item]), env.now()
            )
        except InvalidInput:
            continue
        labels[position] = payload["labels"]
    return labels


def load_alertmanager(env: Environment) -> Optional[Alertmanager]:
    """Return the configured Alertmanager, which the sensor reads, too; None if there is none.

    :raises InvalidInput: `sensors.alertmanager` is invalid.
    """
    alertmanager: Optional[Alertmanager] = read_alertmanager(
        env.settings.sensors.get("alertmanager")
    )
    return alertmanager


def _key(payload: Mapping[str, Any], position: int) -> AlertKey:
    return {
        "fingerprint": payload["fingerprint"], "alertname": payload["alertname"],
        "alert": position,
    }


def _look_up(
    env: Environment, alertmanager: Alertmanager, labels: Mapping[str, str], position: int
) -> list[AlertKey]:
    """Return the alerts with these labels, and perhaps more, that any member lists as firing."""
    calls = Calls(env, env.now() + alertmanager.connections[0].timeout)
    path, keys = alertmanager_api.alerts_path(_matchers(labels)), {}
    for connection in alertmanager.connections:
        try:
            entries, clock = alertmanager_api.list_alerts(calls.get, connection, path, env.now())
        except CallError:
            continue
        for payload in _firing(entries, clock):
            if labels.items() <= payload["labels"].items():
                keys[payload["fingerprint"]] = _key(payload, position)
    return list(keys.values())


def _matchers(labels: Mapping[str, str]) -> list[str]:
    matchers = [
        alertmanager_api.matcher_of(name, value)
        for name, value in sorted(labels.items())
        if len(value) <= MAX_FILTER_CHARS
    ]
    return [matcher for matcher in matchers if matcher is not None]


def name_matchers(alertname: str) -> list[str]:
    """Return matchers of alerts of a name; none if no server could be asked for them by it."""
    is_whole = 0 < len(alertname) <= MAX_FILTER_CHARS and not alertname.endswith("...")
    return _matchers({"alertname": alertname}) if is_whole else []


def _firing(entries: Iterable[Any], clock: float) -> list[alert_payloads.AlertPayload]:
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


def firing_alerts(
    env: Environment, calls: Calls, alertmanager: Alertmanager, names: list[str]
) -> tuple[dict[str, alert_payloads.AlertPayload], Evidence]:
    """Return ({fingerprint: payload} of firing alerts, evidence of what is not among them).

    The evidence is UNKNOWN if a member did not respond, or may not know all alerts yet.
    """
    firing: dict[str, alert_payloads.AlertPayload] = {}
    silent, unsettled = 0, [0.0]
    for connection in alertmanager.connections:
        try:
            for name in names:
                path = alertmanager_api.alerts_path(name_matchers(name))
                entries, clock = alertmanager_api.list_alerts(
                    calls.get, connection, path, env.now()
                )
                firing.update(
                    (payload["fingerprint"], payload) for payload in _firing(entries, clock)
                )
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
        members = count_noun(total, "Alertmanager")
        reason = "%d of %s did not respond as expected" % (silent, members)
        return firing, Evidence(UNKNOWN, reason=reason)
    if max(unsettled) > 0:
        reason = "an Alertmanager was started so recently that it may not know all alerts"
        return firing, Evidence(UNKNOWN, reason=reason, retry_after=max(unsettled))
    return firing, Evidence(HEALTHY)


def health_query(prometheus: Prometheus, query: Optional[str]) -> Optional[str]:
    """Return PromQL with one sample for each healthy node, or None if it cannot be derived.

    :param query: of the run, or None for the configured query.
    """
    if query is not None:
        return opposite_of(query) or prometheus.check
    return prometheus.check or opposite_of(prometheus.query)
