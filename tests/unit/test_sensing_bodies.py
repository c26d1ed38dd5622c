"""Whatever a server says and however it encodes it: a polling sensor reads it, or says what it is.

A sensor that takes an unreadable body for an empty list is silently blind.
"""
import gzip
import json
import zlib

import pytest
from fixtures.sensor_world import Service, sensor_environment
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.core.timestamps import to_iso
from synthralos.sensing.agent_errors_poller import AgentErrorsPoller
from synthralos.sensing.alertmanager_poller import AlertmanagerPoller

from .conftest import http_answer

JSON = ("Content-Type", "application/json")


@pytest.fixture(params=["alertmanager", "agent_errors"])
def poll(request, serve, datastore, clock):
    """poll(answer of the server given a body's text) -> what the sensor did with it, a Service.

    The list has one entry, whose message is "ä". It is polled as often as it takes to count as
    disconnected.
    """
    if request.param == "alertmanager":
        body = [{"labels": {"alertname": "ä"}, "startsAt": to_iso(clock()),
                 "endsAt": to_iso(clock() + 600), "annotations": {}, "fingerprint": "a" * 16,
                 "status": {"state": "active"}}]
        kind, entry, trigger = AlertmanagerPoller, "url", "metrics_alert"
    else:
        body = {"errors": [{"timestamp": to_iso(clock()), "message": "ä", "agentId": "a"}]}
        kind, entry, trigger = AgentErrorsPoller, "url", "agent_failure"

    def run(answer):
        text = json.dumps(body, ensure_ascii=False)
        server = serve(answer(text))
        config = {"sensors": {request.param: {entry: server.url, "timeout": PATIENCE_SECONDS}}}
        service = Service()
        poller = kind(sensor_environment(service, config, datastore, clock, "TheSensor"))
        for _ in range(3):
            poller.poll()
        service.reported = service.payloads(trigger)
        return service

    return run


def message_of(payload):
    return payload["alertname"] if "alertname" in payload else payload["failure_details"]["message"]


READABLE = {
    "gzip": lambda text: http_answer(200, gzip.compress(text.encode()), [
        ("Content-Encoding", "gzip"), JSON]),
    "deflate": lambda text: http_answer(200, zlib.compress(text.encode()), [
        ("Content-Encoding", "deflate"), JSON]),
    "gzip, unsaid": lambda text: http_answer(200, gzip.compress(text.encode()), [JSON]),
    "twice": lambda text: http_answer(200, gzip.compress(gzip.compress(text.encode())), [
        ("Content-Encoding", "gzip, gzip"), JSON]),
    "bom": lambda text: http_answer(200, text.encode("utf-8-sig"), [JSON]),
    "utf-16": lambda text: http_answer(200, text.encode("utf-16"), [JSON]),
    "utf-16-le": lambda text: http_answer(200, text.encode("utf-16-le"), [JSON]),
    "latin-1": lambda text: http_answer(200, text.encode("latin-1"), [
        ("Content-Type", "application/json; charset=ISO-8859-1")]),
    "utf-8 called latin-1": lambda text: http_answer(200, text.encode(), [
        ("Content-Type", "application/json; charset=ISO-8859-1")]),
    "called text": lambda text: http_answer(200, text.encode(), [("Content-Type", "text/html")]),
    "crlf": lambda text: http_answer(200, "\r\n%s\r\n" % text.replace(", ", ",\r\n"), [JSON]),
    "chunked": lambda text: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + b"".join(
            b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [
                text.encode()[at:at + 7] for at in range(0, len(text.encode()), 7)]
        ) + b"0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("name", list(READABLE))
def test_it_is_read(poll, name):
    service = poll(READABLE[name])
    assert [message_of(payload) for payload in service.reported] == ["ä"]
    assert service.payloads("sensor_disconnected") == []


UNREADABLE = {
    "br": (lambda text: http_answer(200, b"\x0b\x02\x80xyz\x03", [
        ("Content-Encoding", "br"), JSON]), "malformed_answer", None),
    "unknown": (lambda text: http_answer(200, b"\x0b\x02\x80xyz\x03", [
        ("Content-Encoding", "lzma2"), JSON]), "malformed_answer", "compressed (lzma2)"),
    "damaged": (lambda text: http_answer(200, gzip.compress(text.encode())[:-12] + b"x" * 12, [
        ("Content-Encoding", "gzip"), JSON]), "malformed_answer", None),
    "login page": (lambda text: http_answer(200, "<!DOCTYPE html><html>Sign in</html>", [
        ("Content-Type", "text/html")]), "malformed_answer", "not JSON"),
    "redirect to a login": (lambda text: http_answer(302, "", [
        ("Location", "https://sso/login")]), "wrong_address", None),
    "an error in a 200": (lambda text: http_answer(200, '{"error": "unauthorized"}'),
                          "malformed_answer", "not a list"),
    "no list": (lambda text: http_answer(200, '{"status": "success", "data": []}'),
                "malformed_answer", "not a list"),
    "empty": (lambda text: http_answer(200, ""), "malformed_answer", "not JSON"),
    "null": (lambda text: http_answer(200, "null"), "malformed_answer", "not a list"),
    "nothing": (lambda text: http_answer(204, "", length=0), None, None),
}


@pytest.mark.parametrize("name", list(UNREADABLE))
def test_it_is_named(poll, name):
    answer, reason, words = UNREADABLE[name]
    service = poll(answer)
    assert service.reported == []
    [disconnected] = service.payloads("sensor_disconnected")
    assert disconnected["seeing"] is False and reason in (None, disconnected["reason"])
    assert words is None or words in service.log()


def test_entries_that_are_none_are_named_once(poll):
    service = poll(lambda text: http_answer(200, '["x", 5]'))
    assert service.log().count("2 entries of the list are not") == 1
