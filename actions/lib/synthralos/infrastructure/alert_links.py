"""The expression and the links of an alert, from the addresses that it comes with.

They are addresses that others have written: they are shown, never opened.
"""

from collections.abc import Mapping
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit, urlunsplit

MAX_URL_CHARS = 2048
# Name of the link: where it stands, in this order. The generator of an alert is the first one.
_ANNOTATIONS = {
    "Runbook": ("runbook_url", "runbook", "runbookURL"),
    "Dashboard": ("dashboard_url", "dashboard", "__dashboardURL__"),
}
_EXTRA = {
    "Dashboard": "dashboardURL", "Panel": "panelURL", "Silence": "silenceURL", "Image": "imageURL",
    "Alertmanager": "externalURL",
}


def links_of(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return {name: URL} of an alert, in the form of synthralos.metrics_alert."""
    candidates = [("Source", payload["generator_url"])]
    for name, keys in _ANNOTATIONS.items():
        candidates += [(name, payload["annotations"].get(key)) for key in keys]
    candidates += [(name, payload["extra"].get(key)) for name, key in _EXTRA.items()]
    links: dict[str, str] = {}
    for name, text in candidates:
        url = _url_of(text)
        if url is not None:
            links.setdefault(name, url)
    return links


def expression_of(payload: Mapping[str, Any]) -> Optional[str]:
    """Return the expression that Prometheus puts into the address of an alert's graph, or None."""
    try:
        query = urlsplit(payload["generator_url"] or "").query
        expressions = parse_qs(query, max_num_fields=50).get("g0.expr", [])
    except ValueError:
        return None
    return expressions[0].strip() or None if expressions else None


def _url_of(text: Any) -> Optional[str]:
    """Return a web address without the credentials in it, or None if the text is none."""
    if not isinstance(text, str) or len(text) > MAX_URL_CHARS:
        return None
    try:
        parts = urlsplit(text.strip())
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    return urlunsplit(parts._replace(netloc=host))
