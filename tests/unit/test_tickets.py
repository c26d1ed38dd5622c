import pytest

from synthralos.refusals import Refused
from synthralos.state import tickets

FAILURE = {"type": "timeout", "cause": "network", "severity": "high"}


def report(store, clock, subject="bot", failure=FAILURE, run="r1"):
    clock.forward(1)
    return tickets.report(store, clock(), "agent_recovery", subject, failure, run, "it failed")


def test_the_first_failure_opens_a_ticket(store, clock):
    told = report(store, clock)
    assert told["new"] is True and told["occurrences"] == 1 and told["status"] == "open"
    assert tickets.get(store, told["ticket"])["severity"] == "high"


def test_the_same_problem_adds_to_its_ticket(store, clock):
    first, second = report(store, clock), report(store, clock, run="r2")
    assert second == {"ticket": first["ticket"], "status": "open", "occurrences": 2, "new": False}
    found = tickets.get(store, first["ticket"])
    assert [event["run"] for event in found["events"]] == ["r2", "r1"]
    assert found["occurrences"] == 2


def test_another_problem_has_another_ticket(store, clock):
    names = {
        report(store, clock)["ticket"],
        report(store, clock, subject="other")["ticket"],
        report(store, clock, failure=dict(FAILURE, cause="timeout"))["ticket"],
    }
    assert len(names) == 3


def test_tickets_are_listed_the_newest_first_and_filtered(store, clock):
    one, two = report(store, clock)["ticket"], report(store, clock, subject="two")["ticket"]
    report(store, clock)
    assert [ticket["ticket"] for ticket in tickets.listing(store)] == [one, two]
    assert [t["ticket"] for t in tickets.listing(store, subject="two")] == [two]
    assert len(tickets.listing(store, status="open")) == 2
    assert tickets.listing(store, status="resolved") == []


@pytest.mark.parametrize("name", ["T0", "", "T", "../x", "{{x}}", "\ud800"])
def test_what_is_no_ticket_is_refused(store, clock, name):
    report(store, clock)
    with pytest.raises(Refused):
        tickets.get(store, name)


def test_a_store_that_is_away_gives_no_ticket(store, clock, datastore):
    datastore.away = True
    assert report(store, clock) is None
    assert tickets.listing(store) == []


@pytest.mark.parametrize("value", ["", "x", "[]", '{"v": 9}'])
def test_what_is_no_event_is_passed_over(store, clock, value):
    name = report(store, clock)["ticket"]
    store.put("synthralos.ticket.%s.9999999999999-x" % name, value)
    assert tickets.get(store, name)["occurrences"] == 1
    assert len(tickets.listing(store)) == 1


def test_a_problem_that_recurs_for_long_does_not_hide_the_others(store, clock):
    busy, quiet = sorted(["a", "b"], reverse=True, key=lambda subject: tickets.ticket_id(
        "agent_recovery", subject, "network"))
    wanted = report(store, clock, subject=quiet)["ticket"]
    for _ in range(1000):
        report(store, clock, subject=busy)
    assert wanted in [ticket["ticket"] for ticket in tickets.listing(store)]
