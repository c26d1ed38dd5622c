"""Tickets that nobody takes rise; what is gone over twice, or at once, changes nothing more."""
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.escalation import ticketing
from synthralos.escalation.config import EscalationConfig
from synthralos.storage import tickets
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.tickets import LEVELS

FAILURE = {"type": "llm_error", "cause": "rate_limit", "severity": "medium"}
QUIET = {"notification_channels": {"mail": False}}


@pytest.fixture
def config():
    return EscalationConfig.from_config(QUIET)


def opened(env, config, clock, subject="bot", failure=FAILURE, **more):
    clock.forward(1)
    return ticketing.open_ticket(env, config, "llm_retry", subject, failure, "it failed", **more)


def level_of(store, ticket):
    return tickets.get(store, ticket["ticket"])["level"]


def test_a_ticket_that_nobody_takes_rises_step_by_step_to_the_top(make_env, store, clock, config):
    env = make_env()
    ticket = opened(env, config, clock)
    seen = [level_of(store, ticket)]
    for _ in range(5):
        clock.forward(300)
        ticketing.process_due(env, config)
        seen.append(level_of(store, ticket))
    assert seen == list(LEVELS) + [LEVELS[-1]] * 2
    raised = [e for e in tickets.get(store, ticket["ticket"])["events"] if e["kind"] == "raised"]
    assert len(raised) == 3 and raised[0]["why"] == "nobody took it within 300 s"
    assert tickets.list_tickets(store)[0]["level"] == LEVELS[-1]


def test_it_does_not_rise_before_its_time(make_env, store, clock, config):
    env = make_env()
    ticket = opened(env, config, clock)
    clock.forward(299)
    summary = ticketing.process_due(env, config)
    assert (summary["open"], summary["raised"], summary["tickets"]) == (1, 0, [])
    clock.forward(1)
    summary = ticketing.process_due(env, config)
    assert summary["raised"] == 1 and summary["tickets"][0]["previous_level"] == "auto_recovery"
    assert summary["tickets"][0]["level"] == level_of(store, ticket) == "supervisor_review"
    # The time of a level begins when it is reached.
    assert ticketing.process_due(env, config)["tickets"] == []


def test_what_was_taken_or_resolved_does_not_rise(make_env, store, clock, config):
    env = make_env()
    ticket = [opened(env, config, clock, subject) for subject in ("a", "b")]
    clock.forward(1)
    ticketing.take(env, config, ticket[0]["ticket"], "ann")
    ticketing.resolve(env, config, ticket[1]["ticket"], "done", "ann")
    clock.forward(10_000)
    assert ticketing.process_due(env, config)["raised"] == 0


def test_a_timeout_of_0_raises_nothing(make_env, clock):
    env = make_env()
    config = EscalationConfig.from_config(dict(QUIET, escalation_timeout=0))
    opened(env, config, clock)
    clock.forward(1_000_000)
    assert ticketing.process_due(env, config)["raised"] == 0


def test_the_most_urgent_come_first(make_env, clock, config):
    env = make_env()
    for subject, severity in (("a", "low"), ("b", "high"), ("c", "medium")):
        opened(env, config, clock, subject, dict(FAILURE, severity=severity))
    clock.forward(300)
    summary = ticketing.process_due(env, config)
    names = [tickets.ticket_id("llm_retry", subject, "rate_limit") for subject in "bca"]
    assert [process["ticket"] for process in summary["tickets"]] == names


def test_runs_that_fail_again_raise_the_ticket(make_env, clock, config):
    env = make_env()
    levels = [opened(env, config, clock)["level"] for _ in range(6)]
    assert levels == ["auto_recovery"] * 2 + ["supervisor_review"] * 2 + ["human_intervention"] * 2


@pytest.mark.parametrize("cause", ["infinite_loop", "resource"])
def test_a_critical_error_type_goes_straight_to_the_top(make_env, clock, config, cause):
    failure = {"type": "error", "cause": cause, "severity": "low"}
    assert opened(make_env(), config, clock, failure=failure)["level"] == "critical_alert"


def test_the_priority_rises_with_the_occurrences(make_env, clock, config):
    env = make_env()
    priorities = [opened(env, config, clock, attempts=1)["priority"] for _ in range(8)]
    assert priorities == sorted(priorities) and priorities[-1] > priorities[0]


def test_many_that_process_at_once_raise_by_one_level(make_env, store, clock, datastore, config):
    ticket = opened(make_env(), config, clock)
    clock.forward(300)
    ready, summary = threading.Barrier(20), []

    def process():
        env = make_env(store=BestEffortDatastore(datastore))
        ready.wait()
        summary.append(ticketing.process_due(env, config))

    threads = [threading.Thread(target=process) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len(summary) == 20 and level_of(store, ticket) == "supervisor_review"


def test_a_head_without_events_is_passed_over(make_env, store, clock, datastore, config):
    env = make_env()
    opened(env, config, clock)
    for name in datastore.names():
        if ".ticket_event." in name:
            datastore.delete(name)
    clock.forward(1000)
    assert ticketing.process_due(env, config)["tickets"] == []


def test_a_store_that_is_away_ends_nothing(make_env, clock, datastore, config):
    datastore.away = True
    env = make_env(store=BestEffortDatastore(datastore))
    assert opened(env, config, clock) is None
    assert ticketing.process_due(env, config)["tickets"] == []


def test_a_store_that_goes_away_after_the_ticket_sends_nothing(make_env, clock, datastore):
    env = make_env()
    config = EscalationConfig.from_config(
        {
            "notification_channels": {"mail": False, "webhook": True},
            "webhook": {"url": "http://127.0.0.1:1"},
        }
    )
    put = datastore.put

    def put_then_away(name, value, ttl=None):
        put(name, value, ttl)
        if name.startswith("synthralos.ticket."):
            datastore.away = True

    datastore.put = put_then_away
    ticket = opened(env, config, clock, failure=dict(FAILURE, severity="high"))
    assert ticket["ticket"] and ticket["notifications"] == []


@pytest.mark.parametrize("entry", [{"mail": {"host": "h"}}, [], {"escalation_timeout": "x"}])
def test_a_wrong_configuration_does_not_keep_a_failure_from_its_ticket(make_env, clock, entry):
    ticket = ticketing.open_failure_ticket(
        make_env(), entry, "llm_retry", "gpt-4", dict(FAILURE, severity="high"), "it failed")
    assert ticket["new"] and ticket["level"] == "supervisor_review"
    assert all(process["status"] == "failed" for process in ticket["notifications"])
    assert "escalation" in ticket["notifications"][0]["error"]


def test_the_secrets_of_the_configuration_are_masked(make_env):
    env = make_env()
    ticketing.load_config(env, {"slack": {"url": "https://hooks.example.com/very-secret"}})
    assert env.redactor.redact_text("https://hooks.example.com/very-secret") == "********"
