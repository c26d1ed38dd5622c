from synthralos.storage import history


def test_entries_come_back_newest_first(store, clock):
    records = []
    for n in range(3):
        clock.forward(1)
        records.append(history.append_entry(store, "bot", clock(), {"event": "failed", "n": n}))
    assert history.recent_entries(store, "bot") == [
        {"event": "failed", "n": n, "record": records[n]} for n in (2, 1, 0)
    ]
    assert len(history.recent_entries(store, "bot", limit=2)) == 2


def test_each_subject_has_its_own(store, clock):
    history.append_entry(store, "a", clock(), {"n": 1})
    history.append_entry(store, "a.b", clock(), {"n": 2})
    history.append_entry(store, "openai/gpt-4", clock(), {"n": 3})
    assert [entry["n"] for entry in history.recent_entries(store, "a")] == [1]
    assert [entry["n"] for entry in history.recent_entries(store, "openai/gpt-4")] == [3]


def test_an_entry_is_kept_thirty_days(store, clock):
    history.append_entry(store, "bot", clock(), {})
    clock.forward(30 * 24 * 3600 - 1)
    assert history.recent_entries(store, "bot")
    clock.forward(2)
    assert history.recent_entries(store, "bot") == []


def test_what_is_no_entry_is_passed_over(store, clock):
    for n, value in enumerate(["", "x", "[]", "5", '{"v": 9}']):
        store.put("synthralos.history.bot.%d-x" % n, value)
    assert history.recent_entries(store, "bot") == []


def test_a_store_that_is_away_gives_no_record(store, clock, datastore):
    datastore.away = True
    assert history.append_entry(store, "bot", clock(), {}) is None
    assert history.recent_entries(store, "bot") == []
