"""infrastructure_repair on st2local against the sandbox: detection to the last crew."""
import base64
import json

import pytest
from fixtures.waiting import ENDLESS_SECONDS, PATIENCE_SECONDS, within_some_limit

from sandbox import delay, down, ok, reset, status

PLANNER = "llm:openai/gpt-4o"
STATES = ["begin", "detect_failure_nodes", "estimate_impact", "plan_repairs", "assign_repair_crew",
          "detect_failure_nodes", "finish"]
CRASH = """
from st2common.runners.base_action import Action


class Crashing(Action):
    def run(self, **parameters):
        raise RuntimeError('gone')
"""


def repair(world, **parameters):
    return world.run("infrastructure_repair", **parameters)


def tasks(world, run):
    return [name.replace("repair.", "") for name in world.tasks(run)]


def labels(output):
    return [step["action"] for step in output["step_history"]]


def crews_of(output):
    return {assignment["node"]: assignment["crew"] for assignment in output["assignments"]
            if assignment["status"] == "Assigned"}


def assigns(nodes, crews):
    return json.dumps({"thoughts": "so be it", "action": "assign_repair_crew",
                       "arguments": {"node_ids": nodes, "crew_ids": crews}})


def sent_notices(world):
    return [call.body["payload"]["custom_details"] for call in world.box.calls_to("hook:crews")]


def ticket(world, name):
    execution = world.local.run("synthralos.ticket.get", {"ticket_id": name})
    return execution["result"]["result"]["ticket"]


def test_failed_nodes_get_the_crews_that_fit_them(world):
    run, output = repair(world, nodes=["db-1", "core-switch", "web-2"])
    assert run["status"] == "succeeded" and output["success"]
    assert output["outcome"] == "repairs_assigned" and output["ticket"] is None
    assert tasks(world, run) == STATES
    assert crews_of(output) == {
        "core-switch": "network-team", "db-1": "database-team", "web-2": "on-call"}
    assert output["impact"]["total"] == {
        "criticality": "critical", "population_affected": 5250, "nodes_affected": 5}
    assert {notice["crew"]: notice["nodes"] for notice in sent_notices(world)} == {
        "network-team": ["core-switch"], "database-team": ["db-1"], "on-call": ["web-2"]}
    assert labels(output) == [
        "initialize", "failures_detected", "impact_analyzed", "rules_decision_assign_crew",
        "assignments_succeeded", "repairs_assigned"]


def test_nothing_has_failed(world):
    run, output = repair(world)
    assert run["status"] == "succeeded" and output["outcome"] == "healthy" and output["success"]
    assert tasks(world, run) == ["begin", "detect_failure_nodes", "finish"]
    assert world.box.calls_to("prometheus")[0].query == {"query": "up == 0"}


def test_prometheus_says_which_and_a_cascade_goes_round_again(world):
    later = down(["db-1:9100", "web-1:9100"])
    world.box.script("prometheus", [down(["db-1:9100"]), later, later], forever=True)
    run, output = repair(world, max_steps=20)
    assert run["status"] == "succeeded" and output["outcome"] == "repairs_assigned"
    assert output["failures"] == ["db-1", "web-1"]
    assert labels(output).count("cascading_failures") == 1
    assert [notice["nodes"] for notice in sent_notices(world)] == [["db-1"], ["web-1"]]


def test_an_alert_of_a_rule_s_trigger(world):
    payload = {"source": "alertmanager", "status": "firing", "alertname": "NodeDown",
               "labels": {"instance": "web-1:9100"}, "annotations": {}}
    run = world.local.start(
        "synthralos.infrastructure_repair", {"source": "alert"},
        trigger_instance={"payload": payload}, rule="synthralos.node_down").wait(PATIENCE_SECONDS)
    assert run["status"] == "succeeded"
    assert crews_of(run["result"]["output"]).keys() == {"web-1"}


def test_an_alert_that_has_been_resolved_is_no_failure(world):
    _, output = repair(world, alert={"status": "resolved", "labels": {"node": "web-1"}})
    assert output["outcome"] == "healthy"


@pytest.mark.parametrize("step", [status(500), ok(body="nonsense")], ids=["500", "nonsense"])
def test_when_prometheus_is_away_the_run_fails_and_says_so(world, step):
    world.box.script("prometheus", [step], forever=True)
    run, output = repair(world)
    assert run["status"] == "failed" and output["ticket"] and output["success"] is False
    assert "could not be determined" in output["error"]["reason"] and output["outcome"] == "failed"
    assert tasks(world, run)[-1] == "log_infrastructure_failure"


def test_a_crew_that_cannot_be_told_gives_way_to_another(world):
    world.box.script("hook:crews", [status(400), ok()], forever=True)
    run, output = repair(world, nodes=["web-2"])
    assert run["status"] == "succeeded" and "assignments_failed" in labels(output)
    assert [assignment["status"] for assignment in output["assignments"]] == ["Failed", "Assigned"]
    assert len({assignment["crew"] for assignment in output["assignments"]}) == 2


def test_an_assignment_that_always_fails_ends_with_a_ticket(world):
    world.box.script("hook:crews", [status(400)], forever=True)
    run, output = repair(world, nodes=["db-1"])
    assert run["status"] == "failed" and output["outcome"] == "max_steps_reached"
    assert len(output["step_history"]) == 10 and output["unassigned"] == ["db-1"]
    ticket_view = ticket(world, output["ticket"])
    assert (ticket_view["subject"], ticket_view["severity"], ticket_view["run"]) == (
        "db-1",
        "critical",
        run["id"],
    )
    assert world.local.triggers("synthralos.recovery_failed")[0].payload["subject"] == "db-1"


def test_fifty_nodes(world):
    nodes = ["node-%02d" % n for n in range(50)]
    run, output = repair(world, nodes=nodes)
    assert run["status"] == "succeeded" and sorted(crews_of(output)) == nodes
    assert sum(len(notice["nodes"]) for notice in sent_notices(world)) == 50


def test_beyond_every_crew_s_capacity(world):
    for crew in world.config["infrastructure"]["crews"]:
        crew["capacity"] = 1
    run, output = repair(world, nodes=["a", "b", "c", "d", "e"])
    assert run["status"] == "failed" and output["outcome"] == "repairs_incomplete"
    assert len(crews_of(output)) == 3 and len(output["unassigned"]) == 2 and output["ticket"]


def test_a_dry_run_tells_nobody(world):
    run, output = repair(world, nodes=["db-1"], dry_run=True)
    assert run["status"] == "succeeded" and output["outcome"] == "planned"
    assert output["plan"]["assignments"][0]["crew"] == "database-team"
    assert sent_notices(world) == [] and output["assignments"] == [] and not output["success"]


class TestPlanner:
    @pytest.fixture(autouse=True)
    def _planner(self, world):
        world.config["planner"] = {"model": "gpt-4o"}

    def test_it_looks_things_up_and_decides(self, world):
        look = json.dumps({"thoughts": "who?", "action": "get_available_crews", "arguments": {}})
        world.box.script(PLANNER, [ok(text=look), ok(text=assigns(["web-1"], ["database-team"]))])
        _, output = repair(world, nodes=["web-1"])
        assert output["plan"]["source"] == "llm" and output["plan"]["thoughts"] == "so be it"
        assert crews_of(output) == {"web-1": "database-team"}
        assert labels(output)[3:5] == ["llm_decision_use_tool", "llm_decision_assign_crew"]
        sent = world.box.calls_to(PLANNER)[1].body["messages"][1]["content"]
        assert "network-team" in sent and "conversation_history" in sent

    def test_it_gets_the_evidence_as_data(self, world):
        world.box.script(PLANNER, [ok(text=assigns(["web-1"], ["database-team"]))])
        alert = {
            "status": "firing", "labels": {"alertname": "DiskFull", "instance": "web-1"},
            "annotations": {"runbook_url": "http://wiki/" + HOSTILE[0]},
            "generatorURL": "http://prometheus/graph?g0.expr=disk_free+%3C+0.1",
        }
        run, output = repair(world, source="alert", alert=alert)
        assert run["status"] == "succeeded" and output["plan"]["source"] == "llm"
        sent = world.box.calls_to(PLANNER)[0].body["messages"][1]["content"]
        [evidence] = json.loads(sent.partition("\n")[2])["evidence"]
        assert (evidence["subject"], evidence["expression"]) == ("web-1", "disk_free < 0.1")
        assert evidence["links"]["Runbook"].startswith("http://wiki/")
        assert not any(mark in sent for mark in ("{{", "<%", "{%"))

    @pytest.mark.parametrize("fallback", [True, False])
    def test_nonsense_ends_within_its_bound(self, world, fallback):
        world.config["infrastructure"]["planner"] = {"fallback": fallback}
        world.box.script(PLANNER, [ok(text="I would rather not.")], forever=True)
        run, output = repair(world, nodes=["web-1"], max_retries=2)
        assert len(world.box.calls_to(PLANNER)) == 2
        if fallback:
            assert run["status"] == "succeeded" and output["plan"]["source"] == "rules"
        else:
            assert run["status"] == "failed" and output["outcome"] == "max_retries_reached"
            assert output["retry_count"] == 2 and output["ticket"] and sent_notices(world) == []

    @pytest.mark.parametrize("step", [reset(), status(401)], ids=["reset", "401"])
    def test_when_the_llm_is_down_the_rules_plan(self, world, step):
        world.box.script(PLANNER, [step], forever=True)
        run, output = repair(world, nodes=["web-1"])
        assert run["status"] == "succeeded" and output["plan"]["source"] == "rules"

    def test_a_slow_llm_is_a_planning_failure(self, world):
        world.box.script(PLANNER, [delay(ENDLESS_SECONDS)], forever=True)

        def passes(seconds):
            run, output = repair(world, nodes=["web-1"], timeout=seconds)
            return run["status"] == "succeeded" and output["plan"]["source"] == "rules"

        within_some_limit(12, passes)


def with_action(world, node_parameter="message", **crew):
    robot = {"name": "robot", "action": "core.echo", "node_parameter": node_parameter}
    infrastructure = world.config["infrastructure"]
    infrastructure["crews"] = [dict(robot, **crew)]
    infrastructure["allowed_actions"] = [infrastructure["crews"][0]["action"]]


def actions_run(world, ref):
    return [execution for execution in world.local.executions(top=True, limit=100)
            if execution["action"]["ref"] == ref]


def test_an_action_repairs_by_itself(world):
    with_action(world, approval="none")
    run, output = repair(world, nodes=["web-1", "web-2"])
    assert run["status"] == "succeeded" and output["outcome"] == "repairs_assigned"
    ran = actions_run(world, "core.echo")
    assert sorted(execution["parameters"]["message"] for execution in ran) == ["web-1", "web-2"]
    assert {assignment["execution_id"] for assignment in output["assignments"]} == {
        execution["id"] for execution in ran
    }


def test_an_action_that_fails(world):
    with_action(
        world, action="synthralos.ticket.get", node_parameter="ticket_id", approval="none")
    run, output = repair(world, nodes=["T000000000000"], max_steps=7)
    assert run["status"] == "failed" and output["outcome"] == "max_steps_reached"
    assert {assignment["details"] for assignment in output["assignments"]} == {"it ended as failed"}


def test_an_action_that_is_not_there(world):
    with_action(world, action="acme.restart", approval="none")
    run, output = repair(world, nodes=["web-1"], max_steps=7)
    assert run["status"] == "failed" and output["unassigned"] == ["web-1"] and output["ticket"]
    assert output["assignments"][0]["details"] == "there is no action acme.restart"


@pytest.mark.parametrize("approved", [True, False])
def test_an_action_that_asks(world, approved):
    with_action(world)
    handle = world.local.start("synthralos.infrastructure_repair", {"nodes": ["web-1"]})
    handle.wait_for("paused")
    children = world.local.executions(parent=handle.id)
    assert actions_run(world, "core.echo") == []
    inquiry = [child for child in children if child["status"] == "pending"][0]
    named = [
        child
        for child in children
        if child["action"]["ref"].endswith("assign_repair_crew")
    ][0]
    assert named["result"]["result"]["asking"] == [{"node": "web-1", "crew": "robot"}]
    world.local.respond(inquiry["id"], {"approved": approved})
    run = handle.wait(PATIENCE_SECONDS)
    output = run["result"]["output"]
    assert run["status"] == "succeeded" and output["success"] is approved
    assert output["outcome"] == ("repairs_assigned" if approved else "refused")
    assert len(actions_run(world, "core.echo")) == approved
    assert output["ticket"] is None


HOSTILE = [
    "{{ config_context.platforms[0].token }} {{ st2kv.system.canary }}",
    "<% st2kv('system.canary') %> <% ctx() %>", "<%= erb %> {{.Values.x}} {% raw %}",
    "\U0001f600 \u00fc $x a.b \\ \" '",
]


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


def by_list(world):
    return repair(world, nodes=[encoded(text) for text in HOSTILE])


def by_alert(world):
    alerts = [{"labels": {"node": encoded(text), "x": encoded(text)},
               "annotations": {"summary": encoded(text)}} for text in HOSTILE]
    return repair(world, alert={"alerts": alerts})


def by_query(world):
    world.box.script("prometheus", [down(HOSTILE)], forever=True)
    query = " ".join(HOSTILE)
    execution = repair(world, query=encoded(query))
    assert world.box.calls_to("prometheus")[0].query["query"] == query
    return execution


def by_llm(world):
    world.config["planner"] = {"model": "gpt-4o"}
    decision = json.loads(assigns(HOSTILE, ["on-call"]))
    decision["thoughts"] = " ".join(HOSTILE)
    answers = [dict(decision, action=HOSTILE[0]), dict(decision, arguments={HOSTILE[1]: 1}),
               decision]
    world.box.script(PLANNER, [ok(text=json.dumps(answer)) for answer in answers])
    run, output = repair(world, nodes=[encoded(text) for text in HOSTILE])
    assert output["plan"]["thoughts"] == " ".join(HOSTILE)
    return run, output


@pytest.mark.parametrize("way", [by_list, by_alert, by_query, by_llm])
def test_hostile_text_is_never_evaluated(world, way):
    world.local.keys.set("canary", "canary-in-the-datastore")
    run, output = way(world)
    assert run["status"] == "succeeded", output
    assert sorted(output["failures"]) == sorted(HOSTILE) and len(crews_of(output)) == len(HOSTILE)
    notices = json.dumps(sent_notices(world))
    assert not any(mark in notices for mark in ("{{", "<%", "{%"))
    everything = json.dumps([
        world.local.executions(top=False, limit=100), world.local.keys.list(prefix="synthralos."),
        [firing.payload for firing in world.local.triggers()], [c.body for c in world.box.calls],
    ], default=str)
    for secret in ("canary-in-the-datastore", "sandbox-token", "sandbox-openai-key"):
        assert secret not in everything


@pytest.mark.parametrize("name", ["a\u202eb", "x" * 100_000])
def test_what_names_no_node_is_refused_and_logged(world, name):
    run, output = repair(world, nodes=["web-1", encoded(name)])
    assert run["status"] == "failed" and output["ticket"] and sent_notices(world) == []
    assert output["error"]["field"] == "nodes[1]"


def test_samples_that_name_no_node_do_not_pass_for_health(world):
    world.box.script("prometheus", [down(["web-1", "a\x00b"])], forever=True)
    run, output = repair(world)
    assert run["status"] == "failed" and output["outcome"] == "repairs_incomplete"
    assert crews_of(output).keys() == {"web-1"} and output["ticket"]


@pytest.mark.parametrize("action", [
    "infrastructure_repair_tasks", "detect_failure_nodes", "estimate_impact", "plan_repairs",
    "assign_repair_crew",
])
def test_a_crash_at_any_state_is_logged(world, action):
    world.with_action(action, CRASH)
    run, output = repair(world, nodes=["web-1"])
    assert run["status"] == "failed" and output["success"] is False and output["ticket"]
    assert tasks(world, run)[-1] == "log_infrastructure_failure"
    assert output["outcome"] == "failed" and output["error"]["reason"]


def test_a_crash_of_the_log_task_still_renders_the_output(world):
    world.with_action("log_infrastructure_failure", CRASH)
    world.box.kill("prometheus")
    run, output = repair(world)
    assert run["status"] == "failed" and output["success"] is False


def test_the_switch_stops_what_rules_start(world):
    world.local.keys.set("synthralos.enabled", "false")
    run = world.local.start(
        "synthralos.infrastructure_repair", {"nodes": ["web-1"]},
        trigger_instance={"payload": {}}, rule="synthralos.x").wait(PATIENCE_SECONDS)
    assert run["status"] == "failed"
    assert "switched off" in run["result"]["output"]["error"]["message"]


def test_the_actions_work_alone(world):
    def alone(action, **parameters):
        run = world.local.run("synthralos." + action, parameters)
        return run["status"], run["result"]["result"]

    world.box.script("prometheus", [down(["db-1"])])
    assert alone("detect_failure_nodes")[1]["failures"] == ["db-1"]
    assert alone("estimate_impact", nodes=["db-1"])[1]["impact"]["nodes"][0]["node"] == "db-1"
    assert alone("plan_repairs", nodes=["db-1"])[1]["plan"]["assignments"]
    state, result = alone("assign_repair_crew", node_ids=["db-1", "web-1"], crew_ids=["on-call"])
    assert state == "succeeded" and len(result["assignments"]) == 2
