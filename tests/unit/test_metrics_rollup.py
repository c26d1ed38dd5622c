"""Each run is counted once: whatever dies, overlaps, comes late or shares a moment."""
import json
import threading

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.metrics import definitions as f
from synthralos.metrics import query, rollup, totals_store
from synthralos.metrics.config import MetricsConfig
from synthralos.storage import locks, run_summaries
from synthralos.storage.datastore import BestEffortDatastore, DatastoreUnavailable

CONFIG = MetricsConfig()
RUN = {"workflow": "llm_retry", "outcome": "recovered", "failure_type": "llm_error",
       "duration": 2.0, "recovery": 2.0, "targets": ["llm:a/b"], "causes": [None],
       "latency_ms": [700], "attempts": 1, "repeats": 0}


def end(store, clock, run, **facts):
    run_summaries.record_summary(store, run, clock(), **dict(RUN, **facts))


def counted(env, family=f.COMPLETED):
    env.store.unavailable_reason = None
    return sum(query.current_series(env, CONFIG)[family].values())


def roll(env):
    return rollup.roll_up(env, CONFIG, sleep=lambda seconds: None)


class Died(BaseException):
    """A process that is killed: nothing after it runs, not even a `finally` that writes."""


class Steps:
    """A datastore that does something before or after its n-th operation.

    :param at: n, from 1; before, after: callables.
    """

    def __init__(self, datastore, at, before=None, after=None):
        self._datastore, self._at, self._n = datastore, at, 0
        self._before, self._after, self.dead = before, after, False

    def __getattr__(self, name):
        def call(*arguments, **named):
            if self.dead:
                raise Died
            self._n += 1
            if self._n == self._at and self._before:
                self._before(self)
            result = getattr(self._datastore, name)(*arguments, **named)
            if self._n == self._at and self._after:
                self._after(self)
            return result

        return call


def dies(steps):
    steps.dead = True
    raise Died


@pytest.fixture
def env(make_env):
    return make_env()


def other(make_env, datastore):
    env = make_env()
    env.store = BestEffortDatastore(datastore)
    return env


def test_runs_are_counted_once(env, store, clock):
    for n in range(3):
        end(store, clock, "run%d" % n)
    result = roll(env)
    assert (result["counted"], result["left"], result["push"]) == (3, False, None)
    assert result["summary"] == "3 events counted"
    assert counted(env) == 3 and roll(env)["counted"] == 0 and counted(env) == 3
    assert sum(value[0] for value in query.current_series(env, CONFIG)[f.RUN_SECONDS].values()) == 3


def test_a_run_that_is_summarised_again_is_counted_once(env, store, clock):
    end(store, clock, "run1")
    end(store, clock, "run1")
    roll(env)
    clock.forward(60)
    end(store, clock, "run1")
    result = roll(env)
    assert (result["counted"], result["duplicates"], counted(env)) == (0, 1, 1)


@pytest.mark.parametrize("step", [-86400 * 6, -1, 0, 86400 * 3])
def test_neither_late_summaries_nor_clocks_that_step_matter(env, store, clock, step):
    end(store, clock, "run1")
    roll(env)
    clock.forward(step)
    end(store, clock, "run2")
    clock.forward(-step)
    assert roll(env)["counted"] == 1 and counted(env) == 2


def test_more_than_a_page_is_counted(env, store, clock):
    for n in range(250):
        end(store, clock, "run%03d" % n)
    assert roll(env)["counted"] == 250 and counted(env) == 250
    assert store.list(run_summaries.UNCOUNTED) == []


def test_what_there_is_no_time_for_is_left(env, store, clock):
    for n in range(250):
        end(store, clock, "run%03d" % n)
    times = iter([0.0, 1.0, 2.0, 61.0])
    result = rollup.roll_up(env, CONFIG, monotonic=lambda: next(times))
    assert result["left"] and 0 < result["counted"] < 250
    result = roll(env)
    assert not result["left"] and counted(env) == 250


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 20))
def test_whoever_dies_at_whatever_moment_counts_nothing_twice(
    make_env, store, datastore, clock, at, when
):
    for n in range(3):
        end(store, clock, "run%d" % n)
    try:
        roll(other(make_env, Steps(datastore, at, **{when: dies})))
    except Died:
        pass
    clock.forward(locks.LOCK_TTL_SECONDS + 1)
    end(store, clock, "run3")
    env = make_env()
    roll(env)
    assert counted(env) == 4 and store.list(run_summaries.UNCOUNTED) == []


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("at", range(1, 20))
def test_two_at_once_count_nothing_twice(
    make_env, store, datastore, clock, monkeypatch, at, claimed
):
    """Also when both believe that they are alone, a claim having run out: then what the other wrote
    between the last look and the write is lost, for want of a compare-and-set, but not doubled.
    """
    if not claimed:
        monkeypatch.setattr(locks, "_acquire", lambda *_: True)
    for n in range(3):
        end(store, clock, "run%d" % n)

    went = []

    def meanwhile(steps):
        went.append(at)
        end(store, clock, "late")
        roll(make_env())

    roll(other(make_env, Steps(datastore, at, before=meanwhile)))
    env = make_env()
    clock.forward(locks.LOCK_TTL_SECONDS + 1)
    roll(env)
    assert counted(env) in ((3 + len(went),) if claimed else (3, 3 + len(went)))


def test_four_threads_count_nothing_twice(make_env, store, datastore, clock):
    for n in range(60):
        end(store, clock, "run%d" % n)
    envs = [other(make_env, datastore) for _ in range(4)]
    threads = [threading.Thread(target=rollup.roll_up, args=(env, CONFIG)) for env in envs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    env = make_env()
    roll(env)
    assert counted(env) == 60


def test_no_counter_goes_down(make_env, store, datastore, clock):
    env, before = make_env(), {}
    for n in range(8):
        end(store, clock, "run%d" % n, outcome="failed" if n % 3 else "recovered", cause="timeout")
        try:
            roll(other(make_env, Steps(datastore, 3 + n, after=dies)))
        except Died:
            clock.forward(locks.LOCK_TTL_SECONDS + 1)
        env.store.unavailable_reason = None
        series = query.current_series(env, CONFIG)
        now = {
            (family.name, labels): value
            for family in f.TOTALS if family.type == f.COUNTER
            for labels, value in series[family].items()
        }
        assert all(now.get(series, -1) >= value for series, value in before.items())
        before = now
    assert before


class _Lost:
    """A datastore whose write of the totals arrives, and whose answer does not."""

    def __init__(self, datastore):
        self._datastore = datastore

    def __getattr__(self, name):
        return getattr(self._datastore, name)

    def put(self, name, value, ttl=None):
        self._datastore.put(name, value, ttl)
        if name == totals_store.KEY:
            raise DatastoreUnavailable("no answer")


def test_a_write_whose_answer_is_lost_counts_nothing_twice(make_env, store, datastore, clock):
    end(store, clock, "run1")
    with pytest.raises(DatastoreUnavailable):
        roll(other(make_env, _Lost(datastore)))
    clock.forward(locks.LOCK_TTL_SECONDS + 1)
    env = make_env()
    assert roll(env)["counted"] == 0 and counted(env) == 1


def test_a_datastore_that_is_away_is_said(env, store, datastore, clock):
    datastore.away = True
    with pytest.raises(DatastoreUnavailable):
        roll(env)
    with pytest.raises(DatastoreUnavailable):
        query.metrics_report(env, CONFIG, "json")


@pytest.mark.parametrize("text", ["", "7", "{}", '{"v": 2}', "[]", '{"v": 1}'])
def test_totals_of_another_version_are_not_overwritten(env, store, text):
    store.put(totals_store.KEY, text)
    with pytest.raises(InvalidInput, match="synthralos.totals"):
        roll(env)
    assert store.get(totals_store.KEY) == text


@pytest.mark.parametrize("text", ["", "7", "{", '{"v": 9, "kind": "end"}', "null"])
def test_what_cannot_be_read_is_dropped(env, store, text):
    store.put(run_summaries.UNCOUNTED + "x", text)
    assert roll(env)["unreadable"] == 1 and store.list(run_summaries.UNCOUNTED) == []


def test_a_busy_one_says_so(env, store, clock):
    with locks.try_lock(store, "roll_up", clock):
        result = roll(env)
    assert (result["busy"], result["counted"]) == (True, 0) and "another" in result["summary"]


def test_what_is_kept_is_bounded(env, store, clock, monkeypatch):
    monkeypatch.setattr(rollup, "REMEMBERED", 10)
    for n in range(120):
        end(store, clock, "run%03d" % n, agent="agent%03d" % n)
    roll(env)
    stored = json.loads(store.get(totals_store.KEY))
    assert (len(stored["recent"]), stored["pending"]) == (10, [])
    agents = query.current_series(env, CONFIG)[f.AGENT_CALLS]
    assert len(agents) == 51 and agents[("other", "success")] == 70


def test_starts_and_ends(env, store, clock):
    run_summaries.record_metrics_event(
        store, run_summaries.START, "run1", clock(), workflow="llm_retry"
    )
    run_summaries.record_metrics_event(
        store, run_summaries.START, "run2", clock(), workflow="llm_retry"
    )
    end(store, clock, "run1")
    roll(env)
    assert (counted(env, f.STARTED), counted(env)) == (2, 1)
