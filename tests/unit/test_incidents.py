"""What is stored of incidents."""
from synthralos.storage import incidents, unreadable
from synthralos.storage.incidents import FiringAlert

ALERT = FiringAlert("f1", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 5.0)


def test_a_firing_alert_that_was_edited_manually_counts_as_absent(store):
    incidents.record_firing(store, "i", ALERT)
    edited = "synthralos.firing_alert.i.f2"
    store.put(edited, '{"v": 1, "since": "2026-01-01T00:00:00Z", "comment": "ours"}')
    with unreadable.noticed() as names:
        assert incidents.firing_alerts(store, "i") == [ALERT]
    assert names == {edited}


def test_attempts_come_back_newest_first_with_their_time(store, clock):
    for run in ("first", "second"):
        clock.forward(1)
        incidents.record_attempt(store, clock(), "bot", run)
    attempts = incidents.recent_attempts(store, "bot")
    assert [attempt["run"] for attempt in attempts] == ["second", "first"]
    assert attempts[0]["at"] - attempts[1]["at"] == 1
