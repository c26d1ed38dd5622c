"""Reads one entry of the configuration; what is wrong is refused by its full name.

`below` is what stands before the name, such as `budget.`.
"""

from synthralos.core.errors import InvalidInput

MAX_SECONDS = 3600


def not_an_object(where, value):
    """The refusal of what has to be an object."""
    return InvalidInput(where, value, "is not an object", "See config.schema.yaml")


def read_object(config, name, below=""):
    """The object under `name`; an entry that is blank in YAML is null and means an empty one."""
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise not_an_object(below + name, value)
    return value


def read_list(config, name, below=""):
    """(where, entry) of each object in the list under `name`."""
    value = config.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise InvalidInput(below + name, value, "is no list", "See config.schema.yaml")
    for n, entry in enumerate(value):
        where = "%s%s[%d]" % (below, name, n)
        if not isinstance(entry, dict):
            raise not_an_object(where, entry)
        yield where, entry


def read_seconds(entry, where, default, least=0.1):
    """The seconds under the last name of `where`, as a float. InvalidInput when they are none."""
    value = default_if_none(entry.get(where.rpartition(".")[2]), default)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= MAX_SECONDS:
        way_out = "Use a number from %s to %d" % (least, MAX_SECONDS)
        raise InvalidInput(where, value, "is no number of seconds", way_out)
    return float(value)


def read_number(entry, name, default, least, most, below=""):
    """The number under `name`, as a float. InvalidInput when it is none, or out of bounds."""
    value = default_if_none(entry.get(name), default)
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        way_out = "Use a number from %s to %s" % (least, most)
        raise InvalidInput(below + name, value, "is out of bounds", way_out)
    return float(value)


def read_int(entry, name, default, least, most, below=""):
    """The whole number under `name`. InvalidInput when it is none, or out of bounds."""
    value = default_if_none(entry.get(name), default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        way_out = "Use a whole number from %d to %d" % (least, most)
        raise InvalidInput(below + name, value, "is out of bounds", way_out)
    return value


def default_if_none(value, default):
    """`value`, or `default` when it is not given. 0 and False are."""
    return default if value is None else value
