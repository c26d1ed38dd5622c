
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
import tenacity
from hypothesis import strategies as st

from synthralos.calls.backoff import full_delay, jittered_delay, round_up
from synthralos.config.settings import STRATEGIES


@pytest.mark.parametrize(
    "strategy, delays",
    [
        ("exponential", [5, 10, 20, 40, 60, 60]),
        ("linear", [5, 10, 15, 20, 25, 30]),
        ("fixed", [5, 5, 5, 5, 5, 5]),
        ("immediate", [0, 0, 0, 0, 0, 0]),
        ("adaptive", [5, 10, 15, 20, 25, 30]),
    ],
)
def test_each_strategy_has_its_delays(strategy, delays):
    assert [full_delay(strategy, n, 5, 60) for n in range(1, 7)] == delays


@pytest.mark.parametrize("rate, stretched", [(1.0, 1), (0.5, 1.5), (0.0, 2)])
def test_adaptive_waits_longer_the_less_succeeds(rate, stretched):
    assert full_delay("adaptive", 1, 4, 60, rate) == 4 * stretched


def test_exponential_takes_another_multiplier():
    assert [full_delay("exponential", n, 2, 60, multiplier=1.5) for n in (1, 2, 3)] == [2, 3, 4.5]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_waits_longer_than_the_cap(strategy):
    assert full_delay(strategy, 1000, 300, 60, 0.0) <= 60


@hypothesis.given(st.sampled_from(STRATEGIES), st.integers(1, 30), st.floats(0, 300), st.booleans())
def test_the_jittered_wait_is_within_its_bounds(strategy, repeat, base, given_by_caller):
    longest = full_delay(strategy, repeat, base, 60)
    seconds = jittered_delay(strategy, repeat, base, 60, given_by_caller)
    assert 0 <= seconds <= 60
    if given_by_caller:
        assert longest * 0.75 - 1e-6 <= seconds <= longest * 1.25 + 1e-6
    else:
        assert seconds <= longest + 1e-6


def tenacity_delay(strategy, repeat, base, cap, rate, multiplier):
    """The same delay, by the library whose waits the formulas are to equal."""
    waits = {
        "exponential": tenacity.wait_exponential(multiplier=base, exp_base=multiplier, max=cap),
        "linear": tenacity.wait_incrementing(start=base, increment=base, max=cap),
        "fixed": tenacity.wait_fixed(min(base, cap)),
        "immediate": tenacity.wait_none(),
        "adaptive": tenacity.wait_incrementing(
            start=base * (2.0 - rate), increment=base * (2.0 - rate), max=cap
        ),
    }
    state = tenacity.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})
    state.attempt_number = repeat
    return float(waits[strategy](state))


@hypothesis.given(
    st.sampled_from(STRATEGIES), st.integers(1, 5000), st.floats(0, 3600), st.floats(0, 3600),
    st.floats(0, 1), st.floats(1, 10),
)
def test_the_delays_equal_those_of_tenacity(strategy, repeat, base, cap, rate, multiplier):
    expected = tenacity_delay(strategy, repeat, base, cap, rate, multiplier)
    delay = full_delay(strategy, repeat, base, cap, rate, multiplier)
    assert delay == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_jitter_is_drawn_and_not_fixed():
    assert len({jittered_delay("fixed", 1, 10, 60) for _ in range(20)}) > 10
    drawn = [jittered_delay("fixed", 1, 10, 60) for _ in range(500)]
    assert min(drawn) < 1 and max(drawn) > 9


@pytest.mark.parametrize(
    "seconds, rounded",
    [(0, 0), (0.001, 1), (1, 1), (1.0000000001, 1), (1.2, 2), (59.5, 60), (-3, 0)],
)
def test_seconds_are_rounded_up(seconds, rounded):
    assert round_up(seconds) == rounded and isinstance(round_up(seconds), int)
