import pytest

from synthralos.storage.datastore import (
    SWEEP_FROM,
    BestEffortDatastore,
    DatastoreUnavailable,
    MemoryDatastore,
    require_available,
    timestamp_key,
    timestamp_of_key,
)


def test_what_is_put_is_got_and_listed_newest_first(store):
    for n in range(3):
        assert store.put("synthralos.k.%d" % n, str(n), ttl=5) is True
    assert store.get("synthralos.k.1") == "1"
    assert [value for _, value in store.list("synthralos.k.")] == ["2", "1", "0"]
    assert store.list("synthralos.k.", limit=1, offset=1) == [("synthralos.k.1", "1")]
    assert store.delete("synthralos.k.1") is True and store.get("synthralos.k.1") is None
    assert store.delete("synthralos.k.1") is False
    assert store.unrecorded_note() is None


def test_a_store_that_is_away_ends_nothing_and_is_asked_once(datastore):
    calls = []
    datastore.away = True
    datastore._reach, reach = (lambda operation: (calls.append(operation), reach(operation))), (
        datastore._reach
    )
    store = BestEffortDatastore(datastore)
    assert store.put("synthralos.run.1", "x") is False
    assert store.put("synthralos.outcome.a.1", "x") is False
    assert store.put("synthralos.outcome.b.1", "x") is False
    assert (store.get("a"), store.list("a"), store.delete("a")) == (None, [], False)
    assert calls == ["put"]
    assert store.unrecorded_note() == "not recorded: run, outcome (the test took it away)"


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, AttributeError, NameError])
def test_a_defect_of_ours_is_raised_and_never_told_as_a_store_that_is_away(datastore, error):
    def broken(*arguments, **named):
        raise error("of ours")

    for name in ("get", "put", "list", "list_keys", "delete"):
        setattr(datastore, name, broken)
    store = BestEffortDatastore(datastore)
    for ask in (lambda: store.get("a"), lambda: store.put("synthralos.a.1", "x"),
                lambda: store.list("a"), lambda: store.list_keys("a"), lambda: store.delete("a")):
        with pytest.raises(error):
            ask()
    assert store.unavailable_reason is None and store.unrecorded_note() is None


def test_callers_see_that_the_datastore_is_away_as_what_it_is(datastore):
    store = BestEffortDatastore(datastore)
    require_available(store)
    datastore.away = True
    store.list("a")
    with pytest.raises(DatastoreUnavailable, match="unreadable: the test took it away"):
        require_available(store, "unreadable: %s")


def test_what_was_missed_is_named_once(datastore):
    datastore.away = ("list",)
    store = BestEffortDatastore(datastore)
    store.list("a")
    store.miss("version")
    store.miss("version")
    assert store.unrecorded_note() == "not recorded: version (the test took it away)"


def test_no_store_at_all_is_one_that_is_away():
    store = BestEffortDatastore(None)
    assert store.put("synthralos.run.1", "x") is False
    assert store.unrecorded_note() == "not recorded: run (no datastore is configured)"


def test_reading_alone_leaves_no_note(datastore):
    datastore.away = True
    store = BestEffortDatastore(datastore)
    store.list("a")
    assert store.unrecorded_note() is None


@pytest.mark.parametrize("at", [0.0, 1.5, 1_700_000_000.123])
def test_a_fact_s_name_tells_its_time(at):
    assert timestamp_of_key("synthralos.run." + timestamp_key(at)) == pytest.approx(at, abs=0.001)


def test_names_sort_by_time_and_are_unique():
    keys = [timestamp_key(at) for at in (1.0, 20.0, 1_700_000_000.0)]
    assert keys == sorted(keys)
    assert timestamp_key(1.0) != timestamp_key(1.0)


@pytest.mark.parametrize("name", ["", "synthralos.run.x", "a.-1", "a.b-c"])
def test_a_name_without_a_time_has_none(name):
    assert timestamp_of_key(name) is None


def test_memory_lists_newest_first_and_forgets_what_has_expired(clock):
    memory = MemoryDatastore(clock)
    for n in (2, 0, 3, 1):
        memory.put("synthralos.k.%d" % n, str(n), ttl=5 + n)
    memory.put("synthralos.l.0", "another prefix")
    memory.put("synthralos.k.0", "over the old one", ttl=5)
    assert [value for _, value in memory.list("synthralos.k.")] == [
        "3", "2", "1", "over the old one"]
    assert memory.list("synthralos.k.", 1, 1) == [("synthralos.k.2", "2")]
    assert memory.list_keys("synthralos.k.", 1)[0].size == 1
    assert memory.delete("synthralos.k.3") is True and memory.delete("synthralos.k.3") is False
    clock.forward(6)
    assert memory.get("synthralos.k.1") is None
    assert memory.list("synthralos.k.") == [("synthralos.k.2", "2")]
    assert memory.usage() == (2, len("2" + "another prefix"))


def test_memory_does_not_grow_with_what_has_expired(clock):
    memory = MemoryDatastore(clock)
    for n in range(5 * SWEEP_FROM):
        memory.put("synthralos.k.%05d" % n, "x", ttl=1)
        clock.forward(0.25)
    assert len(memory._rows) <= SWEEP_FROM + 1
    assert len(memory.list("synthralos.k.")) == 3
