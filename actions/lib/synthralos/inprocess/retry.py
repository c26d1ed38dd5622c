"""Retries of functions and coroutine functions within one process.

    config = RetryConfig(max_attempts=5, initial_delay=1.0)
    result = await retry_with_backoff(lambda: run_agent(), config, "agent_execution")

    @retryable(RetryConfig(max_attempts=3))
    def call_model(): ...

Runs on StackStorm need none of this: there the workflows retry.
"""

import asyncio
import functools
import inspect
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Callable, Optional

import tenacity
from tenacity.wait import wait_base

from synthralos.core.errors import InvalidInput
from synthralos.inprocess.agent_metrics import WorkflowMetrics, get_metrics
from synthralos.inprocess.circuit_breaker import CircuitBreaker

JITTER = 0.25
MIN_JITTERED_DELAY_SECONDS = 0.1
DEFAULT_RETRYABLE_EXCEPTIONS: tuple[type[BaseException], ...] = (
    ConnectionError,
    TimeoutError,
    asyncio.TimeoutError,
)

# Seconds in; an awaitable out where the sleep is asynchronous.
Sleep = Callable[[float], Any]


@dataclass(frozen=True)
class RetryConfig:
    """How many times a function is called, and the delays in between.

    :ivar max_attempts: calls in all, 1 or more.
    :ivar initial_delay: seconds before the second call; the delay before call n + 1 is
        `min(initial_delay * exponential_base ** (n - 1), max_delay)`.
    :ivar jitter: whether a delay varies by 25 %, within max_delay and not below 0.1 s.
    :ivar retryable_exceptions: any other exception is raised at once.
    :raises InvalidInput: a value is out of its range.
    """

    max_attempts: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True
    retryable_exceptions: tuple[type[BaseException], ...] = DEFAULT_RETRYABLE_EXCEPTIONS

    def __post_init__(self) -> None:
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise InvalidInput(
                "max_attempts", self.max_attempts, "must be an integer of 1 or more",
                "Use the number of calls in all; 1 calls once, without a retry",
            )
        for name in ("initial_delay", "max_delay", "exponential_base"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value >= 0:
                raise InvalidInput(name, value, "must be a number of 0 or more", "Use e.g. 1.0")

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after failed call number `attempt` (1, 2, ...).

        :param draw: gives a number from 0 to 1, for the jitter.
        """
        # tenacity's waits read the number of the attempt alone, so there is no call to describe.
        no_retrying: Any = None
        state = tenacity.RetryCallState(retry_object=no_retrying, fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        exponential = tenacity.wait_exponential(
            multiplier=self.initial_delay, exp_base=self.exponential_base, max=self.max_delay
        )
        full_delay = float(exponential(state))
        if not self.jitter:
            return full_delay
        varied = full_delay * (1 - JITTER + 2 * JITTER * draw())
        return min(max(varied, MIN_JITTERED_DELAY_SECONDS), self.max_delay)


class _Backoff(wait_base):
    """The delays of a RetryConfig, as tenacity asks for them.

    :param offset: attempts that were made before tenacity counted its first.
    """

    def __init__(self, config: RetryConfig, draw: Callable[[], float], offset: int) -> None:
        self._config, self._draw, self._offset = config, draw, offset

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return self._config.delay(retry_state.attempt_number + self._offset, self._draw)


def retry_with_backoff(
    func: Callable[[], Any],
    config: Optional[RetryConfig] = None,
    operation_name: str = "operation",
    sleep: Optional[Sleep] = None,
    circuit_breaker: Optional[CircuitBreaker] = None,
    draw: Callable[[], float] = random.random,
    metrics: Optional[WorkflowMetrics] = None,
) -> Any:
    """Call `func()` until it succeeds; raise its last exception after the last attempt.

    For a coroutine function, or a function that returns an awaitable, the result is to be awaited.
    While an event loop runs the result is always to be awaited, of a plain function too: waiting
    between attempts must not block the loop.

    :param operation_name: names the call in metrics, logs and in the exception's notes, where
        Python has them (3.11). Each name is a series of its own: keep ids out of it.
    :param sleep: called with seconds; default: time.sleep, or asyncio.sleep.
    :param circuit_breaker: through which every attempt goes. Its CircuitBreakerOpen is retried
        only where config.retryable_exceptions includes it.
    :param draw: gives a number from 0 to 1, for the jitter.
    :param metrics: which count the retries; default: the process's.
    """
    call = _Call(func, config or RetryConfig(), operation_name, sleep, circuit_breaker, draw,
                 metrics or get_metrics())
    if inspect.iscoroutinefunction(func) or _loop_is_running():
        return call.run_async()
    return call.run()


class _Call:
    """One call of retry_with_backoff."""

    def __init__(
        self,
        func: Callable[[], Any],
        config: RetryConfig,
        operation_name: str,
        sleep: Optional[Sleep],
        circuit_breaker: Optional[CircuitBreaker],
        draw: Callable[[], float],
        metrics: WorkflowMetrics,
    ) -> None:
        self._func, self._config, self._operation_name = func, config, operation_name
        self._sleep, self._circuit_breaker = sleep, circuit_breaker
        self._draw, self._metrics = draw, metrics

    def run(self) -> Any:
        """The result of `func()`; an awaitable where `func` returns one."""
        retrying = tenacity.Retrying(sleep=self._sleep or time.sleep, **self._options(0))
        result = retrying(self._attempt)
        if inspect.isawaitable(result):
            # The call was made; what it does can still fail.
            return self.run_async(result, retrying.statistics["attempt_number"] - 1)
        return result

    async def run_async(self, first: Optional[Awaitable[Any]] = None, offset: int = 0) -> Any:
        """As `run`, for an event loop.

        :param first: the awaitable of the first call, where that was made already.
        :param offset: attempts that failed before it.
        """
        pending = [first] if first is not None else []

        async def attempt() -> Any:
            result = pending.pop() if pending else self._attempt()
            return await result if inspect.isawaitable(result) else result

        retrying = tenacity.AsyncRetrying(sleep=self._sleep_async, **self._options(offset))
        return await retrying(attempt)

    def _attempt(self) -> Any:
        if self._circuit_breaker is None:
            return self._func()
        return self._circuit_breaker.call(self._func, self._operation_name)

    async def _sleep_async(self, seconds: float) -> None:
        slept = (self._sleep or asyncio.sleep)(seconds)
        if inspect.isawaitable(slept):
            await slept

    def _options(self, offset: int) -> dict[str, Any]:
        def exhausted(state: tenacity.RetryCallState) -> Any:
            error = _outcome(state)
            if hasattr(error, "add_note"):
                attempts = state.attempt_number + offset
                error.add_note("%s failed after %d attempts" % (self._operation_name, attempts))
            raise error

        def retried(state: tenacity.RetryCallState) -> None:
            self._metrics.record_retry(
                self._operation_name, state.attempt_number + offset, _outcome(state),
                state.next_action.sleep if state.next_action else 0.0,
            )

        return {
            "stop": tenacity.stop_after_attempt(self._config.max_attempts - offset),
            "wait": _Backoff(self._config, self._draw, offset),
            "retry": tenacity.retry_if_exception_type(self._config.retryable_exceptions),
            "before_sleep": retried,
            "retry_error_callback": exhausted,
        }


def _outcome(state: tenacity.RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None, "tenacity retries nothing but exceptions here"
    return error


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def retryable(
    config: Optional[RetryConfig] = None,
    operation_name: Optional[str] = None,
    circuit_breaker: Optional[CircuitBreaker] = None,
    sleep: Optional[Sleep] = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: calls of the function are retried as `config` says.

    A plain function stays one, in an event loop too, where its waiting then blocks the loop.

    :param operation_name: default: the name of the function; the rest as in retry_with_backoff.
    """

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        def call(arguments: tuple[Any, ...], named: dict[str, Any]) -> _Call:
            bound = functools.partial(func, *arguments, **named)
            return _Call(bound, config or RetryConfig(), operation_name or func.__name__, sleep,
                         circuit_breaker, random.random, get_metrics())

        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def retried_async(*args: Any, **kwargs: Any) -> Any:
                return await call(args, kwargs).run_async()

            return retried_async

        @functools.wraps(func)
        def retried(*args: Any, **kwargs: Any) -> Any:
            return call(args, kwargs).run()

        return retried

    return decorate
