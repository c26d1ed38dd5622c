"""Casting of a parameter's value by its declared type, as StackStorm casts before it validates."""
import ast
import json


def cast(value, kind):
    """Return `value` cast to the type `kind`; None stays None.

    :raises ValueError, TypeError, SyntaxError: if it cannot be cast.
    """
    if value is None or kind not in _CASTS:
        return value
    return _CASTS[kind](value)


def _structure(value):
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return ast.literal_eval(value)


def _boolean(value):
    return ast.literal_eval(value.capitalize()) if isinstance(value, str) else value


def _string(value):
    if not isinstance(value, str):
        raise ValueError(
            'Value "%s" must either be a string or None. Got "%s".' % (value, type(value).__name__)
        )
    return value


_CASTS = {
    "array": _structure,
    "boolean": _boolean,
    "integer": int,
    "number": float,
    "object": _structure,
    "string": _string,
}
