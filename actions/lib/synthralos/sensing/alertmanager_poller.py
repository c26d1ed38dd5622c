"""Polls Alertmanager and dispatches a trigger when an alert starts firing and when it is resolved.

The source is one Alertmanager or the members of a cluster.

Dispatched alerts are stored by fingerprint: {starts, status, at, payload}. An alert is resolved
once Alertmanager lists it with an end in the past or no longer lists it. An absence counts only
if every member has returned a complete list and has been running for `settle_seconds`: an
Alertmanager that has just started lists nothing until Prometheus sends its alerts again.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any, Optional, TypedDict, cast

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.sensing import alert_payloads, alertmanager_api, payload_limits
from synthralos.sensing.alert_payloads import AlertPayload
from synthralos.sensing.poller import Poller
from synthralos.sensing.sensor_state import SensorState

if TYPE_CHECKING:
    from synthralos.config.connection import Connection
    from synthralos.sensing.config import Alertmanager
    from synthralos.sensing.sensor_environment import SensorEnvironment

TRIGGER = "metrics_alert"
# Maximum number of firing alerts; further ones wait until some of them are resolved.
MAX_FIRING = 5000
# How long resolved alerts are stored, so that they are not dispatched again.
ENDED_SECONDS = 24 * 3600.0
MAX_ENDED = 5000
# Per alert, for the trigger of its resolution.
MAX_STORED_ALERT_BYTES = 2048
SAVED_EVERY = 100


class _Dispatched(TypedDict):
    starts: str
    status: str
    at: float


class _Entry(_Dispatched, total=False):
    """What is stored of a dispatched alert.

    `at` is when it was dispatched. While it fires, there is a `payload`, of what is needed for the
    trigger of its resolution; `gone` is since when it is not listed any more.
    """

    payload: dict[str, Any]
    gone: float


# By fingerprint.
_Entries = dict[str, _Entry]
# By fingerprint: (payload, whether it is suppressed).
_ListedAlerts = dict[str, tuple[AlertPayload, bool]]
# Members of a cluster, with the clocks of their servers.
_Clocks = list[tuple["Connection", float]]


class AlertmanagerPoller(Poller["Alertmanager"]):
    """Dispatches synthralos.metrics_alert for firing and resolved alerts."""

    entry = "alertmanager"

    def __init__(self, env: "SensorEnvironment") -> None:
        super().__init__(env)
        self._state = SensorState(
            env.datastore, env.sensor + ".alerts", env.now, env.log
        )
        self._is_full, self._firing, self._dispatched = False, 0, 0
        if self.config is not None:
            self._query_digest = _digest([self.config.filter, self.config.receiver])
            self._path = alertmanager_api.alerts_path(self.config.filter, self.config.receiver)

    def poll_once(self, config: "Alertmanager") -> None:
        entries = self._load_entries()
        self._firing = sum(entry["status"] == alert_payloads.FIRING for entry in entries.values())
        # Alerts that were dispatched under other filters may still fire although they are unlisted.
        is_same_query = self._state.content.get("asked", self._query_digest) == self._query_digest
        error, listed_alerts, complete, clocks = self._fetch_alerts(config)
        try:
            for payload, is_suppressed in listed_alerts.values():
                self._handle_listed(entries, payload, is_suppressed)
            if complete:
                self._handle_unlisted(config, entries, listed_alerts, clocks, is_same_query)
                if self._state.content.get("asked") != self._query_digest:
                    self._state.content["asked"] = self._query_digest
                    self._state.changed()
        finally:
            self._forget(entries)
            self._state.save()
        if error is not None:
            raise error

    def _load_entries(self) -> _Entries:
        """Return the stored alerts."""
        self._state.load()
        entries = self._state.content.get("alerts")
        if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
            entries = self._state.content["alerts"] = {}
        return cast(_Entries, entries)

    def _fetch_alerts(
        self, config: "Alertmanager"
    ) -> tuple[Optional[Exception], _ListedAlerts, bool, _Clocks]:
        """List the alerts of all members.

        :returns: (last error of a member or None, the alerts, whether all lists are complete, the
            members that answered).
        :raises CallError, InvalidInput: no member answered.
        """
        last_error: Optional[Exception] = None
        listed_alerts: _ListedAlerts = {}
        clocks: _Clocks = []
        complete, skipped = True, 0
        for connection in config.connections:
            try:
                alerts, clock = alertmanager_api.list_alerts(
                    self.get, connection, self._path, self.env.now()
                )
            except (CallError, InvalidInput) as error:
                last_error, complete = error, False
                continue
            clocks.append((connection, clock))
            for alert in alerts:
                try:
                    payload = alert_payloads.from_api(alert, clock)
                except InvalidInput:
                    complete, skipped = False, skipped + 1
                    continue
                _merge_listed(listed_alerts, payload, _is_suppressed(config, alert))
        if last_error is not None and not clocks:
            raise last_error
        self.report_skipped(skipped, "alerts")
        return last_error, listed_alerts, complete, clocks

    def _handle_listed(
        self, entries: _Entries, payload: AlertPayload, is_suppressed: bool
    ) -> None:
        """Process an alert that is listed."""
        fingerprint, starts = payload["fingerprint"], payload["starts_at"]
        entry = entries.get(fingerprint)
        is_dispatched = entry is not None and entry["starts"] == starts
        is_firing = entry is not None and entry["status"] == alert_payloads.FIRING
        if payload["status"] == alert_payloads.RESOLVED:
            # Also for an alert that is suppressed by now, if its start was dispatched.
            if is_firing or not (is_dispatched or is_suppressed):
                self._dispatch(entries, payload)
            return
        if entry is not None and is_firing:
            if entry.pop("gone", None) is not None:
                self._state.changed()
            # Members of a cluster learn of an alert one after the other: an earlier start belongs
            # to the same alert.
            if starts <= entry["starts"]:
                return
            self._dispatch(entries, self._ended(fingerprint, entry))
        elif is_dispatched or is_suppressed:
            return
        if self._has_room():
            self._dispatch(entries, payload)

    def _handle_unlisted(
        self,
        config: "Alertmanager",
        entries: _Entries,
        listed_alerts: _ListedAlerts,
        clocks: _Clocks,
        is_same_query: bool,
    ) -> None:
        """Process the alerts that were dispatched as firing and are no longer listed."""
        gone = [
            (fingerprint, entry)
            for fingerprint, entry in entries.items()
            if entry["status"] == alert_payloads.FIRING and fingerprint not in listed_alerts
        ]
        if not gone:
            return
        if not is_same_query:
            for fingerprint, _ in gone:
                del entries[fingerprint]
            self._state.changed()
            return
        now = self.env.now()
        settled = all(
            self._is_warmed_up(connection, clock, config.settle_seconds)
            for connection, clock in clocks
        )
        for fingerprint, entry in gone:
            if "gone" not in entry:
                entry["gone"] = now
                self._state.changed()
            if settled or now - entry["gone"] >= config.settle_seconds:
                self._dispatch(entries, self._ended(fingerprint, entry))

    def _is_warmed_up(
        self, connection: "Connection", clock: float, settle_seconds: float
    ) -> bool:
        """Whether an Alertmanager has been running for long enough to know all alerts.

        False if it does not report when it was started.
        """
        seconds = alertmanager_api.seconds_until_settled(
            self.get, connection, clock, settle_seconds
        )
        return seconds == 0

    def _ended(self, fingerprint: str, entry: _Entry) -> AlertPayload:
        """Build the payload of the resolution of a stored alert, from what is stored of it."""
        remembered = dict(
            {
                "source": "alertmanager", "fingerprint": fingerprint, "starts_at": entry["starts"],
                "labels": {}, "annotations": {}, "generator_url": None, "alertname": "",
                "extra": {},
            },
            **entry["payload"]
        )
        return alert_payloads.resolved(cast(AlertPayload, remembered), self.env.now())

    def _dispatch(self, entries: _Entries, payload: AlertPayload) -> None:
        self.env.dispatch(TRIGGER, payload)
        entry: _Entry = {
            "starts": payload["starts_at"], "status": payload["status"], "at": self.env.now()
        }
        if payload["status"] == alert_payloads.FIRING:
            entry["payload"] = _stored_alert(payload)
        before = entries.get(payload["fingerprint"])
        was_firing = before is not None and before["status"] == alert_payloads.FIRING
        self._firing += (entry["status"] == alert_payloads.FIRING) - was_firing
        entries[payload["fingerprint"]] = entry
        self._state.changed()
        self._dispatched += 1
        if self._dispatched % SAVED_EVERY == 0:
            self._state.save()

    def _has_room(self) -> bool:
        if self._firing >= MAX_FIRING and not self._is_full:
            self.env.log.warning(
                "%s: %d alerts fire; further ones are dispatched when some of them are resolved",
                self.env.sensor, self._firing,
            )
        self._is_full = self._firing >= MAX_FIRING
        return not self._is_full

    def _forget(self, entries: _Entries) -> None:
        """Drop alerts that were resolved long ago."""
        ended = sorted(
            (entry["at"], fingerprint)
            for fingerprint, entry in entries.items()
            if entry["status"] == alert_payloads.RESOLVED
        )
        oldest = self.env.now() - ENDED_SECONDS
        for index, (timestamp, fingerprint) in enumerate(ended):
            if timestamp < oldest or index < len(ended) - MAX_ENDED:
                del entries[fingerprint]
                self._state.changed()


def _is_suppressed(config: "Alertmanager", alert: Any) -> bool:
    return (
        (alert_payloads.is_silenced(alert) and not config.silenced) or
        (alert_payloads.is_inhibited(alert) and not config.inhibited)
    )


def _merge_listed(listed_alerts: _ListedAlerts, payload: AlertPayload, is_suppressed: bool) -> None:
    """Add a listed alert.

    If several members list it, firing wins over resolved, and the earliest start counts.
    """
    fingerprint = payload["fingerprint"]
    if fingerprint in listed_alerts:
        other, other_is_suppressed = listed_alerts[fingerprint]
        firing = [
            candidate
            for candidate in (other, payload)
            if candidate["status"] == alert_payloads.FIRING
        ]
        first = min(firing or [other, payload], key=lambda candidate: candidate["starts_at"])
        payload, is_suppressed = first, is_suppressed and other_is_suppressed
    listed_alerts[fingerprint] = (payload, is_suppressed)


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict) and
        isinstance(entry.get("starts"), str) and
        isinstance(entry.get("at"), (int, float)) and
        (entry.get("status") == alert_payloads.RESOLVED or isinstance(entry.get("payload"), dict))
    )


def _stored_alert(payload: AlertPayload) -> dict[str, Any]:
    """Return the part of an alert that is stored for the trigger of its resolution."""
    stored_alert: dict[str, Any] = {
        "source": payload["source"],
        "alertname": payload["alertname"],
        "labels": payload["labels"],
        "generator_url": payload["generator_url"],
        "annotations": payload["annotations"],
    }
    for name in ("annotations", "generator_url"):
        if len(json.dumps(stored_alert)) > MAX_STORED_ALERT_BYTES:
            del stored_alert[name]
    if len(json.dumps(stored_alert)) > MAX_STORED_ALERT_BYTES:
        stored_alert["labels"] = payload_limits.text_map(
            stored_alert["labels"], 64, 128, max_entries=8
        )
    return stored_alert


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
