"""Times as people and StackStorm write them."""
import datetime
import re

_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?")


def to_iso(seconds, milliseconds=False):
    """ISO 8601 in UTC, of seconds since the epoch; in whole seconds, or with milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    told = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return told + (".%03dZ" % (moment.microsecond // 1000) if milliseconds else "Z")


def parse_iso(text):
    """Seconds since the epoch of an ISO 8601 time in UTC, or None when it is none."""
    # Python 3.9 reads neither the Z nor seven digits of a second.
    found = _ISO.match(text) if isinstance(text, str) else None
    if found is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(found.group(1))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float(found.group(2) or 0)
