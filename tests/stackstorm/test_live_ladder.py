"""The ladder of trust on a live StackStorm: up and down by the configuration, by the action and in
the chat, while Alertmanager posts alerts to the rule.
"""
import secrets
import time

import pytest
import requests
from fixtures.waiting import LIVE_PATIENCE_SECONDS, until
from live_rules import enabled

STARTS = "2026-11-23T10:00:00.000Z"
AGAIN = "2026-11-23T10:20:00.000Z"


@pytest.fixture
def put_config(st2, box):
    """put_config(automation, **more): the configuration of the pack, for one test."""
    def put(automation, **more):
        config = dict(box.pack_config(), automation=automation, **more)
        st2.call("PUT", "/configs/synthralos", json=config)

    put({"mode": "observe"})
    yield put
    st2.run("automation.set_mode", mode="default")
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


@pytest.fixture
def agent():
    return "agent-" + secrets.token_hex(4)


@pytest.fixture
def alertmanager(st2):
    """alertmanager(labels, status) -> the entry of that alert in the result of its intake."""
    with enabled(st2, "webhook_alertmanager"):
        yield lambda *alert, **more: _post(st2, *alert, **more)


def _post(st2, labels, status="firing", starts=STARTS):
    since = _now()
    alert = {
        "status": status, "labels": labels, "annotations": {"query": "6 x 7?"}, "startsAt": starts,
        "generatorURL": "http://prometheus.example.com/graph",
    }
    body = {"version": "4", "groupKey": secrets.token_hex(8), "receiver": "st2", "alerts": [alert]}
    st2.call("POST", "/webhooks/synthralos/alertmanager", json=body)

    def received():
        rows = st2.call("GET", "/executions", params={
            "action": "synthralos.alert.receive", "timestamp_gt": since})
        payloads = [(row.get("trigger_instance") or {}).get("payload") or {} for row in rows]
        return [
            row["id"] for row, payload in zip(rows, payloads)
            if (payload.get("body") or {}).get("groupKey") == body["groupKey"]
        ]

    [run] = until(received, "the rule has started the intake", LIVE_PATIENCE_SECONDS)
    execution = st2.wait(run)
    assert execution["status"] == "succeeded", execution["result"]
    [entry] = execution["result"]["result"]["alerts"]
    return entry


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 5))


def say(st2, command):
    """The result of what a person types in the chat."""
    response = st2.call("POST", "/aliasexecution/match_and_execute", json={
        "command": command, "user": "ops", "source_channel": "ops",
        "notification_channel": "ops", "notification_route": "chat",
    })
    [result] = response["results"]
    return st2.wait(result["execution"]["id"])["result"]["result"]


def down_alert(agent):
    return {"alertname": "AgentDown", "agent_id": agent}


def runs_of(st2, agent):
    rows = [
        row for action in ("agent_recovery", "recovery_with_approval")
        for row in st2.call("GET", "/executions", params={"action": "synthralos." + action})
    ]
    return [row["id"] for row in rows if row["parameters"].get("agent_id") == agent]


def observed(st2, workflow="agent_recovery", runbook=None):
    """What the report on the last day says of a workflow, or of its runbook."""
    report, _ = st2.run("report.render", days=1, format="markdown")
    groups = report["result"]["result"]["observed"]["groups"]
    matching = [
        group for group in groups if (group["workflow"], group["runbook"]) == (workflow, runbook)
    ]
    return dict(matching[0]) if matching else dict.fromkeys(
        ("reports", "incidents", "would_start", "resolved_by_themselves"), 0)


def difference(before, after):
    names = ("reports", "incidents", "would_start", "resolved_by_themselves")
    return [after[name] - before[name] for name in names]


def by_configuration(st2, put_config, mode):
    put_config({"mode": mode})


def by_action(st2, put_config, mode):
    st2.run("automation.set_mode", mode=mode)


def by_chat(st2, put_config, mode):
    assert say(st2, "agents mode %s" % mode)["mode"] == mode


@pytest.mark.parametrize("go", [by_configuration, by_action, by_chat])
def test_up_and_down_the_ladder(st2, box, put_config, alertmanager, agent, go):
    before, entries = observed(st2), {}
    for step, mode in enumerate(("observe", "approve", "act", "observe")):
        go(st2, put_config, mode)
        assert say(st2, "agents mode")["mode"] == mode
        name = "%s-%d" % (agent, step)
        entries[name] = entry = alertmanager(down_alert(name))
        assert entry["mode"] == mode
        calls = len(box.calls_to("platform"))
        if mode == "observe":
            assert (entry["outcome"], entry["run"]) == ("observed", None)
            assert entry["would"]["outcome"] == "started" and runs_of(st2, name) == []
        elif mode == "approve":
            st2.wait(entry["run"], "paused")
            assert len(box.calls_to("platform")) == calls
            assert name in say(st2, "approve run " + entry["run"])["summary"]
            ended = st2.wait(entry["run"])
            assert ended["result"]["output"]["outcome"] == "recovered"
            assert len(box.calls_to("platform")) > calls
            again = say(st2, "approve run " + entry["run"])
            assert "does not wait for an approval" in again["summary"]
        else:
            assert st2.wait(entry["run"])["status"] == "succeeded"
            assert [entry["run"]] == runs_of(st2, name)
    for name in entries:
        assert alertmanager(down_alert(name), "resolved")["outcome"] == "resolved"
    # Two were observed, and ended by themselves; the runs of the others are none of their numbers.
    assert difference(before, observed(st2)) == [2, 2, 2, 2]
    assert st2.run("ticket.list")[0]["result"]["result"]["summary"]
    tickets = st2.run("ticket.list")[0]["result"]["result"]["tickets"]
    assert not [ticket for ticket in tickets if agent in ticket["subject"]]


def test_an_alert_that_ends_withdraws_the_question_of_its_run(
    st2, box, put_config, alertmanager, agent
):
    put_config({"mode": "approve"})
    run = alertmanager(down_alert(agent))["run"]
    st2.wait(run, "paused")
    assert alertmanager(down_alert(agent), "resolved")["outcome"] == "resolved"
    ended = st2.wait(run)
    assert (ended["status"], ended["result"]["output"]["outcome"]) == ("succeeded", "over")
    assert "does not wait for an approval" in say(st2, "approve run " + run)["summary"]
    assert box.calls_to("platform") == []
    # Nothing was repaired that could have recurred.
    again = alertmanager(down_alert(agent), starts=AGAIN)
    assert again["outcome"] == "started"
    st2.wait(again["run"], "paused")
    say(st2, "refuse run " + again["run"])
    assert st2.wait(again["run"])["result"]["output"]["outcome"] == "refused"


@pytest.fixture
def runbooks(put_config, agent):
    """Two runbooks, of which each acts by itself; their names."""
    names = ["tidy-" + agent, "sweep-" + agent]
    runbooks = [
        {"name": name, "match": {"alertname": name},
         "steps": [{"action": "core.noop", "approval": approval, "name": "one"},
                   {"action": "core.noop", "approval": approval, "name": "two"}]}
        for name, approval in zip(names, ("none", "required"))
    ]
    put_config({"mode": "observe"}, infrastructure={
        "topology": [{"name": agent}], "allowed_actions": ["core.noop"], "runbooks": runbooks,
    })
    return names


def test_one_runbook_acts_while_the_others_are_observed(
    st2, put_config, alertmanager, agent, runbooks
):
    tidy, sweep = runbooks
    try:
        result = say(st2, "runbook %s mode act" % tidy)
        assert result["summary"] == "%s: act (the key synthralos.runbook_mode.%s)" % (tidy, tidy)
        assert say(st2, "runbook %s mode" % sweep)["summary"].startswith("%s: observe" % sweep)
        say(st2, "agents mode observe")
        entry = alertmanager({"alertname": tidy, "instance": agent})
        assert (entry["outcome"], entry["mode"]) == ("started", "act")
        assert st2.wait(entry["run"])["result"]["output"]["outcome"] == "repairs_assigned"
        entry = alertmanager({"alertname": sweep, "instance": agent})
        assert (entry["outcome"], entry["would"]["runbook"]) == ("observed", sweep)
        numbers = observed(st2, "infrastructure_repair", sweep)
        assert (numbers["would_start"], numbers["mode"]) == (1, "observe")
        assert observed(st2, "infrastructure_repair", tidy)["would_start"] == 0
    finally:
        say(st2, "runbook %s mode default" % tidy)


@pytest.mark.parametrize("command, expected", [
    ("agents mode", "observe (automation.mode)"),
    ("runbook nosuch mode act", "'nosuch': is not in the configuration"),
    ("runbook nosuch mode", "'nosuch': is not in the configuration"),
    ("approve run 123", "is not the id of an approval. It is 24 hexadecimal digits"),
    ("approve run 5f0c000000000000000000aa", "does not wait for an approval. List what waits with"),
    ("approve run", "for an answer"),
    ("approvals", "for an answer"),
])
def test_what_people_type_is_answered_in_words(st2, put_config, command, expected):
    assert expected in say(st2, command)["summary"]


def test_a_mode_that_is_none_is_answered_with_those_that_are(st2, put_config):
    with pytest.raises(requests.HTTPError) as rejection:
        say(st2, "agents mode obsreve")
    assert "is not one of ['observe', 'approve', 'act', 'default']" in (
        rejection.value.response.json()["faultstring"])
