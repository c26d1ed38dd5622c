"""A circuit breaker within one process, for any number of threads and coroutines.

The breakers of runs on StackStorm are derived from the datastore, for an action's process ends with
it: see storage/circuit_breaker.py.
"""

import inspect
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Callable, Optional

from synthralos.core.errors import InvalidInput

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


class CircuitBreakerOpen(Exception):
    """The breaker does not let the call through.

    :ivar retry_after: seconds until the breaker lets a probe through; 0 while probes are under way.
    """

    def __init__(self, operation_name: str, retry_after: float) -> None:
        self.operation_name, self.retry_after = operation_name, retry_after
        super().__init__(
            "%s: the circuit breaker is open for another %.1f s" % (operation_name, retry_after)
        )


@dataclass(frozen=True)
class _Entry:
    """A call under way. It counts only for the period (between two changes of the state) in which
    it began.
    """

    period: int
    probe: Optional[int]


class CircuitBreaker:
    """Stops calling an operation that keeps failing.

    Opens at `failure_threshold` failures in a row. After `recovery_timeout` seconds at most
    `half_open_max_calls` probes are under way at a time; as many successful ones close it, a failed
    one opens it again. A probe that has not ended within `recovery_timeout` seconds makes room for
    another: a call that was cancelled before it began never ends.

    :param clock: seconds, of a clock that only goes forward; default: time.monotonic.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 60.0,
        half_open_max_calls: int = 3,
        clock: Optional[Callable[[], float]] = None,
    ) -> None:
        for name, value in (
            ("failure_threshold", failure_threshold), ("half_open_max_calls", half_open_max_calls),
        ):
            if not isinstance(value, int) or value < 1:
                raise InvalidInput(name, value, "must be an integer of 1 or more", "Use e.g. 3")
        self.failure_threshold = failure_threshold
        self.recovery_timeout = recovery_timeout
        self.half_open_max_calls = half_open_max_calls
        self._clock = clock or time.monotonic
        self._lock = threading.Lock()
        self._failures = self._successful_probes = self._period = self._last_probe = 0
        # Number of the probe: when it began.
        self._probes: dict[int, float] = {}
        self._opened_at: Optional[float] = None

    @property
    def state(self) -> str:
        """CLOSED, OPEN or HALF_OPEN."""
        with self._lock:
            return self._state()

    def call(self, func: Callable[[], Any], operation_name: str = "operation") -> Any:
        """Return the result of `func()`, to be awaited when that is.

        :raises CircuitBreakerOpen: `func` was not called.
        """
        entry = self._enter(operation_name)
        try:
            result = func()
        except BaseException:
            self._leave(entry, False)
            raise
        if inspect.isawaitable(result):
            return self._await(result, entry)
        self._leave(entry, True)
        return result

    async def _await(self, awaitable: Awaitable[Any], entry: _Entry) -> Any:
        succeeded = False
        try:
            result = await awaitable
            succeeded = True
            return result
        finally:
            self._leave(entry, succeeded)

    def _state(self) -> str:
        if self._opened_at is None:
            return CLOSED
        is_open = self._clock() - self._opened_at < self.recovery_timeout
        return OPEN if is_open else HALF_OPEN

    def _enter(self, operation_name: str) -> _Entry:
        with self._lock:
            if self._opened_at is None:
                return _Entry(self._period, None)
            now = self._clock()
            seconds_left = self.recovery_timeout - (now - self._opened_at)
            if seconds_left > 0:
                raise CircuitBreakerOpen(operation_name, seconds_left)
            self._probes = {
                probe: started_at for probe, started_at in self._probes.items()
                if now - started_at < self.recovery_timeout
            }
            if len(self._probes) >= self.half_open_max_calls:
                raise CircuitBreakerOpen(operation_name, 0.0)
            self._last_probe += 1
            self._probes[self._last_probe] = now
            return _Entry(self._period, self._last_probe)

    def _leave(self, entry: _Entry, succeeded: bool) -> None:
        with self._lock:
            if entry.period != self._period:
                # It began before the breaker opened or closed, and says nothing of the time since.
                return
            if entry.probe is not None:
                self._probes.pop(entry.probe, None)
            if not succeeded:
                self._failures += 1
                if entry.probe is not None or self._failures >= self.failure_threshold:
                    self._change_to(self._clock())
            elif entry.probe is None:
                self._failures = 0
            else:
                self._successful_probes += 1
                if self._successful_probes >= self.half_open_max_calls:
                    self._change_to(None)

    def _change_to(self, opened_at: Optional[float]) -> None:
        """Open since `opened_at`, or close."""
        self._opened_at = opened_at
        self._failures = self._successful_probes = 0
        self._period += 1
        self._probes = {}
