"""004, the orchestration guide: each of its calls as `st2 run` of the action that it names.

What maps them is CALLS and one rule: create_* passes its object as it is, in `definition`; every
other argument is the parameter of that name in snake_case (orchestrationId: orchestration_id).
"""
import base64
import json
import re

import pytest
from fixtures.waiting import until
from seed_documents import block, covers, text_of
from typescript import Script
from workflows.conftest import world  # noqa: F401
from workflows.orchestrations import TARGET, Orchestrated, at_the_door, logs, statuses

from sandbox import delay, ok, status
from synthralos.orchestration import definition_tools

CALLS = {
    "create_role": "role.create",
    "list_roles": "role.list",
    "create_orchestration": "orchestration.create",
    "list_orchestrations": "orchestration.list",
    "get_orchestration": "orchestration.get",
    "update_orchestration": "orchestration.update",
    "delete_orchestration": "orchestration.delete",
    "execute_orchestration": "orchestration.run",
    "get_execution_status": "orchestration.status",
    "trpc.role.create.mutate": "role.create",
    "trpc.orchestrationManagement.execute.mutate": "orchestration.run",
    "trpc.orchestrationManagement.getExecutionStatus.query": "orchestration.status",
}
# What a result holds is its role, its orchestrations ...; a status is the result itself.
NOUNS = {
    "role.create": "role", "role.list": "roles", "orchestration.create": "orchestration",
    "orchestration.list": "orchestrations", "orchestration.get": "orchestration",
    "orchestration.update": "orchestration", "orchestration.delete": "orchestration",
}
PATIENCE_SECONDS = 90


def snake(name):
    return re.sub(r"([A-Z])", lambda match: "_" + match.group(1).lower(), name)


def parameters_of(ref, argument):
    """The parameters of `st2 run` that say the argument of a call."""
    if ref.endswith(".create"):
        encoded = base64.b64encode(json.dumps(argument).encode()).decode()
        return {"definition": "base64:" + encoded}
    return at_the_door({snake(name): value for name, value in argument.items()})


class Guide(Orchestrated):
    """Runs the guide's blocks on a World.

    :ivar calls: [(name, argument)] of the blocks, in order.
    :ivar handles: {execution id: what st2local knows of the run}.
    """

    def __init__(self, pack_world):
        super().__init__(pack_world)
        self.calls, self.handles = [], {}

    def run_block(self, line, **names):
        """What the block of that line printed."""
        open_texts = {"clf...": names.get("orchestration"), "...": names.get("execution")}
        return Script(block("004", line).text).run(self.call, open_texts)

    def call(self, name, argument):
        self.calls.append((name, argument))
        ref = CALLS[name[len("system."):] if name.startswith("system.") else name]
        parameters = parameters_of(ref, argument)
        if ref == "orchestration.run":
            # As the guide has it: execute returns at once, and its status is asked for.
            handle = self.world.local.start("synthralos." + ref, parameters)
            self.handles[handle.id] = handle
            until(lambda: self._has_begun(handle), "it has begun", PATIENCE_SECONDS)
            return {"id": handle.id}
        result = self.action(ref, **parameters)
        return result[NOUNS[ref]] if ref in NOUNS else result

    def _has_begun(self, handle):
        tasks = self.world.local.executions(parent=handle.id)
        return any(task["status"] == "succeeded" for task in tasks)

    def roles(self, *names):
        for name in names:
            self.role(name)

    def orchestration(self, name):
        return self.action("orchestration.get", name_or_id=name)["orchestration"]

    def finish(self, execution_id):
        self.handles[execution_id].wait(PATIENCE_SECONDS)
        return self.status(execution_id)


@pytest.fixture
def guide(world):  # noqa: F811
    return Guide(world)


# The calls.


@covers("004", 27)
def test_004_27_granting_meta_tool_access(guide):
    guide.run_block(27)
    role = guide.action("role.get", name="Orchestration Designer")["role"]
    assert role["base_prompt"] == "You are an AI that designs multi-agent workflows"
    assert role["tools"] == ["meta"] and role["needs"]["tools"] is True


@covers("004", 43)
def test_004_43_creating_a_role(guide):
    printed, = guide.run_block(43)
    role = guide.action("role.get", name="Code Reviewer")["role"]
    assert printed == role and role["id"]
    assert role["base_prompt"].splitlines()[1] == "- Security vulnerabilities"
    needs = {name for name, needed in role["needs"].items() if needed}
    assert needs == {"coding", "reasoning"}
    assert (role["min_context"], role["max_context"]) == (8000, 128000)
    assert (role["defaults"]["temperature"], role["defaults"]["max_tokens"]) == (0.3, 4000)


PIPELINE_ROLES = ("Architect", "Coder", "Code Reviewer")


@covers("004", 72)
def test_004_72_creating_an_orchestration(guide):
    guide.roles(*PIPELINE_ROLES)
    printed, = guide.run_block(72)
    assert printed == guide.orchestration("Code Generation Pipeline") and printed["id"]
    assert printed["tags"] == ["coding", "quality"] and printed["active"] is True
    assert [(step["name"], step["order"], step["role"]) for step in printed["steps"]] == [
        ("Plan", 0, "Architect"), ("Generate Code", 1, "Coder"), ("Review", 2, "Code Reviewer")]
    _, output = guide.run("Code Generation Pipeline", input={"userRequest": "a login form"})
    assert output["output"]["plan"].startswith("Architect: ")
    # Each step got what its inputMapping says, and wrote what its outputMapping does.
    assert json.loads(guide.prompts("Architect")[0]) == {"task": "a login form"}
    assert json.loads(guide.prompts("Coder")[0]) == {"instructions": output["output"]["plan"]}
    assert json.loads(guide.prompts("Code Reviewer")[0]) == {
        "code": output["output"]["code"], "requirements": output["output"]["plan"]}
    assert set(output["output"]) == {"plan", "code", "review"}


@covers("004", 126)
def test_004_126_parallel_execution(guide):
    guide.roles("Research Assistant", "Synthesizer")
    guide.answers["Research Assistant"] = lambda prompt, number: delay(1.0)
    guide.answers["Synthesizer"] = "the report"
    guide.run_block(126)
    _, output = guide.run("Multi-Source Research", input={"topic": "WebAssembly"})
    assert output["status"] == "completed" and output["output"]["report"] == "the report"
    started = sorted(call.time for call in guide.world.box.calls_to(TARGET))
    # The three answer after a second each: at once, they begin within it.
    assert started[2] - started[0] < 1.0 <= started[3] - started[2] + 0.5
    queries = sorted(json.loads(prompt)["query"] for prompt in guide.prompts("Research Assistant"))
    assert queries == ["WebAssembly site:" + site for site in (
        "arxiv.org", "developer.mozilla.org", "github.com")]
    sources = json.loads(guide.prompts("Synthesizer")[0])["sources"]
    assert sources == {
        "academic": output["output"]["Search Academic Papers"],
        "docs": output["output"]["Search Technical Docs"],
        "github": output["output"]["Search GitHub"]}


@pytest.mark.parametrize("passed, last", [(0.5, "completed"), (1.0, "skipped")])
@covers("004", 183)
def test_004_183_conditional_logic_and_retries(guide, passed, last):
    guide.roles("Coder", "Tester", "Debugger")
    guide.answers = {
        "Coder": lambda prompt, number: status(500) if number == 1 else "the code",
        "Tester": {"passed": passed, "failures": ["test_login"]}}
    guide.run_block(183)
    step = guide.orchestration("Self-Correcting Coder")["steps"][0]
    # Milliseconds there, seconds in the pack.
    assert (step["max_retries"], step["retry_delay"], step["timeout"]) == (2, 1, 60)
    _, output = guide.run("Self-Correcting Coder", text="a login form")
    assert output["status"] == "completed" and statuses(output)["Fix Failures"] == last
    assert logs(output)["Generate Code"]["attempts"] == 2
    if last == "completed":
        assert json.loads(guide.prompts("Debugger")[0]) == {
            "code": "the code", "failures": ["test_login"]}


@covers("004", 231)
def test_004_231_executing_via_agent_code(guide):
    guide.roles(*PIPELINE_ROLES)
    guide.run_block(72)
    identifier = guide.orchestration("Code Generation Pipeline")["id"]
    printed, = guide.run_block(231, orchestration=identifier)
    execution_id, = guide.handles
    assert guide.calls[-1] == ("get_execution_status", {"executionId": execution_id})
    assert printed["execution_id"] == execution_id and printed["status"] == "running"
    after = guide.finish(execution_id)
    assert after["status"] == "completed" and after["error"] is None
    assert [entry["step_name"] for entry in after["stepLogs"]] == [
        "Plan", "Generate Code", "Review"]
    assert "login form" in guide.prompts("Architect")[0]


@covers("004", 251)
def test_004_251_executing_via_trpc(guide):
    guide.roles("Research Assistant", "Synthesizer")
    guide.run_block(126)
    identifier = guide.orchestration("Multi-Source Research")["id"]
    guide.run_block(251, orchestration=identifier)
    execution_id, = guide.handles
    after = guide.finish(execution_id)
    assert after["status"] == "completed" and len(after["stepLogs"]) == 4
    assert "WebAssembly performance" in guide.prompts("Research Assistant")[0]


@covers("004", 339)
def test_004_339_listing_and_managing(guide):
    guide.roles(*PIPELINE_ROLES)
    guide.run_block(72)
    identifier = guide.orchestration("Code Generation Pipeline")["id"]
    guide.define([{"name": "a", "role": "Coder"}], name="Other", roles=False, tags=["research"])
    guide.define([{"name": "a", "role": "Coder"}], name="Off", roles=False, tags=["coding"],
                 isActive=False)
    results, changed = [], None

    def call(name, argument):
        nonlocal changed
        results.append(guide.call(name, argument))
        if name == "update_orchestration":
            changed = guide.orchestration(identifier)
        return results[-1]

    Script(block("004", 339).text).run(call, {"clf...": identifier})
    every, coding, details, _, deleted = results
    assert {row["name"] for row in every} == {"Code Generation Pipeline", "Other", "Off"}
    assert [row["name"] for row in coding] == ["Code Generation Pipeline"]
    assert details["id"] == identifier and len(details["steps"]) == 3
    assert changed["active"] is False and changed["tags"] == ["coding", "deprecated"]
    assert deleted["id"] == identifier
    error = guide.refused("orchestration.get", name_or_id=identifier)
    assert error["field"] == "name" and identifier in error["message"]


@covers("004", 390)
def test_004_390_execution_failed(guide):
    guide.answers["B"] = status(400)
    guide.define([{"name": name, "role": name.upper()} for name in "abc"])
    run, output = guide.run()
    error, step_logs = guide.run_block(390, execution=run["id"])
    assert error["step"] == "b" and error["message"].startswith("Step b failed: ")
    assert [entry["status"] for entry in step_logs] == ["completed", "failed", "skipped"]
    assert step_logs[1]["step_name"] == "b" and step_logs[1]["error"]
    # The run itself ends with the same.
    assert output["stepLogs"] == step_logs and output["error"]["message"] == error["message"]


@covers("004", 411)
def test_004_411_role_not_found(guide):
    guide.roles("Architect", "Coder")
    printed, = guide.run_block(411)
    assert {role["name"] for role in printed} == {"Architect", "Coder"}
    definition = {"name": "f", "steps": [{"name": "a", "roleName": "Nobody"}]}
    error = guide.refused("orchestration.create", **parameters_of("x.create", definition))
    assert "Nobody" in error["message"]


# The patterns and the step that stand there as literals.


def pattern(line):
    return Script(block("004", line).text).run()


def create(guide, line, *roles):
    """Creates the orchestration of a pattern as it stands, on the model of the configuration."""
    guide.world.config["orchestration"] = {"default_model": "gpt-4o"}
    guide.roles(*roles)
    definition = dict(pattern(line), name="pattern")
    return guide.action("orchestration.create", **parameters_of("x.create", definition))


def waves(output):
    """The names of the steps, wave by wave, of a dry run's output."""
    numbers = sorted({entry["wave"] for entry in output["stepLogs"]})
    return [[entry["step_name"] for entry in output["stepLogs"] if entry["wave"] == number]
            for number in numbers]


@covers("004", 279)
def test_004_279_planner_executor_reviewer(guide):
    create(guide, 279, "Architect", "Coder", "Reviewer")
    _, output = guide.run("pattern", text="the task")
    assert output["status"] == "completed"
    assert [role for role, _ in guide.requests] == ["Architect", "Coder", "Reviewer"]


@covers("004", 291)
def test_004_291_map_reduce(guide):
    create(guide, 291)
    assert waves(guide.run("pattern", dry_run=True)[1]) == [
        ["Search A", "Search B", "Search C"], ["Synthesize"]]
    _, output = guide.run("pattern", text="the task")
    assert set(statuses(output).values()) == {"completed"} and len(output["stepLogs"]) == 4


@covers("004", 304)
def test_004_304_tree_of_thoughts(guide):
    create(guide, 304)
    assert waves(guide.run("pattern", dry_run=True)[1]) == [
        ["Generate Options", "Generate Options 2", "Generate Options 3"], ["Evaluate"],
        ["Select Best"]]
    _, output = guide.run("pattern", text="the task")
    assert set(statuses(output).values()) == {"completed"} and len(output["stepLogs"]) == 5


@pytest.mark.parametrize("score, refine", [(0.5, "completed"), (0.8, "skipped")])
@covers("004", 318)
def test_004_318_ping_pong(guide, score, refine):
    create(guide, 318)
    answers = [ok(text="draft"), ok(text=json.dumps({"score": score})), status(500), status(503),
               ok(text="better")]
    guide.world.box.script(TARGET, answers, forever=True)
    steps = guide.orchestration("pattern")["steps"]
    assert steps[2]["max_retries"] == 5
    _, output = guide.run("pattern", text="the task")
    assert output["status"] == "completed" and statuses(output)["Refine"] == refine
    if refine == "completed":
        assert logs(output)["Refine"]["attempts"] == 3 and output["output"]["Refine"] == "better"


@covers("004", 400)
def test_004_400_step_timeout(guide):
    guide.roles("Coder")
    definition = {"name": "f", "steps": [dict(pattern(400), roleName="Coder")]}
    guide.action("orchestration.create", **parameters_of("x.create", definition))
    step, = guide.orchestration("f")["steps"]
    assert step["name"] == "Long Running Task" and step["timeout"] == 600


# What the text promises beside its blocks.


def test_004_19_flow_types(guide):
    """Sequential, parallel, conditional and loop are step types, by these names."""
    guide.roles("A")
    condition = {"field": "one", "operator": "exists", "value": None}
    guide.define(roles=False, steps=[
        {"name": "one", "roleName": "A", "stepType": "sequential"},
        {"name": "two", "roleName": "A", "stepType": "parallel"},
        {"name": "three", "roleName": "A", "stepType": "parallel"},
        {"name": "four", "roleName": "A", "stepType": "conditional", "condition": condition},
        {"name": "five", "stepType": "loop", "loop": {
            "steps": [{"name": "again", "roleName": "A"}], "max_rounds": 2,
            "until": {"field": "again", "operator": "exists", "value": None}}}])
    _, output = guide.run()
    assert output["status"] == "completed" and len(guide.requests) == 5


def test_004_266_template_variables(guide):
    guide.roles("A", "B")
    guide.answers = {"A": {"tasks": ["first", "second"]}, "B": "done"}
    guide.define(roles=False, steps=[
        {"name": "stepName", "roleName": "A", "inputMapping": {
            "query": "{{context.input.userQuery}}"}, "outputMapping": {"plan": "{{output}}"}},
        {"name": "second", "roleName": "B", "inputMapping": {
            "task": "{{context.plan.tasks[0]}}", "all": "{{context.plan}}"}},
        {"name": "third", "roleName": "B", "inputMapping": {"before": "{{context.second}}"}}])
    guide.run(input={"userQuery": "why?"})
    assert json.loads(guide.prompts("A")[0]) == {"query": "why?"}
    assert json.loads(guide.prompts("B")[0]) == {
        "task": "first", "all": {"tasks": ["first", "second"]}}
    assert json.loads(guide.prompts("B")[1]) == {"before": "done"}


def test_004_380_the_default_timeout_is_five_minutes(guide):
    guide.roles("A")
    guide.define([{"name": "a", "roleName": "A"}], roles=False)
    assert guide.orchestration("flow")["steps"][0]["timeout"] == 5 * 60


@pytest.mark.parametrize("ref, parameters", [
    ("role.create", {"name": "R", "base_prompt": "x"}),
    ("role.update", {"name": "Plain", "updates": {"tone": "dry"}}),
    ("role.delete", {"name": "Plain"}),
    ("orchestration.create", {"name": "O", "steps": [{"name": "a", "role": "Plain"}]}),
    ("orchestration.update", {"orchestration_id": "flow", "updates": {"isActive": False}}),
    ("orchestration.delete", {"orchestration_id": "flow"}),
])
def test_004_371_only_roles_with_the_meta_tool_change_definitions(guide, ref, parameters):
    guide.define([{"name": "a", "role": "Plain"}])
    guide.role("Designer", tools=["meta"])
    user = guide.world.local.run("synthralos.role.list")["context"]["user"]
    guide.world.close()
    guide.world._local = None
    guide.world.config["orchestration"] = {"user_roles": {user: "Plain"}}
    error = guide.refused(ref, **parameters)
    assert "meta" in error["message"] and guide.action("role.list")["roles"]
    guide.world.close()
    guide.world._local = None
    guide.world.config["orchestration"] = {"user_roles": {user: "Designer"}}
    force = {"force": True} if ref == "role.delete" else {}
    guide.action(ref, **dict(parameters, **force))


def test_004_5_agents_make_the_same_calls(guide):
    """A step whose role has the tool `meta` answers with the guide's calls, to the letter."""
    guide.roles("Architect", "Coder", "Research Assistant", "Synthesizer")
    guide.role("Designer", tools=["meta"])
    guide.answers["Designer"] = lambda prompt, number: {"calls": [
        {"tool": name, "arguments": argument} for name, argument in calls]}
    guide.define([{"name": "design", "role": "Designer"}], name="design", roles=False)
    calls = []

    def note(name, argument):
        calls.append((name.replace("system.", ""), argument))
        return {"id": "x", "error": None, "stepLogs": []}

    for line in (43, 72, 126):
        Script(block("004", line).text).run(note)
    _, output = guide.run("design")
    assert output["status"] == "completed", output["error"]
    created = output["output"]["design"]["calls"]
    assert [entry["tool"] for entry in created] == [name for name, _ in calls]
    identifier = created[1]["result"]["id"]
    calls.clear()
    names = {"clf...": identifier}
    Script(block("004", 231).text).run(note, names)
    calls.pop()
    calls.append(("list_roles", {}))
    _, output = guide.run("design")
    started = output["output"]["design"]["calls"][0]["result"]["id"]
    assert guide.ended(started)["status"] == "succeeded", guide.status(started)["error"]
    calls.clear()
    Script(block("004", 390).text).run(note, {"...": started})
    Script(block("004", 339).text).run(note, {"clf...": identifier})
    _, output = guide.run("design")
    assert output["status"] == "completed", output["error"]
    results = [entry["result"] for entry in output["output"]["design"]["calls"]]
    assert results[0]["error"] is None and len(results[0]["stepLogs"]) == 3
    assert "is not a known orchestration" in guide.refused(
        "orchestration.get", name_or_id=identifier)["message"]


def test_004_every_call_of_the_guide_is_mapped_and_may_be_made_by_agents():
    names = set(re.findall(r"await ([\w.]+)\(", text_of("004")))
    assert names and {name.replace("system.", "") for name in names} <= set(CALLS)
    plain = {name for name in CALLS if "." not in name}
    assert plain <= set(definition_tools._TOOLS)


def test_004_416_future_enhancements(guide):
    """Loops, branches and sub-orchestrations: the guide's later plans are there."""
    guide.roles("A", "B")
    guide.answers["A"] = lambda prompt, number: {"score": number / 2}
    guide.define(roles=False, name="sub", steps=[{"name": "inner", "roleName": "B"}])
    guide.define(roles=False, steps=[
        {"name": "refine", "stepType": "loop", "loop": {
            "steps": [{"name": "score", "roleName": "A"}], "maxRounds": 5,
            "until": {"field": "score.score", "operator": ">=", "value": 1}}},
        {"name": "which", "stepType": "branch", "branch": {
            "cases": [{"when": {"field": "score.score", "operator": ">=", "value": 1},
                       "steps": [{"name": "good", "roleName": "B"}]}],
            "otherwise": [{"name": "bad", "roleName": "B"}]}},
        {"name": "other", "stepType": "sub_orchestration", "subOrchestrationId": "sub"}])
    _, output = guide.run()
    assert output["status"] == "completed", output["error"]
    assert logs(output)["refine"]["rounds"] == 2 and "which/good" in logs(output)
    assert logs(output)["other"]["execution_id"]
