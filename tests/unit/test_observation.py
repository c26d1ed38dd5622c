"""The mode observe: what would have been done is recorded, and nothing is done."""
import json

import pytest
from fixtures import notifications

from synthralos.automation import (
    admission,
    alert_intake,
    decision,
    failure_intake,
    modes,
    outcomes,
    runbook_explanation,
)
from synthralos.automation.config import AutomationConfig
from synthralos.automation.incident import Incident
from synthralos.config.modes import ACT, OBSERVE
from synthralos.core.timestamps import to_iso
from synthralos.storage import observations, tickets
from synthralos.storage.datastore import DatastoreUnavailable

from .conftest import StartingApi

SINCE = "2023-11-14T22:00:00.000Z"
LATER = "2023-11-14T23:30:00.000Z"
FAILURE = {"type": "error", "cause": "agent_failed", "severity": "high"}
CREWS = [
    {"name": "restart", "action": "acme.restart", "approval": "none"},
    {"name": "on-call", "channels": ["slack"], "zone": "eu"},
]
INFRASTRUCTURE = {
    "allowed_actions": ["acme.restart"], "crews": CREWS,
    "topology": [{"name": "web-1", "zone": "eu", "skills": []}],
}


@pytest.fixture
def api():
    return StartingApi()


@pytest.fixture
def env(make_env, api):
    return make_env(api=api)


def incident(id="alert-1", since=SINCE, subject="bot", **more):
    defaults = dict(
        workflow="agent_recovery", parameters={"agent_id": subject, "failure_type": "error"},
        request={}, failure=FAILURE, summary="it failed",
    )
    return Incident(id=id, since=since, subject=subject, **dict(defaults, **more))


def report(env, *arguments, config=None, **more):
    return admission.admit(env, config or AutomationConfig(), incident(*arguments, **more))


def would(result):
    return result["would"]["outcome"]


def resolve(env, id="alert-1", since=SINCE):
    return admission.resolve_incident(env, id, since, "alertmanager")


def facts(env):
    return [observation for _, observation in observations.iter_since(env.store, 0, 10)]


def test_nothing_is_started_and_what_would_be_is_returned(env, api):
    result = report(env)
    assert result == {
        "outcome": "observed", "mode": "observe", "subject": "bot", "workflow": "agent_recovery",
        "run": None, "ticket": None,
        "would": {
            "outcome": "started", "reason": None, "workflow": "agent_recovery", "runbook": None,
            "plan": {"agent_id": "bot", "failure_type": "error"},
        },
    }
    assert api.started == []


def test_a_repeated_report_of_the_same_incident_is_a_duplicate_however_late(env, clock):
    report(env)
    for _ in range(3):
        clock.forward(3 * decision.HOUR)
        assert report(env)["outcome"] == outcomes.DUPLICATE
    assert [fact.outcome for fact in facts(env)] == ["duplicate"] * 3 + ["started"]


@pytest.mark.parametrize("blocked", [outcomes.NO_QUERY, outcomes.NOT_EVALUATED, outcomes.TRUNCATED])
def test_who_would_be_asked_is_not_asked(env, api, blocked, store):
    result = report(env, blocked=blocked, workflow=None)
    assert (result["outcome"], would(result)) == ("observed", blocked)
    assert result["would"]["reason"] == outcomes.REASONS[blocked] and result["ticket"] is None
    assert tickets.list_tickets(store) == [] and api.fired == []


def test_the_end_of_an_incident_is_recorded_with_its_time(env, clock):
    report(env)
    clock.forward(90)
    assert resolve(env) == {"outcome": outcomes.RESOLVED, "run": None, "ticket": None}
    end = facts(env)[0]
    assert (end.outcome, end.ended, end.seconds) == ("resolved", "started", 90)
    assert (end.workflow, end.subject, end.since) == ("agent_recovery", "bot", SINCE)
    assert resolve(env)["outcome"] == outcomes.NOTHING_OPEN and len(facts(env)) == 2


def test_an_end_that_belongs_to_an_earlier_incident_changes_nothing(env):
    report(env, since=LATER)
    assert resolve(env)["outcome"] == outcomes.NOTHING_OPEN
    assert [fact.outcome for fact in facts(env)] == ["started"]


def test_another_incident_of_a_subject_would_be_covered_until_the_first_is_over(env, clock):
    report(env)
    assert would(report(env, "alert-2")) == outcomes.RUNNING
    clock.forward(60)
    resolve(env)
    assert would(report(env, "alert-2")) == outcomes.STARTED


def test_a_run_lasts_an_hour_at_most_whether_its_incident_is_over_or_not(env, clock):
    report(env)
    clock.forward(decision.HOUR + 1)
    assert would(report(env, "alert-2")) == outcomes.STARTED


def test_requests_that_failed_would_each_be_run_again(env):
    for n in range(3):
        assert would(report(env, "execution-%d" % n, is_state=False)) == outcomes.STARTED
    assert would(report(env, "alert-1")) == outcomes.STARTED
    assert report(env, "execution-0", is_state=False)["outcome"] == outcomes.DUPLICATE


def test_the_hourly_limit_holds_for_what_would_be_started(env, clock):
    config = AutomationConfig(recoveries_per_hour=2)
    decided = [would(report(env, "error-%d" % n, is_state=False, config=config)) for n in range(3)]
    assert decided == ["started", "started", "too_many"]
    clock.forward(decision.HOUR + 1)
    assert would(report(env, "error-9", is_state=False, config=config)) == outcomes.STARTED


def test_what_was_observed_does_not_count_once_it_acts(env, api):
    config = AutomationConfig(recoveries_per_hour=1)
    report(env, "error-1", is_state=False, config=config)
    modes.set_override(env, ACT, None)
    assert report(env, "error-2", is_state=False, config=config)["outcome"] == outcomes.STARTED
    assert report(env, "error-3", is_state=False, config=config)["outcome"] == outcomes.TOO_MANY
    assert len(api.started) == 1


def test_real_starts_count_while_it_observes(env):
    config = AutomationConfig(recoveries_per_hour=1)
    modes.set_override(env, ACT, None)
    report(env, "error-1", is_state=False, config=config)
    modes.set_override(env, OBSERVE, None)
    assert would(report(env, "error-2", is_state=False, config=config)) == outcomes.TOO_MANY


@pytest.mark.parametrize("after, outcome", [(3500, "recurred"), (3700, "started")])
def test_what_comes_back_soon_would_be_left_to_a_person(env, clock, after, outcome):
    report(env)
    clock.forward(60)
    resolve(env)
    clock.forward(after)
    assert would(report(env, since=LATER)) == outcome


def test_going_up_acts_on_what_is_still_open_and_calls_it_no_success_of_its_own(env, api, clock):
    report(env)
    clock.forward(60)
    result = report(env, config=AutomationConfig(mode=ACT))
    assert (result["outcome"], result["mode"]) == ("started", "act") and len(api.started) == 1
    clock.forward(60)
    resolve(env)
    assert [fact.outcome for fact in facts(env)] == ["started"]


def test_going_up_opens_the_ticket_that_was_not_opened(env, store):
    report(env, blocked=outcomes.NO_QUERY)
    result = report(env, blocked=outcomes.NO_QUERY, config=AutomationConfig(mode=ACT))
    assert result["outcome"] == outcomes.NO_QUERY
    assert [ticket["ticket"] for ticket in tickets.list_tickets(store)] == [result["ticket"]]


def test_going_down_starts_nothing_while_what_runs_goes_on(env, api, clock):
    act = AutomationConfig(mode=ACT)
    run = report(env, config=act)["run"]
    result = report(env)
    assert (result["outcome"], result["run"]) == (outcomes.RUNNING, run)
    api.runs[run] = {"status": "failed", "end_timestamp": to_iso(clock())}
    clock.forward(decision.RECHECK_SECONDS)
    assert would(report(env)) == outcomes.STARTED and len(api.started) == 1


def test_going_down_leaves_a_ticket_to_be_resolved_with_its_incident(env, store, clock):
    ticket = report(env, blocked=outcomes.NO_QUERY, config=AutomationConfig(mode=ACT))["ticket"]
    clock.forward(decision.RECHECK_SECONDS)
    assert would(report(env, blocked=outcomes.NO_QUERY)) == outcomes.NO_QUERY
    assert resolve(env)["ticket"] == ticket
    assert tickets.get(store, ticket)["status"] == tickets.RESOLVED


def test_what_could_not_be_recorded_is_an_error(env, datastore):
    datastore.away = ("put",)
    with pytest.raises(DatastoreUnavailable):
        report(env)


def receive(env, body, **automation):
    config = AutomationConfig.from_config(automation)
    succeeded, result = alert_intake.receive(env, config, {"body": body})
    assert succeeded, result
    return result


def alert(labels, starts="2023-11-14T22:00:00Z", **fields):
    return dict({
        "status": "firing", "labels": labels, "annotations": {}, "startsAt": starts,
        "generatorURL": "http://prometheus.example.com/graph",
    }, **fields)


def test_the_crews_that_the_rules_would_choose_are_named_without_asking_an_llm(make_env, api):
    # The planner's provider does not exist: a call to it would be in the result.
    env = make_env(
        {"infrastructure": INFRASTRUCTURE, "planner": {"model": "gpt-4"},
         "providers": [{"name": "openai", "base_url": "http://127.0.0.1:9", "models": ["gpt-4"]}]},
        api=api,
    )
    result = receive(env, {"alerts": [alert({"alertname": "NodeDown", "instance": "web-1"})]})
    [entry] = result["alerts"]
    assert entry["would"]["plan"] == {
        "assignments": [{"node": "web-1", "crew": "on-call", "requires_approval": False}],
        "unassigned": [],
    }
    assert env.client.llm_calls == [] and api.started == [] and result["started"] == 0
    assert facts(env)[0].crews == ("on-call",)


def test_a_plan_that_cannot_be_made_says_why(make_env, api):
    env = make_env({"infrastructure": {"crews": [{"name": "a"}]}}, api=api)
    [entry] = receive(env, {"alerts": [alert({"alertname": "A", "instance": "b"})]})["alerts"]
    assert "infrastructure.crews[0]" in entry["would"]["plan"]["error"]


# What the mode observe may write: what it has observed, and which things are called alike.
OBSERVED_KINDS = {
    "observation", "incident", "observed_start", "firing_alert", "seen_cluster",
}


class NoCalls:
    """In place of the HTTP client: nothing outside is asked or told anything."""

    def __getattr__(self, name):
        raise AssertionError("the client is used: %s" % name)


@pytest.fixture
def quiet_env(make_env, api):
    """An environment that would be able to do anything."""
    env = make_env({
        "infrastructure": dict(
            INFRASTRUCTURE, silence_alerts=True,
            prometheus={"base_url": "http://127.0.0.1:9"},
        ),
        "planner": {"model": "gpt-4"},
        "escalation": {"webhook": {"url": "http://127.0.0.1:9/crews"}},
        "sensors": {"alertmanager": {"url": "http://127.0.0.1:9"}},
    }, api=api)
    env.client = NoCalls()
    return env


def assert_nothing_done(api, datastore):
    assert api.started == [] and api.fired == []
    kinds = {name.split(".")[1] for name in datastore.names()}
    assert kinds <= OBSERVED_KINDS, kinds - OBSERVED_KINDS


@pytest.mark.parametrize("name", notifications.names())
@pytest.mark.parametrize("workflow", ["auto", "agent_recovery", "infrastructure_repair"])
def test_no_notification_has_any_effect(quiet_env, api, datastore, name, workflow):
    body = notifications.load(name)
    for status in ("firing", "resolved", "firing"):
        for alert in body.get("alerts", ()):
            alert["status"] = status
        payload = {"body": body}
        assert alert_intake.receive(quiet_env, AutomationConfig(), payload, workflow)[0]
    assert_nothing_done(api, datastore)


@pytest.mark.parametrize("fields", [
    {"query": "6 x 7?"}, {}, {"agentId": "no name {{"}, {"failureType": "llm_error", "query": "q"},
])
def test_no_failure_of_a_platform_has_any_effect(quiet_env, api, datastore, fields):
    body = dict({"id": "e1", "agentId": "bot", "failureType": "timeout"}, **fields)
    for _ in range(2):
        failure_intake.receive(quiet_env, AutomationConfig(), {"body": body})
    assert_nothing_done(api, datastore)


@pytest.mark.parametrize("parameters", [
    {"model": "gpt-4", "prompt": "q"}, {"agent_id": "bot", "query": "q"},
    {"endpoint": "/v1/x", "body": {}}, {"cmd": "date"}, {"agent_id": "bot", "query": "********"},
])
def test_no_failed_execution_has_any_effect(quiet_env, api, datastore, parameters):
    run = "5f0c000000000000000000aa"
    api.runs[run] = {
        "id": run, "action": {"ref": "acme.ask"}, "parameters": parameters, "status": "failed",
        "result": {"result": {"error": "rate limit reached"}}, "context": {},
        "start_timestamp": SINCE,
    }
    failure_intake.receive_execution(quiet_env, AutomationConfig(), {"execution_id": run})
    assert_nothing_done(api, datastore)


def test_one_workflow_may_act_while_the_others_are_observed(env, api, store):
    agent = alert({"alertname": "A", "agent_id": "bot"}, annotations={"query": "q"})
    node = alert({"alertname": "B", "instance": "web-1"})
    result = receive(env, {"alerts": [agent, node]}, modes={"agent_recovery": "act"})
    assert [entry["outcome"] for entry in result["alerts"]] == ["started", "observed"]
    assert [action for action, _ in api.started] == ["synthralos.agent_recovery"]


def test_alerts_beyond_the_limit_of_a_notification_are_counted_and_open_no_ticket(env, store):
    body = {"alerts": [alert({"alertname": "A", "instance": "n%d" % n}) for n in range(7)]}
    result = receive(env, body, max_runs_per_webhook=3)
    assert [entry["outcome"] for entry in result["alerts"]] == ["observed"] * 3 + ["over_limit"] * 4
    assert result["ticket"] is None and tickets.list_tickets(store) == []
    [fact] = [fact for fact in facts(env) if fact.outcome == outcomes.OVER_LIMIT]
    assert (fact.count, fact.workflow) == (4, "infrastructure_repair")


def test_beyond_the_limit_only_those_of_an_observed_workflow_have_no_ticket(env, store):
    nodes = [alert({"alertname": "A", "instance": "n%d" % n}) for n in range(3)]
    agents = [alert({"alertname": "A", "agent_id": "a%d" % n}) for n in range(3)]
    result = receive(
        env, {"alerts": nodes + agents}, max_runs_per_webhook=1, modes={"agent_recovery": "act"}
    )
    [ticket] = tickets.list_tickets(store)
    assert result["ticket"] == ticket["ticket"] and "3 alerts beyond" in ticket["summary"]


def test_alerts_that_are_no_failures_are_counted(env):
    receive(env, notifications.load("always_firing"))
    receive(env, notifications.load("grafana_test"))
    count = len(notifications.load("always_firing")["alerts"])
    assert sorted(fact.outcome for fact in facts(env)) == ["not_a_failure"] * count + ["test"]
    receive(env, notifications.load("always_firing"), mode="act")
    assert len(facts(env)) == count + 1


@pytest.mark.parametrize("query, would_be", [
    ("What is 6 x 7?", "would start agent_recovery"),
    (None, "would ask a person: there is no query to run again"),
])
def test_a_failure_that_the_platform_reports_is_observed(env, api, store, query, would_be):
    body = {"id": "e1", "agentId": "bot", "failureType": "timeout", "query": query}
    result = failure_intake.receive(env, AutomationConfig(), {"body": body})
    assert result["outcome"] == "observed" and would_be in result["summary"]
    assert api.started == [] and tickets.list_tickets(store) == []


HOSTILE = ["{{ 7 * 7 }}", "<% ctx() %>", "a\u202eb", "../../x", "x" * 5000]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_an_alert_s_text_is_stored(env, datastore, text):
    labels = {"alertname": text, "instance": text, "severity": text}
    result = receive(env, {"alerts": [alert(labels, annotations={"description": text})]})
    assert result["alerts"][0]["outcome"] == "observed"
    stored = [
        value for name, value in datastore.list("synthralos.observation.", 100) +
        datastore.list("synthralos.incident.", 100)
    ]
    assert stored and text not in json.dumps(stored, ensure_ascii=False)


RUNBOOKS = {
    "allowed_actions": ["acme.restart", "acme.clean"],
    "topology": [{"name": "web-1"}],
    "crews": CREWS,
    "runbooks": [
        {
            "name": name, "match": {"alertname": alertname},
            "steps": [
                {"name": "first", "action": action, "approval": "none",
                 "parameters": {"host": {"label": "instance", "host": True}}},
                {"name": "people", "crew": "on-call"},
            ],
        }
        for name, alertname, action in (
            ("node-down", "NodeDown", "acme.restart"), ("disk-full", "DiskFull", "acme.clean"),
        )
    ],
}


@pytest.fixture
def runbook_env(make_env, api):
    return make_env({"infrastructure": RUNBOOKS}, api=api)


def node_alert(name):
    return {"alerts": [alert({"alertname": name, "instance": "web-1"})]}


def test_the_steps_of_a_runbook_are_named_with_the_parameters_of_the_first(runbook_env, api):
    [entry] = receive(runbook_env, node_alert("NodeDown"))["alerts"]
    assert entry["would"]["runbook"] == "node-down"
    plan = entry["would"]["plan"]
    [assignment] = plan["assignments"]
    assert (assignment["step"], assignment["action"]) == ("first", "acme.restart")
    assert assignment["parameters"] == {"host": "web-1"}
    assert [(step["name"], step["action"], step["crew"]) for step in plan["steps"]] == [
        ("first", "acme.restart", None), ("people", None, "on-call"),
    ]
    fact = facts(runbook_env)[0]
    assert (fact.runbook, fact.crews) == ("node-down", ()) and api.started == []


def test_two_runbooks_of_one_node_would_both_be_started_and_each_once(runbook_env):
    seen = [
        receive(runbook_env, node_alert(name))["alerts"][0]
        for name in ("NodeDown", "DiskFull", "DiskFull")
    ]
    assert [would(entry) for entry in seen[:2]] == ["started", "started"]
    assert seen[2]["outcome"] == outcomes.DUPLICATE


def test_one_runbook_may_act_while_everything_else_is_observed(runbook_env, api):
    modes.set_override(runbook_env, ACT, "disk-full")
    seen = [
        receive(runbook_env, node_alert(name))["alerts"][0]["outcome"]
        for name in ("NodeDown", "DiskFull")
    ]
    assert seen == ["observed", "started"] and len(api.started) == 1
    config = AutomationConfig(mode=ACT)
    assert modes.mode_of(runbook_env, config, None, "node-down").mode == ACT


def test_alerts_beyond_the_limit_are_counted_by_their_runbooks(runbook_env, store):
    labels = [{"alertname": "NodeDown", "instance": "web-%d" % n} for n in range(4)]
    modes.set_override(runbook_env, ACT, "disk-full")
    body = {"alerts": [alert(label) for label in labels] + node_alert("DiskFull")["alerts"]}
    result = receive(runbook_env, body, max_runs_per_webhook=1)
    [fact] = [fact for fact in facts(runbook_env) if fact.outcome == outcomes.OVER_LIMIT]
    assert (fact.workflow, fact.runbook, fact.count) == ("infrastructure_repair", "node-down", 3)
    [ticket] = tickets.list_tickets(store)
    assert ticket["ticket"] == result["ticket"] and "1 alert beyond" in ticket["summary"]


def test_an_explanation_of_an_alert_names_the_mode_in_force(runbook_env):
    def mode_of(name):
        explained = runbook_explanation.explain(
            runbook_env, AutomationConfig(), node_alert(name)["alerts"][0], "config"
        )
        return explained["alerts"][0]["mode"]

    modes.set_override(runbook_env, ACT, "disk-full")
    assert [mode_of(name) for name in ("NodeDown", "DiskFull", "Other")] == [
        "observe", "act", "observe",
    ]
    assert mode_of("Watchdog") is None
