"""What goes into a trigger: whatever a server sends is brought into the shape of the payload.

StackStorm drops, without a word to the sensor, a trigger whose payload does not match its schema.
"""

import json

from synthralos import jsontext
from synthralos.storable import storable

LONGEST_ID = 256
LONGEST_TEXT = 4096
LONGEST_QUERY = 100_000
LARGEST_OBJECT = 16 * 1024
MOST_ENTRIES = 64
_DEEPEST = 6
_CUT = "..."


def cut(text, longest):
    """`text`, at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - len(_CUT)] + _CUT


def text_of(value, longest=LONGEST_TEXT):
    """`value` as text: text as it is, anything else as JSON; null is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = _json(value)
    return cut(value, longest)


def some_text(values, longest=LONGEST_ID):
    """The first of `values` that is a text or a number and not blank, as text; None without one."""
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = _json(value)
        if isinstance(value, str) and value.strip():
            return cut(value, longest)
    return None


def texts(value, longest_name=128, longest=LONGEST_TEXT, most=MOST_ENTRIES):
    """{text: text} of an object; of anything else an empty one."""
    if not isinstance(value, dict):
        return {}
    kept = list(value.items())[:most]
    return {cut(str(name), longest_name): text_of(told, longest) for name, told in kept}


def an_object(value, largest=LARGEST_OBJECT):
    """`value` when it is an object that is small enough, else what fits of it; {} when it is none.
    """
    if not isinstance(value, dict):
        return {}
    if not jsontext.too_deep(value, 2 * _DEEPEST) and len(_json(value)) <= largest:
        return storable(value)
    shown = storable(_trimmed(value, 0))
    told = _json(shown)
    return shown if len(told) <= largest else {"cut": True, "beginning": told[: largest // 2]}


def _trimmed(value, depth):
    if isinstance(value, str):
        return cut(value, 1000)
    if isinstance(value, (dict, list, tuple)) and depth >= _DEEPEST:
        return _CUT
    if isinstance(value, dict):
        kept = list(value.items())[:MOST_ENTRIES]
        return {cut(str(name), 128): _trimmed(told, depth + 1) for name, told in kept}
    if isinstance(value, (list, tuple)):
        return [_trimmed(item, depth + 1) for item in value[:MOST_ENTRIES]]
    return value


def _json(value):
    """JSON text of anything that came as JSON; what json refuses, such as a huge number, by name.
    """
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return "(%s)" % type(value).__name__
