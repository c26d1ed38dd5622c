"""The cost of each action's process over that of a Python action that does nothing.

Each is run as st2local runs it, with the parameters that the workflow gave it: a process, its
imports, the reads and writes of the ledger, the call to the sandbox.
"""
import contextlib
import os
import pathlib
import time

from benchmarks import noops
from benchmarks.figures import Figure
from benchmarks.measure import interleaved, median
from sandbox import Sandbox, status
from st2local import St2Local, python_runner

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
TIME = "Time of an action's process (floor: a no-op Python action, quickest rounds of both)"
MEMORY = "Peak memory of an action's process (floor: a no-op Python action)"
CALL_MS, PLANNING_MS, MEMORY_MIB = 250, 350, 40
ROUNDS, MEMORY_ROUNDS = 9, 2
LONG = {"timeout": 3600}
PLAN = {"steps": [{"action": "retry_execution"}]}
SCHEMA = {"type": "string"}
AGENT = dict(LONG, agent_id="bench", failure_type="timeout", original_query="What is 6 x 7?")
MODEL = dict(
    LONG,
    original_request={"prompt": "Say hello", "model": "gpt-4"},
    failure_reason="Rate limit exceeded",
    fallback_models=["claude-3-haiku"],
)
ROUTED = dict(
    LONG,
    original_request={"endpoint": "/api/v1/llm", "model": "gpt-4"},
    failure_reason="Region unavailable",
    fallback_regions=["eu-west-1"],
)
# ru_maxrss of a child includes the memory of its parent at the fork, so the child itself reads the
# peak that Linux records for its program.
_LOOK = '''import atexit
import os


def write_peak():
    with open("/proc/self/status") as status, open(os.environ["BENCHMARK_PEAK"], "a") as file:
        file.write(next(line for line in status if line.startswith("VmHWM")).split()[1] + "\\n")


atexit.register(write_peak)
'''


class _Prompt(python_runner.Job):
    """Notices the end of the process at once.

    A wait with a time limit is a poll in CPython, every 50 ms after the first 60: too coarse here.
    """

    def finish(self, stdin_data, seconds, on_line):
        return super().finish(stdin_data, None, on_line)


def measure(folder):
    """Figures. :param folder: an empty one, for state."""
    nothing = noops.write_pack(folder / "pack", PACK)
    with _prompt(), Sandbox() as box, \
            St2Local(PACK, box.pack_config(), folder / "state") as local, \
            St2Local(nothing, {}, folder / "nothing") as idle:
        tasks = {"no-op": _task(idle, noops.ACTION, {})}
        actions = _actions(local, box)
        for name, (ref, parameters) in actions.items():
            tasks[name] = _task(local, ref, parameters)
        timings = interleaved(tasks, ROUNDS)
        peaks = _peaks(tasks, folder)
    return _figures(TIME, timings, "ms", 1000, _time_budget) + _figures(
        MEMORY, peaks, "MiB", 1, lambda name: MEMORY_MIB)


@contextlib.contextmanager
def _prompt():
    before, python_runner.Job = python_runner.Job, _Prompt
    try:
        yield
    finally:
        python_runner.Job = before


def _figures(group, timings, unit, factor, budget_of):
    floor = timings.pop("no-op")
    figures = [Figure(group, "no-op", factor * median(floor), unit)]
    for label, values in timings.items():
        # Other load only adds time: the quickest rounds show what the process itself takes.
        figures.append(Figure(
            group, label, factor * median(values), unit, factor * (min(values) - min(floor)), unit,
            budget_of(label),
        ))
    return figures


def _time_budget(label):
    return PLANNING_MS if label.startswith("generate_repair_plan") else CALL_MS


def _task(local, ref, parameters):
    def once():
        started_at = time.perf_counter()
        execution = local.run(ref, parameters)
        seconds = time.perf_counter() - started_at
        assert execution["status"] == "succeeded", (ref, execution["result"])
        return seconds

    return once


def _actions(local, box):
    """Return {name: (ref, parameters)} of the ten actions, as the workflows requested them."""
    requests = {}

    def note(workflow, parameters, only=None, suffix=""):
        run = local.run("synthralos." + workflow, parameters)
        for child in reversed(local.executions(parent=run["id"])):
            name = child["action"]["name"]
            if only in (None, name):
                requests[name + suffix] = child["action"]["ref"], child["parameters"]

    note("agent_recovery", AGENT)
    note("agent_recovery", dict(AGENT, context={"repairPlan": PLAN}), "generate_repair_plan",
         ", plan given")
    note("agent_recovery", dict(AGENT, context={"expected_schema": SCHEMA}), "execute_recovery",
         ", expected_schema")
    note("llm_retry", MODEL)
    note("reroute_request", ROUTED)
    for target, workflow, parameters, only in (
        ("platform", "agent_recovery", AGENT, "log_recovery_failure"),
        ("llm:*", "llm_retry", MODEL, "log_retry_failure"),
        ("route:*", "reroute_request", ROUTED, "log_reroute_failure"),
    ):
        box.script(target, [status(400)], forever=True)
        note(workflow, parameters, only)
    box.reset()
    return requests


def _peaks(tasks, folder):
    """Return {name: [peak MiB]}."""
    peaks = {name: [] for name in tasks}
    with looking(folder) as seen:
        for _ in range(MEMORY_ROUNDS):
            for name, task in tasks.items():
                task()
                peaks[name].append(seen()[-1])
    return peaks


@contextlib.contextmanager
def looking(folder):
    """Yield a function that returns the peaks, in MiB, of the processes that have ended."""
    (folder / "look").mkdir()
    (folder / "look" / "sitecustomize.py").write_text(_LOOK)
    file = folder / "peak"
    with _environ(PYTHONPATH=str(folder / "look"), BENCHMARK_PEAK=str(file)):
        yield lambda: [int(line) / 1024 for line in file.read_text().split()]


@contextlib.contextmanager
def _environ(**variables):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
