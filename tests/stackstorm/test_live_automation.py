"""Rules, intakes, approvals and ChatOps on a live StackStorm."""
import secrets
import threading
import time

import pytest
from fixtures.waiting import LIVE_PATIENCE_SECONDS, let_pass, until
from live_rules import enabled, policy_enabled

from sandbox import status as answers

STARTS = "2026-11-23T10:00:00.000Z"


def post(st2, path, body):
    st2.call("POST", "/webhooks/synthralos/" + path, json=body)


def alert(agent, query="6 x 7?", status="firing", starts=STARTS, **labels):
    labels = dict({"alertname": "AgentDown", "agent_id": agent, "run": agent}, **labels)
    return {
        "status": status, "labels": labels, "startsAt": starts, "endsAt": "0001-01-01T00:00:00Z",
        "annotations": {"query": query, "description": "the agent timed out"},
        "generatorURL": "http://prometheus/graph", "unknown": {"field": [1]},
    }


def alertmanager(*alerts):
    return {
        "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "st2",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://a",
        "truncatedAlerts": 0, "alerts": list(alerts),
    }


def received(st2, action, number):
    """The newest `number` results of an intake, once that many have ended since the test began."""
    def collected():
        rows = st2.call("GET", "/executions", params={
            "action": "synthralos." + action, "limit": 100, "timestamp_gt": received.since})
        rows.sort(key=lambda row: row["start_timestamp"], reverse=True)
        failed = [row for row in rows if row["status"] in ("failed", "timeout")]
        assert not failed, failed[0]["result"]
        is_complete = len(rows) >= number and all(row["status"] == "succeeded" for row in rows)
        return [row["result"]["result"] for row in rows] if is_complete else None

    return until(collected, "%d runs of %s" % (number, action), LIVE_PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def since():
    received.since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1))
    let_pass(1)


@pytest.fixture(autouse=True)
def configure(st2, box):
    """configure(**automation): sets this entry of the configuration; at first, runs may start."""
    def put(**automation):
        config = dict(box.pack_config(), automation=automation)
        st2.call("PUT", "/configs/synthralos", json=config)

    put(mode="act")
    yield put
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


@pytest.fixture
def agent():
    return "agent-" + secrets.token_hex(4)


HOSTILE = (
    "{{ config_context.token }} <% ctx().st2 %> <%= erb %> {% raw %} {{.Values.x}} \u202e\U0001f600"
)


def test_a_webhook_of_alertmanager_starts_a_recovery_and_closes_its_case(st2, box, agent):
    with enabled(st2, "webhook_alertmanager"):
        post(st2, "alertmanager", alertmanager(alert(agent, HOSTILE)))
        result = received(st2, "alert.receive", 1)[0]
        assert result["summary"] == "1 started"
        run = st2.wait(result["alerts"][0]["run"])
        assert run["status"] == "succeeded", run["result"]
        assert HOSTILE in box.calls_to("platform")[0].body["query"]
        post(st2, "alertmanager", alertmanager(alert(agent, status="resolved")))
        received(st2, "alert.receive", 2)
        post(st2, "alertmanager", alertmanager(alert(agent, starts="2026-11-23T10:20:00Z")))
        outcomes = [intake["alerts"][0]["outcome"] for intake in received(st2, "alert.receive", 3)]
    assert sorted(outcomes) == ["recurred", "resolved", "started"]


def test_the_labels_of_an_alert_choose_the_rule(st2, box, agent):
    both = ("metrics_alert_agent", "metrics_alert_infrastructure")

    def fire(fingerprint, **labels):
        payload = {
            "source": "alertmanager", "fingerprint": fingerprint, "status": "firing",
            "starts_at": STARTS, "ends_at": None, "labels": dict({"alertname": "A"}, **labels),
            "annotations": {"query": HOSTILE}, "generator_url": None, "alertname": "A",
            "extra": {},
        }
        body = {"trigger": "synthralos.metrics_alert", "payload": payload}
        st2.call("POST", "/webhooks/st2", json=body)

    with enabled(st2, *both):
        fire(secrets.token_hex(8), agent_id=agent)
        fire(secrets.token_hex(8), node="unknown-" + agent)
        results = received(st2, "alert.receive", 2)
    started = {entry["alerts"][0]["workflow"]: entry["alerts"][0] for entry in results}
    assert set(started) == {"agent_recovery", "infrastructure_repair"}
    assert started["agent_recovery"]["subject"] == agent
    for entry in started.values():
        st2.wait(entry["run"])


def test_a_storm_of_one_alert_starts_one_run(st2, box, agent):
    with enabled(st2, "webhook_alertmanager"):
        threads = [
            threading.Thread(target=post, args=(st2, "alertmanager", alertmanager(alert(agent))))
            for _ in range(15)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        results = received(st2, "alert.receive", 15)
    assert sum(thread["started"] for thread in results) == 1
    runs = st2.call("GET", "/executions", params={
        "action": "synthralos.agent_recovery", "timestamp_gt": received.since})
    assert len(runs) == 1
    st2.wait(runs[0]["id"])


def test_a_thousand_alerts_in_one_notification(st2, box, agent):
    with enabled(st2, "webhook_grafana"):
        body = alertmanager(*[alert("%s-%d" % (agent, n), HOSTILE) for n in range(1000)])
        post(st2, "grafana", dict(body, orgId=1, title="x", state="alerting", message=HOSTILE))
        result = received(st2, "alert.receive", 1)[0]
    assert result["started"] == 20 and len(result["alerts"]) == 1000 and result["ticket"]
    for entry in result["alerts"][:20]:
        assert st2.wait(entry["run"])["status"] == "succeeded"


def test_the_platform_s_webhook_starts_one_recovery_for_an_error(st2, box, agent):
    failure = {"id": agent, "agentId": agent, "failureType": "timeout", "query": HOSTILE}
    with enabled(st2, "webhook_platform"):
        for _ in range(2):
            post(st2, "agent-failures", failure)
        results = received(st2, "failure.receive", 2)
    assert sorted(result["outcome"] for result in results) == ["duplicate", "started"]
    run = next(result["run"] for result in results if result["outcome"] == "started")
    assert st2.wait(run)["status"] == "succeeded"


def test_a_failed_execution_of_ours_or_of_a_child_of_ours_starts_nothing(st2, box, agent):
    box.script("platform", [answers(422)], forever=True)
    run, _ = st2.run(
        "agent_recovery", agent_id=agent, failure_type="error", original_query="q"
    )
    for execution in [run] + st2.children(run):
        intake, _ = st2.run("execution.receive", payload={"execution_id": execution["id"]})
        assert intake["result"]["result"]["outcome"] == "own_execution"


def test_a_failed_execution_starts_what_fits(st2, box, agent, configure):
    failed_actions = {"core.local": {"agent_id": agent, "query_from": "cmd"}}
    configure(mode="act", failed_actions=failed_actions)
    body = {"action": "core.local", "parameters": {"cmd": "echo no answer in time >&2; false"}}
    failed = st2.wait(st2.call("POST", "/executions", json=body)["id"])
    intake, _ = st2.run("execution.receive", payload={"execution_id": failed["id"]})
    intake = intake["result"]["result"]
    assert intake["outcome"] == "started", intake
    assert st2.wait(intake["run"])["status"] == "succeeded"
    assert box.calls_to("platform")[0].body["query"].startswith("echo no answer")


def alerted(st2, agent, number=1, **more):
    """The entry of the newest alert of alert.receive, after an alert about the agent."""
    with enabled(st2, "webhook_alertmanager"):
        post(st2, "alertmanager", alertmanager(alert(agent, HOSTILE, **more)))
        results = received(st2, "alert.receive", number)
    [entry] = results[0]["alerts"]
    return entry


def runs_of(st2, action):
    return st2.call("GET", "/executions", params={
        "action": "synthralos." + action, "timestamp_gt": received.since})


def test_in_the_mode_observe_nothing_starts_and_the_report_says_what_would_have(
    st2, box, agent, configure
):
    configure(mode="observe")
    entry = alerted(st2, agent)
    assert (entry["outcome"], entry["would"]["outcome"]) == ("observed", "started")
    assert entry["would"]["plan"] == {"agent_id": agent, "failure_type": "unknown"}
    assert runs_of(st2, "agent_recovery") == [] and box.calls_to("platform") == []
    report, _ = st2.run("report.render", days=1, format="markdown")
    assert "What would have been done" in report["result"]["result"]["body"]


@pytest.mark.parametrize("approved, outcome", [(True, "recovered"), (False, "refused")])
def test_in_the_mode_approve_a_person_decides_whether_a_recovery_starts(
    st2, box, agent, configure, approved, outcome
):
    configure(mode="approve")
    run = alerted(st2, agent)["run"]
    st2.wait(run, "paused")
    approvals = st2.run("approval.list")[0]["result"]["result"]["approvals"]
    [approval] = [approval for approval in approvals if approval["run"] == run]
    assert agent in approval["question"] and "{{" not in approval["question"]
    assert box.calls_to("platform") == []
    st2.run("approval.answer", execution_id=run, approved=approved)
    ended = st2.wait(run)
    assert ended["status"] == "succeeded" and ended["result"]["output"]["outcome"] == outcome
    queries = [call.body["query"] for call in box.calls_to("platform")]
    assert bool(queries) is approved and all(HOSTILE in query for query in queries)


def test_in_the_mode_approve_what_is_not_answered_ends_with_a_ticket(st2, box, agent, configure):
    configure(mode="approve", approval_timeout=1)
    run = alerted(st2, agent)["run"]
    st2.wait(run, "paused")
    let_pass(1.5)
    reaped, _ = st2.run("recovery.reap")
    assert run in [entry["run"] for entry in reaped["result"]["result"]["expired"]]
    ended = st2.wait(run)
    assert ended["status"] == "failed" and ended["result"]["output"]["outcome"] == "not_answered"
    assert ended["result"]["output"]["ticket"] and box.calls_to("platform") == []


def test_up_and_down_by_the_override(st2, box, agent, configure):
    try:
        seen = []
        for number, mode in enumerate(("observe", "act", "observe"), 1):
            st2.run("automation.set_mode", mode=mode)
            seen.append(alerted(st2, "%s-%s" % (agent, number), number))
        assert [entry["outcome"] for entry in seen] == ["observed", "started", "observed"]
        assert st2.wait(seen[1]["run"])["status"] == "succeeded"
    finally:
        st2.run("automation.set_mode", mode="default")
    assert st2.run("automation.get_mode")[0]["result"]["result"]["mode"] == "act"


def start_manual_recovery(st2, agent):
    run = st2.start(
        "handle_error", agent_id=agent, error={"type": "timeout_error"}, strategy="manual"
    )
    st2.wait(run, "paused")
    return run


@pytest.mark.parametrize("approved, status", [(True, "succeeded"), (False, "failed")])
def test_an_approval_is_given_or_refused(st2, box, agent, approved, status):
    run = start_manual_recovery(st2, agent)
    approvals = st2.run("approval.list")[0]["result"]["result"]["approvals"]
    assert run in [approval["run"] for approval in approvals]
    answer, _ = st2.run("approval.answer", execution_id=run, approved=approved)
    assert answer["status"] == "succeeded", answer["result"]
    assert st2.wait(run)["status"] == status


def test_an_approval_that_nobody_gave_is_ended(st2, box, agent, configure):
    run = start_manual_recovery(st2, agent)
    configure(approval_timeout=1)
    let_pass(1.5)
    reaped, _ = st2.run("recovery.reap")
    assert run in [entry["run"] for entry in reaped["result"]["result"]["expired"]]
    ended = st2.wait(run)
    assert ended["status"] == "failed" and ended["result"]["output"]["ticket"]


def test_a_run_that_was_cancelled_is_logged(st2, box, agent):
    run = start_manual_recovery(st2, agent)
    st2.call("DELETE", "/executions/" + run)
    st2.wait(run, "canceled")
    reaped, _ = st2.run("recovery.reap")
    assert run in [entry["run"] for entry in reaped["result"]["result"]["logged"]]


def test_one_recovery_of_an_agent_at_a_time(st2, box, agent):
    parameters = {"agent_id": agent, "failure_type": "error", "original_query": "q"}
    spans = []
    with policy_enabled(st2, "agent_recovery_one_per_agent"):
        runs = [st2.start("agent_recovery", **parameters) for _ in range(3)]
        for run in runs:
            children = st2.children(st2.wait(run))
            spans.append((children[0]["start_timestamp"], children[-1]["end_timestamp"]))
    spans.sort()
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:])), spans
