"""Many agent_recovery at once, a third of the platform's answers failing.

Always on st2local; also on a live StackStorm if ST2_API_URL names one (see live.py). Each run is
checked as well: it must end as expected and call its agent as often as it says.
"""
import collections
import os
import pathlib
import secrets
import threading
import time

from benchmarks import live
from benchmarks.figures import Figure
from sandbox import Sandbox, agent_failed, ok, status
from st2local import St2Local

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
GROUP = "Seconds per agent_recovery of many at once on %s (floor: %s)"
OF_TEN = "of ten at once"
# StackStorm's example of three tasks in a row: what a burst of workflows costs StackStorm itself.
SEQUENTIAL = "examples.orquesta-sequential"
DEAD = "Calls that a dead platform gets from 50 agent_recovery, one started after the other"
SIZES_LOCAL, SIZES_LIVE = (10, 50), (10, 50, 100)
# Anything worse than linear grows with the number of runs; a tenth is noise.
MAX_GROWTH = 1.1
BROKEN_EVERY = 10
RUN_SECONDS = 1800
# Calls until the breaker opens; it stays open for longer than the runs last.
MAX_DEAD_CALLS, OPEN_SECONDS = 5, 3600


class Load:
    """`number` recoveries, each of an agent of its own.

    Every third answer of the platform is a 503; every tenth agent never answers well.
    """

    def __init__(self, box, number):
        self.box, self.number = box, number
        self.name = "load-%s" % secrets.token_hex(3)
        self._lock, self._calls = threading.Lock(), collections.Counter()
        box.script("platform", [self._answer], forever=True)

    def parameters(self, n):
        return {
            "agent_id": "%s-%d" % (self.name, n), "failure_type": "error",
            "original_query": "question %d" % n, "retry_delay": 0, "timeout": RUN_SECONDS,
            "context": {"repairPlan": {"steps": [{"action": "retry_execution"}]}},
        }

    def _answer(self, call):
        n = int(call.body["query"].rpartition(" ")[2])
        with self._lock:
            self._calls[n] += 1
            times = self._calls[n]
        if n % BROKEN_EVERY == BROKEN_EVERY - 1:
            return agent_failed()
        return status(503) if (n + times) % 3 == 0 else ok()

    def check(self, executions):
        """Check how each run ended and how often its agent was called.

        :raises AssertionError: if either is not as expected.
        """
        for n, execution in enumerate(executions):
            output = (execution["result"] or {}).get("output") or {}
            broken = n % BROKEN_EVERY == BROKEN_EVERY - 1
            assert execution["status"] == ("failed" if broken else "succeeded"), (n, output)
            assert bool(output["ticket"]) == broken, (n, output)
            assert output["attempts"] == self._calls[n], (n, output, self._calls[n])


def measure(folder):
    """Figures. :param folder: an empty one, for state."""
    figures = _figures(GROUP % ("st2local", OF_TEN), [(n, _local(folder, n)) for n in SIZES_LOCAL])
    figures.append(_dead(folder))
    if os.environ.get("ST2_API_URL"):
        st2 = live.stackstorm()
        with Sandbox() as box, live.configured(st2, box.pack_config()):
            figures += _on_stackstorm(st2, box)
    return figures


def _on_stackstorm(st2, box):
    if not st2.knows(SEQUENTIAL):
        timings = [(n, _live(st2, box, n)) for n in SIZES_LIVE]
        return _figures(GROUP % ("StackStorm", OF_TEN), timings)
    # Each size next to its floor, for what StackStorm has stored by then makes both slower.
    timings = [(n, _floor(st2, n), _live(st2, box, n)) for n in SIZES_LIVE]
    first = timings[0][1]
    group = GROUP % ("StackStorm", "%s, times as many of %s" % (OF_TEN, SEQUENTIAL))
    return [
        Figure(group, "%d of %s" % (n, SEQUENTIAL), floor / n, "s", note="%.0f s in all" % floor)
        for n, floor, _ in timings
    ] + _figures(group, [(n, seconds) for n, _, seconds in timings],
                 [floor / n / (first / SIZES_LIVE[0]) for n, floor, _ in timings])


def _figures(group, timings, growth=None):
    """:param growth: the floor of each size relative to the first; default: 1 for each."""
    first = timings[0][1] / timings[0][0]
    return [
        Figure(
            group,
            "%d at once" % number,
            seconds / number,
            "s",
            seconds / number / (first * growth_factor),
            "x",
            MAX_GROWTH,
            "%.0f s in all" % seconds,
        )
        for (number, seconds), growth_factor in zip(timings, growth or [1.0] * len(timings))
    ]


def _local(folder, number):
    """Return the seconds until the last of `number` recoveries has ended."""
    with Sandbox() as box, St2Local(
            PACK, box.pack_config(), folder / ("scale-%d" % number)) as local:
        load = Load(box, number)
        started_at = time.perf_counter()
        handles = [
            local.start("synthralos.agent_recovery", load.parameters(n)) for n in range(number)
        ]
        ended = [handle.wait(timeout=RUN_SECONDS) for handle in handles]
        seconds = time.perf_counter() - started_at
        load.check(ended)
    return seconds


def _live(st2, box, number):
    """The same on StackStorm, from the first request to the last end."""
    box.reset()
    load = Load(box, number)
    started_at = time.perf_counter()
    started = [
        st2.start("synthralos.agent_recovery", load.parameters(n)) for n in range(number)
    ]
    ended = [st2.ended(run_id, RUN_SECONDS) for run_id in started]
    seconds = time.perf_counter() - started_at
    load.check(ended)
    return seconds


def _floor(st2, number):
    started_at = time.perf_counter()
    for run_id in [st2.start(SEQUENTIAL, {"name": "x"}) for _ in range(number)]:
        assert st2.ended(run_id, RUN_SECONDS)["status"] == "succeeded"
    return time.perf_counter() - started_at


def _dead(folder):
    with Sandbox() as box:
        config = dict(box.pack_config(), breaker={"open_seconds": OPEN_SECONDS})
        box.script("platform", [status(503)], forever=True)
        with St2Local(PACK, config, folder / "scale-dead") as local:
            for n in range(50):
                local.run("synthralos.agent_recovery", {
                    "agent_id": "dead-%d" % n, "failure_type": "error", "original_query": "q",
                    "retry_delay": 0, "max_retries": 0, "timeout": 30,
                })
        calls = len(box.calls_to("platform"))
    return Figure(DEAD, "answers 503", calls, "calls", budget=MAX_DEAD_CALLS,
                  note="concurrent runs cannot see each other's calls")
