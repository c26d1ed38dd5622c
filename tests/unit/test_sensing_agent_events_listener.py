"""The follower with scripted streams and a clock of its own, then against real servers on loopback.
"""
import gzip
import http.server
import json
import threading
import time
import zlib

import pytest
from fixtures.sensor_world import HOSTILE, Service, sensor_environment
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, until

from synthralos.calls.http import CallError
from synthralos.core import failures
from synthralos.sensing.agent_events_listener import AgentEventsListener
from synthralos.sensing.response_stream import DATA, ENDED, FAILED, OPENED

from .conftest import http_answer

GOOD = (OPENED, (200, {"content-type": "text/event-stream; charset=utf-8"}))
END = (ENDED, None)


def event(message, event_id=None, kind="agent_failure"):
    lines = "event: %s\ndata: %s\n" % (kind, json.dumps({"agentId": "a", "message": message}))
    return (lines + ("" if event_id is None else "id: %s\n" % event_id) + "\n").encode()


def data(*pieces):
    return (DATA, b"".join(pieces))


def network():
    return (FAILED, CallError(failures.make_failure("network", "no connection")))


def status(code, **headers):
    return (OPENED, (code, {name.replace("_", "-"): value for name, value in headers.items()}))


class World:
    """Connections that a test has scripted; time passes only while somebody waits.

    A script is a list of what a stream gives; a number is silence of so many seconds. The follower
    stops when there is no script left.

    :ivar waits: seconds before each connection but the first; headers: those of each connection.
    """

    def __init__(self, clock):
        self.clock, self.scripts, self.headers, self.waits = clock, [], [], []
        self.closed = 0
        self._set = False
        self._ended_at = None

    def connect(self, connection, path, headers, seconds):
        self.address = connection.base_url + path
        if self._ended_at is not None:
            self.waits.append(self.clock() - self._ended_at)
        if not self.scripts:
            self._set = True
            return _Stream(self, [])
        self.headers.append(headers)
        return _Stream(self, self.scripts.pop(0))

    def is_set(self):
        return self._set

    def set(self):
        self._set = True

    def wait(self, seconds):
        self._ended_at = self.clock()
        self.clock.forward(seconds)
        return self._set


class _Stream:
    def __init__(self, world, script):
        self._world, self._script = world, list(script)

    def get(self, seconds):
        if not self._script:
            self._world.clock.forward(seconds)
            return None
        item = self._script.pop(0)
        if isinstance(item, (int, float)):
            self._world.clock.forward(min(item, seconds))
            if item > seconds:
                self._script.insert(0, item - seconds)
            return None
        return item

    def close(self):
        self._world.closed += 1


@pytest.fixture
def world(clock):
    return World(clock)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def follow(world, service, datastore, clock):
    """follow(*scripts, **entry): a run of the sensor over these connections."""

    def run(*scripts, **entry):
        entry = entry or {"url": "http://events.example/stream"}
        entry.setdefault("url", "http://events.example/stream")
        world.scripts, world._set, world._ended_at = list(scripts), False, None
        world.waits, world.headers = [], []
        around = sensor_environment(
            service, {"sensors": {"agent_events": entry}}, datastore, clock, "AgentEventsSensor"
        )
        follower = AgentEventsListener(around, world, world.connect, clock, draw=lambda: 0.5)
        follower.run()
        return follower

    return run


def dispatched_messages(service):
    return [payload["failure_details"]["message"] for payload in service.payloads("agent_failure")]


def blinds(service):
    return [
        (payload["reason"], payload["seeing"])
        for payload in service.payloads("sensor_disconnected")
    ]


def test_events_become_triggers(follow, service, world):
    loop = b'event: agent_loop\ndata: {"agentId": "b", "kind": "cycle"}\nid: 2\n\n'
    follow([GOOD, data(event("x timed out", 1)), data(loop), data(b": ping\n\n"), END])
    [failure] = service.payloads("agent_failure")
    assert (failure["source"], failure["agent_id"], failure["failure_type"]) == (
        "events", "a", "timeout"
    )
    [payload] = service.payloads("agent_loop")
    assert (payload["agent_id"], payload["kind"]) == ("b", "cycle")
    assert world.headers[0]["Accept"] == "text/event-stream"
    assert "Last-Event-ID" not in world.headers[0]


@pytest.mark.parametrize("told_as, expected", [
    (b"event: agent_failure\ndata: x\n\n", 1),
    (b'data: {"type": "agent_failure"}\n\n', 1),
    (b'data: {"eventType": "execution_failed", "payload": {"agentId": "a"}}\n\n', 1),
    (b"event: something\ndata: x\n\n", 0),
    (b"data: x\n\n", 0),
    (b"event: agent_failure\ndata: ping\n\n", 0),
    (b"event: agent_failure\ndata: heartbeat\n\n", 0),
    (b'data: {"type": 5}\n\n', 0), (b"data: [1]\n\n", 0),
])
def test_which_events_count(follow, service, told_as, expected):
    follow([GOOD, data(told_as), END])
    assert len(service.payloads("agent_failure")) == expected


def test_the_names_of_events_are_configured(follow, service):
    follow(
        [GOOD, data(event("a", kind="run.failed"), event("b"), event("c", kind="run.loop")), END],
        failure_events=["run.failed"], loop_events=["run.loop"],
    )
    assert dispatched_messages(service) == ["a"]
    assert len(service.payloads("agent_loop")) == 1


def test_it_goes_on_where_it_was_left(follow, service, world):
    follow([GOOD, data(event("a", "1")), END], [GOOD, data(event("b", "2\u00e9")), END], [GOOD])
    assert [payload.get("Last-Event-ID") for payload in world.headers] == [
        None, b"1", "2\u00e9".encode()
    ]
    # Also after a restart.
    follow([GOOD, data(event("c", "3")), END])
    assert world.headers[0]["Last-Event-ID"] == "2\u00e9".encode()
    assert dispatched_messages(service) == ["a", "b", "c"]


def test_another_stream_has_other_ids(follow, world):
    follow([GOOD, data(event("a", "1")), END])
    follow([GOOD, END], url="http://elsewhere.example/stream")
    assert "Last-Event-ID" not in world.headers[0]


@pytest.mark.parametrize("event_id", ["", " x", "x ", "\t", "a\x01b", "a\x7fb"])
def test_an_id_that_no_header_can_hold_is_not_sent(follow, world, event_id):
    follow([GOOD, data(event("a", event_id)), END], [GOOD, END])
    assert world.headers[1].get("Last-Event-ID") in (None, b"x ".strip())


def test_what_a_server_sends_again_is_told_once(follow, service):
    first = event("a", "1")
    follow([GOOD, data(first, event("b", "2")), END], [GOOD, data(first, event("c", "3")), END])
    follow([GOOD, data(event("c", "3")), END])
    assert dispatched_messages(service) == ["a", "b", "c"]


def test_the_same_words_without_an_id_are_two_failures(follow, service):
    follow([GOOD, data(event("a")), 5, data(event("a")), END])
    payload, other = service.payloads("agent_failure")
    assert payload["error_id"] != other["error_id"]


def test_what_was_cut_is_not_told(follow, service):
    whole = event("a", "1")
    follow([GOOD, data(whole[:-1]), END], [GOOD, data(whole), END])
    assert dispatched_messages(service) == ["a"]


def test_waits_double_up_to_a_minute(follow, world, service):
    follow(*[[network()]] * 14)
    assert world.waits == [3, 6, 12, 24, 48, 60, 60, 60, 60, 60, 60, 60, 60, 60]
    assert blinds(service) == [("network", False)]
    [blind] = service.payloads("sensor_disconnected")
    assert (blind["attempts"], blind["next_try_seconds"]) == (10, 60)


def test_waits_vary():
    from synthralos.sensing.reconnect_delay import ReconnectDelay

    assert ReconnectDelay(3, 10, lambda: 0).delay(1) == 2.25
    assert ReconnectDelay(3, 10, lambda: 1).delay(1) == 3.75
    assert ReconnectDelay(3, 10).delay(100) <= 75
    assert ReconnectDelay(3, 10, lambda: 0.5).delay(1, 30) == 30
    assert ReconnectDelay(3, 10, lambda: 0.5).delay(1, 3e9) == 600
    assert ReconnectDelay(90, 10, lambda: 0.5).delay(1) == 90
    assert ReconnectDelay(90, 10, lambda: 0.5).delay(10) == 90
    assert [ReconnectDelay(0.1, 3, lambda: 0.5).delay(n) for n in (1, 2, 3)] == [0.1, 0.2, 60]


def test_it_sees_again(follow, service, world):
    follow(*[[network()]] * 10, [GOOD, data(event("a", "1")), END], [network()])
    assert blinds(service) == [("network", False), ("network", True)]
    # Who was seen starts over with short waits.
    assert world.waits[10:] == [3, 6]


def test_the_server_says_how_long_to_wait(follow, world):
    follow([GOOD, data(b"retry: 500\n\n"), END], [network()], [GOOD, data(b"retry: x\n\n"), END])
    assert world.waits == [0.5, 1, 2]


def test_a_server_that_closes_at_once_is_not_hammered(follow, world, service):
    follow(*[[GOOD, END]] * 11)
    assert world.waits[:6] == [3, 6, 12, 24, 48, 60]
    assert blinds(service) == [("closed", False)]


def test_a_connection_that_lasts_is_good_without_events(follow, world, service):
    follow(*[[GOOD, 20, data(b":\n"), 20, END]] * 12)
    assert world.waits == [3] * 12
    assert blinds(service) == []


def test_silence_is_a_dead_connection(follow, world, service, clock):
    began = clock()
    follow([GOOD, 29, data(b":\n"), 29, data(b":\n"), 1000], [GOOD, data(event("a", "1")), END])
    assert dispatched_messages(service) == ["a"]
    assert clock() - began < 29 + 29 + 31 + 3 + 10
    assert "nothing was received for 30 s" in service.log()


def test_a_server_that_never_answers_is_dead_too(follow, world, clock):
    began = clock()
    follow([1000], [GOOD, END])
    assert 30 <= clock() - began < 40


def test_204_ends_it(follow, world, service, clock):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        world.set()

    world.wait = wait
    follow([status(204)], [GOOD, data(event("a")), END])
    assert len(world.headers) == 1 and waits == [60]
    assert dispatched_messages(service) == [] and blinds(service) == []
    assert "204" in service.log()


@pytest.mark.parametrize("opening, reason", [
    (status(401), "authentication"), (status(403), "permission"), (status(404), "not_found"),
    (status(200, content_type="text/html"), "content_type"), (status(200), "content_type"),
    (status(200, content_type="text/event-streams"), "content_type"),
    (status(302, location="http://127.0.0.1"), None), (status(400), None),
])
def test_what_another_try_would_not_cure_is_reported_at_once(
    follow, world, service, opening, reason
):
    follow([opening], [opening], [GOOD, data(event("a")), END])
    assert world.waits == [60, 60, 3]
    assert [seeing for _, seeing in blinds(service)] == [False, True]
    assert reason is None or blinds(service)[0][0] == reason
    assert dispatched_messages(service) == ["a"]


@pytest.mark.parametrize("opening, wait", [
    (status(500), 3), (status(503, retry_after="20"), 20), (status(429, retry_after="7"), 7),
    (status(503, retry_after="999999"), 600), (status(502), 3),
])
def test_what_passes_is_waited_for(follow, world, service, opening, wait):
    follow([opening], [GOOD, END])
    assert world.waits[0] == wait
    assert blinds(service) == []


def test_places_take_turns(world, service, datastore, clock):
    config = {
        "platforms": [
            {"base_url": "http://a", "fallbacks": [{"name": "b", "base_url": "http://b"}]}
        ],
        "sensors": {"agent_events": {"path": "/stream"}},
    }
    seen = []

    def connect(connection, path, headers, seconds):
        seen.append(connection.base_url + path)
        return world.connect(connection, path, headers, seconds)

    world.scripts = [[network()], [network()]]
    around = sensor_environment(service, config, datastore, clock)
    AgentEventsListener(around, world, connect, clock).run()
    assert seen == ["http://a/stream", "http://b/stream", "http://a/stream"]


def test_no_event_is_lost_while_the_message_bus_is_away(follow, service, world, clock):
    began = clock()
    dispatch = service.dispatch

    def later(**keywords):
        if clock() - began < 100:
            raise OSError("away")
        return dispatch(**keywords)

    service.dispatch = later
    follow([GOOD, data(event("a"), event("b", "2")), END])
    assert dispatched_messages(service) == ["a", "b"]


def test_who_is_stopped_meanwhile_goes_on_with_the_event_that_was_not_taken(
    follow, service, world
):
    dispatch, wait = service.dispatch, world.wait

    def second_fails(**keywords):
        if service.dispatched:
            world.wait = lambda seconds: world.set()
            raise OSError("away")
        return dispatch(**keywords)

    service.dispatch = second_fails
    follow([GOOD, data(event("a", "1"), event("b", "2")), END])
    service.dispatch, world.wait = dispatch, wait
    follow([GOOD, data(event("b", "2")), END])
    assert world.headers[0]["Last-Event-ID"] == b"1"
    assert dispatched_messages(service) == ["a", "b"]


def test_time_that_telling_takes_is_no_silence(follow, service, world, clock):
    dispatch = service.dispatch

    def slow(**keywords):
        clock.forward(40)
        return dispatch(**keywords)

    service.dispatch = slow
    follow([GOOD, data(event("a", "1")), 1, data(event("b", "2")), END])
    assert dispatched_messages(service) == ["a", "b"] and len(world.headers) == 1


class Died(BaseException):
    pass


def test_who_dies_before_it_was_written_tells_again(follow, service, datastore, world):
    script = [GOOD, data(event("a", "1"), event("b", "2")), END]
    put = datastore.put

    def dies(name, *arguments, **named):
        if "place" in name:
            raise Died
        put(name, *arguments, **named)

    datastore.put = dies
    with pytest.raises(Died):
        follow(script)
    datastore.put = put
    follow(script, script)
    assert dispatched_messages(service) == ["a", "b"] * 2
    assert "Last-Event-ID" not in world.headers[0]


def test_it_waits_until_it_is_known_where_it_was_left(follow, service, datastore, world, clock):
    follow([GOOD, data(event("a", "1")), END])
    datastore.away = True
    wait = world.wait

    def back(seconds):
        if clock() > 1_700_000_100:
            datastore.away = ()
        return wait(seconds)

    world.wait = back
    follow([GOOD, data(event("b", "2")), END])
    assert world.headers[0]["Last-Event-ID"] == b"1"
    assert dispatched_messages(service) == ["a", "b"]


def test_what_cannot_be_written_is_written_later(follow, service, datastore, world):
    datastore.away = ("put",)
    follow([GOOD, data(event("a", "1")), END], [GOOD, END])
    assert world.headers[1]["Last-Event-ID"] == b"1"
    assert dispatched_messages(service) == ["a"]


@pytest.mark.parametrize("content", [
    {"where": 5, "last_event_id": 5, "recent": 5}, {}, {"recent": {}},
])
def test_a_memory_of_another_shape(follow, service, datastore, content):
    from synthralos.storage import state_codec

    name = "synthralos.sensor.AgentEventsSensor~2Eplace"
    datastore.put(name, state_codec.encode_state("x", dict(content, v=1)))
    follow([GOOD, data(event("a", "1")), END])
    assert dispatched_messages(service) == ["a"]


def test_what_is_too_long_is_passed_over_and_said(follow, service):
    huge = b"event: agent_failure\ndata: " + b"x" * (1024 * 1024 + 1) + b"\n\n"
    follow([GOOD, data(huge, event("a", "1")), END])
    assert dispatched_messages(service) == ["a"] and "too long" in service.log()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_events(follow, service, text):
    told_as = json.dumps({"agentId": text, "message": text, text: text, "kind": text})
    line = b"data: " + told_as.encode() + b"\n\n"
    raw = text.encode("utf-8", "surrogatepass").replace(b"\n", b"")
    follow([
        GOOD,
        data(b"event: agent_failure\n", line, b"event: agent_loop\n", line),
        data(b"event: agent_failure\ndata: ", raw, b"\nid: ", raw, b"\n\n"),
        END,
    ])
    assert len(service.payloads("agent_failure")) == 2
    assert len(service.payloads("agent_loop")) == 1


def opened_as(**headers):
    return (OPENED, (200, dict({"content-type": "text/event-stream"}, **{
        name.replace("_", "-"): value for name, value in headers.items()})))


def pieces(raw, size):
    return [data(raw[at:at + size]) for at in range(0, len(raw), size)]


def deflated(raw, window):
    compressor = zlib.compressobj(wbits=window)
    return compressor.compress(raw) + compressor.flush()


TWO = (event("ä", "1") + event("b", "2")).replace(b"\\u00e4", "ä".encode())
COMPRESSED = {
    "gzip": ("gzip", gzip.compress(TWO)), "x-gzip": ("x-gzip", gzip.compress(TWO)),
    "two members": ("gzip", gzip.compress(event("ä", "1")) + gzip.compress(event("b", "2"))),
    "deflate": ("deflate", deflated(TWO, 15)), "raw deflate": ("deflate", deflated(TWO, -15)),
    "twice": ("deflate, gzip", gzip.compress(zlib.compress(TWO))),
    "without a header": ("", gzip.compress(TWO)), "identity": ("identity", TWO),
    "header without gzip": ("gzip", TWO), "crlf": ("gzip", gzip.compress(
        TWO.replace(b"\n", b"\r\n"))),
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("name", list(COMPRESSED))
def test_a_compressed_stream_is_read(follow, service, name, size):
    encoding, raw = COMPRESSED[name]
    follow([opened_as(content_encoding=encoding), *pieces(raw, size), END])
    assert dispatched_messages(service) == ["ä", "b"]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("charset, declared", [
    ("utf-8", "utf-8"), ("utf-8", "latin-1"), ("utf-8-sig", None), ("latin-1", "iso-8859-1"),
    ("windows-1252", "Windows-1252"), ("utf-16", None), ("utf-16", "utf-16"), ("utf-16-le", None),
    ("utf-16-be", "UTF-16BE"), ("utf-32", None), ("utf-8", "utf-16"),
    ("cp037", "cp037"),
])
def test_a_stream_in_another_charset_is_read(follow, service, charset, declared, size):
    kind = "text/event-stream" + ("" if declared is None else "; charset=%s" % declared)
    raw = TWO.decode().encode(charset)
    follow([opened_as(content_type=kind), *pieces(raw, size), END])
    assert dispatched_messages(service) == ["ä", "b"]


@pytest.mark.parametrize("headers, raw, word", [
    ({"content_encoding": "br"}, b"\x0b\x02\x80", "compressed (br)"),
    ({"content_encoding": "gzip, zstd"}, b"", "compressed (zstd)"),
    # Without a time in it: workers give their tests the same names.
    ({"content_encoding": "gzip"}, gzip.compress(TWO, mtime=0)[:20] + b"\xff" * 60, "decompressed"),
    ({"content_encoding": "deflate"}, b"\xff" * 60, "decompressed"),
    ({"content_type": "text/event-stream; charset=klingon"}, TWO, "charset is unknown (klingon)"),
])
def test_a_stream_that_cannot_be_read_is_named(follow, service, headers, raw, word):
    follow([opened_as(**headers), data(raw), END])
    assert blinds(service) == [("encoding", False)] and word in service.log()


def test_a_bomb_is_bounded(follow, service):
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000 + b"\n\n" + event("a", "1"))
    follow([opened_as(content_encoding="gzip"), data(bomb), END])
    assert dispatched_messages(service) == ["a"] and "too long" in service.log()


@pytest.mark.parametrize("line", [
    b'{"type":"agent_failure","message":"x"}\n', b"\x8b\x01\x80hello\xff\xff\n", b"Data: x\n\n",
])
def test_lines_of_no_event_stream_are_named_once(follow, service, line):
    follow([GOOD, data(line * 3), END], [GOOD, data(b"\n\n", line, b"\n", event("a", "1")), END])
    assert dispatched_messages(service) == ["a"]
    assert service.log().count("not part of an event stream") == 1


@pytest.mark.parametrize("entry", [
    {"path": "/x"}, {"url": "nonsense"}, {"heartbeat": 0.5, "url": "http://h"}, 5,
    {"url": "http://h", "failure_events": "x"}, {"url": "http://h", "max_tries": 0},
])
def test_a_configuration_that_is_wrong_is_told_once(world, service, datastore, clock, entry):
    world.wait = lambda seconds: world.set()
    around = sensor_environment(service, {"sensors": {"agent_events": entry}}, datastore, clock)
    AgentEventsListener(around, world, world.connect, clock).run()
    assert blinds(service) == [("configuration", False)]


def test_it_is_idle_and_says_so_once(world, service, datastore, clock):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            world.set()

    world.wait = wait
    around = sensor_environment(service, {}, datastore, clock, "AgentEventsSensor")
    AgentEventsListener(around, world, world.connect, clock).run()
    assert service.log() == (
        "INFO AgentEventsSensor is idle: sensors.agent_events is not configured"
    )


class Feed(http.server.ThreadingHTTPServer):
    """A real stream of events 1 to `count`: a connection gives some and is cut.

    :ivar connections: `Last-Event-ID` of each.
    """

    daemon_threads = True

    def __init__(self, count, each, how):
        self.count, self.each, self.how, self.connections = count, each, how, []
        super().__init__(("127.0.0.1", 0), _Feeding)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d/stream" % self.server_port

    def handle_error(self, request, client_address):
        pass


class _Feeding(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        feed = self.server
        last = self.headers.get("Last-Event-ID")
        feed.connections.append(last)
        number = len(feed.connections)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        chunked = feed.how == "chunked"
        self.send_header("Transfer-Encoding", "chunked") if chunked else None
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._send(b"retry: 100\n\n", chunked)
        for n in range(int(last or 0) + 1, feed.count + 1):
            whole = event("e%d" % n, n)
            if number % 3 == 0 and n > int(last or 0) + feed.each:
                # In the middle of an event, without an end.
                self._send(whole[: len(whole) // 2], chunked)
                self.connection.close()
                return
            for at in range(0, len(whole), 17):
                self._send(whole[at:at + 17], chunked)
            if number % 3 and n >= int(last or 0) + feed.each:
                break
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, piece, chunked):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        self.wfile.flush()


def run_in_thread(service, datastore, url, **entry):
    # A silence that outlasts the test: neither a busy server nor a follower that is stopped may
    # be waited for that long.
    entry = dict({"url": url, "heartbeat": ENDLESS_SECONDS}, **entry)
    config = {"sensors": {"agent_events": entry}}
    follower = AgentEventsListener(
        sensor_environment(service, config, datastore, time.time), draw=lambda: 0
    )
    thread = threading.Thread(target=follower.run, daemon=True)
    thread.start()
    return follower, thread


def stopped(follower, thread):
    follower.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize("how", ["chunked", "plain"])
def test_a_server_that_drops_connections_loses_and_repeats_nothing(datastore, service, how):
    feed = Feed(40, 4, how)
    follower, thread = run_in_thread(service, datastore, feed.url)
    try:
        until(lambda: len(dispatched_messages(service)) >= 40)
    finally:
        stopped(follower, thread)
        feed.shutdown()
        feed.server_close()
    assert dispatched_messages(service) == ["e%d" % n for n in range(1, 41)]
    assert len(feed.connections) >= 9
    assert blinds(service) == []


def test_an_event_is_told_when_it_is_there(serve, datastore, service):
    """Nothing waits for a buffer to be full, or for the connection to end."""
    goes_on = threading.Event()

    def answer(connection, request):
        head = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n"
        connection.sendall(head + event("a", 1))
        goes_on.wait(PATIENCE_SECONDS)

    follower, thread = run_in_thread(service, datastore, serve(answer).url)
    until(lambda: dispatched_messages(service) == ["a"])
    # While the connection is open and silent.
    stopped(follower, thread)
    goes_on.set()


def test_silence_of_a_real_server(serve, datastore, service):
    left = []

    def answer(connection, request):
        head = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\n"
        connection.sendall(head + b"retry: 100\n\n" + event("a", 1))
        # Until the follower hangs up.
        left.append(connection.recv(1))

    server = serve(answer)
    follower, thread = run_in_thread(service, datastore, server.url, heartbeat=1)
    until(lambda: len(server.requests) >= 2, "it has connected again")
    stopped(follower, thread)
    assert left[0] == b""
    assert "Last-Event-ID: 1" in server.requests[1]
    assert dispatched_messages(service) == ["a"]


@pytest.mark.parametrize("answer, reason", [
    (http_answer(200, b"<html>", [("Content-Type", "text/html")]), "content_type"),
    (http_answer(401, b"no"), "authentication"), (http_answer(404), "not_found"),
])
def test_a_wrong_answer_of_a_real_server(serve, datastore, service, answer, reason):
    follower, thread = run_in_thread(service, datastore, serve(answer).url)
    until(lambda: blinds(service))
    stopped(follower, thread)
    assert blinds(service) == [(reason, False)]


def test_a_server_that_is_down(datastore, service):
    follower, thread = run_in_thread(
        service, datastore, "http://127.0.0.1:9/", reconnect=0.1, max_tries=2
    )
    until(lambda: blinds(service))
    stopped(follower, thread)
    assert blinds(service) == [("network", False)]


def test_a_token_that_was_renewed(serve, datastore, service):
    def answer(connection, request):
        good = "Bearer second-secret" in request
        if not good:
            datastore.put("key", "second-secret")
        head = [("Content-Type", "text/event-stream")]
        connection.sendall(http_answer(200, event("a", 1), head) if good else http_answer(401))

    datastore.put("key", "first-secret")
    follower, thread = run_in_thread(service, datastore, serve(answer).url, token_from="key")
    until(lambda: dispatched_messages(service) == ["a"])
    stopped(follower, thread)


def test_a_flood_is_taken_at_the_follower_s_pace(serve, datastore, service):
    flood = b"".join(event("e%d" % n, n) for n in range(2000))
    answer = http_answer(200, flood, [("Content-Type", "text/event-stream")])
    follower, thread = run_in_thread(service, datastore, serve(answer).url)
    until(lambda: len(dispatched_messages(service)) == 2000)
    stopped(follower, thread)
