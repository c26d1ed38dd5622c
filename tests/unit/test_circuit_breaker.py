
import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.config.settings import Breaker
from synthralos.storage.circuit_breaker import CLOSED, HALF_OPEN, OPEN, evaluate_breaker
from synthralos.storage.outcome_ledger import Forced, Outcome

LIMITS = Breaker()
NOW = 10_000.0


def outcomes(signs, last=NOW, apart=1.0):
    """Newest first: `.` is good, `x` a server error, `4` a bad request, `9` a rate limit."""
    causes = {".": None, "x": "server_error", "4": "bad_request", "9": "rate_limit",
              "t": "timeout", "n": "network", "c": "truncated_stream", "o": "overloaded"}
    return [
        Outcome(ok=sign == ".", cause=causes[sign], at=last - n * apart)
        for n, sign in enumerate(reversed(signs))
    ]


@pytest.mark.parametrize(
    "signs", ["", ".", "xxxx", "xxxx.", ".....xxxx", "xxxx.xxxx", "x.x.x.x.x."]
)
def test_it_stays_closed_below_five_failures_in_a_row(signs):
    assert evaluate_breaker(outcomes(signs), NOW, LIMITS).state == CLOSED


@pytest.mark.parametrize("signs", ["xxxxx", "tncox", ".....xxxxx", "..........xxxxx"])
def test_it_opens_at_five_failures_in_a_row_that_are_half_of_the_last_ten(signs):
    breaker = evaluate_breaker(outcomes(signs), NOW, LIMITS)
    assert (breaker.state, breaker.until) == (OPEN, NOW + 60)


def test_a_shorter_row_must_still_be_half_of_the_last_ten():
    limits = Breaker(failures=3)
    assert evaluate_breaker(outcomes(".......xxx"), NOW, limits).state == CLOSED
    assert evaluate_breaker(outcomes("...xxx"), NOW, limits).state == OPEN


@pytest.mark.parametrize("sign", ["4", "9"])
def test_what_the_target_refuses_never_opens_it(sign):
    breaker = evaluate_breaker(outcomes(sign * 50), NOW, LIMITS)
    assert (breaker.state, breaker.until) == (CLOSED, None)


def test_it_is_open_for_sixty_seconds_then_half_open():
    window = outcomes("xxxxx")
    assert evaluate_breaker(window, NOW + 59.9, LIMITS).state == OPEN
    breaker = evaluate_breaker(window, NOW + 60, LIMITS)
    assert (breaker.state, breaker.since, breaker.until) == (HALF_OPEN, NOW + 60, None)


def after(probes, at=NOW + 61):
    return outcomes(probes, at, 0.1) + outcomes("xxxxx")


@pytest.mark.parametrize(
    "probes, state", [(".", HALF_OPEN), ("..", HALF_OPEN), ("...", CLOSED), ("4..", HALF_OPEN)]
)
def test_three_good_probes_close_it(probes, state):
    assert evaluate_breaker(after(probes), NOW + 62, LIMITS).state == state


@pytest.mark.parametrize("probes", ["x", ".x", "..x"])
def test_a_bad_probe_opens_it_again_for_sixty_seconds(probes):
    breaker = evaluate_breaker(after(probes), NOW + 62, LIMITS)
    assert (breaker.state, breaker.until) == (OPEN, NOW + 121)


def test_after_closing_it_needs_five_failures_again():
    assert (
        evaluate_breaker(
            outcomes("...xxxx", NOW + 61, 0.1) + outcomes("xxxxx"), NOW + 62, LIMITS
        ).state ==
        CLOSED
    )
    assert (
        evaluate_breaker(
            outcomes("...xxxxx", NOW + 61, 0.1) + outcomes("xxxxx"), NOW + 62, LIMITS
        ).state ==
        OPEN
    )


def test_late_outcomes_of_earlier_calls_do_not_prolong_it():
    window = outcomes("xxx", NOW + 30) + outcomes("xxxxx")
    assert evaluate_breaker(window, NOW + 31, LIMITS).until == NOW + 60


def limited(until, at=NOW, cause="rate_limit"):
    return Outcome(ok=False, cause=cause, at=at, until=until)


def test_a_rate_limited_target_cools_down_until_the_hint():
    window = [limited(NOW + 30)]
    breaker = evaluate_breaker(window, NOW + 5, LIMITS)
    assert (breaker.state, breaker.until) == (CLOSED, NOW + 30)
    assert evaluate_breaker(window, NOW + 30, LIMITS).until is None


def test_the_longest_hint_holds():
    window = [limited(NOW + 10), limited(NOW + 40, NOW - 1)]
    assert evaluate_breaker(window, NOW + 5, LIMITS).until == NOW + 40


def test_a_good_answer_ends_the_cooldown():
    window = [Outcome(True, None, NOW + 1), limited(NOW + 40)]
    assert evaluate_breaker(window, NOW + 5, LIMITS).until is None


def test_an_operator_forces_it_open_or_closed():
    closed = Forced(CLOSED, NOW - 5, NOW + 60)
    assert evaluate_breaker(outcomes("xxxxx"), NOW, LIMITS, forced=closed).state == CLOSED
    breaker = evaluate_breaker([], NOW, LIMITS, forced=Forced(OPEN, NOW - 5, NOW + 60))
    assert (breaker.state, breaker.until) == (OPEN, NOW + 60) and "forced open" in breaker.reason


@hypothesis.given(
    st.lists(st.sampled_from(".x49t"), max_size=50), st.floats(0, 200), st.floats(0.1, 30)
)
def test_any_window_has_a_health_that_is_in_the_future_or_none(signs, later, apart):
    breaker = evaluate_breaker(outcomes(signs, NOW, apart), NOW + later, LIMITS)
    assert breaker.state in (OPEN, CLOSED, HALF_OPEN)
    assert breaker.until is None or breaker.until > NOW + later
    if breaker.state == OPEN:
        assert breaker.until is not None
