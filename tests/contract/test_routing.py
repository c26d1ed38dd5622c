"""Whatever an action's end looks like, the workflow goes where it must: Orquesta's conductor says.
"""
import pytest
from pack_files import ACTIONS, WORKFLOWS, read

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
# Of a workflow whose attempt may ask a person first: what `next_task` names, and the tasks.
ASKING = {"agent_recovery": ["ask", "confirm"]}
OUTPUTS = {
    name: {key for entry in read("actions/" + action["entry_point"])["output"] for key in entry}
    for name, action in WORKFLOWS.items()
}
# handle_error: what `do` names, and the task that it means.
BELOW = {"agent": "recover_agent", "llm": "retry_llm", "ask": "ask"}
# recovery_with_approval: what `next_task` names, and the task that it means.
APPROVED = "recovery_with_approval"
RECOVERIES = {"agent": "recover_agent", "llm": "retry_llm", "reroute": "reroute"}
# infrastructure_repair: its states in the order of a good run, and what each asks for.
STATES = [
    "initialize", "failure_detection", "impact_analysis", "repair_planning", "execution",
    "rescheduling", "final",
]
ASKS_FOR = ["detect", "estimate", "plan", "execute", "reschedule", "final", "done"]
STEPS = [(workflow, task) for workflow, tasks in FIRST.items() for task in tasks]


def _good(workflow, task, number, task_input):
    """How a task ends when all is well."""
    if task == LOG:
        logged = {"summary": "logged", "success": False, "ticket": "T0123456789ab", "attempts": 1}
        return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": logged}
    name = "a mapping" if task == ATTEMPT[workflow] else "a mapping with next"
    return endings.ended(name, {"cursor": 0})


def _conduct(workflow, at, ending, times=None):
    """The run in which the task `at` ends by `ending`, the first `times` or for ever."""
    seen = []

    def results(task, number, task_input):
        if task == at and (times is None or number <= times):
            seen.append(endings.ended(ending, task_input))
            return seen[-1]
        return _good(workflow, task, number, task_input)

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
    for task, fired in run.transition_counts:
        if task != LOG:
            assert fired == 1, "%d transitions of %s hold" % (fired, task)


def test_the_tables_here_name_every_task():
    assert set(WORKFLOWS) == set(ATTEMPT) | {
        "handle_error", "infrastructure_repair", "orchestration.run", "recovery_with_approval",
        "recovery.redrive"}
    for workflow in ATTEMPT:
        tasks = list(read("actions/" + WORKFLOWS[workflow]["entry_point"])["tasks"])
        assert tasks == FIRST[workflow] + [ATTEMPT[workflow], *ASKING.get(workflow, []), LOG]
    tasks = list(read("actions/" + ACTIONS["handle_error"]["entry_point"])["tasks"])
    assert tasks == ["assess", *BELOW.values(), "proceed", LOG]
    tasks = list(read("actions/" + ACTIONS["infrastructure_repair"]["entry_point"])["tasks"])
    assert tasks == [*STATES[:5], "approval", *STATES[5:], LOG]
    tasks = list(read("actions/" + ACTIONS[APPROVED]["entry_point"])["tasks"])
    assert tasks == ["request", "ask", "proceed", *RECOVERIES.values(), LOG]


@pytest.mark.parametrize("workflow", ATTEMPT)
def test_when_all_is_well(workflow):
    run, _ = _conduct(workflow, None, None)
    assert run.status == "succeeded" and run.names == FIRST[workflow] + [ATTEMPT[workflow]]
    _check_ended(run, workflow, logged=False)
    assert run.output["success"] is True and run.output["attempts"] == 1


@pytest.mark.parametrize("task", ASKING["agent_recovery"])
@pytest.mark.parametrize("status", ["succeeded", "timeout"])
def test_an_agent_that_asks_waits_for_a_person_before_it_goes_on(task, status):
    attempt = ATTEMPT["agent_recovery"]

    def results(name, number, task_input):
        if name == attempt and number == 1:
            asking = endings.ended("a mapping with next", {"cursor": 0})[1]
            asking["result"]["next_task"] = task
            return "succeeded", asking
        if name == task:
            return status, {"response": {"approved": True}}
        return _good("agent_recovery", name, number, task_input)

    run = conducting.Conducted("agent_recovery", results)
    assert run.names == FIRST["agent_recovery"] + [attempt, task, attempt]
    assert run.status == "succeeded"


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
@pytest.mark.parametrize("workflow", ATTEMPT)
def test_ending_of_an_attempt(workflow, ending):
    attempt = ATTEMPT[workflow]
    run, seen = _conduct(workflow, attempt, ending, times=1)
    status, result = _result(seen[0])
    before = FIRST[workflow] + [attempt]
    following = result.get("next") if result is not None else None
    # While an agent works, a round succeeds without an end.
    works_on = workflow == "agent_recovery" and isinstance(following, dict)
    if status == "succeeded" and result is not None and not works_on:
        assert run.names == before and run.status == "succeeded"
        return _check_ended(run, workflow, logged=False)
    if isinstance(following, dict):
        assert run.names == before + [attempt] and run.status == "succeeded"
        _, task_input, delay = run.tasks[-1]
        assert task_input == {"cursor": following["cursor"], "case": following["carry"]}
        assert delay == following["delay"]
        return _check_ended(run, workflow, logged=False)
    assert run.names == before + [LOG]
    return _check_ended(run, workflow)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("workflow", ATTEMPT)
def test_ending_of_the_log_task(workflow, ending):
    """A failure that could not be logged is a failure all the same."""
    attempt = ATTEMPT[workflow]

    def results(task, number, task_input):
        if task == attempt:
            return endings.ended("raises", task_input)
        if task == LOG:
            return endings.ended(ending, task_input)
        return _good(workflow, task, number, task_input)

    run = conducting.Conducted(workflow, results)
    assert run.errors == []
    assert run.status == "failed" and run.names[-1] == LOG
    assert set(run.output) == OUTPUTS[workflow]


@pytest.mark.parametrize("ending", endings.WORK)
@pytest.mark.parametrize("workflow", ATTEMPT)
def test_no_ending_loops_for_ever(workflow, ending):
    """An attempt whose every round ends so; rounds that go on are bounded by the action alone."""
    run, seen = _conduct(workflow, ATTEMPT[workflow], ending)
    cursors = [
        task_input["cursor"] for task, task_input, _ in run.tasks if task == ATTEMPT[workflow]
    ]
    assert cursors == sorted(set(cursors))
    status, result = _result(seen[-1])
    goes_on = isinstance((result or {}).get("next"), dict)
    may_go_on = status == "failed" or workflow == "agent_recovery"
    assert len(run.tasks) < run.MAX_TASKS or (goes_on and may_go_on)


@pytest.mark.parametrize("workflow", ATTEMPT)
def test_the_log_task_gets_what_the_last_one_left(workflow):
    attempt = ATTEMPT[workflow]
    run, seen = _conduct(workflow, attempt, "refuses")
    assert run.tasks[-1][1]["case"] == _result(seen[-1])[1]["carry"]
    crashed, _ = _conduct(workflow, attempt, "killed")
    assert crashed.tasks[-1][1]["case"] == crashed.tasks[-2][1]["case"]
    at_once, _ = _conduct(workflow, FIRST[workflow][0], "killed")
    assert at_once.tasks[-1][1] == {"execution_id": conducting.EXECUTION_ID, "case": ""}


def _handled(ending_of):
    """A run of handle_error; `ending_of` is a callable (task, number, input) -> ending or None."""

    def results(task, number, task_input):
        ending = ending_of(task, number, task_input)
        if isinstance(ending, tuple):
            return ending
        if ending is None:
            return _good("handle_error", LOG, number, task_input)
        return endings.ended(ending, task_input)

    return conducting.Conducted("handle_error", results)


def _goes_on(do, cursor, **more):
    """The result of assess or proceed that asks for `do`."""
    inherited = {"agent_id": "a", "failure_type": "error", "max_retries": 1, "timeout": 60}
    following = dict(inherited, cursor=cursor, delay=0, carry="AAAA", child_case="AAAA")
    result = dict({"summary": "on", "next_task": do, "next": following}, **more)
    return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": result}


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("at", ["assess", "proceed"])
def test_ending_of_a_task_of_handle_error(at, ending):
    def ending_of(task, number, task_input):
        if task == at:
            return ending
        return _goes_on("settle", 0) if task == "assess" else None

    run = _handled(ending_of)
    assert run.names == (["assess"] if at == "assess" else ["assess", "proceed"]) + [LOG]
    assert run.status == "failed" and run.errors == []
    assert [fired for task, fired in run.transition_counts if task != LOG] == [1] * (
        len(run.names) - 1
    )
    assert set(run.output) == OUTPUTS["handle_error"] and run.output["recovered"] is False


@pytest.mark.parametrize("ending", [*endings.PLAIN, "child failed", "child without output"])
@pytest.mark.parametrize("do", BELOW)
def test_whatever_becomes_of_what_handle_error_asks_for_it_proceeds(do, ending):
    children = {
        "child failed": ("failed", {"output": {"success": False}, "errors": [{"message": "x"}]}),
        "child without output": ("failed", {"output": None, "errors": []}),
    }

    def ending_of(task, number, task_input):
        if task == "assess":
            return _goes_on(do, 0)
        if task == "proceed":
            return _goes_on("done", 1, recovered=True)
        return children.get(ending, ending)

    run = _handled(ending_of)
    assert run.names == ["assess", BELOW[do], "proceed"]
    assert run.status == "succeeded" and run.errors == []
    assert [fired for _, fired in run.transition_counts] == [1, 1, 1] and run.output[
        "recovered"
    ] is True


def test_handle_error_that_escalates_ends_failed_without_a_second_record():
    run = _handled(lambda task, number, task_input: _goes_on("failed", 0, escalated=True))
    assert (run.names, run.status) == (["assess"], "failed")
    assert run.errors == [] and run.output["escalated"] is True


class Repaired(conducting.Conducted):
    """A run of infrastructure_repair; `ending_of` is as in `_handled`, None for all is well."""

    MAX_TASKS = 30

    def __init__(self, ending_of):
        self._request_count = -1

        def results(task, number, task_input):
            self._request_count += 1
            ending = ending_of(task, number, task_input)
            if isinstance(ending, tuple):
                return ending
            if ending is not None:
                return endings.ended(ending, task_input)
            if task == LOG:
                return _good("infrastructure_repair", LOG, number, task_input)
            return _goes_on(ASKS_FOR[STATES.index(task)], self._request_count, success=True)

        super().__init__("infrastructure_repair", results)


def test_infrastructure_repair_when_all_is_well():
    run = Repaired(lambda *_: None)
    assert run.names == STATES and run.status == "succeeded" and run.errors == []
    assert run.output["success"] is True and set(run.output) == OUTPUTS["infrastructure_repair"]
    assert [fired for _, fired in run.transition_counts] == [1] * len(STATES)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("state", STATES)
def test_ending_of_a_state_of_infrastructure_repair(state, ending):
    run = Repaired(lambda task, number, task_input: ending if task == state else None)
    assert run.names == STATES[:STATES.index(state) + 1] + [LOG]
    assert run.status == "failed" and run.errors == []
    assert [fired for task, fired in run.transition_counts if task != LOG] == [1] * (
        len(run.names) - 1
    )
    assert set(run.output) == OUTPUTS["infrastructure_repair"] and run.output["success"] is False


@pytest.mark.parametrize("state, do, then", [
    ("failure_detection", "final", "final"), ("impact_analysis", "final", "final"),
    ("repair_planning", "final", "final"), ("execution", "plan", "repair_planning"),
    ("execution", "ask", "approval"), ("execution", "final", "final"),
    ("rescheduling", "detect", "failure_detection"), ("rescheduling", "plan", "repair_planning"),
    ("rescheduling", "reschedule", "rescheduling"), ("initialize", "final", "final"),
])
def test_infrastructure_repair_goes_where_a_state_sends_it(state, do, then):
    seen = []

    def ending_of(task, number, task_input):
        if task == "approval":
            return "succeeded", {"response": {"approved": True}}
        if task == state and number == 1:
            seen.append(task)
            return _goes_on(do, 20)
        return None

    run = Repaired(ending_of)
    at = run.names.index(state)
    assert run.names[at + 1] == then and run.names[-1] == "final"
    assert run.status == "succeeded" and run.errors == []
    if then == "approval":
        assert run.names[at + 2] == "execution"


@pytest.mark.parametrize("ending", endings.PLAIN)
def test_whatever_becomes_of_an_approval_execution_goes_on(ending):
    def ending_of(task, number, task_input):
        if task == "approval":
            return ending
        return _goes_on("ask", 20) if task == "execution" and number == 1 else None

    run = Repaired(ending_of)
    assert run.names[4:7] == ["execution", "approval", "execution"] and run.errors == []


@pytest.mark.parametrize("state", [state for state in STATES if state != "final"])
def test_a_state_that_asks_for_what_is_not_its_turn_is_logged(state):
    for do in (None, "", "done", "failed", "no such task", 7, ["detect"]):
        run = Repaired(lambda task, *_, do=do: _goes_on(do, 20) if task == state else None)
        assert run.names[-1] == LOG and run.errors == []


def test_a_repair_that_failed_ends_failed_without_a_second_record():
    run = Repaired(lambda task, *_: _goes_on("failed", 9, ticket="T") if task == "final" else None)
    assert run.names == STATES and run.status == "failed" and run.output["ticket"] == "T"


@pytest.mark.parametrize("ending", endings.ALL)
def test_ending_of_the_log_task_of_infrastructure_repair(ending):
    run = Repaired(lambda task, *_: ending if task == LOG else "raises")
    assert run.names == ["initialize", LOG] and run.status == "failed" and run.errors == []
    assert set(run.output) == OUTPUTS["infrastructure_repair"]


def _approved(ending_of):
    """A run of recovery_with_approval; `ending_of` is as in `_handled`."""

    def results(task, number, task_input):
        ending = ending_of(task, number, task_input)
        if ending is None:
            return _good(APPROVED, LOG, number, task_input)
        return ending if isinstance(ending, tuple) else endings.ended(ending, task_input)

    return conducting.Conducted(APPROVED, results)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("at", ["request", "proceed"])
def test_ending_of_a_task_of_recovery_with_approval(at, ending):
    def ending_of(task, number, task_input):
        if task == at:
            return ending
        if task == "ask":
            return "succeeded", {"response": {"approved": True}}
        return _goes_on("ask", 0) if task == "request" else None

    run = _approved(ending_of)
    assert run.names == (["request"] if at == "request" else ["request", "ask", "proceed"]) + [LOG]
    assert run.status == "failed" and run.errors == []
    assert [fired for task, fired in run.transition_counts if task != LOG] == [1] * (
        len(run.names) - 1
    )
    assert set(run.output) == OUTPUTS[APPROVED] and run.output["success"] is False


@pytest.mark.parametrize("ending", [*endings.PLAIN, "child failed"])
@pytest.mark.parametrize("do", RECOVERIES)
def test_whatever_becomes_of_a_question_or_a_recovery_it_proceeds(do, ending):
    child = ("failed", {"output": {"success": False}, "errors": [{"message": "x"}]})

    def ending_of(task, number, task_input):
        if task == "request":
            return _goes_on("ask", 0)
        if task == "proceed":
            return _goes_on(do if number == 1 else "done", number, success=True)
        return child if ending == "child failed" else ending

    run = _approved(ending_of)
    assert run.names == ["request", "ask", "proceed", RECOVERIES[do], "proceed"]
    assert run.status == "succeeded" and run.errors == [] and run.output["success"] is True


@pytest.mark.parametrize("end, status", [("done", "succeeded"), ("failed", "failed")])
def test_what_is_refused_or_not_answered_starts_nothing(end, status):
    def ending_of(task, number, task_input):
        if task == "proceed":
            return _goes_on(end, number, outcome="refused", ticket="T")
        return _goes_on("ask", 0) if task == "request" else "nothing"

    run = _approved(ending_of)
    assert (run.names, run.status) == (["request", "ask", "proceed"], status)
    assert run.errors == [] and run.output["ticket"] == "T"
