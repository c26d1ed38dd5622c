"""Validates the names of nodes, as operators and monitoring systems use them."""

from typing import Any

from synthralos.core.errors import InvalidInput

MAX_NAME_CHARS = 200


def is_node_name(value: Any) -> bool:
    """Return whether `value` can name a node.

    A name has 1 to MAX_NAME_CHARS printable characters and no blank at either end. This is wider
    than the pack's own identifiers, because hosts and services are named outside of it; a node's
    name passes through a workflow only sealed or in a list.
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable() and (
        value.strip() == value
    )


def host_of(address: str) -> str:
    """Return `host:port` without its port; anything else, such as an IPv6 address, as it is."""
    host, colon, port = address.rpartition(":")
    is_plain_ipv6 = ":" in host and not host.endswith("]")
    return host if colon and host and port.isdigit() and not is_plain_ipv6 else address


def require_node_name(field: str, value: Any) -> str:
    """Return `value` if it can name a node, else raise InvalidInput."""
    if isinstance(value, str) and is_node_name(value):
        return value
    raise InvalidInput(
        field,
        value,
        "does not name a node",
        "Use 1 to %d printable characters, without a blank at either end" % MAX_NAME_CHARS,
    )


def require_node_list(field: str, values: Any) -> list[str]:
    """Return the node names in a list, each once and in order.

    :raises InvalidInput: `values` is not a list of node names.
    """
    if not isinstance(values, list):
        raise InvalidInput(field, values, "must be a list", 'Write it as ["node", "other node"]')
    return list(
        dict.fromkeys(require_node_name("%s[%d]" % (field, n), v) for n, v in enumerate(values))
    )
