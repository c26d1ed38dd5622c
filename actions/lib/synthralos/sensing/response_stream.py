"""Reads the body of an HTTP response as it arrives, in a thread of its own.

The consumer can stop waiting at any time; the thread ends with the next byte or the read timeout.
Closing the connection from another thread would have to wait for the read.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.calls.http import CallError, lower_case
from synthralos.core import failures

if TYPE_CHECKING:
    import requests

CHUNK_BYTES = 64 * 1024
_MAX_QUEUED_CHUNKS = 16
_SLICE_SECONDS = 0.2
OPENED, DATA, ENDED, FAILED = "opened", "data", "ended", "failed"
# One of these and what comes with it; see Stream.get.
Item = tuple[str, Any]


class Stream:
    """A response body as a queue of items.

    :param open_response: such as a call of http.Client.stream.
    """

    def __init__(
        self, open_response: "Callable[[], AbstractContextManager[requests.Response]]"
    ) -> None:
        self._open, self._is_closed = open_response, False
        self._queue: queue.Queue[Item] = queue.Queue(_MAX_QUEUED_CHUNKS)
        thread = threading.Thread(target=self._read, name="synthralos-sensor-stream", daemon=True)
        thread.start()

    def get(self, seconds: float) -> Optional[Item]:
        """Return the next item, or None if there is none within `seconds`.

        :returns: first (OPENED, (status, headers)), then any number of (DATA, bytes), at last
            (ENDED, None) or (FAILED, exception).
        """
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._is_closed = True

    def _read(self) -> None:
        try:
            with self._open() as response:
                self._put((OPENED, (response.status_code, lower_case(response.headers))))
                for piece in _pieces(response):
                    if not self._put((DATA, piece)):
                        return
            self._put((ENDED, None))
        except Exception as error:
            self._put((FAILED, error))

    def _put(self, item: Item) -> bool:
        """Queue an item; return whether the stream is still open."""
        while not self._is_closed:
            try:
                self._queue.put(item, timeout=_SLICE_SECONDS)
                return True
            except queue.Full:
                continue
        return False


def _pieces(response: "requests.Response") -> Iterator[bytes]:
    import requests

    # The stubs of requests do not declare it.
    packages: Any = requests.packages
    errors = packages.urllib3.exceptions  # pylint: disable=no-member
    raw = response.raw
    # The iteration of requests waits for full chunks or reads byte by byte.
    read = getattr(raw, "read1", None) or (lambda size: raw.read(1))
    try:
        while True:
            piece = read(CHUNK_BYTES)
            if not piece:
                return
            yield piece
    except errors.ReadTimeoutError as error:
        raise CallError(failures.make_failure("timeout", "nothing more was received")) from error
    except (errors.HTTPError, OSError) as error:
        raise CallError(
            failures.make_failure("truncated_stream", "the stream was truncated")
        ) from error
