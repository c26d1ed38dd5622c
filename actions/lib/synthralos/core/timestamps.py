"""Timestamps as people, servers and StackStorm write them: ISO 8601, in seconds since the epoch."""

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any, Optional

# Go's own form ends in the name of the zone, and in the reading of a monotonic clock.
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s*(Z|[+-]\d\d:?\d\d)?"
    r"(?: [A-Z]{1,5}| [+-]\d\d(?:\d\d)?)?(?: m=[+-][\d.]+)?\Z",
    re.I,
)
_MAX_ISO_CHARS = 80
# Go writes a time that is not set as the year 1.
_MIN_TIMESTAMP, _MAX_TIMESTAMP = 0.0, 253402300799.0
# A number above this is in milliseconds: as seconds it would be beyond the year 5138.
_MAX_SECONDS_NUMBER = 1e11
_MAX_NUMBER = 1e15


def to_iso(seconds: float, milliseconds: bool = False) -> str:
    """Return ISO 8601 in UTC: `2023-11-14T22:13:20Z`, or rounded to milliseconds, `...20.123Z`.

    :param seconds: since the epoch; bounded to the years 1970 to 9999.
    """
    bounded = min(max(seconds, _MIN_TIMESTAMP), _MAX_TIMESTAMP)
    millis = int(round(bounded * 1000)) if milliseconds else int(bounded) * 1000
    moment = datetime.datetime.fromtimestamp(millis // 1000, datetime.timezone.utc)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return text + (".%03dZ" % (millis % 1000) if milliseconds else "Z")


def parse_timestamp(value: Any) -> Optional[float]:
    """Return the seconds since the epoch of an ISO 8601 time or a number, or None if not valid.

    A number is taken as seconds, or as milliseconds if it is large.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 < value < _MAX_NUMBER:
            return None
        return _in_range(value / 1000.0 if value > _MAX_SECONDS_NUMBER else float(value))
    return parse_iso(value)


def parse_iso(value: Any) -> Optional[float]:
    """Return the seconds since the epoch of an ISO 8601 time, or None if it is not valid.

    Any UTC offset is honoured; without one the time is in UTC. Times before 1970 are not valid.
    """
    # datetime.fromisoformat of Python 3.9 reads neither the Z nor seven digits of a second.
    if not isinstance(value, str) or len(value) >= _MAX_ISO_CHARS:
        return None
    match = _ISO.match(value.strip())
    if match is None:
        return None
    day, time, fraction, offset = match.groups()
    try:
        moment = datetime.datetime.fromisoformat("%sT%s" % (day, time))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=datetime.timezone.utc)
    seconds = moment.timestamp() + (float("0." + fraction) if fraction else 0.0)
    if offset and offset not in "Zz":
        offset_seconds = int(offset[1:3]) * 3600 + int(offset[-2:]) * 60
        seconds -= offset_seconds if offset[0] == "+" else -offset_seconds
    return _in_range(seconds)


def server_time(headers: Mapping[str, str], default: float) -> float:
    """Return the server's own clock, in seconds since the epoch, from its header `date`.

    :param headers: with names in lower case.
    :param default: returned if the header is missing or not a date.
    """
    # It brings sockets and calendars along, and only sensors read this header.
    import email.utils

    try:
        return email.utils.parsedate_to_datetime(headers.get("date") or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return default


def _in_range(seconds: float) -> Optional[float]:
    is_valid = math.isfinite(seconds) and _MIN_TIMESTAMP < seconds <= _MAX_TIMESTAMP
    return seconds if is_valid else None
