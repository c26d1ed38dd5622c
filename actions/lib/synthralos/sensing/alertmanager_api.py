"""Alertmanager's API v2, as the sensor and the check of a repair read it.

Each function takes a callable that sends the GET, because a sensor limits its calls in another way
than an action does.
"""

import re
from collections.abc import Iterable
from typing import Any, Callable, Optional
from urllib.parse import urlencode

from synthralos.calls.http import CallError, Response
from synthralos.config.connection import Connection
from synthralos.core import failures, timestamps
from synthralos.core.errors import InvalidInput

#: (connection, path) -> the Response, of status 200. It raises CallError.
Get = Callable[[Connection, str], Response]

STATUS_PATH = "/api/v2/status"
# Suppressed alerts are listed too: an alert that is silenced while it fires has not ended.
_ALL_STATES = ("active", "silenced", "inhibited", "unprocessed")
# Older servers reject other names of labels, even in quotes.
_CLASSIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def alerts_path(matchers: Iterable[str], receiver: Optional[str] = None) -> str:
    """Return the path that lists alerts, whatever suppresses them.

    :param matchers: all of them must match; each is a `filter` of its own.
    :param receiver: a regular expression, or None for the alerts of all receivers.
    """
    parameters = [(name, "true") for name in _ALL_STATES]
    parameters += [("filter", matcher) for matcher in matchers]
    if receiver:
        parameters.append(("receiver", receiver))
    return "/api/v2/alerts?" + urlencode(parameters)


def matcher_of(name: str, value: str) -> Optional[str]:
    """Return the matcher of one label, or None if not every server can read it.

    The value is quoted: a server splits a bare one at its commas.
    """
    if not _CLASSIC_NAME.match(name) or not _is_utf_8(value):
        return None
    return '%s="%s"' % (name, "".join(_ESCAPES.get(character, character) for character in value))


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can express.
        return False
    return True


def list_alerts(
    get: Get, connection: Connection, path: str, now: float
) -> tuple[list[Any], float]:
    """Return (entries, clock of the server in seconds since the epoch).

    :param path: see `alerts_path`.
    :param now: the clock of a server that does not report its own.
    :raises CallError: no response, an error status, or the response is not a list.
    """
    response = get(connection, path)
    entries = response.json()
    if not isinstance(entries, list):
        message = "Alertmanager's response is not a list of alerts"
        raise CallError(failures.make_failure("malformed_answer", message, response.status))
    return entries, timestamps.server_time(response.headers, now)


def seconds_until_settled(
    get: Get, connection: Connection, clock: float, settle_seconds: float
) -> Optional[float]:
    """Return how long the list of an Alertmanager may still be incomplete; 0.0 if it is complete.

    An Alertmanager that has just started lists nothing until Prometheus sends its alerts again.

    :param clock: of the server, as `list_alerts` returns it.
    :param settle_seconds: how long after its start an Alertmanager may not know all alerts.
    :returns: None if it does not report when it was started.
    """
    if settle_seconds <= 0:
        return 0.0
    try:
        status = get(connection, STATUS_PATH).json()
    except (CallError, InvalidInput):
        return None
    # Alertmanager calls the time of its start "uptime".
    uptime = status.get("uptime") if isinstance(status, dict) else None
    started = timestamps.parse_timestamp(uptime) if isinstance(uptime, str) else None
    if started is None:
        return None
    return max(0.0, started + settle_seconds - clock)
