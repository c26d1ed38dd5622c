"""docs/failures.md shows the table of causes and every failure of the corpus."""
import re

import pytest
from fixtures import corpus

from reference import failures
from reference.markdown import code, excerpt, replace_between
from synthralos.core.causes import CAUSES
from synthralos.core.retry_hints import MAX_HINT_SECONDS, MAX_UNDATED_SECONDS

MAX_BYTES = 60_000
TEXT = failures.PAGE.read_text(encoding="utf-8")
FAILED = [entry for entry in corpus.load() if entry.cause is not None]


def section(begin, end):
    return TEXT.partition(begin)[2].partition(end)[0]


def test_the_page_is_current():
    assert failures.page(TEXT) == TEXT, "run `make docs`"
    assert len(TEXT.encode("utf-8")) <= MAX_BYTES


def test_each_cause_has_a_row_that_says_what_follows():
    rows = [
        line.strip("| ").split(" | ")
        for line in section(failures.CAUSES_BEGIN, failures.CAUSES_END).splitlines()
        if line.startswith("| `")
    ]
    assert [row[0] for row in rows] == [code(name) for name in CAUSES]
    for row, cause in zip(rows, CAUSES.values()):
        scope = cause.speaks_of
        assert row[2:9] == [
            scope.subject, scope.same_target, scope.same_account, scope.same_address,
            scope.same_host, scope.same_provider, scope.other_providers,
        ]
        flags = {True: "yes", False: "no"}
        assert row[9:] == [
            flags[cause.may_have_taken_effect], flags[cause.counts_for_breaker],
            flags[cause.is_redrivable],
        ]


def test_each_provider_of_the_corpus_has_its_failures():
    parts = re.split(
        r"^### (.+)$", section(failures.RESPONSES_BEGIN, failures.RESPONSES_END), flags=re.M
    )
    tables = dict(zip(parts[1::2], parts[2::2]))
    assert set(failures.PROVIDERS) == {entry.provider for entry in FAILED}
    assert list(tables) == list(failures.PROVIDERS.values())
    for entry in FAILED:
        rows = [
            row for row in tables[failures.PROVIDERS[entry.provider]].splitlines()
            if row.startswith("| %d | " % entry.status) and "](%s)" % entry.source.url in row
        ]
        hint = "no" if entry.hint_seconds is None else "yes"
        assert any("| `%s` | %s |" % (entry.cause, hint) in row for row in rows), entry.id


def test_the_bounds_of_hints_are_those_of_the_library():
    words = " ".join(TEXT.split())
    assert (MAX_UNDATED_SECONDS, MAX_HINT_SECONDS) == (3600, 24 * 3600)
    assert "at most an hour" in words and "at most 24 hours" in words


@pytest.mark.parametrize("words, expected", [
    ("short", "short"),
    ("two\n lines", "two lines"),
    ("a sentence that is too long", "a sentence..."),
    ("wordwithoutanyspaceinit", "wordwithoutany..."),
])
def test_an_excerpt_ends_with_a_word(words, expected):
    assert excerpt(words, 17) == expected


def test_only_what_is_between_the_markers_is_replaced():
    assert replace_between("a\n<b>\nold\n<e>\nz\n", "<b>", "<e>", ["x", ""], "page.md") == (
        "a\n<b>\n\nx\n\n<e>\nz\n"
    )
    for page in ("<b>", "<e>", "<e><b>", "<b><b><e>"):
        with pytest.raises(ValueError, match="page.md"):
            replace_between(page, "<b>", "<e>", [], "page.md")
