"""JSON from outside, with a bound on its depth: nesting deeper than MAX_DEPTH is rejected."""

import json
from typing import Any, Union

MAX_DEPTH = 100


def loads(text: Union[str, bytes, bytearray]) -> Any:
    """Parse the JSON value in `text`.

    :raises ValueError: it is not valid JSON, or is nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if exceeds_depth(value):
        raise ValueError("nested too deeply")
    return value


def exceeds_depth(value: Any, max_depth: int = MAX_DEPTH) -> bool:
    """Return whether `value` is nested deeper than `max_depth` levels, without recursion."""
    level = [value]
    for _ in range(max_depth + 1):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list, tuple))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
