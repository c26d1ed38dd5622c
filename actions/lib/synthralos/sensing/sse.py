"""Server-sent events, parsed as the HTML standard says (section 9.2, "Server-sent events").

Two bounds are added, so that no server can fill the memory: a line and an event that are longer
are passed over, and an id of more than LONGEST_ID bytes is, like one with a NUL, no id.
"""

import re
from dataclasses import dataclass

MAX_LINE_BYTES = 1024 * 1024
MAX_EVENT_BYTES = 2 * 1024 * 1024
MAX_ID_BYTES = 1024
MAX_RETRY_MS = 3_600_000
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(b"[\r\n]")


@dataclass(frozen=True)
class Event:
    """:ivar type: its name; `message` when it bears none.
    :ivar id: the last event id once it has been dealt with, its own or an earlier one's.
    :ivar has_id: whether the event itself bears an id.
    """

    type: str
    data: str
    id: str
    has_id: bool


class Parser:
    """Bytes in, events out.

    :param last_event_id: what the connection was opened with.
    :ivar last_event_id: of what has come in so far.
    :ivar retry: milliseconds that the server asks to wait before the next connection, or None.
    :ivar passed_over: lines and events that were too long.
    """

    def __init__(self, last_event_id=""):
        self.last_event_id, self.retry, self.oversized = last_event_id, None, 0
        self._id = last_event_id
        self._line, self._line_is_too_long, self._ended_by_cr = bytearray(), False, False
        self._begun = False
        self._forget()

    def feed(self, data):
        """The events that these bytes, however they were cut, complete."""
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

    def _gather(self, part):
        if self._line_is_too_long:
            return
        self._line += part
        # A BOM is no part of the first line.
        if len(self._line) > MAX_LINE_BYTES + (0 if self._begun else len(_BOM)):
            self._line, self._line_is_too_long = bytearray(), True

    def _line_is_complete(self):
        line, too_long = bytes(self._line), self._line_is_too_long
        self._line, self._line_is_too_long = bytearray(), False
        if not self._begun:
            self._begun = True
            if line.startswith(_BOM):
                line = line[len(_BOM):]
        if too_long:
            # Part of an event would be another event.
            self._pass_over()
            return None
        if not line:
            return self._dispatched()
        self._take(*_field_of(line))
        return None

    def _take(self, field, value):
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
                self._id, self._has_id = value.decode("utf-8", "replace"), True
        elif field == b"retry" and value and not value.strip(b"0123456789"):
            self.retry = min(int(value.lstrip(b"0")[:10] or b"0"), MAX_RETRY_MS)

    def _pass_over(self):
        if not self._is_passed_over:
            self.oversized += 1
        self._is_passed_over, self._data = True, []

    def _dispatched(self):
        self.last_event_id = self._id
        data, kind, has_id, passed_over = (
            self._data, self._type, self._has_id, self._is_passed_over
        )
        self._forget()
        if passed_over or not data:
            return None
        return Event(
            type=kind.decode("utf-8", "replace") or "message",
            data=b"\n".join(data).decode("utf-8", "replace"),
            id=self.last_event_id,
            has_id=has_id,
        )

    def _forget(self):
        self._data, self._size, self._type = [], 0, b""
        self._has_id = self._is_passed_over = False


def _field_of(line):
    field, colon, value = line.partition(b":")
    if colon and not field:
        return b"", b""
    return field, value[1:] if value.startswith(b" ") else value
