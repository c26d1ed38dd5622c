"""What Alertmanager shows of the alerts that repairs are for.

An alert may fire on as another one: with the labels of another replica of Prometheus, or of an
exporter that has moved; with another severity; or for the pod that took the place of a failed one.
One that has fired before, beside the other, is a failure of its own.
"""

from collections.abc import Mapping
from typing import Any

from synthralos.core.timestamps import parse_iso
from synthralos.infrastructure import likeness, repair_evidence
from synthralos.infrastructure.alert_history import AlertHistory
from synthralos.infrastructure.check_records import Check
from synthralos.infrastructure.config import InfrastructureConfig
from synthralos.infrastructure.repair_evidence import (
    FAILED,
    HEALTHY,
    NO_EVIDENCE,
    UNKNOWN,
    Calls,
    Evidence,
)
from synthralos.runtime.environment import Environment
from synthralos.sensing.alert_payloads import AlertPayload


class AlertLookup:
    """The alerts that fire now, and what they say of some checks.

    Each alert's name is asked for once.
    """

    def __init__(
        self,
        env: Environment,
        calls: Calls,
        config: InfrastructureConfig,
        case: Mapping[str, Any],
        checks: list[Check],
    ) -> None:
        self._now, self._rules, self._case = env.now(), config.alert_rules, case
        self._labels = repair_evidence.labels_by_alert(env, case["request"])
        alertmanager = repair_evidence.load_alertmanager(env)
        names = sorted({key["alertname"] for check in checks for key in check["alerts"]})
        self._firing: dict[str, AlertPayload] = {}
        self._skew = 0.0
        self._doubt = Evidence(UNKNOWN, reason="Alertmanager is no longer configured")
        if alertmanager is not None:
            self._firing, self._doubt = repair_evidence.firing_alerts(
                env, calls, alertmanager, names
            )
            self._skew = max((calls.skew_of(item) for item in alertmanager.connections), key=abs)
        repair_evidence.note_witnessed(case, self._firing)
        self._history = None
        if config.prometheus is not None:
            self._history = AlertHistory(calls, config.prometheus, self._rules)
            self._history.load(names, min(check["ended_at"] for check in checks), env.now())

    def evidence(self, check: Check) -> Evidence:
        """Return what Alertmanager shows of the alerts of a check, and note since when."""
        evidence = self._evidence(check)
        check["alerts_gone_at"] = evidence.since if evidence.state == HEALTHY else None
        return evidence

    def _evidence(self, check: Check) -> Evidence:
        was_gone = check["alerts_gone_at"] is not None
        if any(key["fingerprint"] in self._firing for key in check["alerts"]):
            reason = "its alert fires again" if was_gone else "its alert still fires"
            return Evidence(FAILED, reason=reason)
        labels = [self._labels[key["alert"]] for key in check["alerts"] if
                  key["alert"] in self._labels]
        if any(self._is_continued(own, check) for own in labels):
            return Evidence(FAILED, reason="its alert fires on with other labels")
        if self._doubt.state == UNKNOWN:
            return self._doubt
        witnessed = [key for key in check["alerts"] if
                     key["fingerprint"] in self._case["witnessed"]]
        check["uncovered"] += len(check["alerts"]) - len(witnessed)
        check["alerts"] = witnessed
        if not witnessed:
            return Evidence(NO_EVIDENCE)
        contradiction = None
        if self._history is not None:
            contradiction = self._history.contradiction(labels, check["ended_at"])
        return contradiction or Evidence(HEALTHY, check["alerts_gone_at"] or self._now)

    def _is_continued(self, labels: Mapping[str, str], check: Check) -> bool:
        """Return whether an alert fires on with other labels."""
        return any(
            payload["alertname"] == labels.get("alertname", "") and
            self._continues(payload, labels, check)
            for payload in self._firing.values()
        )

    def _continues(
        self, payload: Mapping[str, Any], labels: Mapping[str, str], check: Check
    ) -> bool:
        other = payload["labels"]
        if likeness.is_same_alert(labels, other, self._rules):
            return True
        starts_at = (parse_iso(payload["starts_at"]) or 0.0) - self._skew
        if likeness.is_about_the_same(labels, other, self._rules):
            return bool(starts_at >= self._case["started"])
        # Other pods of a workload may have been failing before.
        return starts_at >= check["began_at"] and likeness.may_replace(labels, other, self._rules)
