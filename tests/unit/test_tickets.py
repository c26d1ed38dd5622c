import pytest

from synthralos.core.errors import InvalidInput
from synthralos.storage import tickets

FAILURE = {"type": "timeout", "cause": "network", "severity": "high"}


def report(store, clock, subject="bot", failure=FAILURE, run="r1"):
    clock.forward(1)
    return tickets.record_occurrence(
        store, clock(), "agent_recovery", subject, failure, run, "it failed"
    )


def test_the_first_failure_opens_a_ticket(store, clock):
    result = report(store, clock)
    assert result["new"] is True and result["occurrences"] == 1 and result["status"] == "open"
    assert tickets.get(store, result["ticket"])["severity"] == "high"


def test_the_same_problem_adds_to_its_ticket(store, clock):
    first, second = report(store, clock), report(store, clock, run="r2")
    assert (second["ticket"], second["status"]) == (first["ticket"], "open")
    assert (second["occurrences"], second["new"]) == (2, False)
    ticket = tickets.get(store, first["ticket"])
    assert [event["run"] for event in ticket["events"]] == ["r2", "r1"]
    assert ticket["occurrences"] == 2


def test_another_problem_has_another_ticket(store, clock):
    names = {
        report(store, clock)["ticket"],
        report(store, clock, subject="other")["ticket"],
        report(store, clock, failure=dict(FAILURE, cause="timeout"))["ticket"],
    }
    assert len(names) == 3


def test_tickets_are_listed_the_newest_first_and_filtered(store, clock):
    first, second = report(store, clock)["ticket"], report(store, clock, subject="two")["ticket"]
    report(store, clock)
    assert [ticket["ticket"] for ticket in tickets.list_tickets(store)] == [first, second]
    assert [t["ticket"] for t in tickets.list_tickets(store, subject="two")] == [second]
    assert len(tickets.list_tickets(store, status="open")) == 2
    assert tickets.list_tickets(store, status="resolved") == []


@pytest.mark.parametrize("name", ["T0", "", "T", "../x", "{{x}}", "\ud800"])
def test_what_is_no_ticket_is_refused(store, clock, name):
    report(store, clock)
    with pytest.raises(InvalidInput):
        tickets.get(store, name)


def test_a_store_that_is_away_gives_no_ticket(store, clock, datastore):
    datastore.away = True
    assert report(store, clock) is None
    assert tickets.list_tickets(store) == []


@pytest.mark.parametrize("value", ["", "x", "[]", '{"v": 9}'])
def test_what_is_no_event_is_passed_over(store, clock, value):
    name = report(store, clock)["ticket"]
    store.put("synthralos.ticket.%s.9999999999999-x" % name, value)
    assert tickets.get(store, name)["occurrences"] == 1
    assert len(tickets.list_tickets(store)) == 1


def test_a_problem_that_recurs_for_long_does_not_hide_the_others(store, clock):
    busy, quiet = sorted(["a", "b"], reverse=True, key=lambda subject: tickets.ticket_id(
        "agent_recovery", subject, "network"))
    expected = report(store, clock, subject=quiet)["ticket"]
    for _ in range(1000):
        report(store, clock, subject=busy)
    assert expected in [ticket["ticket"] for ticket in tickets.list_tickets(store)]


def to(level, priority=10):
    return lambda ticket: (level, priority)


def judged(store, clock, level, priority=10, **more):
    clock.forward(1)
    return tickets.record_occurrence(
        store,
        clock(),
        "agent_recovery",
        "bot",
        FAILURE,
        "r",
        "it failed",
        prioritize=to(level, priority),
        **more,
    )


def test_a_level_rises_and_never_falls_while_the_ticket_is_open(store, clock):
    first = judged(store, clock, "supervisor_review", 40)
    assert first["level"] == "supervisor_review" and first["previous_level"] is None
    second = judged(store, clock, "critical_alert", 90)
    assert second["previous_level"] == "supervisor_review" and second["priority"] == 90
    third = judged(store, clock, "auto_recovery", 5)
    assert (third["level"], third["priority"]) == ("critical_alert", 90)
    assert third["previous_level"] is None


def test_the_judge_sees_the_ticket_with_the_new_occurrence(store, clock):
    seen = []

    def judge(ticket):
        seen.append((ticket["occurrences"], ticket["attempts"], ticket["impact"]))
        return "auto_recovery", 0

    for attempts in (2, 3):
        clock.forward(1)
        tickets.record_occurrence(
            store, clock(), "w", "bot", FAILURE, "r", "s", judge, attempts, impact=7
        )
    assert seen == [(1, 2, 7), (2, 5, 7)]


def test_a_ticket_is_taken_and_resolved_and_opened_again(store, clock):
    name = report(store, clock)["ticket"]
    clock.forward(1)
    ticket = tickets.take(store, clock(), name, "ann", "r2")
    assert (ticket["status"], ticket["taken_by"]) == ("in_progress", "ann")
    assert report(store, clock)["status"] == "in_progress"
    clock.forward(1)
    resolved = tickets.resolve(store, clock(), name, "restarted it", "ann", "r3")
    assert (resolved["status"], resolved["resolved_by"]) == ("resolved", "ann")
    assert (resolved["resolution"], resolved["occurrences"]) == ("restarted it", 2)
    assert tickets.get(store, name)["taken_by"] == "ann"
    # Not the run that took or resolved it.
    assert {ticket["run"], resolved["run"], tickets.get(store, name)["run"]} == {"r1"}
    again = report(store, clock)
    assert again["new"] and again["occurrences"] == 1 and again["status"] == "open"
    assert tickets.get(store, name)["taken_by"] is None


def test_to_take_or_resolve_twice_changes_nothing(store, clock):
    name = report(store, clock)["ticket"]
    for _ in range(2):
        clock.forward(1)
        tickets.take(store, clock(), name, "ann", "r")
    for by in ("ann", "bob"):
        clock.forward(1)
        assert tickets.resolve(store, clock(), name, "done", by, "r")["resolved_by"] == "ann"
    kinds = [event["kind"] for event in tickets.get(store, name)["events"]]
    assert kinds == ["resolved", "taken", "occurred"]


def test_what_is_resolved_cannot_be_taken_or_raised(store, clock):
    name = report(store, clock)["ticket"]
    clock.forward(1)
    tickets.resolve(store, clock(), name, "done", "ann", "r")
    clock.forward(1)
    with pytest.raises(InvalidInput, match="is resolved"):
        tickets.take(store, clock(), name, "bob", "r")
    raised = tickets.escalate(store, clock(), name, "critical_alert", "late", "r")
    assert raised["status"] == "resolved"


def test_another_who_takes_it_has_it(store, clock):
    name = report(store, clock)["ticket"]
    for by in ("ann", "bob"):
        clock.forward(1)
        tickets.take(store, clock(), name, by, "r")
    assert tickets.get(store, name)["taken_by"] == "bob"


@pytest.mark.parametrize("work", [
    lambda store, name: tickets.take(store, 1.0, name, "ann", "r"),
    lambda store, name: tickets.resolve(store, 1.0, name, "x", "ann", "r"),
    lambda store, name: tickets.escalate(store, 1.0, name, "critical_alert", "x", "r"),
])
def test_there_is_nothing_to_do_with_no_ticket(store, work):
    with pytest.raises(InvalidInput, match="does not exist"):
        work(store, "T000000000000")


def test_a_raise_or_a_take_that_came_too_late_does_not_open_it_again(store, clock, datastore):
    name = report(store, clock)["ticket"]
    stale = dict(datastore._rows)
    clock.forward(1)
    tickets.resolve(store, clock(), name, "done", "ann", "r")
    resolved = dict(datastore._rows)
    # Another process had read the ticket before it was resolved, and writes after.
    datastore._rows = stale
    clock.forward(1)
    tickets.escalate(store, clock(), name, "critical_alert", "late", "r")
    datastore._rows = dict(datastore._rows, **resolved)
    assert tickets.get(store, name)["status"] == "resolved"
    assert report(store, clock)["level"] == "auto_recovery"


def test_more_events_than_a_page_lose_neither_level_nor_count_nor_who_took_it(store, clock):
    name = judged(store, clock, "critical_alert", 80, attempts=1)["ticket"]
    opened = tickets.get(store, name)["opened_at"]
    clock.forward(1)
    tickets.take(store, clock(), name, "ann", "r")
    for _ in range(250):
        result = judged(store, clock, "auto_recovery", 0, attempts=1)
    assert (result["occurrences"], result["level"], result["priority"]) == (
        251,
        "critical_alert",
        80,
    )
    ticket = tickets.get(store, name)
    assert (ticket["status"], ticket["taken_by"], ticket["attempts"]) == ("in_progress", "ann", 251)
    assert ticket["opened_at"] == opened
    period = ticket["period"]
    clock.forward(1)
    tickets.resolve(store, clock(), name, "done", "ann", "r")
    for _ in range(250):
        result = judged(store, clock, "auto_recovery", 0)
    ticket = tickets.get(store, name)
    assert result["occurrences"] == 250 and ticket["taken_by"] is None
    assert ticket["period"] > period


def test_tickets_are_filtered_by_level_and_priority(store, clock):
    name = judged(store, clock, "human_intervention", 60)["ticket"]
    report(store, clock, subject="other")
    assert [t["ticket"] for t in tickets.list_tickets(store, level="human_intervention")] == [name]
    assert [t["ticket"] for t in tickets.list_tickets(store, min_priority=60)] == [name]
    assert tickets.list_tickets(store, min_priority=61) == []
    assert len(tickets.list_tickets(store, min_priority=0)) == 2


def test_an_event_and_a_head_without_a_level_are_read(store, clock):
    event = (
        '{"v":1,"status":"open","workflow":"w","subject":"s","type":"error","cause":"unknown",'
        '"severity":"low","summary":"x","run":"r"}'
    )
    store.put("synthralos.ticket_event.T000000000000.1700000000000-000abc", event)
    store.put("synthralos.ticket.T000000000000", event[:-1] + ',"at":"2023-11-14T22:13:20Z"}')
    ticket = tickets.get(store, "T000000000000")
    assert (ticket["occurrences"], ticket["level"], ticket["status"]) == (
        1,
        "auto_recovery",
        "open",
    )
    assert tickets.list_tickets(store, level="auto_recovery")[0]["ticket"] == "T000000000000"
    clock.forward(1)
    assert tickets.take(store, clock(), "T000000000000", "ann", "r")["status"] == "in_progress"


def test_a_head_that_is_older_than_its_events_is_repaired(store, clock):
    name = report(store, clock)["ticket"]
    head = tickets.list_tickets(store)[0]
    clock.forward(1)
    tickets.take(store, clock(), name, "ann", "r")
    tickets._write_head(store, name, head)
    tickets.repair_head(store, tickets.get(store, name), tickets.list_tickets(store)[0])
    assert tickets.list_tickets(store)[0]["status"] == "in_progress"
