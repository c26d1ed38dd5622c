"""Retries and a circuit breaker for Python code that wraps its own agents, in one process.

    config = RetryConfig(max_attempts=5, initial_delay=1.0)
    result = await retry_with_backoff(lambda: run_agent(), config, "agent_execution")

    @retryable(RetryConfig(max_attempts=3))
    def call_model(): ...

Both take functions and coroutine functions. Runs on StackStorm need none of this: there the
workflows retry, and breakers live in the datastore, for an action's process ends with it.
"""
import asyncio
import functools
import inspect
import time
from dataclasses import dataclass
from typing import Callable, Optional

from synthralos.refusals import Refused

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
JITTER = 0.25
LEAST_DELAY = 0.1


@dataclass(frozen=True)
class RetryConfig:
    """How often and how long apart a call is tried.

    :ivar max_attempts: calls in all, 1 or more.
    :ivar initial_delay: seconds before the second call; the delay before call n + 1 is
        `min(initial_delay * exponential_base ** (n - 1), max_delay)`.
    :ivar jitter: whether a delay varies by 25 %, within max_delay and not below 0.1 s.
    :ivar retryable_exceptions: other exceptions are raised at once.
    """

    max_attempts: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    retryable_exceptions: tuple[type[BaseException], ...] = (
        ConnectionError,
        TimeoutError,
        asyncio.TimeoutError,
    )

    def __post_init__(self):
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise Refused("max_attempts", self.max_attempts, "is no count", "Use 1 or more")

    def delay(self, attempt):
        """Seconds to wait after failed call number `attempt` (1, 2, ...)."""
        import tenacity

        state = tenacity.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        wait = tenacity.wait_exponential(
            multiplier=self.initial_delay, exp_base=self.exponential_base, max=self.max_delay
        )
        whole = float(wait(state))
        if not self.jitter:
            return whole
        varied = tenacity.wait_random(whole * (1 - JITTER), whole * (1 + JITTER))(state)
        return min(max(varied, LEAST_DELAY), self.max_delay)


def retry_with_backoff(func, config=None, operation_name="operation", sleep=None):
    """Calls `func()` until it answers; raises its last exception.

    For a coroutine function, or a function that returns an awaitable, the result is to be awaited.

    :param operation_name: names the call in the exception's notes, where Python has them (3.11).
    :param sleep: called with seconds; default: time.sleep, or asyncio.sleep.
    """
    config = config or RetryConfig()
    if inspect.iscoroutinefunction(func):
        return _retry_async(func, config, operation_name, sleep, None)
    for attempt in range(1, config.max_attempts + 1):
        try:
            answer = func()
        except config.retryable_exceptions as error:  # pylint: disable=catching-non-exception
            if attempt == config.max_attempts:
                _note(error, operation_name, attempt)
                raise
            (sleep or time.sleep)(config.delay(attempt))
            continue
        if inspect.isawaitable(answer):
            return _retry_async(func, config, operation_name, sleep, answer)
        return answer


async def _retry_async(func, config, operation_name, sleep, first):
    """`first` is the awaitable of the first call, where it was made already."""
    for attempt in range(1, config.max_attempts + 1):
        try:
            answer = first if first is not None else func()
            first = None
            return await answer
        except config.retryable_exceptions as error:
            if attempt == config.max_attempts:
                _note(error, operation_name, attempt)
                raise
        slept = (sleep or asyncio.sleep)(config.delay(attempt))
        if inspect.isawaitable(slept):
            await slept


def _note(error, operation_name, attempts):
    if hasattr(error, "add_note"):
        error.add_note("%s failed after %d attempts" % (operation_name, attempts))


def retryable(config=None, operation_name=None):
    """A decorator: calls of the function are retried as `config` says."""

    def decorate(func):
        name = operation_name or func.__name__
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def retried_async(*args, **kwargs):
                call = functools.partial(func, *args, **kwargs)
                return await _retry_async(call, config or RetryConfig(), name, None, None)

            return retried_async

        @functools.wraps(func)
        def retried(*args, **kwargs):
            return retry_with_backoff(functools.partial(func, *args, **kwargs), config, name)

        return retried

    return decorate


class CircuitBreakerOpen(Exception):
    """The breaker does not let the call through. `.retry_after` is in seconds."""

    def __init__(self, operation_name, retry_after):
        self.retry_after = retry_after
        told = "%s: the breaker is open for another %.1f s"
        super().__init__(told % (operation_name, retry_after))


class CircuitBreaker:
    """Stops calling what keeps failing.

    Opens at `failure_threshold` failures in a row. After `recovery_timeout` seconds at most
    `half_open_max_calls` probes are under way at a time; as many good ones close it, a bad one
    opens it again.

    :param clock: seconds; default: time.monotonic.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 60.0,
        half_open_max_calls: int = 3,
        clock: Optional[Callable[[], float]] = None,
    ):
        self.failure_threshold = failure_threshold
        self.recovery_timeout = recovery_timeout
        self.half_open_max_calls = half_open_max_calls
        self._clock = clock or time.monotonic
        self._failures = self._good = self._probing = 0
        self._opened: Optional[float] = None

    @property
    def state(self):
        if self._opened is None:
            return CLOSED
        return OPEN if self._clock() - self._opened < self.recovery_timeout else HALF_OPEN

    def call(self, func, operation_name="operation"):
        """The result of `func()`, to be awaited when that is. Raises CircuitBreakerOpen."""
        probe = self._enter(operation_name)
        try:
            answer = func()
        except BaseException:
            self._left(probe, False)
            raise
        if inspect.isawaitable(answer):
            return self._awaited(answer, probe)
        self._left(probe, True)
        return answer

    async def _awaited(self, answer, probe):
        good = False
        try:
            result = await answer
            good = True
            return result
        finally:
            self._left(probe, good)

    def _enter(self, operation_name):
        state = self.state
        if state == OPEN:
            left = self.recovery_timeout - (self._clock() - self._opened)
            raise CircuitBreakerOpen(operation_name, left)
        if state == HALF_OPEN:
            if self._probing >= self.half_open_max_calls:
                raise CircuitBreakerOpen(operation_name, 0.0)
            self._probing += 1
            return True
        return False

    def _left(self, probe, good):
        if probe:
            self._probing -= 1
        if not good:
            self._failures += 1
            if probe or self._failures >= self.failure_threshold:
                self._opened, self._good = self._clock(), 0
            return
        if not probe:
            self._failures = 0
            return
        self._good += 1
        if self._good >= self.half_open_max_calls:
            self._opened, self._failures, self._good = None, 0, 0
