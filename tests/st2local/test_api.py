"""The REST API that actions call, and StackStorm's own clients of it."""
import http.client
import json
import socket
import socketserver
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit

import pytest
from fixtures.waiting import PATIENCE_SECONDS, until

from st2local import InvalidInput, NotFound


def calls(local, *requests):
    execution = local.run("fixture.calls", {"calls": [list(call) for call in requests]})
    assert execution["status"] == "succeeded", execution["result"]
    return execution["result"]["result"]


def put(name, value, **more):
    return ("PUT", "/keys/" + quote(name, safe=""), dict(more, name=name, value=value))


def get(name, query=""):
    return ("GET", "/keys/" + quote(name, safe="") + query)


def test_executions(local):
    answers = calls(
        local, ("GET", "/executions/SELF"),
        ("GET", "/executions/SELF?include_attributes=parameters,action.parameters,context"),
        ("GET", "/executions/000000000000000000000000"),
        ("GET", "/executions?parent=SELF&limit=5"),
        ("GET", "/executions/SELF", None, "wrong token"))
    assert [status for status, _ in answers] == [200, 200, 404, 200, 401]
    full, part = answers[0][1], answers[1][1]
    assert full["status"] == "running" and "result" not in full and "children" not in full
    assert set(part) == {"id", "parameters", "action", "context"}
    assert set(part["action"]) == {"parameters"}
    assert answers[3][1] == []
    assert "faultstring" in answers[4][1]


def test_an_action_starts_another(local):
    answers = calls(
        local, ("POST", "/executions", {"action": "core.echo", "parameters": {"message": "x"}}),
        ("POST", "/executions", {"action": "core.echo"}),
        ("POST", "/executions", {"action": "core.absent"}), ("POST", "/executions", []))
    assert [status for status, _ in answers] == [201, 400, 400, 400]
    started = answers[0][1]["id"]
    until(lambda: local.execution(started)["status"] == "succeeded", "it has ended")
    assert "parent" not in local.execution(started)


def test_an_execution_is_run_again(local):
    origin = local.run("core.echo", {"message": "x"})["id"]
    path = "/executions/%s/re_run" % origin
    answers = calls(
        local, ("POST", path, {}), ("POST", path, {"parameters": {"message": "y"}}),
        ("POST", "/executions/000000000000000000000000/re_run", {}))
    assert [status for status, _ in answers] == [201, 201, 404]
    for (_, started), message in zip(answers, "xy"):
        run = started["id"]
        until(lambda run=run: local.execution(run)["status"] == "succeeded", "it has ended")
        again = local.execution(run)
        assert again["parameters"]["message"] == message
        assert again["context"]["re-run"] == {"ref": origin}
    assert "re-run" not in local.execution(origin)["context"]


def test_actions_and_webhooks(local):
    answers = calls(
        local, ("GET", "/actions/fixture.step"), ("GET", "/actions/fixture.absent"),
        ("POST", "/webhooks/st2", {"trigger": "fixture.failed", "payload": {"n": 1}}),
        ("POST", "/webhooks/st2", {"payload": {}}), ("POST", "/webhooks/other", {}),
        ("GET", "/nothing"))
    assert [status for status, _ in answers] == [200, 404, 202, 400, 404, 404]
    assert answers[0][1]["parameters"]["name"] == {"type": "string", "required": True}
    firing, = local.triggers("fixture.failed")
    assert firing.payload == {"n": 1}


def test_keys(local):
    answers = calls(
        local, put("a", "1"), get("a"), get("absent"), ("DELETE", "/keys/a"),
        ("DELETE", "/keys/a"), put("t", "1", ttl=60), put("s", "hush", secret=True), get("s"),
        get("s", "?decrypt=true"))
    assert [status for status, _ in answers] == [200, 200, 404, 204, 404, 200, 200, 200, 200]
    assert answers[1][1]["value"] == "1" and answers[1][1]["scope"] == "st2kv.system"
    assert "expire_timestamp" in answers[5][1] and "ttl" not in answers[5][1]
    assert answers[7][1]["value"] != "hush" and answers[7][1]["encrypted"] is True
    assert answers[8][1]["value"] == "hush" and answers[8][1]["encrypted"] is False


@pytest.mark.parametrize("call, status", [
    (put("a/b", "1"), 404), (put("a..b", "1"), 400), (put("日", "1"), 400), (put("ü", "1"), 200),
    (put("a b%?#+\\$,<% x %>{{ y }}", "1"), 200), (put("n" * 1000, "1"), 200),
    (put("a", 1), 400), (put("a", None), 400), (put("a", {}), 400), (put("a", True), 400),
    (put("a", "\ud800"), 400), (put("a", "\x00{{ x }}"), 200), (put("a", ""), 200),
    (put("a", "1", ttl=2.5), 400), (put("a", "1", ttl="60"), 400), (put("a", "1", ttl=0), 200),
    (put("a", "1", ttl=-1), 200), (put("a", "1", other=1), 400),
    (("GET", "/keys?prefix=a..b"), 400), (("GET", "/keys?sort=value"), 400),
])
def test_what_a_key_may_be(local, call, status):
    # Not through an action: its parameters would be rendered.
    method, path, body = call if len(call) == 3 else call + (None,)
    request = urllib.request.Request(
        local.api_url + path, method=method, headers={"X-Auth-Token": local.token},
        data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            assert answer.status == status
            name = json.load(answer)["name"]
    except urllib.error.HTTPError as error:
        assert error.code == status, error.read()
        assert json.load(error)["faultstring"]
    else:
        assert name == body["name"]
        if body.get("ttl") != -1:
            assert local.keys.get(name) == body["value"]


def test_key_listing(local):
    names = ["k.%03d" % number for number in range(130)]
    for name in names:
        local.keys.set(name, name)
    local.keys.set("kx", "1")
    (_, plain), (_, down), (_, up), (_, rest) = calls(
        local, ("GET", "/keys?prefix=k."), ("GET", "/keys?prefix=k.&sort=-name&limit=3"),
        ("GET", "/keys?prefix=k.&sort=name&limit=2&offset=128"),
        ("GET", "/keys?prefix=k.&limit=-1"))
    assert len(plain) == 100 and len(rest) == 130
    key_names = [key["name"] for key in plain]
    assert key_names not in (sorted(key_names), sorted(key_names, reverse=True))
    assert [key["name"] for key in down] == ["k.129", "k.128", "k.127"]
    assert [key["name"] for key in up] == ["k.128", "k.129"]


def test_keys_expire(make):
    now = [1000.0]
    local = make(clock=lambda: now[0])
    local.keys.set("t", "1", ttl=10)
    assert local.keys.get("t") == "1"
    now[0] += 11
    with pytest.raises(NotFound):
        local.keys.get("t")
    assert local.keys.list("t") == []


def test_values_are_strings(local):
    with pytest.raises(InvalidInput):
        local.keys.set("a", 1)


def test_action_service(local):
    execution = local.run("fixture.service")
    assert execution["result"]["result"] == {
        "local": "5", "shared": "{'a': 1}", "cipher": True, "clear": "hush", "missing": None,
        "names": ["shared", "secret", "fixture.Service:n"], "own": ["fixture.Service:n"],
        "user": "st2admin", "deleted": True, "after": None, "absent": "ValueError",
    }
    assert "INFO     logged" in execution["result"]["stderr"]


def test_no_answer_waits_for_an_acknowledgement(local, monkeypatch):
    """Which takes 40 ms where an answer goes out in more than a write."""
    connections = []
    accept = socketserver.TCPServer.get_request

    def get_request(server):
        connections.append(accept(server)[0])
        return connections[-1], connections[-1].getpeername()

    monkeypatch.setattr(socketserver.TCPServer, "get_request", get_request)
    address = urlsplit(local.api_url)
    local.keys.set("a", "1")
    client = http.client.HTTPConnection(address.netloc, timeout=PATIENCE_SECONDS)
    client.request("GET", address.path + "/keys/a", headers={"X-Auth-Token": local.token})
    answer = client.getresponse()
    assert (answer.status, json.load(answer)["value"]) == (200, "1")
    # The connection is kept alive, so it can still be looked at.
    [connection] = connections
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.close()
