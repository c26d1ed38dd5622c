"""What an alias answers in a channel, whatever became of the run."""
import jinja2
import pytest
from pack_files import metadata, read

RESULTS = [
    {"result": None, "output": None},
    {"result": "None", "exit_code": 1},
    {"result": {"summary": "done", "tickets": [], "approvals": []}},
    {"output": {"success": True, "attempts": 2}},
    {"output": {"success": False, "error": {"reason": "out of time"}, "ticket": "T1"}},
]
# As StackStorm renders: a name that is missing is an error.
JINJA = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)


def render_answer(name, result, status="failed"):
    template = read("aliases/" + name)["result"]["format"]
    result = dict({"result": None, "output": None}, **result)
    execution = {"id": "5f0c000000000000000000aa", "status": status, "result": result}
    return JINJA.from_string(template).render(execution=execution)


@pytest.mark.parametrize("name", metadata("aliases"))
@pytest.mark.parametrize("result", RESULTS)
def test_there_is_a_short_answer_for_every_ending(name, result):
    answer = render_answer(name, result)
    assert answer.strip() and len(answer) < 200


def test_tickets_are_lines_the_most_urgent_first():
    several = [
        {"ticket": "T%d" % n, "priority": n, "level": "auto_recovery", "summary": "{{ foo }}",
         "status": "resolved" if n == 3 else "open"}
        for n in range(15)
    ]
    lines = render_answer("tickets.yaml", {"result": {"summary": "15 tickets", "tickets": several}})
    lines = lines.strip().split("\n")
    assert lines[0] == "15 tickets" and len(lines) == 11
    assert [line.split()[0] for line in lines[1:4]] == ["T14", "T13", "T12"]
    assert lines[1].endswith("{{ foo }}")


def test_approvals_are_lines_with_the_id_that_answers_them():
    approvals = [
        {"id": "a%d-2" % n, "run": "a%d" % n, "workflow": "infrastructure_repair",
         "since": "10:00", "until": "11:00" if n else None, "question": "web-%d: {{ foo }}" % n}
        for n in range(12)
    ]
    result = {"summary": "12 approvals wait for an answer", "approvals": approvals}
    lines = render_answer("approvals.yaml", {"result": result}).strip().split("\n")
    assert len(lines) == 1 + 10 + 2
    assert lines[1] == "a0-2 infrastructure_repair since 10:00: web-0: {{ foo }}"
    assert lines[2].startswith("a1-2 infrastructure_repair since 10:00 until 11:00: web-1")
    assert lines[11] == "and 2 more: st2 run synthralos.approval.list"
    assert "`approve run <id>`" in lines[12]


def test_the_mode_is_shown_with_how_to_change_it():
    result = {"summary": "observe (automation.mode)", "mode": "observe"}
    lines = render_answer("mode.yaml", {"result": result}).strip().split("\n")
    assert lines[0] == "observe (automation.mode)" and "agents mode observe" in lines[1]
    assert "runbook <name> mode approve" in lines[1]


def test_each_answer_goes_to_the_thread():
    for name in metadata("aliases"):
        document = read("aliases/" + name)
        for part in ("ack", "result"):
            assert document[part]["extra"]["slack"]["thread_response"] is True, name
