"""Runbooks on a live StackStorm: from a webhook to StackStorm's own actions.

Its actions print a line, sleep, or explain a failure: nothing of the host is changed.
"""
import base64
import json
import secrets
import time

import pytest
from fixtures.waiting import LIVE_PATIENCE_SECONDS, limit_under_test, until
from live_host import ASSIGNMENT, kill, processes
from test_live_automation import alertmanager, enabled, post

STARTS = "2026-11-29T01:00:00Z"
# Each as a label of its own alert: text that a shell, a template or an address parser acts on.
HOSTILE = ["; touch /tmp/evil", "$(reboot)", "web-1,evil", "web-1@evil", "http://evil", "-rf",
           "{{ config_context.platform.token }}", "<% ctx().st2 %>", "{% raw %}", "web-1\nevil",
           "wеb-1", "web-1\u202e"]


@pytest.fixture
def node():
    return "node-" + secrets.token_hex(4)


@pytest.fixture
def configure(st2, box):
    """configure(node, *runbooks) -> None; the configuration is put back afterwards."""

    def put(node, *runbooks, **more):
        config = box.pack_config()
        config["automation"] = {"mode": "act", "recoveries_per_hour": 50}
        config["infrastructure"].update(dict({
            "prometheus": {}, "topology": [{"name": node}], "runbooks": list(runbooks),
            "allowed_actions": ["core.local", "core.http"],
        }, **more))
        st2.call("PUT", "/configs/synthralos", json=config)

    yield put
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


def alert(node, alertname="DiskFull", status="firing", **labels):
    labels = dict({"alertname": alertname, "instance": node + ":9100", "run": node}, **labels)
    return {
        "status": status, "labels": labels, "annotations": {}, "startsAt": STARTS,
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph",
    }


def runbook(*steps, alertname="DiskFull"):
    return {"name": alertname, "match": {"alertname": alertname}, "steps": list(steps)}


def say(name, node, **more):
    """The step that prints its own name and the node's."""
    return dict({"name": name, "action": "core.local", "approval": "none",
                 "parameters": {"cmd": "echo %s %s" % (name, node)}}, **more)


def count_runs(st2, name, node, since):
    """How often the step has run."""
    return sum(row["parameters"]["cmd"] == "echo %s %s" % (name, node)
               for row in executions(st2, "core.local", since))


def receive(st2, *alerts):
    """The entries of alert.receive for a notification."""
    run, _ = st2.run("alert.receive", payload={"body": alertmanager(*alerts)})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]["alerts"]


def repair_of(st2, entry):
    """(status, output) of the run that an entry names, once it has ended."""
    assert entry["outcome"] == "started", entry
    run = st2.wait(entry["run"])
    return run["status"], run["result"]["output"]


def executions(st2, action, since):
    rows = st2.call("GET", "/executions", params={
        "action": action, "limit": 100, "timestamp_gt": since})
    return sorted(rows, key=lambda row: row["start_timestamp"])


@pytest.fixture
def since():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1))


def test_a_webhook_starts_the_steps_of_its_runbook(st2, box, configure, node, since):
    """The first action fails, so that the second follows."""
    configure(node, runbook(
        {"name": "first", "action": "core.local", "approval": "none",
         "parameters": {"cmd": "false"}},
        say("second", node),
    ))
    with enabled(st2, "webhook_alertmanager"):
        post(st2, "alertmanager", alertmanager(alert(node)))
        rows = until(
            lambda: executions(st2, "synthralos.infrastructure_repair", since), "it has started",
            LIVE_PATIENCE_SECONDS,
        )
    run = st2.wait(rows[0]["id"])
    output = run["result"]["output"]
    assert (run["status"], output["outcome"]) == ("succeeded", "repairs_assigned"), output
    assert [(entry["crew"], entry["status"]) for entry in output["assignments"]] == [
        ("DiskFull/first", "Failed"), ("DiskFull/second", "Assigned")]
    assert count_runs(st2, "second", node, since) == 1


def test_two_alerts_of_one_node_act_one_after_the_other(st2, box, configure, node, since):
    def slow(alertname):
        return runbook({
            "name": "act", "action": "core.local", "approval": "none", "seconds": 120,
            "parameters": {"cmd": "sleep 4; echo " + alertname},
        }, alertname=alertname)

    configure(node, slow("DiskFull"), slow("NodeDown"))
    entries = receive(st2, alert(node), alert(node, "NodeDown"))
    for entry in entries:
        status, output = repair_of(st2, entry)
        assert (status, output["outcome"]) == ("succeeded", "repairs_assigned"), output
    acted = [row for row in executions(st2, "core.local", since)
             if row["parameters"]["cmd"].startswith("sleep 4")]
    assert len(acted) == 2
    assert acted[1]["start_timestamp"] >= acted[0]["end_timestamp"]


def test_two_mountpoints_in_one_run(st2, box, configure, node, since):
    step = {"name": "say", "action": "synthralos.failure.explain", "approval": "none",
            "parameters": {"failure": {"label": "mountpoint", "pattern": "/[a-z]{1,20}"}}}
    configure(node, runbook(step), allowed_actions=["synthralos.failure.explain"])
    body = alertmanager(alert(node, mountpoint="/data"), alert(node, mountpoint="/var"))
    run, output = st2.run("infrastructure_repair", alert=body)
    assert (run["status"], output["outcome"]) == ("succeeded", "repairs_assigned"), output
    mounts = [row["parameters"]["failure"] for row in executions(
        st2, "synthralos.failure.explain", since) if row["parameters"].get("failure") in (
            "/data", "/var")]
    assert mounts == ["/data", "/var"]


def test_hostile_labels_start_nothing(st2, box, configure, node, since):
    second = {"name": "second", "action": "core.http", "approval": "none",
              "parameters": {"url": {"label": "instance"}}}
    configure(node, runbook(say("first", node), second))
    hostile = [alert(node, instance=text, run="%s-%d" % (node, n))
               for n, text in enumerate(HOSTILE)]
    for entry in receive(st2, *hostile):
        status, output = repair_of(st2, entry)
        assert (status, output["success"]) == ("failed", False) and output["ticket"], output
    assert count_runs(st2, "first", node, since) == 0


def test_hostile_labels_that_a_pattern_accepts_arrive_as_text(st2, box, configure, node, since):
    texts = ["; touch /tmp/evil", "$(reboot)", "-rf", "a'b\"c", "gum,latency", "ä \U0001f600"]
    step = {"name": "say", "action": "synthralos.failure.explain", "approval": "none",
            "parameters": {"failure": {"label": "text", "pattern": ".+"}}}
    configure(node, runbook(step), allowed_actions=["synthralos.failure.explain"])
    alerts = [alert("%s-%d" % (node, n), text=text) for n, text in enumerate(texts)]
    run, output = st2.run("infrastructure_repair", alert=alertmanager(*alerts))
    assert run["status"] == "succeeded", output
    ids = [entry["execution_id"] for entry in output["assignments"]]
    received = [
        st2.call("GET", "/executions/" + execution)["parameters"]["failure"] for execution in ids
    ]
    assert received == texts


def test_a_label_in_the_template_of_an_action_is_a_name(st2, box, configure, node, since):
    """core.echo inserts its message into a command line."""
    step = {"name": "say", "action": "core.echo", "approval": "none",
            "parameters": {"message": {"label": "text"}}}
    configure(node, runbook(step), allowed_actions=["core.echo"])
    texts = ["x/../../../../nodes/evil", "base64:e3sgeCB9fQ==", "$(touch /tmp/evil)", "$HOME"]
    hostile = [alert(node, text=text, run="%s-%d" % (node, n)) for n, text in enumerate(texts)]
    for entry in receive(st2, *hostile):
        status, output = repair_of(st2, entry)
        assert (status, output["success"]) == ("failed", False) and output["ticket"], output
    run, output = st2.run("infrastructure_repair", alert=alert(node, text=node))
    assert run["status"] == "succeeded", output
    messages = [row["parameters"]["message"] for row in executions(st2, "core.echo", since)]
    assert messages == [node]
    step["parameters"] = {"message": {"label": "text", "pattern": ".+"}}
    configure(node, runbook(step), allowed_actions=["core.echo"])
    run, _ = st2.run("runbook.validate")
    [problem] = run["result"]["result"]["problems"]
    assert (problem["field"], run["status"]) == ("parameters.message", "failed")
    run, output = st2.run("infrastructure_repair", alert=alert(node, text="$(touch /tmp/evil)"))
    assert run["status"] == "failed" and "parameters.message" in (
        output["assignments"][0]["details"])


@pytest.mark.parametrize("approved", [True, False])
def test_an_approval_shows_the_action_and_its_parameters(
    st2, box, configure, node, since, approved
):
    configure(node, runbook(say("first", node, approval="required")))
    [entry] = receive(st2, alert(node))
    st2.wait(entry["run"], "paused")
    approvals = st2.run("approval.list")[0]["result"]["result"]["approvals"]
    [approval] = [item for item in approvals if item["run"] == entry["run"]]
    assert approval["question"] == (
        "%s: core.local (DiskFull/first) with cmd=echo first %s" % (node, node))
    assert count_runs(st2, "first", node, since) == 0
    answer, _ = st2.run("approval.answer", execution_id=entry["run"], approved=approved)
    assert answer["status"] == "succeeded", answer["result"]
    status, output = repair_of(st2, entry)
    assert (status, output["outcome"]) == (
        "succeeded", "repairs_assigned" if approved else "refused")
    assert count_runs(st2, "first", node, since) == approved


def test_a_run_that_was_cancelled_locks_nobody_out(st2, box, configure, node):
    def act(alertname, seconds):
        return runbook({
            "name": "act", "action": "core.local", "approval": "none", "seconds": 300,
            "parameters": {"cmd": "sleep %d" % seconds},
        }, alertname=alertname)

    configure(node, act("DiskFull", 60), act("NodeDown", 0))
    [first] = receive(st2, alert(node))
    until(lambda: any(
        child["action"]["ref"].endswith("assign_repair_crew") and child["status"] == "running"
        for child in st2.children({"id": first["run"]})
    ), "it acts", LIVE_PATIENCE_SECONDS)
    [second] = receive(st2, alert(node, "NodeDown"))
    st2.call("DELETE", "/executions/" + first["run"])
    assert st2.wait(first["run"])["status"] == "canceled"
    status, output = repair_of(st2, second)
    assert (status, output["outcome"]) == ("succeeded", "repairs_assigned"), output


def test_the_action_of_a_run_that_was_killed_is_waited_for(st2, box, configure, node, since):
    """It goes on without the run, on the same node."""
    def act(alertname, command):
        return runbook({
            "name": "act", "action": "core.local", "approval": "none", "seconds": 300,
            "parameters": {"cmd": "%s; echo %s" % (command, node), "timeout": 300},
        }, alertname=alertname)

    def acted(command):
        return [row for row in executions(st2, "core.local", since)
                if row["parameters"]["cmd"] == "%s; echo %s" % (command, node)]

    configure(node, act("DiskFull", "sleep 120"), act("NodeDown", "true"))
    [first] = receive(st2, alert(node))
    until(lambda: any(row["status"] == "running" for row in acted("sleep 120")), "it acts",
          LIVE_PATIENCE_SECONDS)
    if not kill(processes(ASSIGNMENT)):
        pytest.skip("StackStorm's processes are not on this machine")
    assert st2.wait(first["run"])["status"] == "failed"
    [second] = receive(st2, alert(node, "NodeDown"))
    status, output = repair_of(st2, second)
    assert (status, output["outcome"]) == ("succeeded", "repairs_assigned"), output
    assert "waiting_for_run" in [entry["action"] for entry in output["step_history"]]
    [earlier], [later] = acted("sleep 120"), acted("true")
    assert later["start_timestamp"] >= earlier["end_timestamp"]


def test_runbooks_are_validated_against_the_actions_of_stackstorm(st2, box, configure, node):
    configure(
        node,
        runbook({"name": "good", "action": "core.local",
                 "parameters": {"cmd": "true", "timeout": limit_under_test(5)}}),
        runbook({"name": "misspelt", "action": "core.local", "parameters": {"command": "true"}},
                alertname="B"),
        runbook({"name": "missing", "action": "core.http"}, alertname="C"),
        runbook({"name": "fixed", "action": "core.local", "parameters": {"cmd": "true",
                                                                         "sudo": True}},
                alertname="D"),
        runbook({"name": "absent", "action": "acme.absent"}, alertname="E"),
        runbook({"name": "text", "action": "core.local",
                 "parameters": {"cmd": "true", "timeout": "soon"}}, alertname="F"),
        allowed_actions=["core.local", "core.http", "acme.absent"],
    )
    run, _ = st2.run("runbook.validate")
    assert run["status"] == "failed"
    problems = {entry["step"]: entry["field"] for entry in run["result"]["result"]["problems"]}
    assert problems == {
        "misspelt": "parameters.command", "missing": "parameters.url",
        "fixed": "parameters.sudo", "absent": "action", "text": "parameters.timeout",
    }
    assert st2.run("runbook.validate", runbook="DiskFull")[0]["status"] == "succeeded"
    runbooks = st2.run("runbook.list")[0]["result"]["result"]["runbooks"]
    assert [entry["name"] for entry in runbooks] == ["DiskFull", "B", "C", "D", "E", "F"]


def test_an_alert_is_explained_without_being_evaluated(st2, box, configure, node, since):
    step = {"name": "first", "action": "core.http", "parameters": {"url": {"label": "instance"}}}
    configure(node, runbook(step))

    def explain(text, **labels):
        encoded = "base64:" + base64.b64encode(text.encode()).decode()
        own = alert(node, x=encoded, **dict.fromkeys(labels, encoded))
        run, _ = st2.run("runbook.explain", alert=own)
        assert run["status"] == "succeeded", run["result"]
        [explanation] = run["result"]["result"]["alerts"]
        return explanation, json.dumps(run["result"], ensure_ascii=False)

    for text in HOSTILE:
        explanation, text = explain(text)
        assert (explanation["runbook"], explanation["problem"]) == ("DiskFull", None)
        assert explanation["steps"][0]["parameters"]["url"] == node
        explanation, text = explain(text, instance=True)
        assert explanation["problem"].startswith(("nothing is started: ", "nothing can act: "))
        assert not any(mark in text for mark in ("{{", "{%", "<%", "\u202e"))
    assert not [row for row in executions(st2, "core.http", since)
                if row["parameters"].get("url") == node]


def test_an_invalid_runbook_is_named_and_hides_no_other(st2, box, configure, node, since):
    bad = runbook({"name": "absent", "action": "acme.absent"}, alertname="Other")
    configure(node, dict(runbook(say("first", node)), mode="act"), bad,
              allowed_actions=["core.local"])
    [entry] = receive(st2, alert(node))
    status, output = repair_of(st2, entry)
    assert status == "failed" and output["ticket"] and count_runs(st2, "first", node, since) == 0
    assert "(runbook Other, step absent)" in output["error"]["reason"]
    run, _ = st2.run("runbook.validate")
    [problem] = run["result"]["result"]["problems"]
    assert (problem["runbook"], problem["step"]) == ("Other", "absent")


def test_people_explain_an_alert_in_a_channel(st2, box, configure, node):
    step = {"name": "first", "action": "core.http", "parameters": {"url": {"label": "instance"}}}
    configure(node, runbook(step))
    [response] = st2.call("POST", "/aliasexecution/match_and_execute", json={
        "command": "runbook explain DiskFull instance:%s:9100" % node, "user": "testu",
        "source_channel": "test",
    })["results"]
    run = st2.wait(response["execution"]["id"])
    assert run["status"] == "succeeded", run["result"]
    [explanation] = run["result"]["result"]["alerts"]
    assert (explanation["runbook"], explanation["problem"]) == ("DiskFull", None)
    assert explanation["steps"][0]["parameters"]["url"] == node
