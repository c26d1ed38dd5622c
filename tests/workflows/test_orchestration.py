"""orchestration.run on st2local against the sandbox's models: the guide's examples, each kind of
step, failure policies, approvals, loops and sub-orchestrations.
"""
import json
import threading

import pytest
from fixtures.waiting import (
    ENDLESS_SECONDS,
    PATIENCE_SECONDS,
    let_pass,
    limit_under_test,
    until,
    within_some_limit,
)
from workflows.orchestrations import (
    CORRECTING,
    PING_PONG,
    RESEARCH,
    SEARCHES,
    TARGET,
    Orchestrated,
    logs,
    statuses,
)

from sandbox import delay, rate_limit, status


@pytest.fixture
def flow(world):
    return Orchestrated(world)


# Example 2 of the guide, as it stands there.
PIPELINE = {
    "name": "Code Generation Pipeline",
    "description": "Plans, generates, and reviews code changes",
    "tags": ["coding", "quality"],
    "steps": [
        {"name": "Plan", "order": 0, "roleName": "Architect",
         "inputMapping": {"task": "{{context.input.userRequest}}"},
         "outputMapping": {"plan": "{{output}}"}},
        {"name": "Generate Code", "order": 1, "roleName": "Coder",
         "inputMapping": {"instructions": "{{context.plan}}"},
         "outputMapping": {"code": "{{output}}"}},
        {"name": "Review", "order": 2, "roleName": "Code Reviewer",
         "inputMapping": {"code": "{{context.code}}", "requirements": "{{context.plan}}"},
         "outputMapping": {"review": "{{output}}"},
         "condition": {"field": "code", "operator": "exists", "value": None}},
    ],
}
REQUEST = {"userRequest": "Create a React component for a login form",
           "requirements": ["validation", "accessibility", "responsive"]}


def test_planner_executor_reviewer(flow):
    flow.answers = {"Architect": "first this, then that", "Coder": "<Login/>",
                    "Code Reviewer": "looks good"}
    flow.define(**PIPELINE)
    run, output = flow.run("Code Generation Pipeline", input=REQUEST)
    assert run["status"] == "succeeded" and output["success"] and output["status"] == "completed"
    assert output["output"] == {
        "plan": "first this, then that", "code": "<Login/>", "review": "looks good"}
    assert [json.loads(prompt) for _, prompt in flow.requests] == [
        {"task": "Create a React component for a login form"},
        {"instructions": "first this, then that"},
        {"code": "<Login/>", "requirements": "first this, then that"},
    ]
    first = output["stepLogs"][0]
    assert first["step_name"] == "Plan" and first["status"] == "completed"
    assert first["step_input"] == {"task": REQUEST["userRequest"]}
    assert first["step_output"] == "first this, then that" and first["attempts"] == 1
    assert first["duration"] > 0 and first["usage"]["total_tokens"] > 0
    assert first["model"] == "openai/gpt-4o"
    assert len(output["checkpoints"]) == 3 and output["ticket"] is None


def test_what_a_run_costs_in_executions(flow):
    flow.define(**PIPELINE)
    run, _ = flow.run("Code Generation Pipeline", input=REQUEST)
    assert flow.world.tasks(run) == ["orchestration.begin"] + ["orchestration.wave"] * 3
    flow.define([{"name": n, "role": "A", "group": "g"} for n in "ab"], name="group")
    run, _ = flow.run("group")
    assert flow.world.tasks(run) == [
        "orchestration.begin", "orchestration.step", "orchestration.step",
        "orchestration.next_wave"]


def test_map_reduce(flow):
    flow.answers = {"Research Assistant": lambda prompt, number: "found by " + prompt,
                    "Synthesizer": "all of it"}
    flow.define(**RESEARCH)
    run, output = flow.run("Multi-Source Research", input={"topic": "WebAssembly performance"})
    assert output["status"] == "completed" and output["output"]["report"] == "all of it"
    sources = json.loads(flow.prompts("Synthesizer")[0])["sources"]
    query = '{\n "query": "WebAssembly performance site:%s"\n}'
    assert sources == {
        "academic": "found by " + query % "arxiv.org",
        "docs": "found by " + query % "developer.mozilla.org",
        "github": "found by " + query % "github.com"}
    assert len(output["checkpoints"]) == 2


def test_steps_of_a_group_run_at_once(flow):
    all_asked = threading.Barrier(3)

    def answer(prompt, number):
        # Once all three have been asked.
        all_asked.wait(PATIENCE_SECONDS)
        return "found"

    flow.answers["Research Assistant"] = answer
    flow.define(**RESEARCH)
    _, output = flow.run("Multi-Source Research", input={"topic": "x"})
    assert output["success"], output["error"]


@pytest.mark.parametrize("passed, last", [(0.5, "completed"), (1.0, "skipped")])
def test_self_correcting_coder(flow, passed, last):
    flow.answers = {"Tester": {"passed": passed, "failures": ["test_login"]}, "Coder": "code"}
    flow.define(**CORRECTING)
    run, output = flow.run("Self-Correcting Coder", text="write it")
    assert output["status"] == "completed"
    assert statuses(output) == {
        "Generate Code": "completed", "Run Tests": "completed", "Fix Failures": last}
    if last == "skipped":
        assert output["stepLogs"][-1] == {
            "step_id": "Fix Failures", "step_name": "Fix Failures", "status": "skipped",
            "reason": "Condition not met"}
    else:
        assert json.loads(flow.prompts("Debugger")[0]) == {
            "code": "code", "failures": ["test_login"]}


def test_a_step_that_fails_at_first_is_tried_again(flow):
    steps = [status(500), status(503)]
    flow.answers["Coder"] = lambda prompt, number: steps.pop(0) if steps else "code"
    flow.define(**dict(CORRECTING, steps=[dict(CORRECTING["steps"][0], retryDelay=0)]))
    run, output = flow.run("Self-Correcting Coder")
    assert output["success"] and output["stepLogs"][0]["attempts"] == 3
    assert output["output"] == {"Generate Code": "code"}


@pytest.mark.parametrize("steps, order", [
    ([{"name": "Plan", "roleName": "Architect"}, {"name": "Execute", "roleName": "Coder"},
      {"name": "Review", "roleName": "Reviewer"}], ["Plan", "Execute", "Review"]),
    ([{"name": "Search A", "parallelGroup": "map"}, {"name": "Search B", "parallelGroup": "map"},
      {"name": "Search C", "parallelGroup": "map"}, {"name": "Synthesize", "order": 3}],
     ["Search A", "Search B", "Search C", "Synthesize"]),
    ([{"name": "Generate Options", "parallelGroup": "generate"},
      {"name": "Generate Options 2", "parallelGroup": "generate"},
      {"name": "Generate Options 3", "parallelGroup": "generate"},
      {"name": "Evaluate", "order": 3}, {"name": "Select Best", "order": 4}],
     ["Generate Options", "Generate Options 2", "Generate Options 3", "Evaluate", "Select Best"]),
], ids=["planner-executor-reviewer", "map-reduce", "tree of thoughts"])
def test_the_guide_s_patterns(flow, steps, order):
    flow.world.config["orchestration"] = {"default_model": "gpt-4o"}
    flow.define(steps)
    run, output = flow.run(text="the task")
    assert output["status"] == "completed", output["error"]
    assert [entry["step_name"] for entry in output["stepLogs"]] == order


def test_ping_pong(flow):
    scores = iter([0.5, 0.6, 0.9])
    flow.answers = {
        "Writer": "draft", "Critic": lambda prompt, number: {"score": next(scores)},
        "Editor": lambda prompt, number: "better %d" % number}
    flow.define(**PING_PONG)
    run, output = flow.run("Ping-Pong")
    assert output["status"] == "completed" and output["output"]["Critic"] == {"score": 0.9}
    assert statuses(output) == dict.fromkeys([
        "Creator", "Critic", "Refine until good[1]/Refine", "Refine until good[1]/Judge",
        "Refine until good[2]/Refine", "Refine until good[2]/Judge", "Refine until good",
    ], "completed")
    assert output["output"]["Refine"] == "better 2"
    assert logs(output)["Refine until good"]["rounds"] == 2


def test_a_loop_is_bounded(flow):
    flow.answers["Critic"] = {"score": 0.1}
    flow.define([{"name": "L", "loop": {
        "steps": [{"name": "c", "role": "Critic"}], "max_rounds": 2,
        "until": {"field": "c.score", "operator": ">", "value": 0.5}}}])
    run, output = flow.run()
    assert run["status"] == "failed" and output["status"] == "failed" and output["ticket"]
    assert output["error"]["message"] == (
        "Step L failed: its condition did not hold after 2 rounds")
    assert len(flow.prompts("Critic")) == 2


def test_a_branch(flow):
    flow.answers["Sorter"] = {"kind": "bug"}
    flow.define([
        {"name": "Sort", "role": "Sorter"},
        {"name": "Handle", "branch": {
            "cases": [{"when": {"field": "Sort.kind", "operator": "==", "value": "feature"},
                       "steps": [{"name": "Design", "role": "Designer"}]},
                      {"when": {"field": "Sort.kind", "operator": "==", "value": "bug"},
                       "steps": [{"name": "Fix", "role": "Fixer"}]}],
            "otherwise": [{"name": "Ask back", "role": "Helper"}]}},
        {"name": "Tell", "role": "Teller", "input": {"what": "{{context.Handle}}"}},
    ])
    flow.answers["Fixer"] = "fixed"
    run, output = flow.run()
    assert list(statuses(output)) == ["Sort", "Handle/Fix", "Handle", "Tell"]
    assert json.loads(flow.prompts("Teller")[0]) == {"what": "fixed"}


def test_a_sub_orchestration(flow):
    flow.answers = {"Inner": lambda prompt, number: "inner of " + prompt, "Outer": "done"}
    flow.define([{"name": "i", "role": "Inner", "input": {"t": "{{context.input.topic}}"}}],
                name="sub", output={"found": "{{context.i}}"})
    flow.define([
        {"name": "s", "orchestration": "sub", "input": {"topic": "{{input.about}}"},
         "output": {"result": "{{output.found}}"}},
        {"name": "o", "role": "Outer", "input": {"r": "{{context.result}}"}},
    ])
    run, output = flow.run(input={"about": "<% 1 + 1 %> {{ x }}"})
    assert output["status"] == "completed", output["error"]
    assert output["output"]["result"] == 'inner of {\n "t": "<% 1 + 1 %> {{ x }}"\n}'
    entry = logs(output)["s"]
    assert entry["step_output"] == {"found": output["output"]["result"]}
    child = flow.status(entry["execution_id"])
    assert child["status"] == "completed" and child["orchestration"] == "sub"
    assert [entry["step_name"] for entry in child["stepLogs"]] == ["i"]
    runs = flow.action("orchestration.list_runs")["runs"]
    assert [row["orchestration"] for row in runs] == ["sub", "flow"]
    assert runs[0]["parent"] == run["id"]


def test_a_sub_orchestration_that_fails_fails_its_step_and_opens_one_ticket(flow):
    flow.answers["Inner"] = status(400)
    flow.define([{"name": "i", "role": "Inner"}], name="sub")
    flow.define([{"name": "s", "orchestration": "sub"}])
    run, output = flow.run()
    assert output["status"] == "failed" and output["error"]["step"] == "s"
    assert "Step s failed: Step i failed" in output["error"]["message"]
    assert len(flow.action("ticket.list")["tickets"]) == 1


def test_an_orchestration_that_runs_itself_is_refused(flow):
    error = flow.refused("orchestration.create", name="flow",
                        steps=[{"name": "s", "orchestration": "flow"}])
    assert "runs itself: flow -> flow" in error["message"]
    flow.define([{"name": "a", "role": "A"}], name="inner")
    flow.define([{"name": "s", "orchestration": "inner"}])
    error = flow.refused("orchestration.update", name="inner",
                        updates={"steps": [{"name": "s", "orchestration": "flow"}]})
    assert "runs itself: inner -> flow -> inner" in error["message"]


def test_orchestrations_nest_five_deep(flow):
    flow.define([{"name": "a", "role": "A"}], name="flow-6")
    for n in range(5, 0, -1):
        flow.define([{"name": "s", "orchestration": "flow-%d" % (n + 1)}], name="flow-%d" % n)
    assert flow.run("flow-2")[1]["status"] == "completed"
    _, output = flow.run("flow-1")
    assert output["status"] == "failed" and "nest at most 5 deep" in output["error"]["message"]
    assert len(flow.requests) == 1


def approval(**more):
    return {"name": "ok", "approval": dict({"question": "Ship {{context.a}}?"}, **more)}


@pytest.fixture
def asking(flow):
    """A run that waits for its approval."""
    flow.answers["A"] = "<% 1 + 1 %> {{ x }}"
    flow.define([{"name": "a", "role": "A"}, approval(), {"name": "b", "role": "B"}])
    handle = flow.start()
    handle.wait_for("paused")
    return handle


def test_an_approval_that_is_given(flow, asking):
    status = flow.status(asking.id)
    assert status["status"] == "waiting"
    assert status["waiting"]["question"] == (
        "ok: Ship < % 1 + 1 % > { { x } }? [template marks were broken]")
    approvals = flow.action("approval.list")["approvals"]
    assert approvals[0]["run"] == asking.id and approvals[0]["until"]
    assert "Ship" in approvals[0]["question"]
    flow.action("approval.answer", execution_id=asking.id, approved=True)
    output = asking.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["status"] == "completed" and logs(output)["ok"]["status"] == "completed"
    assert output["output"]["ok"] == {"approved": True, "answered": True}


def test_an_approval_that_is_refused(flow, asking):
    flow.action("approval.answer", execution_id=asking.id, approved=False)
    run = asking.wait(PATIENCE_SECONDS)
    output = run["result"]["output"]
    # A person said no: nothing went wrong, and nobody has to look.
    assert run["status"] == "succeeded" and output["status"] == "refused"
    assert output["success"] is False and output["ticket"] is None
    assert statuses(output) == {"a": "completed", "ok": "failed", "b": "skipped"}
    assert output["error"]["cause"] == "refused" and flow.prompts("B") == []
    assert flow.status(asking.id)["status"] == "refused"


def test_a_refusal_may_be_part_of_the_flow(flow):
    flow.define([
        dict(approval(), on_failure="continue"),
        {"name": "b", "role": "B", "condition": {
            "field": "ok.approved", "operator": "==", "value": True}},
        {"name": "c", "role": "C", "condition": {
            "field": "ok.approved", "operator": "==", "value": False}},
    ])
    handle = flow.start()
    handle.wait_for("paused")
    flow.action("approval.answer", execution_id=handle.id, approved=False)
    output = handle.wait(PATIENCE_SECONDS)["result"]["output"]
    assert output["status"] == "completed"
    assert statuses(output) == {"ok": "failed", "b": "skipped", "c": "completed"}


def test_an_approval_that_nobody_gives_in_time_is_ended_by_the_reaper(flow):
    flow.define([approval(timeout=limit_under_test(1)), {"name": "b", "role": "B"}])
    handle = flow.start()
    handle.wait_for("paused")
    let_pass(1.1)
    reaped = flow.action("recovery.reap")
    assert [expired["run"] for expired in reaped["expired"]] == [handle.id]
    run = handle.wait(PATIENCE_SECONDS)
    output = run["result"]["output"]
    assert run["status"] == "failed" and output["status"] == "failed" and output["ticket"]
    assert "unanswered within" in output["error"]["message"]


def test_an_approval_within_a_sub_orchestration(flow):
    flow.define([dict(approval(), name="inner ok")], name="sub")
    flow.define([{"name": "s", "orchestration": "sub"}, {"name": "b", "role": "B"}])
    handle = flow.start()
    handle.wait_for("paused")
    waiting = flow.action("approval.list")["approvals"][0]
    assert waiting["run"] != handle.id
    flow.action("approval.answer", execution_id=waiting["run"], approved=True)
    assert handle.wait(PATIENCE_SECONDS)["result"]["output"]["status"] == "completed"


def test_a_run_that_waits_may_be_cancelled(flow, asking):
    flow.action("orchestration.cancel", execution_id=asking.id)
    assert asking.wait(PATIENCE_SECONDS)["status"] == "canceled"
    assert flow.status(asking.id)["status"] == "cancelled"
    error = flow.refused("orchestration.cancel", execution_id=asking.id)
    assert "has already ended" in error["message"]


def test_a_failed_step_ends_the_run(flow):
    flow.answers["B"] = status(400, error="no such thing")
    flow.define([{"name": n, "role": n.upper()} for n in "abc"])
    run, output = flow.run(input={"q": 1})
    assert run["status"] == "failed" and output["status"] == "failed" and output["output"] is None
    assert statuses(output) == {"a": "completed", "b": "failed", "c": "skipped"}
    assert output["error"]["step"] == "b" and "no such thing" in output["error"]["message"]
    assert logs(output)["b"]["attempts"] == 1 and "no such thing" in logs(output)["b"]["error"]
    ticket = flow.action("ticket.get", ticket_id=output["ticket"])["ticket"]
    assert ticket["subject"] == "flow" and ticket["run"] == run["id"]


def test_a_failed_parallel_step_fails_the_run_after_its_wave(flow):
    flow.answers["B"] = status(400)
    steps = [{"name": n, "role": n.upper(), "group": "g"} for n in "abc"]
    flow.define(steps + [{"name": "d", "role": "D"}])
    run, output = flow.run()
    assert output["status"] == "failed" and output["error"]["step"] == "b"
    assert statuses(output) == {
        "a": "completed", "b": "failed", "c": "completed", "d": "skipped"}


def test_a_failed_parallel_step_whose_policy_says_continue(flow):
    flow.answers["B"] = status(400)
    steps = [{"name": n, "role": n.upper(), "group": "g", "on_failure": "continue"} for n in "abc"]
    flow.define(steps + [{"name": "d", "role": "D"},
                         {"name": "e", "role": "E", "depends_on": ["b"]}])
    run, output = flow.run()
    assert run["status"] == "succeeded" and output["status"] == "completed"
    assert statuses(output) == {
        "a": "completed", "b": "failed", "c": "completed", "d": "completed", "e": "skipped"}
    assert logs(output)["e"]["reason"] == "it depends on b, which did not complete"


def test_where_one_step_runs_at_a_time_a_failure_drops_no_other(flow):
    flow.answers["A"] = status(400)
    steps = [{"name": n, "role": n.upper(), "group": "g", "on_failure": "continue"} for n in "abc"]
    flow.define(steps, max_concurrent=1)
    _, output = flow.run()
    assert statuses(output) == {"a": "failed", "b": "completed", "c": "completed"}


def test_no_more_steps_run_at_once_than_may(flow):
    """The orchestration says two, the configuration three: the smaller counts."""
    flow.world.config["orchestration"] = {"max_concurrent": 3}
    at_once, lock = [0, 0], threading.Lock()

    def answer(prompt, number):
        with lock:
            at_once[0] += 1
            at_once[1] = max(at_once)
        until(lambda: at_once[1] >= 2, "two run at once")
        # So that a third one would be seen.
        let_pass(0.5)
        with lock:
            at_once[0] -= 1
        return "done"

    flow.answers["A"] = answer
    flow.define([{"name": n, "role": "A", "group": "g"} for n in "abcdef"], max_concurrent=2)
    _, output = flow.run()
    assert output["status"] == "completed" and at_once == [0, 2]
    assert len(output["checkpoints"]) == 1


def test_a_graph(flow):
    flow.define([
        {"name": "d", "role": "D", "depends_on": ["b", "c"]},
        {"name": "b", "role": "B", "depends_on": ["a"]},
        {"name": "c", "role": "C", "depends_on": ["a"], "priority": 5},
        {"name": "a", "role": "A", "depends_on": []},
    ])
    _, output = flow.run()
    assert [entry["step_name"] for entry in output["stepLogs"]] == ["a", "c", "b", "d"]
    assert len(output["checkpoints"]) == 3


def test_a_model_that_is_away_gives_way_to_its_fallback(flow):
    flow.answers["A"] = rate_limit(retry_after=30)
    flow.define([{"name": "a", "role": "A", "fallback_models": ["claude-3-haiku"]}])
    _, output = flow.run(text="Hello")
    assert output["stepLogs"][0]["model"] == "anthropic/claude-3-haiku"
    assert output["stepLogs"][0]["attempts"] == 1


def test_a_step_has_its_time_for_each_attempt(flow):
    def passes(seconds):
        slow = [delay(ENDLESS_SECONDS)]
        flow.answers["A"] = lambda prompt, number: slow.pop() if slow else "in time"
        name = "flow-%d" % seconds
        flow.define([{"name": "a", "role": "A", "timeout": seconds, "max_retries": 1,
                      "retry_delay": 0}], name=name)
        _, output = flow.run(name)
        return output["success"] and output["stepLogs"][0]["attempts"] == 2

    within_some_limit(1, passes)


def test_a_step_that_is_too_slow_fails(flow):
    flow.answers["A"] = delay(ENDLESS_SECONDS)
    flow.define([{"name": "a", "role": "A", "timeout": limit_under_test(1)}])
    _, output = flow.run()
    assert output["status"] == "failed" and logs(output)["a"]["cause"] == "timeout"


def test_a_run_has_its_time(flow):
    flow.answers["A"] = delay(3)
    flow.define([{"name": n, "role": "A"} for n in "abc"])
    _, output = flow.run(timeout=limit_under_test(7))
    message = output["error"]["message"]
    # Either no further wave could begin, or a step was cut short.
    assert output["status"] == "failed"
    assert "time" in message or "no answer within" in message, message


SCORED = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def test_an_answer_that_does_not_match_its_schema_is_asked_again_with_the_reason(flow):
    flow.answers["A"] = lambda prompt, number: "seven" if number == 1 else '```json\n{"n": 7}\n```'
    flow.define([{"name": "a", "role": "A", "schema": SCORED, "max_retries": 2,
                  "retry_delay": 0}])
    _, output = flow.run()
    assert output["output"] == {"a": {"n": 7}} and output["stepLogs"][0]["attempts"] == 2
    system = flow.world.box.calls_to(TARGET)[0].body["messages"][0]["content"]
    assert '"required": ["n"]' in system
    assert "That does not pass" in flow.prompts("A")[1]


@pytest.mark.parametrize("answer", [
    '<think>maybe {"draft": true}</think>\n{"n": 7}', 'of {"n": 6}</think>```json\n{"n": 7}\n```',
    'Here is the JSON you asked for:\n```json\n{"n": 7}\n```', '```JSON\n{"n": 7}```\nThat is it.',
    '{"n": "7"} is wrong, {"n": 7} is right',
])
def test_with_a_schema_the_answer_is_the_json_in_the_text(flow, answer):
    flow.answers["A"] = answer
    flow.define([{"name": "a", "role": "A", "schema": SCORED}])
    _, output = flow.run()
    assert output["output"] == {"a": {"n": 7}} and output["stepLogs"][0]["attempts"] == 1


@pytest.mark.parametrize("answer, expected", [
    ('<think>well {"x": 1}</think>{"n": "<think>7</think>"}', {"n": "<think>7</think>"}),
    ('```json\n{"n": 7}```', {"n": 7}), ('{"n": 7} and {"n": 8}', '{"n": 7} and {"n": 8}'),
    ('It is {"n": 7}', 'It is {"n": 7}'),
])
def test_without_a_schema_only_an_answer_that_is_json_is_parsed(flow, answer, expected):
    flow.answers["A"] = answer
    flow.define([{"name": "a", "role": "A"}])
    assert flow.run()[1]["output"] == {"a": expected}


def test_a_role_whose_response_format_is_json_gets_the_json_in_the_text(flow):
    flow.answers["A"] = 'It is {"n": 7}'
    flow.role("A", defaults={"response_format": "json_object"})
    flow.define([{"name": "a", "role": "A"}], roles=False)
    assert flow.run()[1]["output"] == {"a": {"n": 7}}


def test_a_critic_may_think_aloud(flow):
    flow.answers["Critic"] = '<think>{"score": 0.1}?</think>I say {"score": 0.9, "feedback": ""}.'
    flow.define([{"name": "a", "role": "A", "critic": {"role": "Critic", "threshold": 0.75}}])
    assert flow.run()[1]["success"]


def test_an_answer_that_never_matches_its_schema_fails(flow):
    flow.answers["A"] = "seven"
    flow.define([{"name": "a", "role": "A", "schema": SCORED, "max_retries": 1,
                  "retry_delay": 0}])
    _, output = flow.run()
    assert output["status"] == "failed" and logs(output)["a"]["cause"] == "schema_mismatch"
    assert logs(output)["a"]["attempts"] == 2


def test_a_critic_has_an_answer_improved(flow):
    flow.answers = {
        "A": lambda prompt, number: "draft %d" % number,
        "Critic": lambda prompt, number: {"score": 0.4 * number, "feedback": "more salt"}}
    flow.define([{"name": "a", "role": "A", "critic": {"role": "Critic", "threshold": 0.75},
                  "max_retries": 3, "retry_delay": 0}])
    _, output = flow.run()
    assert output["output"] == {"a": "draft 2"} and "more salt" in flow.prompts("A")[1]
    assert json.loads(flow.prompts("Critic")[0])["answer"] == "draft 1"
    assert output["stepLogs"][0]["attempts"] == 2


def test_a_critic_is_told_which_scores_there_are(world):
    flow = Orchestrated(world)
    world.box.script(TARGET, [])
    flow.define([{"name": "a", "role": "A", "critic": {"role": "Critic", "threshold": 1}}])
    # The sandbox's models answer with the best that the schema allows which they are given.
    _, output = flow.run()
    assert output["success"] and output["stepLogs"][0]["attempts"] == 1


@pytest.mark.parametrize("answer", ["fine", {"score": "high"}, {"score": 8}, status(400)])
def test_a_critic_without_a_score_fails_the_step(flow, answer):
    flow.answers["Critic"] = answer
    flow.define([{"name": "a", "role": "A", "critic": {"role": "Critic", "threshold": 0.75}}])
    _, output = flow.run()
    assert output["status"] == "failed" and logs(output)["a"]["cause"] == "critic_failed"


def test_a_cached_step_is_asked_once_a_day(flow):
    flow.answers["A"] = lambda prompt, number: "answer %d" % number
    flow.define([{"name": "a", "role": "A", "cache": True}])
    first, second = flow.run(text="same")[1], flow.run(text="same")[1]
    other = flow.run(text="other")[1]
    assert first["output"] == second["output"] == {"a": "answer 1"}
    assert logs(second)["a"]["cached"] and logs(second)["a"]["usage"]["total_tokens"] == 0
    assert other["output"] == {"a": "answer 2"}


def test_context_keys_limit_what_a_step_without_a_mapping_sees(flow):
    flow.define([{"name": "a", "role": "A"}, {"name": "b", "role": "B"},
                 {"name": "c", "role": "C", "context_keys": ["b", "input"]},
                 {"name": "d", "role": "D"}])
    flow.answers = {"A": "1st", "B": "2nd", "C": "3rd"}
    flow.run(input={"q": 1})
    assert json.loads(flow.prompts("C")[0]) == {"b": "2nd", "input": {"q": 1}}
    assert json.loads(flow.prompts("D")[0]) == {
        "a": "1st", "b": "2nd", "c": "3rd", "input": {"q": 1}}


def test_what_a_role_says_is_what_the_model_is_told(flow):
    flow.role("A", tone="dry", domain_knowledge=["salt is white"], criteria="one word",
              defaults={"temperature": 0.2, "max_tokens": 50})
    flow.define([{"name": "a", "role": "A", "input": "{{input}}"}], roles=False)
    flow.run(text="Hello")
    body = flow.world.box.calls_to(TARGET)[0].body
    assert body["messages"][1] == {"role": "user", "content": "Hello"}
    for text in ("A: do your part.", "dry", "- salt is white", "one word"):
        assert text in body["messages"][0]["content"]
    assert body["temperature"] == 0.2 and body["max_tokens"] == 50 and "top_p" not in body


def test_an_action_step(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.local"]}
    flow.answers["A"] = "six"
    flow.define([
        {"name": "a", "role": "A"},
        {"name": "say", "action": "core.local", "parameters": {"cmd": "echo {{context.a}}"},
         "output": {"said": "{{output.stdout}}"}},
    ])
    _, output = flow.run()
    assert output["output"]["said"].strip() == "six"
    entry = logs(output)["say"]
    assert entry["step_input"] == {"cmd": "echo six"} and entry["execution_id"]


def test_what_an_action_step_is_given_is_no_template(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.local"]}
    flow.answers["A"] = "{{ config_context.platforms[0].token }} <% ctx() %>"
    flow.define([
        {"name": "a", "role": "A"},
        {"name": "say", "action": "core.local",
         "parameters": {"cmd": "cat <<'EOF'\n{{context.a}}\nEOF"}},
    ])
    _, output = flow.run()
    entry = logs(output)["say"]
    stdout = entry["step_output"]["stdout"].strip()
    assert stdout == "{ { config_context.platforms[0].token } } < % ctx() % >"
    assert entry["note"] == "template marks were broken by spaces in: cmd"


def test_a_workflow_of_this_pack_is_given_text_as_it_is(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["synthralos.llm_retry"]}
    text = "{{ foo }} <% ctx() %>"
    flow.define([{
        "name": "retry", "action": "synthralos.llm_retry",
        "parameters": {"original_request": {"prompt": "{{input}}", "model": "gpt-4"},
                       "failure_reason": "{{input}}"}}])
    _, output = flow.run(text=encoded(text))
    assert output["status"] == "completed", output["error"]
    messages = flow.world.box.calls_to("llm:openai/gpt-4")[0].body["messages"]
    assert messages[-1]["content"] == text and "were sent encoded" in logs(output)["retry"]["note"]


def encoded(text):
    import base64

    return "base64:" + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("action, why", [
    ("core.local", "is not allowed"), ("core.nothing", "does not exist in this StackStorm"),
])
def test_an_action_that_no_step_may_run(flow, action, why):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.nothing"]}
    error = flow.refused("orchestration.create", name="flow",
                        steps=[{"name": "x", "action": action}])
    assert why in error["message"]


def test_an_action_that_is_no_longer_allowed(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.local"]}
    flow.define([{"name": "x", "action": "core.local", "parameters": {"cmd": "true"}}])
    flow.world.config["orchestration"] = {}
    _, output = flow.run()
    assert output["status"] == "failed" and "is not allowed" in output["error"]["message"]


def test_an_action_step_that_fails_says_why_and_is_tried_again(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.local"]}
    flow.define([{"name": "x", "action": "core.local", "max_retries": 1, "retry_delay": 0,
                  "parameters": {"cmd": "echo it broke >&2; exit 3"}}])
    _, output = flow.run()
    entry = logs(output)["x"]
    assert entry["attempts"] == 2 and "it broke" in entry["error"]


def test_an_action_step_that_takes_too_long_is_cancelled(flow):
    flow.world.config["orchestration"] = {"allowed_actions": ["core.local"]}
    flow.define([{"name": "x", "action": "core.local", "timeout": limit_under_test(2),
                  "parameters": {"cmd": "sleep 3600"}}])
    _, output = flow.run()
    entry = logs(output)["x"]
    assert entry["cause"] == "timeout" and "was cancelled" in entry["error"]
    assert flow.ended(entry["execution_id"])["status"] == "canceled"


def test_a_webhook_is_told_of_the_end(flow):
    flow.world.local.keys.set("synthralos_webhook_done", flow.world.box.url("/hook/done"))
    flow.define([{"name": "a", "role": "A"}], webhook={"url_from": "synthralos_webhook_done"})
    run, output = flow.run(text="x")
    body = flow.world.box.calls_to("hook:done")[0].body
    assert output["webhook"] == "taken" and body["execution_id"] == run["id"]
    assert body["status"] == "completed" and body["output"] == output["output"]


@pytest.mark.parametrize("webhook", [
    {"url": "http://127.0.0.1:9/x"}, {"url_from": "synthralos_webhook_missing"},
])
def test_a_webhook_that_is_away_fails_no_run(flow, webhook):
    flow.define([{"name": "a", "role": "A"}], webhook=webhook)
    run, output = flow.run()
    assert run["status"] == "succeeded" and output["webhook"].startswith("not taken")


def test_a_dry_run_calls_nothing(flow):
    flow.define(**RESEARCH)
    run, output = flow.run("Multi-Source Research", dry_run=True)
    assert run["status"] == "succeeded" and output["status"] == "planned" and not flow.requests
    assert [(entry["step_name"], entry["wave"]) for entry in output["stepLogs"]] == [
        (name, 1) for name, _ in SEARCHES] + [("Synthesize Findings", 2)]
    assert output["stepLogs"][0]["models"] == ["llm:openai/gpt-4o"]
    assert flow.world.tasks(run) == ["orchestration.begin"]


def test_an_output_of_one_s_own(flow):
    flow.answers["A"] = {"x": [1, 2]}
    flow.define([{"name": "a", "role": "A"}], output={"last": "{{context.a.x[1]}}"})
    assert flow.run()[1]["output"] == {"last": 2}


def test_a_large_output_is_kept_and_its_key_told(flow):
    flow.answers["A"] = "x" * 200_000
    flow.define([{"name": "a", "role": "A"}, {"name": "b", "role": "B", "input": {
        "n": "{{context.a}}"}}])
    _, output = flow.run()
    assert output["status"] == "completed" and output["output"] is None and output["output_key"]
    assert "x" * 200_000 in flow.prompts("B")[0]
    entry = logs(output)["a"]
    assert entry["step_output"] is None and entry["step_output_key"]
    assert len(json.dumps(output)) < 300_000


@pytest.mark.parametrize("parameters, field, why", [
    ({"orchestration": "nothing"}, "orchestration", "is not a known orchestration"),
    ({}, "orchestration", "is missing"),
    ({"resume_of": "5f0c000000000000000000aa"}, "resume_of", "is not a run of an orchestration"),
    ({"orchestration": "flow", "text": "x", "input": {"a": 1}}, "text", "combined with input"),
])
def test_a_run_that_cannot_begin_says_why(flow, parameters, field, why):
    flow.define([{"name": "a", "role": "A"}])
    run, output = flow.world.run("orchestration.run", **parameters)
    assert run["status"] == "failed" and output["error"]["field"] == field
    assert why in output["error"]["message"] and output["ticket"]


def test_a_definition_without_a_name_is_told_what_is_missing(flow):
    error = flow.refused("orchestration.create", definition='{"steps": []}')
    assert error["message"].startswith("orchestration.name: is missing. Names are 1 to 128")


def test_an_inactive_orchestration_does_not_run(flow):
    flow.define([{"name": "a", "role": "A"}], active=False)
    _, output = flow.run()
    assert "is not active" in output["error"]["message"]


def test_a_role_that_is_missing_is_told_before_anything_runs(flow):
    flow.define([{"name": "a", "role": "A"}])
    error = flow.refused("role.delete", name="A")
    assert error["message"] == "name 'A': is used by flow. Change these first, or set force."
    flow.action("role.delete", name="A", force=True)
    _, output = flow.run()
    assert "Role not found for step a" in output["error"]["message"] and not flow.requests


def test_runs_are_listed(flow):
    flow.answers["A"] = lambda prompt, number: "x" if number == 1 else status(400)
    flow.define([{"name": "a", "role": "A"}])
    first, second = flow.run()[0], flow.run()[0]
    runs = flow.action("orchestration.list_runs")["runs"]
    assert [(row["execution_id"], row["status"]) for row in runs] == [
        (second["id"], "failed"), (first["id"], "completed")]
    assert len(flow.action("orchestration.list_runs", status="failed")["runs"]) == 1
    assert flow.action("orchestration.list_runs", orchestration="other")["runs"] == []


def test_the_status_of_a_run_on_its_way(flow):
    let_go = threading.Event()
    flow.answers["B"] = lambda prompt, number: let_go.wait(PATIENCE_SECONDS) and "in the end"
    flow.define([{"name": "a", "role": "A"}, {"name": "b", "role": "B"}])
    handle = flow.start()
    until(lambda: flow.prompts("B"), "B is asked")
    run_status = flow.status(handle.id)
    assert run_status["status"] == "running" and run_status["completed_at"] is None
    assert [entry["step_name"] for entry in run_status["stepLogs"]] == ["a"]
    assert len(run_status["checkpoints"]) == 2
    let_go.set()
    handle.wait(PATIENCE_SECONDS)
    run_status = flow.status(handle.id, step_name="b")
    assert run_status["status"] == "completed" and len(run_status["stepLogs"]) == 1


def test_the_status_of_what_is_no_orchestration(flow):
    run = flow.world.local.run("synthralos.approval.list")["id"]
    for name in ("status", "cancel", "resume"):
        error = flow.refused("orchestration." + name, execution_id=run)
        assert "is not a run of an orchestration" in error["message"]
