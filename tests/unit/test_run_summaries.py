import json

from synthralos.storage import run_summaries


def test_a_run_leaves_one_summary_for_a_week(store, datastore, clock):
    assert run_summaries.record_summary(store, "5f0c", clock(), outcome="recovered", attempts=2)
    rows = datastore.list("synthralos.run.")
    assert [json.loads(value) for _, value in rows] == [
        {"v": 1, "run": "5f0c", "outcome": "recovered", "attempts": 2}
    ]
    clock.forward(7 * 24 * 3600 + 1)
    assert datastore.list("synthralos.run.") == []


def test_a_run_without_an_id_is_summarised_too(store, datastore, clock):
    assert run_summaries.record_summary(store, "", clock(), outcome="failed")
    assert len(datastore.list("synthralos.run.")) == 1


def test_a_store_that_is_away_is_said(store, datastore, clock):
    datastore.away = True
    assert run_summaries.record_summary(store, "5f0c", clock(), outcome="failed") is False
    assert "run" in store.unrecorded_note()


def test_summaries_since(store, clock):
    for n in range(120):
        run_summaries.record_summary(store, "run%d" % n, clock(), outcome="recovered")
        clock.forward(1)
    assert len(list(run_summaries.summaries_since(store, clock() - 110.5))) == 110
    assert len(list(run_summaries.summaries_since(store, 0))) == 120
    assert len(list(run_summaries.summaries_since(store, 0, max_pages=1))) == 100


def test_what_is_to_be_counted_stands_by_itself_until_it_is(store, clock):
    run_summaries.record_metrics_event(store, run_summaries.START, "5f0c", clock(), workflow="w")
    run_summaries.record_summary(store, "5f0c", clock(), outcome="failed")
    run_summaries.record_metrics_event(store, run_summaries.CALLS, "5f0c", clock(), llm=[])
    run_summaries.record_metrics_event(store, run_summaries.CALLS, "5f0c", clock() + 1, llm=[])
    events = [run_summaries.parse_event(text) for _, text in store.list(run_summaries.UNCOUNTED)]
    assert sorted(event["kind"] for event in events) == ["calls", "calls", "end", "start"]


def run(name, outcome="failed", rerun_of=None):
    return {"run": name, "outcome": outcome, "rerun_of": rerun_of}


def test_a_failed_run_is_open_until_a_run_of_its_lineage_has_recovered():
    a, b, c = run("a"), run("b", rerun_of="a"), run("c", "recovered", rerun_of="b")
    assert run_summaries.open_runs([b, a]) == [b, a]
    assert run_summaries.open_runs([c, b, a]) == [c]
    other = run("d")
    assert run_summaries.open_runs([other, c, b, a]) == [other, c]
    # Of the chain, only what is among the summaries is known.
    assert run_summaries.open_runs([c, a]) == [c, a]


def test_a_circle_of_reruns_ends():
    a, b = run("a", "recovered", rerun_of="b"), run("b", rerun_of="a")
    assert run_summaries.open_runs([a, b]) == [a]
