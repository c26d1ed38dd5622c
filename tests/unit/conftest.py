"""What the unit tests share: a clock, a datastore in memory, an environment, a loopback server."""
import random
import socket
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.config.settings import Settings
from synthralos.core.redaction import Redactor
from synthralos.runtime.environment import Environment
from synthralos.storage.datastore import BestEffortDatastore, DatastoreUnavailable

try:
    from hypothesis import settings as hypothesis_settings
except ImportError:
    # The tests that need it skip, and say so.
    pass
else:
    hypothesis_settings.register_profile(
        "unit", derandomize=True, deadline=None, max_examples=60, database=None
    )
    hypothesis_settings.load_profile("unit")

CONFIG = {
    "platforms": [{
        "base_url": "http://127.0.0.1:9/agents",
        "fallbacks": [{"name": "standby", "base_url": "http://127.0.0.1:9/standby"}],
    }],
    "providers": [
        {
            "name": "openai",
            "base_url": "http://127.0.0.1:9/v1",
            "models": [{"name": "gpt-4", "context_window": 8192}, "gpt-4o"],
        },
        {
            "name": "anthropic",
            "api": "anthropic",
            "base_url": "http://127.0.0.1:9",
            "models": [{"name": "claude", "context_window": 200000}],
        },
    ],
    "routes": [
        {"provider": provider, "region": region, "base_url": "http://%s.%s" % (region, provider)}
        for provider in ("openai", "anthropic")
        for region in ("us", "eu")
    ],
    "default_region": "us",
    "model_map": {"anthropic": {"gpt-4": "claude"}},
}


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self, at=1_700_000_000.0):
        self.at = at

    def __call__(self):
        return self.at

    def forward(self, seconds):
        self.at += seconds


class MemoryDatastore:
    """The datastore as StackStorm has it: text only, names in descending order, a time to live.

    :ivar away: the operations that raise DatastoreUnavailable; True for all.
    """

    def __init__(self, now):
        self._now, self._lock, self.away = now, threading.Lock(), ()
        self._rows = {}

    def get(self, name, decrypt=False):
        self._reach("get")
        with self._lock:
            value, until = self._rows.get(name, (None, None))
            return value if self._is_live(until) else None

    def put(self, name, value, ttl=None):
        self._reach("put")
        assert isinstance(value, str), "the store takes text only, not %r" % (value,)
        value.encode("utf-8")
        assert name.isascii() and "/" not in name and ".." not in name, name
        assert ttl is None or (isinstance(ttl, int) and ttl > 0), ttl
        with self._lock:
            self._rows[name] = (value, None if ttl is None else self._now() + ttl)

    def list(self, prefix, limit=100, offset=0):
        self._reach("list")
        assert limit <= 100
        with self._lock:
            rows = [(name, value) for name, (value, until) in self._rows.items()
                    if name.startswith(prefix) and self._is_live(until)]
        return sorted(rows, reverse=True)[offset:offset + limit]

    def delete(self, name):
        self._reach("delete")
        with self._lock:
            return self._rows.pop(name, None) is not None

    def names(self):
        return sorted(name for name, (_, until) in self._rows.items() if self._is_live(until))

    def _is_live(self, until):
        return until is None or until > self._now()

    def _reach(self, operation):
        if self.away is True or operation in self.away:
            raise DatastoreUnavailable("the test took it away")


class Api:
    """StackStorm's API as far as a record needs it."""

    def __init__(self):
        self.fired = []

    def fire(self, trigger, payload):
        self.fired.append((trigger, payload))


class StartingApi(Api):
    """The API as far as an intake needs it, with runs that a test ends.

    :ivar broken: raised by the next start; started: [(action, parameters)].
    """

    def __init__(self):
        super().__init__()
        self.runs, self.started, self.broken = {}, [], None

    def action(self, ref):
        return None

    def start(self, action, parameters):
        if self.broken:
            raise self.broken
        run = "%024x" % len(self.runs)
        self.runs[run] = {"status": "running"}
        self.started.append((action, parameters))
        return run

    def execution(self, run, attributes):
        return self.runs[run]


class Server:
    """A server on loopback that hands each connection to `answer(connection, request)`."""

    def __init__(self, answer):
        self.requests = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                try:
                    request = _read_request(connection)
                    self.requests.append(request)
                    self._answer(connection, request)
                except OSError:
                    pass

    def close(self):
        # Where eventlet has patched sockets, an accept never wakes once its socket is closed.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()


def _read_request(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return received.decode("latin-1")
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode("latin-1")


def http_answer(status=200, body=b"{}", headers=(), length=None):
    """The bytes of an HTTP answer."""
    body = body if isinstance(body, bytes) else body.encode()
    lines = ["HTTP/1.1 %d X" % status, "Connection: close"]
    lines += ["%s: %s" % header for header in headers]
    lines.append("Content-Length: %d" % (len(body) if length is None else length))
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@pytest.fixture(autouse=True)
def _same_jitter():
    random.seed(7)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def datastore(clock):
    return MemoryDatastore(clock)


@pytest.fixture
def store(datastore):
    return BestEffortDatastore(datastore)


@pytest.fixture
def make_env(clock, store):
    """make_env(config=..., api=..., store=..., run=...) -> Environment."""

    def make(config=None, api=None, run="5f0c", store=store):
        settings = Settings.from_config(CONFIG if config is None else config)
        return Environment(settings, store, clock, run, Redactor(settings.secrets()), api)

    return make


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def serve():
    """serve(answer) -> Server; `answer` is bytes, or a callable (connection, request)."""
    servers = []

    def start(answer):
        if isinstance(answer, bytes):
            servers.append(Server(lambda connection, request: connection.sendall(answer)))
        else:
            servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def infra(make_env, monkeypatch):
    """A World of infrastructure."""
    from .infrastructure import World

    return World(make_env, monkeypatch)
