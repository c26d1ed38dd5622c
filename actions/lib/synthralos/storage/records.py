"""Versioned JSON rows of the datastore, and listing them page by page.

A row is a JSON object with the version of its format under `v`. A row of another version, or one
that was edited manually, is unreadable: it counts as absent (see unreadable.py).
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from synthralos.storage import unreadable
from synthralos.storage.datastore import PAGE_SIZE, Listing, Rows

Fields = dict[str, Any]
_COMPACT, _SPACED = (",", ":"), (", ", ": ")


def encode(
    fields: Mapping[str, Any], version: int, *, sort_keys: bool = True, compact: bool = True
) -> str:
    """Return the text of a row.

    :param fields: JSON values by name; `v` is not among them.
    :param sort_keys: whether names are sorted; otherwise `v` comes first and the others keep their
        order.
    :param compact: False for rows that have always been written with spaces.
    :raises TypeError: a value is not JSON.
    """
    separators = _COMPACT if compact else _SPACED
    return json.dumps({"v": version, **fields}, separators=separators, sort_keys=sort_keys)


def decode(text: Optional[str], version: int, name: Optional[str] = None) -> Optional[Fields]:
    """Return the fields of a row without `v`, or None if it is unreadable or `text` is None.

    :param name: the row's key, to count it as unreadable; None if the caller reports it.
    """
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and fields.pop("v", None) == version:
        return fields
    if name is not None:
        unreadable.skip(name)
    return None


def iter_rows(rows: Iterable[tuple[str, str]], version: int) -> Iterator[tuple[str, Fields]]:
    """Yield (key, fields) of the readable rows; count the others as unreadable."""
    for name, text in rows:
        fields = decode(text, version, name)
        if fields is not None:
            yield name, fields


def iter_pages(store: Listing, prefix: str, max_pages: Optional[int] = None) -> Iterator[Rows]:
    """Yield the rows whose keys start with `prefix`, newest first, one page after another.

    The page on which the listing ends is yielded even if it is empty, so that a caller can check
    after each page whether the datastore was available.

    :param max_pages: how many pages to read at most; None for all.
    """
    for page in itertools.count() if max_pages is None else range(max_pages):
        rows = store.list(prefix, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        yield rows
        if len(rows) < PAGE_SIZE:
            return
