"""Calls in threads that another thread ends, against servers that hang."""
import socket
import sys
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from synthralos.calls.closable import OpenSockets
from synthralos.calls.http import CallError, Client
from synthralos.config.connection import Connection
from synthralos.core.sealing import unseal
from synthralos.recovery import llm_retry
from synthralos.storage.llm_spending import LlmSpending
from synthralos.telemetry.tracing import Tracer, use_tracer

from .conftest import http_answer

# Importing it would warn of its end; where it has patched anything, it has been imported.
patcher = sys.modules.get("eventlet.patcher")
pytestmark = pytest.mark.skipif(
    patcher is not None and patcher.is_monkey_patched("socket"),
    reason="st2tests has patched sockets for eventlet, which the process of an action never does",
)


def answer_of(text):
    """The answer of a model, with its usage: 3 and 4 tokens."""
    body = (
        '{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}],'
        ' "usage": {"prompt_tokens": 3, "completion_tokens": 4}}' % text
    )
    return http_answer(200, body)


class Hanging:
    """An answer that never comes. :ivar ended: set once the client's side is shut down."""

    def __init__(self):
        self.ended = threading.Event()

    def __call__(self, connection, request):
        if connection.recv(1) == b"":
            self.ended.set()


class Sending(threading.Thread):
    """A request in a thread of its own. :ivar failure: of the call, once it has ended."""

    def __init__(self, url, **more):
        super().__init__(daemon=True)
        options = dict({"connect_timeout": PATIENCE_SECONDS}, **more)
        self._connection = Connection(url, **options)
        self.client = Client(lambda connection, fresh: (None, {})).closable()
        self.failure = None

    def run(self):
        try:
            self.client.request(self._connection, "POST", "/x", PATIENCE_SECONDS, body={})
        except CallError as error:
            self.failure = error.failure

    def finish(self):
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        return self.failure


def test_a_call_that_hangs_ends_when_it_is_closed(serve):
    hanging = Hanging()
    server = serve(hanging)
    call = Sending(server.url)
    call.start()
    until(lambda: server.requests, "the request arrives")
    call.client.close()
    assert call.finish().cause == "network"
    assert hanging.ended.wait(PATIENCE_SECONDS)


def test_a_body_that_never_ends_ends_when_it_is_closed(serve):
    hanging = Hanging()

    def begin(connection, request):
        connection.sendall(http_answer(200, b"{", length=100))
        hanging(connection, request)

    server = serve(begin)
    call = Sending(server.url)
    call.start()
    until(lambda: server.requests, "the request arrives")
    call.client.close()
    assert call.finish() is not None and hanging.ended.wait(PATIENCE_SECONDS)


@pytest.fixture
def accepting():
    """(host and port of a listener that nobody serves, its connections)."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def accept():
            try:
                while True:
                    connections.append(listener.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield "127.0.0.1:%d" % listener.getsockname()[1], connections
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("url, proxy", [
    ("https://%s", None), ("http://synthralos.invalid", "http://%s"),
    ("https://synthralos.invalid", "http://%s"),
])
def test_a_handshake_or_a_proxy_that_hangs_ends_when_it_is_closed(accepting, url, proxy):
    address, connections = accepting
    call = Sending(url % address if "%" in url else url, proxy=proxy and proxy % address)
    call.start()
    until(lambda: connections, "the connection is accepted")
    connections[0].settimeout(PATIENCE_SECONDS)
    assert connections[0].recv(1)
    call.client.close()
    assert call.finish() is not None


def test_a_call_that_is_closed_before_it_connects_sends_nothing(serve):
    server = serve(http_answer())
    call = Sending(server.url)
    call.client.close()
    call.start()
    assert call.finish().cause == "network"
    assert not any(server.requests)


def test_a_call_may_be_closed_twice_and_after_its_end(serve):
    call = Sending(serve(http_answer()).url)
    call.start()
    assert call.finish() is None
    call.client.close()
    call.client.close()


def test_what_was_shut_down_on_the_other_side_is_closed_too():
    here, there = socket.socketpair()
    sockets = OpenSockets()
    sockets.add(here)
    there.close()
    here.close()
    sockets.shut_down()
    with pytest.raises(ConnectionAbortedError):
        sockets.add(socket.socket())


class World:
    """llm_retry over providers p (models p1, p2), q (q1) and r (r1), on servers of their own."""

    def __init__(self, make_env, serve, seconds, **answers):
        self.servers = {name: serve(answer) for name, answer in answers.items()}
        self._seconds, self._make_env = seconds, make_env

    def run(self, run="5f0c", **config):
        models = {"p": ["p1", "p2"], "q": ["q1"], "r": ["r1"]}
        config.update(ask_next_after=self._seconds, providers=[
            {"name": name, "base_url": server.url, "models": models[name],
             "timeout": PATIENCE_SECONDS}
            for name, server in self.servers.items()
        ])
        self.env = env = self._make_env(config, run=run)
        fallbacks = [model for name in self.servers for model in models[name] if model != "p1"]
        parameters = {
            "original_request": {"prompt": "x", "model": "p1"}, "failure_reason": "?",
            "fallback_models": fallbacks, "timeout": 600, "max_retries": 0,
        }
        carry = llm_retry.determine(env, parameters, env.now())["next"]["carry"]
        self.case = unseal(carry, env.store)
        return llm_retry.run_round(env, self.case)[1]

    def calls(self):
        return {name: len(server.requests) for name, server in self.servers.items()}


@pytest.fixture
def world(make_env, serve):
    return lambda seconds, **answers: World(make_env, serve, seconds, **answers)


def attempts(result):
    return [
        (entry["target"], entry.get("cause")) for entry in result["trail"] if "attempt" in entry
    ]


def test_a_host_that_hangs_is_closed_when_another_answers_and_comes_last_in_the_next_run(world):
    hanging = Hanging()
    play = world(limit_under_test(0.2), p=hanging, q=answer_of("fine"))
    result = play.run()
    assert result["result"]["response"] == "fine"
    assert attempts(result) == [("llm:p/p1", "cancelled"), ("llm:q/q1", None)]
    assert hanging.ended.wait(PATIENCE_SECONDS)
    calls = {(call[0], call[3]) for call in play.case["llm"]}
    assert calls == {("p", "cancelled"), ("q", None)}
    result = play.run(run="5f0d")
    assert attempts(result) == [("llm:q/q1", None)]
    assert play.calls() == {"p": 1, "q": 2}


def test_a_call_that_was_closed_counts_in_the_budget_with_the_most_it_may_have_used(world):
    play = world(limit_under_test(0.2), p=Hanging(), q=answer_of("fine"))
    play.run(budget={"per_run": {"tokens": 100_000}, "assumed_output_tokens": 5000})
    tokens, _ = LlmSpending(play.env.store, play.env.now).run_total(play.case["run"])
    # Of q1 the 7 tokens that it reports; of p1 the reservation.
    assert 5007 < tokens < 6000


def test_a_slow_model_answers_and_is_called_once_when_nobody_else_answers(world):
    def slow(connection, request):
        until(lambda: play.env.ledger.window("llm:q/q1"), "the failure of q1 is recorded")
        connection.sendall(answer_of("at last"))

    play = world(limit_under_test(0.2), p=slow, q=http_answer(500))
    result = play.run()
    assert result["result"]["response"] == "at last"
    assert attempts(result) == [("llm:q/q1", "server_error"), ("llm:p/p1", None)]
    assert play.calls() == {"p": 1, "q": 1}


def test_a_model_that_answers_in_time_is_asked_alone(world):
    play = world(PATIENCE_SECONDS / 2, p=answer_of("fine"), q=answer_of("unused"))
    assert play.run()["result"]["response"] == "fine"
    assert play.calls() == {"p": 1, "q": 0}


def test_an_error_in_a_thread_is_that_of_the_attempt(world):
    play = world(PATIENCE_SECONDS / 2, p=http_answer(500), q=answer_of("fine"))
    result = play.run()
    assert attempts(result) == [("llm:p/p1", "server_error"), ("llm:p/p2", "server_error"),
                                ("llm:q/q1", None)]


def test_a_missing_secret_in_a_thread_is_that_of_the_attempt(world):
    play = world(PATIENCE_SECONDS / 2, p=answer_of("unused"), q=answer_of("fine"))
    first = play._make_env

    def make_env(config, run):
        config["providers"][0]["api_key_from"] = "gone"
        return first(config, run=run)

    play._make_env = make_env
    result = play.run()
    assert attempts(result) == [("llm:p/p1", "configuration"), ("llm:q/q1", None)]


def test_the_spans_of_calls_in_threads_are_those_of_their_attempts(world, clock):
    play = world(limit_under_test(0.2), p=Hanging(), q=answer_of("fine"))
    tracer = Tracer("call_llm", "5f0c", clock)
    with use_tracer(tracer):
        play.run()
    spans = {span.name: span for span in tracer.spans}
    assert spans["chat p1"].error == "network" and spans["chat q1"].error is None
    numbers = [spans[name].attributes["synthralos.attempt"] for name in ("chat p1", "chat q1")]
    assert numbers == [1, 2]
    assert spans["chat q1"].attributes["gen_ai.usage.output_tokens"] == 4
