"""Retention: how long stored records are kept, from the entry `retention` of the configuration."""

import re
from collections.abc import Mapping
from typing import Any

from synthralos.core.errors import InvalidInput

DAY = 24 * 3600
# Group of keys: (minimum, maximum) seconds. Groups that are not configured use their default.
BOUNDS = {
    "ledger": (60, DAY),
    "runs": (3600, 365 * DAY),
    "history": (3600, 3650 * DAY),
    "snapshots": (3600, 365 * DAY),
    "tickets": (DAY, 3650 * DAY),
    # Starts are counted for an hour, and a held-back start is reported once.
    "incidents": (DAY, 365 * DAY),
    "observations": (DAY, 365 * DAY),
    "queries": (3600, 365 * DAY),
    "answers": (300, 30 * DAY),
    "loops": (3600, 365 * DAY),
    "orchestrations": (DAY, 365 * DAY),
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")


def read_retention(entry: Mapping[str, Any]) -> dict[str, int]:
    """Return {group: seconds} of the object under `retention`.

    :raises InvalidInput: a group is unknown or its duration is out of bounds; names the entry.
    """
    seconds_by_group = {}
    for group, value in entry.items():
        path = "retention.%s" % group
        if group not in BOUNDS:
            raise InvalidInput(
                path, value, "is not a known group", "Use one of " + ", ".join(BOUNDS)
            )
        if value is not None:
            seconds_by_group[group] = _seconds(path, value, *BOUNDS[group])
    return seconds_by_group


def seconds_of_duration(path: str, value: object) -> int:
    """Return the seconds of a duration such as 12h.

    :raises InvalidInput: it is not a duration; names `path`.
    """
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        hint = "Write it as a number and s, m, h or d, such as 12h"
        raise InvalidInput(path, value, "is not a duration", hint)
    return int(match.group(1)) * _UNITS[match.group(2)]


def _seconds(path: str, value: object, minimum: int, maximum: int) -> int:
    try:
        seconds = seconds_of_duration(path, value)
    except InvalidInput:
        seconds = 0
    if not minimum <= seconds <= maximum:
        bounds = format_duration(minimum), format_duration(maximum)
        hint = "Write it as a number and s, m, h or d, such as 12h"
        raise InvalidInput(path, value, "must be between %s and %s" % bounds, hint)
    return seconds


def format_duration(seconds: int) -> str:
    """Return seconds in the form of the configuration: 900 is 15m."""
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return "%d%s" % (seconds // _UNITS[unit], unit)
