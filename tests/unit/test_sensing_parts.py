"""The small parts that the sensors share: blindness, memory, bounded calls, the datastore."""
import threading
from types import SimpleNamespace

import pytest
from fixtures.sensor_world import Service, sensor_environment
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.sensing import config as sensing_config
from synthralos.sensing.call_timeout import TimedCall
from synthralos.sensing.config import SensorsConfig
from synthralos.sensing.connectivity import ConnectivityMonitor
from synthralos.sensing.poller import describe_error
from synthralos.sensing.response_stream import DATA, OPENED, Stream
from synthralos.sensing.sensor_environment import SensorEnvironment
from synthralos.sensing.sensor_state import RENEWED_SECONDS, SensorState
from synthralos.storage.datastore import DatastoreUnavailable


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def env(service, datastore, clock):
    return sensor_environment(service, {}, datastore, clock)


@pytest.fixture
def connectivity(env):
    def make():
        return ConnectivityMonitor(
            "S", env.dispatch, env.datastore, env.now, env.log, 3
        )

    return make


def test_a_defect_of_ours_is_not_told_as_a_datastore_that_is_away(service, monkeypatch):
    service.datastore_service = SimpleNamespace(get_api_client=lambda: SimpleNamespace(
        endpoints={"api": "http://127.0.0.1:9/v1"}, token="t"))
    env = SensorEnvironment("S", service, {})

    def broken(self, name, decrypt=False):
        raise TypeError("of ours")

    monkeypatch.setattr("synthralos.storage.stackstorm_api.Api.get", broken)
    with pytest.raises(TypeError):
        env.datastore.get("a")
    assert describe_error(TypeError("x"))[0] == "internal"


def fail(connectivity, times=1, reason="network", **more):
    for _ in range(times):
        connectivity.failed(reason, "no connection", 30, **more)


def test_blindness_is_told_once_and_its_end_once(connectivity, service, clock):
    blind = connectivity()
    blind.succeeded()
    fail(blind, 2)
    assert service.dispatched == []
    clock.forward(30)
    fail(blind, 5)
    blind.succeeded()
    blind.succeeded()
    began, ended = service.payloads("sensor_disconnected")
    assert began == {
        "sensor": "S", "since": "2023-11-14T22:13:20.000Z", "reason": "network", "attempts": 3,
        "next_try_seconds": 30, "seeing": False,
    }
    assert ended == dict(began, attempts=7, next_try_seconds=0, seeing=True)


def test_a_log_is_no_place_for_the_same_line_all_day(connectivity, service):
    fail(connectivity(), 100)
    assert len(service.log().splitlines()) == 2


def test_what_was_too_short_to_tell_is_not_told(connectivity, service):
    blind = connectivity()
    for _ in range(5):
        fail(blind, 2)
        blind.succeeded()
    assert service.dispatched == []


def test_blindness_is_told_again_while_it_could_not(connectivity, service):
    blind = connectivity()
    service.away = True
    fail(blind, 5)
    service.away = False
    fail(blind)
    service.away = True
    blind.succeeded()
    service.away = False
    blind.succeeded()
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [
        False,
        True,
    ]


def test_a_restart_knows_what_was_told(connectivity, service, clock):
    fail(connectivity(), 3)
    clock.forward(60)
    fail(connectivity(), 3)
    connectivity().succeeded()
    connectivity().succeeded()
    began, ended = service.payloads("sensor_disconnected")
    assert ended["seeing"] and ended["since"] == began["since"]


def test_blindness_needs_no_datastore(connectivity, service, datastore):
    datastore.away = True
    blind = connectivity()
    fail(blind, 3)
    blind.succeeded()
    assert [payload["seeing"] for payload in service.payloads("sensor_disconnected")] == [
        False,
        True,
    ]


@pytest.mark.parametrize("value", ["", "x", "[]", "{}", '{"since": "x", "reason": 5}', "5"])
def test_a_note_that_cannot_be_read(connectivity, datastore, value):
    datastore.put("synthralos.sensor.S~2Eblind", value)
    fail(connectivity(), 3)
    connectivity().succeeded()


def test_a_memory_is_kept_alive(env, datastore, clock):
    memory = SensorState(datastore, "S.x", clock, env.log)
    memory.load()
    memory.content["a"] = 1
    memory.changed()
    memory.save()
    datastore.away = ("put",)
    memory.save()
    clock.forward(RENEWED_SECONDS)
    with pytest.raises(DatastoreUnavailable):
        memory.save()
    datastore.away = ()
    memory.save()
    again = SensorState(datastore, "S.x", clock, env.log)
    again.load()
    assert again.content == {"a": 1}


def test_a_memory_that_is_too_large_is_told(env, datastore, clock, monkeypatch):
    from synthralos.storage import state_codec

    monkeypatch.setattr(state_codec, "MAX_ENCODED_BYTES", 100)
    memory = SensorState(datastore, "S.x", clock, env.log)
    memory.load()
    memory.content["a"] = list(range(1000))
    memory.changed()
    with pytest.raises(DatastoreUnavailable, match="too large"):
        memory.save()


def test_a_call_ends_in_time():
    bounded, goes_on = TimedCall(), threading.Event()
    assert bounded.call(PATIENCE_SECONDS, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        bounded.call(PATIENCE_SECONDS, lambda: 1 / 0)
    with pytest.raises(CallError, match="no response"):
        bounded.call(limit_under_test(0.1), goes_on.wait)
    # Calls that never end do not pile up.
    with pytest.raises(CallError, match="still being received"):
        bounded.call(PATIENCE_SECONDS, lambda: 5)
    goes_on.set()

    def again():
        try:
            return bounded.call(PATIENCE_SECONDS, lambda: 6)
        except CallError:
            return None

    assert until(again, "the call that went on has ended") == 6


def test_no_signal_is_used(monkeypatch, serve, env):
    """It would hit whatever runs in the sensor's thread by then."""
    import signal

    from synthralos.config.connection import Connection
    from synthralos.sensing.poller import Poller

    from .conftest import http_answer

    class Asking(Poller):
        entry = "alertmanager"

    monkeypatch.setattr(signal, "setitimer", lambda *_: pytest.fail("a timer was set"))
    asking = Asking(env)
    connection = Connection(serve(http_answer(200, b"[]")).url, timeout=PATIENCE_SECONDS)
    assert asking.get(connection, "/").json() == []


def test_a_stream_whose_reader_left_ends():
    closed = []

    class Response:
        status_code, headers = 200, {"A": "b"}

        class raw:
            @staticmethod
            def read1(size):
                return b"x"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(True)

    stream = Stream(Response)
    assert stream.get(PATIENCE_SECONDS) == (OPENED, (200, {"a": "b"}))
    assert stream.get(PATIENCE_SECONDS) == (DATA, b"x")
    until(stream._queue.full, "nobody takes what comes")
    stream.close()
    until(lambda: closed, "the connection is closed")


class Client:
    endpoints, token = {"api": "http://127.0.0.1:9/v1"}, "t1"


def test_the_datastore_is_stackstorm_s_own_with_the_token_of_the_service(serve, service):
    from .conftest import http_answer

    server = serve(http_answer(200, b'{"value": "v"}'))
    client = Client()
    client.endpoints = {"api": server.url + "/v1"}
    service.datastore_service = type("S", (), {"get_api_client": staticmethod(lambda: client)})
    env = SensorEnvironment("S", service, {"stackstorm": {"verify": False}})
    assert env.datastore.get("k") == "v"
    # The service renews it.
    client.token = "t2"
    assert env.datastore.get("k", True) == "v"
    env.datastore.put("k", "v", 60)
    env.datastore.delete("k")
    assert ["X-Auth-Token: %s" % t in r for t, r in zip(["t1", "t2", "t2"], server.requests)] == [
        True, True, True
    ]


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"x": 1}', b"5"])
def test_a_datastore_that_answers_nonsense_is_away(serve, service, answer):
    from .conftest import http_answer

    client = Client()
    client.endpoints = {"api": serve(http_answer(200, answer)).url}
    service.datastore_service = type("S", (), {"get_api_client": staticmethod(lambda: client)})
    with pytest.raises(DatastoreUnavailable):
        SensorEnvironment("S", service, None).datastore.get("k")


def test_without_a_token_the_datastore_is_away(service):
    def fails():
        raise OSError("the database is away")

    service.datastore_service = type("S", (), {"get_api_client": staticmethod(fails)})
    with pytest.raises(DatastoreUnavailable, match="no token"):
        SensorEnvironment("S", service, None).datastore.get("k")


def test_a_configuration():
    platforms = surroundings_platforms()
    config = SensorsConfig.from_config(
        {
            "alertmanager": {
                "url": "http://a/", "urls": ["http://a/", "http://b"], "filter": ["x=1"],
                "ca_bundle": "/ca.pem", "proxy": "http://proxy", "token_from": "k", "timeout": 63,
            },
            "agent_errors": {"path": "/errors", "timeout": 64},
            "agent_events": {"path": "/events", "loop_events": ["x"]},
        },
        platforms,
    )
    first, second = config.alertmanager.connections
    assert (first.base_url, second.base_url) == ("http://a", "http://b")
    assert (first.verify, first.proxy, first.secret_from, first.timeout) == (
        "/ca.pem", "http://proxy", "k", 63.0
    )
    [endpoint] = config.agent_errors.endpoints
    assert (endpoint.connection.base_url, endpoint.path) == ("http://platform", "/errors")
    assert (endpoint.connection.secret, endpoint.connection.timeout) == ("hush-hush", 64.0)
    assert config.agent_events.loop_events == ("x",)
    assert config.agent_events.failure_events == sensing_config.FAILURE_EVENTS
    assert SensorsConfig.from_config(None) == SensorsConfig()


def surroundings_platforms():
    from synthralos.config.settings import Settings

    return Settings.from_config(
        {"platforms": [{"base_url": "http://platform", "token": "hush-hush"}]}
    ).platforms


@pytest.mark.parametrize("entry, field", [
    ({"alertmanager": {"urls": "x"}}, "sensors.alertmanager.urls"),
    ({"alertmanager": {"url": "ftp://x"}}, "sensors.alertmanager.url"),
    ({"alertmanager": {"url": "http://x", "headers": 5}}, "sensors.alertmanager.headers"),
    (
        {"agent_errors": {"url": "http://x", "initial_lookback": -1}},
        "sensors.agent_errors.initial_lookback",
    ),
    ({"agent_events": {"url": "http://x", "reconnect": 0}}, "sensors.agent_events.reconnect"),
    ({"agent_events": {"path": "x"}}, "sensors.agent_events.path"),
    ({"agent_events": []}, "sensors.agent_events"), ([], "sensors"),
])
def test_what_is_wrong_is_named(entry, field):
    with pytest.raises(InvalidInput) as refused:
        SensorsConfig.from_config(entry)
    assert refused.value.field == field


def test_literal_secrets_are_known(service, datastore, clock):
    config = {"sensors": {
        "alertmanager": {"url": "http://u:p4ssw0rd1@h", "headers": {"X": "hush-header"}},
        "agent_events": {"token": "hush-token", "proxy": "http://u:hush-proxy@h"},
    }}
    env = sensor_environment(service, config, datastore, clock)
    env.configuration("alertmanager")
    redacted = env.redactor.redact_text("hush-header hush-token hush-proxy p4ssw0rd1")
    assert "hush" not in redacted and "p4ss" not in redacted
