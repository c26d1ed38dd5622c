"""A client of server-sent events that reconnects by itself.

    client = EnhancedSSEClient(url="http://agents.example/stream", on_message=handle)
    client.connect()
    ...
    client.close()

The connection is read by a thread of the client; callbacks are called in that thread. A connection
that is lost, or that brings nothing for twice the heartbeat interval, is opened again: after 3, 6,
12 ... 60 seconds, varied by a quarter, with the id of the last event as `Last-Event-ID`. Nothing is
raised there: a program that only looks at `state` works on while the stream is away.
"""

import random
import threading
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Callable, Optional

from synthralos.calls.http import CallError, Client
from synthralos.config.connection import Connection
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.inprocess.agent_metrics import WorkflowMetrics, get_metrics, log_structured_event
from synthralos.sensing.reconnect_delay import ReconnectDelay
from synthralos.sensing.response_stream import DATA, ENDED, OPENED, Stream
from synthralos.sensing.sse import Event, Parser

CONTENT_TYPE = "text/event-stream"
NO_CONTENT = 204
# A server sends one every interval: the second may be a little late.
MISSED_HEARTBEATS = 2
HEARTBEAT_TEXTS = frozenset({"ping", "heartbeat"})
# How soon the thread notices `close`.
_SLICE_SECONDS = 0.1
_HEADERS = {"Accept": CONTENT_TYPE, "Cache-Control": "no-cache", "Accept-Encoding": "identity"}
# The names of the options in TypeScript.
_ALIASES = {
    "baseUrl": "base_url",
    "withCredentials": "with_credentials",
    "reconnectInterval": "reconnect_interval_ms",
    "maxReconnectAttempts": "max_reconnect_attempts",
    "heartbeatInterval": "heartbeat_interval_ms",
    "onMessage": "on_message",
    "onError": "on_error",
    "onOpen": "on_open",
    "onClose": "on_close",
    "onReconnect": "on_reconnect",
}

Open = Callable[[Connection, str, float, dict[str, Any]], AbstractContextManager[Any]]


class ConnectionState(str, Enum):
    """The health of the connection. `closed` after `close` or a server's 204, `failed` when all
    attempts to reconnect have failed.
    """

    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"
    FAILED = "failed"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class SSEOptions:
    """The options of a client.

    :ivar url: absolute, or a path on `base_url`.
    :ivar headers: sent with each connection, such as Authorization.
    :ivar with_credentials: whether `headers` are sent to a host other than that of `base_url`.
    :ivar reconnect_interval_ms: milliseconds before the first reconnection.
    :ivar max_reconnect_attempts: failed reconnections in a row after which the client gives up.
    :ivar heartbeat_interval_ms: milliseconds; a connection that brings nothing for twice as long,
        not even a comment, is dead.
    :ivar on_message: (Event), for each event but heartbeats.
    :ivar on_error: (exception), for each connection that fails or is lost.
    :ivar on_open: (), on_close: (), when the client has ended; on_reconnect: (attempt), before it.
    """

    url: str
    base_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    with_credentials: bool = True
    reconnect_interval_ms: float = 3000
    max_reconnect_attempts: int = 10
    heartbeat_interval_ms: float = 30000
    on_message: Optional[Callable[[Event], Any]] = None
    on_error: Optional[Callable[[Exception], Any]] = None
    on_open: Optional[Callable[[], Any]] = None
    on_close: Optional[Callable[[], Any]] = None
    on_reconnect: Optional[Callable[[int], Any]] = None

    def __post_init__(self) -> None:
        address = urllib.parse.urlsplit(urllib.parse.urljoin(self.base_url, self.url or ""))
        if address.scheme not in ("http", "https") or not address.netloc:
            raise InvalidInput(
                "url", self.url, "must be an absolute http or https URL",
                "Use e.g. https://agents.example/stream, or set base_url too",
            )
        for name in ("reconnect_interval_ms", "heartbeat_interval_ms"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise InvalidInput(name, value, "must be a number above 0", "Use milliseconds")
        attempts = self.max_reconnect_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 0:
            raise InvalidInput(
                "max_reconnect_attempts", attempts, "must be an integer of 0 or more", "Use e.g. 10"
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> "SSEOptions":
        """From names in either style (`reconnectInterval`, `reconnect_interval_ms`).

        :raises InvalidInput: an option is unknown, out of range, or present in both styles.
        """
        allowed = [option.name for option in fields(cls)]
        values: dict[str, Any] = {}
        for name, value in options.items():
            field_name = _ALIASES.get(name, name)
            if field_name not in allowed:
                raise InvalidInput(name, value, "is not an option", "Use one of " + ", ".join(
                    allowed + sorted(_ALIASES)
                ))
            if field_name in values:
                raise InvalidInput(name, value, "is set twice", "Use one of the two names")
            values[field_name] = value
        if "url" not in values:
            raise InvalidInput("url", None, "is missing", "Use the address of the stream")
        return cls(**values)


class EnhancedSSEClient:
    """Listens to a stream of server-sent events, for as long as it takes.

    :param options: the options as a mapping, or as keywords: see SSEOptions.
    :param metrics: count the states of the connection; default: the process's.
    :param open_stream: a callable (connection, path, seconds, headers) that gives a context manager
        of the response, as calls.http.Client.stream does, which is the default.
    :param monotonic: seconds, of a clock that only goes forward.
    :param wait: called with seconds before a reconnection; returns early, and True, when the client
        is closed meanwhile; default: waits for that.
    :param draw: gives a number from 0 to 1, for the jitter of the waits.
    """

    def __init__(
        self,
        options: Optional[Mapping[str, Any]] = None,
        *,
        metrics: Optional[WorkflowMetrics] = None,
        open_stream: Optional[Open] = None,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Optional[Callable[[float], Any]] = None,
        draw: Callable[[], float] = random.random,
        **named_options: Any,
    ) -> None:
        self.options = SSEOptions.from_mapping(dict(options or {}, **named_options))
        self._metrics, self._monotonic = metrics or get_metrics(), monotonic
        self._open_stream = open_stream or Client(lambda connection, fresh: (None, {})).stream
        self._draw, self._wait = draw, wait
        # Never held while a callback runs: it may call `connect` and `close`.
        self._lock = threading.RLock()
        self._listeners: dict[str, list[Callable[[Event], Any]]] = {}
        self._state, self._last_event_id = ConnectionState.CLOSED, ""
        self._run: Optional[_Run] = None

    @property
    def state(self) -> ConnectionState:
        """CLOSED before the first `connect`."""
        with self._lock:
            return self._state

    @property
    def is_connected(self) -> bool:
        """Whether the server has accepted the connection, and it is not lost."""
        return self.state is ConnectionState.OPEN

    @property
    def last_event_id(self) -> str:
        """The id of the last event, which the next connection sends; "" before the first."""
        with self._lock:
            return self._last_event_id

    def connect(self) -> None:
        """Start to listen, and return at once; nothing happens when the client listens already."""
        with self._lock:
            if self._run is not None and not self._run.has_ended:
                return
            self._run = run = _Run(self)
        run.thread.start()

    def close(self) -> None:
        """Stop to listen, without a reconnection. `on_close` follows from the client's thread."""
        with self._lock:
            if self._run is not None:
                self._run.closing.set()

    def join(self, seconds: Optional[float] = None) -> bool:
        """Wait until the client has stopped listening; return whether it has."""
        with self._lock:
            run = self._run
        if run is None:
            return True
        run.thread.join(seconds)
        return not run.thread.is_alive()

    def add_event_listener(self, event_type: str, listener: Callable[[Event], Any]) -> None:
        """Call `listener` with each event of this type (its field `event`, else `message`)."""
        with self._lock:
            self._listeners.setdefault(event_type, []).append(listener)

    # JavaScript's names of the same.
    addEventListener = add_event_listener

    def isConnected(self) -> bool:  # noqa: N802
        """As `is_connected`."""
        return self.is_connected

    def getReadyState(self) -> int:  # noqa: N802
        """As in EventSource: 0 while connecting, 1 when open, 2 when closed."""
        states = {ConnectionState.OPEN: 1, ConnectionState.CLOSED: 2, ConnectionState.FAILED: 2}
        return states.get(self.state, 0)


class _Run:
    """From a `connect` to the end of its thread."""

    def __init__(self, client: EnhancedSSEClient) -> None:
        self.closing, self.has_ended = threading.Event(), False
        self.thread = threading.Thread(target=self._listen, name="synthralos-sse", daemon=True)
        self._client, self._options = client, client.options
        interval = self._options.reconnect_interval_ms / 1000.0
        # It gives up by itself, so that the delays never jump to their maximum before.
        self._reconnect = ReconnectDelay(
            interval, self._options.max_reconnect_attempts + 1, client._draw
        )
        self._connection, self._path = _endpoint(self._options)
        self._failed = 0

    def _listen(self) -> None:
        state = ConnectionState.FAILED
        try:
            state = self._connect_again()
        finally:
            with self._client._lock:
                self.has_ended = True
                self._change_to(state)
            self._call(self._options.on_close)

    def _connect_again(self) -> ConnectionState:
        """Connect until the client is closed or gives up; return the last state."""
        self._change_to(ConnectionState.CONNECTING)
        while True:
            hint = None
            try:
                if self._read():
                    return ConnectionState.CLOSED
                error: Exception = ConnectionError("the server closed the stream")
            except CallError as failed:
                error, hint = failed, failed.failure.retry_after
            if self.closing.is_set():
                return ConnectionState.CLOSED
            self._call(self._options.on_error, error)
            self._failed += 1
            if self._failed > self._options.max_reconnect_attempts:
                self._log("sse_gave_up", attempts=self._failed - 1)
                return ConnectionState.FAILED
            delay = self._reconnect.delay(self._failed, hint)
            self._change_to(
                ConnectionState.RECONNECTING, attempt=self._failed, delay_seconds=delay,
                error=type(error).__name__, cause=_cause(error),
            )
            (self._client._wait or self.closing.wait)(delay)
            if self.closing.is_set():
                return ConnectionState.CLOSED
            self._call(self._options.on_reconnect, self._failed)

    def _read(self) -> bool:
        """Read one connection to its end; return whether it is the last.

        :raises CallError: it could not be opened, or was lost.
        """
        parser = Parser(self._client.last_event_id)
        headers: dict[str, Any] = dict(_HEADERS)
        last_event_id = parser.last_event_id
        if last_event_id.isprintable() and last_event_id and last_event_id == last_event_id.strip():
            # Non-ASCII ids are sent as UTF-8, as browsers do.
            headers["Last-Event-ID"] = last_event_id.encode("utf-8")
        silence_seconds = MISSED_HEARTBEATS * self._options.heartbeat_interval_ms / 1000.0
        stream = Stream(lambda: self._client._open_stream(
            self._connection, self._path, silence_seconds, headers
        ))
        try:
            return self._read_stream(stream, parser, silence_seconds)
        finally:
            stream.close()

    def _read_stream(self, stream: Any, parser: Parser, silence_seconds: float) -> bool:
        monotonic = self._client._monotonic
        received_at = monotonic()
        while not self.closing.is_set():
            item = stream.get(_SLICE_SECONDS)
            if item is None:
                if monotonic() - received_at > silence_seconds:
                    raise CallError(failures.make_failure(
                        "timeout", "no heartbeat for %g s" % silence_seconds
                    ))
                continue
            kind, content = item
            if kind == OPENED:
                if content[0] == NO_CONTENT:
                    return True
                _require_events(*content)
                self._change_to(ConnectionState.OPEN)
                self._call(self._options.on_open)
            elif kind == DATA:
                # A server that accepts connections only to drop them is no better than none.
                self._failed = 0
                self._receive(parser, content)
            elif kind == ENDED:
                return False
            else:
                raise content if isinstance(content, CallError) else CallError(
                    failures.make_failure("network", type(content).__name__)
                )
            # Callbacks may have taken long.
            received_at = monotonic()
        return True

    def _receive(self, parser: Parser, data: bytes) -> None:
        events = parser.feed(data)
        if parser.retry is not None:
            self._reconnect.base, parser.retry = max(parser.retry / 1000.0, 0.1), None
        for event in events:
            if self.closing.is_set():
                return
            with self._client._lock:
                self._client._last_event_id = event.id
                listeners = list(self._client._listeners.get(event.type, ()))
            if event.data.strip() in HEARTBEAT_TEXTS:
                continue
            for callback in [self._options.on_message] + listeners:
                self._call(callback, event)
        with self._client._lock:
            self._client._last_event_id = parser.last_event_id

    def _change_to(self, state: ConnectionState, **data: Any) -> None:
        with self._client._lock:
            before, self._client._state = self._client._state, state
        self._client._metrics.record_connection_state(str(state))
        self._log("sse_connection_state", from_state=str(before), to_state=str(state), **data)

    def _call(self, callback: Optional[Callable[..., Any]], *arguments: Any) -> None:
        if callback is None:
            return
        try:
            callback(*arguments)
        except Exception as error:
            # A mistake in a callback must not end the stream.
            self._log("sse_callback_failed", error=type(error).__name__)

    def _log(self, event_type: str, **data: Any) -> None:
        # Without path and query, which may hold a token.
        log_structured_event(event_type, None, host=self._connection.base_url, **data)


def _endpoint(options: SSEOptions) -> tuple[Connection, str]:
    """Where to connect, and the path with the query there."""
    address = urllib.parse.urlsplit(urllib.parse.urljoin(options.base_url, options.url))
    origin = "%s://%s" % (address.scheme, address.netloc.rpartition("@")[2])
    path = urllib.parse.urlunsplit(("", "", address.path or "/", address.query, ""))
    base = urllib.parse.urlsplit(options.base_url or options.url)
    is_same_origin = (base.scheme, base.netloc) == (address.scheme, address.netloc)
    sends_headers = options.with_credentials or is_same_origin
    connection = Connection(origin)
    if sends_headers:
        connection = replace(connection, headers=dict(options.headers))
    return connection, path


def _require_events(status: int, headers: Mapping[str, str]) -> None:
    if status != 200:
        raise CallError(failures.from_http(status, headers, "", time.time(), "request"))
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != CONTENT_TYPE:
        raise CallError(failures.make_failure(
            "malformed_answer", "the server sends %s, not events" % (content_type or "no type")
        ))


def _cause(error: Exception) -> str:
    return str(error.failure.cause) if isinstance(error, CallError) else "closed"
