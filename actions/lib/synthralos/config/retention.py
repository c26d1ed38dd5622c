"""How long what is remembered is kept: the entry `retention` of the configuration."""

import re

from synthralos.core.errors import InvalidInput

DAY = 24 * 3600
# Group of keys: (least, most) seconds. What is not named is kept as long as its module says.
BOUNDS = {
    "ledger": (60, DAY),
    "runs": (3600, 365 * DAY),
    "history": (3600, 3650 * DAY),
    "snapshots": (3600, 365 * DAY),
    "tickets": (DAY, 3650 * DAY),
    # Starts are counted for an hour, and what was held back is told once.
    "incidents": (DAY, 365 * DAY),
    "queries": (3600, 365 * DAY),
    "answers": (300, 30 * DAY),
    "loops": (3600, 365 * DAY),
    "orchestrations": (DAY, 365 * DAY),
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")


def read_retention(entry):
    """{group: seconds} of the mapping under `retention`. InvalidInput names the entry that is wrong."""
    found = {}
    for group, value in entry.items():
        where = "retention.%s" % group
        if group not in BOUNDS:
            raise InvalidInput(where, value, "is no kind", "Use one of " + ", ".join(BOUNDS))
        if value is not None:
            found[group] = _seconds(where, value, *BOUNDS[group])
    return found


def seconds_of_duration(where, value):
    """Seconds of a duration such as 12h. InvalidInput, naming `where`, when it is none."""
    told = _DURATION.match(value) if isinstance(value, str) else None
    if told is None:
        way_out = "Write it as a number and s, m, h or d, such as 12h"
        raise InvalidInput(where, value, "is no duration", way_out)
    return int(told.group(1)) * _UNITS[told.group(2)]


def _seconds(where, value, least, most):
    try:
        seconds = seconds_of_duration(where, value)
    except InvalidInput:
        seconds = 0
    if not least <= seconds <= most:
        way_out = "Use %s to %s" % (format_duration(least), format_duration(most))
        raise InvalidInput(where, value, "is no duration within bounds", way_out)
    return seconds


def format_duration(seconds):
    """Seconds as the configuration has them: 900 is 15m."""
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return "%d%s" % (seconds // _UNITS[unit], unit)
