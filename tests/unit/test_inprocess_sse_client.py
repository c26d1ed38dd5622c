"""The client of server-sent events, against scripted streams; tests/seeds has real servers."""
import contextlib
import threading

import pytest
from fixtures.waiting import until

from synthralos.calls.http import CallError
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.observability import WorkflowMetrics
from synthralos.streaming import ConnectionState, EnhancedSSEClient, SSEOptions

PATIENCE_SECONDS = 60
URL = "http://events.example/api/runs/7/stream?token=secret"
HEADERS = {"Content-Type": "text/event-stream"}


class Response:
    """A response of requests as far as sensing.stream.Stream reads it.

    :param pieces: bytes that are read one after the other; then the stream ends, or an Event of
        threading is waited for first.
    """

    def __init__(self, *pieces, status=200, headers=HEADERS):
        self.status_code, self.headers, self.raw = status, headers, self
        self._pieces = list(pieces)

    def read1(self, size):
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, threading.Event):
            piece.wait(PATIENCE_SECONDS)
            return b""
        return piece


class Server:
    """Gives its responses in their order; an exception is raised; then connections fail."""

    def __init__(self, *responses):
        self.responses, self.headers, self.paths = list(responses), [], []
        self.connections = []

    @contextlib.contextmanager
    def open(self, connection, path, seconds, headers):
        self.headers.append(headers)
        self.connections.append(connection)
        self.paths.append(connection.base_url + path)
        if not self.responses:
            raise CallError(failures.make_failure("network", "no connection"))
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        yield response


class Journal:
    """What the callbacks were called with."""

    def __init__(self):
        self.lines = []

    def options(self):
        return {
            "onMessage": lambda event: self.lines.append(event.data),
            "onError": lambda error: self.lines.append(type(error).__name__),
            "onOpen": lambda: self.lines.append("open"),
            "onClose": lambda: self.lines.append("close"),
            "onReconnect": lambda attempt: self.lines.append(attempt),
        }


@pytest.fixture
def journal():
    return Journal()


@pytest.fixture
def metrics():
    return WorkflowMetrics()


@pytest.fixture
def listen(journal, metrics):
    """listen(*responses, **options): run a client to its end; (client, server, waits)."""

    def start(*responses, **options):
        server, waits = Server(*responses), []
        client = EnhancedSSEClient(
            dict(journal.options(), url=URL, **options), metrics=metrics, open_stream=server.open,
            wait=waits.append, draw=lambda: 0.5,
        )
        client.connect()
        assert client.join(PATIENCE_SECONDS)
        return client, server, waits

    return start


def data(text, event_id=None):
    return ("data: %s\n%s\n" % (text, "" if event_id is None else "id: %s\n" % event_id)).encode()


def test_defaults_are_those_of_the_original():
    options = SSEOptions(URL)
    assert (options.reconnect_interval_ms, options.max_reconnect_attempts,
            options.heartbeat_interval_ms) == (3000, 10, 30000)


def test_waits_double_and_end_after_the_last_attempt(listen, journal):
    client, _, waits = listen()
    assert waits == [3, 6, 12, 24, 48, 60, 60, 60, 60, 60]
    assert client.state is ConnectionState.FAILED and client.getReadyState() == 2
    assert journal.lines[:3] == ["CallError", 1, "CallError"] and journal.lines[-1] == "close"
    assert journal.lines.count("CallError") == 11


def test_it_goes_on_after_the_last_event(listen, journal, metrics):
    client, server, waits = listen(
        Response(data("a", 1), data("b", 2)), Response(data("c", 3)), Response(status=204),
    )
    assert [line for line in journal.lines if line in ("a", "b", "c")] == ["a", "b", "c"]
    assert [headers.get("Last-Event-ID") for headers in server.headers] == [None, b"2", b"3"]
    assert waits == [3, 3] and client.state is ConnectionState.CLOSED
    assert client.last_event_id == "3"
    connections = metrics.get_metrics()["connections"]
    assert (connections["open"], connections["reconnecting"]) == (2, 2)


def test_a_server_that_only_drops_connections_is_given_up(listen):
    client, _, waits = listen(*[Response() for _ in range(9)], maxReconnectAttempts=3)
    assert waits == [3, 6, 12] and client.state is ConnectionState.FAILED


def test_the_server_may_set_the_interval(listen):
    waits = listen(Response(b"retry: 500\n\n", data("x")), Response(status=204))[2]
    assert waits == [0.5]
    waits = listen(Response(b"retry: 7000\n\n"), Response(status=204))[2]
    assert waits == [7]


def test_heartbeats_are_no_messages(listen, journal):
    listen(Response(data("ping"), data("heartbeat"), b": comment\n\n", data("x")),
           Response(status=204))
    assert "ping" not in journal.lines and "heartbeat" not in journal.lines
    assert "x" in journal.lines


@pytest.mark.parametrize("response", [
    Response(status=503), Response(headers={"Content-Type": "text/html"}), OSError("no"),
])
def test_what_is_no_stream_is_tried_again(listen, journal, response):
    client, _, waits = listen(response, Response(status=204))
    assert waits == [3] and "open" not in journal.lines
    assert client.state is ConnectionState.CLOSED


def test_a_silent_connection_is_dead(journal, metrics, clock):
    gate, waits = threading.Event(), []
    server = Server(Response(data("x"), gate), Response(status=204))
    client = EnhancedSSEClient(
        dict(journal.options(), url=URL), metrics=metrics, open_stream=server.open,
        monotonic=clock, wait=waits.append,
    )
    client.connect()
    try:
        until(lambda: "x" in journal.lines, seconds=PATIENCE_SECONDS)
        clock.forward(60)
        assert client.isConnected() and client.getReadyState() == 1
        clock.forward(1)
        assert client.join(PATIENCE_SECONDS)
    finally:
        gate.set()
    assert journal.lines == ["open", "x", "CallError", 1, "close"]


def test_close_ends_it_without_a_reconnection(journal, metrics):
    gate = threading.Event()
    server = Server(Response(data("x"), gate))
    client = EnhancedSSEClient(journal.options(), url=URL, metrics=metrics, open_stream=server.open)
    assert client.join(0) and client.getReadyState() == 2
    client.connect()
    client.connect()
    try:
        until(lambda: "x" in journal.lines, seconds=PATIENCE_SECONDS)
        client.close()
        assert client.join(PATIENCE_SECONDS)
    finally:
        gate.set()
    assert journal.lines == ["open", "x", "close"] and len(server.headers) == 1
    assert client.state is ConnectionState.CLOSED


def test_a_client_may_be_connected_again_from_its_own_callback(metrics):
    closed = []
    server = Server(Response(status=204), Response(status=204))

    def connect_once():
        closed.append(1)
        if len(closed) == 1:
            client.connect()

    client = EnhancedSSEClient(
        url=URL, metrics=metrics, open_stream=server.open, on_close=connect_once
    )
    client.connect()
    until(lambda: len(closed) == 2, seconds=PATIENCE_SECONDS)
    assert len(server.headers) == 2


def test_listeners_are_for_one_type_and_a_broken_callback_ends_nothing(metrics):
    events = []
    server = Server(
        Response(b"event: state\ndata: PLANNED\n\n", data("x")), Response(status=204)
    )

    def broken(event):
        raise RuntimeError("a mistake")

    client = EnhancedSSEClient(
        url=URL, metrics=metrics, open_stream=server.open, on_message=broken,
        wait=lambda seconds: None,
    )
    client.add_event_listener("state", events.append)
    client.connect()
    assert client.join(PATIENCE_SECONDS)
    assert [(event.type, event.data) for event in events] == [("state", "PLANNED")]


def test_the_log_has_states_and_no_token(listen, caplog):
    caplog.set_level("INFO", "synthralos.agents")
    listen(Response(data("x")), Response(status=204))
    changes = [
        record.to_state for record in caplog.records if record.message == "sse_connection_state"
    ]
    assert changes == ["connecting", "open", "reconnecting", "closed"]
    assert "secret" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("options, message", [
    ({}, "url: is missing"),
    ({"url": "/api/runs/7/stream"}, "must be an absolute http or https URL"),
    ({"url": URL, "reconnect": 1}, "is not an option"),
    ({"url": URL, "reconnectInterval": 0}, "reconnect_interval_ms 0"),
    ({"url": URL, "maxReconnectAttempts": 1.5}, "max_reconnect_attempts"),
    ({"url": URL, "reconnectInterval": 5, "reconnect_interval_ms": 5}, "is set twice"),
])
def test_options_that_are_wrong_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        EnhancedSSEClient(options)


@pytest.mark.parametrize("with_credentials, url, sent", [
    (True, "/stream", True), (False, "/stream", True),
    (True, "http://other.example/stream", True), (False, "http://other.example/stream", False),
])
def test_credentials_go_to_other_hosts_only_where_they_may(metrics, with_credentials, url, sent):
    server = Server(Response(status=204))
    client = EnhancedSSEClient(
        url=url, base_url="http://events.example", headers={"Authorization": "Bearer x"},
        withCredentials=with_credentials, metrics=metrics, open_stream=server.open,
    )
    client.connect()
    assert client.join(PATIENCE_SECONDS)
    [connection] = server.connections
    assert server.paths[0].endswith(".example/stream")
    assert connection.headers == ({"Authorization": "Bearer x"} if sent else {})
