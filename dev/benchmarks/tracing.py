"""The cost of traces for an action: off, sent to a collector, and to one that never answers."""
import contextlib
import http.server
import os
import pathlib
import socket
import tempfile
import threading
import time

from benchmarks.figures import Figure
from benchmarks.measure import interleaved, median
from sandbox import Sandbox
from st2local import St2Local

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
GROUP = "Traces: call_llm, a process with one call (floor: without them, quickest rounds of both)"
BUDGET_MS, TIMEOUT = 50, 1.0
ROUNDS = 9
ACTION, PARAMETERS = "synthralos.call_llm", {"model": "gpt-4", "prompt": "Hello", "timeout": 3600}


def measure(folder):
    """Figures. :param folder: an empty one, for state."""
    with contextlib.ExitStack() as stack:
        # Where a host marks its collector as unavailable.
        stack.enter_context(_temporary(folder))
        box = stack.enter_context(Sandbox())
        tasks = {"off": _task(stack, box, folder / "off", None)}
        tasks["to a collector"] = _task(
            stack, box, folder / "on", stack.enter_context(_collector_url())
        )
        hole = stack.enter_context(_black_hole_url())
        tasks["to a black hole, the first in a minute"] = _task(
            stack, box, folder / "hole", hole, lambda: _forget_unavailable(folder))
        tasks["to a black hole, after that"] = _task(stack, box, folder / "after", hole)
        timings = interleaved(tasks, ROUNDS)
    floor = timings["off"]
    return [Figure(GROUP, "off", 1000 * median(floor), "ms")] + [
        Figure(
            GROUP, label, 1000 * median(values), "ms", 1000 * (min(values) - min(floor)), "ms",
            BUDGET_MS + (1000 * TIMEOUT if "first" in label else 0),
        )
        for label, values in timings.items() if label != "off"
    ]


def _task(stack, box, folder, endpoint, before=None):
    config = box.pack_config()
    if endpoint is not None:
        config["tracing"] = {"endpoint": endpoint, "timeout": TIMEOUT}
    local = stack.enter_context(St2Local(PACK, config, folder))

    def once():
        if before is not None:
            before()
        started_at = time.perf_counter()
        execution = local.run(ACTION, PARAMETERS)
        seconds = time.perf_counter() - started_at
        assert execution["status"] == "succeeded", execution["result"]
        return seconds

    return once


@contextlib.contextmanager
def _temporary(folder):
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        tempfile.tempdir = None


def _forget_unavailable(folder):
    for mark in folder.glob("synthralos-*-traces-away"):
        mark.unlink()


@contextlib.contextmanager
def _collector_url():
    """Yield the URL of a collector that accepts everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield "http://127.0.0.1:%d" % server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        assert b'"chat gpt-4"' in self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        """Log nothing."""


@contextlib.contextmanager
def _black_hole_url():
    """Yield the URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as hole:
        yield "http://127.0.0.1:%d" % hole.getsockname()[1]
