import json

from synthralos.state import runs


def test_a_run_leaves_one_summary_for_a_week(store, datastore, clock):
    assert runs.summarise(store, "5f0c", clock(), outcome="recovered", attempts=2)
    rows = datastore.list("synthralos.run.")
    assert [json.loads(value) for _, value in rows] == [
        {"v": 1, "run": "5f0c", "outcome": "recovered", "attempts": 2}
    ]
    clock.forward(7 * 24 * 3600 + 1)
    assert datastore.list("synthralos.run.") == []


def test_a_run_without_an_id_is_summarised_too(store, datastore, clock):
    assert runs.summarise(store, "", clock(), outcome="failed")
    assert len(datastore.names()) == 1


def test_a_store_that_is_away_is_said(store, datastore, clock):
    datastore.away = True
    assert runs.summarise(store, "5f0c", clock(), outcome="failed") is False
    assert "run" in store.note()
