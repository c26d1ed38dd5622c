"""Providers on loopback that fail as the corpus of provider failures says.

A process of its own: `python -m benchmarks.corpus_server`, with dev/ and tests/ on PYTHONPATH,
prints its URL and serves until its standard input ends. A POST to `/<id of an entry>/...` gets that
entry; `GET /calls` returns {id: number of such POSTs}.
"""
from __future__ import annotations

import collections
import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fixtures.corpus import CorpusEntry

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CALLS = "/calls"
STOP_SECONDS = 10


class _Server(http.server.ThreadingHTTPServer):
    """:ivar calls: {id: POSTs so far}."""

    daemon_threads = True
    # Clients with many threads open their connections at the same moment.
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # Only the server's own process has tests/ on its path.
        from fixtures.corpus import load

        self.entries = {entry.id: entry for entry in load()}
        self.calls: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d" % self.server_port


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # One packet for head and body: Nagle's algorithm would hold back the second one.
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        entry = self.server.entries.get(self.path.split("/")[1])
        if entry is None:
            self._send(404, {}, b"")
            return
        with self.server.lock:
            self.server.calls[entry.id] += 1
        self._send_entry(entry)

    def do_GET(self) -> None:
        if self.path != CALLS:
            self._send(404, {}, b"")
            return
        with self.server.lock:
            body = json.dumps(self.server.calls).encode()
        self._send(200, {"content-type": "application/json"}, body)

    def _send_entry(self, entry: CorpusEntry) -> None:
        response = entry.response_at(time.time())
        headers = dict(response.headers)
        if "location" in headers:
            # A client that follows redirects must not leave this machine.
            headers["location"] = self.server.url + "/elsewhere"
        self._send(response.status, headers, response.body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a server that runs until the block ends."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("dev", "tests"))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.corpus_server"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=dict(os.environ, PYTHONPATH=path),
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(STOP_SECONDS)


def calls(url: str) -> dict[str, int]:
    """Return {id of an entry: calls so far}; entries that were not called are missing."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url + CALLS, timeout=STOP_SECONDS) as response:
        counts: dict[str, int] = json.load(response)
    return counts


def _serve() -> None:
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.url, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
