"""Moments as servers write them, and as payloads hold them: ISO 8601 in UTC, with milliseconds."""

import datetime
import email.utils
import math
import re

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s*(Z|[+-]\d\d:?\d\d)?\Z", re.I
)
# Go writes a time that is not set as the year 1.
_FIRST, _MAX_TIMESTAMP = 0.0, 253402300799.0


def parse_iso(value):
    """Seconds since the epoch of an ISO 8601 time with any offset, or None when it is none.

    Without an offset it is taken as UTC; a number as seconds, or as milliseconds when it is large.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 < value < 1e15:
            return None
        return _bounded(value / 1000.0 if value > 1e11 else float(value))
    found = _ISO.match(value.strip()) if isinstance(value, str) and len(value) < 64 else None
    if found is None:
        return None
    day, time, fraction, offset = found.groups()
    try:
        moment = datetime.datetime.fromisoformat("%sT%s" % (day, time))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=datetime.timezone.utc)
    seconds = moment.timestamp() + (float("0." + fraction) if fraction else 0.0)
    if offset and offset not in "Zz":
        hours, minutes = int(offset[1:3]), int(offset[-2:])
        away = hours * 3600 + minutes * 60
        seconds -= away if offset[0] == "+" else -away
    return _bounded(seconds)


def iso(seconds):
    """`2023-11-14T22:13:20.123Z` of seconds since the epoch."""
    millis = int(round(min(max(seconds, _FIRST), _MAX_TIMESTAMP) * 1000))
    moment = datetime.datetime.fromtimestamp(millis // 1000, datetime.timezone.utc)
    return "%s.%03dZ" % (moment.strftime("%Y-%m-%dT%H:%M:%S"), millis % 1000)


def server_time(headers, otherwise):
    """The server's own clock, from the header `date`, in seconds since the epoch."""
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("date") or "")
        return moment.timestamp()
    except (TypeError, ValueError, OverflowError):
        return otherwise


def _bounded(seconds):
    return seconds if math.isfinite(seconds) and _FIRST < seconds <= _MAX_TIMESTAMP else None
