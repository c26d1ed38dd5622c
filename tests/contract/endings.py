"""The ways in which an action may end, as a workflow sees them.

PLAIN are statuses and results as StackStorm has them whatever the action: a crash yields no result
of the pack's making. WORK is what an action's own work gives back, which goes through the base
class of the pack's actions first: `ended` does that.
"""
import functools
import math

from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import seal

CRASHED = "None"


def _process(result, exit_code=1, stderr="", **more):
    return dict({"stdout": "", "stderr": stderr, "exit_code": exit_code, "result": result}, **more)


TIME_OUT = "Action failed to complete in 600 seconds"
PLAIN = {
    "raises": ("failed", _process(CRASHED, stderr="ValueError")),
    "sys.exit": ("failed", _process(CRASHED, 3)),
    "sys.exit of 0": ("succeeded", _process(CRASHED, 0)),
    "os._exit": ("failed", _process(CRASHED, 4)),
    "import error": ("failed", _process(CRASHED, stderr="ModuleNotFoundError")),
    "syntax error": ("failed", _process(CRASHED, stderr="SyntaxError")),
    "missing file": ("failed", _process(CRASHED, stderr="FileNotFoundError")),
    "no class": ("failed", _process(CRASHED, stderr="no classes in plugin file")),
    "longer than its timeout": ("timeout", _process(CRASHED, -15, error=TIME_OUT)),
    "killed": ("timeout", _process(CRASHED, -9, error=TIME_OUT)),
    "nothing": ("succeeded", _process(None, 0)),
    "text": ("succeeded", _process("text", 0)),
    "list": ("succeeded", _process([1, 2], 0)),
    "not JSON": ("succeeded", _process("{'odd': <object object at 0x7f>}, 'status': None}", 0)),
    "False, None": ("failed", _process(None)),
    "False, text": ("failed", _process("text")),
    "False, number": ("failed", _process(7)),
    "False, list": ("failed", _process([1, 2])),
    "neither True nor False": ("failed", {"error": "got: x", "traceback": "..."}),
    "missing result": ("failed", {"stdout": "", "stderr": "", "exit_code": 1}),
    "no result at all": ("failed", None),
    "empty result": ("failed", {}),
    "abandoned": ("abandoned", None),
    "abandoned after a start": ("abandoned", {}),
    "a broken virtualenv": ("failed", {"error": "no virtualenv", "traceback": "..."}),
}


def _raised(error):
    raise error


def _next(cursor=1, delay=0, carry=None, without=()):
    following = {"cursor": cursor, "delay": delay, "carry": carry or seal({"workflow": "x"})}
    return {name: value for name, value in following.items() if name not in without}


def _failed(**fields):
    return False, dict({"summary": "it failed"}, **fields)


# `cursor` is the action's own round: a `next` must name a later one.
WORK = {
    "a mapping": lambda cursor: {"summary": "done", "success": True, "attempts": 1},
    "a mapping with next": lambda cursor: {"summary": "done", "next": _next(cursor + 1)},
    "False, next": lambda cursor: _failed(next=_next(cursor + 1)),
    "False, next after 3 s": lambda cursor: _failed(next=_next(cursor + 1, 3)),
    "False, next is null": lambda cursor: _failed(next=None, carry=seal({})),
    "False, no next": lambda cursor: _failed(carry=seal({})),
    "False, next is text": lambda cursor: _failed(next="text"),
    "False, next is a list": lambda cursor: _failed(next=[1]),
    "False, next is empty": lambda cursor: _failed(next={}),
    "delay is a fraction": lambda cursor: _failed(next=_next(cursor + 1, 0.5)),
    "delay is negative": lambda cursor: _failed(next=_next(cursor + 1, -1)),
    "delay is text": lambda cursor: _failed(next=_next(cursor + 1, "1")),
    "delay is null": lambda cursor: _failed(next=_next(cursor + 1, None)),
    "delay is true": lambda cursor: _failed(next=_next(cursor + 1, True)),
    "delay is no number": lambda cursor: _failed(next=_next(cursor + 1, math.nan)),
    "delay is missing": lambda cursor: _failed(next=_next(cursor + 1, without=["delay"])),
    "cursor is missing": lambda cursor: _failed(next=_next(without=["cursor"])),
    "cursor is text": lambda cursor: _failed(next=_next("1")),
    "cursor is null": lambda cursor: _failed(next=_next(None)),
    "cursor has not grown": lambda cursor: _failed(next=_next(cursor)),
    "cursor has shrunk": lambda cursor: _failed(next=_next(cursor - 1)),
    "carry is missing": lambda cursor: _failed(next=_next(cursor + 1, without=["carry"])),
    "carry is a number": lambda cursor: _failed(next=_next(cursor + 1, carry=7)),
    "carry is text": lambda cursor: _failed(next=_next(cursor + 1, carry="<% ctx() %>")),
    "refuses": lambda cursor: _raised(InvalidInput("field", "value", "is wrong", "Right it")),
    "an error in the work": lambda cursor: _raised(RuntimeError("as asked")),
    "an error that is no text": lambda cursor: _raised(KeyError(("a", b"\xff"))),
    "recursion": lambda cursor: _raised(RecursionError()),
    "work gives nothing": lambda cursor: None,
    "work gives text": lambda cursor: "text",
    "work gives False and nothing": lambda cursor: (False, None),
}
ALL = list(PLAIN) + list(WORK)


@functools.cache
def _stub():
    from synthralos_action import SynthralosAction

    class Stub(SynthralosAction):
        def run(self, **parameters):
            raise NotImplementedError

    return Stub(config={})


def ended(name, task_input):
    """Return (status, result) of the ending called `name`.

    :param task_input: the input with which the task was requested.
    """
    if name in PLAIN:
        return PLAIN[name]
    cursor = task_input.get("cursor") or 0
    try:
        succeeded, result = _stub().perform(
            lambda env, parameters: WORK[name](cursor), dict(task_input)
        )
    except Exception:
        return PLAIN["raises"]
    return ("succeeded", _process(result, 0)) if succeeded else ("failed", _process(result))
