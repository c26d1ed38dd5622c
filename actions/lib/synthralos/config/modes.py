"""The three modes of automation: a ladder, from watching to acting."""

from typing import Any, Optional

from synthralos.core.errors import InvalidInput

# From the lowest rung to the highest: what would be done is recorded; a person approves each run
# before its first effect; runs start.
OBSERVE, APPROVE, ACT = MODES = ("observe", "approve", "act")


def read_mode(path: str, value: Any) -> Optional[str]:
    """Return the mode under `path` of the configuration, or None if there is none.

    :raises InvalidInput: `value` is not a mode; names `path`.
    """
    if value is None or value in MODES:
        return None if value is None else str(value)
    raise InvalidInput(path, value, "is not a mode", "Use one of " + ", ".join(MODES))


def lower_mode(first: str, second: str) -> str:
    """Return the lower of two modes: the one that does less."""
    return min(first, second, key=MODES.index)
