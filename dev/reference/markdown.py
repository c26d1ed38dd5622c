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


def code(words: object) -> str:
    """Format words as code; bars are escaped, as GitHub requires in tables."""
    return "`%s`" % str(words).replace("|", "\\|")


def _escaped(words: str) -> str:
    # An underscore within a word is not markup.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", words)


def anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
