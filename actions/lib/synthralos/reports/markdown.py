"""Renders a report as Markdown, for GitHub and most ticket systems."""

import re
from collections.abc import Sequence
from typing import Any, Callable

from synthralos.reports.document import (
    BAD,
    SIGNS,
    WAIT,
    Cell,
    Diagram,
    Fact,
    FactList,
    Heading,
    Report,
    StackedBars,
    Status,
    Steps,
    Table,
    Text,
    Timeline,
    duration,
    moment,
)

# Characters with a meaning in Markdown, or in HTML within it, at any position.
_ACTIVE = re.compile(r"([\\`*_\[\]<>|~#&!])")
_WIDTH = 40


def render(report: Report, max_rows: int) -> str:
    """Render a report.

    :param max_rows: maximum number of rows per table, bars per timeline and the like.
    """
    lines = ["# " + _text(report.title), "", "%s. %s" % (
        _cell(report.outcome), _text(report.subtitle)), ""]
    lines += ([_text(report.location), ""] if report.location else []) + _facts(report.facts)
    for block in report.blocks:
        lines += [""] + _BLOCKS[type(block)](block, max_rows)
    lines += ["", "Generated at %s by synthralos." % moment(report.made_at)]
    return "\n".join(lines) + "\n"


def _facts(rows: Sequence[Fact]) -> list[str]:
    return ["- %s: %s" % (_text(name), _cell(value)) for name, value in rows]


def _table(table: Table, max_rows: int) -> list[str]:
    lines = [
        _row(table.columns),
        "|" + "|".join("---:" if name in table.numbers else "---" for name in table.columns) + "|",
    ]
    lines += [_row(row) for row in table.rows[:max_rows]]
    return lines + _more(table.rows, max_rows)


def _steps(steps: Steps, max_rows: int) -> list[str]:
    lines = [
        "%d. %s%s" % (n, _text(text), " (%s)" % _cell(mark) if mark else "")
        for n, (text, mark) in enumerate(steps.rows[:max_rows], 1)
    ]
    return lines + _more(steps.rows, max_rows)


def _timeline(timeline: Timeline, max_rows: int) -> list[str]:
    """Draw bars of text in a code block, where nothing needs to be escaped."""
    span = max(timeline.ended_at - timeline.started_at, 0.001)
    lines = []
    for bar in timeline.bars[:max_rows]:
        start = min(_WIDTH - 1, int(_WIDTH * (bar.started_at - timeline.started_at) / span))
        length = max(1, round(_WIDTH * (bar.ended_at - bar.started_at) / span))
        sign = {BAD: "x", WAIT: "."}.get(bar.kind, "#")
        drawn = (" " * start + sign * length)[:_WIDTH].ljust(_WIDTH)
        label = _plain("  " * bar.depth + bar.label)[:34].ljust(34)
        note = "%s %s" % (duration(bar.ended_at - bar.started_at), bar.note)
        lines.append("%s |%s| %s" % (label, drawn, _plain(note).strip()))
    return ["```text"] + lines + ["```"] + _more(timeline.bars, max_rows)


def _shares(shares: StackedBars, max_rows: int) -> list[str]:
    return [
        "- %s: %s%s" % (
            _text(label),
            ", ".join("%s%s" % (_sign(kind), number) for kind, number in parts),
            " (%s)" % _text(note) if note else "",
        )
        for label, parts, note in shares.rows[:max_rows]
    ] + _more(shares.rows, max_rows)


def _diagram(diagram: Diagram, max_rows: int) -> list[str]:
    lines = [
        "%d. %s → %s%s" %
        (number, _text(from_state), _text(to_state), ": " + _text(action) if action else "")
        for number, (from_state, to_state, action) in enumerate(diagram.moves[:max_rows], 1)
    ]
    return lines + _more(diagram.moves, max_rows)


_BLOCKS: dict[type, Callable[[Any, int], list[str]]] = {
    Heading: lambda block, max_rows: ["## " + _text(block.text)],
    Text: lambda block, max_rows: [_text(block.text)],
    FactList: lambda block, max_rows: _facts(block.rows),
    Steps: _steps,
    Table: _table,
    Timeline: _timeline,
    StackedBars: _shares,
    Diagram: _diagram,
}


def _more(rows: Sequence[object], max_rows: int) -> list[str]:
    return ["", "%d more not shown." % (len(rows) - max_rows)] if len(rows) > max_rows else []


def _row(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: Cell) -> str:
    if isinstance(value, Status):
        return _sign(value.kind) + _text(value.text)
    return "" if value is None else _text(str(value))


def _sign(kind: str) -> str:
    return SIGNS[kind] + " " if kind in SIGNS else ""


def _text(text: str) -> str:
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def _plain(text: str) -> str:
    return text.replace("```", "'''").replace("\n", " ")
