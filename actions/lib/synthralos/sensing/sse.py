"""Parser for server-sent events, as specified by the HTML standard (section 9.2).

Two limits are added, so that no server can exhaust the memory: lines and events that are too long
are skipped, and an id of more than MAX_ID_BYTES is ignored, like an id with a NUL.
"""

import re
from dataclasses import dataclass
from typing import Optional

MAX_LINE_BYTES = 1024 * 1024
MAX_EVENT_BYTES = 2 * 1024 * 1024
MAX_ID_BYTES = 1024
MAX_RETRY_MS = 3_600_000
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(b"[\r\n]")


@dataclass(frozen=True)
class Event:
    """A server-sent event.

    :ivar type: its name; `message` if it has none.
    :ivar id: the last event id after this event: its own or that of an earlier event.
    :ivar has_id: whether the event has an id of its own.
    """

    type: str
    data: str
    id: str
    has_id: bool


class Parser:
    """Incremental parser: bytes in, events out.

    :param last_event_id: the id that was sent when the connection was opened.
    :ivar charset: of texts that are not valid UTF-8, as servers send them that ignore the standard.
    :ivar unknown_lines: number of lines that are neither fields nor comments of an event stream.
    :ivar last_event_id: the last event id received so far.
    :ivar retry: milliseconds that the server asks to wait before the next connection, or None.
    :ivar oversized: number of lines and events that were too long.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id, self.oversized = last_event_id, 0
        self.retry: Optional[int] = None
        self.charset, self.unknown_lines = "utf-8", 0
        self._id = last_event_id
        self._line, self._line_is_too_long, self._ended_by_cr = bytearray(), False, False
        self._begun = False
        self._data: list[bytes] = []
        self._size, self._type = 0, b""
        self._has_id = self._is_passed_over = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete; they may be split anywhere."""
        events = []
        at = 0
        while at < len(data):
            if self._ended_by_cr:
                self._ended_by_cr = False
                if data[at:at + 1] == b"\n":
                    at += 1
                    continue
            end = _LINE_END.search(data, at)
            self._gather(data[at:end.start() if end else len(data)])
            if end is None:
                break
            self._ended_by_cr = end.group() == b"\r"
            at = end.end()
            event = self._line_is_complete()
            if event is not None:
                events.append(event)
        return events

    def _gather(self, part: bytes) -> None:
        if self._line_is_too_long:
            return
        self._line += part
        # A BOM is not part of the first line.
        if len(self._line) > MAX_LINE_BYTES + (0 if self._begun else len(_BOM)):
            self._line, self._line_is_too_long = bytearray(), True

    def _line_is_complete(self) -> Optional[Event]:
        line, too_long = bytes(self._line), self._line_is_too_long
        self._line, self._line_is_too_long = bytearray(), False
        if not self._begun:
            self._begun = True
            if line.startswith(_BOM):
                line = line[len(_BOM):]
        if too_long:
            # A part of an event would be a different event.
            self._pass_over()
            return None
        if not line:
            return self._dispatched()
        self._take(*_field_of(line))
        return None

    def _take(self, field: bytes, value: bytes) -> None:
        if field == b"data":
            self._size += len(value) + 1
            if self._size > MAX_EVENT_BYTES:
                self._pass_over()
            else:
                self._data.append(value)
        elif field == b"event":
            self._type = value
        elif field == b"id":
            if b"\x00" not in value and len(value) <= MAX_ID_BYTES:
                self._id, self._has_id = self._text(value), True
        elif field == b"retry" and value and not value.strip(b"0123456789"):
            self.retry = min(int(value.lstrip(b"0")[:10] or b"0"), MAX_RETRY_MS)
        elif field not in (b"", b"retry"):
            self.unknown_lines += 1

    def _text(self, value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeError:
            return value.decode(self.charset, "replace")

    def _pass_over(self) -> None:
        if not self._is_passed_over:
            self.oversized += 1
        self._is_passed_over = True
        self._data = []

    def _dispatched(self) -> Optional[Event]:
        self.last_event_id = self._id
        data, kind, has_id, passed_over = (
            self._data, self._type, self._has_id, self._is_passed_over
        )
        self._forget()
        if passed_over or not data:
            return None
        return Event(
            type=self._text(kind) or "message",
            data=self._text(b"\n".join(data)),
            id=self.last_event_id,
            has_id=has_id,
        )

    def _forget(self) -> None:
        self._data, self._size, self._type = [], 0, b""
        self._has_id = self._is_passed_over = False


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    field, colon, value = line.partition(b":")
    if colon and not field:
        return b"", b""
    return field, value[1:] if value.startswith(b" ") else value
