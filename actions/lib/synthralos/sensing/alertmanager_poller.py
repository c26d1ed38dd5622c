"""The alerts of one Alertmanager, or of the members of a cluster, each told once when it begins and
once when it ends.

What was told is remembered by fingerprint: {starts, status, at, payload}. An alert has ended when
Alertmanager lists it with an end that has passed, or no longer lists it. The latter is believed
only when every member has answered in full, and has run for `settle_seconds`: an Alertmanager that
has just started lists nothing until Prometheus has sent its alerts again.
"""

import hashlib
import json
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.core import failures, timestamps
from synthralos.core.errors import InvalidInput
from synthralos.sensing import alert_payloads, payload_limits
from synthralos.sensing.poller import Poller
from synthralos.sensing.sensor_state import SensorState

TRIGGER = "metrics_alert"
# Alerts that fire at the same time; further ones wait until others have ended.
MAX_FIRING = 5000
# That an alert has ended is remembered for as long, so that it is not told again.
ENDED_SECONDS = 24 * 3600.0
MAX_ENDED = 5000
# Of an alert, for the trigger that tells of its end.
MAX_STORED_ALERT_BYTES = 2048
SAVED_EVERY = 100


class AlertmanagerPoller(Poller):
    entry = "alertmanager"

    def __init__(self, around):
        super().__init__(around)
        self._memory = SensorState(
            around.datastore, around.sensor + ".alerts", around.now, around.log
        )
        self._is_full, self._firing, self._told = False, 0, 0
        if self.config is not None:
            self._asked = _digest([self.config.filter, self.config.receiver])
            self._path = _path(self.config)

    def poll_once(self):
        known = self._known()
        self._firing = sum(entry["status"] == alert_payloads.FIRING for entry in known.values())
        # What was told under other filters may go on unlisted: nobody knows that it has ended.
        same = self._memory.content.get("asked", self._asked) == self._asked
        failed, seen, complete, clocks = self._listed()
        try:
            for payload, is_suppressed in seen.values():
                self._handle_listed(known, payload, is_suppressed)
            if complete:
                self._handle_unlisted(known, seen, clocks, same)
                if self._memory.content.get("asked") != self._asked:
                    self._memory.content["asked"] = self._asked
                    self._memory.changed()
        finally:
            self._forget(known)
            self._memory.save()
        if failed is not None:
            raise failed

    def _known(self):
        """What is remembered, {fingerprint: entry}."""
        self._memory.load()
        known = self._memory.content.get("alerts")
        if not isinstance(known, dict) or not all(map(_is_entry, known.values())):
            known = self._memory.content["alerts"] = {}
        return known

    def _listed(self):
        """(what a member failed with or None, {fingerprint: (payload, suppressed)}, whether the
        lists are whole, [(connection, its clock)]).
        """
        failed, seen, complete, clocks = None, {}, True, []
        for connection in self.config.connections:
            try:
                answer = self.get(connection, self._path)
                listed = answer.json()
                if not isinstance(listed, list):
                    raise _no_list(answer)
            except (CallError, InvalidInput) as error:
                failed, complete = error, False
                continue
            clock = timestamps.server_time(answer.headers, self.around.now())
            clocks.append((connection, clock))
            for alert in listed:
                try:
                    payload = alert_payloads.from_api(alert, clock)
                except InvalidInput:
                    complete = False
                    continue
                _merge_listed(seen, payload, self._is_suppressed(alert))
        if failed is not None and not clocks:
            raise failed
        return failed, seen, complete, clocks

    def _is_suppressed(self, alert):
        return (
            (alert_payloads.is_silenced(alert) and not self.config.silenced) or
            (alert_payloads.is_inhibited(alert) and not self.config.inhibited)
        )

    def _handle_listed(self, known, payload, is_suppressed):
        """An alert is listed."""
        fingerprint, starts = payload["fingerprint"], payload["starts_at"]
        entry = known.get(fingerprint)
        is_told = entry is not None and entry["starts"] == starts
        fires = entry is not None and entry["status"] == alert_payloads.FIRING
        if payload["status"] == alert_payloads.RESOLVED:
            # Also of one that is suppressed by now, when its beginning was told.
            if fires or not (is_told or is_suppressed):
                self._dispatch(known, payload)
            return
        if fires:
            if entry.pop("gone", None) is not None:
                self._memory.changed()
            # Members of a cluster learn of an alert one after the other: an earlier beginning is
            # the same alert's.
            if starts <= entry["starts"]:
                return
            self._dispatch(known, self._ended(fingerprint, entry))
        elif is_told or is_suppressed:
            return
        if self._has_room():
            self._dispatch(known, payload)

    def _handle_unlisted(self, known, seen, clocks, same):
        """What was told as firing and is no longer listed."""
        gone = [
            (fingerprint, entry)
            for fingerprint, entry in known.items()
            if entry["status"] == alert_payloads.FIRING and fingerprint not in seen
        ]
        if not gone:
            return
        if not same:
            for fingerprint, _ in gone:
                del known[fingerprint]
            self._memory.changed()
            return
        now = self.around.now()
        settled = all(self._is_warmed_up(connection, clock) for connection, clock in clocks)
        for fingerprint, entry in gone:
            if "gone" not in entry:
                entry["gone"] = now
                self._memory.changed()
            if settled or now - entry["gone"] >= self.config.settle_seconds:
                self._dispatch(known, self._ended(fingerprint, entry))

    def _is_warmed_up(self, connection, clock):
        """Whether an Alertmanager runs for long enough to know all alerts. One that does not say
        for how long it runs has not.
        """
        if self.config.settle_seconds <= 0:
            return True
        try:
            told = self.get(connection, "/api/v2/status").json()
        except (CallError, InvalidInput):
            return False
        uptime = told.get("uptime") if isinstance(told, dict) else None
        # Alertmanager's name for when it was started.
        started = timestamps.parse_timestamp(uptime) if isinstance(uptime, str) else None
        return started is not None and clock - started >= self.config.settle_seconds

    def _ended(self, fingerprint, entry):
        """The payload that tells that a remembered alert has ended, as far as it is remembered."""
        remembered = dict(
            {
                "source": "alertmanager", "fingerprint": fingerprint, "starts_at": entry["starts"],
                "labels": {}, "annotations": {}, "generator_url": None, "alertname": "",
                "extra": {},
            },
            **entry["payload"]
        )
        return alert_payloads.resolved(remembered, self.around.now())

    def _dispatch(self, known, payload):
        self.around.dispatch(TRIGGER, payload)
        entry = {
            "starts": payload["starts_at"], "status": payload["status"], "at": self.around.now()
        }
        if payload["status"] == alert_payloads.FIRING:
            entry["payload"] = _remembered(payload)
        before = known.get(payload["fingerprint"], {}).get("status")
        self._firing += (entry["status"] == alert_payloads.FIRING) - (
            before == alert_payloads.FIRING
        )
        known[payload["fingerprint"]] = entry
        self._memory.changed()
        self._told += 1
        if self._told % SAVED_EVERY == 0:
            self._memory.save()

    def _has_room(self):
        if self._firing >= MAX_FIRING and not self._is_full:
            self.around.log.warning(
                "%s: %d alerts fire; further ones are told when some of them have ended",
                self.around.sensor, self._firing,
            )
        self._is_full = self._firing >= MAX_FIRING
        return not self._is_full

    def _forget(self, known):
        """Drops what has ended long ago."""
        ended = sorted(
            (entry["at"], fingerprint)
            for fingerprint, entry in known.items()
            if entry["status"] == alert_payloads.RESOLVED
        )
        oldest = self.around.now() - ENDED_SECONDS
        for place, (at, fingerprint) in enumerate(ended):
            if at < oldest or place < len(ended) - MAX_ENDED:
                del known[fingerprint]
                self._memory.changed()


def _merge_listed(seen, payload, is_suppressed):
    """Adds a listed alert; of one that several members list, what speaks for its firing wins."""
    fingerprint = payload["fingerprint"]
    if fingerprint in seen:
        other, other_is_suppressed = seen[fingerprint]
        fires = [one for one in (other, payload) if one["status"] == alert_payloads.FIRING]
        first = min(fires or [other, payload], key=lambda one: one["starts_at"])
        payload, is_suppressed = first, is_suppressed and other_is_suppressed
    seen[fingerprint] = (payload, is_suppressed)


def _is_entry(entry):
    return (
        isinstance(entry, dict) and
        isinstance(entry.get("starts"), str) and
        isinstance(entry.get("at"), (int, float)) and
        (entry.get("status") == alert_payloads.RESOLVED or isinstance(entry.get("payload"), dict))
    )


def _remembered(payload):
    """What of an alert is kept for the trigger that tells of its end."""
    kept = {
        "source": payload["source"],
        "alertname": payload["alertname"],
        "labels": payload["labels"],
        "generator_url": payload["generator_url"],
        "annotations": payload["annotations"],
    }
    for name in ("annotations", "generator_url"):
        if len(json.dumps(kept)) > MAX_STORED_ALERT_BYTES:
            del kept[name]
    if len(json.dumps(kept)) > MAX_STORED_ALERT_BYTES:
        kept["labels"] = payload_limits.text_map(kept["labels"], 64, 128, most=8)
    return kept


def _no_list(answer):
    told = "Alertmanager answered no list of alerts"
    return CallError(failures.make_failure("malformed_answer", told, answer.status))


def _path(config):
    # Suppressed alerts are listed too: one that is silenced while it fires has not ended.
    asked = [(name, "true") for name in ("active", "silenced", "inhibited", "unprocessed")]
    asked += [("filter", matcher) for matcher in config.filter]
    if config.receiver:
        asked.append(("receiver", config.receiver))
    return "/api/v2/alerts?" + urlencode(asked)


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
