"""recovery.redrive goes where it must, whatever becomes of its actions: the conductor says."""
import pytest
from pack_files import WORKFLOWS, read

pytest.importorskip("orquesta", reason="orquesta is not installed")
conducting = pytest.importorskip("conducting")
import endings  # noqa: E402

WORKFLOW = "recovery.redrive"
DOCUMENT = read("actions/" + WORKFLOWS[WORKFLOW]["entry_point"])
OUTPUTS = {key for entry in DOCUMENT["output"] for key in entry}
TASKS = ["begin", "round", "finish"]
REPORT = {"success": True, "outcome": "completed", "counts": {"recovered": 2}, "skipped": []}


def continues(next_task, cursor, delay=0):
    following = {"cursor": cursor, "delay": delay, "carry": "AAAA"}
    return ended({"summary": "on", "next_task": next_task, "next": following})


def ended(result):
    return "succeeded", {"stdout": "", "stderr": "", "exit_code": 0, "result": result}


class Run(conducting.Conducted):
    """`ending_of` is a callable (task, number, input) -> an ending's name, a result, or None: three
    rounds, then the report.
    """

    MAX_TASKS = 20

    def __init__(self, ending_of):
        def results(task, number, task_input):
            ending = ending_of(task, number, task_input)
            if isinstance(ending, tuple):
                return ending
            if ending is not None:
                return endings.ended(ending, task_input)
            if task == "begin":
                return continues("round", 0)
            if task == "round":
                return continues("round" if number < 3 else "finish", number, delay=7)
            return ended(dict(REPORT, summary="2 of 2", next_task="done"))

        super().__init__(WORKFLOW, results)


def fired_once(run):
    return {fired for _, fired in run.transition_counts} == {1}


def test_the_tasks_are_those_that_these_tests_know():
    assert list(DOCUMENT["tasks"]) == TASKS


def test_rounds_follow_each_other_after_their_delay_until_the_report():
    run = Run(lambda *_: None)
    assert run.names == ["begin", "round", "round", "round", "finish"]
    assert [delay for _, _, delay in run.tasks if delay] == [7, 7]
    assert run.status == "succeeded" and fired_once(run) and run.errors == []
    assert set(run.output) == OUTPUTS and run.output["counts"] == {"recovered": 2}


@pytest.mark.parametrize("ending", endings.ALL)
def test_ending_of_begin(ending):
    run = Run(lambda task, number, task_input: ending if task == "begin" else None)
    assert run.names == ["begin"] and run.status == "failed" and fired_once(run)
    assert run.errors == [] and run.output["success"] is False


@pytest.mark.parametrize("ending", endings.ALL)
def test_a_round_that_ends_in_any_other_way_goes_to_the_report(ending):
    run = Run(lambda task, number, task_input: ending if (task, number) == ("round", 2) else None)
    assert run.names == ["begin", "round", "round", "finish"] and fired_once(run)
    assert run.status == "succeeded" and run.errors == []
    assert run.tasks[-1][1] == {"case": "AAAA"}


@pytest.mark.parametrize("ending", endings.ALL)
def test_ending_of_the_report(ending):
    run = Run(lambda task, number, task_input: ending if task == "finish" else None)
    assert run.names[-1] == "finish" and run.status == "failed" and fired_once(run)
    assert run.errors == [] and set(run.output) == OUTPUTS


def test_nothing_to_do_ends_at_once_and_a_stopped_redrive_fails():
    nothing = ended(dict(REPORT, next_task="done", outcome="nothing_to_redrive"))
    run = Run(lambda task, *_: nothing)
    assert run.names == ["begin"] and run.status == "succeeded"
    stopped = ended(dict(REPORT, next_task="failed", success=False, outcome="stopped"))
    run = Run(lambda task, *_: stopped if task == "finish" else None)
    assert run.status == "failed" and run.output["outcome"] == "stopped"


def test_no_round_is_played_twice_by_a_cursor_that_does_not_grow():
    run = Run(lambda task, *_: continues("round", 1) if task == "round" else None)
    assert run.names == ["begin", "round", "round", "finish"]
