"""A real Prometheus and a real Alertmanager, on loopback: a target goes down, and comes back.

Both are Debian packages (prometheus, prometheus-alertmanager); without them the test is skipped.
"""
import json
import time

import pytest
from fixtures import PACK
from fixtures.prometheus import ALERTMANAGER, PROMETHEUS, Peers, Target, answers
from fixtures.sensor_world import Service, sensor_environment
from fixtures.waiting import until

from synthralos.sensing import alert_payloads
from synthralos.sensing.alertmanager_poller import AlertmanagerPoller
from synthralos.storage.datastore import MemoryDatastore

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="prometheus and prometheus-alertmanager are not installed (Debian packages)",
)


@pytest.fixture
def peers(tmp_path):
    running = Peers(tmp_path)
    try:
        running.start_alertmanager()
        running.start_prometheus()
        yield running
    finally:
        running.close()


def test_a_target_goes_down_and_comes_back(peers):
    service, datastore = Service(), MemoryDatastore()

    def poller():
        # A sensor that has just been started, each time.
        config = {"sensors": {"alertmanager": {
            "url": peers.url, "filter": ['severity="critical"'],
            # Prometheus tells it again within a second or two where the machine is idle.
            "settle_seconds": 20}}}
        return AlertmanagerPoller(
            sensor_environment(service, config, datastore, time.time, "AlertmanagerSensor")
        )

    def seen(*statuses):
        poller().poll()
        return [payload["status"] for payload in service.payloads("metrics_alert")] == list(
            statuses
        )

    assert seen()
    peers.target.stop()
    until(lambda: seen("firing"), "the alert fires")
    [firing] = service.payloads("metrics_alert")
    assert firing["alertname"] == "AgentDown"
    assert firing["labels"]["job"] == "agent" and firing["labels"]["severity"] == "critical"
    assert firing["annotations"]["summary"] == "agent down {{ config_context.x }}"
    assert firing["extra"] == {"receivers": "hook"} and firing["ends_at"] is None
    # Prometheus and Alertmanager make it of the labels, and so do we.
    assert firing["fingerprint"] == alert_payloads.fingerprint(firing["labels"])
    # Alertmanager forgets what fires, until it is told again; nothing has ended by that.
    peers.stop("alertmanager")
    assert seen("firing")
    peers.start_alertmanager()

    def told_again():
        assert seen("firing")
        return len(json.loads(answers(peers.url + "/api/v2/alerts"))) == 1

    until(told_again, "it was told again")
    assert seen("firing")
    peers.target = Target(peers.ports["target"])
    until(lambda: seen("firing", "resolved"), "the alert has ended")
    _, resolved = service.payloads("metrics_alert")
    assert resolved["labels"] == firing["labels"]
    assert resolved["starts_at"] == firing["starts_at"] < resolved["ends_at"]
    # What Alertmanager posts to a webhook tells of the same.
    until(lambda: any(body["status"] == "resolved" for body in peers.hook.bodies), "it was posted")
    posted = [payload for body in peers.hook.bodies
              for payload in alert_payloads.from_webhook(body, time.time())]
    dispatched = {alert_payloads.identity(payload) for payload in service.payloads("metrics_alert")}
    assert {alert_payloads.identity(payload) for payload in posted} == dispatched
    connectivity = [payload["seeing"] for payload in service.payloads("sensor_disconnected")]
    assert connectivity in ([], [False, True])


@pytest.fixture
def pack(peers, tmp_path):
    """The pack on st2local, which asks the real Prometheus which nodes are down."""
    from sandbox import Sandbox
    from st2local import St2Local

    with Sandbox() as box:
        config = dict(box.pack_config(), automation={"mode": "act"})
        config["infrastructure"].update(
            prometheus={
                "base_url": "http://127.0.0.1:%d" % peers.ports["prometheus"], "label": "instance"},
            settle_seconds=1,
        )
        with St2Local(PACK, config, tmp_path / "state") as local:
            yield local


def received(pack, payload):
    run = pack.run("synthralos.alert.receive", {}, trigger_instance={"payload": payload})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]["alerts"][0]


def test_an_alert_ends_in_an_assigned_crew_and_the_resolved_one_closes_its_case(peers, pack):
    service, datastore = Service(), MemoryDatastore()
    config = {"sensors": {"alertmanager": {"url": peers.url, "settle_seconds": 3}}}
    poller = AlertmanagerPoller(
        sensor_environment(service, config, datastore, time.time, "AlertmanagerSensor")
    )

    def poll_payloads():
        poller.poll()
        return service.payloads("metrics_alert")

    peers.target.stop()
    until(poll_payloads, "the alert fires")
    until(lambda: peers.hook.bodies, "it was posted")
    started = received(pack, poll_payloads()[0])
    assert started["workflow"] == "infrastructure_repair", started
    # The webhook tells of the same: no second run.
    assert received(pack, {"body": peers.hook.bodies[0]})["outcome"] in ("running", "duplicate")
    until(lambda: pack.execution(started["run"])["status"] in ("succeeded", "failed"), "it ended")
    output = pack.execution(started["run"])["result"]["output"]
    node = "127.0.0.1:%d" % peers.ports["target"]
    [assignment] = output["assignments"]
    assert (assignment["node"], assignment["status"]) == (node, "Assigned")
    peers.target = Target(peers.ports["target"])
    until(lambda: poll_payloads()[-1]["status"] == "resolved", "the alert has ended")
    assert received(pack, poll_payloads()[-1])["outcome"] == "resolved"
    assert received(pack, poll_payloads()[-1])["outcome"] == "nothing_open"
