"""Agents on a real LangGraph Server, for runs on a live StackStorm: continued from where they
failed, and answered by a person in the chat, by an action, or by nobody. Needs `make judges`.
"""
import base64
import uuid

import pytest
from fixtures.agent_servers import KEY, langgraph
from fixtures.waiting import LIVE_PATIENCE_SECONDS, limit_under_test, until
from live_host import kill, processes

FAILED = {"agent_id": "asker", "failure_type": "error", "retry_delay": 0}
HOSTILE = "May I pay {{ 7*7 }} <% ctx() %>?"


@pytest.fixture(scope="module")
def base_url(st2, tmp_path_factory, effects):
    """The LangGraph Server that the pack is configured for."""
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        before = st2.call("GET", "/configs/synthralos?show_secrets=true").get("values") or {}
        st2.call("PUT", "/configs/synthralos", json={
            "platforms": [
                {"name": "graphs", "api": "langgraph", "base_url": base_url, "token": KEY},
            ],
            "agents": {
                "asker": {"platform": "graphs", "agent": "agent"},
                "walker": {"platform": "graphs", "agent": "steps"},
            },
            "automation": {"approval_timeout": 3600},
            "escalation": {"notification_channels": {"announcement": True}},
        })
        try:
            yield base_url
        finally:
            st2.call("PUT", "/configs/synthralos", json=before)


def sealed(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


def start(st2, query, **parameters):
    return st2.start("agent_recovery", **dict(FAILED, original_query=sealed(query), **parameters))


def wait_for_question(st2, run_id):
    def own_approval():
        approvals = st2.run("approval.list")[0]["result"]["result"]["approvals"]
        return next((approval for approval in approvals if approval["run"] == run_id), None)

    st2.wait(run_id, "paused", "failed", "succeeded")
    return until(own_approval, "the question of %s is listed" % run_id, LIVE_PATIENCE_SECONDS)


def say(st2, command):
    """What a person types in the chat."""
    st2.call("POST", "/aliasexecution/match_and_execute", json={
        "command": command, "user": "ops", "source_channel": "ops",
        "notification_channel": "ops", "notification_route": "chat",
    })


def test_the_fourth_of_five_nodes_fails_twice_and_no_other_runs_twice(st2, base_url, effects):
    tour = "tour-%s" % uuid.uuid4().hex
    run, output = st2.run(
        "agent_recovery", **dict(FAILED, agent_id="walker", original_query=tour))
    assert run["status"] == "succeeded" and output["recovery_result"]["output"] == "n5", output
    lines = effects.read_text().split("\n")
    counts = [lines.count("%s %s" % (node, tour)) for node in ("n1", "n2", "n3", "n4", "n5")]
    print("runs of each node: %s; steps: %s" % (counts, [e["step"] for e in output["trail"]]))
    assert counts == [1, 1, 1, 3, 1]


@pytest.mark.parametrize("command, reply", [
    ("approve run %s", "yes"), ("refuse run %s", "no"),
    ("answer run %s with account 12", "account 12"),
])
def test_a_question_is_answered_in_the_chat(st2, base_url, command, reply):
    run_id = start(st2, "ask " + HOSTILE)
    approval = wait_for_question(st2, run_id)
    assert "{{" not in approval["question"] and "May I pay" in approval["question"]
    say(st2, command % run_id)
    run = st2.wait(run_id)
    assert run["status"] == "succeeded", run["result"]
    assert run["result"]["output"]["recovery_result"]["output"] == "told: " + reply
    assert run["result"]["output"]["attempts"] == 1


def test_a_hostile_answer_is_text(st2, base_url):
    run_id = start(st2, "ask How?")
    wait_for_question(st2, run_id)
    answer, _ = st2.run("approval.answer", execution_id=run_id, answer=sealed(HOSTILE))
    assert answer["status"] == "succeeded", answer["result"]
    assert st2.wait(run_id)["result"]["output"]["recovery_result"]["output"] == "told: " + HOSTILE


def test_an_answer_in_stackstorms_own_inquiry_counts_too(st2, base_url):
    run_id = start(st2, "ask How?")
    approval = wait_for_question(st2, run_id)
    path = "/inquiries/" + approval["inquiry"]
    st2.call("PUT", path, json={"id": approval["inquiry"], "response": {"answer": "like this"}})
    assert st2.wait(run_id)["result"]["output"]["recovery_result"]["output"] == "told: like this"


def test_nobody_answers_and_a_ticket_is_opened(st2, base_url):
    run_id = start(st2, "ask Is anybody there?")
    wait_for_question(st2, run_id)
    config = st2.call("GET", "/configs/synthralos?show_secrets=true")["values"]
    short = dict(config, automation={"approval_timeout": limit_under_test(1)})
    st2.call("PUT", "/configs/synthralos", json=short)
    try:
        st2.run("recovery.reap")
        run = st2.wait(run_id)
    finally:
        st2.call("PUT", "/configs/synthralos", json=config)
    output = run["result"]["output"]
    assert run["status"] == "failed" and output["ticket"]
    assert output["error"]["cause"] == "input_required"


@pytest.mark.parametrize("service", ["st2workflowengine", "st2actionrunner", "st2api"])
def test_an_answer_counts_although_a_service_dies_before_it(st2, base_url, restart, service):
    run_id = start(st2, "ask May I?")
    wait_for_question(st2, run_id)
    kill(processes("bin/" + service))
    restart(service)
    until(lambda: _answers(st2, run_id), "the answer is taken", LIVE_PATIENCE_SECONDS)
    run = st2.wait(run_id)
    assert run["status"] == "succeeded", run["result"]
    assert run["result"]["output"]["recovery_result"]["output"] == "told: yes"


def _answers(st2, run_id):
    return st2.run("approval.answer", execution_id=run_id, approved=True)[0]["status"] == (
        "succeeded")


def test_a_rerun_of_a_killed_run_asks_once_more_and_ends(st2, base_url):
    run_id = start(st2, "ask May I?")
    wait_for_question(st2, run_id)
    st2.call("DELETE", "/executions/" + run_id)
    st2.wait(run_id, "canceled")
    again = st2.call("POST", "/executions/%s/re_run" % run_id, json={"parameters": {}})["id"]
    wait_for_question(st2, again)
    say(st2, "approve run %s" % again)
    run = st2.wait(again)
    assert run["status"] == "succeeded", run["result"]
    assert run["result"]["output"]["recovery_result"]["output"] == "told: yes"
