"""002, the infrastructure FSM: infrastructure_repair goes through its states as its diagram says.

Its setup is another project's: each block is what corresponds here, checked without running the
whole suite.
"""
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from seed_documents import block, covers
from workflows.conftest import world  # noqa: F401

from sandbox import down, ok, status

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
PLANNER = "llm:openai/gpt-4o"
STATES = ["INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
          "RESCHEDULING"]
DIAGRAM = block("002", 20).text


def repair(world, **parameters):  # noqa: F811
    return world.run("infrastructure_repair", **parameters)


def visited(output):
    """The states in the order in which the run was in them; FINAL is the end."""
    history = output["step_history"]
    assert all(a["to_state"] == b["from_state"] for a, b in zip(history, history[1:]))
    return [history[0]["from_state"]] + [step["to_state"] for step in history]


def edges():
    """{state: the states, or END, to which the diagram has an arrow from it}."""
    inside, state, arrows = {}, None, {}
    for line in DIAGRAM.splitlines():
        opened = re.search(r"subgraph \w+ \[State: (\w+)\]", line)
        if opened:
            state = opened.group(1)
        elif line.strip() == "end":
            state = None
        elif state and re.match(r"\s+(\w+)[\[{]", line):
            inside[re.match(r"\s+(\w+)", line).group(1)] = state
    inside.update(Start="START", End="END")
    for a, b in re.findall(r"^\s+(\w+) --(?:.*?--)?> (\w+)$", DIAGRAM, re.M):
        if a in inside and inside[a] != inside[b]:
            arrows.setdefault(inside[a], set()).add(inside[b])
    return arrows


def assigns(nodes, crews):
    return json.dumps({"thoughts": "so be it", "action": "assign_repair_crew",
                       "arguments": {"node_ids": nodes, "crew_ids": crews}})


@pytest.fixture
def planner(world):  # noqa: F811
    world.config["planner"] = {"model": "gpt-4o"}
    world.config["infrastructure"]["planner"] = {"fallback": False}
    return world


@covers("002", 20)
def test_002_20_the_states_of_the_diagram():
    assert re.findall(r"\[State: (\w+)\]", DIAGRAM) == STATES
    assert edges() == {
        "START": {"INIT"}, "INIT": {"FAILURE_DETECTION"},
        "FAILURE_DETECTION": {"END", "IMPACT_ANALYSIS"}, "IMPACT_ANALYSIS": {"REPAIR_PLANNING"},
        "REPAIR_PLANNING": {"EXECUTION"}, "EXECUTION": {"RESCHEDULING"},
        "RESCHEDULING": {"END", "FAILURE_DETECTION"}}


@covers("002", 20)
def test_002_20_from_init_to_the_end_in_the_diagram_s_order(world):  # noqa: F811
    run, output = repair(world, nodes=["db-1"])
    assert run["status"] == "succeeded" and output["outcome"] == "repairs_assigned"
    assert visited(output) == STATES + ["FINAL"]


@covers("002", 20)
def test_002_20_every_move_is_an_arrow_of_the_diagram(world):  # noqa: F811
    later = down(["db-1:9100", "web-1:9100"])
    world.box.script("prometheus", [down(["db-1:9100"]), later, later], forever=True)
    _, output = repair(world, max_steps=20)
    arrows = edges()
    states = [state.replace("FINAL", "END") for state in visited(output)]
    for a, b in zip(states, states[1:]):
        assert b in arrows[a], (a, b)


@covers("002", 20)
def test_002_20_healthy_ends(world):  # noqa: F811
    run, output = repair(world)
    assert run["status"] == "succeeded" and output["outcome"] == "healthy"
    assert visited(output) == ["INIT", "FAILURE_DETECTION", "FINAL"]


@covers("002", 20)
def test_002_20_a_cascade_is_detected_again(world):  # noqa: F811
    later = down(["db-1:9100", "web-1:9100"])
    world.box.script("prometheus", [down(["db-1:9100"]), later, later], forever=True)
    run, output = repair(world, max_steps=20)
    assert run["status"] == "succeeded" and output["outcome"] == "repairs_assigned"
    assert visited(output) == STATES + STATES[1:] + ["FINAL"]
    assert output["failures"] == ["db-1", "web-1"]


@pytest.mark.parametrize("answer", [
    "not-a-json",
    json.dumps({"thoughts": "x", "action": "no_such_tool", "arguments": {}}),
    json.dumps({"thoughts": "x", "arguments": {}}),
    assigns(["no-such-node"], ["database-team"]),
    assigns(["db-1"], ["no-such-crew"]),
], ids=["no JSON", "no tool", "no action", "no node", "no crew"])
@covers("002", 20)
def test_002_20_an_invalid_plan_is_planned_again(planner, answer):
    planner.box.script(PLANNER, [ok(text=answer), ok(text=assigns(["db-1"], ["database-team"]))])
    run, output = repair(planner, nodes=["db-1"])
    assert run["status"] == "succeeded" and output["plan"]["source"] == "llm"
    assert len(planner.box.calls_to(PLANNER)) == 2
    # Nothing was carried out of the plan that was none.
    assert visited(output) == STATES + ["FINAL"]
    assert [entry["node"] for entry in output["assignments"]] == ["db-1"]


@covers("002", 20)
def test_002_20_a_prompt_with_the_context_of_the_failure(planner):
    """Build Prompt with Context: what failed, and the severity that IMPACT_ANALYSIS logged."""
    planner.box.script(PLANNER, [ok(text=assigns(["db-1"], ["database-team"]))])
    repair(planner, nodes=["db-1"])
    prompt = json.dumps(planner.box.calls_to(PLANNER)[0].body["messages"])
    assert "db-1" in prompt and "criticality" in prompt and "assign_repair_crew" in prompt


@pytest.mark.parametrize("tool, state", [
    ("detect_failure_nodes", "FAILURE_DETECTION"), ("estimate_impact", "IMPACT_ANALYSIS"),
    ("assign_repair_crew", "EXECUTION"), ("detect_failure_nodes", "RESCHEDULING")])
@covers("002", 20)
def test_002_20_tools(world, tool, state):  # noqa: F811
    """Each [[Tool: ...]] of the diagram is an action, carried out in that state."""
    section = DIAGRAM.split("[State: %s]" % state)[1].split(" end\n")[0]
    assert "[[Tool: %s]]" % tool in section
    action = yaml.safe_load((PACK / "actions" / (tool + ".yaml")).read_text())
    assert action["name"] == tool and action["enabled"] is True
    run, output = repair(world, nodes=["db-1"])
    assert tool in world.tasks(run) and state in visited(output)


@covers("002", 20)
def test_002_20_the_tools_work_alone(world):  # noqa: F811
    def result(tool, **parameters):
        run = world.local.run("synthralos." + tool, parameters)
        assert run["status"] == "succeeded", run["result"]
        return run["result"]["result"]

    world.box.script("prometheus", [down(["db-1:9100"])], forever=True)
    assert result("detect_failure_nodes")["failures"] == ["db-1"]
    assert result("estimate_impact", nodes=["db-1"])["impact"]["total"]["nodes_affected"] >= 1
    assigned = result("assign_repair_crew", node_ids=["db-1"], crew_ids=["database-team"])
    detail, = assigned["details"]
    assert (detail["node"], detail["status"]) == ("db-1", "Assigned")
    assert len(world.box.calls_to("hook:crews")) == 1


@covers("002", 20)
def test_002_20_no_end_without_a_valid_plan(planner):
    """Replanning is bounded: the diagram's loop has no way out but a valid plan."""
    planner.box.script(PLANNER, [status(500)], forever=True)
    run, output = repair(planner, nodes=["db-1"], max_retries=2)
    assert run["status"] == "failed" and output["outcome"] == "max_retries_reached"
    assert visited(output) == STATES[:4] + ["FINAL"] and output["ticket"]


# The setup.


def make(target):
    """The commands that `make <target>` would run, were nothing made yet; nothing is run."""
    command = ["make", "--no-print-directory", "--dry-run", "--always-make"]
    ended = subprocess.run(
        command + ["PYTHON=" + sys.executable, target], cwd=str(PACK), text=True,
        capture_output=True, timeout=60, check=True)
    return ended.stdout.splitlines()


@covers("002", 103, 110, 118, 125)
def test_002_103_uv_is_not_needed():
    """Its four ways to install uv have no counterpart: Python's own venv and pip make everything.
    """
    commands = make("setup")
    assert any("-m venv .venv" in command for command in commands)
    programs = {command.split()[0].rsplit("/", 1)[-1] for command in commands}
    assert programs == {pathlib.Path(sys.executable).name, "pip", "touch"}


@covers("002", 133, 146)
def test_002_133_project_setup():
    """`uv sync` is `make setup`: a virtualenv in .venv with what the project needs."""
    install, = [command for command in make("setup") if "pip install" in command]
    assert install.startswith(".venv/bin/pip ")
    for name in re.findall(r"-r (\S+)", install):
        assert (PACK / name).is_file()
    # Activating it is redundant here too: what needs the virtualenv names it.
    assert "/.venv/bin/python" in (PACK / "bin/st2local").read_text()


@covers("002", 163)
def test_002_163_run_the_main_application(tmp_path):
    """`python -m infra_fail_mngr.main` is a run of infrastructure_repair."""
    ended = subprocess.run(
        [str(PACK / "bin/st2local"), "run", "synthralos.infrastructure_repair", "-j"],
        env={"PATH": "/usr/bin:/bin", "ST2LOCAL_STATE": str(tmp_path),
             "ST2LOCAL_PYTHON": sys.executable},
        text=True, capture_output=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    output = json.loads(ended.stdout)["result"]["output"]
    assert output["success"] is True and visited(output)[0] == "INIT"


@covers("002", 169)
def test_002_169_run_all_tests():
    """`uv run pytest` is `make test`, which sets up what it needs first."""
    commands = make("test")
    assert any("-m venv .venv" in command for command in commands)
    assert "-m pytest" in commands[-1] and commands[-1].startswith(".venv/bin/python ")


def test_002_97_python_3_12_and_higher():
    pack = yaml.safe_load((PACK / "pack.yaml").read_text())
    assert pack["python_versions"] == ["3"]
    workflow = (PACK / ".github/workflows/ci.yaml").read_text()
    assert "3.12" in workflow
