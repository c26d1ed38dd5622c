"""A report as one HTML page: no script, nothing loaded from elsewhere, every text escaped.

Its own policy (CSP) forbids both, should a text ever come through. It follows the reader's light or
dark, is read on a phone, and prints.
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
<footer>Made at %(made)s by synthralos.</footer>
</main>
</body>
</html>
"""


def render(report, most):
    """:param most: rows of a table, bars of a timeline and the like that are shown."""
    return _PAGE % {
        "title": _text(report.title),
        "style": STYLE,
        "kind": report.outcome.kind,
        "outcome": _cell(report.outcome),
        "subtitle": _text(report.subtitle),
        "where": _text(report.where),
        "facts": _cards(report.facts),
        "body": _sections(report.blocks, most),
        "made": _text(moment(report.made_at)),
    }


def _sections(blocks, most):
    parts, is_open = [], False
    for block in blocks:
        if isinstance(block, Heading):
            parts.append("%s<section><h2>%s</h2>" % (
                "</section>" if is_open else "", _text(block.text)))
            is_open = True
        else:
            parts.append(_BLOCKS[type(block)](block, most))
    return "\n".join(parts) + ("</section>" if is_open else "")


def _cards(rows):
    return '<dl class="cards">%s</dl>' % "".join(
        "<div><dt>%s</dt><dd>%s</dd></div>" % (_text(name), _cell(value)) for name, value in rows
    )


def _facts(block, most):
    return '<dl class="facts">%s</dl>' % "".join(
        "<dt>%s</dt><dd>%s</dd>" % (_text(name), _cell(value)) for name, value in block.rows[:most]
    )


def _steps(block, most):
    rows = "".join(
        "<li><span>%s</span>%s</li>" % (_text(text), " " + _cell(mark) if mark else "")
        for text, mark in block.rows[:most]
    )
    return "<ol>%s</ol>%s" % (rows, _more(block.rows, most))


def _table(block, most):
    head = "".join(
        "<th%s>%s</th>" % (_number(name, block), _text(name)) for name in block.columns
    )
    rows = "".join(
        "<tr>%s</tr>" % "".join(
            '<td%s data-label="%s">%s</td>' % (_number(name, block), _text(name), _cell(cell))
            for name, cell in zip(block.columns, row)
        )
        for row in block.rows[:most]
    )
    return "<table><thead><tr>%s</tr></thead><tbody>%s</tbody></table>%s" % (
        head, rows, _more(block.rows, most))


def _number(name, block):
    return ' class="number"' if name in block.numbers else ""


def _timeline(block, most):
    span = max(block.ended - block.began, 0.001)
    rows = []
    for bar in block.bars[:most]:
        left = _percent((bar.began - block.began) / span)
        width = _percent((bar.ended - bar.began) / span)
        took = duration(bar.ended - bar.began)
        told = "%s, %s" % (took, bar.note) if bar.note else took
        rows.append(
            '<li class="depth%d"><span class="label">%s</span><span class="track">'
            '<i class="%s" style="left:%s%%;width:%s%%"></i></span>'
            '<span class="note">%s</span></li>'
            % (min(bar.depth, 3), _text(bar.label), bar.kind, left, width, _text(told))
        )
    ticks = "".join(
        '<b style="left:%d%%">%s</b>' % (part, _text(duration(span * part / 100.0)))
        for part in (0, 25, 50, 75)
    )
    axis = '<li class="axis"><span class="label"></span><span class="track">%s</span>' \
        '<span class="note">%s</span></li>' % (ticks, _text(duration(span)))
    return '<ul class="timeline">%s%s</ul>%s' % (axis, "".join(rows), _more(block.bars, most))


def _percent(part):
    return ("%.2f" % (100.0 * min(1.0, max(0.0, part)))).rstrip("0").rstrip(".")


def _shares(block, most):
    largest = max([sum(n for _, n in parts) for _, parts, _ in block.rows] or [0]) or 1
    rows = []
    for label, parts, told in block.rows[:most]:
        drawn = "".join(
            '<i class="%s" style="width:%s%%"></i>' % (kind, _percent(float(n) / largest))
            for kind, n in parts if n
        )
        rows.append(
            '<li><span class="label">%s</span><span class="track">%s</span>'
            '<span class="note">%s</span></li>' % (_text(label), drawn, _text(told))
        )
    return '<ul class="shares">%s</ul>%s' % ("".join(rows), _more(block.rows, most))


_BLOCKS = {
    Text: lambda block, most: "<p>%s</p>" % _text(block.text),
    FactList: _facts,
    Steps: _steps,
    Table: _table,
    Timeline: _timeline,
    StackedBars: _shares,
    Diagram: lambda block, most: svg_diagram.svg(block, most, _text),
}


def _more(rows, most):
    if len(rows) <= most:
        return ""
    return '<p class="more">%d more are not shown.</p>' % (len(rows) - most)


def _cell(value):
    if isinstance(value, Status):
        sign = SIGNS.get(value.kind)
        sign = '<b aria-hidden="true">%s</b> ' % sign if sign else ""
        return '<span class="mark %s">%s%s</span>' % (value.kind, sign, _text(value.text))
    return "" if value is None else _text(str(value))


def _text(text):
    return escape(text, quote=True)
