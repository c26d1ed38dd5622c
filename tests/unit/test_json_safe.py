import json
import math

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core.json_safe import to_json_safe

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) |
    st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) |
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), inner,
                    max_size=4),
    max_leaves=10,
)
ANY_TEXT = st.text(st.characters())


@hypothesis.given(PLAIN)
def test_what_is_storable_stays_as_it_is(value):
    assert to_json_safe(value) == value


@hypothesis.given(ANY_TEXT)
def test_text_becomes_valid_utf8(text):
    to_json_safe(text).encode("utf-8")


@pytest.mark.parametrize(
    "text, expected",
    [("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("x\ud83d", "x\ufffd"), ("\ufeffa", "\ufeffa")]
)
def test_a_lone_surrogate_is_replaced(text, expected):
    assert to_json_safe(text) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number_becomes_null(value):
    assert to_json_safe([value]) == [None]


def test_an_integer_beyond_64_bits_becomes_text():
    assert to_json_safe(2**63) == str(2**63)
    assert to_json_safe(2**63 - 1) == 2**63 - 1


def test_keys_become_text_without_nul():
    assert to_json_safe({"a\x00b": 1, 5: 2}) == {"a\ufffdb": 1, "5": 2}


def test_deep_nesting_becomes_json_text():
    value = []
    for _ in range(100):
        value = [value]
    shallow = to_json_safe(value)
    depth = 0
    while isinstance(shallow, list):
        shallow, depth = shallow[0], depth + 1
    assert depth == 40
    assert isinstance(json.loads(shallow), list)


def test_other_objects_become_text_and_tuples_lists():
    assert to_json_safe(({1, },)) == ["{1}"]
