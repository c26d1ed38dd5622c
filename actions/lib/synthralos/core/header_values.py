"""Secrets as values of HTTP headers: what is trimmed off them, and what no header can carry."""

import re
from typing import Optional

# Shells, editors and clipboards add these at either end: white space and line ends, NUL, a byte
# order mark, and characters without width.
_EDGES = "\\s\\x00\\u200b-\\u200d\\u2060\\ufeff"
_EDGE = re.compile("\\A[%s]+|[%s]+\\Z" % (_EDGES, _EDGES))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_LATIN = re.compile(r"[^\x00-\xff]")


def trim_secret(secret: str) -> str:
    """Return a secret without white space, line ends and invisible characters at either end."""
    return _EDGE.sub("", secret)


def find_header_fault(value: str) -> Optional[str]:
    """Return why no HTTP header can carry `value`, without quoting it; None if one can."""
    if _CONTROL.search(value):
        return "has a line end or another control character"
    if _NOT_LATIN.search(value):
        return "has characters outside of Latin-1"
    return None
