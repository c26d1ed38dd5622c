"""Attempts that stay open while the next host is asked: with scripted threads and a scripted clock.

The same with threads and sockets is in test_closable.py.
"""
import json

import pytest

from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.http import CallError, CallNotMade
from synthralos.calls.open_attempts import Return
from synthralos.calls.relations import Target
from synthralos.calls.retry_rules import RetryRules
from synthralos.calls.rounds import play_round
from synthralos.config.settings import Breaker
from synthralos.core.causes import CAUSES
from synthralos.core.failures import make_failure
from synthralos.storage.host_memory import SILENT, HostMemory
from synthralos.storage.outcome_ledger import Ledger

HANGS = 10_000.0


class ScriptedThreads:
    """Threads that return after the seconds that `latencies` has for their target's call."""

    def __init__(self, clock):
        self.clock, self._running, self.latency = clock, {}, None

    def start(self, key, work):
        result, error = None, None
        try:
            result = work()
        except Exception as caught:
            error = caught
        self._running[key] = (self.clock() + self.latency, result, error)

    def wait(self, seconds):
        end = self.clock() + max(0.0, seconds)
        times = [(entry[0], key) for key, entry in self._running.items()]
        at, key = min(times, default=(end, None))
        if key is None or at > end:
            self.clock.at = end
            return None
        self.clock.at = max(self.clock.at, at)
        _, result, error = self._running.pop(key)
        return Return(key, result, error, at)

    def join(self, key, seconds):
        pass


class ScriptedCall:
    """A call of a Game."""

    def __init__(self, game, target):
        self._game, self._target = game, target
        self.settled, self.is_closed = [], False

    def begin(self):
        if self._target.name in self._game.refused:
            raise CallNotMade(make_failure("budget", "not made"))

    def send(self, seconds):
        return self._game.answer(self._target)

    def close(self):
        self.is_closed = True

    def settle(self, failure):
        self.settled.append(failure and failure.cause)


class Game:
    """One run.

    :param answers: {target: (latency, True or a cause)}; the first letter of a target is its host.
    """

    def __init__(
        self, store, clock, answers, seconds=300, limit=60.0, ask_next_after=20.0, **rules
    ):
        self.clock, self.answers = clock, answers
        self.targets = [
            Target(name, limit, provider=name[0], host=name[0] + ":443") for name in answers
        ]
        self.rules = RetryRules(ask_next_after=ask_next_after, **rules)
        self.ledger = Ledger(store, clock, Breaker())
        self.memory = HostMemory(store, clock, Breaker())
        self.deadline = Deadline(clock() + seconds, clock)
        self.threads, self.progress = ScriptedThreads(clock), RunProgress()
        self.calls, self.refused = {}, ()
        # (target, seconds since the beginning), of threads and of this thread.
        self.threaded, self.direct, self._began = [], [], clock()

    def open_call(self, target):
        self.calls[target.name] = ScriptedCall(self, target)
        return self.calls[target.name]

    def answer(self, target):
        self.threaded.append((target.name, self.clock() - self._began))
        self.threads.latency, answer = self.answers[target.name]
        return self._result(target, answer)

    def attempt(self, target, seconds, number):
        self.direct.append((target.name, self.clock() - self._began))
        latency, answer = self.answers[target.name]
        self.clock.forward(min(latency, seconds))
        return self._result(target, answer if latency <= seconds else "timeout")

    @staticmethod
    def _result(target, answer):
        if answer is not True:
            raise CallError(make_failure(answer, "scripted"))
        return {"answered": target.name}

    def round(self):
        self.progress = RunProgress.from_dict(json.loads(json.dumps(self.progress.as_dict())))
        return play_round(
            self.targets, self.progress, self.rules, self.attempt, self.ledger, self.deadline,
            self.clock, "run", self.memory, self.open_call, self.threads,
        )

    @property
    def took(self):
        return self.clock() - self._began

    def attempts(self):
        return [
            (entry["target"], entry["ok"], entry.get("cause"))
            for entry in self.progress.trail if "attempt" in entry
        ]


@pytest.fixture
def game(store, clock):
    return lambda answers, **more: Game(store, clock, answers, **more)


def test_a_host_that_hangs_costs_seconds(game):
    # Two models on a host that hangs, and a healthy one elsewhere.
    play = game({"p1": (HANGS, True), "p2": (HANGS, True), "q1": (1.0, True)})
    played = play.round()
    assert played.result == {"answered": "q1"} and played.target.name == "q1"
    assert play.threaded == [("p1", 0.0), ("q1", 20.0)] and play.took == 21.0
    assert play.attempts() == [("p1", False, "cancelled"), ("q1", True, None)]
    closed = next(entry for entry in play.progress.trail if entry.get("cause") == "cancelled")
    assert closed["message"] == "closed: q1 answered first" and closed["latency_ms"] == 21_000
    assert play.calls["p1"].is_closed and play.calls["p1"].settled == ["cancelled"]
    assert play.calls["q1"].settled == [None]


def test_the_next_run_asks_the_hung_host_last(game):
    answers = {"p1": (HANGS, True), "p2": (HANGS, True), "q1": (1.0, True)}
    game(answers).round()
    later = game(answers)
    assert later.round().result == {"answered": "q1"} and later.took == 1.0
    last = {e["target"]: e["asked_last"] for e in later.progress.trail if "asked_last" in e}
    assert last == dict.fromkeys(["p1", "p2"], "its host did not answer 1 s ago")


def test_a_slow_model_is_not_cut_and_is_called_once_when_nobody_else_answers(game):
    play = game({"p1": (50.0, True), "q1": (1.0, "server_error"), "r1": (1.0, "quota")})
    assert play.round().result == {"answered": "p1"}
    assert play.threaded == [("p1", 0.0), ("q1", 20.0), ("r1", 21.0)] and play.took == 50.0
    assert play.attempts() == [
        ("q1", False, "server_error"), ("r1", False, "quota"), ("p1", True, None)]
    assert play.calls["p1"].settled == [None]


def test_a_slow_model_that_answers_first_wins(game):
    play = game({"p1": (25.0, True), "q1": (30.0, True)})
    assert play.round().result == {"answered": "p1"} and play.took == 25.0
    assert play.attempts() == [("q1", False, "cancelled"), ("p1", True, None)]
    assert set(play.memory.recent()) == {"p:443"}


def test_a_model_that_answers_in_time_is_asked_alone(game):
    play = game({"p1": (19.0, True), "q1": (1.0, True)})
    assert play.round().result == {"answered": "p1"}
    assert play.threaded == [("p1", 0.0)] and play.memory.recent() == {}


def test_each_further_host_is_asked_after_as_long_a_silence(game):
    play = game({"p1": (HANGS, True), "q1": (HANGS, True), "r1": (5.0, True)})
    assert play.round().result == {"answered": "r1"}
    assert play.threaded == [("p1", 0.0), ("q1", 20.0), ("r1", 40.0)] and play.took == 45.0
    assert set(play.memory.recent()) == {"p:443", "q:443"}


def test_a_failure_before_the_silence_falls_over_at_once(game):
    play = game({"p1": (3.0, "server_error"), "q1": (1.0, True), "r1": (1.0, True)})
    assert play.round().result == {"answered": "q1"}
    assert play.threaded == [("p1", 0.0), ("q1", 3.0)]


def test_a_hung_host_is_asked_no_second_time_before_its_first_attempt_ends(game):
    play = game({"p1": (HANGS, True), "p2": (1.0, True), "q1": (1.0, "quota")}, limit=60.0)
    assert play.round().result == {"answered": "p2"}
    # The time-out of the first comes before the second, which is called in this thread.
    assert play.threaded == [("p1", 0.0), ("q1", 20.0)] and play.direct == [("p2", 60.0)]
    assert play.attempts() == [
        ("q1", False, "quota"), ("p1", False, "timeout"), ("p2", True, None)]
    assert play.calls["p1"].is_closed and play.calls["p1"].settled == ["timeout"]


@pytest.mark.parametrize("answers", [
    {"p1": (30.0, True)}, {"p1": (30.0, True), "p2": (1.0, True)},
])
def test_without_another_host_no_thread_is_started(game, answers):
    play = game(answers)
    assert play.round().result == {"answered": "p1"}
    assert play.threaded == [] and play.direct == [("p1", 0.0)]


def test_the_last_host_is_called_without_a_thread_once_all_have_failed(game):
    play = game({"p1": (1.0, "server_error"), "q1": (30.0, True)})
    assert play.round().result == {"answered": "q1"}
    assert play.threaded == [("p1", 0.0)] and play.direct == [("q1", 1.0)]


@pytest.mark.parametrize("more", [
    {"ask_next_after": 0.0}, {"limit": 20.0}, {"fall_over": {"timeout": False}},
])
def test_where_nobody_is_asked_meanwhile_no_thread_is_started(game, more):
    play = game({"p1": (1.0, True), "q1": (1.0, True)}, **more)
    assert play.round().result == {"answered": "p1"} and play.threaded == []


def test_a_target_that_may_not_be_called_is_not_asked(game):
    play = game({"p1": (30.0, True), "q1": (1.0, True)})
    play.ledger.force_state("q1", "open", 3600)
    assert play.round().result == {"answered": "p1"}
    assert play.threaded == [("p1", 0.0)] and play.calls["p1"].settled == [None]


def test_a_call_that_is_not_made_leaves_the_open_one(game):
    play = game({"p1": (30.0, True), "q1": (1.0, True)})
    play.refused = ("q1",)
    played = play.round()
    assert played.result == {"answered": "p1"} and play.progress.attempts == 1
    assert play.attempts() == [("p1", True, None)]
    assert {"target": "q1", "skipped": "not made", "cause": "budget"} in play.progress.trail


def test_nothing_is_asked_that_does_not_fit_the_deadline(game):
    # p1 may take until the last 10 s, q1 until the end.
    play = game({"p1": (HANGS, True), "q1": (HANGS, True)}, seconds=31.0, max_retries=0)
    assert play.round().result is None and play.took == pytest.approx(31.0)
    assert play.attempts() == [("p1", False, "timeout"), ("q1", False, "timeout")]
    short = game({"p1": (HANGS, True), "q1": (1.0, True)}, seconds=0.9)
    assert short.round().result is None and short.threaded == []


@pytest.mark.parametrize("cause", CAUSES)
def test_whatever_the_next_host_says_the_open_attempt_may_still_answer(game, cause):
    play = game({"p1": (40.0, True), "q1": (1.0, cause)})
    assert play.round().result == {"answered": "p1"}


def test_what_was_closed_says_nothing_of_its_target(game):
    play = game({"p1": (HANGS, True), "q1": (1.0, True)})
    play.round()
    assert play.ledger.window("p1") == [] and len(play.ledger.window("q1")) == 1
    assert play.memory.recent()["p:443"].cause == SILENT


def test_an_unexpected_exception_closes_what_is_open(game):
    play = game({"p1": (HANGS, True), "q1": (1.0, True)})
    play.threads.wait, wait = None, play.threads.wait

    def broken(seconds):
        if play.clock() > 1_700_000_000.0:
            raise ZeroDivisionError
        return wait(seconds)

    play.threads.wait = broken
    with pytest.raises(ZeroDivisionError):
        play.round()
    assert all(call.is_closed for call in play.calls.values())


def test_attempts_of_all_rounds_are_counted(game):
    answers = {"p1": (HANGS, True), "q1": (1.0, "server_error")}
    play = game(answers, max_retries=2, base_delay=1.0, limit=40.0)
    first = play.round()
    assert first.result is None and play.progress.attempts == 2
    play.clock.forward(first.delay)
    answers["q1"] = (1.0, True)
    assert play.round().result == {"answered": "q1"}
    assert [e["attempt"] for e in play.progress.trail if "attempt" in e] == [2, 1, 3]
