"""Readers for single configuration entries; an invalid one raises InvalidInput with its path.

`prefix` is the path in front of the name, with its dot, such as `budget.`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Optional, TypeVar

from synthralos.core.errors import InvalidInput

MAX_SECONDS = 3600

T = TypeVar("T")


def not_an_object(path: str, value: object) -> InvalidInput:
    """Return the error for a value that must be an object."""
    return InvalidInput(path, value, "is not an object", "See config.schema.yaml")


def read_object(config: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    """Return the object under `name`; a blank entry is null in YAML and means an empty object."""
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise not_an_object(prefix + name, value)
    return value


def require_object(path: str, value: object) -> dict[str, Any]:
    """Return the object `value`, or {} for None.

    :raises InvalidInput: it is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "must be an object", "See config.schema.yaml")
    return value


def read_list(
    config: Mapping[str, Any], name: str, prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, entry) of each object in the list under `name`."""
    value = config.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidInput(prefix + name, value, "is not a list", "See config.schema.yaml")
    for n, entry in enumerate(value):
        path = "%s%s[%d]" % (prefix, name, n)
        if not isinstance(entry, dict):
            raise not_an_object(path, entry)
        yield path, entry


def read_seconds(
    entry: Mapping[str, Any], path: str, default: Optional[float], minimum: float = 0.1
) -> float:
    """Return the seconds under the last name of `path`.

    :raises InvalidInput: not a number, or not between `minimum` and MAX_SECONDS.
    """
    value = default_if_none(entry.get(path.rpartition(".")[2]), default)
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_valid or not minimum <= value <= MAX_SECONDS:
        raise out_of_range(path, value, "a number of seconds", minimum, MAX_SECONDS)
    return float(value)


def read_number(
    entry: Mapping[str, Any],
    name: str,
    default: Optional[float],
    minimum: float,
    maximum: float,
    prefix: str = "",
) -> float:
    """Return the number under `name`.

    :raises InvalidInput: not a number, or not between `minimum` and `maximum`.
    """
    value = default_if_none(entry.get(name), default)
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_valid or not minimum <= value <= maximum:
        raise out_of_range(prefix + name, value, "a number", minimum, maximum)
    return float(value)


def read_int(
    entry: Mapping[str, Any],
    name: str,
    default: Optional[int],
    minimum: int,
    maximum: int,
    prefix: str = "",
) -> int:
    """Return the whole number under `name`.

    :raises InvalidInput: not a whole number, or not between `minimum` and `maximum`.
    """
    value = default_if_none(entry.get(name), default)
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise out_of_range(prefix + name, value, "a whole number", minimum, maximum)
    return value


def out_of_range(
    path: str, value: object, kind: str, minimum: float, maximum: float
) -> InvalidInput:
    """Return the InvalidInput of `value` at `path`, which is not `kind` between two bounds.

    :param kind: what is expected, with its article: "a whole number".
    """
    accepted = "%s from %s to %s" % (kind, minimum, maximum)
    return InvalidInput(path, value, "must be " + accepted, "Use " + accepted)


def default_if_none(value: Optional[T], default: T) -> T:
    """Return `value`, or `default` if it is None; 0 and False are values."""
    return default if value is None else value
