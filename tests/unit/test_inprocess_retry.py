import asyncio
import threading

import pytest
from fixtures.waiting import until

from synthralos.core.errors import InvalidInput
from synthralos.observability import WorkflowMetrics
from synthralos.retry import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    CircuitBreaker,
    CircuitBreakerOpen,
    RetryConfig,
    retry_with_backoff,
    retryable,
)

PLAIN = RetryConfig(jitter=False)


class Failing:
    """Fails `times` times, then answers 42."""

    def __init__(self, times, error=ConnectionError):
        self.times, self.error, self.calls = times, error, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error("no")
        return 42

    async def later(self):
        return self()


def test_defaults():
    config = RetryConfig()
    values = (config.max_attempts, config.initial_delay, config.max_delay, config.exponential_base)
    assert values == (3, 1.0, 60.0, 2.0) and config.jitter


def test_delays_double_up_to_the_longest():
    assert [PLAIN.delay(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_stays_within_a_quarter_and_within_the_longest():
    config = RetryConfig(max_delay=5)
    for n, whole in ((1, 1), (2, 2), (9, 5)):
        drawn = [config.delay(n) for _ in range(200)]
        assert min(drawn) >= whole * 0.75 and max(drawn) <= min(whole * 1.25, 5)


def test_no_attempt_is_no_configuration():
    with pytest.raises(InvalidInput, match="max_attempts"):
        RetryConfig(max_attempts=0)


def test_max_attempts_counts_all_calls_and_nothing_is_slept_after_the_last():
    slept, failing = [], Failing(9)
    with pytest.raises(ConnectionError):
        retry_with_backoff(failing, PLAIN, sleep=slept.append)
    assert failing.calls == 3 and slept == [1, 2]


def test_the_first_answer_counts():
    assert retry_with_backoff(Failing(2), PLAIN, sleep=lambda seconds: None) == 42


def test_other_exceptions_are_raised_at_once():
    failing = Failing(9, ValueError)
    with pytest.raises(ValueError):
        retry_with_backoff(failing, PLAIN)
    assert failing.calls == 1


@pytest.mark.parametrize("wrapped", [True, False])
def test_coroutines(wrapped):
    failing, slept = Failing(2), []
    func = (lambda: failing.later()) if wrapped else failing.later

    async def sleep(seconds):
        slept.append(seconds)

    async def run():
        return await retry_with_backoff(func, PLAIN, sleep=sleep)

    assert asyncio.run(run()) == 42 and slept == [1, 2] and failing.calls == 3


def test_decorated_functions_keep_their_name_and_arguments():
    failing = Failing(1)

    @retryable(RetryConfig(initial_delay=0.0, jitter=False))
    def add(a, b):
        failing()
        return a + b

    @retryable(RetryConfig(initial_delay=0.0, jitter=False))
    async def add_later(a, b):
        failing()
        return a + b

    assert add(1, b=2) == 3 and add.__name__ == "add"
    failing.calls = 0
    assert asyncio.run(add_later(1, b=2)) == 3


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(ConnectionError):
            breaker.call(Failing(9))


def test_a_breaker_opens_at_the_threshold_and_lets_probes_through_after_its_time():
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 4)
    assert breaker.state == CLOSED
    fail(breaker)
    assert breaker.state == OPEN
    with pytest.raises(CircuitBreakerOpen) as caught:
        breaker.call(Failing(0))
    assert caught.value.retry_after == 60.0
    clock.now = 60.0
    assert breaker.state == HALF_OPEN
    assert [breaker.call(Failing(0)) for _ in range(3)] == [42] * 3
    assert breaker.state == CLOSED


def test_a_bad_probe_opens_it_again():
    clock = Clock()
    breaker = CircuitBreaker(failure_threshold=1, clock=clock)
    fail(breaker)
    clock.now = 60.0
    fail(breaker)
    assert breaker.state == OPEN
    clock.now = 119.0
    assert breaker.state == OPEN


def test_success_in_between_zeroes_the_count():
    breaker = CircuitBreaker(failure_threshold=2)
    fail(breaker)
    breaker.call(Failing(0))
    fail(breaker)
    assert breaker.state == CLOSED


def test_at_most_so_many_probes_are_under_way_at_a_time():
    clock = Clock()
    breaker = CircuitBreaker(failure_threshold=1, half_open_max_calls=2, clock=clock)
    fail(breaker)
    clock.now = 60.0

    async def run():
        gate = asyncio.Event()

        async def wait():
            await gate.wait()
            return 42

        calls = [asyncio.ensure_future(breaker.call(wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(CircuitBreakerOpen):
            breaker.call(wait)
        gate.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(run()) == [42, 42] and breaker.state == CLOSED


def test_while_a_loop_runs_a_plain_function_is_awaited_too():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async def run():
        return await retry_with_backoff(Failing(2), PLAIN, sleep=sleep)

    assert asyncio.run(run()) == 42 and slept == [1, 2]


def test_a_function_that_fails_before_it_returns_an_awaitable_has_no_more_attempts_for_it():
    calls, slept = [], []

    async def later():
        raise ConnectionError("later")

    def start():
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("at once")
        return later()

    awaitable = retry_with_backoff(start, PLAIN, sleep=slept.append)
    with pytest.raises(ConnectionError, match="later"):
        asyncio.run(awaitable)
    assert len(calls) == 3 and slept == [1, 2]


def test_the_jitter_is_drawn_where_the_caller_says():
    slept = []
    retry_with_backoff(Failing(2), RetryConfig(), sleep=slept.append, draw=lambda: 1.0)
    assert slept == [1.25, 2.5]


def test_the_error_says_how_often_it_was_tried():
    with pytest.raises(ConnectionError) as caught:
        retry_with_backoff(Failing(9), PLAIN, "agent_execution", sleep=lambda seconds: None)
    if hasattr(caught.value, "add_note"):
        assert caught.value.__notes__ == ["agent_execution failed after 3 attempts"]


def test_retries_are_counted():
    metrics = WorkflowMetrics()
    retry_with_backoff(Failing(2), PLAIN, "op", sleep=lambda seconds: None, metrics=metrics)
    assert metrics.get_metrics()["retries"] == {"op": 2}


@pytest.mark.parametrize("later", [False, True])
def test_every_attempt_goes_through_the_breaker(later):
    breaker, failing = CircuitBreaker(failure_threshold=2, clock=Clock()), Failing(9)
    func = (lambda: failing.later()) if later else failing

    async def run():
        return await retry_with_backoff(
            func, RetryConfig(max_attempts=5, jitter=False), sleep=lambda seconds: None,
            circuit_breaker=breaker,
        )

    with pytest.raises(CircuitBreakerOpen):
        asyncio.run(run())
    assert failing.calls == 2


@pytest.mark.parametrize("name", ["initial_delay", "max_delay", "exponential_base"])
def test_what_is_out_of_range_is_named(name):
    with pytest.raises(InvalidInput, match=name):
        RetryConfig(**{name: -1})


def test_threads_share_the_probes_of_a_breaker():
    clock = Clock()
    breaker = CircuitBreaker(failure_threshold=1, half_open_max_calls=3, clock=clock)
    fail(breaker)
    clock.now = 60.0
    gate, refusals, probes = threading.Event(), [], []

    def probe():
        probes.append(1)
        assert gate.wait(60)

    def work():
        try:
            breaker.call(probe)
        except CircuitBreakerOpen:
            refusals.append(1)

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    until(lambda: len(probes) + len(refusals) == 24, seconds=60)
    assert (len(probes), len(refusals)) == (3, 21)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert breaker.state == CLOSED


def test_a_call_from_before_the_breaker_opened_changes_nothing_any_more():
    clock = Clock()
    breaker = CircuitBreaker(failure_threshold=1, clock=clock)

    async def run():
        gate = asyncio.Event()

        async def late():
            await gate.wait()
            raise ConnectionError("late")

        call = asyncio.ensure_future(breaker.call(late))
        await asyncio.sleep(0)
        fail(breaker)
        clock.now = 60.0
        gate.set()
        with pytest.raises(ConnectionError):
            await call

    asyncio.run(run())
    assert breaker.state == HALF_OPEN


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_probes_that_never_end_do_not_keep_it_shut_for_ever():
    clock = Clock()
    breaker = CircuitBreaker(failure_threshold=1, half_open_max_calls=1, clock=clock)
    fail(breaker)
    clock.now = 60.0

    async def never():
        pass

    breaker.call(never).close()
    with pytest.raises(CircuitBreakerOpen):
        breaker.call(Failing(0))
    clock.now = 120.0
    assert breaker.call(Failing(0)) == 42 and breaker.state == CLOSED
