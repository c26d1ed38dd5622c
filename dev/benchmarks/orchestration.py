"""Whole orchestration.run on st2local: what a step takes, and whether that grows with their number.

A step alone is one execution; a group of n is n and that of next_wave. Beyond the 100 steps that an
orchestration may have, a loop repeats them.
"""
import pathlib
import time

from benchmarks import noops
from benchmarks.figures import Figure
from benchmarks.measure import median
from benchmarks.processes import looking
from benchmarks.server import HEALTHY
from st2local import St2Local

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
TIME = "A step of orchestration.run on st2local (floor: a workflow of two no-op Python actions)"
STORED_TITLE = "Stored bytes of a run, per step (floor: a run of 10 steps)"
MEMORY = "Peak memory of a run's largest process (floor: a run of 10 steps)"
ROUNDS = 5
# The maximum of a step of a long run, as a multiple of one of a short run.
MAX_RATIO = 1.5
MEMORY_MIB = 10
SHORT = "10 steps"
# {what: (steps, of a group, rounds of a loop)}
RUNS = {
    SHORT: (10, 1, 1),
    "100 steps": (100, 1, 1),
    "100 steps in groups of 10": (100, 10, 1),
    "300 steps in groups of 10": (60, 10, 5),
}
LONG_RUNS = {"300 steps": (60, 1, 5)}


def measure(base, folder, slow=False):
    """Figures. :param folder: an empty one; slow: also LONG_RUNS, three minutes more."""
    floor = _floor(folder)
    runs = dict(RUNS, **(LONG_RUNS if slow else {}))
    results = {label: _run(base, folder / str(n), *shape) for n, (label, shape) in
             enumerate(runs.items())}
    short = results[SHORT]
    figures = [Figure(TIME, "two no-op Python actions", 1000 * floor, "ms", 1.0, "x")]
    for label, (seconds, _, _) in results.items():
        figures.append(Figure(
            TIME, label, 1000 * seconds, "ms", seconds / floor, "x",
            # Measured on the same machine, so that it shows growth and not slowness.
            MAX_RATIO * short[0] / floor if label != SHORT else None,
        ))
    figures += [Figure(STORED_TITLE, label, result[1] / 1024, "KiB", result[1] / short[1], "x")
                for label, result in results.items()]
    return figures + [
        Figure(MEMORY, label, result[2], "MiB", result[2] - short[2], "MiB", MEMORY_MIB)
        for label, result in results.items()
    ]


def _floor(folder):
    pack, seconds = noops.write_pack(folder / "pack", PACK), []
    with St2Local(pack, {}, folder / "noops") as local:
        parameters = {"original_request": {"prompt": "x", "model": "bench"}, "failure_reason": "x"}
        for _ in range(ROUNDS):
            started_at = time.perf_counter()
            execution = local.run(noops.WORKFLOW, parameters)
            seconds.append(time.perf_counter() - started_at)
            assert execution["status"] == "succeeded", execution["result"]
    return median(seconds)


def _run(base, folder, steps, group, rounds):
    """Return (seconds of a step, stored bytes of a step, MiB of the largest process)."""
    folder.mkdir()
    config = {"providers": [{"name": "bench", "base_url": base + HEALTHY, "api_key": "sk-bench",
                             "models": [{"name": "bench"}]}],
              "orchestration": {"max_concurrent": group}}
    with St2Local(PACK, config, folder / "state") as local, looking(folder) as peaks:
        created = local.run("synthralos.orchestration.create", {
            "name": "bench", "steps": _steps(steps, group, rounds),
        })
        assert created["status"] == "succeeded", created["result"]
        started_at = time.perf_counter()
        execution = local.run("synthralos.orchestration.run", {
            "orchestration": "bench", "timeout": 3600})
        seconds = time.perf_counter() - started_at
        assert execution["status"] == "succeeded", execution["result"]
        stored_bytes = sum(len(value) for prefix in ("wave", "step")
                   for value in _values(local, "synthralos.%s.%s." % (prefix, execution["id"])))
        return seconds / (steps * rounds), stored_bytes / (steps * rounds), max(peaks())


def _steps(count, group, rounds):
    steps = [
        dict({"name": "step %d" % n, "input": "go on"},
             **({"group": "g%d" % (n // group), "order": n // group} if group > 1 else {}))
        for n in range(count)
    ]
    return steps if rounds == 1 else [{"name": "L", "loop": {"steps": steps, "max_rounds": rounds}}]


def _values(local, prefix):
    return [row["value"] for row in local.keys.list(prefix=prefix, limit=-1)]
