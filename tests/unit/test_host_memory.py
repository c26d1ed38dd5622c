"""Hosts that failed a short while ago come last, in other runs too."""
import json

import pytest

from synthralos.calls.attempts import RunProgress
from synthralos.calls.deadline import Deadline
from synthralos.calls.http import CallError
from synthralos.calls.relations import Target
from synthralos.calls.retry_rules import RetryRules
from synthralos.calls.rounds import play_round
from synthralos.config.settings import Breaker
from synthralos.core.causes import CAUSES
from synthralos.core.failures import make_failure
from synthralos.storage import keyspace
from synthralos.storage.datastore import PREFIX, BestEffortDatastore
from synthralos.storage.host_memory import SILENT, HostMemory
from synthralos.storage.outcome_ledger import Ledger

from .conftest import MemoryDatastore

OPEN_SECONDS = 60.0


class CountingDatastore(MemoryDatastore):
    """:ivar listings: how many listings of remembered hosts were read."""

    listings = 0

    def list(self, prefix, limit=100, offset=0):
        self.listings += prefix == PREFIX + "host_failure."
        return super().list(prefix, limit, offset)


@pytest.fixture
def datastore(clock):
    return CountingDatastore(clock)


@pytest.fixture
def memory(store, clock):
    return HostMemory(store, clock, Breaker(open_seconds=OPEN_SECONDS))


def targets(*names):
    """Targets whose first letter is their provider and host; `-` is a host that is unknown."""
    return [
        Target(name, 60.0, provider=name[0], host=None if name[0] == "-" else name[0] + ":443")
        for name in names
    ]


class Run:
    """A run of one round over `names`, whose targets answer as `answers` has it, else well."""

    def __init__(self, store, clock, memory, names, answers=None, progress=None, **rules):
        self.called, self.progress = [], progress or RunProgress()
        ledger = Ledger(store, clock, Breaker(failures=10))

        def attempt(target, seconds, number):
            self.called.append(target.name)
            cause = (answers or {}).get(target.name)
            if cause is not None:
                raise CallError(make_failure(cause, "scripted"))
            return {"answered": target.name}

        play_round(
            targets(*names), self.progress, RetryRules(**rules), attempt, ledger,
            Deadline(clock() + 300, clock), clock, "run", memory,
        )

    @property
    def last(self):
        return {e["target"]: e["asked_last"] for e in self.progress.trail if "asked_last" in e}


def test_a_host_that_failed_is_asked_last_by_later_runs_for_a_while(store, clock, memory):
    run = Run(store, clock, memory, ["a1", "a2", "b1"], {"a1": "timeout"})
    assert run.called == ["a1", "b1"]
    clock.forward(12)
    later = Run(store, clock, memory, ["a2", "a1", "b1"], {"b1": "server_error"})
    assert later.called == ["b1", "a2"]
    assert later.last == dict.fromkeys(["a2", "a1"], "its host failed with timeout 12 s ago")
    clock.forward(OPEN_SECONDS)
    assert Run(store, clock, memory, ["a2", "b1"]).called == ["a2"]


@pytest.mark.parametrize("cause", CAUSES)
def test_only_failures_of_hosts_are_remembered(store, clock, memory, cause):
    Run(store, clock, memory, ["a1"], {"a1": cause}, max_retries=0)
    assert bool(memory.recent()) == (CAUSES[cause].scope == "host")


def test_the_newest_failure_of_a_host_counts(clock, memory):
    memory.remember("a:443", "network")
    clock.forward(1)
    memory.remember("a:443", SILENT)
    memory.remember("b:443", "timeout")
    recent = memory.recent()
    assert {host: failure.cause for host, failure in recent.items()} == {
        "a:443": SILENT, "b:443": "timeout"}
    assert recent["a:443"].at == pytest.approx(clock(), abs=0.01)


def test_a_round_reads_them_once(store, clock, memory, datastore):
    Run(store, clock, memory, ["a1", "b1", "c1"], {"a1": "timeout", "b1": "timeout"})
    assert datastore.listings == 1


@pytest.mark.parametrize("names", [["a1"], ["a1", "a2"], ["-1", "-2"]])
def test_a_round_without_another_known_host_reads_none(store, clock, memory, datastore, names):
    Run(store, clock, memory, names)
    assert datastore.listings == 0


def test_an_unavailable_datastore_changes_nothing(store, clock, memory, datastore):
    memory.remember("a:443", "timeout")
    datastore.away = True
    run = Run(store, clock, memory, ["a1", "b1"], {"a1": "timeout"})
    assert run.called == ["a1", "b1"] and run.last == {}


def test_the_trail_says_it_once_in_a_run(store, clock, memory):
    memory.remember("a:443", "timeout")
    rules = {"max_retries": 3, "base_delay": 0.0}
    run = Run(store, clock, memory, ["a1", "b1"], {"a1": "timeout", "b1": "server_error"}, **rules)
    progress = RunProgress.from_dict(json.loads(json.dumps(run.progress.as_dict())))
    clock.forward(10)
    Run(store, clock, memory, ["a1", "b1"], {}, progress, **rules)
    assert [e["target"] for e in progress.trail if "asked_last" in e] == ["a1"]


def test_where_all_hosts_failed_the_order_stays_and_nothing_is_said(store, clock, memory):
    for host in ("a:443", "b:443"):
        memory.remember(host, "timeout")
    run = Run(store, clock, memory, ["a1", "b1"])
    assert run.called == ["a1"] and run.last == {}


def test_a_cause_after_which_all_are_tried_at_once_puts_no_host_last(store, clock, memory):
    memory.remember("a:443", "timeout")
    run = Run(store, clock, memory, ["a1", "b1"], fall_over={"timeout": True})
    assert run.called == ["a1"]


def test_rows_that_cannot_be_read_are_skipped(store, clock, memory, datastore):
    memory.remember("a:443", "timeout")
    prefix = keyspace.key_prefix("host_failure")
    for n, text in enumerate(("", "[]", '{"v": 1}', '{"v": 1, "host": 7, "cause": "timeout"}')):
        datastore.put("%s%013d-x%d" % (prefix, clock() * 1000, n), text)
    assert set(memory.recent()) == {"a:443"}


def test_what_is_stored_holds_no_text_and_expires_with_an_open_breaker(clock, memory, datastore):
    memory.remember("a:443", "timeout")
    (name,) = datastore.names()
    assert keyspace.kind_of_key(name) == "host_failure"
    assert not keyspace.KINDS["host_failure"].holds_user_text
    assert json.loads(datastore.get(name)) == {"v": 1, "host": "a:443", "cause": "timeout"}
    clock.forward(OPEN_SECONDS - 1)
    assert datastore.names() == [name]
    clock.forward(1)
    assert datastore.names() == []


def test_the_retention_of_the_ledger_does_not_prolong_it(make_env, clock, datastore):
    from synthralos.storage.retention_store import RetentionDatastore

    store = BestEffortDatastore(RetentionDatastore(datastore, {"ledger": 3600}, store_text=False))
    make_env({"breaker": {"open_seconds": 5}}, store=store).host_memory.remember("a:443", "network")
    assert len(datastore.names()) == 1
    clock.forward(5)
    assert datastore.names() == []
