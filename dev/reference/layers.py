"""The layers of the library as docs/architecture.md shows them: a diagram and a table.

They are written between two markers, so that the rest of the page stays as people wrote it.
"""
from __future__ import annotations

import re
from collections.abc import Iterable

import layers
from reference.markdown import code, replace_between, table
from reference.metadata import PACK

PAGE = PACK / "docs" / "architecture.md"
BEGIN = "<!-- layers: made by `make docs` from dev/layers.py -->"
END = "<!-- end of layers -->"


def section(rooms: Iterable[layers.Room] = layers.ROOMS) -> str:
    """The diagram and the table, without the markers; it ends in a line break."""
    rooms = list(rooms)
    lines = _diagram(rooms) + [""] + table(("level", "room", "what is in it"), [
        (str(level), code(_label(room)), room.contents)
        for level, on_level in layers.by_level(rooms) for room in on_level
    ])
    return "\n".join(lines)


def page(text: str, rooms: Iterable[layers.Room] = layers.ROOMS) -> str:
    """`text`, the page as it is, with the section between its markers replaced.

    :raises ValueError: if the markers are not present exactly once each, in this order.
    """
    return replace_between(text, BEGIN, END, section(rooms).split("\n"), PAGE.name)


def _diagram(rooms: list[layers.Room]) -> list[str]:
    """A box for each level, the highest on top, and an arrow to the next one below."""
    levels = list(layers.by_level(rooms))
    lines = ["```mermaid", "flowchart TD"]
    for level, on_level in levels:
        lines.append('    subgraph level%d["level %d"]' % (level, level))
        lines.append("        direction LR")
        lines += [
            '        %s["%s"]' % (re.sub(r"\W", "_", room.name), _label(room)) for room in on_level
        ]
        lines.append("    end")
    lines += [
        "    level%d --> level%d" % (upper[0], lower[0])
        for upper, lower in zip(levels, levels[1:])
    ]
    return lines + ["```"]


def _label(room: layers.Room) -> str:
    return room.name if room.name.endswith(".py") else room.name + "/"
