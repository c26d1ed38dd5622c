import pytest

from synthralos.core.plurals import count_noun


@pytest.mark.parametrize("count, text", [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes")])
def test_a_noun_agrees_with_its_count(count, text):
    assert count_noun(count, "node") == text


def test_an_irregular_plural():
    assert count_noun(1, "person", "people") == "1 person"
    assert count_noun(3, "person", "people") == "3 people"
