"""Starts of agents whose reply is lost: repeated with the same bytes under the same key, before
servers that refuse a key which comes with anything else (the draft of the header
Idempotency-Key, 2.7).
"""
import http.server
import json
import threading

import pytest
from fixtures.waiting import PATIENCE_SECONDS, until

from sandbox.server import Server

FAILED = {"agent_id": "bot", "failure_type": "error", "original_query": "Pay order 7"}
REUSED = {
    "title": "Idempotency-Key is already used",
    "detail": "Idempotency Key MUST not be reused across different payloads of this operation.",
}


def rpc_result(state):
    """What A2A 0.3 says of the only task."""
    artifact = {"artifactId": "a", "parts": [{"kind": "text", "text": "paid"}]}
    task = {"kind": "task", "id": "t1", "contextId": "c1", "status": {"state": state}}
    if state == "completed":
        task["artifacts"] = [artifact]
    return {"jsonrpc": "2.0", "id": 1, "result": task}


class StrictServer:
    """An agent behind the APIs `synthralos`, `openai_responses` and `a2a` (0.3, where the id of the
    message is the key).

    :ivar lost: how many replies to starts get lost, once the agent has done its work.
    :ivar refuses: whether every key counts as used.
    :ivar starts: [(key, body)] of all starts, repeated ones included.
    :ivar effects: the bodies that had one.
    """

    def __init__(self):
        self.lost, self.refuses, self.hold = 0, False, None
        self.starts, self.effects, self._bodies = [], [], {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"agent": self})
        self._server = _HttpServer(("127.0.0.1", 0), handler)
        self.base_url = "http://127.0.0.1:%d" % self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def start(self, key, body):
        """(status, document) of a start, or None if the reply is lost."""
        with self._lock:
            self.starts.append((key, body))
            if self.refuses or self._bodies.setdefault(key, body) != body:
                return 422, REUSED
            if body not in self.effects:
                self.effects.append(body)
            self.lost -= 1
            is_lost = self.lost >= 0
        if self.hold is not None:
            self.hold.wait(PATIENCE_SECONDS)
        if is_lost:
            return None
        sent = json.loads(body)
        if "jsonrpc" in sent:
            return 200, rpc_result("working")
        if "input" in sent:
            return 200, {"id": "resp_1", "status": "queued"}
        return 200, {"status": "completed", "output": "paid", "executionId": "e1"}


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    server_bind = Server.server_bind


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    agent = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        sent = json.loads(body)
        if sent.get("method") == "tasks/get":
            self._send(200, rpc_result("completed"))
            return
        key = self.headers.get("Idempotency-Key")
        if "jsonrpc" in sent:
            key = sent["params"]["message"]["messageId"]
        reply = self.agent.start(key, body)
        if reply is None:
            self.close_connection = True
        else:
            self._send(*reply)

    def do_GET(self):
        text = {"type": "output_text", "text": "paid"}
        message = {"type": "message", "role": "assistant", "content": [text]}
        self._send(200, {"id": "resp_1", "status": "completed", "output": [message]})

    def _send(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        """Log nothing."""


@pytest.fixture
def server():
    strict = StrictServer()
    yield strict
    strict.close()


ENTRIES = {
    "synthralos": {},
    "openai_responses": {},
    "a2a": {"protocol_version": "0.3", "binding": "JSONRPC"},
}


@pytest.fixture(params=ENTRIES)
def api(request):
    return request.param


@pytest.fixture
def agent(world, server, api):
    """The entry of the agent, which runs at the server."""
    world.config["platforms"] = [
        dict(ENTRIES[api], name="strict", api=api, base_url=server.base_url)]
    entry = {"platform": "strict", "agent": "gpt-4o"}
    world.config["agents"] = {"bot": entry}
    # What lives nowhere else was looked for long enough.
    world.delay = lambda seconds: None
    return entry


def recover(world, *steps, rerun_of=None, **parameters):
    if rerun_of is not None:
        return world.local.re_run(rerun_of["id"]).wait(PATIENCE_SECONDS)
    plan = {"steps": [{"action": step} for step in steps or ("retry_execution",)]}
    parameters = dict(FAILED, context={"repairPlan": plan}, **parameters)
    return world.local.run("synthralos.agent_recovery", parameters)


def causes(execution):
    trail = execution["result"]["output"]["trail"]
    return [entry.get("cause") for entry in trail if "attempt" in entry]


def assert_paid_once(execution, server):
    output = execution["result"]["output"]
    assert execution["status"] == "succeeded" and output["recovery_result"]["output"] == "paid"
    assert len(set(server.starts)) == 1 and len(server.effects) == 1


def test_a_retry_after_a_lost_reply_has_the_same_key_and_bytes(world, server, agent):
    server.lost = 1
    execution = recover(world)
    assert_paid_once(execution, server)
    assert len(server.starts) == 2


def test_a_re_run_after_a_lost_reply_has_the_same_key_and_bytes(world, server, agent):
    server.lost = 1
    dead = recover(world, max_retries=0)
    assert dead["status"] == "failed" and len(server.starts) == 1
    execution = recover(world, rerun_of=dead)
    assert_paid_once(execution, server)
    assert len(server.starts) == 2


def test_a_re_run_of_a_re_run_has_the_same_key_and_bytes(world, server, agent):
    server.lost = 2
    dead = recover(world, max_retries=0)
    again = recover(world, rerun_of=dead)
    assert (dead["status"], again["status"]) == ("failed", "failed")
    assert_paid_once(recover(world, rerun_of=again), server)


def test_a_re_run_of_a_process_that_died_in_the_start_has_the_same_key_and_bytes(
    world, server, agent
):
    server.hold = threading.Event()
    handle = world.local.start("synthralos.agent_recovery", FAILED)
    until(lambda: server.starts, "the agent was started")
    for child in world.local.executions(parent=handle.id):
        if child["status"] == "running":
            world.local.live(child["id"]).run.kill()
    dead = handle.wait(PATIENCE_SECONDS)
    server.hold.set()
    assert dead["status"] == "failed"
    # The lock of the dead process: another one may be starting the agent just now.
    for key in world.local.keys.list("synthralos.claim_notification."):
        world.local.keys.delete(key["name"])
    assert_paid_once(recover(world, rerun_of=dead), server)


def test_another_body_has_another_key(world, server, agent):
    server.lost = 1
    execution = recover(world, "retry_execution", "rephrase", max_retries=1)
    assert execution["status"] == "succeeded"
    (first_key, first), (second_key, second) = server.starts
    assert first != second and first_key != second_key


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_re_run_that_asks_for_something_else_starts_no_unsafe_agent(
    world, server, agent, unsafe
):
    server.lost, agent["unsafe_to_repeat"] = 1, unsafe
    dead = recover(world, max_retries=0)
    plan = {"steps": [{"action": "rephrase"}]}
    again = world.local.re_run(dead["id"], {"context": {"repairPlan": plan}})
    execution = again.wait(PATIENCE_SECONDS)
    assert dead["status"] == "failed"
    assert execution["status"] == ("failed" if unsafe else "succeeded")
    assert len(server.starts) == (1 if unsafe else 2)


def test_a_re_run_after_an_answer_is_a_new_start(world, server, agent):
    first = recover(world)
    second = recover(world, rerun_of=first)
    assert (first["status"], second["status"]) == ("succeeded", "succeeded")
    (first_key, _), (second_key, _) = server.starts
    assert first_key != second_key


def test_a_key_that_was_reused_is_called_a_fault_of_the_pack(world, server, agent):
    server.refuses = True
    execution = recover(world)
    assert execution["status"] == "failed"
    assert causes(execution) == ["idempotency_key_reused"]
    ticket = world.local.run("synthralos.ticket.get", {
        "ticket_id": execution["result"]["output"]["ticket"]})["result"]["result"]
    assert "a fault of the pack" in json.dumps(ticket)


@pytest.mark.parametrize("unsafe", [True, False])
def test_after_a_reused_key_an_unsafe_agent_is_started_nowhere_else(world, server, agent, unsafe):
    server.refuses = True
    world.config["platforms"].append(
        dict(world.config["platforms"][0], name="other", base_url=server.base_url + "/other"))
    agent["fallbacks"] = [{"platform": "other", "agent": "gpt-4o"}]
    agent["unsafe_to_repeat"] = unsafe
    execution = recover(world)
    assert execution["status"] == "failed"
    # Each platform is asked once.
    assert causes(execution) == ["idempotency_key_reused"] * (1 if unsafe else 2)
    assert len(server.starts) == len({key for key, _ in server.starts}) == (1 if unsafe else 2)
