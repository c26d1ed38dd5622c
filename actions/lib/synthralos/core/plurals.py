"""Counted nouns in summaries: `1 ticket`, `2 tickets`."""

from typing import Optional


def count_noun(count: int, singular: str, plural: Optional[str] = None) -> str:
    """Return the count with its noun: `0 tickets`, `1 ticket`, `2 tickets`.

    :param plural: the plural form; default: `singular` with an s.
    """
    if count == 1:
        return "1 %s" % singular
    return "%d %s" % (count, plural or singular + "s")
