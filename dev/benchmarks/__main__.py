"""Measure, print the table, and exit 1 if a budget is exceeded."""
import argparse
import json
import os
import pathlib
import platform
import sys
import tempfile
import time

from benchmarks import (
    corpus,
    fallback,
    live,
    orchestration,
    peers,
    processes,
    records,
    scale,
    server,
    tracing,
    workflows,
)
from benchmarks.figures import table

PARTS = (
    "fallback", "corpus", "records", "workflows", "executions", "processes", "tracing", "scale",
    "orchestration", "live",
)


def main(words=None):
    """Run the benchmarks and return the exit code."""
    options = _parser().parse_args(words)
    figures = []
    with server.running() as base, tempfile.TemporaryDirectory() as folder:
        for part in options.only or PARTS:
            started_at = time.monotonic()
            figures += _measure_part(part, base, pathlib.Path(folder), options)
            _say("%s took %.0f s" % (part, time.monotonic() - started_at))
    machine = _machine()
    print(", ".join("%s: %s" % pair for pair in machine.items()) + "\n")
    print(table(figures))
    failed = [figure.label for figure in figures if figure.holds is False]
    print("\n" + ("Over budget: " + "; ".join(failed) if failed else "Every budget holds."))
    if options.json:
        written = {"machine": machine, "figures": [figure.as_dict() for figure in figures]}
        pathlib.Path(options.json).write_text(json.dumps(written, indent=1) + "\n")
    return 1 if failed else 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="What recovery costs. Takes some minutes.")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE, as JSON")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given repeatedly")
    parser.add_argument("--peers", metavar="FOLDER", default=".bench",
                        help="folder for the environments of LiteLLM and others")
    parser.add_argument("--slow", action="store_true",
                        help="also let LiteLLM wait by its defaults (90 s more), and run 300 "
                             "steps one after another")
    return parser


def _measure_part(part, base, folder, options):
    folder = folder / part
    folder.mkdir()
    if part == "fallback":
        return fallback.measure(base, options.peers)
    if part == "corpus":
        return corpus.measure(base, options.peers)
    if part == "records":
        return records.measure()
    if part == "workflows":
        return workflows.times(base, folder) + _slow(base, options)
    if part == "executions":
        return workflows.counts(folder)
    if part == "processes":
        return processes.measure(folder)
    if part == "tracing":
        return tracing.measure(folder)
    if part == "scale":
        return scale.measure(folder)
    if part == "orchestration":
        return orchestration.measure(base, folder, options.slow)
    if not os.environ.get("ST2_API_URL"):
        _say("ST2_API_URL is not set: no live StackStorm is measured")
    return live.measure(base)


def _slow(base, options):
    if not options.slow:
        return []
    try:
        return [fallback.litellm_with_defaults(base, options.peers, workflows.TIME)]
    except peers.NotInstalled as error:
        _say("LiteLLM is skipped: %s" % error)
        return []


def _machine():
    return {
        "cores": os.cpu_count(),
        "python": "%s %s" % (platform.python_implementation(), platform.python_version()),
        "kernel": "%s %s" % (platform.system(), platform.release()),
        "load": "%.1f" % os.getloadavg()[0],
    }


def _say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
