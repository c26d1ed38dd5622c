"""JSON values: read from elsewhere, and in a form that StackStorm can pass on and store."""

import json
import math
from typing import Any

MAX_DEPTH = 40
_MAX_INTEGER = 2**63 - 1


def object_or_empty(value: object) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else {}."""
    return value if isinstance(value, dict) else {}


def to_json_safe(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` without anything that StackStorm or its database cannot store.

    Lone surrogates become U+FFFD, NaN and infinities null, integers beyond 64 bits text, keys text
    without NUL, and nesting deeper than MAX_DEPTH becomes JSON text. Nothing else changes.
    """
    if isinstance(value, str):
        return _without_surrogates(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH and isinstance(value, (dict, list, tuple)):
        return _without_surrogates(json.dumps(value))
    if isinstance(value, dict):
        return {_key(key): to_json_safe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_safe(item, depth + 1) for item in value]
    return _without_surrogates(str(value))


def _key(key: object) -> str:
    return _without_surrogates(str(key)).replace("\x00", "\ufffd")


def _without_surrogates(text: str) -> str:
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
