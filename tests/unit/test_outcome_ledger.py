import json
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.config.settings import Breaker
from synthralos.storage.circuit_breaker import CLOSED, HALF_OPEN, OPEN
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.outcome_ledger import TTL_SECONDS, WINDOW_SIZE, Ledger, Outcome

TARGET = "llm:openai/gpt-4"


@pytest.fixture
def ledger(store, clock):
    return Ledger(store, clock, Breaker())


def fail(ledger, clock, times=1, target=TARGET):
    for _ in range(times):
        clock.forward(0.01)
        ledger.append(target, Outcome(False, "server_error", clock()))


def half_open(ledger, clock):
    fail(ledger, clock, 5)
    clock.forward(60.5)
    health = ledger.breaker_state(TARGET)
    assert health.state == HALF_OPEN
    return health


def test_an_outcome_comes_back_as_it_was_written(ledger, clock):
    outcome = Outcome(False, "rate_limit", clock(), 0.25, clock() + 9, True, "5f0c")
    ledger.append(TARGET, outcome)
    assert ledger.window(TARGET) == [outcome]


def test_the_window_is_the_newest_first_and_of_one_target(ledger, clock):
    for n in range(3):
        clock.forward(1)
        ledger.append(TARGET, Outcome(True, None, clock(), run=str(n)))
    ledger.append("llm:openai/gpt-4o", Outcome(True, None, clock(), run="other"))
    assert [outcome.run for outcome in ledger.window(TARGET)] == ["2", "1", "0"]


def test_the_window_has_an_end(ledger, clock):
    for _ in range(WINDOW_SIZE + 5):
        clock.forward(1)
        ledger.append(TARGET, Outcome(True, None, clock()))
    assert len(ledger.window(TARGET)) == WINDOW_SIZE
    clock.forward(TTL_SECONDS)
    assert ledger.window(TARGET) == []


def test_expiry_is_checked_by_the_reader(clock, datastore):
    ledger = Ledger(BestEffortDatastore(datastore), clock, Breaker())
    ledger.append(TARGET, Outcome(True, None, clock()))
    datastore._live = lambda: {name: value for name, (value, _) in datastore._rows.items()}
    clock.forward(TTL_SECONDS + 1)
    assert ledger.window(TARGET) == []


@pytest.mark.parametrize("value", ["", "x", "[]", "5", "null", '{"v": 2}', '{"v": 1}'])
def test_what_another_version_wrote_is_passed_over(ledger, store, clock, value):
    fail(ledger, clock)
    name = store.list("synthralos.outcome.")[0][0]
    store.put(name[:-1] + "z", value)
    assert len(ledger.window(TARGET)) == 1


def test_what_is_written_holds_no_text(ledger, store, clock):
    fail(ledger, clock)
    outcome = json.loads(store.list("synthralos.outcome.")[0][1])
    assert set(outcome) <= {"v", "ok", "cause", "run", "latency_ms", "repeat", "until"}


def test_five_failures_open_and_a_minute_half_opens_the_target(ledger, clock):
    fail(ledger, clock, 4)
    assert ledger.breaker_state(TARGET).state == CLOSED
    fail(ledger, clock)
    assert ledger.breaker_state(TARGET).state == OPEN
    clock.forward(60)
    assert ledger.breaker_state(TARGET).state == HALF_OPEN


def test_a_state_is_forced_and_released(ledger, clock):
    ledger.force_state(TARGET, OPEN, 60)
    assert ledger.breaker_state(TARGET).state == OPEN
    assert ledger.breaker_state("llm:openai/gpt-4o").state == CLOSED
    assert ledger.release(TARGET) is True and ledger.release(TARGET) is False
    assert ledger.breaker_state(TARGET).state == CLOSED and ledger.forced(TARGET) is None


def test_a_forced_state_ends_when_its_time_is_up(ledger, clock, datastore):
    datastore._live = lambda: {name: value for name, (value, _) in datastore._rows.items()}
    fail(ledger, clock, 5)
    ledger.force_state(TARGET, CLOSED, 30)
    assert ledger.breaker_state(TARGET).state == CLOSED
    clock.forward(31)
    assert ledger.breaker_state(TARGET).state == OPEN and ledger.release(TARGET) is False


def test_the_newest_force_holds_whichever_ends_first(ledger, clock, datastore):
    ledger.force_state(TARGET, OPEN, 3600)
    clock.forward(1)
    ledger.force_state(TARGET, CLOSED, 60)
    assert ledger.breaker_state(TARGET).state == CLOSED
    assert len(datastore.names()) == 1


def test_a_force_that_another_process_left_beside_a_newer_one_does_not_hold(ledger, clock, store):
    store.put("synthralos.outcome.llm~3Aopenai~2Fgpt-4.%013d-000aaa" % (clock() * 1000 + 9e6),
              json.dumps({"v": 1, "forced": "open", "since": clock() - 10}))
    assert ledger.breaker_state(TARGET).state == OPEN
    ledger._drop_forced = lambda *_, **__: False
    ledger.force_state(TARGET, CLOSED, 60)
    assert ledger.breaker_state(TARGET).state == CLOSED


@pytest.mark.parametrize("state", [OPEN, CLOSED])
def test_no_number_of_outcomes_pushes_a_force_out(ledger, clock, state):
    ledger.force_state(TARGET, state, 3600)
    for ok in [False] * 30 + [True] * 30 + [False] * 30:
        clock.forward(0.01)
        ledger.append(TARGET, Outcome(ok, None if ok else "server_error", clock()))
    assert ledger.breaker_state(TARGET).state == state
    assert len(ledger.window(TARGET)) == WINDOW_SIZE


@pytest.mark.parametrize("forced", [None, OPEN, CLOSED])
def test_the_health_of_a_target_costs_one_call(ledger, clock, datastore, monkeypatch, forced):
    fail(ledger, clock, 3)
    if forced:
        ledger.force_state(TARGET, forced, 60)
    calls, reach = [], datastore._reach
    monkeypatch.setattr(datastore, "_reach", lambda name: calls.append(name) or reach(name))
    ledger.breaker_state(TARGET)
    assert calls == ["list"]


@pytest.mark.parametrize("value", ["half_open", "x", None, 5, ["open"]])
def test_a_force_that_is_none_counts_as_absent(ledger, clock, store, value):
    store.put("synthralos.outcome.llm~3Aopenai~2Fgpt-4.%013d-000aaa" % (clock() * 1000 + 9e6),
              json.dumps({"v": 1, "forced": value, "since": clock()}))
    assert ledger.forced(TARGET) is None and ledger.breaker_state(TARGET).state == CLOSED


def test_a_force_that_cannot_be_recorded_is_none(clock, datastore):
    datastore.away = True
    assert (
        Ledger(BestEffortDatastore(datastore), clock, Breaker()).force_state(TARGET, OPEN, 60) is
        None
    )


def test_three_claimers_go_one_after_the_other(ledger, clock):
    health = half_open(ledger, clock)
    gone = []
    for _ in range(20):
        clock.forward(0.001)
        gone.append(ledger.claim_probe(TARGET, health))
    assert gone == [True] * 3 + [False] * 17


def test_three_claimers_go_in_the_same_millisecond(ledger, clock):
    health = half_open(ledger, clock)
    assert sum(ledger.claim_probe(TARGET, health) for _ in range(20)) == 3


def test_among_twenty_at_once_three_go(datastore, clock):
    health = half_open(Ledger(BestEffortDatastore(datastore), clock, Breaker()), clock)
    all_listed, all_put = threading.Barrier(20), threading.Barrier(20)
    put, listing, gone, met = datastore.put, datastore.list, [], set()

    def put_and_meet(*arguments):
        put(*arguments)
        all_put.wait(PATIENCE_SECONDS)

    def list_and_meet(*arguments, **options):
        rows = listing(*arguments, **options)
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            all_listed.wait(PATIENCE_SECONDS)
        return rows

    datastore.put, datastore.list = put_and_meet, list_and_meet

    def claim():
        gone.append(
            Ledger(BestEffortDatastore(datastore), clock, Breaker()).claim_probe(TARGET, health)
        )

    threads = [threading.Thread(target=claim) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(gone) == [False] * 17 + [True] * 3


def test_probes_that_died_make_room_after_a_minute(ledger, clock):
    health = half_open(ledger, clock)
    assert [ledger.claim_probe(TARGET, health) for _ in range(2)] == [True, True]
    clock.forward(1)
    assert ledger.claim_probe(TARGET, health)
    clock.forward(1)
    assert not ledger.claim_probe(TARGET, health)
    clock.forward(61)
    assert ledger.claim_probe(TARGET, ledger.breaker_state(TARGET))


def test_claims_of_another_target_do_not_count(ledger, clock):
    health = half_open(ledger, clock)
    for _ in range(5):
        ledger.claim_probe("llm:other/x", health)
    assert ledger.claim_probe(TARGET, health)


def test_with_the_store_away_the_run_goes_on(clock, datastore):
    datastore.away = True
    store = BestEffortDatastore(datastore)
    ledger = Ledger(store, clock, Breaker())
    ledger.append(TARGET, Outcome(True, None, clock()))
    health = ledger.breaker_state(TARGET)
    assert (health.state, health.until) == (CLOSED, None)
    assert ledger.claim_probe(TARGET, health)
    assert "outcome" in store.unrecorded_note()


def test_a_store_that_takes_no_claim_does_not_hold_the_run_back(clock, datastore):
    ledger = Ledger(BestEffortDatastore(datastore), clock, Breaker())
    health = half_open(ledger, clock)
    datastore.away = ("put",)
    assert ledger.claim_probe(TARGET, health)
