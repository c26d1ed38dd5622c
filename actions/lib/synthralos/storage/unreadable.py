"""Unreadable rows: written by another version of the pack, or edited manually.

Such a row counts as absent, and no run fails for it. `health.get` counts them, so that an operator
learns of a ticket, a pause or an outcome that is ignored.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Optional

_names: contextvars.ContextVar[Optional[set[str]]] = contextvars.ContextVar(
    "synthralos_unreadable", default=None
)


@contextlib.contextmanager
def noticed() -> Iterator[set[str]]:
    """Collect the names of the unreadable rows that the block meets, each once."""
    names: set[str] = set()
    token = _names.set(names)
    try:
        yield names
    finally:
        _names.reset(token)


def skip(name: str) -> None:
    """Note that the row called `name` is ignored because it cannot be read."""
    names = _names.get()
    if names is not None:
        names.add(name)
