"""A fallback inside one process: the first target answers 429, the second 200."""
import json
import os
import pathlib
import subprocess
import sys

from benchmarks import peers
from benchmarks.figures import Figure
from benchmarks.measure import median, ratio

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GROUP = "Fallback in process: 429, then 200 (floor: two POSTs over a requests.Session)"
ROUNDS, LITELLM_ROUNDS = 300, 100
MAX_RATIO = 1.5
CLIENT_SECONDS = 300
_OURS = [
    ("floor", "requests.Session", None),
    ("tenacity", "tenacity + requests", None),
    ("empty", "synthralos, empty ledger", MAX_RATIO),
    ("full", "synthralos, full ledger windows", MAX_RATIO),
]


def measure(base, environments):
    """Figures. :param base: of the server; environments: the folder of the peers'."""
    timings = client(sys.executable, "ours", base, ROUNDS, [ROOT / "actions" / "lib"])
    figures = [
        Figure(
            GROUP,
            label,
            1000 * median(timings[name]),
            "ms",
            ratio(timings[name], timings["floor"]),
            "x",
            budget,
        )
        for name, label, budget in _OURS
    ]
    try:
        python = peers.litellm(environments)
    except peers.NotInstalled as error:
        print("LiteLLM is skipped: %s" % error, file=sys.stderr)
        return figures
    timings = client(python, "litellm_router", base, LITELLM_ROUNDS)
    figures.append(Figure(
        GROUP, "LiteLLM %s Router, num_retries=0" % peers.LITELLM, 1000 * median(timings["router"]),
        "ms", ratio(timings["router"], timings["floor"]), "x",
    ))
    return figures


def litellm_with_defaults(base, environments, group):
    """The Figure of one call while the primary keeps asking for 30 s; takes 90 s."""
    python = peers.litellm(environments)
    timings = client(python, "litellm_router", base, 0)
    return Figure(group, "LiteLLM %s Router, its defaults, one call" % peers.LITELLM,
                  timings["defaults"][0], "s")


def client(python, name, base, count, paths=()):
    """Run the client `name` in its own process and return the JSON that it printed."""
    environment = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(str(path) for path in [ROOT / "dev"] + list(paths)),
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    completed = subprocess.run(
        [python, "-m", "benchmarks.clients." + name, base, str(count)],
        env=environment, stdout=subprocess.PIPE, text=True, timeout=CLIENT_SECONDS, check=True,
    )
    return json.loads(completed.stdout.splitlines()[-1])
