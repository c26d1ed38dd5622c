import base64
import json
import re
import zlib

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core import sealing as module
from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import MAX_INLINE_BYTES, PATTERN, seal, unseal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) |
    st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) |
    st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)
HOSTILE = ["{{ x }}", "<% ctx() %>", "{% raw %}", "\x00", "\ud800", "\u202e", "😀", "'\"\\\n"]


def packed(raw):
    return base64.urlsafe_b64encode(zlib.compress(raw)).decode()


def incompressible(count=60_000):
    return "".join("%08x" % (n * 2654435761 % 2**32) for n in range(count // 8))


@hypothesis.given(JSON)
def test_every_json_value_comes_back(value):
    assert unseal(seal(value)) == value


@pytest.mark.parametrize("text", HOSTILE)
def test_a_case_consists_of_inert_characters_only(text):
    case = seal({"text": text * 50})
    assert re.fullmatch("[A-Za-z0-9_=-]+", case) and re.match(PATTERN, case)
    assert unseal(case) == {"text": text * 50}


def test_a_large_case_goes_to_the_store_for_two_days(store, datastore, clock):
    case = seal({"text": incompressible()}, store, "synthralos.case.r.0")
    assert len(case) < 200 and datastore.names() == ["synthralos.case.r.0"]
    assert unseal(case, store) == {"text": incompressible()}
    clock.forward(2 * 24 * 3600 + 1)
    with pytest.raises(InvalidInput, match="not in the datastore"):
        unseal(case, store)


def test_a_small_case_stays_out_of_the_store(store, datastore):
    seal({"text": "x"}, store, "synthralos.case.r.0")
    assert datastore.names() == []


def test_a_large_case_stays_whole_when_the_store_is_away(store, datastore):
    datastore.away = True
    case = seal({"text": incompressible()}, store, "synthralos.case.r.0")
    assert len(case) > MAX_INLINE_BYTES and unseal(case) == {"text": incompressible()}


def test_a_stored_case_without_a_store_is_refused(store):
    case = seal({"text": incompressible()}, store, "synthralos.case.r.0")
    with pytest.raises(InvalidInput):
        unseal(case)


@pytest.mark.parametrize(
    "text",
    ["", "a", "hello", "{{ x }}", "====", "A" * 40, "é", "eJw", None, 5, [], {"a": 1}, b"x",
     packed(b"no json"), packed(b"\xff\xfe"), packed(b'{"a": 1}')[:-6],
     base64.urlsafe_b64encode(b"plain").decode()],
)
def test_foreign_text_is_refused(text):
    with pytest.raises(InvalidInput) as refused:
        unseal(text)
    assert refused.value.field == "case"


def test_a_trailing_newline_makes_it_no_case():
    with pytest.raises(InvalidInput):
        unseal(seal({"a": 1}) + "\n")


@hypothesis.given(st.integers(0, 10_000), st.sampled_from("ABCxyz019_-"))
def test_a_tampered_case_is_refused_or_says_the_same(at, other):
    case = seal({"text": "the quick brown fox", "n": list(range(50))})
    at %= len(case)
    try:
        assert unseal(case[:at] + other + case[at + 1:]) == unseal(case)
    except InvalidInput:
        pass


@hypothesis.given(st.text(st.characters(), max_size=200))
def test_any_text_is_opened_or_refused(text):
    try:
        unseal(text)
    except InvalidInput:
        pass


def test_a_zip_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_OPENED_BYTES", 1000)
    with pytest.raises(InvalidInput):
        unseal(seal("x" * 2000))
    assert unseal(seal("x" * 900)) == "x" * 900


def test_text_nested_too_deeply_is_refused():
    with pytest.raises(InvalidInput):
        unseal(packed(b"[" * 100_000 + b"]" * 100_000))


@pytest.mark.parametrize("key", [5, None, ["a"], {"a": 1}])
def test_a_forged_reference_is_refused(key, store):
    with pytest.raises(InvalidInput):
        unseal(packed(json.dumps({"stored": key}).encode()), store)


def test_what_a_reference_leads_to_must_be_a_case(store):
    store.put("secret", "not for you")
    with pytest.raises(InvalidInput) as refused:
        unseal(seal({"stored": "secret"}), store)
    assert "not for you" not in str(refused.value.as_error()["message"]).replace("'", "")
