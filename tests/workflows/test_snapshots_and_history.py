"""Snapshots and histories through the real actions, on st2local."""
import base64
import json

import pytest

STATE = {"model_version": "2.1.0", "parameters": {"learning_rate": 0.001}, "password": "open"}
HOSTILE = ["<%= erb %>", "{{.Values.x}}", "\u202e\U0001f600"]
RENDERED = ["{{ config_context.token }}", "{% raw %}", "<% ctx() %>"]


@pytest.fixture
def ask(world):
    """ask(action, status="succeeded", **parameters) -> the action's result."""

    def run(action, status="succeeded", **parameters):
        execution = world.local.run("synthralos." + action, parameters)
        assert execution["status"] == status, execution["result"]
        return execution["result"]["result"]

    return run


def configured(world, entry, **values):
    if entry not in world.local.pack.config_schema:
        pytest.skip("config.schema.yaml does not know %s" % entry)
    world.config[entry] = values


def create(ask, state=STATE, agent="trainer_01", task="training", **more):
    return ask("snapshot.create", agent_id=agent, task_id=task, state=state, **more)


def keys(world, kind):
    return [row["name"] for row in world.local.keys.list("synthralos.%s." % kind, sort="-name")]


def test_a_snapshot_is_taken_listed_shown_and_restored(ask):
    snapshot = create(ask, metadata={"checkpoint": "before_fine_tuning"})
    other = create(ask, task="other")
    listing = ask("snapshot.list", agent_id="trainer_01")
    names = [entry["snapshot_id"] for entry in listing["snapshots"]]
    assert names == [other["snapshot_id"], snapshot["snapshot_id"]]
    of_task = ask("snapshot.list", agent_id="trainer_01", task_id="training")["snapshots"]
    assert [entry["metadata"] for entry in of_task] == [{"checkpoint": "before_fine_tuning"}]
    for action in ("snapshot.get", "snapshot.restore"):
        result = ask(action, snapshot_id=snapshot["snapshot_id"])
        assert result["result"] == {
            "state": STATE, "metadata": {"checkpoint": "before_fine_tuning"}}
        assert result["checksum"] == snapshot["checksum"]
    assert result["restored"] is True


def test_without_a_restore_path_the_state_is_given_and_nothing_restored(ask, world):
    del world.config["platforms"][0]["restore_path"]
    result = ask("snapshot.restore", snapshot_id=create(ask)["snapshot_id"])
    assert result["restored"] is False and "no platform has a restore_path" in result["summary"]
    assert result["result"]["state"] == STATE


def test_hostile_text_comes_back_as_it_was(ask):
    texts = HOSTILE + ["base64:" + base64.b64encode(t.encode()).decode() for t in RENDERED]
    snapshot = create(ask, state={"texts": texts})
    result = ask("snapshot.restore", snapshot_id=snapshot["snapshot_id"])
    assert result["result"]["state"] == {"texts": HOSTILE + RENDERED}
    # Nothing that a caller worded stands at the top.
    top_level = {name: value for name, value in result.items() if isinstance(value, str)}
    assert not any(mark in json.dumps(top_level) for mark in ("{{", "<%", "{%"))


def test_what_stackstorm_cannot_hold_is_whole_in_the_datastore(ask, world):
    from synthralos.storage import state_codec

    state = {"large": 2**70, "surrogate": "\ud800"}
    result = ask("snapshot.get", snapshot_id=create(ask, state=state)["snapshot_id"])["result"]
    assert result["altered"] is True and result["state"]["large"] == str(2**70)
    text = world.local.keys.get(result["state_key"])
    assert state_codec.decode_state(text)["state"] == state


def test_a_state_too_large_for_a_result_is_named(ask, world):
    world.config["max_result_bytes"] = 100
    snapshot = create(ask, state={"text": "x" * 200})
    result = ask("snapshot.restore", snapshot_id=snapshot["snapshot_id"])["result"]
    assert result["state"] is None and result["state_bytes"] == snapshot["size_bytes"]
    assert result["state_key"] in keys(world, "snapshot")


def test_a_corrupted_one_is_refused_and_a_good_one_named(ask, world):
    good, bad = create(ask)["snapshot_id"], create(ask)["snapshot_id"]
    newest = keys(world, "snapshot")[0]
    text = world.local.keys.get(newest)
    world.local.keys.set(newest, text[:-20] + text[-19:] + "A")
    error = ask("snapshot.restore", "failed", snapshot_id=bad)["error"]
    assert error["cause"] == "refused" and bad in error["message"]
    assert "corrupted" in error["message"] and error["hint"].endswith(good)
    assert ask("snapshot.restore", snapshot_id=good)["result"]["state"] == STATE


def test_known_secrets_are_not_stored(ask, world):
    from synthralos.storage import state_codec

    secret = world.config["platforms"][0]["token"]
    snapshot = create(ask, state={"token": secret, "said": "Bearer " + secret, "key": "a" * 9})
    assert snapshot["masked"] is True
    text = world.local.keys.get(keys(world, "snapshot")[0])
    assert secret not in json.dumps(state_codec.decode_state(text))
    result = ask("snapshot.get", snapshot_id=snapshot["snapshot_id"])["result"]["state"]
    assert result == {"token": "********", "said": "Bearer ********", "key": "a" * 9}


def test_the_oldest_go_and_one_is_deleted(ask, world):
    names = [create(ask)["snapshot_id"] for _ in range(11)]
    assert len(keys(world, "snapshot")) == len(keys(world, "snapshot_head")) == 10
    error = ask("snapshot.get", "failed", snapshot_id=names[0])["error"]
    assert error["field"] == "snapshot_id" and "snapshot.list" in error["hint"]
    assert ask("snapshot.delete", snapshot_id=names[1])["deleted"] is True
    assert ask("snapshot.delete", "failed", snapshot_id=names[1])["error"]["cause"] == "refused"
    cleanup = ask("snapshot.cleanup")
    assert (cleanup["deleted"], cleanup["kept"]) == ([], 9)


def test_the_config_decides_how_many_are_kept(ask, world):
    configured(world, "rollback", max_snapshots=2, compression_enabled=False)
    names = [create(ask)["snapshot_id"] for _ in range(3)]
    assert len(keys(world, "snapshot")) == 2
    assert ".plain." in world.local.keys.get(keys(world, "snapshot")[0])
    entries = ask("snapshot.list", agent_id="trainer_01")["snapshots"]
    assert [entry["snapshot_id"] for entry in entries] == names[:0:-1]


def test_the_platform_restores_where_it_can(ask, world):
    configured(world, "rollback")
    world.config["platforms"][0]["restore_path"] = "/webhooks/restore/{agent_id}"
    snapshot = create(ask, agent="a/b")
    result = ask("snapshot.restore", snapshot_id=snapshot["snapshot_id"])
    assert result["restored"] is True and "restored" in result["summary"]
    call = world.box.calls_to("platform/webhooks")[0]
    assert call.body == {"agent_id": "a/b", "snapshot_id": snapshot["snapshot_id"], "state": STATE}
    entry = ask("history.timeline", agent_id="a/b")["timeline"][-1]
    assert (entry["kind"], entry["actor"]) == ("recovery", "st2admin")
    assert entry["snapshot_id"] == snapshot["snapshot_id"]


def test_a_platform_that_refuses_fails_the_restore(ask, world):
    configured(world, "rollback")
    world.config["platforms"][0]["restore_path"] = "/nothing/here"
    snapshot = create(ask)
    result = ask("snapshot.restore", "failed", snapshot_id=snapshot["snapshot_id"])
    assert result["restored"] is False and result["error"]["status"] == 404
    assert result["result"]["state"] == STATE


def test_a_copy_goes_to_the_backup(ask, world):
    url = world.box.url("/platform/webhooks")
    configured(world, "rollback", backup_to_remote=True, backup_url=url)
    snapshot = create(ask)
    assert snapshot["backup"] == {"done": True}
    call = world.box.calls_to("platform/webhooks")[0]
    assert call.method == "PUT" and call.body["state"] == STATE
    assert call.body["snapshot_id"] == snapshot["snapshot_id"]


def test_a_snapshot_stands_when_its_copy_fails(ask, world):
    configured(world, "rollback", backup_to_remote=True, backup_url="http://127.0.0.1:1")
    snapshot = create(ask)
    assert snapshot["backup"]["done"] is False and "no connection" in snapshot["backup"]["reason"]
    assert ask("snapshot.get", snapshot_id=snapshot["snapshot_id"])["result"]["state"] == STATE


def test_a_check_action_must_be_allowed(ask):
    snapshot = create(ask)
    error = ask(
        "snapshot.restore", "failed", snapshot_id=snapshot["snapshot_id"], check_action="core.local"
    )["error"]
    assert error["field"] == "check_action" and "rollback.check_actions" in error["hint"]


JUDGE = """---
name: judge
pack: synthralos
runner_type: python-script
description: "Judges a snapshot."
enabled: true
entry_point: judge.py
parameters:
  snapshot_id:
    type: string
    description: "Snapshot."
    required: true
"""
JUDGING = """
from st2common.runners.base_action import Action


class Judge(Action):
    def run(self, **parameters):
        assert list(parameters) == ["snapshot_id"], parameters
        %s
"""


@pytest.fixture
def judge(world):
    """judge(python) puts a check action into the pack, whose `run` is this statement."""

    def put(statement):
        world.with_action("judge", JUDGING % statement)
        (world.pack / "actions" / "judge.yaml").write_text(JUDGE)
        configured(world, "rollback", check_actions=["synthralos.judge"])

    return put


def restored(ask, status, snapshot_id):
    return ask("snapshot.restore", status, snapshot_id=snapshot_id,
               check_action="synthralos.judge")


def judgements(world):
    rows = world.local.executions(action="synthralos.judge", limit=10)
    return [row["parameters"] for row in rows]


@pytest.mark.parametrize("statement", ["return True", "return {'valid': True}", "return None"])
def test_a_check_action_that_succeeds_lets_the_state_be_restored(ask, world, judge, statement):
    judge(statement)
    name = create(ask)["snapshot_id"]
    result = restored(ask, "succeeded", name)
    assert result["restored"] is True and result["check"]["accepted"] is True
    assert result["check"]["status"] == "succeeded"
    assert judgements(world) == [{"snapshot_id": name}]
    assert len(world.box.calls_to("platform/restore")) == 1


@pytest.mark.parametrize("statement, status", [
    ("return {'valid': False, 'reason': 'stale'}", "succeeded"),
    ("return False, 'it is stale'", "failed"),
    ("raise RuntimeError('gone')", "failed"),
])
def test_a_check_action_that_does_not_keeps_it_as_it_is(ask, world, judge, statement, status):
    judge(statement)
    name = create(ask)["snapshot_id"]
    result = restored(ask, "failed", name)
    assert result["restored"] is False and result["check"]["accepted"] is False
    assert result["check"]["status"] == status and "did not accept" in result["summary"]
    assert result["check"].get("reason") == ("stale" if status == "succeeded" else None)
    assert judgements(world) == [{"snapshot_id": name}]
    assert world.box.calls_to("platform/restore") == []


def test_a_check_action_that_does_not_end_is_not_waited_for_for_ever(ask, world, judge):
    judge("import time; time.sleep(3600)")
    world.config["rollback"]["check_timeout"] = 1
    result = restored(ask, "failed", create(ask)["snapshot_id"])
    assert "has not ended within 1 s" in result["error"]["message"]
    assert world.box.calls_to("platform/restore") == []


def test_a_check_action_of_a_corrupted_snapshot_is_not_run(ask, world, judge):
    judge("return True")
    name = create(ask)["snapshot_id"]
    newest = keys(world, "snapshot")[0]
    world.local.keys.set(newest, world.local.keys.get(newest)[:-8])
    assert restored(ask, "failed", name)["error"]["field"] == "snapshot_id"
    assert judgements(world) == []


@pytest.mark.parametrize(
    "field, parameters",
    [
        ("agent_id", {"agent_id": "two words"}),
        ("agent_id", {"agent_id": "sk-abcdefghijklmnop"}),
        ("task_id", {"task_id": "../x"}),
        ("metadata", {"metadata": {"a": "x" * 5000}}),
        ("state.a", {"state": {"a": "base64:%%%"}}),
    ],
)
def test_what_cannot_be_kept_is_refused(ask, world, field, parameters):
    inputs = dict({"agent_id": "a", "task_id": "t", "state": {}}, **parameters)
    assert ask("snapshot.create", "failed", **inputs)["error"]["field"] == field
    assert keys(world, "snapshot") == []


class Away:
    def __getattr__(self, name):
        def call(*arguments, **options):
            raise RuntimeError("gone")

        return call


def test_a_datastore_that_is_away_is_an_error(ask, world):
    name = create(ask)["snapshot_id"]
    world.local.keys = Away()
    requests = [
        ("snapshot.create", {"agent_id": "a", "task_id": "t", "state": {}}),
        ("snapshot.list", {"agent_id": "a"}),
        ("snapshot.get", {"snapshot_id": name}),
        ("snapshot.restore", {"snapshot_id": name}),
        ("snapshot.delete", {"snapshot_id": name}),
        ("snapshot.cleanup", {}),
        ("history.record", {"agent_id": "a", "task_id": "t", "state": {}}),
        ("history.list", {"agent_id": "a"}),
        ("history.get", {"agent_id": "a", "task_id": "t", "version": "v0001"}),
        ("history.compare", {"agent_id": "a", "task_id": "t", "from": "v0001", "to": "v0002"}),
        ("history.timeline", {"agent_id": "a"}),
    ]
    for action, parameters in requests:
        result = ask(action, "failed", **parameters)
        assert result["error"]["cause"] == "stackstorm_api", action
        assert "returned" in result["summary"] and "500" in result["summary"], action


def record(ask, state, kind="state", **more):
    inputs = dict({"agent_id": "agent_01", "task_id": "task_01"}, **more)
    return ask("history.record", state=state, kind=kind, **inputs)


def test_versions_are_recorded_and_compared(ask):
    first = record(ask, {"status": "running", "n": 1})
    second = record(ask, {"status": "completed", "n": 1, "{{ x }}": HOSTILE}, actor="Jane Doe")
    assert (first["version"], second["version"]) == ("v0001", "v0002")
    assert first["by"] == {"actor": "st2admin", "user": "st2admin"}
    assert second["by"] == {"actor": "Jane Doe", "user": "st2admin"}
    whose = {"agent_id": "agent_01", "task_id": "task_01"}
    result = ask("history.compare", **dict(whose, **{"from": "v0001", "to": second["record"]}))
    assert result["total_changes"] == 2 == result["result"]["diff"]["total_changes"]
    assert result["result"]["diff"]["changed"] == [
        {"path": "/status", "from": "running", "to": "completed"}]
    assert result["result"]["diff"]["unified"].startswith("--- v0001\n+++ v0002\n")
    assert (result["from"]["version"], result["to"]["version"]) == ("v0001", "v0002")
    version = ask("history.get", version="v0002", **whose)
    assert version["result"]["state"]["{{ x }}"] == HOSTILE
    entries = ask("history.list", agent_id="agent_01")["versions"]
    assert [entry["version"] for entry in entries] == ["v0002", "v0001"]
    error = ask("history.compare", "failed", **dict(whose, **{"from": "v0001", "to": "v0003"}))
    assert "v0001 to v0002" in error["error"]["hint"]


def test_a_difference_too_large_for_a_result_is_counted(ask, world):
    world.config["max_result_bytes"] = 200
    record(ask, {"n": ["x"] * 50})
    record(ask, {"n": ["y"] * 60})
    result = ask("history.compare", agent_id="agent_01", task_id="task_01", **{
        "from": "v0001", "to": "v0002"})
    assert result["result"]["diff"]["too_large"] is True
    assert (result["result"]["diff"]["changed"], result["result"]["diff"]["added"]) == (50, 10)
    assert result["total_changes"] == 60


def test_the_timeline_shows_runs_and_people(ask, world):
    _, output = world.run(
        "agent_recovery", agent_id="agent_01", failure_type="timeout", original_query="q")
    assert output["success"]
    record(ask, {"step": 1})
    record(ask, {"step": 2}, "intervention", actor="jane", metadata={"why": "stuck"})
    record(ask, {"message": "again"}, "error")
    timeline = ask("history.timeline", agent_id="agent_01")["timeline"]
    assert [(entry["kind"], entry["actor"]) for entry in timeline] == [
        ("recovery", "synthralos.agent_recovery"), ("intervention", "jane"), ("error", "st2admin")]
    assert timeline[1]["metadata"] == {"why": "stuck"}
    assert len(ask("history.timeline", agent_id="agent_01", limit=1)["timeline"]) == 1
    later = ask("history.timeline", agent_id="agent_01", since="2999-01-01T00:00:00Z")
    assert later["timeline"] == []
    error = ask("history.timeline", "failed", agent_id="agent_01", since="yesterday")["error"]
    assert error["field"] == "since"


def test_the_config_decides_how_many_versions_are_kept(ask, world):
    configured(world, "history", max_versions=2)
    assert [record(ask, {"n": n})["version"] for n in range(3)] == ["v0001", "v0002", "v0003"]
    entries = ask("history.list", agent_id="agent_01", task_id="task_01")["versions"]
    assert [entry["version"] for entry in entries] == ["v0003", "v0002"]
