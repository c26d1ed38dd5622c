"""What Prometheus knows of an alert that Alertmanager does not list any more.

Alertmanager knows what Prometheus tells it: of an alert that fires, and of its end. It learns
nothing of one that is pending again, because its rule has a `for`, and forgets all alerts within
minutes if Prometheus is down. So where Prometheus is configured, it is asked, too. It only
contradicts: another Prometheus may evaluate the rule, so that it has no such alert proves nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Optional

from synthralos.calls.http import CallError
from synthralos.infrastructure import likeness
from synthralos.infrastructure.config import Prometheus
from synthralos.infrastructure.prometheus_history import (
    FAILED_AGAIN,
    Series,
    Window,
    doubt_of,
    query_series,
)
from synthralos.infrastructure.repair_evidence import FAILED, Calls, Evidence
from synthralos.sensing import alertmanager_api
from synthralos.sensing.alert_subjects import SubjectRules

# The series by which Prometheus records which alerts are pending and firing.
ALERTS = "ALERTS{%s}"
_OF_HISTORY = ("__name__", "alertstate")


class AlertHistory:
    """The alerts of some names since the first repair."""

    def __init__(self, calls: Calls, prometheus: Prometheus, rules: SubjectRules) -> None:
        self._calls, self._prometheus, self._rules = calls, prometheus, rules
        self._window = Window((0.0,), 1.0)
        self._series: list[Series] = []
        self._doubt: Optional[Evidence] = None

    def load(self, names: Iterable[str], start: float, now: float) -> None:
        """Query Prometheus for the time from `start` to `now`, once for each name of alerts."""
        self._window = Window.since(start, now)
        try:
            for name in names:
                matcher = alertmanager_api.matcher_of("alertname", name)
                if name and matcher is not None:
                    self._series += query_series(
                        self._calls, self._prometheus, ALERTS % matcher, self._window
                    )
        except CallError as error:
            self._doubt = doubt_of(error)

    def contradiction(
        self, alerts: Iterable[Mapping[str, str]], ended_at: float
    ) -> Optional[Evidence]:
        """Return the evidence against the end of alerts with these labels since `ended_at`, the end
        of the repair; None if there is none.
        """
        if self._doubt is not None:
            return self._doubt
        alerts = list(alerts)
        firing = {
            index for series in self._series for index in series.indices
            if any(self._is_of(series, labels) for labels in alerts)
        }
        indices = self._window.indices_since(ended_at)
        gone = next((index for index in indices if index not in firing), None)
        if gone is not None and any(index in firing for index in indices if index > gone):
            return Evidence(FAILED, reason=FAILED_AGAIN)
        if indices[-1] in firing:
            return Evidence(FAILED, reason="its alert is still pending or firing in Prometheus")
        return None

    def _is_of(self, series: Series, labels: Mapping[str, str]) -> bool:
        """Return whether a series is that of an alert; external labels are not in Prometheus.

        :param labels: of the alert; perhaps not all of them.
        """
        own = {
            name: value for name, value in series.labels.items()
            if name not in _OF_HISTORY and isinstance(value, str)
        }
        shared = {name: value for name, value in labels.items() if name in own}
        return labels.items() <= own.items() or likeness.is_same_alert(shared, own, self._rules)
