import itertools

import pytest

from synthralos.sensing import sse
from synthralos.sensing.sse import Event, Parser


def parse(stream, last="", size=None):
    """(events, parser) of a whole stream, fed in pieces of `size` bytes."""
    parser, events = Parser(last), []
    size = size or max(len(stream), 1)
    for at in range(0, len(stream), size):
        events += parser.feed(stream[at:at + size])
    return events, parser


def short(stream, last=""):
    return [(event.type, event.data, event.id) for event in parse(stream, last)[0]]


# (stream, [(type, data, id)]): the examples of the HTML standard, then what it says besides.
CASES = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n",
        [("message", "first event", "1"), ("message", "second event", "")],
    ),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n",
        [("message", "first event", "1"), ("message", "second event", ""),
         ("message", " third", "")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
    (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
    (b"event: add\ndata: 73\n\nevent: rm\ndata: 2\n\n", [("add", "73", ""), ("rm", "2", "")]),
    (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [("message", "b", "")]),
    (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a", "")]),
    (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n",
     [("message", "a", ""), ("message", "b", ""), ("message", "c", "")]),
    (b"data: a\r\n\ndata: b\n\r\n", [("message", "a", ""), ("message", "b", "")]),
    (b"id: 5\n\ndata: a\n\n", [("message", "a", "5")]),
    (b"id: 5\ndata: a\n\ndata: b\n\n", [("message", "a", "5"), ("message", "b", "5")]),
    (b"id: 5\nid: a\x00b\ndata: a\n\n", [("message", "a", "5")]),
    (b"id:\ndata: a\n\n", [("message", "a", "")]),
    (b"event: x\n\ndata: a\n\n", [("message", "a", "")]),
    (b"event: x\nevent:\ndata: a\n\n", [("message", "a", "")]),
    (b"event: x\nevent: y\ndata: a\n\n", [("y", "a", "")]),
    (b"Data: a\nDATA: b\ndata : c\n data: d\nfoo: bar\nfoo\n\n", []),
    (b"data: a:b: c\n\n", [("message", "a:b: c", "")]),
    (b"data: \xff\xc3\ndata: \xc3\xa9\n\n", [("message", "\ufffd\ufffd\n\u00e9", "")]),
    (b"data: a\x00b\n\n", [("message", "a\x00b", "")]),
    (b"data: a\x0bb\x0cc\xe2\x80\xa8d\xc2\x85e\n\n",
     [("message", "a\x0bb\x0cc\u2028d\x85e", "")]),
    (b"data: no blank line follows\n", []),
    (b"data: half", []),
    (b":\n:\n\n:x\r\n", []),
    (b"", []),
    (b"\n\n\r\r\n", []),
]


@pytest.mark.parametrize("stream, expected", CASES, ids=range(len(CASES)))
def test_a_stream(stream, expected):
    assert short(stream) == expected


@pytest.mark.parametrize("stream, expected", CASES, ids=range(len(CASES)))
def test_a_stream_cut_anywhere(stream, expected):
    whole = parse(stream)
    for size in (1, 2, 3, 5, 7):
        events, parser = parse(stream, size=size)
        assert events == whole[0]
        assert parser.last_event_id == whole[1].last_event_id
    for at in range(len(stream)):
        parser = Parser()
        assert parser.feed(stream[:at]) + parser.feed(b"") + parser.feed(stream[at:]) == whole[0]


def test_an_event_is_there_with_its_last_byte():
    parser = Parser()
    assert parser.feed(b"data: a\r") == []
    assert [event.data for event in parser.feed(b"\r")] == ["a"]
    assert parser.feed(b"\n") == []
    assert [event.data for event in parser.feed(b"data: b\n\n")] == ["b"]


@pytest.mark.parametrize("value, retry", [
    (b"3000", 3000), (b"0", 0), (b"007", 7), (b"", None), (b" 3", None), (b"3 ", None),
    (b"-1", None), (b"+1", None), (b"1.5", None), (b"1e3", None), (b"abc", None),
    ("\u0663".encode(), None), (b"9" * 5000, sse.MAX_RETRY_MS), (b"0" * 5000 + b"5", 5),
])
def test_retry_is_digits_only(value, retry):
    assert parse(b"retry: " + value + b"\n\n")[1].retry == retry


def test_retry_counts_at_once_and_the_last_one_wins():
    assert parse(b"retry: 1\nretry: 2\nretry: x\n")[1].retry == 2


def test_the_id_lives_on_from_the_connection_before():
    events, parser = parse(b"data: a\n\nid: 8\ndata: b\n\nid: 9\n", last="7")
    assert [(event.id, event.has_id) for event in events] == [("7", False), ("8", True)]
    # What no blank line completed has not happened.
    assert parser.last_event_id == "8"


def test_an_id_without_data_counts():
    assert parse(b"id: 8\n\n")[1].last_event_id == "8"


def test_an_id_that_no_header_would_hold_is_none():
    long = b"i" * (sse.MAX_ID_BYTES + 1)
    assert short(b"id: 1\nid: " + long + b"\ndata: a\n\n") == [("message", "a", "1")]


@pytest.mark.parametrize("size", [997, 64 * 1024])
def test_a_line_that_is_too_long_takes_its_event_with_it(size):
    stream = (
        b"id: 1\ndata: a\ndata: " + b"x" * (sse.MAX_LINE_BYTES + 10) + b"\ndata: b\n\n" +
        b"data: c\n\n"
    )
    events, parser = parse(stream, size=size)
    assert [event.data for event in events] == ["c"]
    # Else the server would send it again with every connection.
    assert (parser.last_event_id, parser.oversized) == ("1", 1)


def test_an_event_that_is_too_large_is_passed_over():
    line = b"data: " + b"x" * 100_000 + b"\n"
    stream = b"id: 1\n" + line * (sse.MAX_EVENT_BYTES // 100_000 + 2) + b"\nid: 2\ndata: b\n\n"
    events, parser = parse(stream, size=64 * 1024)
    assert [(event.data, event.id) for event in events] == [("b", "2")]
    assert parser.oversized == 1


def test_what_never_ends_is_not_kept():
    parser = Parser()
    for _ in range(100):
        parser.feed(b"x" * 100_000)
    assert len(parser._line) <= sse.MAX_LINE_BYTES + 3


def test_every_way_to_end_lines():
    for ends in itertools.product([b"\n", b"\r", b"\r\n"], repeat=3):
        # A CR before an LF is one line end, whatever they were meant to be.
        if (ends[1], ends[2]) == (b"\r", b"\n") or (ends[0], ends[1]) == (b"\r", b"\n"):
            continue
        stream = b"event: e" + ends[0] + b"data: d" + ends[1] + ends[2]
        assert short(stream) == [("e", "d", "")]


def test_events_are_values():
    assert parse(b"data: a\n\n")[0] == [Event("message", "a", "", False)]
