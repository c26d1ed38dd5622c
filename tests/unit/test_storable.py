import json
import math

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

from hypothesis import given
from hypothesis import strategies as st

from synthralos.core.json_safe import storable

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) |
    st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) |
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), inner,
                    max_size=4),
    max_leaves=10,
)
ANY_TEXT = st.text(st.characters())


@given(PLAIN)
def test_what_is_storable_stays_as_it_is(value):
    assert storable(value) == value


@given(ANY_TEXT)
def test_text_becomes_valid_utf8(text):
    storable(text).encode("utf-8")


@pytest.mark.parametrize(
    "text, kept",
    [("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("x\ud83d", "x\ufffd"), ("\ufeffa", "\ufeffa")]
)
def test_a_lone_surrogate_is_replaced(text, kept):
    assert storable(text) == kept


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_json_number_becomes_null(value):
    assert storable([value]) == [None]


def test_an_integer_beyond_64_bits_becomes_text():
    assert storable(2**63) == str(2**63)
    assert storable(2**63 - 1) == 2**63 - 1


def test_keys_become_text_without_nul():
    assert storable({"a\x00b": 1, 5: 2}) == {"a\ufffdb": 1, "5": 2}


def test_deep_nesting_becomes_json_text():
    value = []
    for _ in range(100):
        value = [value]
    shallow = storable(value)
    depth = 0
    while isinstance(shallow, list):
        shallow, depth = shallow[0], depth + 1
    assert depth == 40
    assert isinstance(json.loads(shallow), list)


def test_other_objects_become_text_and_tuples_lists():
    assert storable(({1, },)) == ["{1}"]
