
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import MASK, Redaction, Redactor

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_a_known_secret_is_masked_wherever_it_stands():
    redactor = Redactor(["s3cret-value"])
    value = {"a": ["x s3cret-value y"], "s3cret-value": {"b": "s3cret-value"}}
    assert redactor.redact_value(value) == {"a": ["x %s y" % MASK], MASK: {"b": MASK}}
    assert redactor.remove_secrets(value) == redactor.redact_value(value)


def test_a_very_short_secret_is_left_alone():
    assert Redactor(["a", "12345"]).redact_text("a banana 12345") == "a banana 12345"


def test_what_is_no_text_is_no_secret():
    redactor = Redactor([None, 5, ""])
    assert redactor.redact_text("None 5") == "None 5"


@pytest.mark.parametrize("method", ["redact_value", "remove_secrets"])
def test_a_secret_that_contains_another_is_masked_whole(method):
    secrets = ["token-%s" % ("x" * n) for n in range(1, 12)]
    redactor = Redactor(secrets)
    for secret in secrets:
        assert getattr(redactor, method)(secret) == MASK


@pytest.mark.parametrize(
    "text, leak",
    [
        ("Authorization: Bearer abcdefgh12345", "abcdefgh12345"),
        ("Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        ("key sk-proj-abcdefghijklmnop", "abcdefghijklmnop"),
        ("sos_0123456789abcdef0123", "0123456789abcdef0123"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc-def", "eyJzdWIiOiIx"),
        ("api_key=verysecret1", "verysecret1"),
        ('{"password": "hunter22"}', "hunter22"),
        ("https://user:hunter22@host/x", "hunter22"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, leak):
    masked = Redactor().redact_text(text)
    assert leak not in masked and MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "the basic requirements are met",
        "a bearer certificate is needed",
        "Rate limit reached for gpt-4 in organization on tokens per min",
        "max_tokens: 100",
        "the task-force met at http://host:8080/x",
        "",
    ],
)
def test_prose_stays(text):
    assert Redactor().redact_text(text) == text


def test_the_value_of_a_secret_key_is_masked_whatever_it_looks_like():
    value = {"Authorization": "x", "api_key": "y", "token": "z", "Set-Cookie": "q", "tokens": "5"}
    assert Redactor().redact_value(value) == {
        "Authorization": MASK, "api_key": MASK, "token": MASK, "Set-Cookie": MASK, "tokens": "5"
    }


def test_secrets_only_leaves_what_merely_looks_like_a_secret():
    assert Redactor(["known-secret"]).remove_secrets("sk-abcdefghijklmnop") == "sk-abcdefghijklmnop"


@hypothesis.given(JSON)
def test_anything_in_no_exception_and_the_input_is_not_changed(value):
    before = repr(value)
    Redactor(["abcdef"]).redact_value(value)
    Redactor(["abcdef"]).remove_secrets(value)
    assert repr(value) == before


@pytest.mark.parametrize("method", ["redact_value", "remove_secrets"])
def test_a_deeply_nested_answer_does_not_end_the_action(method):
    deep = "x"
    for _ in range(700):
        deep = [deep]
    getattr(Redactor(["abcdef"]), method)(deep)


def redaction(**entry):
    return Redactor(["known-secret"], Redaction.from_config(entry))


def test_patterns_of_the_configuration_are_masked_in_every_text():
    redactor = redaction(patterns=[r"ACME-\d{4}", r"(?i)customer \w{1,20}\b"])
    value = {"a": ["of ACME-1234, Customer Smith"], "ACME-9999": 1, "b": {"c": "known-secret"}}
    assert redactor.redact_value(value) == {
        "a": ["of %s, %s" % (MASK, MASK)], MASK: 1, "b": {"c": MASK}}
    assert redactor.remove_secrets("ACME-1234 known-secret") == "ACME-1234 " + MASK


def test_keys_of_the_configuration_are_masked_with_all_that_is_below_a_list():
    redactor = redaction(keys=["SSN", "customer"])
    value = {"ssn": 78051120, "Customer": ["Jane", 7, {"id": 5}], "x": {"SSN": "", "ssn": True}}
    assert redactor.redact_value(value) == {
        "ssn": MASK, "Customer": [MASK, MASK, {"id": 5}], "x": {"SSN": "", "ssn": True}}
    assert redactor.remove_secrets(value) == value


@pytest.mark.parametrize(
    "entry, field",
    [
        ({"patterns": "x"}, "redaction.patterns"),
        ({"patterns": ["ok", "["]}, "redaction.patterns[1]"),
        ({"patterns": ["(a+)+b"]}, "redaction.patterns[0]"),
        ({"patterns": [7]}, "redaction.patterns[0]"),
        ({"keys": [" "]}, "redaction.keys[0]"), ({"keys": {"a": 1}}, "redaction.keys"),
        ({"patterns": ["x"] * 51}, "redaction.patterns"),
    ],
)
def test_a_wrong_entry_is_named(entry, field):
    with pytest.raises(InvalidInput) as caught:
        Redaction.from_config(entry)
    assert caught.value.field == field and caught.value.hint
