import json

import pytest
from fixtures.check_each import check_each

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from fixtures.waiting import limit_under_test
from hypothesis import strategies as st

from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.relations import Target, host_of, timing_after
from synthralos.calls.retry_rules import RetryRules
from synthralos.calls.rounds import play_round
from synthralos.config.connection import Connection
from synthralos.config.settings import Breaker
from synthralos.core.causes import AT_ONCE, CAUSES, LAST, LATER, NEVER, SCOPES
from synthralos.core.failures import make_failure, with_evidence
from synthralos.core.sealing import unseal
from synthralos.recovery import llm_retry
from synthralos.storage.circuit_breaker import OPEN
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.outcome_ledger import Ledger, Outcome

from .conftest import Clock, MemoryDatastore

RUN = "5f0c"


class Game:
    """Plays rounds as a workflow does, with scripted answers and a clock of its own.

    :param answers: target name -> list of answers, the last for ever; an answer is True, a cause,
        or (cause, hint).
    """

    def __init__(self, answers, seconds=300, costs=0.1, ledger=None, clock=None, **rules):
        self.clock = clock or Clock()
        self.ledger = ledger or Ledger(
            BestEffortDatastore(MemoryDatastore(self.clock)), self.clock, Breaker()
        )
        self.deadline = Deadline(self.clock.at + seconds, self.clock)
        self.answers = {name: list(payload) for name, payload in answers.items()}
        self.targets = [Target(name, 60.0) for name in answers]
        self.rules, self.costs = RetryRules(**rules), costs
        self.called, self.limits, self.delays, self.progress = [], [], [], RunProgress()

    def attempt(self, target, seconds, number):
        self.called.append(target.name)
        self.limits.append(seconds)
        assert number == len(self.called)
        self.clock.forward(min(self.costs, seconds))
        payload = self.answers[target.name]
        answer = payload.pop(0) if len(payload) > 1 else payload[0]
        if answer is True:
            return {"answered": target.name}
        cause, hint = answer if isinstance(answer, tuple) else (answer, None)
        raise CallError(make_failure(cause, "scripted", retry_after=hint))

    def round(self):
        before = self.progress.cursor
        # The case crosses the workflow as JSON.
        self.progress = RunProgress.from_dict(json.loads(json.dumps(self.progress.as_dict())))
        played = play_round(
            self.targets, self.progress, self.rules, self.attempt, self.ledger, self.deadline,
            self.clock, RUN,
        )
        assert self.progress.cursor > before
        assert self.progress.attempts == len(self.called)
        return played

    def whole(self):
        """Rounds and waits until there is an end."""
        for _ in range(400):
            played = self.round()
            if played.delay is None:
                return played
            assert isinstance(played.delay, int) and played.delay >= 0
            self.delays.append(played.delay)
            self.clock.forward(played.delay)
        raise AssertionError("it does not end")


def test_the_first_target_that_answers_ends_the_round():
    game = Game({"a": [True], "b": [True]})
    played = game.round()
    assert played.result == {"answered": "a"} and played.target.name == "a"
    assert game.called == ["a"]


@pytest.mark.parametrize("cause", ["timeout", "network", "server_error", "rate_limit", "quota",
                                   "authentication", "permission", "model_not_found",
                                   "truncated_stream", "overloaded", "conflict", "blank_output"])
def test_it_falls_over_at_once_and_in_order(cause):
    game = Game({"a": [cause], "b": [cause], "c": [True]})
    assert game.round().result == {"answered": "c"}
    assert game.called == ["a", "b", "c"] and game.delays == []


def test_the_first_round_visits_every_target_whatever_max_retries_says():
    game = Game({name: ["server_error"] for name in "abcd"}, max_retries=0)
    played = game.whole()
    assert game.called == ["a", "b", "c", "d"]
    assert played.failure.cause == "server_error" and "max_retries" in played.reason


def test_the_same_target_comes_again_after_its_back_off():
    game = Game({"a": ["server_error", True]}, base_delay=8.0, base_delay_given=True)
    assert game.whole().result == {"answered": "a"}
    assert game.called == ["a", "a"] and 6 <= game.delays[0] <= 10


def test_max_retries_bounds_the_repeats_of_all_targets_together():
    game = Game({"a": ["server_error"], "b": ["server_error"]}, max_retries=2, base_delay=1.0)
    game.whole()
    assert len(game.called) == 4 and game.progress.repeats == 2


def test_back_off_grows_with_the_repeats():
    game = Game({"a": ["overloaded"]}, max_retries=3, base_delay=4.0, base_delay_given=True)
    game.whole()
    for delay, whole in zip(game.delays, [4, 8, 16]):
        assert whole * 0.75 <= delay <= whole * 1.25 + 1


def test_a_hint_that_fits_is_waited_for():
    game = Game({"a": [("rate_limit", 30.0), True]}, seconds=60, base_delay=1.0)
    assert game.whole().result and game.delays == [30]


def test_a_hint_that_does_not_fit_ends_the_run_at_once_and_says_when():
    game = Game({"a": [("rate_limit", 100.0)]}, seconds=60)
    at = game.clock.at
    played = game.whole()
    assert game.called == ["a"] and game.delays == []
    assert played.failure.cause == "rate_limit"
    assert played.again_at == pytest.approx(at + 100.1, abs=1)


def test_a_hint_that_does_not_fit_leaves_the_other_targets():
    game = Game({"a": [("rate_limit", 100.0)], "b": ["server_error", True]}, seconds=60)
    assert game.whole().result == {"answered": "b"}
    assert game.called == ["a", "b", "b"]


def test_a_wait_that_leaves_no_time_to_answer_is_not_made():
    game = Game({"a": [("rate_limit", 10.0)]}, seconds=11.0)
    assert game.whole().again_at is not None and game.delays == []


@pytest.mark.parametrize("cause", ["quota", "authentication", "permission", "model_not_found"])
def test_what_the_target_will_refuse_again_is_not_repeated(cause):
    game = Game({"a": [cause], "b": ["server_error"]}, max_retries=2, base_delay=1.0)
    game.whole()
    assert game.called == ["a", "b", "b", "b"]


def target(name, provider=None, address=None, account=None, **more):
    """A target at `address`, a base URL."""
    return Target(
        name, 60.0, provider=provider, address=address, host=address and host_of(address),
        account=account, **more,
    )


# How `other` is related to the target `a` below: {column of the table: other}.
A = target("a", "p", "https://h/v1", "key")
RELATED = {
    "same_account": target("other", "p", "https://h/v1", "key"),
    "same_address": target("other", "p", "https://h/v1", "key 2"),
    "same_host": target("other", "p", "https://h/v2", "key 2"),
    "same_provider": target("other", "p", "https://h2/v1", "key 2"),
    "other_providers": target("other", "q", "https://q/v1", "key 3"),
}
# What a failure says nothing of: it has nothing in common with `a`, and is in the way of no order.
BESIDES = target("besides", "r", "https://r/v1", "key 4")


@check_each("relation", RELATED)
@check_each("cause", CAUSES)
def test_what_a_failure_speaks_of_decides_what_else_is_tried(cause, relation):
    game = Game({"a": [cause], "other": [True], "besides": ["server_error"]}, max_retries=0)
    game.targets = [A, RELATED[relation], BESIDES]
    timing = getattr(SCOPES[CAUSES[cause].scope], relation)
    elsewhere = SCOPES[CAUSES[cause].scope].other_providers
    result = game.whole().result
    assert timing in (AT_ONCE, LAST, NEVER)
    if timing == AT_ONCE:
        assert game.called == ["a", "other"] and result == {"answered": "other"}
    elif timing == LAST:
        assert game.called == ["a", "besides", "other"] and result == {"answered": "other"}
    else:
        assert game.called == (["a"] if elsewhere == NEVER else ["a", "besides"]) and result is None


@check_each("cause", CAUSES)
def test_what_a_failure_speaks_of_decides_whether_the_same_target_is_tried_again(cause):
    game = Game({"a": [cause, True]}, max_retries=1, base_delay=1.0, base_delay_given=True)
    game.targets = [A]
    played = game.whole()
    timing = SCOPES[CAUSES[cause].scope].same_target
    assert timing in (LATER, NEVER)
    assert game.called == (["a", "a"] if timing == LATER else ["a"])
    assert len(game.delays) == (timing == LATER)
    assert timing == LATER or (cause in played.reason and played.again_at is None)


def test_an_account_whose_host_is_down_is_tried_on_its_other_hosts_at_once():
    game = Game({name: ["timeout"] for name in "abc"}, max_retries=0)
    game.targets = [
        target("a", "p", "https://us", "key"), target("b", "p", "https://eu", "key"),
        target("c", "q", "https://q", "other key"),
    ]
    game.whole()
    assert game.called == ["a", "b", "c"]


def test_a_gateway_whose_provider_refuses_a_request_is_sent_it_for_another_provider():
    game = Game({"p1": ["bad_request"], "p2": [True], "q1": [True]})
    game.targets = [
        target("p1", "p", "https://gateway/p", "key"),
        target("p2", "p", "https://gateway/p", "key"),
        target("q1", "q", "https://gateway/q", "other key"),
    ]
    assert game.whole().result == {"answered": "q1"} and game.called == ["p1", "q1"]


def test_an_account_that_is_not_valid_is_tried_nowhere():
    game = Game({"a": ["authentication"], "b": [True]})
    game.targets = [target("a", "p", "https://us", "key"), target("b", "p", "https://eu", "key")]
    assert game.whole().result is None and game.called == ["a"]


def test_what_is_unknown_of_two_targets_is_not_the_same():
    answers = {"a": ["authentication"], "b": ["wrong_address"], "c": ["bad_request"], "d": [True]}
    game = Game(answers)
    assert game.whole().result == {"answered": "d"}


def test_each_other_provider_is_sent_a_refused_request_once():
    answers = {"p1": ["bad_request"], "p2": [True], "q1": ["bad_request"], "q2": [True],
               "r1": [True]}
    game = Game(answers)
    game.targets = [target(name, name[0], "https://" + name) for name in answers]
    assert game.whole().result == {"answered": "r1"}
    assert game.called == ["p1", "q1", "r1"]


def test_a_target_that_comes_last_stays_last_in_later_rounds():
    game = Game({"a1": ["timeout"], "a2": ["server_error"], "b": ["server_error"]}, max_retries=3,
                strategy="fixed", base_delay=1.0, max_delay=1.0)
    game.targets = [
        target("a1", "a", "https://a", "k"), target("a2", "a", "https://a", "k"),
        target("b", "b", "https://b", "l"),
    ]
    game.round()
    assert game.called == ["a1", "b", "a2"]
    game.clock.forward(5)
    game.round()
    assert game.called == ["a1", "b", "a2", "b", "a1", "a2"]


def test_the_trail_says_once_why_a_target_comes_last():
    game = Game({"a1": ["timeout"], "a2": ["timeout"], "b": ["server_error"]}, max_retries=3)
    game.targets = [
        target("a1", "a", "https://a", "k"), target("a2", "a", "https://a", "k"),
        target("b", "b", "https://b", "l"),
    ]
    game.whole()
    last = [entry for entry in game.progress.trail if "asked_last" in entry]
    assert [entry["target"] for entry in last] == ["a2"]
    assert "a1" in last[0]["asked_last"] and "timeout" in last[0]["asked_last"]


def test_the_trail_does_not_say_so_where_there_is_no_other_order():
    game = Game({"a1": ["timeout"], "a2": ["timeout"]}, max_retries=1)
    game.targets = [target("a1", "a", "https://a", "k"), target("a2", "a", "https://a", "k")]
    game.whole()
    assert not any("asked_last" in entry for entry in game.progress.trail)


@check_each("cause", sorted(set(CAUSES) - {"context_length"}))
@check_each("relation", RELATED)
def test_the_configuration_may_send_a_request_elsewhere_at_once(cause, relation):
    game = Game({"a": [cause], "other": [True], "besides": [True]}, fall_over={cause: True})
    game.targets = [A, RELATED[relation], BESIDES]
    assert game.whole().result == {"answered": "other"}
    assert game.called == ["a", "other"]


@check_each("cause", CAUSES)
def test_the_configuration_may_send_a_request_nowhere_else(cause):
    game = Game({"a": [cause], "other": [True]}, max_retries=0, fall_over={cause: False})
    game.targets = [A, RELATED["other_providers"]]
    assert game.whole().result is None and game.called == ["a"]


def test_a_request_that_stays_with_its_target_may_be_repeated_there():
    game = Game({"a": ["rate_limit", True], "b": [True]}, base_delay=1.0,
                fall_over={"rate_limit": False})
    assert game.whole().result == {"answered": "a"} and game.called == ["a", "a"]


def test_the_configuration_of_one_cause_is_not_that_of_another():
    game = Game({"a": ["bad_request"], "b": [True]}, fall_over={"content_policy": True})
    game.targets = [A, RELATED["same_account"]]
    assert game.whole().result is None


def test_content_policy_stops_all_unless_fallbacks_are_allowed():
    answers = {"a": ["content_policy"], "b": [True]}
    assert Game(answers).whole().result is None
    game = Game(answers, fall_over={"content_policy": True})
    assert game.whole().result == {"answered": "b"}


def test_content_policy_is_never_repeated():
    game = Game({"a": ["content_policy"]}, fall_over={"content_policy": True})
    game.whole()
    assert game.called == ["a"]


def test_a_request_that_is_unsafe_to_repeat_goes_nowhere_else_whatever_is_configured():
    game = Game({"a": ["bad_request"], "b": [True]}, fall_over={"bad_request": True})
    game.targets = [target("a", unsafe_to_repeat=True), target("b", unsafe_to_repeat=True)]
    assert game.whole().result is None and game.called == ["a"]


def test_a_context_that_is_too_long_goes_to_a_larger_window_whatever_is_configured():
    game = Game({"a": ["context_length"], "b": [True], "c": [True]},
                fall_over={"context_length": True})
    game.targets = [Target(name, 60.0, window=size) for name, size in (
        ("a", 8000), ("b", 8000), ("c", 9000))]
    assert game.whole().result == {"answered": "c"} and game.called == ["a", "c"]


@pytest.mark.parametrize("cause, called", [("budget", ["a"]), ("configuration", ["a", "b"])])
def test_a_call_that_the_pack_does_not_make_says_nothing_of_its_account(cause, called):
    game = Game({"a": [True], "b": [True]})
    game.targets = [target(name, "p", "https://p", "key") for name in "ab"]
    answer = game.attempt

    def attempt(target, seconds, number):
        if target.name == "a":
            raise CallNotMade(make_failure(cause, "not made"))
        return answer(target, seconds, number)

    game.attempt = attempt
    game.whole()
    assert ["a"] + game.called == called


def test_a_target_knows_where_its_connection_leads():
    connection = Connection("https://API.example.com/v1", secret="x", timeout=limit_under_test(7.0))
    made_of = Target.over(connection, "llm:p/m", "p", "endpoint", window=9)
    assert (made_of.address, made_of.host) == (connection.base_url, "api.example.com:443")
    assert (made_of.provider, made_of.seconds, made_of.window) == ("p", 7.0, 9)
    assert made_of.account == connection.account("p")


@pytest.mark.parametrize("url, host", [
    ("http://h/x", "h:80"), ("https://h", "h:443"), ("http://H:8000", "h:8000"),
    ("https://user:secret@h/x", "h:443"), ("http://[::1]:9/", "[::1]:9"), ("http://h:port", None),
    ("https://", None),
])
def test_a_host_is_a_name_and_a_port(url, host):
    assert host_of(url) == host


def test_a_context_that_is_too_long_goes_on_to_larger_windows_only():
    game = Game({"a": ["context_length"], "b": [True], "c": [True], "d": [True]})
    windows = {"a": 8000, "b": 8000, "c": 4000, "d": 16000}
    game.targets = [Target(name, 60.0, window=windows[name]) for name in "abcd"]
    assert game.whole().result == {"answered": "d"}
    assert game.called == ["a", "d"]


def test_a_window_that_nobody_knows_may_be_larger():
    game = Game({"a": ["context_length"], "b": [True]})
    game.targets = [Target("a", 60.0, window=8000), Target("b", 60.0)]
    assert game.whole().result == {"answered": "b"}


@pytest.mark.parametrize("cause", ["timeout", "network", "truncated_stream"])
def test_an_unsafe_request_of_unknown_effect_is_left_to_a_person(cause):
    game = Game({"a": [cause], "b": [True]})
    game.targets = [Target("a", 60.0, unsafe_to_repeat=True), Target("b", 60.0)]
    played = game.whole()
    assert game.called == ["a"] and "person" in played.reason


def test_an_unsafe_request_that_was_refused_goes_on():
    game = Game({"a": ["rate_limit"], "b": [True]})
    game.targets = [Target(name, 60.0, unsafe_to_repeat=True) for name in "ab"]
    assert game.whole().result == {"answered": "b"}


def test_an_unsafe_agent_that_ran_goes_nowhere_else_whatever_it_failed_of():
    ran = make_failure("rate_limit", evidence={"ran": True})
    target, other = (Target(name, 60.0, unsafe_to_repeat=True) for name in "ab")
    assert timing_after(ran, target, other, {}) == NEVER
    assert timing_after(make_failure("rate_limit"), target, other, {}) == AT_ONCE


def test_an_unsafe_request_that_was_never_sent_goes_on():
    game = Game({"a": [True], "b": [True]})
    game.targets = [Target(name, 60.0, unsafe_to_repeat=True) for name in "ab"]
    answer = game.attempt

    def attempt(target, seconds, number):
        if target.name == "a":
            game.called.append("a")
            raise CallError(with_evidence(make_failure("network", "no connection"), sent=False))
        return answer(target, seconds, number)

    game.attempt = attempt
    assert game.whole().result == {"answered": "b"}


def opened(clock, *names):
    ledger = Ledger(BestEffortDatastore(MemoryDatastore(clock)), clock, Breaker())
    for name in names:
        for _ in range(5):
            clock.forward(0.01)
            ledger.append(name, Outcome(False, "server_error", clock()))
    return ledger


def test_an_open_breaker_is_passed_over_while_another_is_closed():
    clock = Clock()
    game = Game({"a": [True], "b": [True]}, ledger=opened(clock, "a"), clock=clock)
    assert game.round().result == {"answered": "b"}
    assert game.called == ["b"]
    first = game.progress.trail[0]
    assert first["target"] == "a" and "breaker" in first["skipped"]


def test_the_only_target_waits_for_the_probe_when_it_fits():
    clock = Clock()
    game = Game({"a": [True]}, ledger=opened(clock, "a"), clock=clock)
    assert game.whole().result == {"answered": "a"}
    assert game.delays == [60]


def test_the_only_target_gives_up_with_the_time_of_the_probe_when_it_does_not_fit():
    clock = Clock()
    game = Game({"a": [True]}, seconds=30, ledger=opened(clock, "a"), clock=clock)
    played = game.whole()
    assert game.called == [] and game.delays == []
    assert played.again_at == pytest.approx(clock.at + 60, abs=1.1)


def test_a_target_that_is_forced_open_is_not_called():
    clock = Clock()
    ledger = opened(clock)
    ledger.force_state("a", OPEN, 3600)
    game = Game({"a": [True]}, ledger=ledger, clock=clock)
    assert game.whole().result is None and game.called == []


def test_the_trail_says_once_that_a_target_was_passed_over():
    clock = Clock()
    game = Game({"a": [True], "b": ["server_error"]}, ledger=opened(clock, "a"), clock=clock,
                max_retries=3, base_delay=1.0)
    game.rules.base_delay_given = True
    game.whole()
    skipped = [entry for entry in game.progress.trail if entry.get("target") == "a" and
               "skipped" in entry]
    assert len(skipped) == 1


def test_a_half_open_target_whose_probes_are_out_is_asked_again_soon():
    clock = Clock()
    ledger = opened(clock, "a")
    clock.forward(61)
    for _ in range(3):
        clock.forward(0.01)
        assert ledger.claim_probe("a", ledger.breaker_state("a"))
    clock.forward(0.01)
    game = Game({"a": [True]}, ledger=ledger, clock=clock)
    played = game.round()
    assert game.called == [] and 1 <= played.delay <= 10


def test_a_cooling_target_is_passed_over():
    clock = Clock()
    ledger = opened(clock)
    ledger.append("a", Outcome(False, "rate_limit", clock(), until=clock() + 40))
    game = Game({"a": [True], "b": [True]}, ledger=ledger, clock=clock)
    assert game.round().result == {"answered": "b"} and game.called == ["b"]


def test_a_rate_limited_target_cools_down_for_other_runs_too():
    game = Game({"a": [("rate_limit", 40.0)], "b": [True]})
    game.round()
    assert game.ledger.breaker_state("a").until == pytest.approx(game.clock.at + 40, abs=1)


def test_every_attempt_is_recorded_once():
    game = Game({"a": ["server_error", True]}, base_delay=1.0)
    game.whole()
    window = game.ledger.window("a")
    assert [(o.ok, o.cause, o.repeat, o.run) for o in window] == [
        (True, None, True, RUN), (False, "server_error", False, RUN)
    ]
    trail = game.progress.trail
    assert [(e["attempt"], e["ok"], e["repeat"], e["round"]) for e in trail] == [
        (1, False, False, 1), (2, True, True, 2)
    ]


def test_an_attempt_has_no_more_time_than_the_run():
    game = Game({"a": ["timeout"], "b": [True]}, seconds=70, costs=65)
    game.round()
    assert game.limits == [60.0, 10.0]


@pytest.mark.parametrize("seconds", [40, 60, 90, 120, 180, 300, 600])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_host_that_hangs_leaves_each_other_host_its_time(seconds, count):
    game = Game({"t%d" % n: ["timeout"] for n in range(count)}, seconds=seconds, costs=10_000,
                max_retries=0)
    game.targets = [
        Target(name, 10_000.0, host="%s:443" % name) for name in game.answers
    ]
    game.whole()
    assert len(game.called) == count
    # What is left of the time after a hang is reserved, or where that is too little, shared alike.
    assert all(limit >= min(10.0, seconds / count) - 1e-6 for limit in game.limits)


def test_time_is_reserved_for_hosts_and_not_for_each_of_their_targets():
    game = Game({name: ["timeout"] for name in ("a1", "a2", "b1", "b2")}, seconds=100, costs=10_000)
    game.targets = [Target(name, 300.0, host=name[0]) for name in game.answers]
    game.round()
    assert game.limits[0] == 90.0


def test_no_time_is_reserved_for_hosts_that_are_not_tried():
    game = Game({"a": ["bad_request"], "b": [True], "c": [True]}, seconds=100)
    game.targets = [target("a", "p"), target("b", "q"), target("c", "p")]
    game.targets = [Target(t.name, 300.0, provider=t.provider) for t in game.targets]
    game.round()
    assert game.limits == pytest.approx([80.0, 99.9])


def test_a_run_out_of_time_calls_nothing():
    game = Game({"a": [True]}, seconds=0.5)
    assert game.whole().result is None and game.called == []


def test_no_target_at_all_is_said():
    assert "no target" in Game({}).whole().reason


def test_a_target_whose_credential_is_missing_is_fallen_over(make_env):
    config = {"providers": [
        {"name": "one", "base_url": "http://127.0.0.1:9", "api_key_from": "gone", "models": ["m"]},
        {"name": "two", "base_url": "http://127.0.0.1:9", "models": ["n"]},
    ]}
    env = make_env(config)
    payload = {"original_request": {"prompt": "x", "model": "m"}, "failure_reason": "?",
            "fallback_models": ["n"], "max_retries": 0}
    case = unseal(llm_retry.determine(env, payload, env.now())["next"]["carry"], env.store)
    ok, result = llm_retry.run_round(env, case)
    assert not ok and result["attempts"] == 2


def test_giving_up_tells_the_last_real_failure():
    clock = Clock()
    ledger = opened(clock)
    for _ in range(4):
        clock.forward(0.01)
        ledger.append("a", Outcome(False, "server_error", clock()))
    game = Game({"a": ["server_error"]}, seconds=30, ledger=ledger, clock=clock, base_delay=2.0)
    played = game.whole()
    assert played.failure is not None and played.failure.cause == "server_error"


ANSWER = st.sampled_from([True] + sorted(CAUSES)) | st.tuples(
    st.sampled_from(["rate_limit", "overloaded", "server_error", "timeout"]), st.floats(0, 86400)
)


@hypothesis.given(
    st.lists(st.lists(ANSWER, min_size=1, max_size=6), min_size=1, max_size=5),
    st.integers(0, 10), st.floats(5, 400), st.floats(0.001, 90), st.floats(0, 60),
    st.sampled_from(["exponential", "linear", "fixed", "immediate", "adaptive"]), st.booleans(),
)
def test_whatever_is_answered_the_run_ends_within_its_bounds(
    answers, retries, seconds, costs, base, strategy, given_by_caller
):
    game = Game(
        {"t%d" % n: payload for n, payload in enumerate(answers)}, seconds=seconds, costs=costs,
        max_retries=retries, base_delay=base, strategy=strategy, base_delay_given=given_by_caller,
    )
    played = game.whole()
    assert len(game.called) <= len(answers) + retries
    assert game.progress.repeats <= retries
    assert game.clock.at <= game.deadline.at + 1e-6
    assert (played.result is None) == bool(played.reason)
    assert all(limit >= 1.0 for limit in game.limits)
