"""Readers for single configuration entries; an invalid entry raises InvalidInput with its full path.

`prefix` is the path in front of the name, with its dot, such as `budget.`.
"""

from synthralos.core.errors import InvalidInput

MAX_SECONDS = 3600


def not_an_object(path, value):
    """Return the error for a value that must be an object."""
    return InvalidInput(path, value, "is not an object", "See config.schema.yaml")


def read_object(config, name, prefix=""):
    """Return the object under `name`; a blank entry is null in YAML and means an empty object."""
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise not_an_object(prefix + name, value)
    return value


def read_list(config, name, prefix=""):
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


def read_seconds(entry, path, default, minimum=0.1):
    """The seconds under the last name of `path`, as a float. InvalidInput when they are none."""
    value = default_if_none(entry.get(path.rpartition(".")[2]), default)
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_valid or not minimum <= value <= MAX_SECONDS:
        hint = "Use a number from %s to %d" % (minimum, MAX_SECONDS)
        raise InvalidInput(path, value, "is not a number of seconds within bounds", hint)
    return float(value)


def read_number(entry, name, default, minimum, maximum, prefix=""):
    """The number under `name`, as a float. InvalidInput when it is none, or out of bounds."""
    value = default_if_none(entry.get(name), default)
    is_valid = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_valid or not minimum <= value <= maximum:
        hint = "Use a number from %s to %s" % (minimum, maximum)
        raise InvalidInput(prefix + name, value, "is out of bounds", hint)
    return float(value)


def read_int(entry, name, default, minimum, maximum, prefix=""):
    """The whole number under `name`. InvalidInput when it is none, or out of bounds."""
    value = default_if_none(entry.get(name), default)
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        hint = "Use a whole number from %d to %d" % (minimum, maximum)
        raise InvalidInput(prefix + name, value, "is out of bounds", hint)
    return value


def default_if_none(value, default):
    """`value`, or `default` when it is not given. 0 and False are."""
    return default if value is None else value
