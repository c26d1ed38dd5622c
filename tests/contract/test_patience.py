"""No load may fail a test: what the tests of this project may not do with time.

A test waits for a condition, with the patience of fixtures/waiting.py, and judges no elapsed time.
A limit that is what a test is about, or a value that nobody waits for, says so: it goes through
`limit_under_test(...)`, or is a constant whose name ends in _UNDER_TEST.
"""
import ast
import pathlib
import textwrap

import pytest
from fixtures import PACK
from fixtures.check_each import check_each
from fixtures.waiting import PATIENCE_SECONDS

LEAST_PATIENCE_SECONDS = 60
# The one module that may sleep and look at a clock.
CLOCK = PACK / "tests" / "fixtures" / "waiting.py"
STOPWATCHES = ("monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns")
# Methods whose first positional argument, or whose only one, is a time limit in seconds.
LIMITED_METHODS = ("wait", "join", "settimeout", "get")
# Functions of these tests and of st2local that wait, or hand on a limit named `seconds`.
WAITING_FUNCTIONS = ("until", "wait", "wait_for", "ended", "received", "resume")
MARK = "limit_under_test"


def name_of(node):
    """`time.sleep` -> sleep; None for what has no name."""
    return getattr(node, "attr", getattr(node, "id", None))


class Impatience(ast.NodeVisitor):
    """Goes over a module; `faults` then lists (line, what is wrong)."""

    def __init__(self, tree):
        self.faults = []
        self._numbers = {}
        self._measured = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                self._note(node)
        self.visit(tree)

    def _note(self, node):
        for target in node.targets:
            if isinstance(target, ast.Name):
                if isinstance(node.value, ast.Constant):
                    self._numbers[target.id] = node.value.value
                if self._is_difference(node.value):
                    self._measured.add(target.id)

    def _seconds(self, node):
        """The number that stands there, by itself or as a constant of the module; else None."""
        value = None
        if isinstance(node, ast.Constant):
            value = node.value
        elif isinstance(node, ast.Name) and not node.id.endswith("_UNDER_TEST"):
            value = self._numbers.get(node.id)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value if number else None

    def _limit(self, node, where):
        seconds = self._seconds(node)
        # 0 and less are no limit, but what the code under test refuses or switches off.
        if seconds is not None and 0 < seconds < LEAST_PATIENCE_SECONDS:
            self._fault(node, "%s is %g s: wait for PATIENCE_SECONDS, or mark it with %s(...)"
                        % (where, seconds, MARK))

    def _fault(self, node, message):
        self.faults.append((node.lineno, message))

    @staticmethod
    def _is_clock(node):
        """Whether it reads a clock: time.time(), datetime.now() or a stopwatch."""
        if not isinstance(node, ast.Call):
            return False
        name = name_of(node.func)
        owner = name_of(getattr(node.func, "value", None))
        return name in STOPWATCHES or (owner, name) in (
            ("time", "time"), ("datetime", "now"), ("datetime", "utcnow"))

    def _is_difference(self, node):
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and any(
            self._is_clock(part) for part in ast.walk(node))

    def visit_Call(self, node):
        name = name_of(node.func)
        if name == "sleep" and name_of(getattr(node.func, "value", None)) == "time":
            self._fault(node, "it sleeps: poll a condition with until(...), or let_pass(...) where "
                              "the passing of time is what the test is about")
        if name in STOPWATCHES:
            self._fault(node, "it measures time: poll with until(...), or assert on what happened")
        for keyword in node.keywords:
            if keyword.arg == "timeout" or (
                    keyword.arg == "seconds" and name in WAITING_FUNCTIONS):
                self._limit(keyword.value, keyword.arg)
        if isinstance(node.func, ast.Attribute) and name in LIMITED_METHODS and len(node.args) == 1:
            self._limit(node.args[0], "." + name)
        if name == "until" and len(node.args) == 3:
            self._limit(node.args[2], "until")
        if (name or "").startswith("assert"):
            self._judged(node, node.args)
        self.generic_visit(node)

    def visit_Compare(self, node):
        self._judged(node, [node.left] + node.comparators)
        self.generic_visit(node)

    def _judged(self, node, parts):
        if any(self._is_difference(part) or getattr(part, "id", None) in self._measured
               for part in parts):
            self._fault(node, "it judges elapsed time: assert on what happened, and in which order")

    def visit_Dict(self, node):
        for key, value in zip(node.keys, node.values):
            if isinstance(key, ast.Constant) and key.value == "timeout":
                self._limit(value, "timeout")
        self.generic_visit(node)

    def visit_Assign(self, node):
        for target in node.targets:
            key = getattr(target, "slice", None)
            if isinstance(key, ast.Constant) and key.value == "timeout":
                self._limit(node.value, "timeout")
        self.generic_visit(node)

    def visit_FunctionDef(self, node):
        positional = node.args.args
        defaults = list(zip(positional[len(positional) - len(node.args.defaults):],
                            node.args.defaults))
        defaults += zip(node.args.kwonlyargs, node.args.kw_defaults)
        for argument, default in defaults:
            if argument.arg in ("timeout", "seconds"):
                self._limit(default, "the default of " + argument.arg)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ImportFrom(self, node):
        names = {alias.name for alias in node.names}
        if node.module == "time" and names & {"sleep", "time", *STOPWATCHES}:
            self._fault(node, "write time.%s(), so that it is seen" % sorted(names)[0])


def faults_of(source):
    return Impatience(ast.parse(source)).faults


def modules():
    return sorted(path for path in (PACK / "tests").rglob("*.py") if path != CLOCK)


@check_each("path", modules(), ids=lambda path: str(path.relative_to(PACK)))
def test_no_load_can_fail_it(path):
    source = pathlib.Path(path).read_text(encoding="utf-8")
    assert ["%s:%d: %s" % ((path.relative_to(PACK),) + fault) for fault in faults_of(source)] == []


def test_the_patience_is_long_enough():
    assert PATIENCE_SECONDS >= LEAST_PATIENCE_SECONDS


@pytest.mark.parametrize("source", [
    "subprocess.run(command, timeout=5)",
    "process.communicate(timeout=30)",
    "thread.join(3)",
    "event.wait(0.5)",
    "queue.get(1)",
    "until(ready, seconds=20)",
    "until(ready, 'it is', 20)",
    "handle.wait_for('paused', timeout=20)",
    "world.run('agent_recovery', timeout=6)",
    "config = {'timeout': 0.3}",
    "config['tracing']['timeout'] = 0.5",
    "SECONDS = 5\nrequests.get(url, timeout=SECONDS)",
    "def send(url, seconds=2.0): ...",
    "def send(url, *, timeout=2): ...",
    "time.sleep(1.5)",
    "from time import sleep",
    "while time.monotonic() < end: ...",
    "assert time.time() - began < 2",
    "took = time.time() - began\nassert took < 2",
    "self.assertLess(time.time() - began, 1)",
    "assert datetime.now() - began < limit",
])
def test_what_a_busy_machine_fails_is_seen(source):
    assert faults_of(source)


@pytest.mark.parametrize("source", [
    "subprocess.run(command, timeout=PATIENCE_SECONDS)",
    "subprocess.run(command, timeout=60)",
    "thread.join(limit_under_test(0.1))",
    "LIMIT_UNDER_TEST = 0.5\nrequests.get(url, timeout=LIMIT_UNDER_TEST)",
    "config = {'timeout': limit_under_test(0.3)}",
    "until(ready, 'it is')",
    "let_pass(1.1)",
    "at_least(0.15, work)",
    "Settings.from_config({'timeout': -1})",
    "', '.join(names)",
    "mapping.get('key', 5)",
    "assert before <= call.time <= time.time()",
    textwrap.dedent("""
        async def sleep(seconds):
            sleeps.append(seconds)
        """),
])
def test_what_no_load_fails_is_let_be(source):
    assert faults_of(source) == []
