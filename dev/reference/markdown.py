"""The parts of Markdown that the reference needs."""
from __future__ import annotations

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, or [] without rows. Cells are Markdown already."""
    if not rows:
        return []
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    return lines + ["| %s |" % " | ".join(row) for row in rows] + [""]


def text(words: object) -> str:
    """Escape text from the metadata for a cell or a line; only pairs of backquotes stay markup."""
    parts = " ".join(str(words or "").split()).split("`")
    if len(parts) % 2 == 0:
        return _escaped("`".join(parts))
    return "".join(code(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def excerpt(words: str, max_length: int) -> str:
    """Return the beginning of a text: whole words, on one line, with "..." for what is left out."""
    line = " ".join(words.split())
    if len(line) <= max_length:
        return line
    start, _, _ = line[: max_length - 3].rpartition(" ")
    return (start or line[: max_length - 3]) + "..."


def replace_between(page: str, begin: str, end: str, lines: Sequence[str], name: str) -> str:
    """Return `page` with the lines between two markers replaced.

    :param name: of the page's file, for errors.
    :raises ValueError: if the markers are not present exactly once each, in this order.
    """
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(
            "%s: expected one line %r and one line %r; put them around the section"
            % (name, begin, end)
        )
    before, _, rest = page.partition(begin)
    _, separator, after = rest.partition(end)
    if not separator:
        raise ValueError("%s: %r must come before %r" % (name, begin, end))
    return "%s%s\n\n%s\n\n%s%s" % (before, begin, "\n".join(lines).rstrip("\n"), end, after)


def code(words: object) -> str:
    """Format words as code; bars are escaped, as GitHub requires in tables."""
    return "`%s`" % str(words).replace("|", "\\|")


def _escaped(words: str) -> str:
    # An underscore within a word is not markup.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", words)


def anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
