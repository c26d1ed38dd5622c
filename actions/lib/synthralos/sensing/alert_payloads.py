"""Builds payloads of `synthralos.metrics_alert` from alerts of Alertmanager and Grafana.

There are four input formats: entries of Alertmanager's API v2, the body that Alertmanager posts to
a webhook (version 4, and 3 before Alertmanager 0.6), the body that Grafana posts, which is a
superset of it, and the body that the notification channels of Grafana before version 11 post: one
rule, {ruleName, state, ...}.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Optional, TypedDict

from synthralos.core import timestamps
from synthralos.core.errors import InvalidInput
from synthralos.sensing import payload_limits

FIRING, RESOLVED = "firing", "resolved"
MAX_ALERTS = 10_000
_FNV_OFFSET, _FNV_PRIME = 14695981039346656037, 1099511628211
_HEX = frozenset("0123456789abcdefABCDEF")
# The states of a notification channel that report a change; others are announcements.
_CHANNEL_STATES = {"alerting": FIRING, "no_data": FIRING, "ok": RESOLVED}
# Instead of the time at which an alert began, if its sender does not say that.
UNKNOWN_START = "unknown"
_GRAFANA_FIELDS = ("dashboardURL", "panelURL", "silenceURL", "imageURL", "valueString", "values",
                   "ruleUID")


class AlertPayload(TypedDict):
    """A payload of `synthralos.metrics_alert`.

    `source` is alertmanager or grafana, `status` firing or resolved. Times are written as
    timestamps.to_iso does; `ends_at` is None while the alert fires.
    """

    source: str
    fingerprint: str
    status: str
    starts_at: str
    ends_at: Optional[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: Optional[str]
    alertname: str
    extra: dict[str, str]


def from_api(alert: Any, now: float) -> AlertPayload:
    """Build the payload of one entry of `GET /api/v2/alerts`.

    :param now: seconds since the epoch, by the clock of the server: an alert whose end has passed
        is resolved.
    :raises InvalidInput: the entry is not an alert.
    """
    return _payload(alert, now, "alertmanager", None)


def is_silenced(alert: Any) -> bool:
    """Whether a silence or a mute time suppresses notifications of an entry of the API."""
    status = _status_of(alert)
    return bool(status.get("silencedBy") or status.get("mutedBy"))


def is_inhibited(alert: Any) -> bool:
    """Whether another alert suppresses notifications of an entry of the API."""
    status = _status_of(alert)
    has_reason = any(status.get(name) for name in ("inhibitedBy", "silencedBy", "mutedBy"))
    return bool(status.get("inhibitedBy")) or (
        status.get("state") == "suppressed" and not has_reason
    )


class Notification(NamedTuple):
    """What a webhook's body holds.

    :ivar alerts: the payloads of its alerts; duplicates occur once.
    :ivar truncated: how many further alerts are missing: the sender has left them out, or they are
        beyond MAX_ALERTS.
    :ivar errors: why its other entries are not alerts.
    """

    alerts: list[AlertPayload]
    truncated: int = 0
    errors: tuple[str, ...] = ()


def from_webhook(body: Any, now: float) -> list[AlertPayload]:
    """Build the payloads of all alerts in a webhook body of Alertmanager or Grafana.

    Entries that are not alerts are skipped as long as there is at least one alert. Duplicates are
    returned once.

    :param now: seconds since the epoch.
    :raises InvalidInput: the body is not a notification, or none of its entries is an alert.
    """
    return read_notification(body, now).alerts


def read_notification(body: Any, now: float) -> Notification:
    """Return the Notification in a webhook body of Alertmanager or Grafana.

    :param now: seconds since the epoch.
    :raises InvalidInput: the body is not a notification, or none of its entries is an alert.
    """
    if isinstance(body, list):
        # As Prometheus and vmalert post them to an Alertmanager.
        body = {"alerts": body}
    if isinstance(body, dict) and "alerts" not in body and body.get("ruleName"):
        return Notification(_from_channel(body, now))
    entries = body.get("alerts") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        hint = "Send webhooks of Alertmanager or of a Grafana contact point here"
        raise InvalidInput("body", None, "is not a notification of alerts", hint)
    source = "grafana" if _is_grafana(body, entries) else "alertmanager"
    payloads: dict[str, AlertPayload] = {}
    errors: list[InvalidInput] = []
    for alert in entries[:MAX_ALERTS]:
        try:
            payload = _payload(alert, now, source, body)
        except InvalidInput as error:
            errors.append(error)
            continue
        same = payloads.get(identity(payload))
        if same is not None and same["labels"] != payload["labels"]:
            # Not the fingerprint that Alertmanager would compute.
            payload["fingerprint"] = fingerprint(payload["labels"])
        payloads[identity(payload)] = payload
    if errors and not payloads:
        raise errors[-1]
    truncated = _count_of(body.get("truncatedAlerts")) + max(0, len(entries) - MAX_ALERTS)
    return Notification(list(payloads.values()), truncated, tuple(map(str, errors)))


def from_item(
    item: Mapping[str, Any], body: Mapping[str, Any], now: float
) -> AlertPayload:
    """Build the payload of one alert of a notification, or of a payload of this form.

    :param body: the notification.
    :raises InvalidInput: it is not an alert.
    """
    names = {"startsAt": "starts_at", "endsAt": "ends_at", "generatorURL": "generator_url"}
    raw = {name: item.get(name) or item.get(own_name) for name, own_name in names.items()}
    [payload] = from_webhook(dict(body, alerts=[dict(item, **raw)]), now)
    extra = payload_limits.text_map(item.get("extra"), max_chars=1024)
    payload["extra"] = dict(extra, **payload["extra"])
    return payload


def identity(payload: AlertPayload) -> str:
    """Return a text that identifies a notification: the same for its repeats only.

    It is usable as a part of a datastore key.
    """
    starts = payload["starts_at"].replace(":", "").replace(".", "")
    return "%s-%s-%s" % (payload["fingerprint"], starts, payload["status"])


def resolved(payload: AlertPayload, ended_at: float) -> AlertPayload:
    """Return the payload of the same alert, resolved at `ended_at`, seconds since the epoch."""
    resolved_payload = payload.copy()
    resolved_payload["status"] = RESOLVED
    resolved_payload["ends_at"] = timestamps.to_iso(ended_at, milliseconds=True)
    return resolved_payload


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Prometheus' fingerprint of a set of labels: 16 hexadecimal digits."""
    total = _FNV_OFFSET
    for name in sorted(labels):
        for part in (name, labels[name]):
            for byte in part.encode("utf-8", "surrogatepass") + b"\xff":
                total = ((total ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % total


def _from_channel(body: Mapping[str, Any], now: float) -> list[AlertPayload]:
    """Build the payload of a notification channel's body; none for a rule that was only paused.

    The labels are the rule's name and tags, and those tags that all matching series share. Nothing
    matches where the query returned no data.
    """
    state = str(body.get("state")).lower()
    status = _CHANNEL_STATES.get(state)
    if status is None:
        return []
    rule = {"alertname": payload_limits.to_text(body["ruleName"], payload_limits.MAX_ID_CHARS)}
    matches = body.get("evalMatches")
    matches = [match for match in matches if isinstance(match, dict)] if (
        isinstance(matches, list)) else []
    tags = [payload_limits.text_map(match.get("tags")) for match in matches]
    shared = dict(set.intersection(*(set(entry.items()) for entry in tags)) if tags else ())
    if any(entry.get("instance") != shared.get("instance") for entry in tags):
        # What several hosts have in common does not name what failed.
        shared.pop("job", None)
    labels = dict(shared, **payload_limits.text_map(body.get("tags")))
    annotations = {"summary": body.get("title"), "message": body.get("message")}
    if status == FIRING and (state == "no_data" or not matches):
        annotations["grafana_state_reason"] = "NoData"
    rule_id = payload_limits.to_text(body.get("ruleId"), payload_limits.MAX_ID_CHARS)
    alert = {
        "status": status,
        "labels": dict(labels, **rule),
        "annotations": {name: text for name, text in annotations.items() if text},
        "generatorURL": body.get("ruleUrl") or body.get("rule_url"),
        "fingerprint": fingerprint(dict(rule, rule_id=rule_id)),
    }
    payload = _payload(alert, now, "grafana", None)
    payload["extra"]["ruleId"] = rule_id
    return [payload]


def _payload(alert: Any, now: float, source: str, body: Any) -> AlertPayload:
    if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
        hint = "See Alertmanager's API v2"
        raise InvalidInput("alert", None, "is not an object with labels", hint)
    labels = payload_limits.text_map(alert["labels"], max_chars=1024)
    starts = timestamps.parse_timestamp(alert.get("startsAt"))
    ends = timestamps.parse_timestamp(alert.get("endsAt"))
    status = _status_text(alert.get("status"))
    if status is None and isinstance(body, dict):
        # That of the whole group: as long as an alert of it fires, the group does.
        status = RESOLVED if _status_text(body.get("status")) == RESOLVED else None
    if status is None:
        status = RESOLVED if ends is not None and ends <= now else FIRING
    ended_at = None
    if status == RESOLVED:
        ended_at = timestamps.to_iso(now if ends is None else ends, milliseconds=True)
    extra = _extra(alert, body)
    if starts is None:
        extra["startsAt"] = UNKNOWN_START
    return {
        "source": source,
        "fingerprint": _fingerprint_of(alert, labels),
        "status": status,
        "starts_at": timestamps.to_iso(now if starts is None else starts, milliseconds=True),
        "ends_at": ended_at,
        "labels": labels,
        "annotations": payload_limits.text_map(alert.get("annotations"), max_entries=32),
        "generator_url": payload_limits.first_text([alert.get("generatorURL")], 2048),
        "alertname": payload_limits.cut(labels.get("alertname", ""), payload_limits.MAX_ID_CHARS),
        "extra": extra,
    }


def _fingerprint_of(alert: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    value = alert.get("fingerprint")
    # It becomes a part of keys.
    if isinstance(value, str) and 1 <= len(value) <= 64 and _HEX.issuperset(value):
        return value.lower()
    return fingerprint(labels)


def _extra(alert: Mapping[str, Any], body: Any) -> dict[str, str]:
    extra = {name: alert[name] for name in _GRAFANA_FIELDS if alert.get(name)}
    if isinstance(body, dict):
        names = ("receiver", "groupKey", "externalURL", "truncatedAlerts")
        extra.update({name: body[name] for name in names if body.get(name)})
    receivers = alert.get("receivers")
    if isinstance(receivers, list) and receivers:
        extra["receivers"] = ",".join(
            payload_limits.to_text(receiver.get("name"), 128)
            for receiver in receivers[:16]
            if isinstance(receiver, dict)
        )
    return payload_limits.text_map(extra, max_chars=1024)


def _status_text(value: Any) -> Optional[str]:
    """Return FIRING or RESOLVED, however it is written, or None for anything else."""
    status = value.strip().lower() if isinstance(value, str) else None
    return status if status in (FIRING, RESOLVED) else None


def _count_of(value: Any) -> int:
    """Return a number of alerts, which may be written as text; 0 for anything else."""
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0


def _is_grafana(body: Mapping[str, Any], alerts: Iterable[Any]) -> bool:
    return "orgId" in body or any(
        isinstance(alert, dict) and ("silenceURL" in alert or "valueString" in alert)
        for alert in alerts
    )


def _status_of(alert: Any) -> dict[str, Any]:
    status = alert.get("status") if isinstance(alert, dict) else None
    return status if isinstance(status, dict) else {}
