"""Versioned JSON rows, and listing them page by page."""
import pytest

from synthralos.storage import records, unreadable
from synthralos.storage.datastore import PAGE_SIZE

VERSION = 3


def test_names_are_sorted_or_follow_the_version():
    fields = {"z": 1, "a": None}
    assert records.encode(fields, VERSION) == '{"a":null,"v":3,"z":1}'
    assert records.encode(fields, VERSION, sort_keys=False) == '{"v":3,"z":1,"a":null}'
    assert records.encode({"z": 1}, VERSION, compact=False) == '{"v": 3, "z": 1}'
    assert fields == {"z": 1, "a": None}


def test_a_row_is_decoded_without_its_version():
    assert records.decode(records.encode({"a": [1]}, VERSION), VERSION) == {"a": [1]}
    assert records.decode(None, VERSION, "x") is None


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "5", "null", "{}", '{"v": 9}', '{"v": "3"}', "[" * 100000]
)
def test_an_unreadable_row_is_none_and_counted_if_it_has_a_name(text):
    with unreadable.noticed() as names:
        assert records.decode(text, VERSION) is None
        assert names == set()
        assert records.decode(text, VERSION, "synthralos.run.1") is None
    assert names == {"synthralos.run.1"}


def test_unreadable_rows_are_skipped_and_counted():
    rows = [("k.2", '{"v":3,"n":2}'), ("k.1", "x"), ("k.0", '{"v":3,"n":0}')]
    with unreadable.noticed() as names:
        assert list(records.iter_rows(rows, VERSION)) == [("k.2", {"n": 2}), ("k.0", {"n": 0})]
    assert names == {"k.1"}


@pytest.mark.parametrize(
    "count, max_pages, sizes",
    [
        (0, None, [0]),
        (PAGE_SIZE - 1, None, [PAGE_SIZE - 1]),
        (PAGE_SIZE, None, [PAGE_SIZE, 0]),
        (2 * PAGE_SIZE + 1, None, [PAGE_SIZE, PAGE_SIZE, 1]),
        (2 * PAGE_SIZE + 1, 2, [PAGE_SIZE, PAGE_SIZE]),
        (1, 2, [1]),
    ],
)
def test_pages_end_with_the_first_that_is_not_full_or_at_the_maximum(
    store, count, max_pages, sizes
):
    for n in range(count):
        store.put("synthralos.k.%05d" % n, str(n))
    pages = list(records.iter_pages(store, "synthralos.k.", max_pages))
    assert [len(rows) for rows in pages] == sizes
    numbers = [int(text) for rows in pages for _, text in rows]
    assert numbers == list(range(count - 1, count - 1 - len(numbers), -1))


def test_pages_of_an_unavailable_store_are_empty(store, datastore):
    datastore.away = True
    assert list(records.iter_pages(store, "synthralos.k.")) == [[]]
    assert store.unavailable_reason
