"""A report as Markdown, as GitHub and most tickets read it."""

import re

from synthralos.reports.document import (
    BAD,
    SIGNS,
    WAIT,
    Diagram,
    FactList,
    Heading,
    StackedBars,
    Status,
    Steps,
    Table,
    Text,
    Timeline,
    duration,
    moment,
)

# What Markdown or HTML within it would act on, wherever it stands.
_ACTIVE = re.compile(r"([\\`*_\[\]<>|~#&!])")
_WIDTH = 40


def render(report, most):
    """:param most: rows of a table, bars of a timeline and the like that are shown."""
    lines = ["# " + _text(report.title), "", "%s. %s" % (
        _cell(report.outcome), _text(report.subtitle)), ""]
    lines += ([_text(report.where), ""] if report.where else []) + _facts(report.facts)
    for block in report.blocks:
        lines += [""] + _BLOCKS[type(block)](block, most)
    lines += ["", "Made at %s by synthralos." % moment(report.made_at)]
    return "\n".join(lines) + "\n"


def _facts(rows):
    return ["- %s: %s" % (_text(name), _cell(value)) for name, value in rows]


def _table(table, most):
    lines = [
        _row(table.columns),
        "|" + "|".join("---:" if name in table.numbers else "---" for name in table.columns) + "|",
    ]
    lines += [_row(row) for row in table.rows[:most]]
    return lines + _more(table.rows, most)


def _steps(steps, most):
    lines = [
        "%d. %s%s" % (n, _text(text), " (%s)" % _cell(mark) if mark else "")
        for n, (text, mark) in enumerate(steps.rows[:most], 1)
    ]
    return lines + _more(steps.rows, most)


def _timeline(timeline, most):
    """Bars of text, in a block of code, where nothing is escaped and nothing acts."""
    span = max(timeline.ended - timeline.began, 0.001)
    lines = []
    for bar in timeline.bars[:most]:
        start = min(_WIDTH - 1, int(_WIDTH * (bar.began - timeline.began) / span))
        length = max(1, round(_WIDTH * (bar.ended - bar.began) / span))
        sign = {BAD: "x", WAIT: "."}.get(bar.kind, "#")
        drawn = (" " * start + sign * length)[:_WIDTH].ljust(_WIDTH)
        label = _plain("  " * bar.depth + bar.label)[:34].ljust(34)
        told = "%s %s" % (duration(bar.ended - bar.began), bar.note)
        lines.append("%s |%s| %s" % (label, drawn, _plain(told).strip()))
    return ["```text"] + lines + ["```"] + _more(timeline.bars, most)


def _shares(shares, most):
    return [
        "- %s: %s%s" % (
            _text(label),
            ", ".join("%s%s" % (_sign(kind), number) for kind, number in parts),
            " (%s)" % _text(told) if told else "",
        )
        for label, parts, told in shares.rows[:most]
    ] + _more(shares.rows, most)


def _diagram(diagram, most):
    lines = [
        "%d. %s → %s%s" % (n, _text(a), _text(b), ": " + _text(what) if what else "")
        for n, (a, b, what) in enumerate(diagram.moves[:most], 1)
    ]
    return lines + _more(diagram.moves, most)


_BLOCKS = {
    Heading: lambda block, most: ["## " + _text(block.text)],
    Text: lambda block, most: [_text(block.text)],
    FactList: lambda block, most: _facts(block.rows),
    Steps: _steps,
    Table: _table,
    Timeline: _timeline,
    StackedBars: _shares,
    Diagram: _diagram,
}


def _more(rows, most):
    return ["", "%d more are not shown." % (len(rows) - most)] if len(rows) > most else []


def _row(cells):
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value):
    if isinstance(value, Status):
        return _sign(value.kind) + _text(value.text)
    return "" if value is None else _text(str(value))


def _sign(kind):
    return SIGNS[kind] + " " if kind in SIGNS else ""


def _text(text):
    return _ACTIVE.sub(r"\\\1", " ".join(text.split()))


def _plain(text):
    return text.replace("```", "'''").replace("\n", " ")
