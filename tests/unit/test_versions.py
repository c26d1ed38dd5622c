import json

import pytest

from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.storage import history, versions
from synthralos.storage.datastore import BestEffortDatastore, DatastoreUnavailable
from synthralos.storage.stackstorm_api import StackStormError
from synthralos.storage.versions import HistoryConfig

CONFIG = HistoryConfig()


def record(store, clock, state, agent="agent_01", task="task_01", config=CONFIG, **more):
    clock.forward(1)
    return versions.record(store, config, clock(), agent, task, state, **more)


def list_heads(store, clock, agent="agent_01", config=CONFIG, **more):
    return versions.list_versions(store, config, clock(), agent, **more)


def compare(store, clock, before, after, task="task_01"):
    return versions.compare(store, CONFIG, clock(), "agent_01", task, before, after)


def test_versions_count_for_each_agent_and_task(store, clock):
    names = [
        record(store, clock, {}, agent, task)["version"]
        for agent, task in (("a", "t"), ("a", "t"), ("a", "u"), ("b", "t"), ("a", "t"))
    ]
    assert names == ["v0001", "v0002", "v0001", "v0001", "v0003"]


def test_all_kinds_share_the_count(store, clock):
    names = [record(store, clock, {}, kind=kind)["version"] for kind in versions.KINDS]
    assert names == ["v0001", "v0002", "v0003", "v0004"]


def test_the_newest_come_first_with_what_is_known_of_them(store, clock):
    record(store, clock, {"n": 1}, actor="jane", user="st2admin", metadata={"phase": "one"})
    record(store, clock, {"n": 1}, kind="error")
    record(store, clock, {"n": 2})
    heads = list_heads(store, clock)
    assert [head["version"] for head in heads] == ["v0003", "v0002", "v0001"]
    assert [head["changed"] for head in heads] == [True, False, True]
    first = heads[-1]
    assert (first["actor"], first["user"], first["kind"]) == ("jane", "st2admin", "state")
    assert first["metadata"] == {"phase": "one"} and first["size_bytes"] == 7
    assert (first["agent_id"], first["task_id"]) == ("agent_01", "task_01")
    assert "state" not in first


def test_a_list_is_narrowed(store, clock):
    for task, kind in (("t", "state"), ("u", "error"), ("t", "error"), ("t", "recovery")):
        record(store, clock, {}, task=task, kind=kind)
    pairs = [(head["task_id"], head["version"]) for head in list_heads(store, clock)]
    assert pairs == [("t", "v0003"), ("t", "v0002"), ("u", "v0001"), ("t", "v0001")]
    assert [head["task_id"] for head in list_heads(store, clock, kind="error")] == ["t", "u"]
    assert len(list_heads(store, clock, task_id="t", limit=2)) == 2
    assert len(list_heads(store, clock, since=clock() - 1)) == 2
    assert list_heads(store, clock, agent="agent") == []


def test_a_version_is_got_by_its_number_or_its_record(store, clock):
    head = record(store, clock, {"n": 1}, metadata={"k": 1})
    record(store, clock, {"n": 2})
    for name in ("v0001", head["record"]):
        version = versions.get(store, CONFIG, clock(), "agent_01", "task_01", name)
        assert version["state"] == {"n": 1} and version["version"] == "v0001"
        assert version["metadata"] == {"k": 1}


@pytest.mark.parametrize("name", ["v0003", "v1", "", "x", "1700000000000-000000000", None])
def test_what_is_no_version_is_refused_with_those_there_are(store, clock, name):
    record(store, clock, {})
    record(store, clock, {})
    with pytest.raises(InvalidInput, match="v0001 to v0002"):
        versions.get(store, CONFIG, clock(), "agent_01", "task_01", name)
    with pytest.raises(InvalidInput, match="that agent and task have none"):
        versions.get(store, CONFIG, clock(), "agent_01", "other", name)


def test_the_oldest_go_and_the_numbers_stay(store, clock, datastore):
    config = HistoryConfig(max_versions=3)
    gone = [record(store, clock, {"n": n}, config=config)["deleted"] for n in range(5)]
    assert gone == [0, 0, 0, 1, 1]
    assert [head["version"] for head in list_heads(store, clock)] == ["v0005", "v0004", "v0003"]
    assert list_heads(store, clock)[-1]["changed"] is None
    assert len(datastore.names()) == 2 * 3
    assert record(store, clock, {}, config=config)["version"] == "v0006"


def test_more_than_a_page_of_versions(store, clock):
    config = HistoryConfig(max_versions=150)
    for n in range(160):
        record(store, clock, {"n": n}, config=config)
    heads = list_heads(store, clock, config=config, limit=1000)
    assert [head["version"] for head in heads[::149]] == ["v0160", "v0011"]
    assert versions.get(store, config, clock(), "agent_01", "task_01", "v0011")["state"] == {
        "n": 10
    }


def test_versions_are_kept_for_their_days(store, clock, datastore):
    record(store, clock, {}, config=HistoryConfig(retention_days=2), kind="error")
    clock.forward(2 * 24 * 3600 - 1)
    assert list_heads(store, clock)
    assert list_heads(store, clock, config=HistoryConfig(retention_days=1)) == []
    clock.forward(2)
    assert datastore.names() == []


def test_two_that_write_at_once_get_two_numbers(clock, datastore):
    """Both read the same newest version before either has written."""
    record(BestEffortDatastore(datastore), clock, {"n": 1})
    ahead = []

    class Late:
        def __getattr__(self, name):
            return getattr(datastore, name)

        def list(self, *arguments, **options):
            rows = datastore.list(*arguments, **options)
            if not ahead:
                ahead.append(True)
                record(BestEffortDatastore(datastore), clock, {"n": "other"})
            return rows

    mine = versions.record(
        BestEffortDatastore(Late()), CONFIG, clock() + 2, "agent_01", "task_01", {"n": "mine"})
    clock.forward(2)
    assert mine["version"] == "v0003"
    heads = [
        versions.get(BestEffortDatastore(datastore), CONFIG, clock(), "agent_01", "task_01", name)[
            "state"
        ]["n"]
        for name in ("v0001", "v0002", "v0003")
    ]
    assert heads == [1, "other", "mine"]
    assert record(BestEffortDatastore(datastore), clock, {})["version"] == "v0004"


def test_what_changed_between_two_versions(store, clock):
    record(store, clock, {"status": "running", "steps": [1, 2], "old": 1})
    record(store, clock, {"status": "completed", "steps": [1, 3, 4], "result": {"ok": True}})
    comparison = compare(store, clock, "v0001", "v0002")
    diff = comparison["diff"]
    assert diff["added"] == [
        {"path": "/result", "value": {"ok": True}}, {"path": "/steps/2", "value": 4}]
    assert diff["removed"] == [{"path": "/old", "value": 1}]
    assert diff["changed"] == [
        {"path": "/status", "from": "running", "to": "completed"},
        {"path": "/steps/1", "from": 2, "to": 3}]
    assert diff["total_changes"] == 5
    lines = diff["unified"].split("\n")
    assert lines[:2] == ["--- v0001", "+++ v0002"] and '+  "status": "completed",' in lines
    assert (diff["additions"], diff["deletions"]) == (6, 3)
    assert comparison["from"]["version"] == "v0001" and "state" not in comparison["to"]


def test_equal_states_do_not_differ(store, clock):
    record(store, clock, {"a": 1, "b": 2})
    record(store, clock, {"b": 2, "a": 1})
    diff = compare(store, clock, "v0001", "v0002")["diff"]
    assert (diff["total_changes"], diff["unified"], diff["additions"]) == (0, "", 0)


@pytest.mark.parametrize(
    "before, after", [(1, 1.0), (1, True), (0, False), (None, 0), ("1", 1), ([], {}), (0.0, -0.0)])
def test_values_of_another_kind_differ(before, after):
    assert versions.json_diff({"a": before}, {"a": after}) == {
        "added": [], "removed": [], "total_changes": 1,
        "changed": [{"path": "/a", "from": before, "to": after}]}


def test_paths_are_json_pointers():
    before = {"a/b": {"~": [{"": 1}]}}
    after = {"a/b": {"~": [{"": 2}]}}
    assert versions.json_diff(before, after)["changed"][0]["path"] == "/a~1b/~0/0/"
    assert versions.json_diff(1, 2)["changed"][0]["path"] == ""


def test_no_text_is_made_of_what_nobody_reads():
    long = list(range(versions.DIFF_LINES))
    assert versions.unified_diff(long, long[:-1], "a", "b") is None
    assert versions.unified_diff([1], [2], "a", "b")


def test_a_corrupted_version_is_refused(store, clock, datastore):
    first, second = (record(store, clock, {"n": n}) for n in (1, 2))
    key = versions.key_of("agent_01", "task_01", first["record"])
    good, other = (
        datastore.get(versions.key_of("agent_01", "task_01", v["record"])) for v in (first, second)
    )
    for text in (good[:-4], "", other, good.replace("gzip", "plain")):
        datastore.put(key, text)
        with pytest.raises(InvalidInput, match="corrupted") as refused:
            compare(store, clock, "v0001", "v0002")
        assert refused.value.field == "from"
    datastore.delete(key)
    with pytest.raises(InvalidInput, match="its state is missing"):
        compare(store, clock, "v0001", "v0002")


def test_a_head_that_cannot_be_read_keeps_its_place(store, clock, datastore):
    heads = [record(store, clock, {"n": n}) for n in range(3)]
    key = versions.key_of("agent_01", "task_01", heads[1]["record"]).replace(
        "version.", "version_head.")
    for value in ("", "[]", '{"v": 9}', '{"v": 1, "number": "x"}'):
        datastore.put(key, value)
        assert [head["version"] for head in list_heads(store, clock)] == ["v0003", "v0002", "v0001"]
    assert record(store, clock, {})["version"] == "v0004"


def test_the_timeline_shows_who_did_what_in_order(store, clock):
    history.append_entry(store, "agent_01", clock(), {
        "event": "failed", "workflow": "agent_recovery", "run": "5f0c", "cause": "timeout"})
    record(store, clock, {"n": 1})
    record(store, clock, {"n": 2}, kind="intervention", actor="jane", metadata={"why": "stuck"})
    record(store, clock, {"message": "x"}, kind="error", task="other")
    clock.forward(1)
    history.append_entry(
        store, "agent_01", clock(), {"event": "recovered", "workflow": "agent_recovery"}
    )
    clock.forward(1)
    history.append_entry(store, "agent_01", clock(), {"event": "restored", "actor": "joe"})
    entries = versions.timeline(store, "agent_01")
    assert [(entry["kind"], entry["actor"]) for entry in entries] == [
        ("error", "synthralos.agent_recovery"), ("intervention", "jane"), ("error", "unknown"),
        ("recovery", "synthralos.agent_recovery"), ("recovery", "joe")]
    assert entries[0]["cause"] == "timeout"
    assert entries[1]["version"] == "v0002" and entries[1]["metadata"] == {"why": "stuck"}
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


def test_a_timeline_is_narrowed(store, clock):
    for n in range(130):
        record(store, clock, {}, task="t%d" % (n % 2), kind="error", metadata={"n": n})
    entries = versions.timeline(store, "agent_01", limit=3)
    assert [entry["metadata"]["n"] for entry in entries] == [127, 128, 129]
    assert len(versions.timeline(store, "agent_01", task_id="t0", limit=100)) == 65
    assert len(versions.timeline(store, "agent_01", since=clock() - 4)) == 5
    assert versions.timeline(store, "agent") == []


def test_what_no_hand_of_ours_wrote_is_passed_over(store, clock, datastore):
    record(store, clock, {}, kind="error")
    for name, value in (("x", '{"v": 1}'), ("y", "{"), ("1700000000000-x", '{"v": 1}')):
        datastore.put("synthralos.history.agent_01." + name, value)
    assert [entry["kind"] for entry in versions.timeline(store, "agent_01")] == ["unknown", "error"]


def test_a_version_and_its_timeline_entry_have_one_record(store, clock):
    head = record(store, clock, {}, kind="recovery")
    assert versions.timeline(store, "agent_01")[0]["record"] == head["record"]


@pytest.mark.parametrize("field, value", [
    ("kind", {"kind": "other"}), ("actor", {"actor": " "}), ("actor", {"actor": "x" * 129}),
    ("metadata", {"metadata": {"a": "x" * 5000}}), ("agent_id", {"agent": "two words"}),
    ("task_id", {"task": "../x"})])
def test_what_cannot_be_recorded_is_refused(store, clock, datastore, field, value):
    with pytest.raises(InvalidInput) as refused:
        record(store, clock, {}, **value)
    assert refused.value.field == field and datastore.names() == []


def test_a_state_that_is_no_json_is_refused(store, clock, datastore):
    with pytest.raises(InvalidInput, match="state"):
        record(store, clock, {"n": float("nan")})
    assert datastore.names() == []


@pytest.mark.parametrize("away", [True, "put", "list", "get"])
def test_a_datastore_that_is_away_is_never_taken_for_an_empty_one(clock, datastore, away):
    record(BestEffortDatastore(datastore), clock, {"n": 1})
    record(BestEffortDatastore(datastore), clock, {"n": 2})
    datastore.away = away if away is True else (away,)
    asks = {
        "put": [lambda store: record(store, clock, {})],
        "list": [
            lambda store: record(store, clock, {}), lambda store: list_heads(store, clock),
            lambda store: versions.timeline(store, "agent_01")],
        "get": [lambda store: compare(store, clock, "v0001", "v0002")],
    }
    for ask in sum(asks.values(), []) if away is True else asks[away]:
        with pytest.raises(DatastoreUnavailable, match="took it away"):
            ask(BestEffortDatastore(datastore))


class Counting:
    def __init__(self, datastore):
        self.datastore, self.calls = datastore, 0

    def __getattr__(self, name):
        self.calls += 1
        return getattr(self.datastore, name)


def test_how_many_datastore_calls_each_operation_makes(clock, datastore):
    def calls(work):
        counting = Counting(datastore)
        work(BestEffortDatastore(counting))
        return counting.calls

    assert calls(lambda store: record(store, clock, {})) == 4
    assert calls(lambda store: record(store, clock, {}, kind="error")) == 5
    assert calls(lambda store: list_heads(store, clock)) == 1
    assert calls(lambda store: compare(store, clock, "v0001", "v0002")) == 3
    assert calls(lambda store: versions.timeline(store, "agent_01")) == 1
    assert calls(
        lambda store: versions.get(store, CONFIG, clock(), "agent_01", "task_01", "v0001")) == 2


class Executions:
    def __init__(self, execution):
        self.result = execution

    def execution(self, execution_id, attributes):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    "execution, user",
    [({"context": {"user": "jane"}}, "jane"), ({"context": {}}, None), ({}, None),
     (StackStormError("away"), None)])
def test_the_user_is_the_one_of_the_execution(execution, user):
    assert versions.stackstorm_user(Executions(execution), "5f0c") == user
    assert (
        versions.stackstorm_user(None, "5f0c") is None and
        versions.stackstorm_user(Executions(execution), "") is None
    )


def test_the_rules_are_those_of_the_settings(make_env):
    settings = Settings.from_config({"history": {"max_versions": 2}})
    assert versions.history_config(settings).max_versions == 2
    assert versions.history_config(make_env().settings) == HistoryConfig(100, 30, True)


@pytest.mark.parametrize("compress", [True, False])
def test_compression(store, clock, datastore, compress):
    head = record(
        store, clock, {"a": "b" * 9000}, config=HistoryConfig(compression_enabled=compress)
    )
    text = datastore.get(versions.key_of("agent_01", "task_01", head["record"]))
    assert (len(text) < 2000) is compress
    assert json.dumps(versions.get(
        store, CONFIG, clock(), "agent_01", "task_01", "v0001")["state"]) == '{"a": "%s"}' % (
            "b" * 9000)
