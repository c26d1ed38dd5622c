"""The poller against a loopback Alertmanager whose alerts, uptime and manners a test sets."""
import json
import socket
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from fixtures.sensor_world import HOSTILE, Service, sensor_environment
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test

from synthralos.core import timestamps
from synthralos.sensing import alertmanager_poller
from synthralos.sensing.alertmanager_poller import AlertmanagerPoller

from .conftest import Clock, http_answer

LONG_AGO = "2023-01-01T00:00:00.000Z"


class Server:
    """:ivar alerts: {name: entry} that fire; answer: bytes to answer instead, or None."""

    def __init__(self, serve, clock):
        self.clock, self.alerts, self.answer, self.uptime = clock, {}, None, LONG_AGO
        self._server = serve(self._serve)
        self.url = self._server.url

    def fire(self, name, starts=None, state="active", **labels):
        starts = timestamps.to_iso(self.clock(), milliseconds=True) if starts is None else starts
        self.alerts[name] = {
            "labels": dict({"alertname": name}, **labels),
            "annotations": {"summary": "%s fires" % name},
            "startsAt": starts,
            "updatedAt": starts,
            "fingerprint": "%016x" % (abs(hash(name)) % 2**64),
            "receivers": [{"name": "st2"}],
            "status": {"state": state, "silencedBy": [], "inhibitedBy": []},
            "generatorURL": "http://prometheus/" + name,
        }
        if state == "silenced":
            self.alerts[name]["status"] = {
                "state": "suppressed", "silencedBy": ["x"], "inhibitedBy": []
            }
        if state == "inhibited":
            self.alerts[name]["status"] = {
                "state": "suppressed", "silencedBy": [], "inhibitedBy": ["x"]
            }

    @property
    def requests(self):
        return self._server.requests

    def _serve(self, connection, request):
        if self.answer is not None:
            connection.sendall(self.answer)
            return
        path = request.split(" ")[1]
        headers = [("Date", time.strftime(
            "%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.clock())
        ))]
        ends = timestamps.to_iso(self.clock() + 240, milliseconds=True)
        body = [
            dict({"endsAt": ends}, **alert) if isinstance(alert, dict) else alert
            for alert in self.alerts.values()
        ]
        if path.startswith("/api/v2/status"):
            body = {"uptime": self.uptime, "cluster": {"status": "ready"}}
            if self.uptime is None:
                connection.sendall(http_answer(404))
                return
        connection.sendall(http_answer(body=json.dumps(body), headers=headers))


@pytest.fixture
def server(serve, clock):
    return Server(serve, clock)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def start(server, service, datastore, clock):
    """start(**entry) -> a poller as it is after a start of the sensor."""

    def make(**entry):
        entry = dict({"url": server.url, "timeout": PATIENCE_SECONDS}, **entry)
        config = {"sensors": {"alertmanager": entry}}
        around = sensor_environment(service, config, datastore, clock, "AlertmanagerSensor")
        return AlertmanagerPoller(around)

    return make


def dispatched_alerts(service):
    return [
        (payload["alertname"], payload["status"]) for payload in service.payloads("metrics_alert")
    ]


def test_an_alert_is_told_when_it_begins_and_when_it_ends(server, start, service, clock):
    poller = start()
    poller.poll()
    assert dispatched_alerts(service) == []
    server.fire("Down", instance="a")
    for _ in range(3):
        poller.poll()
        clock.forward(30)
    assert dispatched_alerts(service) == [("Down", "firing")]
    del server.alerts["Down"]
    for _ in range(3):
        poller.poll()
        clock.forward(30)
    assert dispatched_alerts(service) == [("Down", "firing"), ("Down", "resolved")]
    began, ended = service.payloads("metrics_alert")
    assert ended["labels"] == began["labels"] == {"alertname": "Down", "instance": "a"}
    assert ended["annotations"] == began["annotations"]
    assert ended["fingerprint"] == began["fingerprint"]
    assert ended["starts_at"] == began["starts_at"]
    assert began["ends_at"] is None
    assert timestamps.parse_timestamp(ended["ends_at"]) == pytest.approx(clock() - 90)
    assert ended["generator_url"] == "http://prometheus/Down"


def test_an_alert_that_is_listed_as_ended_has_ended(server, start, service, clock):
    poller = start()
    server.fire("Down")
    poller.poll()
    server.alerts["Down"]["endsAt"] = timestamps.to_iso(clock() - 5, milliseconds=True)
    poller.poll()
    poller.poll()
    assert dispatched_alerts(service) == [("Down", "firing"), ("Down", "resolved")]


def test_the_server_s_clock_says_what_has_ended(server, start, service, datastore, clock):
    ahead = Clock(clock() + 3600)
    config = {"sensors": {"alertmanager": {"url": server.url}}}
    poller = AlertmanagerPoller(sensor_environment(service, config, datastore, ahead))
    server.fire("Down")
    poller.poll()
    assert dispatched_alerts(service) == [("Down", "firing")]


def test_a_restart_of_the_sensor_repeats_nothing(server, start, service):
    server.fire("Down")
    start().poll()
    start().poll()
    del server.alerts["Down"]
    start().poll()
    start().poll()
    assert dispatched_alerts(service) == [("Down", "firing"), ("Down", "resolved")]


def test_a_restart_of_alertmanager_ends_nothing(server, start, service, clock):
    poller = start()
    server.fire("Down")
    server.fire("Slow")
    before = dict(server.alerts)
    poller.poll()
    # It has just started, and lists nothing until Prometheus has told it.
    clock.forward(30)
    server.alerts.clear()
    server.uptime = timestamps.to_iso(clock() - 5, milliseconds=True)
    for _ in range(4):
        poller.poll()
        clock.forward(20)
    server.alerts["Down"] = before["Down"]
    for _ in range(8):
        poller.poll()
        clock.forward(20)
    # One of them did end meanwhile.
    assert dispatched_alerts(service) == [
        ("Down", "firing"),
        ("Slow", "firing"),
        ("Slow", "resolved"),
    ]


def test_both_restart_at_the_same_time(server, start, service, clock):
    server.fire("Down")
    before = dict(server.alerts)
    start().poll()
    clock.forward(7200)
    server.alerts.clear()
    server.uptime = timestamps.to_iso(clock() - 5, milliseconds=True)
    start().poll()
    clock.forward(60)
    server.fire("Down", starts=before["Down"]["startsAt"])
    start().poll()
    assert dispatched_alerts(service) == [("Down", "firing")]


@pytest.mark.parametrize("uptime", [None, "yesterday", 5.5, ""])
def test_one_that_does_not_say_since_when_it_runs(server, start, service, clock, uptime):
    server.fire("Down")
    poller = start()
    poller.poll()
    server.alerts.clear()
    server.uptime = uptime
    for _ in range(6):
        poller.poll()
        clock.forward(29)
    assert dispatched_alerts(service) == [("Down", "firing")]
    clock.forward(30)
    poller.poll()
    assert dispatched_alerts(service) == [("Down", "firing"), ("Down", "resolved")]


@pytest.mark.parametrize("answer", [
    http_answer(500, b"oops"), http_answer(200, b"<html>hello</html>"), http_answer(200, b"[{"),
    http_answer(200, b"{}"), http_answer(200, b"null"), http_answer(404, b"nothing"), b"",
    http_answer(401, b"no"), http_answer(302, b"", [("Location", "http://127.0.0.1:9/")]),
    http_answer(200, b"[]", length=5), http_answer(200, b"[" * 200 + b"]" * 200),
    http_answer(204, b""), b"garbage\r\n\r\n",
], ids=range(13))
def test_a_wrong_answer_ends_nothing(server, start, service, clock, answer):
    server.fire("Down")
    poller = start(settle_seconds=0)
    poller.poll()
    server.answer = answer
    for _ in range(5):
        poller.poll()
        clock.forward(30)
    assert dispatched_alerts(service) == [("Down", "firing")]
    [blind] = service.payloads("sensor_disconnected")
    assert (blind["sensor"], blind["seeing"]) == ("AlertmanagerSensor", False)
    assert blind["attempts"] in (1, 3) and blind["next_try_seconds"] == 30
    server.answer = None
    poller.poll()
    poller.poll()
    assert dispatched_alerts(service) == [("Down", "firing")]
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [
        False,
        True,
    ]
    assert service.payloads("sensor_disconnected")[1]["since"] == blind["since"]


def test_a_server_that_is_down(start, service, clock, server):
    with socket.socket() as unused_port_socket:
        unused_port_socket.bind(("127.0.0.1", 0))
        poller = start(url="http://127.0.0.1:%d" % unused_port_socket.getsockname()[1])
        for _ in range(3):
            poller.poll()
    [blind] = service.payloads("sensor_disconnected")
    assert (blind["reason"], blind["attempts"]) == ("network", 3)


def test_who_was_blind_before_a_restart_says_when_it_sees(server, start, service):
    server.answer = http_answer(403, b"no")
    start().poll()
    start().poll()
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [False]
    assert service.payloads("sensor_disconnected")[0]["reason"] == "permission"
    server.answer = None
    start().poll()
    start().poll()
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [
        False,
        True,
    ]


def test_a_slow_server_holds_nobody(serve, service, datastore, clock):
    given_up = threading.Event()

    def trickle(connection, request):
        connection.sendall(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n")
        while not given_up.wait(limit_under_test(0.1)):
            connection.sendall(b" ")

    entry = {"url": serve(trickle).url, "timeout": limit_under_test(0.3)}
    config = {"sensors": {"alertmanager": entry}}
    poller = AlertmanagerPoller(sensor_environment(service, config, datastore, clock))
    # It would trickle for as long as somebody listens.
    poller.poll()
    given_up.set()
    assert "no response within" in service.log()


def test_an_answer_that_is_huge(server, start, service, monkeypatch):
    from synthralos.calls import http

    monkeypatch.setattr(http, "MAX_RESPONSE_BYTES", 100_000)
    server.answer = http_answer(200, b"[" + b" " * 200_000 + b"]")
    poller = start()
    poller.poll()
    assert "larger than" in service.log()


def test_suppressed_alerts_are_left_out(server, start, service):
    server.fire("A", state="silenced")
    server.fire("B", state="inhibited")
    server.fire("C")
    poller = start()
    poller.poll()
    assert dispatched_alerts(service) == [("C", "firing")]
    # A silence that begins while an alert fires does not end it.
    server.fire("C", starts=server.alerts["C"]["startsAt"], state="silenced")
    # And one that ends tells of the alert.
    server.fire("A")
    poller.poll()
    assert dispatched_alerts(service) == [("C", "firing"), ("A", "firing")]
    server.alerts.clear()
    poller.poll()
    assert sorted(dispatched_alerts(service)[2:]) == [("A", "resolved"), ("C", "resolved")]


def test_suppressed_alerts_are_told_where_that_is_wanted(server, start, service):
    server.fire("A", state="silenced")
    server.fire("B", state="inhibited")
    start(silenced=True).poll()
    assert dispatched_alerts(service) == [("A", "firing")]
    start(silenced=True, inhibited=True).poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]


def test_it_asks_for_what_is_configured(server, start):
    start(filter=['severity="critical"', 'team=~"a|b"'], receiver="st2.*", token="abc-secret",
          headers={"X-Scope-OrgID": "1"}).poll()
    request = server.requests[-1]
    query = parse_qs(urlsplit(request.split(" ")[1]).query)
    assert query == {
        "active": ["true"], "silenced": ["true"], "inhibited": ["true"], "unprocessed": ["true"],
        "filter": ['severity="critical"', 'team=~"a|b"'], "receiver": ["st2.*"],
    }
    assert "Authorization: Bearer abc-secret" in request and "X-Scope-OrgID: 1" in request


def test_a_token_is_read_from_the_datastore(server, start, service, datastore):
    datastore.put("am_token", "first-secret")
    poller = start(token_from="am_token")
    poller.poll()
    datastore.put("am_token", "second-secret")
    poller.poll()
    assert "Bearer first-secret" in server.requests[0]
    assert "Bearer second-secret" in server.requests[1]
    datastore.delete("am_token")
    poller.poll()
    [blind] = service.payloads("sensor_disconnected")
    assert blind["reason"] == "configuration" and "am_token" in service.log()
    assert "secret" not in service.log()


def test_other_filters_end_nothing(server, start, service):
    server.fire("A")
    server.fire("B")
    start().poll()
    del server.alerts["B"]
    for _ in range(2):
        start(filter=['alertname="A"']).poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]


def test_an_alert_that_begins_again(server, start, service, clock):
    poller = start()
    server.fire("A")
    poller.poll()
    clock.forward(20)
    server.fire("A")
    poller.poll()
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("A", "resolved"), ("A", "firing")]
    first, end, second = service.payloads("metrics_alert")
    assert first["starts_at"] == end["starts_at"] < second["starts_at"]


def test_an_alert_that_comes_and_goes_is_told_once(server, start, service):
    """As where two Alertmanagers that know nothing of each other answer in turn."""
    poller = start()
    server.fire("A")
    before = dict(server.alerts)
    for _ in range(4):
        poller.poll()
        server.alerts.clear()
        poller.poll()
        server.alerts.update(before)
    assert dispatched_alerts(service) == [("A", "firing"), ("A", "resolved")]


def test_an_earlier_beginning_is_the_same_alert(server, start, service, clock):
    poller = start()
    server.fire("A")
    poller.poll()
    server.fire("A", starts=timestamps.to_iso(clock() - 10, milliseconds=True))
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing")]


def test_members_of_a_cluster_are_one(serve, start, server, service, clock):
    other = Server(serve, clock)
    server.fire("A", starts=timestamps.to_iso(clock() - 1, milliseconds=True))
    other.fire("A", starts=timestamps.to_iso(clock() - 2, milliseconds=True))
    other.fire("B")
    poller = start(urls=[server.url, other.url])
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]
    del server.alerts["A"]
    poller.poll()
    # One that does not answer may still list it.
    del other.alerts["B"]
    other.answer = http_answer(500)
    for _ in range(4):
        poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]
    assert len(service.payloads("sensor_disconnected")) == 1
    other.answer = None
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing"), ("B", "resolved")]


def test_entries_that_are_no_alerts_end_nothing(server, start, service):
    server.fire("A")
    server.fire("B")
    poller = start()
    poller.poll()
    server.alerts["B"] = {"labels": None}
    server.alerts["C"] = 5
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]


def test_nothing_is_lost_while_the_message_bus_is_away(server, start, service):
    server.fire("A")
    service.away = True
    poller = start()
    for _ in range(3):
        poller.poll()
    service.away = False
    poller.poll()
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing")]


class Died(BaseException):
    pass


def test_who_dies_between_telling_and_writing_tells_again(server, start, service, datastore):
    server.fire("A")
    poller = start()
    datastore.put = lambda *_, **__: (_ for _ in ()).throw(Died())
    with pytest.raises(Died):
        poller.poll()
    del datastore.put
    start().poll()
    start().poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("A", "firing")]


def test_nothing_is_told_before_it_is_known_what_was(server, start, service, datastore):
    server.fire("A")
    start().poll()
    server.fire("B")
    datastore.away = True
    poller = start()
    for _ in range(4):
        poller.poll()
    assert dispatched_alerts(service) == [("A", "firing")]
    assert service.payloads("sensor_disconnected")[0]["reason"] == "datastore"
    datastore.away = ()
    poller.poll()
    assert dispatched_alerts(service) == [("A", "firing"), ("B", "firing")]
    assert service.payloads("sensor_disconnected")[-1]["seeing"] is True


def test_what_could_not_be_written_is_written_later(server, start, service, datastore):
    server.fire("A")
    poller = start()
    datastore.away = ("put",)
    poller.poll()
    poller.poll()
    datastore.away = ()
    poller.poll()
    start().poll()
    assert dispatched_alerts(service) == [("A", "firing")]


@pytest.mark.parametrize("value", [
    "", "nonsense", "1.gzip.x.y", "{}", "\x00",
])
def test_a_memory_that_cannot_be_read(server, start, service, datastore, value):
    server.fire("A")
    start().poll()
    [name] = [name for name in datastore.names() if "alerts" in name]
    datastore.put(name, value)
    start().poll()
    assert dispatched_alerts(service) == [("A", "firing")] * 2
    assert "cannot be read" in service.log()


@pytest.mark.parametrize("content", [
    {"alerts": 5}, {"alerts": {"a": 5}}, {"alerts": {"a": {"starts": 5}}}, {"asked": 5}, {},
    {"alerts": {"a": {"starts": "x", "at": 1, "status": "firing"}}},
])
def test_a_memory_of_another_shape(server, start, service, datastore, content):
    from synthralos.storage import state_codec

    name = "synthralos.sensor.AlertmanagerSensor~2Ealerts"
    datastore.put(name, state_codec.encode_state("x", dict(content, v=1)))
    server.fire("A")
    start().poll()
    start().poll()
    assert dispatched_alerts(service) == [("A", "firing")]


def test_a_thousand_alerts(server, start, service, datastore, clock):
    for n in range(1000):
        server.fire("Alert%d" % n, instance="host-%d" % n, severity="critical")
    poller = start()
    poller.poll()
    poller.poll()
    assert len(dispatched_alerts(service)) == len(set(dispatched_alerts(service))) == 1000
    start().poll()
    assert len(dispatched_alerts(service)) == 1000
    server.alerts.clear()
    start().poll()
    start().poll()
    assert len(dispatched_alerts(service)) == len(set(dispatched_alerts(service))) == 2000
    clock.forward(90_000)
    start().poll()
    [name] = [name for name in datastore.names() if "alerts" in name]
    assert len(datastore.get(name)) < 1000


def test_more_alerts_than_can_be_remembered_wait(server, start, service, monkeypatch):
    monkeypatch.setattr(alertmanager_poller, "MAX_FIRING", 3)
    for n in range(5):
        server.fire("A%d" % n)
    poller = start()
    poller.poll()
    poller.poll()
    assert dispatched_alerts(service) == [("A0", "firing"), ("A1", "firing"), ("A2", "firing")]
    assert service.log().count("further ones are dispatched") == 1
    del server.alerts["A0"]
    for _ in range(3):
        poller.poll()
    assert dispatched_alerts(service)[3:] == [("A0", "resolved"), ("A3", "firing")]


def test_hostile_labels(server, start, service):
    for n, text in enumerate(HOSTILE):
        server.fire("A%d" % n, odd=text, **{"x" + text[:50]: text})
        server.alerts["A%d" % n]["unknown"] = {"a": [text]}
    poller = start()
    poller.poll()
    assert len(dispatched_alerts(service)) == len(HOSTILE)
    server.alerts.clear()
    start().poll()
    assert len(dispatched_alerts(service)) == 2 * len(HOSTILE)
    for payload, text in zip(service.payloads("metrics_alert"), HOSTILE):
        if text.isascii() and len(text) < 1024:
            assert payload["labels"]["odd"] == text


def test_an_entry_that_is_large_is_remembered_in_part(server, start, service):
    server.fire("A", **{"l%d" % n: "x" * 1000 for n in range(50)})
    start().poll()
    server.alerts.clear()
    start().poll()
    began, ended = service.payloads("metrics_alert")
    assert len(began["labels"]) == 51 and 0 < len(ended["labels"]) <= 8
    assert ended["alertname"] == "A"


def test_it_is_idle_and_says_so_once_when_nothing_is_configured(service, datastore, clock):
    poller = AlertmanagerPoller(
        sensor_environment(service, {}, datastore, clock, "AlertmanagerSensor")
    )
    for _ in range(3):
        poller.poll()
    assert poller.poll_interval is None
    assert service.log() == (
        "INFO AlertmanagerSensor is idle: sensors.alertmanager is not configured"
    )
    assert service.dispatched == []


@pytest.mark.parametrize("config", [
    {"sensors": {"alertmanager": {"url": "nonsense"}}}, {"sensors": 5}, {"providers": 5},
    {"sensors": {"alertmanager": 5}}, {"sensors": {"alertmanager": {"url": 5}}},
    {"sensors": {"alertmanager": {"url": "http://h", "filter": "x"}}},
    {"sensors": {"alertmanager": {"url": "http://h", "receiver": 5}}},
    {"sensors": {"alertmanager": {"url": "http://h", "silenced": "yes"}}},
    {"sensors": {"alertmanager": {"url": "http://h", "poll_interval": 3}}},
    {"sensors": {"alertmanager": {"url": "http://h", "poll_interval": 4.5}}},
    {"sensors": {"alertmanager": {"url": "http://h", "settle_seconds": -1}}},
    {"attempt_timeouts": {"connect": "x"}, "sensors": {"alertmanager": {"url": "http://h"}}},
    {"attempt_timeouts": 5},
])
def test_a_configuration_that_is_wrong_is_told_once(service, datastore, clock, config):
    poller = AlertmanagerPoller(sensor_environment(service, config, datastore, clock, "S"))
    for _ in range(3):
        poller.poll()
    [blind] = service.payloads("sensor_disconnected")
    assert blind["reason"] == "configuration"
    assert "idle until it is restarted" in service.log()


def test_another_sensor_s_configuration_is_of_no_concern(server, service, datastore, clock):
    config = {"sensors": {"alertmanager": {"url": server.url}, "agent_events": {"url": "nonsense"}}}
    server.fire("A")
    AlertmanagerPoller(sensor_environment(service, config, datastore, clock)).poll()
    assert dispatched_alerts(service) == [("A", "firing")]


def test_no_secret_reaches_a_trigger(server, start, service):
    server.fire("A", token="hush-hush-1", note="password=hunter22")
    start(token="hush-hush-1").poll()
    [payload] = service.payloads("metrics_alert")
    assert payload["labels"]["token"] == "********"
    # What merely looks like one is the alert's own.
    assert payload["labels"]["note"] == "password=hunter22"
