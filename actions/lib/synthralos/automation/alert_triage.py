"""Which alerts are no failures: those that always fire, tests of a receiver, failed evaluations.

Alerts are payloads of synthralos.metrics_alert, as sensing.alert_payloads builds them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional
from urllib.parse import urlsplit

NOT_A_FAILURE, TEST, NOT_EVALUATED = "not_a_failure", "test", "not_evaluated"
# They fire as long as alerting works, or only to inhibit others.
ALWAYS_FIRING = (
    "Watchdog", "InfoInhibitor", "DeadMansSwitch", "DeadManSwitch", "DeadMansSnitch",
    "AlwaysFiring",
)
_NO_SEVERITY = "none"
_STATE_REASON = "grafana_state_reason"
_EVALUATION_ALERTS = ("DatasourceError", "DatasourceNoData")
_EVALUATION_LABELS = ("rulename", "datasource_uid", "ref_id")
# What Grafana and Alertmanager write into the alert of a test, unless its author replaces it.
_TEST_NAMES = ("TestAlert", "Test notification")
_TEST_SUMMARY = "Notification test"
_TEST_VALUES = "[ metric='foo' labels={instance=bar} value=10 ]"
_TEST_MESSAGE = "Someone is testing the alert notification within"


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
    if alert["alertname"] in ALWAYS_FIRING + always_firing:
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
    if is_from_grafana and str(annotations.get("Error") or "").strip():
        return "the evaluation failed%s" % details
    return None


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


def _is_test(alert: Mapping[str, Any]) -> bool:
    address = alert["generator_url"] or ""
    if _names_rule(address):
        return False
    if alert["source"] == "grafana" and address.startswith("?"):
        # Grafana writes the address of the rule in front of this query.
        return True
    annotations = alert["annotations"]
    values = (annotations.get("__value_string__"), alert["extra"].get("valueString"))
    return (
        alert["alertname"] in _TEST_NAMES or
        _TEST_VALUES in values or
        annotations.get("summary") == _TEST_SUMMARY or
        str(annotations.get("message") or "").startswith(_TEST_MESSAGE)
    )


def _names_rule(address: str) -> bool:
    """Return whether the address of an alert's generator leads to a rule: it has a path."""
    try:
        return urlsplit(address).path not in ("", "/")
    except ValueError:
        return True
