import base64
import dataclasses
import json
import os

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.calls import snapshot_restore
from synthralos.calls.http import CallError
from synthralos.config.connection import Connection
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import MAX_ID_CHARS, is_name
from synthralos.recovery import repair_plan
from synthralos.storage import snapshots, state_codec
from synthralos.storage.datastore import BestEffortDatastore, DatastoreUnavailable
from synthralos.storage.snapshots import SnapshotConfig
from synthralos.storage.stackstorm_api import Api, StackStormError

from .conftest import http_answer

CONFIG = SnapshotConfig()
STATE = {"model_version": "2.1.0", "parameters": {"learning_rate": 0.001}, "steps": [1, None, True]}


def create(store, clock, agent="trainer_01", task="training", state=STATE, config=CONFIG, **more):
    clock.forward(1)
    return snapshots.create(store, config, clock(), agent, task, state, **more)


def read(store, clock, snapshot_id, config=CONFIG, **more):
    return snapshots.get(store, config, clock(), snapshot_id, **more)


def damage(datastore, snapshot_id, text=None):
    name = snapshots.state_key(snapshot_id)
    value = datastore.get(name)
    datastore.put(name, value[:-8] if text is None else text)


def test_a_state_comes_back_as_it_was(store, clock):
    head = create(store, clock, metadata={"checkpoint": "before_fine_tuning"})
    snapshot = read(store, clock, head["snapshot_id"])
    assert snapshot["state"] == STATE
    assert snapshot["metadata"] == {"checkpoint": "before_fine_tuning"}
    assert (snapshot["agent_id"], snapshot["task_id"]) == ("trainer_01", "training")
    assert snapshot["checksum"] == head["checksum"] and snapshot["created_at"] == head["created_at"]


def test_the_head_says_what_the_state_is(store, clock):
    head = create(store, clock, state={"b": 1, "a": "\u00e9"})
    text = '{"a":"\\u00e9","b":1}'
    assert head["checksum"] == state_codec.checksum(text)
    assert head["size_bytes"] == len(text)
    assert head["deleted"] == []


def test_equal_states_have_equal_checksums(store, clock):
    first = create(store, clock, state={"a": 1, "b": [2]})
    two = create(store, clock, task="other", state={"b": [2], "a": 1})
    assert first["checksum"] == two["checksum"] and first["snapshot_id"] != two["snapshot_id"]


def test_packed_text_is_the_same_at_any_time():
    assert state_codec.encode_state("state", STATE) == state_codec.encode_state(
        "state", json.loads(json.dumps(STATE))
    )


@pytest.mark.parametrize("compress, how", [(True, "gzip"), (False, "plain")])
def test_compression(store, clock, datastore, compress, how):
    config = SnapshotConfig(compression_enabled=compress)
    head = create(store, clock, state={"text": "again " * 5000}, config=config)
    text = datastore.get(snapshots.state_key(head["snapshot_id"]))
    assert text.split(".")[1] == how and head["stored_bytes"] == len(text)
    assert (len(text) < 2000) is compress
    assert read(store, clock, head["snapshot_id"])["state"] == {"text": "again " * 5000}


def test_the_id_has_a_name_s_alphabet_and_names_the_agent_however_long_its_name(store, clock):
    agent = "a/b:c.d@e+f-" + "x" * 116
    head = create(store, clock, agent=agent)
    name = head["snapshot_id"]
    assert is_name(name, MAX_ID_CHARS) and name.startswith(agent + ":")
    assert read(store, clock, name)["agent_id"] == agent
    plan = {"steps": [{"action": "restore_snapshot", "parameters": {"snapshot_id": name}}]}
    assert repair_plan.validate_plan(plan, {"type": "error", "message": "x"}, "p", "given")["steps"]
    snapshots.delete(store, name)
    with pytest.raises(InvalidInput, match="agent_id"):
        create(store, clock, agent=agent + "x")


def test_the_newest_come_first_and_by_task(store, clock):
    ids = [create(store, clock, task=task)["snapshot_id"] for task in ("t", "u", "t")]
    create(store, clock, agent="trainer_01.b")
    heads = snapshots.list_snapshots(store, CONFIG, clock(), "trainer_01")
    assert [head["snapshot_id"] for head in heads] == ids[::-1]
    assert "state" not in heads[0]
    of_task = snapshots.list_snapshots(store, CONFIG, clock(), "trainer_01", task_id="t", limit=1)
    assert [head["snapshot_id"] for head in of_task] == [ids[2]]


def test_the_oldest_go_when_there_are_too_many(store, clock, datastore):
    config = SnapshotConfig(max_snapshots=3)
    other = create(store, clock, agent="other")["snapshot_id"]
    heads = [create(store, clock, config=config) for _ in range(5)]
    ids = [head["snapshot_id"] for head in heads]
    assert [head["deleted"] for head in heads] == [[], [], [], [ids[0]], [ids[1]]]
    listing = snapshots.list_snapshots(store, config, clock(), "trainer_01")
    assert [head["snapshot_id"] for head in listing] == ids[:1:-1]
    assert read(store, clock, other)
    assert len(datastore.names()) == 2 * (3 + 1)


def test_the_old_go_by_themselves(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    clock.forward(24 * 3600 - 1)
    assert read(store, clock, name)
    clock.forward(2)
    with pytest.raises(InvalidInput, match="older than 24 hours"):
        read(store, clock, name)
    assert datastore.names() == []


def test_a_limit_that_was_lowered_holds_at_once(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    clock.forward(3601)
    lowered = SnapshotConfig(cleanup_after_hours=1)
    assert snapshots.list_snapshots(store, lowered, clock(), "trainer_01") == []
    with pytest.raises(InvalidInput, match="older than 1 hours"):
        read(store, clock, name, lowered)
    result = snapshots.cleanup(store, lowered, clock())
    assert result == {"deleted": [name], "kept": 0, "more": False}
    assert datastore.names() == []


def test_cleanup_counts_for_each_agent(store, clock):
    ids = {
        agent: [create(store, clock, agent=agent)["snapshot_id"] for _ in range(4)]
        for agent in ("a", "b")
    }
    config = SnapshotConfig(max_snapshots=3)
    assert snapshots.cleanup(store, config, clock(), "a")["deleted"] == ids["a"][:1]
    result = snapshots.cleanup(store, SnapshotConfig(max_snapshots=2), clock())
    assert sorted(result["deleted"]) == sorted(ids["a"][1:2] + ids["b"][:2])
    assert result["kept"] == 4


def test_a_deleted_one_is_gone(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    snapshots.delete(store, name)
    assert datastore.names() == []
    with pytest.raises(InvalidInput, match="does not exist"):
        snapshots.delete(store, name)


def test_a_corrupted_one_is_refused_and_the_newest_good_one_named(store, clock, datastore):
    old, good, other, bad, worse = (
        create(store, clock, task=task)["snapshot_id"] for task in ("t", "t", "u", "t", "t")
    )
    damage(datastore, bad)
    damage(datastore, worse, "nonsense")
    for name in (bad, worse):
        with pytest.raises(InvalidInput) as refused:
            read(store, clock, name)
        assert refused.value.field == "snapshot_id" and name in str(refused.value)
        assert "corrupted" in str(refused.value) and refused.value.hint.endswith(good)
    assert read(store, clock, old) and read(store, clock, other)


def test_where_no_other_is_good_the_way_out_is_a_new_one(store, clock, datastore):
    create(store, clock, task="u")
    name = create(store, clock)["snapshot_id"]
    datastore.delete(snapshots.state_key(name))
    with pytest.raises(InvalidInput, match="its state is missing") as refused:
        read(store, clock, name)
    assert "synthralos.snapshot.create" in refused.value.hint


def test_a_good_state_under_another_name_is_refused(store, clock, datastore):
    first, second = (create(store, clock, agent=a)["snapshot_id"] for a in ("a", "b"))
    damage(datastore, second, datastore.get(snapshots.state_key(first)))
    with pytest.raises(InvalidInput, match="another agent"):
        read(store, clock, second)


def test_a_state_that_was_exchanged_under_a_new_checksum_of_the_text_is_refused(
    store, clock, datastore
):
    name = create(store, clock)["snapshot_id"]
    content = state_codec.decode_state(datastore.get(snapshots.state_key(name)))
    damage(datastore, name, state_codec.encode_state("state", dict(content, state={"evil": True})))
    with pytest.raises(InvalidInput, match="checksum of its state"):
        read(store, clock, name)


def test_another_format_is_refused(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    text = datastore.get(snapshots.state_key(name))
    damage(datastore, name, "2" + text[1:])
    with pytest.raises(InvalidInput, match="its format is 2"):
        read(store, clock, name)
    content = state_codec.decode_state(text)
    damage(datastore, name, state_codec.encode_state("state", dict(content, v=2)))
    with pytest.raises(InvalidInput, match="not a snapshot of this format"):
        read(store, clock, name)


def test_a_bomb_is_refused(store, clock, datastore, monkeypatch):
    name = create(store, clock, state={"t": "a" * 100000})["snapshot_id"]
    monkeypatch.setattr(state_codec, "MAX_DECODED_BYTES", 1000)
    with pytest.raises(InvalidInput, match="truncated, or has trailing data"):
        read(store, clock, name)


def test_without_verification_a_wrong_checksum_passes(store, clock, datastore):
    config = SnapshotConfig(compression_enabled=False, verification_enabled=False)
    name = create(store, clock, state={"n": 1}, config=config)["snapshot_id"]
    head, digest, body = datastore.get(snapshots.state_key(name)).rsplit(".", 2)
    changed = base64.b64decode(body).replace(b'"n":1', b'"n":2')
    text = ".".join((head, digest, base64.b64encode(changed).decode()))
    damage(datastore, name, text)
    assert read(store, clock, name, config)["state"] == {"n": 2}
    with pytest.raises(InvalidInput, match="checksum"):
        read(store, clock, name)


def test_a_head_that_cannot_be_read_is_listed_as_such(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    key = [key for key in datastore.names() if key.startswith("synthralos.snapshot_head.")][0]
    for value in ("", "{", "[]", '{"v": 9}'):
        datastore.put(key, value)
        (head,) = snapshots.list_snapshots(store, CONFIG, clock(), "trainer_01")
        assert head["snapshot_id"] == name and head["unreadable"] is True
    assert read(store, clock, name)["state"] == STATE


def test_a_head_that_lies_misleads_no_restore(store, clock, datastore):
    name = create(store, clock)["snapshot_id"]
    key = [key for key in datastore.names() if key.startswith("synthralos.snapshot_head.")][0]
    datastore.put(key, datastore.get(key).replace("training", "trolling"))
    assert snapshots.latest_valid(store, CONFIG, clock(), "trainer_01", "trolling") is None
    assert read(store, clock, name)["task_id"] == "training"


def test_agent_and_task_must_be_those_given(store, clock):
    name = create(store, clock)["snapshot_id"]
    assert read(store, clock, name, agent_id="trainer_01", task_id="training")
    for field in ("agent_id", "task_id"):
        with pytest.raises(InvalidInput) as refused:
            read(store, clock, name, **{field: "other"})
        assert refused.value.field == field


@pytest.mark.parametrize(
    "name", ["", "x", "a:1", "../x:1700000000000-000000000", "{{x}}:1700000000000-000000000", None,
             "a:1700000000000-000000000\n", "a:1700000000000-00000000g"])
def test_what_is_no_id_is_refused(store, clock, name):
    with pytest.raises(InvalidInput, match="is not a valid snapshot ID"):
        read(store, clock, name)


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "state",
    [
        {}, [], None, "", 0, -0.0, 1e-320, 1.7976931348623157e308, 2**64, -(2**200), 10**4000,
        {"": {"": ""}}, "\x00", "\ud800", {"\udfff\x00": "\u2028"}, "{{ x }} <% y %>", deep(100),
        {"a": [True, False, None, 1, 1.0]},
    ],
    ids=lambda state: repr(state)[:20])
def test_every_json_value_comes_back(store, clock, state):
    restored = read(store, clock, create(store, clock, state=state)["snapshot_id"])["state"]
    assert repr(restored) == repr(state)


@pytest.mark.parametrize(
    "state", [float("nan"), [float("inf")], 10**5000, deep(101), {"a": {1}}, b"x"],
    ids=["nan", "inf", "digits", "deep", "set", "bytes"])
def test_what_is_no_json_is_refused(store, clock, datastore, state):
    if state == 10**5000 and not hasattr(__import__("sys"), "get_int_max_str_digits"):
        pytest.skip("this Python writes integers of any length")
    with pytest.raises(InvalidInput) as refused:
        create(store, clock, state=state)
    assert refused.value.field == "state" and datastore.names() == []


def test_what_is_too_large_is_refused(store, clock, datastore):
    noise = base64.b64encode(os.urandom(state_codec.MAX_ENCODED_BYTES)).decode()
    with pytest.raises(InvalidInput, match="state: is too large"):
        create(store, clock, state=noise)
    with pytest.raises(InvalidInput, match="metadata: is too large"):
        create(store, clock, metadata={"a": "x" * snapshots.MAX_METADATA_BYTES})
    with pytest.raises(InvalidInput, match="metadata"):
        create(store, clock, metadata=["x"])
    assert datastore.names() == []


@pytest.mark.parametrize("field", ["agent", "task"])
@pytest.mark.parametrize("name", ["", "two words", "../x", None, "\u00e9"])
def test_names_are_checked(store, clock, field, name):
    with pytest.raises(InvalidInput, match=field + "_id"):
        create(store, clock, **{field: name})


@pytest.mark.parametrize("away", [True, ("put",), ("list",), ("get",), ("delete",)])
def test_a_datastore_that_is_away_is_never_taken_for_an_empty_one(clock, datastore, away):
    name = create(BestEffortDatastore(datastore), clock)["snapshot_id"]
    datastore.away = away
    needs = {
        "put": lambda store: create(store, clock),
        "list": lambda store: snapshots.list_snapshots(store, CONFIG, clock(), "trainer_01"),
        "get": lambda store: read(store, clock, name),
        "delete": lambda store: snapshots.delete(store, name),
    }
    for operation, ask in needs.items():
        store = BestEffortDatastore(datastore)
        if away is True or operation in away:
            with pytest.raises(DatastoreUnavailable, match="took it away"):
                ask(store)
    if away is True or "list" in away:
        with pytest.raises(DatastoreUnavailable):
            snapshots.cleanup(BestEffortDatastore(datastore), CONFIG, clock())


def test_a_snapshot_that_was_stored_is_told_of_when_the_rest_fails(clock, datastore):
    store = BestEffortDatastore(datastore)
    datastore.away = ("list",)
    head = create(store, clock)
    assert head["deleted"] is None
    datastore.away = ()
    assert read(BestEffortDatastore(datastore), clock, head["snapshot_id"])


def test_a_half_written_one_is_not_listed(clock, datastore):
    class Half:
        def __getattr__(self, name):
            return getattr(datastore, name)

        def put(self, name, value, ttl=None):
            if ".snapshot_head." in name:
                datastore.away = ("put",)
            datastore.put(name, value, ttl)

    with pytest.raises(DatastoreUnavailable, match="was not stored"):
        create(BestEffortDatastore(Half()), clock)
    assert (
        snapshots.list_snapshots(BestEffortDatastore(datastore), CONFIG, clock(), "trainer_01") ==
        []
    )


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

    snapshot_ids = []
    assert calls(lambda store: snapshot_ids.append(create(store, clock))) == 3
    name = snapshot_ids[0]["snapshot_id"]
    assert calls(lambda store: snapshots.list_snapshots(store, CONFIG, clock(), "trainer_01")) == 1
    assert calls(lambda store: read(store, clock, name)) == 1
    assert calls(lambda store: snapshots.cleanup(store, CONFIG, clock())) == 1
    for _ in range(12):
        last = create(
            BestEffortDatastore(datastore), clock, config=SnapshotConfig(max_snapshots=20)
        )
    for head in snapshots.list_snapshots(
        BestEffortDatastore(datastore), CONFIG, clock(), "trainer_01"
    ):
        damage(datastore, head["snapshot_id"])

    def refused(store):
        with pytest.raises(InvalidInput):
            read(store, clock, last["snapshot_id"])

    assert calls(refused) <= 13
    assert calls(lambda store: snapshots.delete(store, name)) == 2


def judging(serve, status, result):
    def answer(connection, request):
        document = {"id": "5f0c", "status": status, "result": result}
        if request.startswith("POST"):
            document = {"id": "5f0c", "status": "requested"}
        connection.sendall(http_answer(200, json.dumps(document)))

    server = serve(answer)
    return Api(server.url + "/v1"), server


@pytest.mark.parametrize(
    "status, result, accepted",
    [
        ("succeeded", {"result": {"valid": True}}, True),
        ("succeeded", {"result": {"valid": False, "reason": "too old"}}, False),
        ("succeeded", {"output": {"valid": False}}, False),
        ("succeeded", {"result": "None"}, True),
        ("succeeded", None, True),
        ("failed", {"result": {"valid": True}}, False),
        ("timeout", None, False),
    ],
)
def test_a_check_action_gets_the_id_alone_and_judges(serve, status, result, accepted):
    api, server = judging(serve, status, result)
    verdict = snapshots.run_check_action(api, "acme.check", "a:1700000000000-000000000", 5)
    assert verdict["accepted"] is accepted and verdict["status"] == status
    assert verdict.get("reason") == ("too old" if "too old" in str(result) else None)
    posted = json.loads(server.requests[0].partition("\r\n\r\n")[2])
    assert posted == {
        "action": "acme.check", "parameters": {"snapshot_id": "a:1700000000000-000000000"}}


def test_a_check_action_that_does_not_end_is_not_waited_for_for_ever(serve):
    api, server = judging(serve, "running", None)
    moments = iter([0.0, 1.0, 2.0, 3.0])
    slept = []
    with pytest.raises(StackStormError, match="has not ended within 2 s"):
        api.wait("5f0c", 2, sleep=slept.append, now=lambda: next(moments))
    assert len(slept) == 1 and len(server.requests) == 2


def test_an_execution_that_was_not_requested_is_an_error(serve):
    for answer in (http_answer(400), http_answer(200, "[]"), http_answer(404)):
        with pytest.raises(StackStormError):
            Api(serve(answer).url + "/v1").start("acme.check", {})


def test_only_allowed_actions_judge():
    config = SnapshotConfig(check_actions=("acme.check",))
    snapshots.check_allowed(config, "acme.check", object())
    with pytest.raises(InvalidInput, match="acme.check") as refused:
        snapshots.check_allowed(config, "core.local", object())
    assert refused.value.field == "check_action"
    with pytest.raises(InvalidInput, match="requires a StackStorm API"):
        snapshots.check_allowed(config, "acme.check", None)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    name: str
    connection: Connection
    restore_path: object = None


SNAPSHOT = {
    "agent_id": "a/b", "snapshot_id": "a/b:1700000000000-000000000", "task_id": "t",
    "state": {"text": "{{ x }} \ud800"}, "metadata": {},
}


def endpoint(serve, answer, name="main", path="/restore/{agent_id}"):
    server = serve(answer)
    return Endpoint(name, Connection(server.url, timeout=PATIENCE_SECONDS), path), server


def test_the_platform_gets_the_state(serve, make_env):
    url, server = endpoint(serve, http_answer(204, b""))
    env = make_env()
    assert snapshot_restore.restore_at_platform(env.client, [url], SNAPSHOT, "5f0c") == "main"
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /restore/a%2Fb ") and "Idempotency-Key: synthralos-" in head
    assert json.loads(body) == {
        name: SNAPSHOT[name] for name in ("agent_id", "snapshot_id", "state")}


def test_the_next_endpoint_is_asked_with_the_same_key(serve, make_env):
    (first_url, first), (second_url, second) = (
        endpoint(serve, http_answer(status), name) for status, name in ((503, "m"), (200, "s"))
    )
    env = make_env()
    endpoints = [first_url, second_url]
    assert snapshot_restore.restore_at_platform(env.client, endpoints, SNAPSHOT, "5f0c") == "s"
    keys = [
        [line for line in server.requests[0].split("\r\n") if line.startswith("Idempotency-Key")]
        for server in (first, second)
    ]
    assert keys[0] and keys[0] == keys[1]
    with pytest.raises(CallError):
        snapshot_restore.restore_at_platform(env.client, [first_url], SNAPSHOT, "5f0c")


def test_without_a_restore_path_nothing_is_called(make_env):
    env = make_env()
    platforms = env.settings.platforms
    assert snapshot_restore.restore_at_platform(env.client, platforms, SNAPSHOT, "5f0c") is None


def test_a_copy_is_put_where_the_config_says(serve, make_env, datastore):
    server = serve(http_answer(201))
    datastore.put("backup_token", "t0ken-of-backup")
    config = SnapshotConfig(
        backup_to_remote=True, backup_url=server.url + "/copies/", backup_token_from="backup_token"
    )
    assert snapshot_restore.upload_backup(make_env().client, config, SNAPSHOT) == {"done": True}
    head, _, body = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("PUT /copies/a%2Fb/a%2Fb%3A1700000000000-000000000 ")
    assert "Authorization: Bearer t0ken-of-backup" in head
    assert json.loads(body) == SNAPSHOT


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1", "refusing"])
def test_a_copy_that_fails_is_told(serve, make_env, url):
    url = serve(http_answer(507)).url if url == "refusing" else url
    result = snapshot_restore.upload_backup(
        make_env().client, SnapshotConfig(backup_url=url), SNAPSHOT
    )
    assert result["done"] is False and result["reason"]


def test_the_rules_are_those_of_the_settings(make_env):
    settings = Settings.from_config({"rollback": {"max_snapshots": 2}})
    assert snapshots.snapshot_config(settings).max_snapshots == 2
    assert snapshots.snapshot_config(make_env().settings) == SnapshotConfig()
    assert (CONFIG.max_snapshots, CONFIG.cleanup_after_hours) == (10, 24)
    assert (
        CONFIG.compression_enabled and CONFIG.verification_enabled and not CONFIG.backup_to_remote
    )
