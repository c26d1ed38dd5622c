from synthralos.state import history


def test_entries_come_back_newest_first(store, clock):
    records = []
    for n in range(3):
        clock.forward(1)
        records.append(history.record(store, "bot", clock(), {"event": "failed", "n": n}))
    assert history.recent(store, "bot") == [
        {"event": "failed", "n": n, "record": records[n]} for n in (2, 1, 0)
    ]
    assert len(history.recent(store, "bot", limit=2)) == 2


def test_each_subject_has_its_own(store, clock):
    history.record(store, "a", clock(), {"n": 1})
    history.record(store, "a.b", clock(), {"n": 2})
    history.record(store, "openai/gpt-4", clock(), {"n": 3})
    assert [entry["n"] for entry in history.recent(store, "a")] == [1]
    assert [entry["n"] for entry in history.recent(store, "openai/gpt-4")] == [3]


def test_an_entry_is_kept_thirty_days(store, clock):
    history.record(store, "bot", clock(), {})
    clock.forward(30 * 24 * 3600 - 1)
    assert history.recent(store, "bot")
    clock.forward(2)
    assert history.recent(store, "bot") == []


def test_what_is_no_entry_is_passed_over(store, clock):
    for n, value in enumerate(["", "x", "[]", "5", '{"v": 9}']):
        store.put("synthralos.history.bot.%d-x" % n, value)
    assert history.recent(store, "bot") == []


def test_a_store_that_is_away_gives_no_record(store, clock, datastore):
    datastore.away = True
    assert history.record(store, "bot", clock(), {}) is None
    assert history.recent(store, "bot") == []
