"""Stored facts of one agent or target, in stores of three sizes.

The store is in memory, so only the library's own work is measured. Listings are one page of at most
100, so no operation may take longer with ten pages than with one.
"""
import sys

from benchmarks.fallback import ROOT, client
from benchmarks.figures import Figure
from benchmarks.measure import median, ratio

GROUP = "Facts of one agent in the store (floor: the same with 100 of them, a page)"
ROUNDS = 100
SIZES = (10, 100, 1000)
PAGE_SIZE = 100
MAX_RATIO = 1.5


def measure():
    """Figures."""
    timings = client(sys.executable, "ours", "records", ROUNDS, [ROOT / "actions" / "lib"])
    figures = []
    for operation in dict.fromkeys(name.rpartition(", ")[0] for name in timings):
        floor = timings["%s, %d" % (operation, PAGE_SIZE)]
        for size in SIZES:
            seconds = timings["%s, %d" % (operation, size)]
            figures.append(Figure(
                GROUP, "%s, %d" % (operation, size), 1e6 * median(seconds), "us",
                ratio(seconds, floor), "x", MAX_RATIO if size > PAGE_SIZE else None,
            ))
    return figures
