import json
import re

import pytest

from synthralos.escalation.channels import RetryableDeliveryError
from synthralos.infrastructure import crews
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Node
from synthralos.storage.stackstorm_api import StackStormError

REPORT = {"nodes": [{"node": "db", "criticality": "high", "population_affected": 5,
                     "nodes_affected": 2}], "total": {}}


def hand(infra, *names, crew=0, seconds=60):
    config = load_config(infra.env)
    slept = infra.slept = []
    return crews.assign(
        infra.env, config, config.crews[crew], list(names), REPORT, seconds, slept.append)


def with_crew(infra, api=None, **crew):
    allowed = [crew["action"]] if "action" in crew else []
    infra.configure({"crews": [dict({"name": "a"}, **crew)], "allowed_actions": allowed}, api=api)


def test_people_are_told_once_for_all_their_nodes(infra):
    entries = hand(infra, "db", "other")
    assert [entry["status"] for entry in entries] == ["Assigned", "Assigned"]
    (channel, notice), = infra.notices
    assert channel == "webhook" and notice["severity"] == "high"
    assert "db: high: 5 people" in notice["text"] and "- other" in notice["text"]
    assert notice["facts"]["crew"] == "network" and notice["ticket"].startswith("A")


def test_one_channel_is_enough(infra):
    with_crew(infra, channels=["mail", "webhook"])
    entry, = hand(infra, "db")
    assert entry["status"] == "Assigned"
    assert entry["details"] == "mail: escalation.mail is not configured; webhook: sent"


def test_a_channel_that_may_answer_yet_is_tried_twice(infra, monkeypatch):
    tries = []

    def send(env, config, notice, seconds):
        tries.append(1)
        if len(tries) < 2:
            raise RetryableDeliveryError("busy")

    monkeypatch.setattr(crews, "sender_for", lambda channel: send)
    assert hand(infra, "db")[0]["status"] == "Assigned" and len(infra.slept) == 1


def test_a_channel_that_breaks_is_no_error_of_the_run(infra, monkeypatch, capsys):
    def send(*_):
        raise KeyError("x")

    monkeypatch.setattr(crews, "sender_for", lambda channel: send)
    entry, = hand(infra, "db")
    assert (entry["status"], entry["details"]) == ("Failed", "webhook: KeyError")
    assert re.search("Traceback(.|\\n)*KeyError", capsys.readouterr().err)


def test_without_time_nobody_is_told(infra):
    assert hand(infra, "db", seconds=0)[0]["status"] == "Failed" and infra.notices == []


def test_mail_goes_to_the_crew(infra, monkeypatch):
    seen = []
    monkeypatch.setattr(
        crews, "sender_for", lambda channel: lambda env, config, *_: seen.append(config.mail.to))
    with_crew(infra, channels=["mail"], mail_to=["team@example.com"])
    env, mail = infra.env, {"host": "h", "from": "a@b", "to": ["other@example.com"]}
    env.settings.escalation["mail"] = mail
    hand(infra, "db")
    assert seen == [["team@example.com"]]


def test_a_wrong_escalation_is_told(infra):
    infra.env.settings.escalation["mail"] = {"host": "h", "from": "nobody", "to": ["a@b"]}
    entry, = hand(infra, "db")
    assert entry["status"] == "Failed" and "escalation.mail.from" in entry["details"]


def test_loads_count_what_was_assigned_lately(infra, clock):
    config = load_config(infra.env)
    hand(infra, "db", "web")
    assert crews.crew_loads(infra.env, config) == {"network": 2, "east": 0, "west": 0}
    clock.forward(config.busy_seconds + 1)
    assert crews.crew_loads(infra.env, config)["network"] == 0


def test_a_failed_assignment_is_no_load(infra):
    infra.failing = ["network"]
    hand(infra, "db")
    assert crews.crew_loads(infra.env, load_config(infra.env))["network"] == 0


def test_without_busy_seconds_nothing_is_remembered(infra):
    infra.configure({"busy_seconds": 0})
    hand(infra, "db")
    assert infra.env.store.list("synthralos.assignment") == []


def test_more_than_a_page_is_counted(infra):
    hand(infra, *["n%d" % n for n in range(150)])
    assert crews.crew_loads(infra.env, load_config(infra.env))["network"] == 150


@pytest.mark.parametrize("crew, load, room", [
    ({}, 5, None), ({"capacity": 3}, 1, 2), ({"capacity": 3}, 5, 0), ({"available": False}, 0, 0),
])
def test_room(infra, crew, load, room):
    with_crew(infra, channels=["mail"], **crew)
    assert crews.free_capacity(load_config(infra.env).crews[0], load) == room


def test_suits(infra):
    with_crew(infra, channels=["mail"], skills=["db"])
    crew = load_config(infra.env).crews[0]
    assert crews.unsuitable_reason(crew, Node("x", skills=("db",))) is None
    assert "lacks network" in crews.unsuitable_reason(crew, Node("x", skills=("db", "network")))
    assert crews.unsuitable_reason(crew, Node("{{ x }}")) is None
    with_crew(infra, action="a.b")
    assert "runs an action" in crews.unsuitable_reason(
        load_config(infra.env).crews[0], Node("{{ x }}")
    )


class Api:
    """StackStorm's API, of which each call may fail."""

    def __init__(self, broken=(), status="succeeded", enabled=True):
        self.broken, self.status, self.enabled, self.started = broken, status, enabled, []

    def _may_fail(self, operation):
        if operation in self.broken:
            raise StackStormError("%s failed" % operation)

    def action(self, ref):
        self._may_fail("action")
        return {"enabled": self.enabled}

    def start(self, action, parameters):
        self._may_fail("start")
        self.started.append(parameters)
        return "e%d" % len(self.started)

    def wait(self, execution_id, seconds, sleep):
        self._may_fail("wait")
        return {"status": self.status}


@pytest.mark.parametrize("api, status, details", [
    (Api(), "Assigned", "it ended as succeeded"),
    (Api(status="timeout"), "Failed", "it ended as timeout"),
    (Api(enabled=False), "Failed", "the action a.b is disabled"),
    (Api(["action"]), "Failed", "action failed"), (Api(["start"]), "Failed", "start failed"),
    (Api(["wait"]), "Assigned", "started; its end could not be observed"),
    (None, "Failed", "there is no StackStorm API to run a.b"),
])
def test_an_action_is_run_for_each_node(infra, api, status, details):
    with_crew(infra, api, action="a.b", approval="none", parameters={"force": True})
    entries = hand(infra, "db", "web")
    assert [(entry["status"], entry["details"]) for entry in entries] == [(status, details)] * 2
    if api is not None and api.started:
        assert api.started == [{"force": True, "node": "db"}, {"force": True, "node": "web"}]


def test_an_action_gets_names_only(infra):
    api = Api()
    with_crew(infra, api, action="a.b", approval="none")
    entries = hand(infra, "{{ x }}", "db")
    assert [entry["status"] for entry in entries] == ["Failed", "Assigned"]
    assert "{{" not in json.dumps(api.started)
