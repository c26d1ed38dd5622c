import pytest

from synthralos.calls.idempotency import key

BASE = ("5f0c", "POST", "/x", {"a": 1, "b": [2]}, "gpt-4")


def test_the_same_request_has_the_same_key():
    assert key(*BASE) == key("5f0c", "POST", "/x", {"b": [2], "a": 1}, "gpt-4")
    assert key(*BASE).startswith("synthralos-") and len(key(*BASE)) <= 64


@pytest.mark.parametrize("at, other", [
    (0, "5f0d"), (1, "PUT"), (2, "/y"), (3, {"a": 2, "b": [2]}), (4, "gpt-4o"), (4, None)])
def test_another_request_has_another_key(at, other):
    assert key(*[other if n == at else part for n, part in enumerate(BASE)]) != key(*BASE)


def test_hostile_text_has_a_key():
    assert key("", "POST", "/é\ud800", "\x00\ud800", None)
