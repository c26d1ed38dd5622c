"""Calls that end in time, whatever the other side does.

An action may have a timer signal end a call. A sensor's process may not: there StackStorm runs
other work in the same thread, which the signal would hit instead.
"""

import threading

from synthralos.calls.http import CallError
from synthralos.core import failures


class TimedCall:
    """Runs one call at a time in a thread of its own, and waits for it no longer than it may take.
    """

    def __init__(self):
        self._running = None

    def call(self, seconds, work):
        """What `work()` returns or raises. CallError (timeout) when it has not ended in time."""
        if self._running is not None and self._running.is_alive():
            raise CallError(failures.make_failure("timeout", "the last answer is still coming in"))
        result = {}

        def run():
            try:
                result["value"] = work()
            except BaseException as error:
                result["error"] = error

        thread = threading.Thread(target=run, name="synthralos-sensor-call", daemon=True)
        self._running = thread
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise CallError(failures.make_failure("timeout", "no answer within %.1f s" % seconds))
        self._running = None
        if "error" in result:
            raise result["error"]
        return result["value"]
