import pytest

from synthralos.core.timestamps import parse_iso, parse_timestamp, server_time, to_iso

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20.5Z", NOW + 0.5),
        ("2023-11-14T22:13:20,5Z", NOW + 0.5),
        ("2023-11-14T22:13:20.123456Z", NOW + 0.123456),
        ("2023-11-14T22:13:20.1234567Z", NOW + 0.1234567),
        ("2023-11-14T22:13:20.123456789Z", NOW + 0.123456789),
        ("2023-11-14T22:13:20+00:00", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T17:43:20-0430", NOW),
        ("2023-11-14 22:13:20", NOW),
        (" 2023-11-14t22:13:20z ", NOW),
    ],
)
def test_a_time_is_read_with_its_offset(value, seconds):
    assert parse_iso(value) == parse_timestamp(value) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("value, seconds", [(NOW, NOW), (NOW * 1000, NOW), (5, 5.0)])
def test_a_number_is_a_timestamp_but_not_iso(value, seconds):
    assert parse_timestamp(value) == seconds
    assert parse_iso(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "yesterday", "", None, True, -5, 0, float("nan"), float("inf"), 10**400,
        "2023-99-99T99:99:99Z", "2023-13-14T22:13:20Z", "0001-01-01T00:00:00Z",
        "2023-11-14T22:13:20Z and more", "2023-11-14T22:13:20Z" + " " * 64,
    ],
)
def test_what_is_not_a_time_is_none(value):
    assert parse_iso(value) is None and parse_timestamp(value) is None


def test_a_time_is_written_in_whole_seconds():
    assert to_iso(NOW + 0.9) == "2023-11-14T22:13:20Z"


def test_a_time_is_written_in_milliseconds():
    assert to_iso(NOW + 0.12349, milliseconds=True) == "2023-11-14T22:13:20.123Z"
    assert to_iso(NOW + 0.9999, milliseconds=True) == "2023-11-14T22:13:21.000Z"
    assert parse_iso(to_iso(NOW + 0.123, milliseconds=True)) == pytest.approx(NOW + 0.123)


@pytest.mark.parametrize("milliseconds", [False, True])
def test_a_time_out_of_range_is_bounded(milliseconds):
    assert to_iso(-1, milliseconds).startswith("1970-01-01T00:00:00")
    assert to_iso(1e18, milliseconds).startswith("9999-12-31")


@pytest.mark.parametrize(
    "date, seconds",
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", NOW), ("", 5), ("yesterday", 5), (None, 5),
        ("Tue, 99 Nov 2023 22:13:20 GMT", 5),
    ],
)
def test_the_clock_of_a_server(date, seconds):
    assert server_time({} if date is None else {"date": date}, 5) == seconds
