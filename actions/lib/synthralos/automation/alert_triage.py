"""Which alerts are no failures: those that always fire, tests of a receiver, failed evaluations.

Alerts are payloads of synthralos.metrics_alert, as sensing.alert_payloads builds them.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional
from urllib.parse import urlsplit

from synthralos.infrastructure import alert_links

NOT_A_FAILURE, TEST, NOT_EVALUATED = "not_a_failure", "test", "not_evaluated"
# They fire as long as alerting works, or only to inhibit others. Written in any case, with any
# separators, and after the words of _PREFIX.
ALWAYS_FIRING = (
    "Watchdog", "DeadMansSwitch", "DeadManSwitch", "DeadMansSnitch", "DeadManSnitch",
    "AlwaysFiring",
)
INHIBITORS = ("InfoInhibitor",)
_PREFIX = re.compile(r"(?:prometheus|alertmanager|monitoring|alerting|e2e)+")
_NO_LETTER_OR_DIGIT = re.compile(r"[^a-z0-9]+")
# An expression that is true whatever happens.
_CONSTANT = re.compile(r"\(*\s*vector\s*\(\s*[0-9.]+\s*\)\s*\)*(?:\s*[=!<>]{1,2}\s*[0-9.]+)?\Z")
_NO_SEVERITY = "none"
_STATE_REASON = "grafana_state_reason"
_EVALUATION_ALERTS = ("DatasourceError", "DatasourceNoData")
_EVALUATION_LABELS = ("rulename", "datasource_uid", "ref_id")
# What Grafana and Alertmanager write into the alert of a test, unless its author replaces it.
_TEST_NAMES = ("TestAlert", "Test notification")
_TEST_SUMMARY = "Notification test"
_TEST_VALUES = "[ metric='foo' labels={instance=bar} value=10 ]"
_TEST_MESSAGE = "Someone is testing the alert notification within"
# The key of a group of alerts is `{<route>}:{<labels>}`. That of a test is `<receiver>-<fingerprint
# of its alert>-<seconds>`, and in Grafana 8 `{<labels>}<time>`.
_TEST_GROUP = r".*-%s-\d{9,11}\Z"
_TEST_GROUP_OF_GRAFANA_8 = re.compile(r"\{.*\}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


class Verdict(NamedTuple):
    """Why an alert is no failure.

    :ivar outcome: NOT_A_FAILURE, TEST or NOT_EVALUATED.
    :ivar reason: in words, for people.
    """

    outcome: str
    reason: str


def judge(alert: Mapping[str, Any], always_firing: tuple[str, ...] = ()) -> Optional[Verdict]:
    """Return the Verdict on an alert that is no failure, or None for one that is.

    :param always_firing: names of further alerts that always fire.
    """
    severity = str(alert["labels"].get("severity") or "").strip().lower()
    if severity == _NO_SEVERITY:
        return Verdict(NOT_A_FAILURE, "its severity is none")
    if alert["alertname"] in INHIBITORS + always_firing or _is_always_firing(alert):
        return Verdict(NOT_A_FAILURE, "it is meant to fire all the time")
    if _is_test(alert):
        return Verdict(TEST, "it is a test of the notification: no rule generated it")
    reason = evaluation_failure(alert)
    return None if reason is None else Verdict(NOT_EVALUATED, reason)


def evaluation_failure(alert: Mapping[str, Any]) -> Optional[str]:
    """Return why the rule of a firing alert could not be evaluated, or None if it was."""
    labels, annotations = alert["labels"], alert["annotations"]
    error = str(annotations.get("Error") or annotations.get("error") or "").strip()
    details = ": " + error if error else ""
    if is_evaluation_alert(alert):
        return "%s%s" % (alert["alertname"], details)
    state = state_reason(alert)
    if state is not None:
        return "Grafana reports the state %s%s" % (state, details)
    is_from_grafana = alert["source"] == "grafana" or "grafana_folder" in labels
    # A rule that has values was evaluated: the annotation is its author's.
    is_failed = bool(str(annotations.get("Error") or "").strip()) and not _values_of(alert)
    return "the evaluation failed%s" % details if is_from_grafana and is_failed else None


def is_evaluation_alert(alert: Mapping[str, Any]) -> bool:
    """Return whether Grafana made the alert itself, in place of a rule's, which may share its name.
    """
    return alert["alertname"] in _EVALUATION_ALERTS and any(
        alert["labels"].get(name) for name in _EVALUATION_LABELS
    )


def state_reason(alert: Mapping[str, Any]) -> Optional[str]:
    """Return why Grafana changed the state without a result of the rule, or None if it did not.

    A resolved alert with a reason, such as MissingSeries, is no evidence that anything is repaired.
    """
    return str(alert["annotations"].get(_STATE_REASON) or "").strip() or None


def _is_always_firing(alert: Mapping[str, Any]) -> bool:
    expression = alert_links.expression_of(alert)
    if expression is not None:
        # A watchdog may also be a device that has failed.
        return bool(_CONSTANT.match(expression))
    return _plain_name(alert["alertname"]) in {_plain_name(name) for name in ALWAYS_FIRING}


def _plain_name(name: str) -> str:
    letters = _NO_LETTER_OR_DIGIT.sub("", name.lower())
    return _PREFIX.sub("", letters, count=1) if _PREFIX.match(letters) else letters


def _is_test(alert: Mapping[str, Any]) -> bool:
    address, extra = alert["generator_url"] or "", alert["extra"]
    if _names_rule(address) or extra.get("ruleUID"):
        return False
    group_key = extra.get("groupKey") or ""
    if _is_group_of_test(group_key, alert["fingerprint"]):
        return True
    if alert["source"] == "grafana" and address.startswith("?") and not group_key.endswith("}"):
        # Grafana writes the address of the rule in front of this query.
        return True
    annotations = alert["annotations"]
    values = (annotations.get("__value_string__"), extra.get("valueString"))
    return (
        alert["alertname"] in _TEST_NAMES or
        _TEST_VALUES in values or
        annotations.get("summary") == _TEST_SUMMARY or
        str(annotations.get("message") or "").startswith(_TEST_MESSAGE)
    )


def _is_group_of_test(group_key: str, fingerprint: str) -> bool:
    is_test = re.match(_TEST_GROUP % re.escape(fingerprint), group_key)
    return bool(is_test or _TEST_GROUP_OF_GRAFANA_8.match(group_key))


def _values_of(alert: Mapping[str, Any]) -> Optional[str]:
    """Return the values of Grafana's queries, as text, or None if there are none."""
    values = str(alert["extra"].get("values") or alert["annotations"].get("__values__") or "")
    return values if values.strip(" {}") else None


def _names_rule(address: str) -> bool:
    """Return whether the address of an alert's generator leads to a rule: it has a path or a query.
    """
    try:
        parts = urlsplit(address)
        return parts.path not in ("", "/") or bool(parts.netloc and parts.query)
    except ValueError:
        return True
