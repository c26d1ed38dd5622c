"""Whatever an action's end looks like, the workflow goes where it must: Orquesta's conductor says.
"""
import pytest
from pack_files import WORKFLOWS, read

pytest.importorskip("orquesta", reason="orquesta is not installed")
conducting = pytest.importorskip("conducting")
import endings  # noqa: E402

FIRST = {
    "agent_recovery": ["analyze_failure", "generate_plan"],
    "llm_retry": ["determine_strategy"],
    "reroute_request": ["analyze_failure"],
}
ATTEMPT = {
    "agent_recovery": "execute_recovery",
    "llm_retry": "call_llm",
    "reroute_request": "execute_request",
}
LOG = "log_failure"
OUTPUTS = {
    name: {key for entry in read("actions/" + action["entry_point"])["output"] for key in entry}
    for name, action in WORKFLOWS.items()
}
STEPS = [(workflow, task) for workflow, tasks in FIRST.items() for task in tasks]


def _good(workflow, task, number, given):
    """How a task ends when all is well."""
    if task == LOG:
        told = {"summary": "logged", "success": False, "ticket": "T0123456789ab", "attempts": 1}
        return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": told}
    name = "a mapping" if task == ATTEMPT[workflow] else "a mapping with next"
    return endings.ended(name, {"cursor": 0})


def _conduct(workflow, at, ending, times=None):
    """The run in which the task `at` ends by `ending`, the first `times` or for ever."""
    seen = []

    def results(task, number, given):
        if task == at and (times is None or number <= times):
            seen.append(endings.ended(ending, given))
            return seen[-1]
        return _good(workflow, task, number, given)

    return conducting.Conducted(workflow, results), seen


def _result(seen):
    """What the workflow reads as the task's own result."""
    status, result = seen
    result = result.get("result") if isinstance(result, dict) else None
    return status, result if isinstance(result, dict) else None


def _check_ended(run, workflow, logged=True):
    assert run.errors == []
    assert set(run.output) == OUTPUTS[workflow]
    if logged:
        assert run.status == "failed" and run.names[-1] == LOG and run.names.count(LOG) == 1
        assert run.output["success"] is False
    for task, held in run.held:
        if task != LOG:
            assert held == 1, "%d transitions of %s hold" % (held, task)


def test_the_tables_here_name_every_task():
    for workflow, action in WORKFLOWS.items():
        tasks = list(read("actions/" + action["entry_point"])["tasks"])
        assert tasks == FIRST[workflow] + [ATTEMPT[workflow], LOG]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_when_all_is_well(workflow):
    run, _ = _conduct(workflow, None, None)
    assert run.status == "succeeded" and run.names == FIRST[workflow] + [ATTEMPT[workflow]]
    _check_ended(run, workflow, logged=False)
    assert run.output["success"] is True and run.output["attempts"] == 1


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("workflow, task", STEPS, ids=[".".join(step) for step in STEPS])
def test_ending_of_a_task_before_the_first_attempt(workflow, task, ending):
    run, seen = _conduct(workflow, task, ending)
    status, result = _result(seen[0])
    onward = status == "succeeded" and result is not None and isinstance(result.get("next"), dict)
    if onward:
        assert run.names == FIRST[workflow] + [ATTEMPT[workflow]]
        assert run.tasks[-1][1]["case"]
    else:
        assert run.names == FIRST[workflow][:FIRST[workflow].index(task) + 1] + [LOG]
    _check_ended(run, workflow, logged=not onward)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_ending_of_an_attempt(workflow, ending):
    attempt = ATTEMPT[workflow]
    run, seen = _conduct(workflow, attempt, ending, times=1)
    status, result = _result(seen[0])
    before = FIRST[workflow] + [attempt]
    if status == "succeeded" and result is not None:
        assert run.names == before and run.status == "succeeded"
        return _check_ended(run, workflow, logged=False)
    following = result.get("next") if result is not None else None
    if isinstance(following, dict):
        assert run.names == before + [attempt] and run.status == "succeeded"
        _, given, delay = run.tasks[-1]
        assert given == {"cursor": following["cursor"], "case": following["carry"]}
        assert delay == following["delay"]
        return _check_ended(run, workflow, logged=False)
    assert run.names == before + [LOG]
    return _check_ended(run, workflow)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_ending_of_the_log_task(workflow, ending):
    """A failure that could not be logged is a failure all the same."""
    attempt = ATTEMPT[workflow]

    def results(task, number, given):
        if task == attempt:
            return endings.ended("raises", given)
        if task == LOG:
            return endings.ended(ending, given)
        return _good(workflow, task, number, given)

    run = conducting.Conducted(workflow, results)
    assert run.errors == []
    assert run.status == "failed" and run.names[-1] == LOG
    assert set(run.output) == OUTPUTS[workflow]


@pytest.mark.parametrize("ending", endings.WORK)
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_no_ending_loops_for_ever(workflow, ending):
    """An attempt whose every round ends so; rounds that go on are bounded by the action alone."""
    run, seen = _conduct(workflow, ATTEMPT[workflow], ending)
    cursors = [given["cursor"] for task, given, _ in run.tasks if task == ATTEMPT[workflow]]
    assert cursors == sorted(set(cursors))
    goes_on = isinstance((_result(seen[-1])[1] or {}).get("next"), dict)
    assert len(run.tasks) < run.MOST_TASKS or (goes_on and _result(seen[-1])[0] == "failed")


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_log_task_gets_what_the_last_one_left(workflow):
    attempt = ATTEMPT[workflow]
    run, seen = _conduct(workflow, attempt, "refuses")
    assert run.tasks[-1][1]["case"] == _result(seen[-1])[1]["carry"]
    crashed, _ = _conduct(workflow, attempt, "killed")
    assert crashed.tasks[-1][1]["case"] == crashed.tasks[-2][1]["case"]
    at_once, _ = _conduct(workflow, FIRST[workflow][0], "killed")
    assert at_once.tasks[-1][1] == {"execution_id": conducting.EXECUTION_ID, "case": ""}
