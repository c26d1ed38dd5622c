"""The body of an HTTP answer as it comes in, read by a thread of its own.

Whoever waits for it can stop at any moment; the thread ends with the next byte, or with the limit
of its read. To close the connection from outside would have to wait for the read.
"""

import queue
import threading

from synthralos.calls.http import CallError, lower_case
from synthralos.core import failures

PIECE = 64 * 1024
_WAITING = 16
_SLICE = 0.2
OPENED, DATA, ENDED, FAILED = "opened", "data", "ended", "failed"


class Stream:
    """:param open_response: a callable without arguments that gives a context manager of a response
        of requests, such as http.Client.stream.
    """

    def __init__(self, open_response):
        self._open, self._is_closed = open_response, False
        self._queue = queue.Queue(_WAITING)
        thread = threading.Thread(target=self._read, name="synthralos-sensor-stream", daemon=True)
        thread.start()

    def get(self, seconds):
        """What comes next, or None when nothing comes within `seconds`.

        (OPENED, (status, headers)), then (DATA, bytes) as often as there is some; (ENDED, None) or
        (FAILED, exception) at last.
        """
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self):
        self._is_closed = True

    def _read(self):
        try:
            with self._open() as response:
                self._put((OPENED, (response.status_code, lower_case(response.headers))))
                for piece in _pieces(response):
                    if not self._put((DATA, piece)):
                        return
            self._put((ENDED, None))
        except Exception as error:
            self._put((FAILED, error))

    def _put(self, item):
        """Whether anybody still waits for it."""
        while not self._is_closed:
            try:
                self._queue.put(item, timeout=_SLICE)
                return True
            except queue.Full:
                continue
        return False


def _pieces(response):
    import requests

    errors = requests.packages.urllib3.exceptions  # pylint: disable=no-member
    raw = response.raw
    # requests' own iteration waits until a piece is full, or reads byte by byte.
    read = getattr(raw, "read1", None) or (lambda size: raw.read(1))
    try:
        while True:
            piece = read(PIECE)
            if not piece:
                return
            yield piece
    except errors.ReadTimeoutError as error:
        raise CallError(failures.make_failure("timeout", "nothing came in any more")) from error
    except (errors.HTTPError, OSError) as error:
        raise CallError(failures.make_failure("truncated_stream", "the stream was cut")) from error
