"""The names of nodes: what an operator or a monitoring system calls what may fail."""

from synthralos.core.errors import InvalidInput

MAX_NAME_CHARS = 200


def is_node(value):
    """Whether `value` may name a node: 1 to LONGEST printable characters that are not blank.

    Wider than a name of the pack's: hosts and services are called by others. A node's name never
    crosses a workflow but sealed or within a list.
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable() and (
        value.strip() == value
    )


def checked(field, value):
    """`value` when it may name a node, else InvalidInput."""
    if is_node(value):
        return value
    raise InvalidInput(
        field,
        value,
        "does not name a node",
        "A node's name is 1 to %d printable characters, not blank at either end" % MAX_NAME_CHARS,
    )


def listed(field, values):
    """The nodes in a list, each once, in their order. InvalidInput when it is no list of nodes."""
    if not isinstance(values, list):
        raise InvalidInput(field, values, "is no list", 'Write it as ["node", "other node"]')
    return list(dict.fromkeys(checked("%s[%d]" % (field, n), v) for n, v in enumerate(values)))
