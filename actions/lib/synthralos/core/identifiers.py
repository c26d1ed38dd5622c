"""Names that are safe to render anywhere, and their form inside a datastore key."""

import re
from typing import Any, Optional

from synthralos.core.errors import InvalidInput

MAX_NAME_CHARS = 128
# Of a record's id that contains a name: <name>:<13 digits>-<9 digits>.
MAX_ID_CHARS = MAX_NAME_CHARS + 24
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z")
_WORD = re.compile(r"[A-Za-z0-9._:/@+\[\]-]{1,200}\Z")
_UNSAFE_IN_NAME = re.compile(r"[^A-Za-z0-9._:/@+-]+")
_UNSAFE_IN_KEY = re.compile(r"[^A-Za-z0-9_-]")


def is_name(value: Any, max_chars: int = MAX_NAME_CHARS) -> bool:
    """Return whether `value` is a name of at most `max_chars` characters."""
    return isinstance(value, str) and len(value) <= max_chars and _NAME.match(value) is not None


def is_safe_word(value: Any) -> bool:
    """Return whether `value` is a name, an enum, an address or a field path: no caller's text."""
    return isinstance(value, str) and _WORD.match(value) is not None


def to_name(value: Any) -> Optional[str]:
    """Reduce `value` to the alphabet of names; return None if nothing remains."""
    name = _UNSAFE_IN_NAME.sub("_", str(value or "")).lstrip("._:/@+-")[:MAX_NAME_CHARS]
    return name if is_name(name) else None


def require_identifier(field: str, value: Any) -> str:
    """Return `value` if it is a name.

    :raises InvalidInput: it is missing, or not a name; names `field`.
    """
    if isinstance(value, str) and is_name(value):
        return value
    raise InvalidInput(
        field,
        value,
        "is missing" if value is None else "is not a name",
        "Names are 1 to 128 of A-Z a-z 0-9 . _ : / @ + - and start with a letter or a digit",
    )


def encode_key_part(name: str) -> str:
    """Encode `name` as one part of a datastore key: no `/`, no `.`, ASCII only; one to one."""
    return _UNSAFE_IN_KEY.sub(
        lambda match: "".join(
            "~%02X" % byte for byte in match.group().encode("utf-8", "surrogatepass")
        ),
        name,
    )


def decode_key_part(part: str) -> str:
    """Decode what `encode_key_part` returned."""
    raw = re.sub(rb"~([0-9A-F]{2})", lambda match: bytes([int(match.group(1), 16)]), part.encode())
    return raw.decode("utf-8", "surrogatepass")
