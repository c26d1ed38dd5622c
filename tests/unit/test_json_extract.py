"""The one JSON value in the text of a model or an agent."""
import json

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from synthralos.core import bounded_json
from synthralos.core.json_extract import (
    MAX_OUTPUT_BYTES,
    MAX_VALUES,
    NoJson,
    extract,
    find_values,
    parse_whole,
)

T = {"title": "T"}
TEXT = '{"title": "T"}'


def has_title(value):
    return isinstance(value, dict) and isinstance(value.get("title"), str)


@pytest.mark.parametrize("text", [
    TEXT, "\n %s \n" % TEXT, "\ufeff" + TEXT,
    "```json\n%s\n```" % TEXT, "```JSON\n%s\n```" % TEXT, "```\n%s\n```" % TEXT,
    "```json\n%s```" % TEXT, "```json %s```" % TEXT, "```%s```" % TEXT, "~~~json\n%s\n~~~" % TEXT,
    "````json\n%s\n````" % TEXT, "```json5\r\n%s\r\n```" % TEXT,
    '<think>maybe {"draft": true}</think>\n' + TEXT,
    '<think>maybe {"draft": true}</think>\n```json\n%s\n```' % TEXT,
    '<THINKING>so "}</Thinking>' + TEXT, '<reasoning effort="high">so</reasoning>' + TEXT,
    '<think>a<think>{"b": 1}</think>{"c": 1}</think>' + TEXT,
    'maybe {"draft": true} or so\n</think>\n\n' + TEXT, 'a "b {"c" </think>' + TEXT,
    TEXT + "<think>was that right?</think>", "<think>" + TEXT,
])
def test_a_text_that_is_json_apart_from_tags_and_fences(text):
    assert parse_whole(text) == T and find_values(text) == [T] and extract(text) == T


@pytest.mark.parametrize("text", [
    "Here is the JSON you asked for:\n```json\n%s\n```" % TEXT,
    "```json\n%s\n```\nTell me if you need more." % TEXT, "It is %s." % TEXT,
    "Use {name} and {0}, as in [this link](x): %s" % TEXT, "a { or so: " + TEXT,
    "{%s}" % TEXT, "\\boxed{%s}" % TEXT, "for x in [0, 1) it is %s" % TEXT,
    "[Answer: %s]" % TEXT, 'Not {"a" alone: %s' % TEXT, "{single: 'quotes'} " + TEXT,
    "[INST] go [/INST] " + TEXT, "say \"{\" and then " + TEXT, "[nothing] " + TEXT,
])
def test_the_one_value_with_words_around_it(text):
    assert extract(text) == T and find_values(text) == [T]
    with pytest.raises(NoJson):
        parse_whole(text)


@pytest.mark.parametrize("value", [
    {"title": "<think>x</think>"}, {"title": "</think>"}, ["```json\n{}\n```"],
    {"title": "a <reasoning> b"}, "<think>x</think>", {"a": "```"}, "say {}", {"a": "\\\"}"},
])
@pytest.mark.parametrize("shape", ["%s", "```json\n%s\n```", "<think>{}</think>%s", "</think> %s"])
def test_tags_and_fences_inside_a_value_belong_to_it(value, shape):
    text = shape % json.dumps(value)
    assert extract(text) == value and parse_whole(text) == value


@pytest.mark.parametrize("text, value", [
    ("5", 5), ("true", True), ('"x"', "x"), ("null", None), ("<think>2 or 3</think> 3", 3),
    ("```\ntrue\n```", True), ("```true```", True), ("```json\n-0.5\n```", -0.5), ("[]", []),
])
def test_a_whole_text_may_be_any_value(text, value):
    assert parse_whole(text) == value and find_values(text) == [value]


@pytest.mark.parametrize("text", [
    "", " ", "prose", "It is 5.", "He said \"yes\".", "true or false", "```json\n```", "``` ```",
    "<think>%s</think>" % TEXT, "<think>%s</think> I do not know." % TEXT, TEXT + "</think>",
    '{"a": NaN}', "[Infinity]", '{"a": -Infinity}', '{"a": 1e999}', "[1%s]" % ("0" * 400),
    "NaN", "1e999", 'x {"a": NaN, "b": {"title": "T"}}', 'x [{"title": "T"}, 1e999] y',
    '{"items": [{"title": "A"}, {"title": "B"}', 'It is {"items": [{"title": "A"}',
    '{"a": {"title": "T"}', '{"a": {"title": "T"}, ...}', "{'a': {\"title\": \"T\"}}",
    "{a: %s}" % TEXT, '{"title": "T', '["a", {"title": "T"},, 5]',
    "[" * 200 + "]" * 200, "x " + "[" * 200 + "]" * 200, '{"a":' * 5000 + "1" + "}" * 5000,
    "[" * 50_000, '{"a":' * 50_000,
])
def test_what_contains_no_json(text):
    assert find_values(text) == []
    for is_valid in (None, has_title, lambda value: True):
        with pytest.raises(NoJson):
            extract(text, is_valid)
    with pytest.raises(NoJson):
        parse_whole(text)


@pytest.mark.parametrize("text", [
    '{"title": "A"} {"title": "T"}', '{"title": "A"}\n```json\n{"title": "T"}\n``` [1]',
    '{"title": "T"} instead of {"name": "T"}', 'see [1]: {"title": "T"}',
    '{"title": "T"}\n{"title": 5}',
])
def test_of_several_values_the_last_valid_one_is_meant(text):
    assert extract(text, has_title) == T
    with pytest.raises(NoJson):
        extract(text)


def test_only_the_last_values_are_validated():
    calls = []
    with pytest.raises(NoJson):
        extract('{"title": "T"} ' + "[] " * MAX_VALUES, lambda value: calls.append(value))
    assert len(calls) == MAX_VALUES


def test_a_large_text_is_not_searched():
    fits = "x" * (MAX_OUTPUT_BYTES - len(TEXT)) + TEXT
    assert find_values(fits) == [T] and find_values("x" + fits) == []
    assert find_values("é" * (MAX_OUTPUT_BYTES // 2) + TEXT) == []
    assert find_values(json.dumps(["x" * MAX_OUTPUT_BYTES])) == [["x" * MAX_OUTPUT_BYTES]]


def test_a_value_at_the_greatest_depth():
    text = "[" * bounded_json.MAX_DEPTH + "1" + "]" * bounded_json.MAX_DEPTH
    assert len(find_values("x " + text)) == 1 and find_values("x [%s]" % text) == []


@pytest.mark.parametrize("unit", [
    "{", "[", '{"a":', "[0) ", "[[{", '{"a" ', "<think>", "</think>", '<think></think>"', '"{"',
    '{"\\"', '\\"', '{"a" <think>', "{}", "`", "{x:", "[1e99,",
])
def test_a_hostile_text_is_read_to_its_end(unit):
    text = (unit * (MAX_OUTPUT_BYTES // len(unit)))[:MAX_OUTPUT_BYTES]
    assert all(value in ({}, []) for value in find_values(text))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) |
    st.text() | st.sampled_from(["<think>", "</think>", "```", "{", "}", '"', "\\", "[1]"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)
PROSE = st.text(st.characters(exclude_characters="{[<`\"", exclude_categories=["Cs"]), max_size=50)
REASONING = st.builds(
    "<{0}>{1}</{0}>".format, st.sampled_from(["think", "thinking", "Reasoning"]),
    st.text(st.characters(exclude_characters="<"), max_size=50),
)
FENCES = st.sampled_from(["%s", "```json\n%s\n```", "```JSON\n%s```", "```%s```", "~~~\n%s\n~~~"])


@settings(max_examples=500)
@hypothesis.given(
    OBJECTS, PROSE, st.just("") | REASONING, FENCES, PROSE, st.none() | st.integers(0, 4)
)
def test_an_object_between_words_comes_out_equal(value, before, reasoning, fence, after, indent):
    text = before + reasoning + fence.replace("%s", json.dumps(value, indent=indent)) + after
    assert extract(text) == value and extract(text, lambda candidate: candidate == value) == value


@settings(max_examples=500)
@hypothesis.given(VALUES, st.just("") | REASONING, st.sampled_from(["%s", "```json\n%s\n```"]))
def test_a_whole_value_comes_out_equal(value, reasoning, fence):
    assert parse_whole(reasoning + fence.replace("%s", json.dumps(value))) == value


PIECES = st.lists(st.text(max_size=8) | st.sampled_from([
    "<think>", "</think>", "</reasoning>", "```", "~~~", "{", "}", "[", "]", '"', "\\", ":", ",",
    '{"a":', "1e999", "NaN", "\ud800", '{"a": 1}', "{a:", "<think ",
]), max_size=30).map("".join)


@settings(max_examples=1000)
@hypothesis.example("\\")
@hypothesis.given(PIECES)
def test_any_text_has_values_or_none(text):
    for value in find_values(text):
        assert json.loads(json.dumps(value, allow_nan=False)) == value
        assert not bounded_json.exceeds_depth(value)
    for read in (extract, parse_whole, lambda text: extract(text, has_title)):
        try:
            read(text)
        except NoJson as error:
            assert str(error)
