"""What of Markdown the reference needs."""
from __future__ import annotations

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; none when there are no rows. Cells are Markdown already."""
    if not rows:
        return []
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    return lines + ["| %s |" % " | ".join(row) for row in rows] + [""]


def text(words: object) -> str:
    """Text from the metadata as a cell or a line shows it: only its pairs of backquotes are markup.
    """
    parts = " ".join(str(words or "").split()).split("`")
    if len(parts) % 2 == 0:
        return _escaped("`".join(parts))
    return "".join(code(part) if index % 2 else _escaped(part) for index, part in enumerate(parts))


def code(words: object) -> str:
    """Words in code; a table's own bar is escaped, which GitHub takes in code too."""
    return "`%s`" % str(words).replace("|", "\\|")


def _escaped(words: str) -> str:
    # Within a word an underscore is none of Markdown's marks.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", words)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading to link to it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
