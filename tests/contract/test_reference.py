"""docs/reference.md is what the metadata says, and complete."""
import re

import pytest
from fixtures import PACK
from pack_files import ACTIONS, all_parameters, metadata, read

from reference import markdown
from reference.__main__ import PAGE, page


def test_the_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_it_names_everything():
    text = page()
    headings = set(re.findall(r"^### (\S+)$", text, re.M))
    assert set(ACTIONS) <= headings
    assert {
        "synthralos." + trigger["name"] for trigger in metadata("triggers").values()
    } <= headings
    for kind in ("sensors", "rules", "policies", "aliases"):
        for name, document in metadata(kind).items():
            label = document.get("class_name") or document["name"]
            assert "[`%s`](../%s/%s)" % (label, kind, name) in text
    for name in read("config.schema.yaml"):
        assert "### Configuration: %s\n" % name in text


def test_each_action_shows_its_parameters():
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page(), re.M | re.S))
    for action, name, spec in all_parameters():
        assert ("| `%s`" % name in sections[action]) != bool(spec.get("immutable"))


def test_its_links_lead_somewhere():
    text = page()
    anchors = {markdown.anchor(words) for words in re.findall(r"^#+ (.+)$", text, re.M)}
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors
        else:
            assert (PACK / "docs" / link).is_file()


@pytest.mark.parametrize("words, expected", [
    ("a | b", r"a \| b"),
    ("base64:<text> *", r"base64:\<text\> \*"),
    ("max_retries of _it_", r"max_retries of \_it\_"),
    ("give `a|b` or `c_d`", r"give `a\|b` or `c_d`"),
    ("one ` alone", r"one \` alone"),
    ("two\n lines ", "two lines"),
    (None, ""),
])
def test_text_is_shown_as_it_is(words, expected):
    assert markdown.text(words) == expected


def test_a_table():
    assert markdown.table(("a", "b"), [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |", ""]
    assert markdown.table(("a",), []) == []
