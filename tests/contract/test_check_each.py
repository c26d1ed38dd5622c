"""check_each: a table of checks fails with each of its values that fails, and its reason."""
import inspect

import pytest
from fixtures.check_each import check_each


def test_every_value_is_checked_and_each_failure_has_its_id_and_reason():
    checked = []

    @check_each("number", range(1, 6), ids=lambda number: "no. %d" % number)
    def check(number):
        checked.append(number)
        if number == 4:
            raise KeyError("four")
        assert number != 2

    with pytest.raises(pytest.fail.Exception) as failed:
        check()
    assert checked == [1, 2, 3, 4, 5]
    first, second, third = str(failed.value).split("\n", 2)
    assert first == "2 of 5 fail:"
    assert second.startswith("[no. 2] test_check_each.py:") and "assert 2 != 2" in second
    assert third.startswith("[no. 4] test_check_each.py:") and "KeyError: 'four'" in third


def test_what_passes_says_nothing():
    check_each("text", ["a", "b"])(lambda text: None)()


def test_fixtures_and_several_arguments_are_passed_on():
    calls = []

    @check_each("text, length", [("a", 1), ("bc", 2)])
    def check(tmp_path, text, length):
        calls.append((tmp_path, text, length))

    assert list(inspect.signature(check).parameters) == ["tmp_path"]
    check(tmp_path="here")
    assert calls == [("here", "a", 1), ("here", "bc", 2)]


def test_tables_may_be_stacked():
    @check_each("left", [1, 2])
    @check_each("right", [1, 2])
    def check(left, right):
        assert left != right

    with pytest.raises(pytest.fail.Exception) as failed:
        check()
    assert str(failed.value).count("1 of 2 fail") == 2


def test_an_empty_table_is_an_error():
    with pytest.raises(AssertionError, match="nothing to check"):
        check_each("x", [])


def test_what_skips_hides_no_failure_and_is_told_when_the_others_pass():
    @check_each("x", [1, 2, 3])
    def check(x):
        if x == 2:
            pytest.skip("not here")
        assert x < limit

    limit = 4
    with pytest.raises(pytest.skip.Exception, match=r"1 of 3: \[2\] not here"):
        check()
    limit = 3
    with pytest.raises(pytest.fail.Exception, match=r"\[3\]"):
        check()
