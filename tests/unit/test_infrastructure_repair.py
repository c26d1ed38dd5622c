"""The state machine: every row of its table, its bounds, and what becomes of each node."""
import json

import pytest
from fixtures.waiting import limit_under_test

from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import unseal
from synthralos.infrastructure import (
    crew_planner,
    detection_state,
    execution_state,
    infrastructure_repair,
    outcome,
    planning_state,
)
from synthralos.recovery import llm_planner
from synthralos.storage import inquiries, tickets

TASKS = {
    "detect": detection_state.detect, "estimate": detection_state.estimate,
    "plan": planning_state.plan, "execute": execution_state.execute,
    "reschedule": detection_state.detect, "final": outcome.finish,
}
MOST_TASKS = 120


class Run:
    """A run of the machine, task by task, as the workflow would have it.

    :ivar results: of the tasks so far; case: as it is now.
    """

    def __init__(self, env, **parameters):
        self.env, self.results = env, []
        self._note(infrastructure_repair.begin(env, parameters, env.now()))

    def _note(self, result):
        self.results.append(result)
        following = result.get("next")
        if following is not None:
            self.case = unseal(following["carry"], self.env.store)
            assert self.case["progress"]["cursor"] == following["cursor"]

    @property
    def last(self):
        return self.results[-1]

    def step(self):
        # The workflow waits before the task.
        self.env.now.forward(self.last["next"]["delay"])
        result = TASKS[self.last["next_task"]](self.env, self.case)
        self._note(result[1] if isinstance(result, tuple) else result)
        return self.last

    def to(self, next_task):
        while self.last["next_task"] != next_task:
            self.step()
            assert len(self.results) < MOST_TASKS
        return self

    def end(self):
        while self.last["next_task"] not in ("done", "failed"):
            self.step()
            assert len(self.results) < MOST_TASKS
        return self.last

    @property
    def labels(self):
        return [step["action"] for step in self.case["step_history"]]


def last_step(run):
    return run.case["step_history"][-1]


def step(before, after, action, data):
    return {"from_state": before, "to_state": after, "action": action, "data": data}


@pytest.fixture
def llm(infra, monkeypatch):
    """llm(answers, **infrastructure): the planner gives these answers, the last one for ever."""

    def start(answers, **infrastructure):
        infra.configure(infrastructure, planner={"model": "gpt-4"})
        prompts = infra.prompts = []
        left = list(answers)

        def call(client, served, request, seconds, run):
            prompts.append(request.messages)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            answer = answer if isinstance(answer, str) else json.dumps(answer)
            return {"response": answer}

        monkeypatch.setattr(llm_planner.llm_calls, "complete", call)
        return infra

    return start


def assigns(nodes, crews):
    arguments = {"node_ids": nodes, "crew_ids": crews}
    return {"thoughts": "so be it", "action": "assign_repair_crew", "arguments": arguments}


def uses(tool, **arguments):
    return {"thoughts": "I look", "action": tool, "arguments": arguments}


class TestTable:
    """Every row of the original's table."""

    def test_initialize(self, infra):
        run = Run(infra.env)
        assert last_step(run) == step("INIT", "FAILURE_DETECTION", "initialize", {})
        assert (run.case["failures"], run.case["plan_history"]) == ([], [])

    def test_no_failures_detected(self, infra):
        run = Run(infra.env)
        run.step()
        assert last_step(run) == step("FAILURE_DETECTION", "FINAL", "no_failures_detected", {})
        result = run.end()
        assert (result["next_task"], result["outcome"], result["success"]) == (
            "done",
            "healthy",
            True,
        )

    def test_failures_detected(self, infra):
        infra.down = [["web", "db"]]
        run = Run(infra.env)
        run.step()
        data = {"failures": ["web", "db"]}
        assert last_step(run) == step(
            "FAILURE_DETECTION", "IMPACT_ANALYSIS", "failures_detected", data)

    def test_impact_analyzed(self, infra):
        run = Run(infra.env, nodes=["web", "db"]).to("plan")
        node_summaries = [
            {"node": "db", "criticality": "high", "population_affected": 5100},
            {"node": "web", "criticality": "low", "population_affected": 5000},
        ]
        assert last_step(run) == step(
            "IMPACT_ANALYSIS",
            "REPAIR_PLANNING",
            "impact_analyzed",
            {"impact_report": node_summaries},
        )

    def test_decision_to_assign(self, llm):
        infra = llm([assigns(["web"], ["west"])])
        run = Run(infra.env, nodes=["web"]).to("execute")
        assert last_step(run) == step(
            "REPAIR_PLANNING", "EXECUTION", "llm_decision_assign_crew",
            {"decision": assigns(["web"], ["west"])})

    def test_decision_to_use_a_tool(self, llm):
        infra = llm([uses("get_crew_location", crew_id="west"), assigns(["web"], ["west"])])
        run = Run(infra.env, nodes=["web"]).to("execute")
        result = {"crew_id": "west", "location": "west"}
        data = {"tool": "get_crew_location", "arguments": {"crew_id": "west"}, "result": result}
        assert run.case["step_history"][-2] == step(
            "REPAIR_PLANNING", "REPAIR_PLANNING", "llm_decision_use_tool", data)
        entry = {"role": "tool_output", "tool": "get_crew_location", "result": result}
        assert run.case["plan_history"] == [entry]

    @pytest.mark.parametrize("answer, message", [
        ("not-a-json", "is not a JSON object"),
        ({"thoughts": "x", "arguments": {}}, "has missing or unknown fields"),
        (uses("no_such_tool"), "no_such_tool"),
        ("", "is not a JSON object"),
    ])
    def test_an_invalid_answer_is_counted_and_a_good_one_resets_the_count(
        self, llm, answer, message
    ):
        infra = llm([answer, answer, assigns(["web"], ["west"])])
        run = Run(infra.env, nodes=["web"]).to("execute")
        assert run.last["planner"]["asked"] == 3 and run.last["planner"]["retry_count"] == 0
        assert run.case["plan"]["source"] == "llm"
        errors = [e["message"] for e in run.case["plan_history"] if e["role"] == "error"]
        assert len(errors) == 2 and message in errors[0]
        assert "REPAIR_PLANNING" not in {
            s["to_state"] for s in run.case["step_history"] if s["from_state"] == "REPAIR_PLANNING"}

    @pytest.mark.parametrize("max_retries", [1, 2, 3])
    def test_max_retries_reached(self, llm, max_retries):
        infra = llm(["not-a-json"], planner={"fallback": False})
        run = Run(infra.env, nodes=["web"], max_retries=max_retries).to("final")
        assert last_step(run)["action"] == "max_retries_reached"
        assert last_step(run)["to_state"] == "FINAL"
        assert last_step(run)["data"]["retry_count"] == max_retries
        result = run.end()
        assert result["outcome"] == "max_retries_reached" and result["retry_count"] == max_retries
        assert result["next_task"] == "failed" and result["ticket"] and infra.notices == []

    def test_assignments_failed(self, infra):
        infra.failing = ["west"]
        run = Run(infra.env, nodes=["web", "db"]).to("execute")
        run.step()
        transition = last_step(run)
        assert (transition["from_state"], transition["to_state"]) == (
            "EXECUTION",
            "REPAIR_PLANNING",
        )
        assert transition["action"] == "assignments_failed" and transition["data"][
            "failed_nodes"
        ] == ["web"]
        details = {"node": "web", "status": "Failed"}
        assert details in transition["data"]["details"]
        assert run.case["failures"] == ["web"]
        entry = run.case["plan_history"][-1]
        assert entry["role"] == "execution_result"
        assert entry["message"] == "Assignment failed for nodes: web"

    def test_assignments_succeeded(self, infra):
        run = Run(infra.env, nodes=["web"]).to("reschedule")
        details = [{"node": "web", "status": "Assigned"}]
        assert last_step(run) == step(
            "EXECUTION", "RESCHEDULING", "assignments_succeeded", {"details": details})

    def test_cascading_failures(self, infra):
        infra.down = [["db"], ["db", "web"]]
        run = Run(infra.env).to("reschedule")
        run.step()
        assert last_step(run) == step(
            "RESCHEDULING", "FAILURE_DETECTION", "cascading_failures", {"new_failures": ["web"]})
        result = run.end()
        assert result["outcome"] == "repairs_assigned"
        assert [assignment["node"] for assignment in result["assignments"]] == ["db", "web"]

    def test_repaired(self, infra):
        infra.down = [["db"], []]
        run = Run(infra.env).to("final")
        assert last_step(run) == step("RESCHEDULING", "FINAL", "repaired", {})
        result = run.end()
        assert result["outcome"] == "repaired" and result["resolved"] == ["db"]

    def test_repairs_assigned(self, infra):
        infra.down = [["db"]]
        run = Run(infra.env).to("final")
        assert last_step(run) == step("RESCHEDULING", "FINAL", "repairs_assigned", {})
        result = run.end()
        assert result["outcome"] == "repairs_assigned" and result["resolved"] == []


def test_several_nodes_end_in_repairs_assigned(infra):
    result = Run(infra.env, nodes=["switch", "db", "web"]).end()
    assert result["step_history"][-1]["action"] == "repairs_assigned"
    assert {assignment["node"]: assignment["crew"] for assignment in result["assignments"]} == {
        "switch": "network", "db": "east", "web": "west"}
    assert result["unassigned"] == [] and result["ticket"] is None and result["error"] is None


def test_fifty_nodes_are_all_assigned(infra):
    nodes = ["node-%02d" % n for n in range(50)]
    result = Run(infra.env, nodes=nodes).end()
    assert (
        result["success"] and
        sorted(assignment["node"] for assignment in result["assignments"]) == nodes
    )
    # One notice for each crew, not one for each node.
    assert len(infra.notices) == 3
    counts = [len(notice["facts"]["nodes"]) for _, notice in infra.notices]
    assert sum(counts) == 50 and max(counts) - min(counts) <= 1


def test_fifty_nodes_by_the_llm_are_all_assigned(llm):
    nodes = ["node-%02d" % n for n in range(50)]
    infra = llm([assigns(nodes, ["east"])])
    result = Run(infra.env, nodes=nodes).end()
    assert len(result["assignments"]) == 50 and result["plan"]["source"] == "llm"


def test_what_the_llm_leaves_out_the_rules_assign(llm):
    infra = llm([assigns(["db"], ["west"])])
    result = Run(infra.env, nodes=["db", "web", "switch"]).end()
    assert {
        assignment["node"]: (assignment["crew"], assignment["source"])
        for assignment in result["plan"]["assignments"]
    } == {"db": ("west", "llm"), "switch": ("network", "rules"), "web": ("west", "rules")}


def test_what_exceeds_every_crew_is_told_and_ticketed(infra):
    infra.configure({"crews": [dict(name="a", channels=["webhook"], capacity=3)]})
    result = Run(infra.env, nodes=["n%d" % n for n in range(5)]).end()
    assert result["next_task"] == "failed" and result["outcome"] == "repairs_incomplete"
    assert len(result["assignments"]) == 3 and len(result["unassigned"]) == 2
    ticket = tickets.get(infra.env.store, result["ticket"])
    assert (
        ticket["workflow"] == "infrastructure_repair" and ticket["subject"] in result["unassigned"]
    )


def test_a_crew_s_load_outlasts_the_run(infra):
    infra.configure({"crews": [dict(name="a", channels=["webhook"], capacity=2)]})
    assert Run(infra.env, nodes=["x", "y"]).end()["success"]
    result = Run(infra.env, nodes=["z"]).end()
    assert (
        result["outcome"] == "max_retries_reached" and
        "no free capacity" in result["error"]["reason"]
    )


def test_without_a_crew_it_is_ticketed(infra):
    infra.configure({"crews": []})
    result = Run(infra.env, nodes=["db"]).end()
    assert result["outcome"] == "max_retries_reached" and result["ticket"]
    assert result["error"]["reason"] == "no crew is configured"


def test_an_assignment_that_always_fails_stops_at_max_steps(infra):
    infra.failing = ["network", "east", "west"]
    run = Run(infra.env, nodes=["db"]).to("final")
    assert run.case["state"] == "EXECUTION" and len(run.case["step_history"]) == 10
    result = run.end()
    assert result["outcome"] == "max_steps_reached" and result["state"] == "EXECUTION"
    assert result["ticket"]


@pytest.mark.parametrize("max_steps", [1, 2, 3, 5, 12])
def test_max_steps_bounds_the_transitions(infra, max_steps):
    infra.failing = ["network", "east", "west"]
    result = Run(infra.env, nodes=["db"], max_steps=max_steps).end()
    assert len(result["step_history"]) == max_steps
    assert result["outcome"] == "max_steps_reached" and not result["success"]


def test_an_endless_cascade_ends(infra):
    infra.down = [["n%d" % n] for n in range(200)]
    result = Run(infra.env, max_steps=100).end()
    assert result["outcome"] == "repairs_assigned" and len(result["step_history"]) == 100


def test_a_cascade_that_max_steps_cuts_short_is_not_dropped(infra):
    infra.down = [["db"], ["db", "web"]]
    result = Run(infra.env, max_steps=6).end()
    assert result["outcome"] == "max_steps_reached" and result["unassigned"] == ["web"]
    assert result["ticket"]


def test_a_node_goes_to_another_crew_when_one_has_failed(infra):
    infra.failing = ["west"]
    result = Run(infra.env, nodes=["web", "db"]).end()
    assert result["success"]
    crews_of = [
        (assignment["node"], assignment["crew"], assignment["status"])
        for assignment in result["assignments"]
    ]
    assert ("web", "west", "Failed") in crews_of
    # What was assigned is not assigned again.
    assert [entry[0] for entry in crews_of if entry[2] == "Assigned"] == ["db", "web"]
    assert ("db", "east", "Assigned") in crews_of


def test_mixed_results_are_told_node_by_node(infra):
    infra.failing = ["east"]
    run = Run(infra.env, nodes=["switch", "db", "web"]).to("execute")
    run.step()
    assert [assignment["status"] for assignment in last_step(run)["data"]["details"]] == [
        "Assigned", "Failed", "Assigned"]


def test_known_failures_are_no_cascade(infra):
    """A run that was told its nodes leaves alone what was down before."""
    infra.down = [["other"], ["other", "db"]]
    result = Run(infra.env, nodes=["db"]).end()
    assert result["outcome"] == "repairs_assigned" and result["failures"] == ["db"]


def test_a_failure_that_is_gone_again_is_no_failure(infra):
    infra.down = [["db"], ["db", "web"], ["db"]]
    run = Run(infra.env)
    result = run.end()
    assert result["success"] and result["resolved"] == ["web"]
    assert [assignment["node"] for assignment in result["assignments"]] == ["db"]
    assert run.labels[-1] == "no_failures_detected"


def test_a_node_that_is_up_again_is_told(infra):
    infra.down = [["db", "web"], ["web"]]
    assert Run(infra.env).end()["resolved"] == ["db"]


def test_when_prometheus_is_away_later_the_assignments_stand(infra):
    infra.down = [["db"], "network", "network"]
    result = Run(infra.env).end()
    assert (result["next_task"], result["outcome"]) == ("done", "repairs_assigned")


def test_when_prometheus_is_away_at_first_the_run_cannot_go_on(infra):
    infra.down = ["bad_request"]
    run = Run(infra.env)
    succeeded, result = detection_state.detect(infra.env, run.case)
    assert not succeeded and result["next"] is None and result["error"]["cause"] == "bad_request"
    logged = outcome.log_failure(infra.env, unseal(result["carry"], infra.env.store), {})
    assert logged["ticket"] and "could not be determined" in logged["error"]["reason"]


def test_when_prometheus_is_configured_no_longer_the_assignments_stand(infra):
    run = Run(infra.env, nodes=["db"]).to("reschedule")
    infra.configure({"prometheus": None})
    run.env = infra.env
    run.step()
    assert last_step(run)["data"] == {"cause": "configuration"}
    assert run.end()["outcome"] == "repairs_assigned" and run.last["success"]


def test_when_prometheus_is_configured_no_longer_before_it_is_asked_the_run_fails(infra):
    run = Run(infra.env, source="query")
    infra.configure({"prometheus": None})
    succeeded, result = detection_state.detect(infra.env, run.case)
    assert not succeeded and result["error"]["cause"] == "configuration"
    assert "infrastructure.prometheus is no longer configured" in result["summary"]


def test_without_prometheus_a_list_is_enough(infra):
    infra.configure({"prometheus": None})
    result = Run(infra.env, nodes=["db"]).end()
    assert result["outcome"] == "repairs_assigned" and infra.queries == []


def test_a_dry_run_assigns_nothing(infra):
    result = Run(infra.env, nodes=["db", "web"], dry_run=True).end()
    assert (result["next_task"], result["outcome"], result["success"]) == ("done", "planned", False)
    assert len(result["plan"]["assignments"]) == 2 and result["assignments"] == []
    assert infra.notices == [] and result["ticket"] is None
    assert infra.env.store.list("synthralos.") == []


def test_the_planner_that_times_out_has_failed_to_plan(llm, clock):
    from synthralos.calls.http import CallError
    from synthralos.core.failures import make_failure

    infra = llm([CallError(make_failure("timeout", "x"))], planner={"fallback": False})
    result = Run(infra.env, nodes=["db"], max_retries=2).end()
    assert result["retry_count"] == 2 and result["outcome"] == "max_retries_reached"
    assert len(infra.prompts) == 2


@pytest.mark.parametrize("cause, question_count", [
    ("timeout", 3), ("network", 3), ("authentication", 1),
])
def test_when_the_llm_is_what_broke_the_rules_plan(llm, cause, question_count):
    from synthralos.calls.http import CallError
    from synthralos.core.failures import make_failure

    infra = llm([CallError(make_failure(cause, "x"))])
    result = Run(infra.env, nodes=["db"]).end()
    assert result["success"] and result["plan"]["source"] == "rules"
    assert len(infra.prompts) == question_count


def test_a_planner_that_only_looks_things_up_ends(llm):
    infra = llm([uses("get_available_crews")], planner={"max_tool_calls": 4})
    run = Run(infra.env, nodes=["db"]).to("execute")
    assert run.case["plan"]["source"] == "rules" and run.last["planner"]["tool_calls"] == 4
    assert run.labels.count("llm_decision_use_tool") == 4
    assert len(infra.prompts) == 4 + 3


def test_tools_are_no_steps_that_count(llm):
    infra = llm([uses("get_available_crews")] * 8 + [assigns(["db"], ["east"])])
    result = Run(infra.env, nodes=["db"], max_steps=6).end()
    assert result["outcome"] == "repairs_assigned"


BAD_DECISIONS = [
    assigns(["nobody"], ["west"]), assigns(["web"], ["nobody"]), assigns([], []),
    assigns(["web", "web"], ["west", "west"]), assigns(["web"], ["west", "east"]),
    assigns("web", "west"), assigns([1], ["west"]), assigns(["switch"], ["east"]),
    dict(assigns(["web"], ["west"]), more=1), dict(assigns(["web"], ["west"]), thoughts=" "),
    dict(assigns(["web"], ["west"]), thoughts=7), dict(assigns(["web"], ["west"]), arguments=[]),
    dict(assigns(["web"], ["west"]), action=None), dict(assigns(["web"], ["west"]), action="env"),
    uses("get_crew_location"), uses("get_crew_location", crew_id="x"),
    uses("get_available_crews", more=1), uses("get_time_of_day", hour=24),
    uses("get_time_of_day", hour=True), uses("is_weekend", date="yesterday"),
    uses("estimate_travel_time", origin="east", destination="moon"),
    uses("estimate_repair_time", node="nobody"), uses("get_weather_at_location", location="east"),
    uses("__class__"), uses("assign"), [], 7, "null", "[]", "{", "[" * 10_000,
]


@pytest.mark.parametrize("answer", BAD_DECISIONS)
def test_a_decision_that_does_not_pass_is_never_carried_out(llm, answer):
    infra = llm([answer])
    run = Run(infra.env, nodes=["web", "switch"]).to("execute")
    assert run.case["plan"]["source"] == "rules" and run.last["planner"]["retry_count"] == 3
    assert "llm_decision_use_tool" not in run.labels


def test_a_crew_that_has_failed_is_not_taken_again_while_there_is_another(llm):
    infra = llm([assigns(["web"], ["west"])])
    infra.failing = ["west"]
    result = Run(infra.env, nodes=["web"]).end()
    assert result["success"]
    assert [assignment["crew"] for assignment in result["assignments"]] == ["west", "east"]


def test_the_prompt_holds_the_newest_entries_of_the_conversation(llm):
    infra = llm([uses("get_time_of_day", hour=n) for n in range(8)] + [assigns(["web"], ["west"])])
    Run(infra.env, nodes=["web"]).to("execute")
    prompts = [messages[1]["content"] for messages in infra.prompts]
    context = json.loads(prompts[-1].split("Context:", 1)[1])
    assert len(context["conversation_history"]) == 5
    assert context["failures"] == ["web"]
    assert context["impact_report"]["nodes"][0]["node"] == "web"
    system = infra.prompts[0][0]["content"]
    assert "Response Format:" in system and "Available Tools:" in system
    assert "get_available_crews() - " in system and "get_weather" not in system


@pytest.mark.parametrize("entries, expected", [(0, 0), (3, 3), (5, 5), (8, 5)])
def test_window(entries, expected):
    history = list(range(entries))
    assert crew_planner.recent_entries(history) == history[entries - expected:]


def test_the_time_is_up(infra, clock):
    run = Run(infra.env, nodes=["db"], timeout=60)
    clock.forward(55)
    result = run.end()
    assert result["outcome"] == "out_of_time" and result["ticket"] and infra.notices == []


@pytest.mark.parametrize("parameters, field", [
    ({}, "infrastructure.prometheus.base_url"), ({"source": "list"}, "nodes"),
    ({"source": "alert"}, "alert"), ({"nodes": ["x"], "max_steps": 0}, "max_steps"),
    ({"nodes": ["x"], "max_retries": 0}, "max_retries"),
    ({"nodes": ["x"], "timeout": limit_under_test(1)}, "timeout"),
    ({"nodes": "x"}, "nodes"), ({"nodes": [""]}, "nodes[0]"), ({"nodes": [7]}, "nodes[0]"),
    ({"nodes": ["a\x00"]}, "nodes[0]"), ({"source": "oracle"}, "source"),
    ({"nodes": ["x"], "query": " "}, "query"), ({"alert": [1]}, "alert"),
    ({"nodes": ["n%d" % n for n in range(201)]}, "nodes"),
])
def test_a_run_that_cannot_begin_is_refused(infra, parameters, field):
    infra.configure({"prometheus": None})
    with pytest.raises(InvalidInput) as refused:
        Run(infra.env, **parameters)
    assert refused.value.field == field


def test_a_task_refuses_a_case_of_another_state(infra):
    run = Run(infra.env, nodes=["db"])
    with pytest.raises(InvalidInput, match="is in state FAILURE_DETECTION"):
        execution_state.execute(infra.env, run.case)


def test_an_alert_of_the_trigger_starts_it(infra):
    payload = {"source": "alertmanager", "status": "firing", "labels": {"instance": "db:9100"}}
    result = infrastructure_repair.begin(infra.env, {}, infra.env.now(), payload)
    case = unseal(result["next"]["carry"], infra.env.store)
    assert case["request"]["source"] == "alert"
    assert detection_state.detect(infra.env, case)["failures"] == ["db"]


class Inquiries:
    """StackStorm's API with an inquiry that has ended, and actions that are run."""

    def __init__(self, response=None, statuses=("succeeded",), actions=("ops.restart",)):
        self.response, self.statuses, self.actions = response, list(statuses), actions
        self.started, self.fired = [], []

    def children(self, execution_id, attributes):
        row = {"id": "1", "action": {"ref": "core.ask"}, "result": {},
               "start_timestamp": "2024-01-01T00:00:00Z"}
        if self.response is not None:
            row["result"] = {"response": self.response}
        return [row]

    def executions(self, attributes, **filters):
        return []

    def action(self, ref):
        return {"ref": ref, "enabled": True} if ref in self.actions else None

    def runner_parameters(self, runner):
        return None

    def start(self, action, parameters):
        self.started.append((action, parameters))
        return "e%d" % len(self.started)

    def wait(self, execution_id, seconds, sleep=None):
        return {"id": execution_id, "status": self.statuses.pop(0)}

    def execution(self, execution_id, attributes):
        return {"id": execution_id, "status": "succeeded"}

    def fire(self, trigger, payload):
        self.fired.append(payload)


RESTART = {"name": "robot", "action": "ops.restart", "node_parameter": "host",
           "parameters": {"hard": True}}


def by_robot(infra, api, **more):
    crews = [dict(RESTART, **more)]
    infra.configure({"crews": crews, "allowed_actions": ["ops.restart"]}, api=api)
    return infra


def test_an_action_that_runs_by_itself(infra):
    api = Inquiries()
    by_robot(infra, api, approval="none")
    result = Run(infra.env, nodes=["db"]).end()
    assert result["success"] and api.started == [("ops.restart", {"hard": True, "host": "db"})]
    assert result["assignments"][0]["execution_id"] == "e1"


def test_an_action_that_fails_has_failed_the_assignment(infra):
    by_robot(infra, Inquiries(statuses=["failed", "timeout", "succeeded"]), approval="none")
    result = Run(infra.env, nodes=["db"]).end()
    assert [assignment["status"] for assignment in result["assignments"]] == [
        "Failed",
        "Failed",
        "Assigned",
    ]


def test_an_action_that_is_not_there_is_not_started(infra):
    api = Inquiries(actions=())
    by_robot(infra, api, approval="none")
    result = Run(infra.env, nodes=["db"]).end()
    assert api.started == [] and result["outcome"] == "max_steps_reached"
    assert result["assignments"][0]["details"] == "there is no action ops.restart"


def test_an_action_that_asks_runs_once_a_person_said_yes(infra, clock):
    api = Inquiries({"approved": True})
    by_robot(infra, api)
    run = Run(infra.env, nodes=["db"]).to("execute")
    question = run.step()
    assert question["next_task"] == "ask" and question["asking"] == [
        {"node": "db", "crew": "robot"}
    ]
    assert api.started == []
    # A person may take longer than the run has.
    clock.forward(5000)
    run.last["next_task"] = "execute"
    result = run.end()
    assert result["success"] and len(api.started) == 1


@pytest.mark.parametrize("change", [
    {"parameters": {"hard": True, "wipe": True}}, {"action": "ops.format"},
    {"node_parameter": "target"},
])
def test_what_has_changed_since_a_person_approved_it_is_asked_again(infra, change):
    api = Inquiries({"approved": True}, actions=("ops.restart", "ops.format"))
    by_robot(infra, api)
    run = Run(infra.env, nodes=["db"]).to("ask")
    crews = [dict(RESTART, **change)]
    infra.configure({"crews": crews, "allowed_actions": ["ops.restart", "ops.format"]}, api=api)
    run.env = infra.env
    run.last["next_task"] = "execute"
    run.to("ask")
    assert api.started == [] and "crews_changed" in run.labels
    run.last["next_task"] = "execute"
    result = run.end()
    assert result["success"] and len(api.started) == 1
    action, parameters = api.started[0]
    assert action == change.get("action", "ops.restart")
    assert parameters == dict(
        change.get("parameters", {"hard": True}), **{change.get("node_parameter", "host"): "db"}
    )


def test_a_question_says_how_many_actions_it_does_not_show(infra):
    api = Inquiries()
    by_robot(infra, api, parameters={"note": "x" * 900})
    names = ["n%d" % n for n in range(9)]
    Run(infra.env, nodes=names).to("ask")
    question = inquiries.get_inquiry(infra.env.store, infra.env.run)["question"]
    count = sum("%s: ops.restart" % name in question for name in names)
    assert 1 < count < 9 and len(question) <= 4000 and not question.endswith("[...]")
    assert question.startswith("9 actions, of which %d are not shown" % (9 - count))


def test_a_refusal_ends_the_run_cleanly(infra):
    api = Inquiries({"approved": False})
    by_robot(infra, api)
    run = Run(infra.env, nodes=["db"]).to("ask")
    run.last["next_task"] = "execute"
    result = run.end()
    assert (result["next_task"], result["outcome"], result["success"]) == ("done", "refused", False)
    assert api.started == [] and result["ticket"] is None and result["unassigned"] == ["db"]
    assert run.labels[-1] == "approval_refused"


@pytest.mark.parametrize("response", [None, {}, {"approved": "yes"}, "yes"])
def test_nobody_s_answer_is_no_consent(infra, response):
    api = Inquiries(response)
    by_robot(infra, api)
    run = Run(infra.env, nodes=["db"]).to("ask")
    run.last["next_task"] = "execute"
    result = run.end()
    assert (
        result["next_task"] == "failed" and result["outcome"] == "not_answered" and result["ticket"]
    )
    assert api.started == []


def test_who_need_not_be_asked_for_is_told_before_a_person_is_asked(infra):
    api = Inquiries({"approved": False})
    crews = [RESTART, {"name": "west", "zone": "west", "channels": ["webhook"]}]
    infra.configure({"crews": crews, "allowed_actions": ["ops.restart"]}, api=api)
    run = Run(infra.env, nodes=["web", "db"]).to("ask")
    assert [notice["subject"] for _, notice in infra.notices] == ["west"]
    run.last["next_task"] = "execute"
    result = run.end()
    assert result["outcome"] == "refused" and result["step_history"][-1]["action"] == (
        "repairs_incomplete")


@pytest.mark.parametrize("approved, notified", [(True, ["west"]), (False, [])])
def test_a_run_may_ask_for_people_and_for_actions_that_need_not_be_asked_for(
    infra, approved, notified
):
    api = Inquiries({"approved": approved})
    crews = [
        dict(RESTART, approval="none"), {"name": "west", "zone": "west", "channels": ["webhook"]},
    ]
    infra.configure({"crews": crews, "allowed_actions": ["ops.restart"]}, api=api)
    run = Run(infra.env, nodes=["web", "db"], approval="required").to("ask")
    assert infra.notices == [] and api.started == []
    assert {entry["crew"] for entry in run.last["asking"]} == {"robot", "west"}
    question = inquiries.get_inquiry(infra.env.store, infra.env.run)["question"]
    assert "web: west is notified" in question and "db: ops.restart (robot)" in question
    run.last["next_task"] = "execute"
    result = run.end()
    assert [notice["subject"] for _, notice in infra.notices] == notified
    assert len(api.started) == approved and result["ticket"] is None


def test_a_hostile_name_reaches_no_action(infra):
    api = Inquiries()
    by_robot(infra, api, approval="none")
    result = Run(infra.env, nodes=["{{ st2kv.system.x }}", "db"]).end()
    assert [parameters["host"] for _, parameters in api.started] == ["db"]
    assert result["unassigned"] == ["{{ st2kv.system.x }}"] and result["ticket"]


def test_a_notice_holds_no_template(infra):
    hostile = "<% st2kv('x') %> {{ y }}"
    result = Run(infra.env, nodes=[hostile]).end()
    assert result["failures"] == [hostile]
    out = json.dumps([notice for _, notice in infra.notices])
    assert "{{" not in out and "<%" not in out


def test_the_record_of_a_run_that_left_nothing(infra):
    result = outcome.log_failure(infra.env, None, {"nodes": ["db"]})
    assert result["ticket"] and result["outcome"] == "failed"
    assert tickets.get(infra.env.store, result["ticket"])["subject"] == "db"
    refused = {"refused": {"cause": "refused", "message": "no", "field": "nodes"}}
    result = outcome.log_failure(infra.env, refused, {"nodes": ["{{ x }}"]})
    assert tickets.get(infra.env.store, result["ticket"])["subject"] == "infrastructure"
