"""Alerts, as rules hand them over, on st2local."""
import json
import threading
import time

import pytest
from fixtures import notifications
from fixtures.waiting import PATIENCE_SECONDS
from workflows.alerting import (
    AGENT,
    HOSTILE,
    QUERY,
    alert,
    body,
    ended,
    failed_execution,
    recoveries,
    tickets,
)

from sandbox import agent_failed, ok
from sandbox import status as answers


@pytest.fixture(autouse=True)
def act(world):
    world.config["automation"] = {"mode": "act"}


def test_an_alert_of_an_agent_starts_its_recovery(world, webhook):
    result = webhook(alert())
    assert result["summary"] == "1 started" and result["started"] == 1
    run = ended(world, result["alerts"][0]["run"])
    assert run["action"]["ref"] == "synthralos.agent_recovery" and run["status"] == "succeeded"
    assert run["parameters"]["agent_id"] == "trainer_01"
    assert QUERY["query"] in world.box.calls_to("platform")[0].body["query"]


def test_an_alert_without_an_agent_is_of_the_infrastructure(world, webhook):
    result = webhook(alert({"alertname": "NodeDown", "instance": "db-1:9100"}, {}))
    assert result["alerts"][0]["workflow"] == "infrastructure_repair"
    assert result["alerts"][0]["subject"] == "db-1:9100"


@pytest.fixture
def receive(world):
    """receive(body) -> the entries of alert.receive for the alerts of a notification's body."""

    def receive(body):
        run = world.local.run("synthralos.alert.receive", {"payload": {"body": body}})
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]["alerts"]

    return receive


def test_an_exporter_that_moves_makes_no_second_run(world, receive):
    first = notifications.load("kube_state_metrics")["alerts"][0]
    moved = dict(first, labels=dict(first["labels"], instance="10.244.9.9:8443"))
    [entry] = receive(body(first))
    assert (entry["outcome"], entry["subject"]) == ("started", "shop/web-7f9c")
    output = ended(world, entry["run"])["result"]["output"]
    assert "shop/web-7f9c" in json.dumps(output) and "10.244" not in json.dumps(output)
    assert receive(body(moved))[0]["outcome"] == "duplicate"
    assert len(world.local.executions(action="synthralos.infrastructure_repair")) == 1


@pytest.mark.parametrize("name, outcome, is_ticketed", [
    ("always_firing", "not_a_failure", False), ("grafana_test_own_labels", "test", False),
    ("grafana_channel_test", "test", False), ("grafana_datasource_error", "not_evaluated", True),
    ("grafana_missing_series", "unconfirmed", False),
])
def test_what_is_no_failure_starts_nothing(world, receive, name, outcome, is_ticketed):
    assert {entry["outcome"] for entry in receive(notifications.load(name))} == {outcome}
    started = [world.local.executions(action="synthralos." + workflow)
               for workflow in ("agent_recovery", "infrastructure_repair")]
    assert started == [[], []] and bool(tickets(world)) is is_ticketed


def test_the_query_is_that_of_the_execution_that_the_alert_names(world, webhook):
    before, _ = world.run(
        "agent_recovery", agent_id="trainer_01", failure_type="error", original_query="6 x 7?"
    )
    world.box.reset()
    result = webhook(alert(dict(AGENT, execution_id=before["id"]), {}))
    ended(world, result["alerts"][0]["run"])
    assert world.box.calls_to("platform")[0].body["query"].startswith("6 x 7?")


def test_else_the_agent_s_last_one(world, webhook):
    world.run("agent_recovery", agent_id="trainer_01", failure_type="error", original_query="7?")
    world.box.reset()
    ended(world, webhook(alert(AGENT, {}))["alerts"][0]["run"])
    assert world.box.calls_to("platform")[0].body["query"].startswith("7?")


def test_else_a_ticket_and_no_run(world, webhook):
    result = webhook(alert(AGENT, {}))
    assert result["alerts"][0]["outcome"] == "no_query" and recoveries(world) == []
    assert [ticket["ticket"] for ticket in tickets(world)] == [result["alerts"][0]["ticket"]]


def test_a_storm_of_one_alert_starts_one_run(world, webhook):
    results = []
    posts = [threading.Thread(target=lambda: results.append(webhook(alert()))) for _ in range(6)]
    [post.start() for post in posts]
    [post.join() for post in posts]
    assert sum(result["started"] for result in results) == 1 and len(recoveries(world)) == 1
    ended(world, recoveries(world)[0]["id"])
    assert webhook(alert(), alert())["summary"] == "1 duplicate"


def test_alerts_of_one_agent_start_one_run_while_it_goes_on(world, webhook):
    world.box.script("platform", [answers(503)], forever=True)
    first = alert(dict(AGENT, alertname="A"))
    result = webhook(first, alert(dict(AGENT, alertname="B")))
    assert [entry["outcome"] for entry in result["alerts"]] == ["started", "running"]


def test_an_alert_that_comes_back_after_a_repair_is_a_person_s(world, webhook):
    ended(world, webhook(alert())["alerts"][0]["run"])
    assert webhook(alert(status="resolved"))["alerts"][0]["outcome"] == "resolved"
    result = webhook(alert(starts="2026-11-23T10:20:00Z"))["alerts"][0]
    assert result["outcome"] == "recurred" and len(recoveries(world)) == 1
    assert tickets(world)[0]["level"] == "supervisor_review"


def test_a_resolved_alert_resolves_its_ticket(world, webhook):
    world.box.script("platform", [answers(422)], forever=True)
    run = ended(world, webhook(alert())["alerts"][0]["run"])
    assert run["status"] == "failed" and run["result"]["output"]["ticket"]
    result = webhook(alert(status="resolved"))["alerts"][0]
    assert result["outcome"] == "resolved" and result["ticket"] == run["result"]["output"]["ticket"]
    assert [ticket["status"] for ticket in tickets(world)] == ["resolved"]
    assert webhook(alert(status="resolved"))["alerts"][0]["outcome"] == "nothing_open"


def test_an_agent_is_recovered_so_often_an_hour_and_no_more(world, webhook):
    world.config["automation"].update(recoveries_per_hour=2, recurrence_window=0)
    outcomes = []
    for n in range(3):
        result = webhook(alert(dict(AGENT, alertname="A%d" % n)))["alerts"][0]
        outcomes.append(result["outcome"])
        if result["run"]:
            ended(world, result["run"])
    assert outcomes == ["started", "started", "too_many"]
    assert "hourly limit" in tickets(world)[0]["summary"]


def test_one_notification_starts_so_many_runs_and_a_ticket_for_the_rest(world, webhook):
    world.config["automation"]["max_runs_per_webhook"] = 2
    several = [alert(dict(AGENT, agent_id="agent_%d" % n)) for n in range(5)]
    result = webhook(*several)
    assert result["started"] == 2 and result["ticket"]
    assert {entry["ticket"] for entry in result["alerts"] if entry["outcome"] == "over_limit"} == {
        result["ticket"]}
    assert len(tickets(world)) == 1
    for entry in result["alerts"]:
        if entry["run"]:
            ended(world, entry["run"])


def test_switched_off_it_starts_nothing(world, webhook):
    world.local.keys.put("synthralos.enabled", {"name": "synthralos.enabled", "value": "false"})
    assert webhook(alert())["alerts"][0]["outcome"] == "switched_off"
    assert recoveries(world) == []


def test_switched_off_what_is_over_is_closed_all_the_same(world, webhook):
    result = webhook(alert(AGENT, {}))
    world.local.keys.put("synthralos.enabled", {"name": "synthralos.enabled", "value": "false"})
    assert webhook(alert(status="resolved"))["alerts"][0]["ticket"] == result["alerts"][0]["ticket"]


def test_an_odd_alert_takes_no_other_with_it(world, webhook):
    odd = [
        alert(dict(AGENT, agent_id="a1", failure_type="Timeout")),
        alert(dict(AGENT, agent_id="a2", failure_type="no such type")),
        alert(dict(AGENT, agent_id="a3"), {"query": "base64:%%%"}),
        alert(dict(AGENT, agent_id="\u202e {{ foo }}")),
        alert(dict(AGENT, agent_id="a5"), starts="yesterday"),
    ]
    result = webhook(*odd)
    outcomes = [entry["outcome"] for entry in result["alerts"]]
    assert outcomes == ["started"] * 5, result
    for entry in result["alerts"]:
        assert ended(world, entry["run"])["status"] == "succeeded"
    assert "base64:%%%" in [call.body["query"] for call in world.box.calls_to("platform")]


def test_sensor_and_webhook_tell_one_time_in_two_ways(world, webhook):
    ended(world, webhook(alert(starts="2026-11-23T10:00:00.123789Z"))["alerts"][0]["run"])
    result = webhook(alert(starts="2026-11-23T10:00:00.123Z"))
    assert result["summary"] == "1 duplicate"


def test_what_is_over_does_not_close_what_began_later(world, webhook):
    webhook(alert(AGENT, {}, starts="2026-11-23T10:20:00Z"))
    result = webhook(alert(status="resolved", starts="2026-11-23T10:00:00Z"))
    assert result["alerts"][0]["outcome"] == "nothing_open"
    assert [ticket["status"] for ticket in tickets(world)] == ["open"]


def test_each_alert_that_is_held_has_a_ticket_of_its_own(world, webhook):
    first, second = (alert(dict(AGENT, alertname=name), {}) for name in "AB")
    assert len({entry["ticket"] for entry in webhook(first, second)["alerts"]}) == 2
    webhook(dict(first, status="resolved"))
    assert sorted(ticket["status"] for ticket in tickets(world)) == ["open", "resolved"]


def test_what_is_over_while_its_run_goes_on_is_closed_when_that_has_ended(world, webhook):
    resolved = threading.Event()

    def answer(call):
        return resolved.wait(PATIENCE_SECONDS) and answers(422)

    world.box.script("platform", [answer], forever=True)
    run = webhook(alert())["alerts"][0]["run"]
    webhook(alert(status="resolved"))
    resolved.set()
    assert ended(world, run)["result"]["output"]["ticket"]
    assert [ticket["status"] for ticket in tickets(world)] == ["open"]
    result = world.local.run("synthralos.recovery.reap")["result"]["result"]
    assert [closed["run"] for closed in result["closed"]] == [run]
    assert [ticket["status"] for ticket in tickets(world)] == ["resolved"]


def test_what_is_no_notification_is_refused(world):
    run = world.local.run("synthralos.alert.receive", {"payload": {"body": {"x": 1}}})
    assert run["status"] == "failed"
    assert "Alertmanager" in run["result"]["result"]["error"]["hint"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_data(world, webhook, text):
    result = webhook(alert(AGENT, {"query": text, "description": text}))
    run = ended(world, result["alerts"][0]["run"])
    assert run["status"] == "succeeded", run["result"]
    cut = text[:1000]
    assert cut in json.loads(json.dumps(world.box.calls_to("platform")[0].body["query"]))


def test_an_agent_s_failure_starts_its_recovery_once(world):
    world.box.script("platform", [agent_failed(), ok(text="42")])
    payload = {
        "source": "agent_errors", "error_id": "err-1", "agent_id": "trainer_01", "task_id": None,
        "failure_type": "timeout", "failure_details": {"message": "no answer"},
        "original_query": "What is 6 x 7?", "context": {}, "occurred_at": "2026-11-23T10:00:00Z",
    }
    for outcome in ("started", "duplicate"):
        run = world.local.run(
            "synthralos.failure.receive", {}, rule="synthralos.agent_failure",
            trigger_instance={"payload": payload, "trigger": "synthralos.agent_failure"},
        )
        result = run["result"]["result"]
        assert result["outcome"] == outcome, result
        recovered = ended(world, result["run"])
    assert recovered["result"]["output"]["recovery_result"]["output"] == "42"


def test_what_an_attempt_of_ours_met_starts_no_other_recovery(world):
    world.box.script("platform", [answers(422)], forever=True)

    def report(error_id, at):
        payload = {
            "source": "platform", "error_id": error_id, "agent_id": "trainer_01",
            "failure_type": "error", "failure_details": {}, "original_query": "q",
            "context": {}, "occurred_at": at,
        }
        run = world.local.run("synthralos.failure.receive", {"payload": payload})
        return run["result"]["result"]

    first = report("err-1", "2026-11-23T10:00:00Z")
    run = ended(world, first["run"])
    # The end of the run is within its attempt however slow the machine is; its start is not.
    assert report("err-2", run["end_timestamp"])["outcome"] == "own_execution"
    assert len(recoveries(world)) == 1
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    result = report("err-3", later)
    assert result["outcome"] == "started"
    ended(world, result["run"])


def test_a_failed_execution_of_ours_starts_nothing(world):
    world.box.script("platform", [answers(422)], forever=True)
    result = failed_execution(
        world, "synthralos.agent_recovery",
        {"agent_id": "a", "failure_type": "error", "original_query": "q"},
    )
    assert result["outcome"] == "own_execution" and len(recoveries(world)) == 1


def test_a_failed_execution_that_fits_no_workflow_is_a_ticket(world):
    result = failed_execution(world, "core.local", {"cmd": "false"})
    assert result["outcome"] == "no_workflow" and result["ticket"]


def test_the_config_says_which_agent_a_failed_action_is_of(world):
    world.config["automation"]["failed_actions"] = {
        "core.local": {
            "workflow": "agent_recovery", "agent_id": "trainer_01", "query_from": "cmd",
        },
    }
    result = failed_execution(world, "core.local", {"cmd": "echo no answer in time >&2; false"})
    assert result["outcome"] == "started", result
    run = ended(world, result["run"])
    assert run["parameters"]["agent_id"] == "trainer_01"
    assert world.box.calls_to("platform")[0].body["query"].startswith("echo no answer")
