"""Collects evidence of failures, for tickets and for the planner: see escalation/ticket_evidence.

It takes at most SECONDS, whatever Prometheus does. What it could not determine is named; nothing of
it ends a run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.plurals import count_noun
from synthralos.core.sanitize import sanitize_line
from synthralos.escalation.ticket_evidence import Evidence, PastRepair, SeriesValues
from synthralos.infrastructure import (
    alert_links,
    alert_values,
    detection,
    repair_history,
)
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.repair_evidence import Calls
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment
from synthralos.sensing import alert_payloads

SECONDS = 5.0
MAX_ENTRIES = 5
MAX_TEXT_CHARS, MAX_URL_CHARS, MAX_LABEL_CHARS, MAX_LABELS = 500, 1000, 120, 12


def collect(
    env: Environment,
    config: InfrastructureConfig,
    topology: Topology,
    case: Mapping[str, Any],
    nodes: Sequence[str],
) -> list[Evidence]:
    """Return the evidence of the failures of `nodes`, of at most MAX_ENTRIES alerts."""
    calls = Calls(env, env.now() + SECONDS)
    collected: list[Evidence] = []
    payloads = _payloads_by_node(env, config, topology, case)
    for node in nodes:
        of_node: list[Optional[dict[str, Any]]] = [*payloads.get(node, ())] or [None]
        for payload in of_node:
            if len(collected) >= MAX_ENTRIES:
                return collected
            collected.append(_evidence_of(env, config, calls, case, node, payload))
    return collected


def _payloads_by_node(
    env: Environment, config: InfrastructureConfig, topology: Topology, case: Mapping[str, Any]
) -> dict[str, list[alert_payloads.AlertPayload]]:
    request = case["request"]
    if request["source"] != detection.ALERT:
        return {}
    body = request["alert"]
    items = detection.alerts_in(body)
    payloads: dict[str, list[alert_payloads.AlertPayload]] = {}
    for node, alerts in detection.labels_by_node(config, topology, body).items():
        for position in alerts:
            try:
                payload = alert_payloads.from_item(items[position], body, env.now())
            except InvalidInput:
                continue
            payloads.setdefault(node, []).append(payload)
    return payloads


def _evidence_of(
    env: Environment, config: InfrastructureConfig, calls: Calls, case: Mapping[str, Any],
    node: str, payload: Optional[Mapping[str, Any]],
) -> Evidence:
    def clean(text: Optional[str], max_chars: int = MAX_TEXT_CHARS) -> Optional[str]:
        return None if text is None else sanitize_line(text, env.redactor, max_chars)

    evidence: Evidence = {
        "subject": clean(node) or "",
        "alertname": None, "severity": None, "starts_at": None, "expression": None, "value": None,
        "links": {}, "series": [], "omitted_series": 0,
        "past": _past(env, node, case["run"]),
        "problems": [],
    }
    expression: Optional[str] = None
    labels: Mapping[str, str] = {}
    if payload is not None:
        labels = payload["labels"]
        evidence["alertname"] = clean(payload["alertname"])
        evidence["severity"] = clean(labels.get("severity"), MAX_LABEL_CHARS)
        evidence["starts_at"] = payload["starts_at"]
        evidence["value"] = clean(
            payload["extra"].get("values") or payload["extra"].get("valueString")
        )
        for name, url in alert_links.links_of(payload).items():
            evidence["links"][name] = sanitize_line(url, env.redactor, MAX_URL_CHARS)
        expression = alert_links.expression_of(payload)
        evidence["expression"] = clean(expression)
    if config.prometheus is None:
        evidence["problems"].append("the last values: infrastructure.prometheus is not configured")
        return evidence
    try:
        _add_values(env, config.prometheus, calls, case, node, evidence, expression, labels)
    except CallError as error:
        evidence["problems"].append(
            "the last values: Prometheus could not be asked (%s)" % error.failure.cause
        )
    return evidence


def _add_values(
    env: Environment, prometheus: Prometheus, calls: Calls, case: Mapping[str, Any], node: str,
    evidence: Evidence, expression: Optional[str], labels: Mapping[str, str],
) -> None:
    """Add what Prometheus knows to the evidence.

    :param expression: that the address of the alert has, or None.
    :raises CallError: Prometheus did not respond as expected.
    """
    connection = prometheus.connection
    trusted: Optional[str] = None
    if labels:
        alertname = labels.get("alertname", "")
        rules = alert_values.rules_named(calls, connection, alertname, labels)
        if expression is not None and not any(rule.value for rule in rules):
            rules = [rule for rule in rules if rule.expression == expression]
        expressions = {rule.expression for rule in rules}
        if len(expressions) == 1:
            trusted = rules[0].expression
            evidence["value"] = evidence["value"] or _line(env, rules[0].value)
        elif rules:
            evidence["problems"].append(
                "the expression: %s have this name" % count_noun(len(rules), "rule")
            )
        else:
            evidence["problems"].append("the last values: Prometheus has no rule of this alert")
    elif case["request"]["source"] == detection.QUERY:
        # The operator's own.
        trusted = case["request"]["query"] or prometheus.query
        labels = {prometheus.label: node}
    if trusted is None:
        return
    evidence["expression"] = _line(env, trusted)
    samples = alert_values.last_samples(calls, connection, trusted, labels, env.now())
    evidence["omitted_series"] = samples.omitted
    evidence["series"] = [_series(env, *series) for series in samples.series]
    if not samples.series:
        evidence["problems"].append(
            "the last values: the expression has had none for %d minutes"
            % (alert_values.WINDOW_SECONDS // 60)
        )


def _line(env: Environment, text: Optional[str]) -> Optional[str]:
    return None if text is None else sanitize_line(text, env.redactor, MAX_TEXT_CHARS)


def _series(
    env: Environment, labels: Mapping[str, str], values: Iterable[tuple[str, str]]
) -> SeriesValues:
    return {
        "labels": {
            sanitize_line(name, env.redactor, MAX_LABEL_CHARS): sanitize_line(
                value, env.redactor, MAX_LABEL_CHARS)
            for name, value in sorted(labels.items())[:MAX_LABELS]
        },
        "values": [[at, sanitize_line(value, env.redactor, 40)] for at, value in values],
    }


def _past(env: Environment, node: str, run: str) -> list[PastRepair]:
    return [past for past in repair_history.recent(env, node) if past["run"] != run]
