"""The forms of a report: that hostile text stays text, and that a body is bounded."""

import re
from html.parser import HTMLParser

import hypothesis
import pytest
from hypothesis import strategies

from synthralos.reports import html, markdown, render
from synthralos.reports.document import (
    BAD,
    GOOD,
    WAIT,
    Bar,
    Diagram,
    FactList,
    Report,
    StackedBars,
    Status,
    Steps,
    Table,
    Text,
    Timeline,
    duration,
    share,
)

NOW = 1_700_000_000.0
HOSTILE = (
    "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", '" onload="alert(1)',
    "']]>", "javascript:alert(1)", "| a | b |", "```", "[x](http://evil.example.com)",
    "![x](http://evil.example.com/x.png)", "# no heading", "&lt;b&gt;", "\u202eright to left",
)
# What a report is made of, and nothing that could load or run anything.
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "p", "h1", "h2", "dl",
    "div", "dt", "dd", "section", "span", "b", "i", "ol", "ul", "li", "table", "thead", "tbody",
    "tr", "th", "td", "footer", "svg", "defs", "marker", "path", "g", "rect", "text",
}
VOID = {"meta"}


class Reader(HTMLParser):
    """Reads a page; checks that what is opened is closed, and keeps what there is."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self._open = set(), [], [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text.append(data)


def report(text="a text", rows=3):
    built = Report(
        text, text, Status(GOOD, text), [(text, text), (text, Status(BAD, text))], NOW, text
    )
    built.add(
        text,
        Text(text),
        FactList([(text, text)]),
        Steps([(text, Status(WAIT, text)), (text, None)]),
        Table([text, "Took"], [[text, 3], [Status(BAD, text), None]] * rows, ("Took",)),
        Timeline(
            NOW, NOW + 10, [Bar(text, GOOD, NOW + 1, NOW + 2, text, n % 5) for n in range(rows)]
        ),
        StackedBars([(text, [(GOOD, 3), (BAD, 0)], text)]),
        Diagram(
            [text, "B", "C"],
            [(text, "B", text), ("B", text, text), (text, "C", text), ("C", "C", text)],
            Status(BAD, "C"),
        ),
    )
    return built


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_holds_hostile_text_as_text(text):
    read = Reader(html.render(report(text), 100))
    assert read.tags <= TAGS
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in read.attributes)
    assert read.text.count(text) >= 10


@hypothesis.given(strategies.text(max_size=60))
def test_a_page_stands_whatever_the_text_is(text):
    assert Reader(html.render(report(text), 100)).tags <= TAGS


def test_a_page_loads_nothing():
    page = html.render(report(), 100)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|url\((?!#)|@import|<script|<link|<img|<iframe", page)
    urls = [value for name, value in Reader(page).attributes
            if name == "marker-end"]
    assert set(urls) == {"url(#tip)"}


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_holds_hostile_text_as_text(text):
    body = markdown.render(report(text), 100)
    outside = re.sub(r"```text\n.*?\n```", "", body, flags=re.S)
    assert not re.search(r"(?<!\\)[<>`!\[\]]", outside)
    assert body.count("```") == 2
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {3}


def test_line_breaks_make_no_blocks():
    body = markdown.render(report("one\n# two\n\n- three"), 100)
    assert len([line for line in body.splitlines() if line.startswith("#")]) == 2


def test_what_is_too_much_is_left_out_and_told():
    for form in render.FORMATS:
        body = render.render(report("x" * 400, rows=2000), form)
        assert len(body.encode()) <= render.MAX_REPORT_BYTES
        assert re.search(r"\d+ more not shown", body)
        assert "not shown" not in render.render(report(), form)


@pytest.mark.parametrize("seconds, expected", (
    (0, "0 ms"), (0.34, "340 ms"), (2.46, "2.5 s"), (200, "3 min 20 s"), (120, "2 min"),
    (7500, "2 h 5 min"), (3 * 86400 + 7200, "3 d 2 h"), (None, "?"),
))
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_shares():
    assert (share(2, 3), share(0, 0)) == ("67 %", "–")
