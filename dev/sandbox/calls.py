"""The record: every call, in the order of arrival."""
import threading
from dataclasses import asdict, dataclass
from typing import Any, Optional

from sandbox import targets


@dataclass
class Call:
    """One call.

    :ivar time: of its arrival, in seconds since the epoch.
    :ivar target: the target that was called; see `targets`.
    :ivar path: without the query, which is in `query`, name -> last value.
    :ivar headers: names in lower case; repeated ones joined by ", ".
    :ivar body: the parsed JSON, else the text, else None.
    :ivar status: the HTTP status of the answer; None before the answer and without one.
    :ivar step: the name of the step that answered; `refused` if the request was invalid.
    """

    time: float
    target: str
    method: str
    path: str
    query: dict
    headers: dict
    body: Any = None
    status: Optional[int] = None
    step: Optional[str] = None

    def as_dict(self):
        return asdict(self)


class Record:
    """The calls so far; safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._calls = []
        self._arrived = 0

    def add(self, call):
        with self._lock:
            self._calls.append(call)

    def number(self):
        """The number of the next call: 1, 2, ...; clearing the record does not restart it."""
        with self._lock:
            self._arrived += 1
            return self._arrived

    def all(self):
        with self._lock:
            return list(self._calls)

    def to(self, pattern):
        """The calls to the targets that `pattern` covers."""
        return [call for call in self.all() if targets.covers(pattern, call.target)]

    def clear(self):
        with self._lock:
            self._calls.clear()
