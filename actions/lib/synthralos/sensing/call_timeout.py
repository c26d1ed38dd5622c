"""Time limits for calls of sensors.

An action may use a timer signal to end a call. The process of a sensor may not: StackStorm runs
other work in the same thread, which the signal would interrupt instead.
"""

import threading
from typing import Callable, Optional, TypeVar

from synthralos.calls.http import CallError
from synthralos.core import failures

T = TypeVar("T")


class TimedCall:
    """Runs one call at a time in a thread of its own, and stops waiting for it after a time limit.
    """

    def __init__(self) -> None:
        self._running: Optional[threading.Thread] = None

    def call(self, seconds: float, work: Callable[[], T]) -> T:
        """Return or raise what `work()` does.

        :raises CallError: (timeout) it has not ended within `seconds`, or the previous call is
            still running.
        """
        if self._running is not None and self._running.is_alive():
            raise CallError(
                failures.make_failure("timeout", "the previous response is still being received")
            )
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="synthralos-sensor-call", daemon=True)
        self._running = thread
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            raise CallError(failures.make_failure("timeout", "no response within %.1f s" % seconds))
        self._running = None
        if errors:
            raise errors[0]
        return results[0]
