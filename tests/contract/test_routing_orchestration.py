"""orchestration.run goes where it must, whatever becomes of its actions: the conductor says."""
import pytest
from pack_files import ACTIONS, WORKFLOWS, read

pytest.importorskip("orquesta", reason="orquesta is not installed")
conducting = pytest.importorskip("conducting")
import endings  # noqa: E402

WORKFLOW = "orchestration.run"
DOCUMENT = read("actions/" + WORKFLOWS[WORKFLOW]["entry_point"])
OUTPUTS = {key for entry in DOCUMENT["output"] for key in entry}
LOG = "log_failure"
KINDS = ("wave", "steps", "ask", "child")
MERGED = {"success": True, "status": "completed", "result": {"output": {"a": "{{ x }}"}}}


def goes_on(do, cursor, **more):
    following = dict(
        {"cursor": cursor, "delay": 0, "carry": "AAAA", "steps": [0, 1, 2], "concurrency": 2,
         "limit": 60, "ttl": 1, "child_case": "AAAA"},
        **more,
    )
    result = {"summary": "on", "next_task": do, "next": following}
    return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": result}


def over(do="done", **more):
    result = dict({"summary": "over", "next_task": do}, **MERGED, **more)
    return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": result}


class Run(conducting.Conducted):
    """`ending_of` is a callable (task, number, input) -> an ending's name, a result, or None: a
    wave of steps, then the end.
    """

    MAX_TASKS = 40

    def __init__(self, ending_of):
        def results(task, number, task_input):
            ending = ending_of(task, number, task_input)
            if isinstance(ending, tuple):
                return ending
            if ending is not None:
                return endings.ended(ending, task_input)
            if task == "begin":
                return goes_on("steps", 1)
            if task == "next_wave":
                return over()
            return "succeeded", {"stdout": "", "exit_code": 0, "result": {"summary": "done"}}

        super().__init__(WORKFLOW, results)


def held_once(run):
    assert [fired for task, fired in run.transition_counts if task != LOG] == [1] * len(
        [task for task, _ in run.transition_counts if task != LOG])


def test_the_tasks_are_those_that_these_tests_know():
    assert list(DOCUMENT["tasks"]) == ["begin", "wave", "steps", "ask", "child", "next_wave",
                                       "resume", LOG]


def test_when_all_is_well():
    run = Run(lambda *_: None)
    assert run.names == ["begin", "steps", "steps", "steps", "next_wave"]
    assert run.status == "succeeded" and run.errors == [] and set(run.output) == OUTPUTS
    assert run.output["success"] is True and run.output["output"] == {"a": "{{ x }}"}
    assert [task_input for name, task_input, _ in run.tasks if name == "steps"] == [
        {"cursor": 1, "case": "AAAA", "step": n, "timeout": 60} for n in range(3)]
    held_once(run)


@pytest.mark.parametrize("ending", endings.ALL)
@pytest.mark.parametrize("at", ["begin", "next_wave"])
def test_ending_of_a_task_that_names_waves(at, ending):
    run = Run(lambda task, *_: ending if task == at else None)
    before = ["begin"] if at == "begin" else ["begin", "steps", "steps", "steps", "next_wave"]
    assert run.names == before + [LOG]
    assert run.status == "failed" and run.errors == []
    assert set(run.output) == OUTPUTS and run.output["success"] is False
    held_once(run)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
@pytest.mark.parametrize("ended", ["done", "failed"])
def test_steps_alone_follow_each_other(ended, status):
    """Whatever became of the step: its result says where the run goes."""
    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("wave", 1)
        at = task_input["cursor"]
        return (status, goes_on("wave", at + 1)[1]) if at < 3 else over(ended)

    run = Run(ending_of)
    assert run.names == ["begin", "wave", "wave", "wave"] and run.errors == []
    assert run.status == ("succeeded" if ended == "done" else "failed")
    assert run.tasks[1][1] == {"cursor": 1, "case": "AAAA", "timeout": 60}
    assert run.output["success"] is True and set(run.output) == OUTPUTS
    held_once(run)


@pytest.mark.parametrize("ending", endings.ALL)
def test_a_step_alone_that_did_not_merge_is_merged(ending):
    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("wave", 1)
        return ending if task == "wave" else None

    run = Run(ending_of)
    assert run.names == ["begin", "wave", "next_wave"]
    assert run.status == "succeeded" and run.errors == []
    held_once(run)


@pytest.mark.parametrize("concurrency", [2, 3])
@pytest.mark.parametrize("ending", endings.ALL)
def test_whatever_becomes_of_steps_the_others_run_and_the_wave_is_merged(ending, concurrency):
    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("steps", 1, concurrency=concurrency)
        return ending if task == "steps" and task_input["step"] < 2 else None

    run = Run(ending_of)
    assert run.names == ["begin", "steps", "steps", "steps", "next_wave"]
    assert run.status == "succeeded" and run.errors == []


@pytest.mark.parametrize("ending", [*endings.PLAIN, "child failed", "child without output"])
def test_whatever_becomes_of_a_sub_orchestration_it_is_merged(ending):
    children = {
        "child failed": ("failed", {"output": {"success": False}, "errors": [{"message": "x"}]}),
        "child without output": ("failed", {"output": None, "errors": []}),
    }

    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("child", 1, delay=3)
        return children.get(ending, ending) if task == "child" else None

    run = Run(ending_of)
    assert run.names == ["begin", "child", "next_wave"] and run.errors == []
    assert run.tasks[1][1:] == ({"orchestration": "@case", "timeout": 60, "case": "AAAA"}, 3)
    held_once(run)


@pytest.mark.parametrize("answer, decision", [
    ({"response": {"approved": True}}, "approved"),
    ({"response": {"approved": False}}, "refused"),
    ({"response": {"approved": "{{ x }}"}}, "none"),
    ({"response": {}}, "none"),
    ({"response": None}, "none"),
    ({"schema": {}}, "none"),
    ({}, "none"),
    (None, "none"),
])
def test_what_a_person_decides_reaches_the_next_wave(answer, decision):
    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("ask", 1)
        return ("succeeded", answer) if task == "ask" else None

    run = Run(ending_of)
    assert run.names == ["begin", "ask", "next_wave"] and run.errors == []
    assert run.tasks[-1][1]["decision"] == decision


@pytest.mark.parametrize("ending", endings.PLAIN)
def test_an_approval_that_nobody_gave_is_merged_too(ending):
    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on("ask", 1)
        return ending if task == "ask" else None

    run = Run(ending_of)
    assert run.names == ["begin", "ask", "next_wave"] and run.errors == []
    assert run.tasks[-1][1]["decision"] == "none"


@pytest.mark.parametrize("at", ["begin", "next_wave"])
@pytest.mark.parametrize("do, more", [
    (None, {}), ("", {}), (7, {}), (["steps"], {}), ("no such task", {}), ("next_wave", {}),
    ("steps", {"steps": None}), ("steps", {"steps": ["<% ctx() %>"]}), ("steps", {"steps": 3}),
    ("steps", {"steps": [0, "1"]}), ("steps", {"steps": [None]}), ("steps", {"steps": [0.5]}),
    ("steps", {"concurrency": 0}), ("steps", {"concurrency": "2"}), ("steps", {"limit": None}),
    ("ask", {"ttl": "1"}), ("ask", {"ttl": None}), ("child", {"child_case": None}),
    ("child", {"child_case": {"a": 1}}), ("child", {"limit": "60"}), ("wave", {"limit": None}),
])
def test_a_wave_that_is_none_is_logged(at, do, more):
    run = Run(lambda task, *_: goes_on(do, 9, **more) if task == at else None)
    assert run.names[-2:] == [at, LOG] and run.status == "failed" and run.errors == []
    held_once(run)


def test_waves_of_every_kind_follow_each_other():
    order = ["steps", "ask", "child", "steps", "child", "ask", "wave", "steps"]

    def ending_of(task, number, task_input):
        if task == "begin":
            return goes_on(order[0], 1)
        if task in ("wave", "next_wave"):
            merged = task_input["cursor"]
            return goes_on(order[merged], merged + 1) if merged < len(order) else over()
        return None

    run = Run(ending_of)
    seen = [name for n, name in enumerate(run.names)
            if name in KINDS and (name != "steps" or run.names[n - 1] != "steps")]
    assert seen == order and run.status == "succeeded" and run.errors == []
    assert run.names.count("next_wave") == len(order) - 1


def test_a_wave_without_steps_goes_on():
    run = Run(lambda task, *_: goes_on("steps", 1, steps=[]) if task == "begin" else None)
    assert run.names == ["begin", "steps", "next_wave"] and run.status == "succeeded"


@pytest.mark.parametrize("do, status", [("done", "succeeded"), ("failed", "failed")])
@pytest.mark.parametrize("at", ["begin", "next_wave"])
def test_the_end_of_a_run_is_no_second_record(at, do, status):
    run = Run(lambda task, *_: over(do, ticket="T") if task == at else None)
    assert run.names[-1] == at and run.status == status and run.output["ticket"] == "T"


def resumes(delay=7):
    report = dict(MERGED, success=False, status="failed")
    result = dict({"summary": "over", "next_task": "resume", "resume": {"delay": delay}}, **report)
    return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": result}


RESUMED = ("succeeded", {"exit_code": 0, "result": {"execution_id": "5f0c0000000000000000cc01"}})


@pytest.mark.parametrize("at", ["begin", "wave", "next_wave", LOG])
def test_a_failed_run_waits_and_starts_its_resume(at):
    def ending_of(task, number, task_input):
        if task == "resume":
            return RESUMED
        if task == at:
            return resumes()
        if task == "begin" and at == "wave":
            return goes_on("wave", 1)
        return "raises" if task == "begin" and at == LOG else None

    run = Run(ending_of)
    assert run.names[-2:] == [at, "resume"] and run.errors == [] and run.status == "failed"
    assert run.tasks[-1][1:] == (
        {"execution_id": conducting.EXECUTION_ID, "automatic": True}, 7)
    assert run.output["resumed_by"] == "5f0c0000000000000000cc01"
    assert run.output["status"] == "failed" and set(run.output) == OUTPUTS
    held_once(run)


@pytest.mark.parametrize("ending", endings.ALL)
def test_a_resume_that_did_not_start_is_logged(ending):
    run = Run(lambda task, *_: ending if task == "resume" else
              resumes() if task == "next_wave" else None)
    assert run.names[-3:] == ["next_wave", "resume", LOG] and run.errors == []
    assert run.status == "failed" and run.output["resumed_by"] is None
    assert run.tasks[-1][1]["case"] == "AAAA"
    held_once(run)


@pytest.mark.parametrize("delay", [None, "7", "<% ctx() %>", {}, 0.5])
@pytest.mark.parametrize("at", ["begin", "next_wave"])
def test_a_resume_without_a_delay_is_none(at, delay):
    run = Run(lambda task, *_: resumes(delay) if task == at else None)
    assert run.names[-2:] == [at, LOG] and run.status == "failed" and run.errors == []
    held_once(run)


@pytest.mark.parametrize("ending", endings.ALL)
def test_ending_of_the_log_task(ending):
    run = Run(lambda task, *_: ending if task == LOG else "raises" if task == "begin" else None)
    assert run.names == ["begin", LOG] and run.status == "failed" and run.errors == []
    assert set(run.output) == OUTPUTS


def test_the_log_task_gets_what_the_last_one_left():
    run = Run(lambda task, *_: "refuses" if task == "next_wave" else None)
    assert run.tasks[-1][1]["case"] not in ("", "AAAA")
    crashed = Run(lambda task, *_: "killed" if task == "next_wave" else None)
    assert crashed.tasks[-1][1]["case"] == "AAAA"
    at_once = Run(lambda task, *_: "killed" if task == "begin" else None)
    assert at_once.tasks[-1][1] == {"execution_id": conducting.EXECUTION_ID, "case": ""}


def test_no_ending_loops_for_ever():
    """A next_wave that names a wave it has named before is no way on."""
    run = Run(
        lambda task, number, task_input: "a mapping with next" if task == "next_wave" else None
    )
    assert run.names[-1] == LOG
    assert ACTIONS["orchestration.next_wave"]["entry_point"] == "orchestration_tasks.py"
