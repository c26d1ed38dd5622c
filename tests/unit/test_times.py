import pytest

from synthralos.core.timestamps import parse_iso, to_iso


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T22:13:20.5Z", 1_700_000_000.5),
        ("2023-11-14T22:13:20.123456Z", 1_700_000_000.123456),
        ("2023-11-14T22:13:20.1234567Z", 1_700_000_000.123456),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000.0),
        ("yesterday", None), ("", None), (None, None), (5, None), ("2023-99-99T99:99:99Z", None),
    ],
)
def test_a_time_is_read_as_utc(text, seconds):
    assert parse_iso(text) == seconds


def test_a_time_is_written_in_whole_seconds():
    assert to_iso(1_700_000_000.9) == "2023-11-14T22:13:20Z"
