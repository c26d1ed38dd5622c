"""The live output: one vocabulary of events, and no line outside it."""
import ast

from fixtures import PACK

from synthralos.telemetry.log_events import EVENTS, EVERYWHERE

LIBRARY = PACK / "actions" / "lib"


def _lines():
    """(where, the call) of each `run_log.emit(...)` of the library."""
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "emit" and (
                isinstance(called.value, ast.Name) and called.value.id == "run_log"
            ):
                yield "%s:%d" % (path.relative_to(PACK), node.lineno), node


def test_every_line_is_of_the_vocabulary():
    lines = list(_lines())
    assert len(lines) >= 8
    for location, call in lines:
        assert len(call.args) == 1 and isinstance(call.args[0], ast.Constant), location
        event = call.args[0].value
        assert event in EVENTS, "%s: %s is not in telemetry/log_events.py" % (location, event)
        for keyword in call.keywords:
            assert keyword.arg in EVENTS[event], "%s: %s has no field %s" % (
                location, event, keyword.arg)


def test_nothing_prints_beside_it():
    # The examples are a program for a terminal.
    examples = LIBRARY / "synthralos" / "error_handling" / "examples.py"
    for path in sorted(set((LIBRARY / "synthralos").rglob("*.py")) - {examples}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printed = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (
                node.func.id == "print")
            assert not printed, "%s prints" % path


def test_fields_are_told_apart():
    for event, fields in EVENTS.items():
        assert event.isidentifier() and len(set(fields)) == len(fields)
        assert not set(fields) & set(EVERYWHERE)
        assert not {"time", "event"} & set(fields)
