"""What Prometheus knows of an alert: its rule's expression, its value, the last samples.

Only an expression that Prometheus itself has in a rule, or that the configuration contains, is ever
queried: the address of an alert is text from elsewhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.core import bounded_json
from synthralos.core.failures import make_failure
from synthralos.core.timestamps import to_iso
from synthralos.infrastructure.prometheus_history import RANGE_PATH
from synthralos.infrastructure.repair_evidence import Calls

RULES_PATH = "/api/v1/rules"
WINDOW_SECONDS, STEP_SECONDS = 1800, 60
# How long Prometheus itself may evaluate the query.
QUERY_SECONDS = 5
MAX_RESPONSE_CHARS = 2 * 1024 * 1024
MAX_SERIES, MAX_SAMPLES = 3, 5
# More than are shown, so that those of the alert are among them; older servers ignore it.
MAX_LISTED_SERIES = 100
# Labels that rules add or replace, so that a series need not have them.
_OF_RULE = ("alertname", "__name__")


class Rule(NamedTuple):
    """An alerting rule that may have made an alert. `value`: of that alert, or None."""

    expression: str
    value: Optional[str]


@dataclass
class Samples:
    """The last samples of a query.

    :ivar series: [(labels, [(ISO time, value)])], the newest last; omitted: how many more.
    """

    series: list[tuple[dict[str, str], list[tuple[str, str]]]] = field(default_factory=list)
    omitted: int = 0


def rules_named(
    calls: Calls, connection: Connection, alertname: str, labels: Mapping[str, str]
) -> list[Rule]:
    """Return the rules that may have made an alert with these labels; one if it lists the alert.

    :raises CallError: Prometheus did not respond, or not with rules.
    """
    # Newer servers return the rules of this name only.
    query = urlencode([("type", "alert"), ("rule_name[]", alertname.encode("utf-8", "replace"))])
    data = _data_of(calls, connection, "%s?%s" % (RULES_PATH, query))
    groups = data.get("groups")
    if not isinstance(groups, list):
        raise _malformed("Prometheus did not return its rules")
    rules: list[Rule] = []
    for group in groups:
        entries = group.get("rules") if isinstance(group, dict) else None
        for rule in entries if isinstance(entries, list) else []:
            if not isinstance(rule, dict) or rule.get("name") != alertname:
                continue
            expression = rule.get("query")
            if not isinstance(expression, str) or not expression:
                continue
            value = _value_of(rule, labels)
            if value is not None:
                return [Rule(expression, value)]
            rules.append(Rule(expression, None))
    return rules


def _value_of(rule: Mapping[str, Any], labels: Mapping[str, str]) -> Optional[str]:
    """Return the value of the alert of a rule that has these labels, or None.

    External labels of Prometheus are not in its own list of alerts.
    """
    alerts = rule.get("alerts")
    for alert in alerts if isinstance(alerts, list) else []:
        own = alert.get("labels") if isinstance(alert, dict) else None
        if isinstance(own, dict) and own and own.items() <= labels.items():
            value = alert.get("value")
            return value if isinstance(value, str) else None
    return None


def last_samples(
    calls: Calls, connection: Connection, expression: str, labels: Mapping[str, str], now: float
) -> Samples:
    """Return the last samples of an expression, those of the alert with these labels first.

    :param expression: a trusted one; see above.
    :param now: seconds since the epoch.
    :raises CallError: Prometheus did not respond, or not with series.
    """
    query = urlencode({
        "query": expression.encode("utf-8", "replace"),
        "start": "%.3f" % (now - WINDOW_SECONDS),
        "end": "%.3f" % now,
        "step": "%d" % STEP_SECONDS,
        "timeout": "%ds" % QUERY_SECONDS,
        "limit": "%d" % MAX_LISTED_SERIES,
    })
    data = _data_of(calls, connection, "%s?%s" % (RANGE_PATH, query))
    result = data.get("result")
    if data.get("resultType") != "matrix" or not isinstance(result, list):
        raise _malformed("Prometheus did not return series of samples")
    candidates = []
    for entry in result:
        metric = entry.get("metric") if isinstance(entry, dict) else None
        if isinstance(metric, dict):
            texts = {str(name): str(value) for name, value in metric.items()}
            candidates.append((_is_alerts(texts, labels), texts, entry.get("values")))
    own = [item for item in candidates if item[0]]
    # A rule may have replaced all labels: then nobody knows which series is meant.
    selected = (own or candidates)[:MAX_SERIES]
    series = [(texts, _samples(values)) for _, texts, values in selected]
    return Samples(series, len(candidates) - len(selected))


def _is_alerts(series: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether a series may be that of the alert: nothing in its labels contradicts."""
    shared = [name for name in series if name in labels and name not in _OF_RULE]
    return bool(shared) and all(series[name] == labels[name] for name in shared)


def _samples(values: Any) -> list[tuple[str, str]]:
    samples = []
    for value in (values if isinstance(values, list) else [])[-MAX_SAMPLES:]:
        is_sample = isinstance(value, list) and len(value) == 2 and isinstance(
            value[0], (int, float))
        if is_sample:
            text = value[1] if isinstance(value[1], str) else json.dumps(value[1])
            samples.append((to_iso(value[0]), text))
    return samples


def _data_of(calls: Calls, connection: Connection, path: str) -> Mapping[str, Any]:
    response = calls.get(connection, path)
    if len(response.text) > MAX_RESPONSE_CHARS:
        raise _malformed("Prometheus returned more than %d characters" % MAX_RESPONSE_CHARS)
    try:
        body = bounded_json.loads(response.text)
    except ValueError as error:
        raise _malformed("Prometheus did not return JSON") from error
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise _malformed("Prometheus did not return data")
    return data


def _malformed(message: str) -> CallError:
    return CallError(make_failure("malformed_answer", message))
