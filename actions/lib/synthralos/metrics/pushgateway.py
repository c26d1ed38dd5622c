"""Pushes metrics to Prometheus's Pushgateway. A failed push is reported, never raised."""

import base64
from typing import TYPE_CHECKING, Optional, TypedDict
from urllib.parse import quote

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.metrics import prometheus_text, query
from synthralos.metrics.config import MetricsConfig, Pushgateway
from synthralos.storage.datastore import DatastoreUnavailable

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_MESSAGE_SHOWN = 300


class PushResult(TypedDict):
    """What has come of a push. `error`: why it failed, or None."""

    pushed: bool
    url: str
    error: Optional[str]


def push(env: "Environment", config: MetricsConfig) -> Optional[PushResult]:
    """Push all metrics.

    :returns: None if no Pushgateway is configured.
    """
    gateway = config.pushgateway
    if gateway is None:
        return None
    url = gateway.connection.base_url
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
        return {"pushed": False, "url": url, "error": str(error)}
    if response.status not in (200, 202):
        message = response.text[:MAX_MESSAGE_SHOWN].strip()
        reason = "it answered %d: %s" % (response.status, message)
        return {"pushed": False, "url": url, "error": reason}
    return {"pushed": True, "url": url, "error": None}


def path(gateway: Pushgateway) -> str:
    """Return the URL path of the metric group: its labels, job first."""
    labels = [("job", gateway.job)]
    if gateway.instance:
        labels.append(("instance", gateway.instance))
    return "/metrics" + "".join("/%s" % _label(name, value) for name, value in labels)


def _label(name: str, value: str) -> str:
    if "/" not in value:
        return "%s/%s" % (name, quote(value, safe=""))
    # As in the Pushgateway's README: there is no other way to encode a slash.
    return "%s@base64/%s" % (name, base64.urlsafe_b64encode(value.encode()).decode())
