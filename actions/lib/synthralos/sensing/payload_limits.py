"""What goes into a trigger: whatever a server sends is brought into the shape of the payload.

StackStorm drops, without a word to the sensor, a trigger whose payload does not match its schema.
"""

import json

from synthralos.core import bounded_json
from synthralos.core.json_safe import to_json_safe

MAX_ID_CHARS = 256
MAX_TEXT_CHARS = 4096
MAX_QUERY_CHARS = 100_000
MAX_OBJECT_BYTES = 16 * 1024
MAX_ENTRIES = 64
_MAX_DEPTH = 6
_CUT = "..."


def cut(text, longest):
    """`text`, at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - len(_CUT)] + _CUT


def to_text(value, longest=MAX_TEXT_CHARS):
    """`value` as text: text as it is, anything else as JSON; null is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = _json(value)
    return cut(value, longest)


def first_text(values, longest=MAX_ID_CHARS):
    """The first of `values` that is a text or a number and not blank, as text; None without one."""
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = _json(value)
        if isinstance(value, str) and value.strip():
            return cut(value, longest)
    return None


def text_map(value, longest_name=128, longest=MAX_TEXT_CHARS, most=MAX_ENTRIES):
    """{text: text} of an object; of anything else an empty one."""
    if not isinstance(value, dict):
        return {}
    kept = list(value.items())[:most]
    return {cut(str(name), longest_name): to_text(told, longest) for name, told in kept}


def limit_object(value, largest=MAX_OBJECT_BYTES):
    """`value` when it is an object that is small enough, else what fits of it; {} when it is none.
    """
    if not isinstance(value, dict):
        return {}
    if not bounded_json.exceeds_depth(value, 2 * _MAX_DEPTH) and len(_json(value)) <= largest:
        return to_json_safe(value)
    shown = to_json_safe(_trimmed(value, 0))
    told = _json(shown)
    return shown if len(told) <= largest else {"cut": True, "beginning": told[: largest // 2]}


def _trimmed(value, depth):
    if isinstance(value, str):
        return cut(value, 1000)
    if isinstance(value, (dict, list, tuple)) and depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, dict):
        kept = list(value.items())[:MAX_ENTRIES]
        return {cut(str(name), 128): _trimmed(told, depth + 1) for name, told in kept}
    if isinstance(value, (list, tuple)):
        return [_trimmed(item, depth + 1) for item in value[:MAX_ENTRIES]]
    return value


def _json(value):
    """JSON text of anything that came as JSON; what json refuses, such as a huge number, by name.
    """
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return "(%s)" % type(value).__name__
