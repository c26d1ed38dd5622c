"""Time limits for calls of sensors.

An action may use a timer signal to end a call. The process of a sensor may not: StackStorm runs
other work in the same thread, which the signal would interrupt instead.
"""

import threading

from synthralos.calls.http import CallError
from synthralos.core import failures


class TimedCall:
    """Runs one call at a time in a thread of its own, and stops waiting for it after a time limit.
    """

    def __init__(self):
        self._running = None

    def call(self, seconds, work):
        """Return or raise what `work()` does.

        :raises CallError: (timeout) it has not ended within `seconds`, or the previous call is
            still running.
        """
        if self._running is not None and self._running.is_alive():
            raise CallError(
                failures.make_failure("timeout", "the previous response is still being received")
            )
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
            raise CallError(failures.make_failure("timeout", "no response within %.1f s" % seconds))
        self._running = None
        if "error" in result:
            raise result["error"]
        return result["value"]
