"""Parses the answers of models for the steps that use them."""

import json
import math
import re

from synthralos.core import bounded_json

MAX_OUTPUT_BYTES = 1024 * 1024
_FENCE = re.compile(r"\A\s*```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


def parsed(text):
    """Return the JSON value in `text`, which may be in a code fence; otherwise return `text`.

    This lets a condition compare `testResults.passed` of a model's JSON. Text with words around
    the JSON, of more than MAX_OUTPUT_BYTES characters, or with NaN or Infinity stays text.
    """
    if not isinstance(text, str) or len(text) > MAX_OUTPUT_BYTES:
        return text
    match = _FENCE.match(text)
    inside = text if match is None else match.group(1)
    try:
        value = json.loads(inside, parse_constant=_none_of_json, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return text if bounded_json.exceeds_depth(value) else value


def _none_of_json(word):
    raise ValueError("%s is not JSON" % word)


def _finite(digits):
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("%s is too large" % digits)
    return value
