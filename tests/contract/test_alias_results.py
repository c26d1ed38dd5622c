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


def test_each_answer_goes_to_the_thread():
    for name in metadata("aliases"):
        document = read("aliases/" + name)
        for part in ("ack", "result"):
            assert document[part]["extra"]["slack"]["thread_response"] is True, name
