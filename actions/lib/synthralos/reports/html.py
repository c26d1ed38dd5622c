"""Renders a report as a single HTML page: no scripts, no external resources, every text escaped.

The page's Content-Security-Policy forbids scripts and loading, should a text ever slip through. It
supports light and dark mode, phones and printing.
"""

from html import escape

from synthralos.reports import svg_diagram
from synthralos.reports.document import (
    SIGNS,
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
from synthralos.reports.style import STYLE

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%(title)s</title>
<style>%(style)s</style>
</head>
<body>
<main>
<header class="%(kind)s">
<p class="outcome">%(outcome)s</p>
<h1>%(title)s</h1>
<p class="subtitle">%(subtitle)s</p>
<p class="where">%(where)s</p>
</header>
%(facts)s
%(body)s
<footer>Generated at %(made)s by synthralos.</footer>
</main>
</body>
</html>
"""


def render(report, max_rows):
    """Render a report.

    :param max_rows: maximum number of rows per table, bars per timeline and the like.
    """
    return _PAGE % {
        "title": _text(report.title),
        "style": STYLE,
        "kind": report.outcome.kind,
        "outcome": _cell(report.outcome),
        "subtitle": _text(report.subtitle),
        "where": _text(report.location),
        "facts": _cards(report.facts),
        "body": _sections(report.blocks, max_rows),
        "made": _text(moment(report.made_at)),
    }


def _sections(blocks, max_rows):
    parts, is_open = [], False
    for block in blocks:
        if isinstance(block, Heading):
            parts.append("%s<section><h2>%s</h2>" % (
                "</section>" if is_open else "", _text(block.text)))
            is_open = True
        else:
            parts.append(_BLOCKS[type(block)](block, max_rows))
    return "\n".join(parts) + ("</section>" if is_open else "")


def _cards(rows):
    return '<dl class="cards">%s</dl>' % "".join(
        "<div><dt>%s</dt><dd>%s</dd></div>" % (_text(name), _cell(value)) for name, value in rows
    )


def _facts(block, max_rows):
    return '<dl class="facts">%s</dl>' % "".join(
        "<dt>%s</dt><dd>%s</dd>" % (_text(name), _cell(value))
        for name, value in block.rows[:max_rows]
    )


def _steps(block, max_rows):
    rows = "".join(
        "<li><span>%s</span>%s</li>" % (_text(text), " " + _cell(mark) if mark else "")
        for text, mark in block.rows[:max_rows]
    )
    return "<ol>%s</ol>%s" % (rows, _more(block.rows, max_rows))


def _table(block, max_rows):
    head = "".join(
        "<th%s>%s</th>" % (_number(name, block), _text(name)) for name in block.columns
    )
    rows = "".join(
        "<tr>%s</tr>" % "".join(
            '<td%s data-label="%s">%s</td>' % (_number(name, block), _text(name), _cell(cell))
            for name, cell in zip(block.columns, row)
        )
        for row in block.rows[:max_rows]
    )
    return "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table>%s" % (
        head, rows, _more(block.rows, max_rows))


def _number(name, block):
    return ' class="number"' if name in block.numbers else ""


def _timeline(block, max_rows):
    span = max(block.ended_at - block.started_at, 0.001)
    rows = []
    for bar in block.bars[:max_rows]:
        left_percent = _percent((bar.started_at - block.started_at) / span)
        width = _percent((bar.ended_at - bar.started_at) / span)
        elapsed = duration(bar.ended_at - bar.started_at)
        note = "%s, %s" % (elapsed, bar.note) if bar.note else elapsed
        rows.append(
            '<li class="depth%d"><span class="label">%s</span><span class="track">'
            '<i class="%s" style="left:%s%%;width:%s%%"></i></span>'
            '<span class="note">%s</span></li>'
            % (min(bar.depth, 3), _text(bar.label), bar.kind, left_percent, width, _text(note))
        )
    ticks = "".join(
        '<b style="left:%d%%">%s</b>' % (part, _text(duration(span * part / 100.0)))
        for part in (0, 25, 50, 75)
    )
    axis = '<li class="axis"><span class="label"></span><span class="track">%s</span>' \
        '<span class="note">%s</span></li>' % (ticks, _text(duration(span)))
    return '<ul class="timeline">%s%s</ul>%s' % (axis, "".join(rows), _more(block.bars, max_rows))


def _percent(part):
    return ("%.2f" % (100.0 * min(1.0, max(0.0, part)))).rstrip("0").rstrip(".")


def _shares(block, max_rows):
    largest = max([sum(number for _, number in parts) for _, parts, _ in block.rows] or [0]) or 1
    rows = []
    for label, parts, note in block.rows[:max_rows]:
        drawn = "".join(
            '<i class="%s" style="width:%s%%"></i>' % (kind, _percent(float(number) / largest))
            for kind, number in parts if number
        )
        rows.append(
            '<li><span class="label">%s</span><span class="track">%s</span>'
            '<span class="note">%s</span></li>' % (_text(label), drawn, _text(note))
        )
    return '<ul class="shares">%s</ul>%s' % ("".join(rows), _more(block.rows, max_rows))


_BLOCKS = {
    Text: lambda block, max_rows: "<p>%s</p>" % _text(block.text),
    FactList: _facts,
    Steps: _steps,
    Table: _table,
    Timeline: _timeline,
    StackedBars: _shares,
    Diagram: lambda block, max_rows: svg_diagram.svg(block, max_rows, _text),
}


def _more(rows, max_rows):
    if len(rows) <= max_rows:
        return ""
    return '<p class="more">%d more not shown.</p>' % (len(rows) - max_rows)


def _cell(value):
    if isinstance(value, Status):
        sign = SIGNS.get(value.kind)
        sign = '<b aria-hidden="true">%s</b> ' % sign if sign else ""
        return '<span class="mark %s">%s%s</span>' % (value.kind, sign, _text(value.text))
    return "" if value is None else _text(str(value))


def _text(text):
    return escape(text, quote=True)
