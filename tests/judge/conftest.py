"""Whole runs of llm_retry on st2local, against a fault server that others wrote.

llmock breaks answers on demand, keeps every request with its time, and judges the client. It serves
the wire formats of OpenAI and Anthropic; each test runs with either as the one that fails, and the
other as the fallback. Everything is on loopback.
"""
import http.client
import http.server
import importlib.util
import os
import pathlib
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import requests
from fixtures.waiting import PATIENCE_SECONDS

from st2local import St2Local

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
# It ends when this process does: then its standard input is at its end.
SERVE = """
import sys
from llmock.testing import LLMockServer

with LLMockServer(host="127.0.0.1") as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Wire:
    """The model that fails, in one wire format, and what it may fall back to.

    :ivar too_long: how its provider says that a prompt does not fit the context window.
    :ivar no_quota: how its provider says that the account is used up.
    """

    provider: str
    primary: str
    smaller: str
    larger: str
    fallback: str
    too_long: dict
    no_quota: dict


WIRES = [
    Wire(
        provider="openai",
        primary="gpt-middle",
        smaller="gpt-small",
        larger="gpt-large",
        fallback="claude-middle",
        too_long={
            "status": 400,
            "code": "context_length_exceeded",
            "message": "This model's maximum context length is 32000 tokens. However, your "
            "messages resulted in 40000 tokens.",
        },
        no_quota={
            "status": 429,
            "code": "insufficient_quota",
            "message": "You exceeded your current quota, please check your plan and billing "
            "details.",
        },
    ),
    Wire(
        provider="anthropic",
        primary="claude-middle",
        smaller="claude-small",
        larger="claude-large",
        fallback="gpt-middle",
        too_long={"status": 400, "message": "prompt is too long: 40000 tokens > 32000 maximum"},
        no_quota={
            "status": 400,
            "message": "Your credit balance is too low to access the Anthropic API. Please go to "
            "Plans & Billing to upgrade or purchase credits.",
        },
    ),
]
WINDOWS = {"small": 8000, "middle": 32000, "large": 200000}


class Judge:
    """llmock: scripted with faults, then asked what it saw and what it makes of it."""

    def __init__(self, url):
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self.reset()

    def reset(self):
        """Forgets scenarios and requests."""
        self._ask("POST", "reset")

    def _ask(self, method, path, body=None):
        url = self.url + "/_llmock/" + path
        answer = self._session.request(method, url, json=body, timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        return answer.json()

    def fails(self, status, model="*", times=None, **more):
        """Requests for `model` get an error, the first `times` or for ever."""
        self._script(dict(more, type="fail", status=status), model, times)

    def stalls(self, seconds, model, times=None):
        """Requests for `model` get no byte of an answer for so long."""
        self._script({"type": "delay", "seconds": seconds}, model, times)

    def _script(self, behaviour, model, times):
        behaviour.update(times=times, match={"model": model})
        self._ask("POST", "scenario", {"behaviors": [behaviour]})

    def requests(self):
        return self._ask("GET", "requests")["requests"]

    def requested_models(self):
        """The models that were asked, in order."""
        return [request["model"] for request in self.requests()]

    def pauses(self):
        """Seconds from the end of each answer to the beginning of the next request."""
        seen = self.requests()
        return [
            after["started_at"] - before["ended_at"] for before, after in zip(seen, seen[1:])
        ]

    def findings(self, severity):
        findings = self._ask("GET", "verdict")["findings"]
        return [
            "%(code)s: %(title)s" % finding
            for finding in findings
            if finding["severity"] == severity
        ]


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    :ivar tasks: the actions it requested, in order.
    :ivar delays: seconds that its tasks were delayed, where they were.
    """

    status: str
    output: dict
    tasks: list
    delays: list

    @property
    def causes(self):
        """Why each attempt failed; None for one that did not."""
        return [entry.get("cause") for entry in self.output["trail"] if "attempt" in entry]


class Pack:
    """The pack on st2local, configured for the judge. `config` may be changed before a run."""

    def __init__(self, judge, folder):
        self._judge, self._folder, self._local = judge, folder, None
        self.config = {
            "providers": [
                _provider("openai", judge.url + "/v1", "gpt"),
                _provider("anthropic", judge.url + "/anthropic", "claude"),
            ],
            "backoff": {"strategy": "immediate"},
        }

    @property
    def local(self):
        if self._local is None:
            self._local = St2Local(PACK, self.config, self._folder / "state")
        return self._local

    def close(self):
        if self._local is not None:
            self._local.close()

    def retry(self, model, fallbacks=(), **parameters):
        """A run of llm_retry. Whatever the scenario, the judge must find no error in it."""
        parameters_of_run = {
            "original_request": {"prompt": "Hello", "model": model},
            "failure_reason": "The call failed",
            "fallback_models": list(fallbacks),
        }
        parameters_of_run.update(parameters)
        delayed = len(self.local.delays)
        execution = self.local.run("synthralos.llm_retry", parameters_of_run)
        children = self.local.executions(parent=execution["id"])
        children = sorted(children, key=lambda child: child["start_timestamp"])
        run = Run(
            status=execution["status"],
            output=execution["result"]["output"],
            tasks=[child["action"]["ref"].split(".", 1)[1] for child in children],
            delays=self.local.delays[delayed:],
        )
        warnings = self._judge.findings("warning")
        print(
            "asked %s; %s; delays %s; warnings %s"
            % (self._judge.requested_models(), run.status, run.delays, warnings)
        )
        assert self._judge.findings("error") == []
        return run


def _provider(name, base_url, family):
    models = [
        {"name": "%s-%s" % (family, size), "context_window": window}
        for size, window in WINDOWS.items()
    ]
    return {
        "name": name, "api": name, "base_url": base_url, "api_key": name + "-key", "models": models,
    }


class Relay:
    """Hands requests on to the judge, and damages answers on their way back.

    For what the judge does to streams only: the pack reads answers whole.
    """

    def __init__(self, judge):
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                relay._hand_on(self)

            def log_message(self, *_):
                pass

        self._to = judge.url.split("//")[1]
        self._damage, self._times = None, 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = "http://127.0.0.1:%d" % self._server.server_port

    def damages(self, damage, times):
        """The next `times` answers are sent as `damage` makes them, under their old length."""
        self._damage, self._times = damage, times

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _hand_on(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name: value for name, value in handler.headers.items() if name != "Host"}
        onward = http.client.HTTPConnection(self._to, timeout=PATIENCE_SECONDS)
        onward.request("POST", handler.path, body, headers)
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.headers["Content-Type"])
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if self._times:
            self._times -= 1
            content = self._damage(content)
        handler.wfile.write(content)


@pytest.fixture(scope="session")
def llmock_url():
    """The address of an llmock that runs beside the tests, in a process of its own."""
    if importlib.util.find_spec("llmock") is None:
        pytest.skip("llmock is not installed; it needs Python 3.10: see dev/requirements.txt")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMOCK_")}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )
    url = server.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), "llmock did not start"
    yield url
    server.stdin.close()
    server.wait(timeout=PATIENCE_SECONDS)
    server.stdout.close()


@pytest.fixture
def judge(llmock_url):
    return Judge(llmock_url)


@pytest.fixture(params=WIRES, ids=lambda wire: wire.provider)
def wire(request):
    return request.param


@pytest.fixture
def packs(judge, tmp_path):
    """packs() -> a Pack with a datastore of its own."""
    packs_to_close = []

    def make():
        folder = tmp_path / str(len(packs_to_close))
        folder.mkdir()
        packs_to_close.append(Pack(judge, folder))
        return packs_to_close[-1]

    yield make
    for pack in packs_to_close:
        pack.close()


@pytest.fixture
def pack(packs):
    return packs()


@pytest.fixture
def relay(judge, pack, wire):
    """Between the pack and the provider that fails."""
    relay_server = Relay(judge)
    for provider in pack.config["providers"]:
        if provider["name"] == wire.provider:
            provider["base_url"] = provider["base_url"].replace(judge.url, relay_server.url)
    yield relay_server
    relay_server.close()
