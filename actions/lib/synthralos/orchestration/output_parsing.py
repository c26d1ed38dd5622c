"""What a step answered, as the steps after it see it."""

import json
import math
import re

from synthralos.core import bounded_json

MAX_OUTPUT_BYTES = 1024 * 1024
_FENCE = re.compile(r"\A\s*```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


def parsed(text):
    """The JSON value in `text`, also when it stands in the one fence that the text is; else `text`.

    So `testResults.passed` of a model's JSON can be compared. Text with words around the JSON, of
    more than LARGEST characters, or of what JSON has not (NaN), stays text.
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
    raise ValueError("%s is no JSON" % word)


def _finite(digits):
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("%s is too large" % digits)
    return value
