"""The HTTP server: connections, requests, and the faults below HTTP."""
import http.client
import http.server
import json
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
from urllib.parse import parse_qsl

from sandbox import control, steps, world
from sandbox.answers import Answer, answer
from sandbox.calls import Call

BODILESS = (204, 304)


class Server(http.server.ThreadingHTTPServer):
    """Answers for a Sandbox, with one thread for each connection.

    :ivar closing: set when the server ends; every wait must end with it.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port, box):
        self.box = box
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._open = set()
        super().__init__(("127.0.0.1", port), _Connection)

    def server_bind(self):
        # HTTPServer would resolve the host's name here, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def opened(self, connection):
        with self._lock:
            self._open.add(connection)
        if self.closing.is_set():
            _hang_up(connection)

    def closed(self, connection):
        with self._lock:
            self._open.discard(connection)

    def close(self):
        """End the listener and the connections that clients keep alive."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            remaining = list(self._open)
        for connection in remaining:
            _hang_up(connection)

    def handle_error(self, request, client_address):
        # A client that disconnected is not an error: many tests are about time-outs.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.opened(self.connection)

    def finish(self):
        self.server.closed(self.connection)
        super().finish()

    def log_message(self, format, *args):
        pass

    def _serve(self):
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not length.isdigit():
            self.close_connection = True
            self._send(answer(411, {"error": "Send the body with a Content-Length"}))
            return
        call = self._call(self.rfile.read(int(length)))
        if control.concerns(call.path):
            self._send(control.handle(self.server.box, call))
            return
        box = self.server.box
        exchange = world.exchange(
            call, box.record.number(), box.errors, box.nodes, box.series_by_query
        )
        call.target = exchange.target
        box.record.add(call)
        try:
            self._play(call, exchange)
        except OSError:
            raise
        except Exception as error:
            # An error of the script, such as a function that raises: show it to its author.
            traceback.print_exc()
            call.step = "broken"
            message = f"The sandbox's script failed: {type(error).__name__}: {error}"
            self._answer(call, answer(500, {"error": message}))
        box.watch(call)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _call(self, data):
        path = self.path
        if path.startswith(("http://", "https://")):
            # The form of a request to a proxy.
            path = "/" + path.split("/", 3)[3] if path.count("/") > 2 else "/"
        path, _, query = path.partition("?")
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = headers[name] + ", " + value if name in headers else value
        return Call(
            time=time.time(),
            target="",
            method=self.command,
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=_parsed(data, headers.get("content-type", "")),
        )

    def _play(self, call, exchange):
        scripts = self.server.box.scripts
        if scripts.dead(exchange.target):
            step = steps.reset()
        elif exchange.refusal is not None:
            call.step = "refused" if exchange.refusal.status >= 400 else "ok"
            self._answer(call, exchange.refusal)
            return
        else:
            item = scripts.next(exchange.target) if exchange.scripted else None
            step = steps.resolved(item, call)
        while step.name == "delay":
            call.step = "delay"
            if self.server.closing.wait(step.get("seconds")):
                step = steps.reset()
            else:
                step = steps.resolved(step.get("then"), call)
        call.step = step.name
        if step.name == "reset":
            self._reset()
        elif step.name == "cut":
            then = steps.resolved(step.get("then"), call)
            self._cut(call, exchange.render(then))
        elif step.name == "malformed":
            full = exchange.render(steps.ok())
            half = full.body[: len(full.body) // 2] or b"{"
            self._answer(call, Answer(full.status, half, full.headers))
        else:
            self._answer(call, exchange.render(step))

    def _answer(self, call, response):
        # Set before sending: a client with the answer may read the record at once.
        call.status = response.status
        self._send(response)

    def _send(self, response):
        bare = self.command == "HEAD" or response.status in BODILESS
        # One write: a head sent alone would cost the client a second read.
        self.wfile.write(
            self._head(response, len(response.body)) + (b"" if bare else response.body)
        )

    def _cut(self, call, response):
        call.status = response.status
        half = response.body[: len(response.body) // 2]
        self.close_connection = True
        self.wfile.write(self._head(response, max(1, len(response.body))) + half)

    def _reset(self):
        self.close_connection = True
        # Closing without lingering sends a reset. Files on the socket would keep it open.
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.rfile.close()
        self.connection.close()

    def _head(self, response, length):
        reason = http.client.responses.get(response.status, "Overloaded")
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.status not in BODILESS:
            lines.append(f"Content-Length: {length}")
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")


def _parsed(data, kind):
    text = data.decode("utf-8", "replace")
    if not text:
        return None
    if "json" in kind.lower() or text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _hang_up(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
