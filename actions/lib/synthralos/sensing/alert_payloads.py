"""Builds payloads of `synthralos.metrics_alert` from alerts of Alertmanager and Grafana.

There are four input formats: entries of Alertmanager's API v2, the body that Alertmanager posts to
a webhook (version 4), the body that Grafana posts, which is a superset of it, and the body that the
notification channels of Grafana before version 11 post: one rule, {ruleName, state, ...}. A payload
is

    {source, fingerprint, status, starts_at, ends_at, labels, annotations, generator_url, alertname,
    extra}

with `source` alertmanager or grafana, `status` firing or resolved, times as timestamps.iso writes
them, `ends_at` null while it fires, labels, annotations and `extra` {text: text}, and
`generator_url` or null.
"""

from synthralos.core import timestamps
from synthralos.core.errors import InvalidInput
from synthralos.sensing import payload_limits

FIRING, RESOLVED = "firing", "resolved"
MAX_ALERTS = 10_000
_FNV_OFFSET, _FNV_PRIME = 14695981039346656037, 1099511628211
_HEX = frozenset("0123456789abcdefABCDEF")
# The states of a notification channel that report a change; others are announcements.
_CHANNEL_STATES = {"alerting": FIRING, "no_data": FIRING, "ok": RESOLVED}
_GRAFANA_FIELDS = ("dashboardURL", "panelURL", "silenceURL", "imageURL", "valueString", "values")


def from_api(alert, now):
    """Build the payload of one entry of `GET /api/v2/alerts`.

    :param now: seconds since the epoch, by the clock of the server: an alert whose end has passed
        is resolved.
    :raises InvalidInput: the entry is not an alert.
    """
    return _payload(alert, now, "alertmanager", None)


def is_silenced(alert):
    """Whether a silence or a mute time suppresses notifications of an entry of the API."""
    status = _status_of(alert)
    return bool(status.get("silencedBy") or status.get("mutedBy"))


def is_inhibited(alert):
    """Whether another alert suppresses notifications of an entry of the API."""
    status = _status_of(alert)
    has_reason = any(status.get(name) for name in ("inhibitedBy", "silencedBy", "mutedBy"))
    return bool(status.get("inhibitedBy")) or (
        status.get("state") == "suppressed" and not has_reason
    )


def from_webhook(body, now):
    """Build the payloads of all alerts in a webhook body of Alertmanager or Grafana.

    Entries that are not alerts are skipped as long as there is at least one alert. Duplicates are
    returned once.

    :param now: seconds since the epoch.
    :raises InvalidInput: the body is not a notification, or none of its entries is an alert.
    """
    if isinstance(body, dict) and "alerts" not in body and body.get("ruleName"):
        return _from_channel(body, now)
    entries = body.get("alerts") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        hint = "Send webhooks of Alertmanager or of a Grafana contact point here"
        raise InvalidInput("body", None, "is not a notification of alerts", hint)
    source = "grafana" if _is_grafana(body, entries) else "alertmanager"
    payloads, last_error = {}, None
    for alert in entries[:MAX_ALERTS]:
        try:
            payload = _payload(alert, now, source, body)
        except InvalidInput as error:
            last_error = error
            continue
        payloads[identity(payload)] = payload
    if last_error is not None and not payloads:
        raise last_error
    return list(payloads.values())


def from_item(item, body, now):
    """Build the payload of one alert of a notification, or of a payload of this form.

    :param body: the notification.
    :raises InvalidInput: it is not an alert.
    """
    names = {"startsAt": "starts_at", "endsAt": "ends_at", "generatorURL": "generator_url"}
    raw = {name: item.get(name) or item.get(own_name) for name, own_name in names.items()}
    [payload] = from_webhook(dict(body, alerts=[dict(item, **raw)]), now)
    extra = payload_limits.text_map(item.get("extra"), max_chars=1024)
    return dict(payload, extra=dict(extra, **payload["extra"]))


def truncated_count(payloads):
    """Return how many further alerts the sender has left out of the notification of `payloads`."""
    counts = [payload["extra"].get("truncatedAlerts", "0") for payload in payloads]
    return max((int(count) for count in counts if count.isdigit()), default=0)


def identity(payload):
    """Return a text that identifies a notification: the same for its repeats only.

    It is usable as a part of a datastore key.
    """
    starts = payload["starts_at"].replace(":", "").replace(".", "")
    return "%s-%s-%s" % (payload["fingerprint"], starts, payload["status"])


def resolved(payload, ended_at):
    """Return the payload of the same alert, resolved at `ended_at`, seconds since the epoch."""
    return dict(payload, status=RESOLVED, ends_at=timestamps.to_iso(ended_at, milliseconds=True))


def fingerprint(labels):
    """Return Prometheus' fingerprint of a set of labels: 16 hexadecimal digits."""
    total = _FNV_OFFSET
    for name in sorted(labels):
        for part in (name, labels[name]):
            for byte in part.encode("utf-8", "surrogatepass") + b"\xff":
                total = ((total ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % total


def _from_channel(body, now):
    """Build the payload of a notification channel's body; none for a rule that was only paused.

    The labels are the rule's name and tags, and those tags that all matching series share. Nothing
    matches where the query returned no data.
    """
    status = _CHANNEL_STATES.get(body.get("state"))
    if status is None:
        return []
    rule = {"alertname": payload_limits.to_text(body["ruleName"], payload_limits.MAX_ID_CHARS)}
    matches = [match for match in body.get("evalMatches") or () if isinstance(match, dict)]
    tags = [payload_limits.text_map(match.get("tags")) for match in matches]
    shared = set.intersection(*(set(entry.items()) for entry in tags)) if tags else set()
    labels = dict(shared, **payload_limits.text_map(body.get("tags")))
    annotations = {"summary": body.get("title"), "message": body.get("message")}
    if status == FIRING and (body.get("state") == "no_data" or not matches):
        annotations["grafana_state_reason"] = "NoData"
    rule_id = payload_limits.to_text(body.get("ruleId"), payload_limits.MAX_ID_CHARS)
    alert = {
        "status": status,
        "labels": dict(labels, **rule),
        "annotations": {name: text for name, text in annotations.items() if text},
        "generatorURL": body.get("ruleUrl"),
        "fingerprint": fingerprint(dict(rule, rule_id=rule_id)),
    }
    payload = _payload(alert, now, "grafana", None)
    payload["extra"]["ruleId"] = rule_id
    return [payload]


def _payload(alert, now, source, body):
    if not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict):
        hint = "See Alertmanager's API v2"
        raise InvalidInput("alert", None, "is not an object with labels", hint)
    labels = payload_limits.text_map(alert["labels"], max_chars=1024)
    starts = timestamps.parse_timestamp(alert.get("startsAt"))
    ends = timestamps.parse_timestamp(alert.get("endsAt"))
    status = alert.get("status")
    if status not in (FIRING, RESOLVED):
        status = RESOLVED if ends is not None and ends <= now else FIRING
    if status == RESOLVED and ends is None:
        ends = now
    return {
        "source": source,
        "fingerprint": _fingerprint_of(alert, labels),
        "status": status,
        "starts_at": timestamps.to_iso(now if starts is None else starts, milliseconds=True),
        "ends_at": timestamps.to_iso(ends, milliseconds=True) if status == RESOLVED else None,
        "labels": labels,
        "annotations": payload_limits.text_map(alert.get("annotations"), max_entries=32),
        "generator_url": payload_limits.first_text([alert.get("generatorURL")], 2048),
        "alertname": payload_limits.cut(labels.get("alertname", ""), payload_limits.MAX_ID_CHARS),
        "extra": _extra(alert, body),
    }


def _fingerprint_of(alert, labels):
    value = alert.get("fingerprint")
    # It becomes a part of keys.
    if isinstance(value, str) and 1 <= len(value) <= 64 and _HEX.issuperset(value):
        return value.lower()
    return fingerprint(labels)


def _extra(alert, body):
    extra = {name: alert[name] for name in _GRAFANA_FIELDS if alert.get(name)}
    if isinstance(body, dict):
        names = ("receiver", "groupKey", "externalURL", "truncatedAlerts")
        extra.update({name: body[name] for name in names if body.get(name)})
    receivers = alert.get("receivers")
    if isinstance(receivers, list) and receivers:
        names = [receiver.get("name") for receiver in receivers[:16] if isinstance(receiver, dict)]
        extra["receivers"] = ",".join(payload_limits.to_text(name, 128) for name in names)
    return payload_limits.text_map(extra, max_chars=1024)


def _is_grafana(body, alerts):
    return "orgId" in body or any(
        isinstance(alert, dict) and ("silenceURL" in alert or "valueString" in alert)
        for alert in alerts
    )


def _status_of(alert):
    status = alert.get("status") if isinstance(alert, dict) else None
    return status if isinstance(status, dict) else {}
