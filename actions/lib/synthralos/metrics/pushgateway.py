"""Pushes metrics to Prometheus's Pushgateway. A failed push is reported, never raised."""

import base64
from urllib.parse import quote

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.metrics import prometheus_text, query
from synthralos.storage.datastore import DatastoreUnavailable

MAX_MESSAGE_SHOWN = 300


def push(env, config):
    """Push all metrics.

    :returns: {pushed, url, error}, or None if no Pushgateway is configured.
    """
    gateway = config.pushgateway
    if gateway is None:
        return None
    result = {"pushed": False, "url": gateway.connection.base_url, "error": None}
    try:
        body = prometheus_text.to_prometheus_text(query.current_series(env, config)).encode("utf-8")
        response = env.client.request(
            gateway.connection,
            # PUT replaces the group. With POST, series that have disappeared would stay forever.
            "PUT",
            path(gateway),
            gateway.connection.timeout,
            body=body,
            headers={"Content-Type": prometheus_text.CONTENT_TYPE},
        )
    except (DatastoreUnavailable, CallError, InvalidInput) as error:
        return dict(result, error=str(error))
    if response.status not in (200, 202):
        message = response.text[:MAX_MESSAGE_SHOWN].strip()
        return dict(result, error="it answered %d: %s" % (response.status, message))
    return dict(result, pushed=True)


def path(gateway):
    """Return the URL path of the metric group: its labels, job first."""
    labels = [("job", gateway.job)] + [("instance", gateway.instance)] * bool(gateway.instance)
    return "/metrics" + "".join("/%s" % _label(name, value) for name, value in labels)


def _label(name, value):
    if "/" not in value:
        return "%s/%s" % (name, quote(value, safe=""))
    # As in the Pushgateway's README: there is no other way to encode a slash.
    return "%s@base64/%s" % (name, base64.urlsafe_b64encode(value.encode()).decode())
