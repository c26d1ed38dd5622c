"""Limits for trigger payloads: brings any value that a server sends into the expected form.

StackStorm silently drops a trigger whose payload does not match its schema.
"""

import json
from collections.abc import Iterable
from typing import Any, Optional

from synthralos.core import bounded_json
from synthralos.core.json_safe import to_json_safe

MAX_ID_CHARS = 256
MAX_TEXT_CHARS = 4096
MAX_QUERY_CHARS = 100_000
MAX_OBJECT_BYTES = 16 * 1024
MAX_ENTRIES = 64
_MAX_DEPTH = 6
_CUT = "..."


def cut(text: str, max_chars: int) -> str:
    """Truncate `text` to at most `max_chars` characters."""
    return text if len(text) <= max_chars else text[: max_chars - len(_CUT)] + _CUT


def to_text(value: Any, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return text unchanged, null as an empty text, and anything else as JSON; truncated."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = _json(value)
    return cut(value, max_chars)


def first_text(values: Iterable[Any], max_chars: int = MAX_ID_CHARS) -> Optional[str]:
    """Return the first of `values` that is a non-blank text or a number, as text; else None."""
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = _json(value)
        if isinstance(value, str) and value.strip():
            return cut(value, max_chars)
    return None


def text_map(
    value: Any,
    max_name_chars: int = 128,
    max_chars: int = MAX_TEXT_CHARS,
    max_entries: int = MAX_ENTRIES,
) -> dict[str, str]:
    """Return {text: text} of an object, and {} for anything else."""
    if not isinstance(value, dict):
        return {}
    items = list(value.items())[:max_entries]
    return {cut(str(name), max_name_chars): to_text(item, max_chars) for name, item in items}


def limit_object(value: Any, max_bytes: int = MAX_OBJECT_BYTES) -> dict[str, Any]:
    """Return `value` if it is a small enough object, else the part that fits; {} if not an object.
    """
    if not isinstance(value, dict):
        return {}
    if not bounded_json.exceeds_depth(value, 2 * _MAX_DEPTH) and len(_json(value)) <= max_bytes:
        safe: dict[str, Any] = to_json_safe(value)
        return safe
    trimmed: dict[str, Any] = to_json_safe(_trimmed(value, 0))
    text = _json(trimmed)
    return trimmed if len(text) <= max_bytes else {"cut": True, "beginning": text[: max_bytes // 2]}


def _trimmed(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return cut(value, 1000)
    if isinstance(value, (dict, list, tuple)) and depth >= _MAX_DEPTH:
        return _CUT
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ENTRIES]
        return {cut(str(name), 128): _trimmed(item, depth + 1) for name, item in items}
    if isinstance(value, (list, tuple)):
        return [_trimmed(item, depth + 1) for item in value[:MAX_ENTRIES]]
    return value


def _json(value: Any) -> str:
    """Encode a parsed JSON value; what json rejects, such as a huge number, as its type name."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return "(%s)" % type(value).__name__
