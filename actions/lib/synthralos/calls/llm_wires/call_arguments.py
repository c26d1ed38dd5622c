"""The arguments of tool calls: texts that models wrote, and objects that most APIs want."""

import json
from typing import Any

from synthralos.core import bounded_json


def parse_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a call as an object, whatever their text is.

    What is no object is under `arguments`: a model wrote it, and its next answer refers to it.
    """
    value = _json_or_none(text)
    if isinstance(value, str):
        value = _json_or_none(value) if value.strip() else {}
    if isinstance(value, dict):
        return value
    if not text.strip():
        return {}
    return {"arguments": text if value is None else value}


def normalize_arguments(text: str) -> str:
    """Return arguments as the text of an object; a text of one stays as it is."""
    if isinstance(_json_or_none(text), dict):
        return text
    return json.dumps(parse_arguments(text))


def _json_or_none(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return None
    return None if bounded_json.exceeds_depth(value) else value


def _reject_constant(word: str) -> Any:
    raise ValueError("%s is not JSON" % word)
