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
# They guard against growth: requests alone takes some 4 x and 21 MiB (docs/benchmarks.md).
MAX_RATIO, MAX_RATIO_WITH_CALL, MEMORY_MIB = 9.0, 10.0, 30
# They call an agent, a model, a route, or the platform's webhook.
CALLING = ("execute_", "call_llm", "log_")
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
    return _time_figures(timings) + _memory_figures(peaks)


@contextlib.contextmanager
def _prompt():
    before, python_runner.Job = python_runner.Job, _Prompt
    try:
        yield
    finally:
        python_runner.Job = before


def _time_figures(timings):
    floor = timings.pop("no-op")
    figures = [Figure(TIME, "no-op", 1000 * median(floor), "ms")]
    for label, values in timings.items():
        # Other load only adds time: the quickest rounds show what the process itself takes.
        figures.append(Figure(
            TIME, label, 1000 * median(values), "ms", min(values) / min(floor), "x",
            MAX_RATIO_WITH_CALL if label.startswith(CALLING) else MAX_RATIO,
        ))
    return figures


def _memory_figures(peaks):
    floor = peaks.pop("no-op")
    figures = [Figure(MEMORY, "no-op", median(floor), "MiB")]
    for label, values in peaks.items():
        figures.append(Figure(
            MEMORY, label, median(values), "MiB", min(values) - min(floor), "MiB", MEMORY_MIB,
        ))
    return figures


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
