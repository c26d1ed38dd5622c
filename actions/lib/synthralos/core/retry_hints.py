"""Hints: when the other side wants to be called again, in every form in which servers say it."""

import math
import re
from collections.abc import Mapping
from typing import Any, Optional

from synthralos.core.evidence import Evidence
from synthralos.core.lazy_pattern import LazyPattern
from synthralos.core.timestamps import parse_iso

MAX_HINT_SECONDS = 24 * 3600.0
# A number of seconds may be a mistake; a date is meant.
MAX_UNDATED_SECONDS = 3600.0
# Larger numbers are seconds since the epoch (the first since 2001), or milliseconds since it.
_FIRST_EPOCH_SECONDS, _FIRST_EPOCH_MILLISECONDS = 1e9, 1e11
_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")
_PART_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
_DURATION = LazyPattern(r"(?i)^(?:\d+(?:\.\d+)?(?:ms|us|d|h|m|s))+\Z")
_PART = LazyPattern(r"(?i)(\d+(?:\.\d+)?)(ms|us|d|h|m|s)")
# "try again in 2m59.56s", "retry after 43 seconds", "wait 30 seconds", "available in 94ms".
_WORDS = LazyPattern(
    r"(?ix) (?:again|retry\w*|wait|available|reset\w*|resume\w*) \s+ (?:your \s request \s)?"
    r"(?:in|after|at \s least|for)? \s* (?:about \s | approximately \s)?"
    r"((?: \d+(?:\.\d+)? \s* (?:ms|milliseconds?|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)"
    r"(?![a-z]) [\s,]* (?:and \s)? )+)"
)
_WORD_PART = LazyPattern(r"(?i)(\d+(?:\.\d+)?)\s*(ms|milli|h|m|s)")
_LIMIT_RESET = LazyPattern(
    r"^(?P<family>x-ratelimit|anthropic-ratelimit|ratelimit)-"
    r"(?:reset-(?P<last>[a-z-]+)|(?P<first>[a-z-]+)-reset)\Z"
)


def retry_hint(headers: Mapping[str, str], evidence: Evidence, now: float) -> Optional[float]:
    """Return the seconds until the other side wants to be called again, or None.

    Reads, in this order: `retry-after-ms` and `x-ms-retry-after-ms`; `Retry-After` in seconds, as
    an HTTP or ISO 8601 date, or since the epoch; the reset of the limit that is spent
    (`x-ratelimit-*`, `anthropic-ratelimit-*`); `retryDelay`, `retry_after` and `estimated_time` in
    the body; and the words of the message. Invalid values are ignored.

    :param headers: with names in lower case.
    :param now: seconds since the epoch.
    :returns: from 0 to MAX_HINT_SECONDS; at most MAX_UNDATED_SECONDS where no date is named.
    """
    for name in _MILLISECONDS:
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return _bounded(milliseconds / 1000.0)
    for seconds in (
        moment_or_seconds(headers.get("retry-after"), now),
        _spent_limit_reset(headers, evidence, now),
        _hint_in_body(evidence, now),
        hint_in_words(evidence.text),
    ):
        if seconds is not None:
            return seconds
    return None


def moment_or_seconds(value: Any, now: float) -> Optional[float]:
    """Return the seconds from `now` to what a header or field names, or None if it is invalid.

    :param value: seconds ("30", "7.66s", "2m59.56s"), seconds or milliseconds since the epoch, an
        HTTP date or an ISO 8601 date; or several of them, of which a proxy has added one.
    """
    if value is None or isinstance(value, bool):
        return None
    text = str(value).strip()
    number = _number(text)
    if number is None and re.match(r"^[0-9.]+(?:\s*,\s*[0-9.]+)+\Z", text):
        number = _number(text.split(",")[0])
    if number is not None:
        if number >= _FIRST_EPOCH_MILLISECONDS:
            return _dated(number / 1000.0 - now)
        return _dated(number - now) if number >= _FIRST_EPOCH_SECONDS else _bounded(number)
    if _DURATION.match(text):
        parts = _PART.findall(text)
        return _bounded(sum(float(count) * _PART_SECONDS[unit.lower()] for count, unit in parts))
    return _seconds_to_date(text, now)


def hint_in_words(text: str) -> Optional[float]:
    """Return the seconds of a "try again in 2m59.56s" in a message, or None."""
    match = _WORDS.search(text)
    if match is None:
        return None
    seconds = 0.0
    for count, unit in _WORD_PART.findall(match.group(1)):
        unit = unit.lower()
        seconds += float(count) * _PART_SECONDS["ms" if unit == "milli" else unit]
    return _bounded(seconds)


def _seconds_to_date(text: str, now: float) -> Optional[float]:
    if re.match(r"^\d{4}-\d\d-\d\d[T ]", text):
        timestamp = parse_iso(text)
        return None if timestamp is None else _dated(timestamp - now)
    if not re.match(r"^[A-Za-z]{3,9},? ", text):
        return None
    # It brings sockets and calendars along, for one date that few servers send.
    import email.utils

    try:
        return _dated(email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def _spent_limit_reset(
    headers: Mapping[str, str], evidence: Evidence, now: float
) -> Optional[float]:
    """Return the reset of the limit that is spent: nothing remains of it, or the message names it.
    """
    resets = {}
    for name, value in headers.items():
        match = _LIMIT_RESET.match(name)
        if match is None:
            continue
        limit = match.group("last") or match.group("first")
        seconds = moment_or_seconds(value, now)
        if seconds is not None and "day" not in limit:
            resets[limit] = (seconds, _remaining(headers, match.group("family"), limit))
    spent = [seconds for seconds, remaining in resets.values() if remaining == 0]
    if not spent:
        spent = [seconds for limit, (seconds, _) in resets.items() if _names(evidence, limit)]
    if spent:
        return max(spent)
    return _total_reset(headers, evidence, now)


def _names(evidence: Evidence, limit: str) -> bool:
    """Return whether an error names the limit: "on tokens per min", `type: tokens`."""
    unit = limit.rpartition("-")[2]
    pattern = r"(?i)\b%ss? ?(?:per|/)" % re.escape(unit.rstrip("s"))
    return unit in evidence.names or re.search(pattern, evidence.text) is not None


def _remaining(headers: Mapping[str, str], family: str, limit: str) -> Optional[float]:
    names = ("%s-remaining-%s" % (family, limit), "%s-%s-remaining" % (family, limit))
    return next((_number(headers[name]) for name in names if name in headers), None)


def _total_reset(headers: Mapping[str, str], evidence: Evidence, now: float) -> Optional[float]:
    """Return the reset of the only limit that there is, also where a gateway repeats the headers
    in the body (OpenRouter: `error.metadata.headers`).
    """
    for value in (
        headers.get("x-ratelimit-reset"),
        headers.get("ratelimit-reset"),
        evidence.field("xratelimitreset"),
    ):
        seconds = moment_or_seconds(value, now)
        if seconds is not None:
            return seconds
    return None


def _hint_in_body(evidence: Evidence, now: float) -> Optional[float]:
    for key, value in evidence.fields:
        # As a text Google gives a duration, "30s"; a bare number would have no unit.
        if key == "retrydelay" and isinstance(value, str) and value[-1:].lower() == "s":
            return _bounded_or_none(_number(value[:-1]))
        if key in ("retryafter", "retryafterseconds", "estimatedtime", "retryinseconds"):
            seconds = moment_or_seconds(value, now)
            if seconds is not None:
                return seconds
        if key == "retryafterms":
            return _bounded_or_none(_number(value), 0.001)
    return None


def _bounded_or_none(number: Optional[float], unit: float = 1.0) -> Optional[float]:
    return None if number is None else _bounded(number * unit)


def _number(text: Any) -> Optional[float]:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_UNDATED_SECONDS)


def _dated(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_HINT_SECONDS)
