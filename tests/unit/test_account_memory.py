"""Accounts that are spent or whose key is not valid are not called by later runs."""
import json

import pytest

from synthralos.storage import keyspace
from synthralos.storage.account_memory import AccountFailure, AccountMemory
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.retention_store import RetentionDatastore

from .conftest import MemoryDatastore


@pytest.fixture
def datastore(clock):
    return MemoryDatastore(clock)


@pytest.fixture
def memory(store, clock):
    return AccountMemory(store, clock)


def test_an_account_rests_until_its_reset(memory, clock):
    memory.remember("p@a", "quota", 60.0)
    assert memory.resting() == {"p@a": AccountFailure("quota", clock() + 60.0)}
    clock.forward(59)
    assert set(memory.resting()) == {"p@a"}
    clock.forward(1)
    assert memory.resting() == {}


@pytest.mark.parametrize("order", [1, -1])
def test_the_failure_that_lasts_longest_counts(memory, clock, order):
    for cause, seconds in [("quota", 3600.0), ("authentication", 60.0)][::order]:
        memory.remember("p@a", cause, seconds)
    memory.remember("q@a", "authentication", 60.0)
    resting = memory.resting()
    assert {account: failure.cause for account, failure in resting.items()} == {
        "p@a": "quota", "q@a": "authentication"}
    clock.forward(60)
    assert set(memory.resting()) == {"p@a"}


def test_an_unavailable_datastore_remembers_none(memory, datastore):
    memory.remember("p@a", "quota", 60.0)
    datastore.away = True
    memory.remember("q@a", "quota", 60.0)
    assert memory.resting() == {}


@pytest.mark.parametrize("text", [
    "", "[]", '{"v": 1}', '{"v": 1, "account": 7, "cause": "quota", "until": 9e12}',
    '{"v": 1, "account": "x", "cause": "quota", "until": true}',
    '{"v": 1, "account": "x", "cause": "quota", "until": "9e12"}',
    '{"v": 1, "account": "x", "cause": "<b>", "until": 9e12}',
    '{"v": 2, "account": "x", "cause": "quota", "until": 9e12}',
])
def test_rows_that_cannot_be_read_are_skipped(memory, clock, datastore, text):
    memory.remember("p@a", "quota", 60.0)
    prefix = keyspace.key_prefix("account_failure")
    datastore.put("%s%013d-x" % (prefix, clock() * 1000), text)
    assert set(memory.resting()) == {"p@a"}


def test_what_is_stored_holds_no_text_and_expires_at_the_reset(memory, clock, datastore):
    memory.remember("p@a", "quota", 60.0)
    (name,) = datastore.names()
    assert keyspace.kind_of_key(name) == "account_failure"
    assert not keyspace.KINDS["account_failure"].holds_user_text
    assert json.loads(datastore.get(name)) == {
        "v": 1, "account": "p@a", "cause": "quota", "until": clock() + 60.0}
    clock.forward(60)
    assert datastore.names() == []


@pytest.mark.parametrize("retention", [1, 7200])
def test_the_retention_of_the_ledger_does_not_change_its_lifetime(clock, datastore, retention):
    rules = RetentionDatastore(datastore, {"ledger": retention}, store_text=False)
    memory = AccountMemory(BestEffortDatastore(rules), clock)
    memory.remember("p@a", "quota", 60.0)
    clock.forward(59)
    assert set(memory.resting()) == {"p@a"}
    clock.forward(1)
    assert datastore.names() == []
