"""What the servers of agents in the sandbox share: HTTP on 127.0.0.1, and a run on a thread."""
import http.server
import json
import threading
import uuid
from dataclasses import dataclass, field

from sandbox.server import Server

POLL_SECONDS = 0.01
RUNNING, COMPLETED, FAILED, CANCELLED = "running", "completed", "failed", "cancelled"


@dataclass
class AgentRun:
    """A run of an agent.

    :ivar key: the idempotency key that it was started with, or None.
    :ivar status: RUNNING, COMPLETED, FAILED or CANCELLED.
    :ivar output: the agent's answer, or the words of its error.
    """

    query: str
    key: str = None
    status: str = RUNNING
    output: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    cancelled: threading.Event = field(default_factory=threading.Event)


class AgentServer:
    """A server of one agent on 127.0.0.1: a context manager, which must be entered.

    A subclass has `answer`. A start with the key of an earlier one is that one.

    :param work: the agent: a function from its run to its answer, called on a thread of its own.
        What it raises is the error of the run; what it returns after `run.cancelled` is dropped.
    :ivar runs: all runs that were started, oldest first.
    """

    def __init__(self, work):
        self.runs = []
        self._work = work
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"agent": self})
        self._server = _HttpServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="agent", daemon=True
        ).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self):
        return "http://127.0.0.1:%d" % self._server.server_address[1]

    def answer(self, method, path, body, headers):
        """Return (status, body) of a request."""
        raise NotImplementedError

    def start(self, query, key=None):
        """Return the run that was started with the key, or a new one, which works from now on."""
        with self._lock:
            run = next((run for run in self.runs if key is not None and run.key == key), None)
            if run is not None:
                return run
            run = AgentRun(query, key)
            self.runs.append(run)
        threading.Thread(target=self._perform, args=(run,), daemon=True).start()
        return run

    def find(self, run_id):
        """Return the run of this id, or None."""
        with self._lock:
            return next((run for run in self.runs if run.id == run_id), None)

    def cancel(self, run):
        """Cancel a run unless it has ended."""
        with self._lock:
            if run.status == RUNNING:
                run.status = CANCELLED
        run.cancelled.set()

    def _perform(self, run):
        try:
            status, output = COMPLETED, self._work(run)
        except Exception as error:
            status, output = FAILED, str(error)
        with self._lock:
            if run.status == RUNNING:
                run.status, run.output = status, output


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    server_bind = Server.server_bind

    def handle_error(self, request, client_address):
        """Ignore it: a client may end with an open connection."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    agent = None

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        status, document = self.agent.answer(
            self.command, self.path, json.loads(text) if text else None, self.headers
        )
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *arguments):
        """Log nothing."""
