"""Listens to a stream of server-sent events of agents for as long as the sensor runs.

The id of the last processed event is stored and sent as `Last-Event-ID` with every connection, so
that the server continues from there.
"""

import hashlib
import re
import threading
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.calls.http import CallError
from synthralos.core import bounded_json, failures
from synthralos.sensing import agent_payloads, sse
from synthralos.sensing.connectivity import ConnectivityMonitor, DispatchError
from synthralos.sensing.poller import describe_error
from synthralos.sensing.reconnect_delay import MAX_DELAY_SECONDS, ReconnectDelay
from synthralos.sensing.response_stream import DATA, ENDED, OPENED, Stream
from synthralos.sensing.sensor_environment import load_config_or_log
from synthralos.sensing.sensor_state import SensorState
from synthralos.sensing.stream_decoding import StreamDecoder, UnreadableStream
from synthralos.storage.datastore import DatastoreUnavailable

if TYPE_CHECKING:
    from synthralos.config.connection import Connection
    from synthralos.sensing.config import AgentEvents, Endpoint
    from synthralos.sensing.sensor_environment import SensorEnvironment

FAILURE_TRIGGER = "agent_failure"
LOOP_TRIGGER = "agent_loop"
SOURCE = "events"
CONTENT_TYPE = "text/event-stream"
# Seconds between two checks whether the sensor is to stop.
SLICE_SECONDS = 0.25
MAX_RECENT = 500
# (connection, path, headers, seconds).
Connect = Callable[["Connection", str, dict[str, Any], float], Stream]
_SWALLOWED = ("ping", "heartbeat", "[DONE]")
_HEADERS = {
    "Accept": CONTENT_TYPE,
    "Cache-Control": "no-cache",
    # A compressed stream may be buffered by the server for any length of time.
    "Accept-Encoding": "identity",
}
_HEADER = re.compile(r"[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?\Z")


class AgentEventsListener:
    """Dispatches synthralos.agent_failure and synthralos.agent_loop for the events of a stream.

    :param stop: ends `run`.
    :param monotonic: returns seconds.
    :param draw: returns a random number, 0 to 1, for the reconnect delay.
    """

    entry = "agent_events"

    def __init__(
        self,
        env: "SensorEnvironment",
        stop: Optional[threading.Event] = None,
        connect: Optional[Connect] = None,
        monotonic: Callable[[], float] = time.monotonic,
        draw: Optional[Callable[[], float]] = None,
    ) -> None:
        self._env, self._stop = env, stop or threading.Event()
        self._connect, self._monotonic = connect or self._stream, monotonic
        self.config: Optional[AgentEvents]
        self.config, self._is_wrong = load_config_or_log(env, self.entry)
        tries = self.config.max_tries if self.config else 10
        self._connectivity = ConnectivityMonitor(
            env.sensor, env.dispatch, env.datastore, env.now, env.log, tries
        )
        self._state = SensorState(
            env.datastore, env.sensor + ".place", env.now, env.log
        )
        self._tries, self._has_ended, self._is_proven = 0, False, False
        self._is_unknown_told = False
        if self.config is not None:
            options = {} if draw is None else {"draw": draw}
            self._reconnect = ReconnectDelay(self.config.reconnect, tries, **options)

    def stop(self) -> None:
        """End `run` from another thread, within SLICE_SECONDS."""
        self._stop.set()

    def run(self) -> None:
        """Listen until `stop` is called.

        It never raises, and nothing else ends it: StackStorm counts a sensor process that ends as
        dead.
        """
        if self._is_wrong:
            self._connectivity.failed(
                "configuration", "the configuration is invalid", 0, at_once=True
            )
        while not self._stop.is_set():
            if self.config is None or self._has_ended:
                self._stop.wait(MAX_DELAY_SECONDS)
                continue
            hint: Optional[float] = None
            error: Exception
            try:
                self._listen(self.config)
                error = _StreamClosed()
            except Exception as exception:
                error = exception
                hint = getattr(getattr(exception, "failure", None), "retry_after", None)
            if not self._stop.is_set() and not self._has_ended:
                self._stop.wait(self._delay_after(self.config, error, hint))

    def _delay_after(
        self, config: "AgentEvents", error: Exception, hint: Optional[float]
    ) -> float:
        """Report a failed connection; return the seconds until the next attempt."""
        self._tries += 1
        if isinstance(error, _StreamClosed):
            reason, message, is_permanent = "closed", "the server closed the stream", False
        elif isinstance(error, _UnexpectedResponse):
            reason, message, is_permanent = error.reason, str(error), True
        elif isinstance(error, UnreadableStream):
            reason, message, is_permanent = "encoding", str(error), True
        else:
            reason, message, is_permanent = describe_error(error)
        if reason == "internal":
            self._env.log.error("%s", "".join(traceback.format_exception(
                type(error), error, error.__traceback__
            )))
        failed_attempts = max(self._tries, config.max_tries) if is_permanent else self._tries
        wait = self._reconnect.delay(failed_attempts, hint)
        self._connectivity.failed(reason, message, wait, at_once=is_permanent)
        return wait

    def _listen(self, config: "AgentEvents") -> None:
        """Open one connection and read it until the server closes it."""
        self._state.load()
        endpoint = config.endpoints[self._tries % len(config.endpoints)]
        parser = sse.Parser(self._last_event_id(config, endpoint))
        headers: dict[str, Any] = dict(_HEADERS)
        if _HEADER.match(parser.last_event_id):
            headers["Last-Event-ID"] = parser.last_event_id.encode("utf-8", "replace")
        stream = self._connect(endpoint.connection, endpoint.path, headers, config.heartbeat)
        try:
            self._read(config, stream, parser)
        finally:
            stream.close()
            self._save()

    def _read(self, config: "AgentEvents", stream: Stream, parser: sse.Parser) -> None:
        opened_at = last_received_at = self._monotonic()
        is_open, self._is_proven = False, False
        decoder: Optional[StreamDecoder] = None
        while not self._stop.is_set():
            item = stream.get(SLICE_SECONDS)
            now = self._monotonic()
            if is_open and now - opened_at >= self._reconnect.base:
                self._mark_healthy()
            if self._is_proven:
                self._connectivity.status.heartbeat()
            if item is None:
                if now - last_received_at > config.heartbeat:
                    raise CallError(failures.make_failure(
                        "timeout", "nothing was received for %d s" % config.heartbeat
                    ))
                continue
            kind, value = item
            if kind == OPENED:
                self._check(*value)
                if self._has_ended:
                    return
                is_open, opened_at = True, now
                decoder = StreamDecoder(value[1])
                parser.charset = decoder.charset
            elif kind == DATA:
                assert decoder is not None, "a stream is opened before it has data"
                for chunk in decoder.decode(value):
                    self._handle_bytes(config, parser, chunk)
            elif kind == ENDED:
                return
            else:
                raise value
            # Dispatching may have taken long.
            last_received_at = self._monotonic()

    def _check(self, status: int, headers: Mapping[str, str]) -> None:
        if status == 204:
            self._env.log.info(
                "%s: the server has ended the stream (204); idle until the sensor is restarted",
                self._env.sensor,
            )
            self._has_ended = True
            self._connectivity.succeeded()
            return
        if status != 200:
            raise CallError(failures.from_http(
                status, headers, "", self._env.now(), "request"
            ))
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != CONTENT_TYPE:
            raise _UnexpectedResponse(
                "content_type", "the server sends %s instead of events" % (kind or "?")
            )

    def _handle_bytes(self, config: "AgentEvents", parser: sse.Parser, data: bytes) -> None:
        events = parser.feed(data)
        if parser.oversized:
            self._env.log.warning(
                "%s: dropped %d events that were too long", self._env.sensor, parser.oversized
            )
            parser.oversized = 0
        if parser.unknown_lines and not self._is_unknown_told:
            self._is_unknown_told = True
            self._env.log.warning(
                "%s: the server sends lines that are not part of an event stream; such as these "
                "hold no event", self._env.sensor,
            )
        if parser.retry is not None:
            self._reconnect.base, parser.retry = max(parser.retry / 1000.0, 0.1), None
        if events:
            self._mark_healthy()
        for event in events:
            if not self._handle_event(config, event):
                return
            self._remember(event.id)
        self._remember(parser.last_event_id)
        if events:
            self._save()

    def _handle_event(self, config: "AgentEvents", event: sse.Event) -> bool:
        """Dispatch an event, again and again until StackStorm has accepted it.

        :returns: whether the event was processed; False if the sensor was stopped before.
        """
        report = self._report_of(config, event)
        if report is None:
            return True
        trigger, payload = report
        digest = _digest(event) if event.has_id else None
        recent = self._state.content["recent"]
        if digest is not None and digest in recent:
            return True
        failed_attempts = 0
        while not self._stop.is_set():
            try:
                self._env.dispatch(trigger, payload)
            except DispatchError as error:
                # The stream waits: an event without an id could not be requested again.
                failed_attempts += 1
                wait = self._reconnect.delay(failed_attempts)
                self._connectivity.failed("message_bus", str(error), wait)
                self._stop.wait(wait)
                continue
            if failed_attempts:
                self._connectivity.succeeded()
            if digest is not None:
                recent.append(digest)
                del recent[:-MAX_RECENT]
                self._state.changed()
            return True
        return False

    def _report_of(
        self, config: "AgentEvents", event: sse.Event
    ) -> Optional[tuple[str, Mapping[str, Any]]]:
        """Return (trigger, payload) of an event, or None if it is of neither kind."""
        if event.data.strip() in _SWALLOWED:
            return None
        body = _parsed(event.data)
        names = [event.type]
        if isinstance(body, dict):
            values = (body.get(name) for name in ("type", "event", "eventType", "event_type"))
            names += [value for value in values if isinstance(value, str)]
        now = self._env.now()
        if any(name in config.loop_events for name in names):
            return LOOP_TRIGGER, agent_payloads.loop_payload(body, SOURCE, now)
        if any(name in config.failure_events for name in names):
            # Without an id, the same text at another time is another failure.
            error_id = agent_payloads.content_id([event.data, event.id if event.has_id else now])
            return FAILURE_TRIGGER, agent_payloads.failure_payload(body, SOURCE, now, error_id)
        return None

    def _mark_healthy(self) -> None:
        """Record that the connection works: it lasts, or has delivered an event."""
        if not self._is_proven:
            self._is_proven, self._tries = True, 0
            self._connectivity.succeeded()

    def _last_event_id(self, config: "AgentEvents", endpoint: "Endpoint") -> str:
        content = self._state.content
        # Ids of another stream are not valid for this one.
        if content.get("where") not in [
            _endpoint_id(known_endpoint) for known_endpoint in config.endpoints
        ]:
            content.update(where=_endpoint_id(endpoint), last_event_id="")
        if not isinstance(content.get("last_event_id"), str):
            content["last_event_id"] = ""
        if not isinstance(content.get("recent"), list):
            content["recent"] = []
        last_event_id: str = content["last_event_id"]
        return last_event_id

    def _remember(self, event_id: str) -> None:
        if event_id != self._state.content["last_event_id"]:
            self._state.content["last_event_id"] = event_id
            self._state.changed()

    def _save(self) -> None:
        try:
            self._state.save()
        except DatastoreUnavailable as error:
            # It is stored with the next event; until then it is in memory.
            self._env.log.warning("%s: %s", self._env.sensor, error)

    def _stream(
        self, connection: "Connection", path: str, headers: dict[str, Any], seconds: float
    ) -> Stream:
        client = self._env.client()
        return Stream(lambda: client.stream(connection, path, seconds, headers))


class _StreamClosed(Exception):
    pass


class _UnexpectedResponse(Exception):
    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def _parsed(text: str) -> Any:
    try:
        return bounded_json.loads(text)
    except ValueError:
        return text


def _endpoint_id(endpoint: "Endpoint") -> str:
    address = endpoint.connection.base_url + endpoint.path
    return hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:16]


def _digest(event: sse.Event) -> str:
    text = "\n".join((event.id, event.type, event.data))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
