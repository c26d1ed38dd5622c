"""The mode approve on st2local: what rules start asks a person before its first effect."""
import base64
import json

import pytest
from fixtures.waiting import limit_under_test, until
from workflows.alerting import (
    AGENT,
    HOSTILE,
    QUERY,
    alert,
    ended,
    failed_execution,
    recoveries,
    tickets,
)

from sandbox import status as answers

NODE = {"alertname": "NodeDown", "instance": "web-1"}


@pytest.fixture(autouse=True)
def approve(world):
    world.config["automation"] = {"mode": "approve"}


def waiting(world, run):
    """The approval that `run` waits for."""
    def find_approval():
        pending = action(world, "approval.list")["approvals"]
        return next((approval for approval in pending if approval["run"] == run), None)

    return until(find_approval, "it waits for an approval")


def action(world, name, **parameters):
    execution = world.local.run("synthralos." + name, parameters)
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]


def answer(world, run, approved):
    action(world, "approval.answer", execution_id=run, approved=approved)
    return ended(world, run)


def ask(world, webhook, **more):
    """The run that an alert of an agent starts, which waits for a person."""
    [entry] = webhook(alert(**more))["alerts"]
    assert (entry["outcome"], entry["mode"]) == ("started", "approve")
    waiting(world, entry["run"])
    return entry["run"]


def encoded(text):
    """Text as a caller passes it, so that StackStorm does not render it."""
    return "base64:" + base64.b64encode(text.encode()).decode()


def encoded_in(value):
    return {name: encoded(text) for name, text in value.items()}


def notices(world):
    return world.box.calls_to("hook:crews")


def test_a_recovery_starts_when_it_is_approved_and_is_a_part_of_the_run(world, webhook):
    run = ask(world, webhook)
    question = waiting(world, run)["question"]
    assert question == (
        "May agent_recovery of trainer_01 start? It runs again: %(query)s; "
        "it failed with: %(description)s" % QUERY
    )
    assert recoveries(world) == [] and world.box.calls_to("platform") == []
    execution = answer(world, run, True)
    output = execution["result"]["output"]
    assert (execution["status"], output["outcome"]) == ("succeeded", "recovered")
    [recovery] = recoveries(world)
    assert recovery["id"] == output["run"] and recovery["parameters"]["agent_id"] == "trainer_01"
    assert QUERY["query"] in world.box.calls_to("platform")[0].body["query"]
    assert webhook(alert())["summary"] == "1 duplicate"


def test_while_a_person_is_asked_nothing_else_is_started(world, webhook):
    run = ask(world, webhook)
    [entry] = webhook(alert())["alerts"]
    assert (entry["outcome"], entry["run"]) == ("running", run)
    other = alert(dict(AGENT, alertname="Other"))
    assert webhook(other)["alerts"][0]["outcome"] == "running"


def test_a_recovery_that_fails_fails_the_run_and_its_ticket_is_the_run_s(world, webhook):
    world.box.script("platform", [answers(422)], forever=True)
    execution = answer(world, ask(world, webhook), True)
    output = execution["result"]["output"]
    assert (execution["status"], output["outcome"]) == ("failed", "failed")
    assert [ticket["ticket"] for ticket in tickets(world)] == [output["ticket"]]
    assert output["error"]["reason"]
    resolved = webhook(alert(status="resolved"))["alerts"][0]
    assert (resolved["outcome"], resolved["ticket"]) == ("resolved", output["ticket"])


def test_what_is_refused_does_not_start_and_is_no_failure(world, webhook):
    execution = answer(world, ask(world, webhook), False)
    assert execution["status"] == "succeeded"
    assert execution["result"]["output"]["outcome"] == "refused"
    assert recoveries(world) == [] and tickets(world) == []
    assert webhook(alert())["summary"] == "1 duplicate"


def test_a_refusal_is_no_successful_repair_that_an_alert_could_recur_after(world, webhook):
    answer(world, ask(world, webhook), False)
    webhook(alert(status="resolved"))
    ask(world, webhook, starts="2026-11-23T10:20:00Z")


def test_what_is_over_before_it_is_answered_is_asked_no_more(world, webhook):
    run = ask(world, webhook)
    assert webhook(alert(status="resolved"))["summary"] == "1 resolved"
    execution = ended(world, run)
    assert (execution["status"], execution["result"]["output"]["outcome"]) == ("succeeded", "over")
    refused = world.local.run(
        "synthralos.approval.answer", {"execution_id": run, "approved": True}
    )
    assert "does not wait for an approval" in refused["result"]["result"]["summary"]
    assert recoveries(world) == [] and tickets(world) == []
    assert action(world, "recovery.reap")["closed"] == [{"run": run, "ticket": None}]
    # Nothing was repaired that could have recurred: a person is asked again.
    ask(world, webhook, starts="2026-11-23T10:20:00Z")


def test_a_repair_is_asked_about_no_more_once_its_alert_is_over(world, webhook):
    [entry] = webhook(alert(NODE, {}))["alerts"]
    waiting(world, entry["run"])
    webhook(alert(NODE, {}, status="resolved"))
    execution = ended(world, entry["run"])
    output = execution["result"]["output"]
    assert (execution["status"], output["outcome"]) == ("succeeded", "healthy")
    assert output["step_history"][-1]["action"] == "failures_over"
    assert notices(world) == [] and tickets(world) == []
    [entry] = webhook(alert(NODE, {}, starts="2026-11-23T10:20:00Z"))["alerts"]
    assert entry["outcome"] == "started"


@pytest.mark.parametrize("approved", [True, False, None])
@pytest.mark.parametrize("labels", [AGENT, NODE])
def test_a_pager_is_told_of_a_question_and_of_its_end(world, webhook, labels, approved):
    """None: the alert ends first."""
    world.config["escalation"] = {
        "notification_channels": {"mail": False, "webhook": True},
        "webhook": {"url": world.box.url("/hook/pager")},
    }
    [entry] = webhook(alert(labels))["alerts"]
    run = entry["run"]
    waiting(world, run)
    [question] = [call.body for call in world.box.calls_to("hook:pager")]
    assert question["event_action"] == "trigger" and "approve run " + run in json.dumps(question)
    if approved is None:
        webhook(alert(labels, status="resolved"))
        ended(world, run)
    else:
        answer(world, run, approved)
    calls = [
        call.body["event_action"] for call in world.box.calls_to("hook:pager")
        if call.body["dedup_key"] == question["dedup_key"]
    ]
    assert calls == ["trigger", "resolve"]


def test_what_is_not_answered_ends_with_a_ticket(world, webhook):
    run = ask(world, webhook)
    world.config["automation"]["approval_timeout"] = limit_under_test(1)
    until(
        lambda: [entry["run"] for entry in action(world, "recovery.reap")["expired"]] == [run],
        "the reaper ends the approval",
    )
    execution = ended(world, run)
    output = execution["result"]["output"]
    assert (execution["status"], output["outcome"]) == ("failed", "not_answered")
    [ticket] = tickets(world)
    assert ticket["ticket"] == output["ticket"] and ticket["subject"] == "trainer_01"
    assert recoveries(world) == []


def test_a_run_that_is_cancelled_while_it_asks_is_recorded(world, webhook):
    run = ask(world, webhook)
    world.local.stop(world.local.live(run))
    until(lambda: world.local.execution(run)["status"] == "canceled", "it is cancelled")
    assert run in [entry["run"] for entry in action(world, "recovery.reap")["logged"]]
    [ticket] = tickets(world)
    assert ticket["subject"] == "trainer_01"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_data(world, webhook, text):
    run = ask(world, webhook, annotations={"query": text, "description": text})
    question = waiting(world, run)["question"]
    assert "{{" not in question and "<%" not in question and len(question) <= 800
    execution = answer(world, run, True)
    assert execution["status"] == "succeeded", execution["result"]
    assert text[:1000] in json.loads(json.dumps(world.box.calls_to("platform")[0].body["query"]))


@pytest.mark.parametrize("approved, outcome, count", [
    (True, "repairs_assigned", 1), (False, "refused", 0),
])
def test_a_repair_asks_before_even_people_are_notified(
    world, webhook, approved, outcome, count
):
    [entry] = webhook(alert(NODE, {}))["alerts"]
    assert "web-1: network-team is notified" in waiting(world, entry["run"])["question"]
    assert notices(world) == []
    execution = answer(world, entry["run"], approved)
    assert (execution["status"], execution["result"]["output"]["outcome"]) == ("succeeded", outcome)
    assert len(notices(world)) == count


def test_a_failed_execution_waits_for_an_approval_too(world):
    world.config["automation"]["failed_actions"] = {
        "core.local": {"agent_id": "trainer_01", "query_from": "cmd"},
    }
    result = failed_execution(world, "core.local", {"cmd": "echo no answer in time >&2; false"})
    assert (result["outcome"], result["mode"]) == ("started", "approve")
    assert waiting(world, result["run"])["workflow"] == "recovery_with_approval"
    assert answer(world, result["run"], True)["status"] == "succeeded"
    assert world.box.calls_to("platform")[0].body["query"].startswith("echo no answer")


def test_up_and_down_between_two_alerts(world, webhook):
    def outcome(name):
        labels = dict(AGENT, alertname=name, agent_id="agent-" + name)
        [entry] = webhook(alert(labels))["alerts"]
        return entry["outcome"], entry["mode"], entry["run"]

    seen = []
    for name, mode in (("a", "observe"), ("b", "act"), ("c", "approve"), ("d", "observe")):
        action(world, "automation.set_mode", mode=mode)
        seen.append(outcome(name))
    assert [entry[:2] for entry in seen] == [
        ("observed", "observe"), ("started", "act"), ("started", "approve"),
        ("observed", "observe"),
    ]
    assert ended(world, seen[1][2])["action"]["ref"] == "synthralos.agent_recovery"
    # What was asked before going down can still be approved: a person decides.
    assert answer(world, seen[2][2], True)["status"] == "succeeded"
    assert len(recoveries(world)) == 2


def test_what_people_start_asks_for_nothing(world):
    execution, output = world.run(
        "agent_recovery", agent_id="a", failure_type="error", original_query="q"
    )
    assert execution["status"] == "succeeded" and output["success"] is True


@pytest.mark.parametrize("parameters, field", [
    ({"workflow": "agent_recovery", "agent_id": "a"}, "original_query"),
    ({"workflow": "agent_recovery", "original_query": "q"}, "agent_id"),
    ({"workflow": "llm_retry", "failure_reason": "x"}, "original_request"),
    ({"workflow": "agent_recovery", "agent_id": "a", "original_query": "@case"}, "original_query"),
])
def test_nobody_is_asked_about_what_could_not_start(world, parameters, field):
    execution = world.local.run("synthralos.recovery_with_approval", parameters)
    assert execution["status"] == "failed"
    assert execution["result"]["output"]["error"]["field"] == field
    assert action(world, "approval.list")["approvals"] == []


LLM = {"prompt": "{{ 7 * 7 }} <% 7 %>", "model": "gpt-4"}
ROUTED = {"endpoint": "/api/v1/llm", "body": {"prompt": "{{ 7 * 7 }} <% 7 %>"}}


@pytest.mark.parametrize("workflow, original_request", [
    ("llm_retry", LLM), ("reroute_request", ROUTED),
])
def test_a_person_or_a_rule_of_one_s_own_may_ask_for_an_approval_too(
    world, workflow, original_request
):
    parameters = {
        "workflow": workflow, "original_request": {
            name: encoded(value) if isinstance(value, str) else encoded_in(value)
            for name, value in original_request.items()
        }, "failure_reason": "Server error",
    }
    handle = world.local.start("synthralos.recovery_with_approval", parameters)
    assert "%s of " % workflow in waiting(world, handle.id)["question"]
    execution = answer(world, handle.id, True)
    assert execution["status"] == "succeeded", execution["result"]
    assert [row["id"] for row in world.local.executions(action="synthralos." + workflow)] == [
        execution["result"]["output"]["run"]
    ]
    bodies = json.dumps([call.body for call in world.box.calls])
    assert "{{ 7 * 7 }} <% 7 %>" in bodies
