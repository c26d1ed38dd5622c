"""Renders a report as a single HTML page: no scripts, no external resources, every text escaped.

The page is templates/report.html.j2, its style templates/report.css. Texts of a report are values
that Jinja2 escapes, never a part of the template. The page's Content-Security-Policy forbids
scripts and loading, should a text ever slip through. It supports light and dark mode, phones and
printing.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from synthralos.reports import svg_diagram
from synthralos.reports.document import (
    SIGNS,
    Block,
    Heading,
    Report,
    StackedBars,
    Status,
    Timeline,
    duration,
    moment,
)

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).resolve().parent / "templates"
# Shorter timelines are drawn as if they took this long: nothing can be divided by 0 seconds.
MIN_SPAN_SECONDS = 0.001


def render(report: Report, max_rows: int) -> str:
    """Render a report.

    :param max_rows: maximum number of rows per table, bars per timeline and the like.
    """
    return _template().render(
        report=report,
        sections=_sections(report.blocks),
        max_rows=max_rows,
        signs=SIGNS,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_TEMPLATES)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["status"] = lambda value: isinstance(value, Status)
    environment.filters.update(
        drawing=svg_diagram.draw,
        duration=duration,
        kind=lambda block: type(block).__name__,
        largest=_largest,
        moment=moment,
        percent=_percent,
        span=_span,
    )
    return environment.get_template("report.html.j2")


def _sections(blocks: list[Block]) -> list[tuple[str, list[Block]]]:
    """Group the blocks of a report under their headings."""
    sections: list[tuple[str, list[Block]]] = []
    for block in blocks:
        if isinstance(block, Heading):
            sections.append((block.text, []))
        else:
            sections[-1][1].append(block)
    return sections


def _span(timeline: Timeline) -> float:
    return max(timeline.ended_at - timeline.started_at, MIN_SPAN_SECONDS)


def _largest(bars: StackedBars) -> int:
    """Return the total of the longest bar, at least 1."""
    totals = [sum(number for _, number in parts) for _, parts, _ in bars.rows]
    return max(totals, default=0) or 1


def _percent(part: float) -> str:
    """Format a part of 1 in percent, cut to 0 to 100."""
    return ("%.2f" % (100.0 * min(1.0, max(0.0, part)))).rstrip("0").rstrip(".")
