"""The workflows as Orquesta and StackStorm inspect them, and what this pack asks of them besides.
"""
import json
import re

import pytest
from fixtures.check_each import check_each
from pack_files import ACTIONS, CASE_PATTERN, CORE, REF, WORKFLOWS, read

pytest.importorskip("orquesta", reason="orquesta is not installed")
conducting = pytest.importorskip("conducting")

DOCUMENTS = {name: read("actions/" + a["entry_point"]) for name, a in WORKFLOWS.items()}
TASKS = [
    (workflow, name, task)
    for workflow, document in DOCUMENTS.items() for name, task in document["tasks"].items()
]
NAMES = ["%s.%s" % task[:2] for task in TASKS]
# What expressions may put into a task: ids, cases, names, enums and numbers. Text never goes there.
INPUTS = {
    "execution_id", "case", "cursor", "agent_id", "failure_type", "max_retries", "timeout", "step",
    "decision", "ttl",
}
# The one task that has items, and only numbers for items.
ITEMS = ("orchestration.run", "steps")
# What an output may read, and how: of what is not there `get` gives null and raises nothing.
_REPORT = r"ctx\(\)\.get\(report\)(\?\.get\(\w+\)){1,2}"
# `vars` gives what is read by ctx(name) a value from the start.
OUTPUT = re.compile(r"^<%% (%s( = true)?|coalesce\(ctx\(\w+\), %s\)) %%>\Z" % (_REPORT, _REPORT))


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_orquesta_finds_nothing(workflow):
    assert conducting.specification(workflow).inspect(app_ctx={"st2": {}}) == {}


@check_each("workflow, name, task", TASKS, ids=NAMES)
def test_stackstorm_would_request_the_task(workflow, name, task):
    pack, _, action = task["action"].partition(".")
    if task["action"] in CORE:
        assert set(task.get("input") or {}) <= CORE[task["action"]]
        return
    assert pack == REF and action in ACTIONS
    declared = ACTIONS[action].get("parameters") or {}
    inputs = task.get("input") or {}
    assert set(inputs) <= set(declared)
    needed = {p for p, s in declared.items() if s.get("required") and "default" not in s}
    assert needed <= set(inputs)
    assert not {p for p in inputs if declared[p].get("immutable")}


@check_each("workflow, name, task", TASKS, ids=NAMES)
def test_no_text_goes_into_a_task(workflow, name, task):
    for parameter, value in (task.get("input") or {}).items():
        text = json.dumps(value)
        if "<%" not in text and "{{" not in text:
            continue
        assert isinstance(value, str) and parameter in INPUTS
        if task["action"] in CORE or parameter == "timeout":
            # A number, of a runner's own: what the task before gives is looked at in its `when`.
            continue
        spec = ACTIONS[task["action"].partition(".")[2]]["parameters"][parameter]
        harmless = spec["type"] == "integer" or "enum" in spec or parameter == "agent_id"
        assert harmless or spec["pattern"] in (CASE_PATTERN, "^[0-9a-f]{24}$")


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_input_lists_numbers_enums_and_cases_only(workflow):
    declared = WORKFLOWS[workflow]["parameters"]
    for entry in DOCUMENTS[workflow].get("input") or []:
        name = entry if isinstance(entry, str) else next(iter(entry))
        spec = declared[name]
        harmless = spec["type"] in ("integer", "number", "boolean") or "enum" in spec
        assert harmless or spec.get("pattern") == CASE_PATTERN, name


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_first_task_reads_the_run_s_own_execution(workflow):
    first = next(iter(DOCUMENTS[workflow]["tasks"].values()))
    assert first["input"] == {"execution_id": "<% ctx().st2.action_execution_id %>"}


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_output_can_be_rendered_whatever_became_of_the_tasks(workflow):
    entries = DOCUMENTS[workflow]["output"]
    assert all(len(entry) == 1 for entry in entries)
    outputs = {name: expression for entry in entries for name, expression in entry.items()}
    assert {name for name, expression in outputs.items() if not OUTPUT.match(expression)} == set()
    assert {"ticket", "error"} <= set(outputs)


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_what_is_published_has_a_value_from_the_start(workflow):
    document = DOCUMENTS[workflow]
    variables = {name for entry in document["vars"] for name in entry}
    for task in document["tasks"].values():
        for transition in task.get("next") or []:
            published = transition.get("publish")
            names = [published.partition("=")[0]] if isinstance(published, str) else []
            assert set(names) <= variables


@check_each("workflow, name, task", TASKS, ids=NAMES)
def test_no_task_runs_beside_another(workflow, name, task):
    """A join, a list of items or two tasks at once would need other rules than these tests have."""
    assert set(task) <= {"action", "input", "next", "delay"} | (
        {"with"} if (workflow, name) == ITEMS else set())
    assert all(isinstance(transition.get("do", "fail"), str) for transition in task["next"])
