"""The poller against a loopback platform that lists what a test puts there."""
import json
import random
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from fixtures.sensor_world import HOSTILE, Service, sensor_environment
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.core import timestamps
from synthralos.sensing import agent_errors_poller
from synthralos.sensing.agent_errors_poller import AgentErrorsPoller

from .conftest import http_answer


class Platform:
    """:ivar errors: what happened; the list holds those within the range asked for."""

    def __init__(self, serve, clock):
        self.clock, self.errors, self.answer = clock, [], None
        self._server = serve(self._serve)
        self.url = self._server.url

    def fail(self, message, ago=0.0, **more):
        error = {
            "timestamp": timestamps.to_iso(self.clock() - ago, milliseconds=True),
            "level": "error",
            "message": message,
            "framework": "react",
            "errorType": "execution_error",
            "eventType": "agent_execution",
            "traceId": "trace-" + message[:20],
        }
        self.errors.append(dict(error, **more))
        return self.errors[-1]

    @property
    def requests(self):
        return self._server.requests

    def requested_ranges(self):
        """The ranges asked for."""
        queries = [urlsplit(request.split(" ")[1]).query for request in self.requests]
        return [parse_qs(query).get("range", [None])[0] for query in queries]

    def _serve(self, connection, request):
        if self.answer is not None:
            connection.sendall(self.answer)
            return
        seconds = dict(agent_errors_poller.RANGES)[self.requested_ranges()[-1] or "1h"]
        entries = [
            error for error in self.errors
            if not isinstance(error, dict) or
            (timestamps.parse_timestamp(error.get("timestamp")) or 9e9) > self.clock() - seconds
        ]
        random.Random(len(self.requests)).shuffle(entries)
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.clock()))
        connection.sendall(
            http_answer(body=json.dumps({"errors": entries[:100]}), headers=[("Date", date)])
        )


@pytest.fixture
def platform(serve, clock):
    return Platform(serve, clock)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def start(platform, service, datastore, clock):
    def make(**entry):
        config = {
            "platforms": [{"base_url": platform.url, "token": "abc-secret"}],
            "sensors": {"agent_errors": dict({"path": "/api/v1/observability/errors"}, **entry)},
        }
        around = sensor_environment(service, config, datastore, clock, "AgentErrorsSensor")
        return AgentErrorsPoller(around)

    return make


def dispatched_messages(service):
    return [payload["failure_details"]["message"] for payload in service.payloads("agent_failure")]


def test_each_error_is_told_once(platform, start, service, clock):
    poller = start()
    poller.poll()
    platform.fail("first timed out")
    platform.fail("second", ago=3)
    for _ in range(3):
        poller.poll()
        clock.forward(30)
    platform.fail("third")
    poller.poll()
    # The oldest first, whatever the order of the list.
    assert dispatched_messages(service) == ["second", "first timed out", "third"]
    first = service.payloads("agent_failure")[1]
    assert (first["source"], first["failure_type"]) == ("platform", "timeout")
    assert "Authorization: Bearer abc-secret" in platform.requests[0]
    assert platform.requests[0].startswith("GET /api/v1/observability/errors?range=1h ")


def test_what_happened_before_the_very_first_start_is_no_news(platform, start, service, clock):
    platform.fail("long ago", ago=301)
    platform.fail("just now", ago=299)
    start().poll()
    start().poll()
    assert dispatched_messages(service) == ["just now"]


def test_restarts_repeat_nothing_and_lose_nothing(platform, start, service, clock):
    start().poll()
    expected = []
    for n in range(10):
        expected.append("error %d" % n)
        platform.fail(expected[-1])
        start().poll()
        clock.forward(30)
    assert dispatched_messages(service) == expected


@pytest.mark.parametrize("down, range_name", [
    (60, "1h"), (3000, "1h"), (3600, "24h"), (5 * 3600, "24h"), (86_400, "7d"),
    (8 * 86_400, "30d"), (40 * 86_400, "30d"),
])
def test_who_was_away_asks_for_as_long(platform, start, service, clock, down, range_name):
    start().poll()
    clock.forward(down - 1)
    platform.fail("meanwhile", ago=min(down - 2, 29 * 86_400))
    start().poll()
    clock.forward(30)
    start().poll()
    assert dispatched_messages(service) == ["meanwhile"]
    assert platform.requested_ranges()[1] == range_name


def test_a_platform_that_was_away_is_asked_for_as_long(platform, start, service, clock):
    poller = start()
    poller.poll()
    platform.answer = http_answer(503)
    for _ in range(200):
        poller.poll()
        clock.forward(30)
    platform.answer = None
    platform.fail("meanwhile", ago=5000)
    poller.poll()
    assert dispatched_messages(service) == ["meanwhile"]
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [
        False,
        True,
    ]
    assert service.payloads("sensor_disconnected")[0]["reason"] == "server_error"


def test_errors_come_late_and_in_any_order(platform, start, service, clock):
    poller = start()
    poller.poll()
    clock.forward(1800)
    for ago in (0, 1700, 5, 1000, 60):
        platform.fail("%d ago" % ago, ago=ago)
        poller.poll()
    assert dispatched_messages(service) == ["0 ago", "1700 ago", "5 ago", "1000 ago", "60 ago"]


def test_the_same_error_twice_is_one(platform, start, service):
    poller = start()
    poller.poll()
    error = platform.fail("once", id="e1")
    platform.errors.append(dict(error))
    platform.fail("another word for it", id="e1")
    poller.poll()
    assert len(dispatched_messages(service)) == 1
    assert service.payloads("agent_failure")[0]["error_id"] == "e1"


def test_an_error_of_the_future_is_told_once(platform, start, service, clock):
    poller = start()
    poller.poll()
    platform.fail("tomorrow", ago=-86_400)
    for _ in range(3):
        poller.poll()
        clock.forward(30)
    assert dispatched_messages(service) == ["tomorrow"]


def test_an_error_of_the_future_makes_no_other_too_old(
    platform, start, service, clock, monkeypatch
):
    monkeypatch.setattr(agent_errors_poller, "MAX_SEEN", 2)
    poller = start()
    poller.poll()
    platform.fail("tomorrow", ago=-86_400)
    poller.poll()
    platform.errors.clear()
    for n in range(4):
        clock.forward(30)
        platform.fail("e%d" % n)
        poller.poll()
    assert dispatched_messages(service) == ["tomorrow", "e0", "e1", "e2", "e3"]


@pytest.mark.parametrize("stamp", [None, "", "yesterday", True, {}, "\x00"])
def test_an_error_without_a_time_is_told_once(platform, start, service, clock, stamp):
    poller = start()
    poller.poll()
    platform.errors.append({"message": "when?", "timestamp": stamp})
    for _ in range(3):
        poller.poll()
        clock.forward(30)
    assert dispatched_messages(service) == ["when?"]


def test_what_is_no_error_is_passed_over(platform, start, service):
    poller = start()
    poller.poll()
    platform.errors += [None, 5, "x", [], True]
    platform.fail("real")
    poller.poll()
    assert dispatched_messages(service) == ["real"]


@pytest.mark.parametrize("answer, reason", [
    (http_answer(500), "server_error"), (http_answer(200, b"<html>"), "malformed_answer"),
    (http_answer(200, b'{"errors": [{'), "malformed_answer"), (b"", "network"),
    (http_answer(200, b'{"errors": {}}'), "malformed_answer"),
    (http_answer(200, b"{}"), "malformed_answer"), (http_answer(200, b"5"), "malformed_answer"),
    (http_answer(401, b"no"), "authentication"), (http_answer(404, b"no"), "not_found"),
    (http_answer(200, b"{}", length=500), "truncated_stream"),
    (http_answer(302, b"", [("Location", "http://127.0.0.1:9/")]), None),
])
def test_a_wrong_answer(platform, start, service, answer, reason):
    poller = start()
    poller.poll()
    platform.answer = answer
    for _ in range(5):
        poller.poll()
    platform.answer = None
    platform.fail("then")
    poller.poll()
    assert dispatched_messages(service) == ["then"]
    blind, seeing = service.payloads("sensor_disconnected")
    assert reason is None or blind["reason"] == reason
    assert seeing["seeing"] is True


def test_a_bare_list_will_do(platform, start, service):
    start().poll()
    platform.answer = http_answer(200, b'[{"message": "bare"}]')
    start().poll()
    assert dispatched_messages(service) == ["bare"]


def test_a_standby_is_asked_when_the_platform_is_away(serve, service, datastore, clock):
    standby = Platform(serve, clock)
    standby.fail("seen by the standby")
    config = {
        "platforms": [{"base_url": "http://127.0.0.1:9", "fallbacks": [
            {"name": "standby", "base_url": standby.url}]}],
        "sensors": {"agent_errors": {"path": "/errors?range=7d", "timeout": PATIENCE_SECONDS}},
    }
    poller = AgentErrorsPoller(sensor_environment(service, config, datastore, clock))
    poller.poll()
    assert dispatched_messages(service) == ["seen by the standby"]
    assert service.payloads("sensor_disconnected") == []
    # A query of one's own is left as it is.
    assert standby.requests[0].startswith("GET /errors?range=7d ")


def test_an_address_of_its_own(platform, service, datastore, clock):
    platform.fail("elsewhere")
    config = {"sensors": {"agent_errors": {
        "url": platform.url + "/tenant/errors?x=1", "token": "other-secret"}}}
    AgentErrorsPoller(sensor_environment(service, config, datastore, clock)).poll()
    assert dispatched_messages(service) == ["elsewhere"]
    assert platform.requests[0].startswith("GET /tenant/errors?x=1 ")
    assert "Bearer other-secret" in platform.requests[0]


def test_nothing_is_lost_while_the_message_bus_is_away(platform, start, service):
    poller = start()
    poller.poll()
    platform.fail("a", ago=2)
    platform.fail("b")
    service.away = True
    poller.poll()
    start().poll()
    service.away = False
    start().poll()
    start().poll()
    assert dispatched_messages(service) == ["a", "b"]


def test_one_that_fails_in_between_repeats_none_before_it(platform, start, service):
    start().poll()
    for n in range(5):
        platform.fail("e%d" % n, ago=10 - n)
    dispatch, count = service.dispatch, []

    def third_fails(**keywords):
        count.append(1)
        if len(count) == 3:
            raise OSError("away")
        return dispatch(**keywords)

    service.dispatch = third_fails
    start().poll()
    start().poll()
    assert dispatched_messages(service) == ["e0", "e1", "e2", "e3", "e4"]


def test_nothing_is_told_before_it_is_known_what_was(platform, start, service, datastore):
    start().poll()
    platform.fail("a")
    start().poll()
    datastore.away = True
    poller = start()
    poller.poll()
    datastore.away = ()
    poller.poll()
    assert dispatched_messages(service) == ["a"]


def test_a_full_list_is_warned_of_once(platform, start, service):
    poller = start()
    for n in range(100):
        platform.fail("e%d" % n)
    poller.poll()
    poller.poll()
    assert len(dispatched_messages(service)) == 100
    assert service.log().count("may be truncated") == 1


def test_what_is_remembered_is_bounded(platform, start, service, monkeypatch, clock):
    monkeypatch.setattr(agent_errors_poller, "MAX_SEEN", 20)
    poller = start()
    poller.poll()
    for n in range(60):
        platform.fail("e%d" % n)
        poller.poll()
        clock.forward(600)
    assert dispatched_messages(service) == ["e%d" % n for n in range(60)]
    assert len(poller._state.content["seen"]) <= 20
    # What is older than the oldest that is remembered is taken for known.
    platform.fail("too late to tell", ago=3500 * 6)
    clock.forward(8000)
    start().poll()
    assert len(dispatched_messages(service)) == 60


def test_what_is_no_longer_listed_is_forgotten_in_time(platform, start, clock):
    poller = start()
    poller.poll()
    platform.fail("a")
    poller.poll()
    clock.forward(32 * 86_400)
    poller.poll()
    assert poller._state.content["seen"] == {}


def test_an_error_that_a_server_lists_for_ever_is_told_once(platform, start, service, clock):
    platform.answer = http_answer(200, b'[{"message": "old", "timestamp": "2023-11-14T22:13:00Z"}]')
    start().poll()
    for _ in range(100):
        clock.forward(86_400)
        start().poll()
    assert dispatched_messages(service) == ["old"]


def test_hostile_errors(platform, start, service):
    poller = start()
    poller.poll()
    for text in HOSTILE:
        platform.errors.append({
            "message": text, "traceId": text, "agentId": text, text: text, "context": {text: text},
        })
    poller.poll()
    assert len(service.payloads("agent_failure")) == len(HOSTILE)


def test_no_secret_reaches_a_trigger(platform, start, service):
    poller = start()
    poller.poll()
    platform.fail("Invalid token abc-secret")
    poller.poll()
    assert dispatched_messages(service) == ["Invalid token ********"]


def test_it_is_idle_and_says_so_once(service, datastore, clock):
    config = {"platforms": [{"base_url": "http://127.0.0.1:9"}], "sensors": {
        "agent_errors": {"initial_lookback": 300, "poll_interval": 30}}}
    poller = AgentErrorsPoller(sensor_environment(service, config, datastore, clock, "S"))
    for _ in range(3):
        poller.poll()
    assert service.log() == "INFO S is idle: sensors.agent_errors is not configured"


@pytest.mark.parametrize("entry", [
    {"path": "errors"}, {"path": 5}, {"path": "/errors"}, {"url": "x"},
    {"url": "http://h", "path": "/x"}, {"url": "http://h", "initial_lookback": "x"},
])
def test_a_configuration_that_is_wrong_is_told_once(service, datastore, clock, entry):
    poller = AgentErrorsPoller(sensor_environment(
        service, {"sensors": {"agent_errors": entry}}, datastore, clock
    ))
    poller.poll()
    poller.poll()
    assert [payload["reason"] for payload in service.payloads("sensor_disconnected")] == [
        "configuration"
    ]
