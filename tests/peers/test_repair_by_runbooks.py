"""Runbooks before a real Prometheus, Alertmanager and node-exporter, from the webhook on.

All are Debian packages (prometheus, prometheus-alertmanager, prometheus-node-exporter); without
them the tests are skipped.
"""
import threading

import pytest
from fixtures.prometheus import ALERTMANAGER, NODE_EXPORTER, PROMETHEUS, ExporterPlant
from fixtures.waiting import ENDED, PATIENCE_SECONDS, limit_under_test, until
from fixtures.workshop import Workshop

from sandbox import Sandbox
from st2local import St2Local

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER and NODE_EXPORTER),
    reason="prometheus, prometheus-alertmanager and prometheus-node-exporter are not installed "
           "(Debian packages)",
)
# Prometheus scrapes and evaluates each second; a busy machine gets some more.
SETTLE = 10


@pytest.fixture
def plant(tmp_path):
    running = ExporterPlant(tmp_path)
    try:
        running.start_alertmanager()
        running.start_prometheus()
        yield running
    finally:
        running.close()


@pytest.fixture
def workshop():
    running = Workshop("first", "second")
    yield running
    running.close()


@pytest.fixture
def receive(plant, workshop, tmp_path):
    """receive(runbooks, *notifications) -> [(status, output)] of the runs that they start."""
    workshop.install(tmp_path / "pack")
    box = Sandbox().start()
    config = dict(box.pack_config(), sensors={
        "alertmanager": {"url": plant.url, "settle_seconds": 1}})
    config["automation"] = {"mode": "act"}
    config["infrastructure"].update(
        prometheus={"base_url": "http://127.0.0.1:%d" % plant.ports["prometheus"]},
        topology=[{"name": plant.instance}], settle_seconds=SETTLE,
        allowed_actions=workshop.actions,
    )
    local = St2Local(tmp_path / "pack", config, tmp_path / "state")

    def run(runbooks, *notifications):
        config["infrastructure"]["runbooks"] = runbooks
        started = []
        for body in notifications:
            received = local.run(
                "synthralos.alert.receive", rule="synthralos.webhook_alertmanager",
                trigger_instance={"payload": {"body": body, "headers": {}}},
            )
            assert received["status"] == "succeeded", received["result"]
            alerts = received["result"]["result"]["alerts"]
            started += [entry["run"] for entry in alerts if entry["outcome"] == "started"]
        ends = []
        for execution in started:
            until(lambda: local.execution(execution)["status"] in ENDED, "it ends")  # noqa: B023
            document = local.execution(execution)
            ends.append((document["status"], document["result"]["output"]))
        return ends

    yield run
    local.close()
    box.close()


def runbook(alertname, *steps):
    return {"name": alertname, "match": {"alertname": alertname}, "steps": list(steps)}


HOST = {"hosts": {"label": "instance"}}
UP = {"check": "up == 1"}


def names_of(workshop):
    return [call.name for call in workshop.calls]


def test_the_second_step_really_starts_the_exporter(plant, receive, workshop):
    workshop.repairs["second"] = plant.start_exporter
    [(status, output)] = receive(
        [runbook("ExporterDown", workshop.step("first", HOST, **UP),
                 workshop.step("second", HOST, **UP))],
        plant.alert("ExporterDown"),
    )
    assert (status, output["outcome"], output["resolved"]) == (
        "succeeded", "repaired", [plant.instance])
    assert names_of(workshop) == ["first", "second"]
    assert [call.parameters for call in workshop.calls] == [{"hosts": plant.instance}] * 2
    assert output["checks"][0]["sources"] == ["step_check"] and output["ticket"] is None


def test_two_alerts_of_one_node_start_two_actions_one_after_the_other(plant, receive, workshop):
    plant.start_exporter()
    plant.write(queue_length=100, disk_free=0.01)
    workshop.repairs = {"first": lambda: plant.write(queue_length=0),
                        "second": lambda: plant.write(disk_free=0.9)}
    queue = {"unit": {"label": "queue"}}
    mount = {"mount": {"label": "mountpoint", "pattern": "/[a-z]+"}}
    notifications = [plant.alert("QueueGrowing"), plant.alert("DiskFull")]
    # One group may hold both by now.
    [first, second] = {
        alert["labels"]["alertname"]: dict(body, alerts=[alert])
        for body in notifications for alert in body["alerts"]
        if alert["labels"]["alertname"] in ("QueueGrowing", "DiskFull")
    }.values()
    ends = receive(
        [runbook("QueueGrowing", workshop.step(
            "first", dict(HOST, **queue), check="queue_length <= 10")),
         runbook("DiskFull", workshop.step("second", dict(HOST, **mount)))],
        first, second,
    )
    assert [(status, output["outcome"]) for status, output in ends] == [
        ("succeeded", "repaired")] * 2
    assert {call.name: call.parameters for call in workshop.calls} == {
        "first": {"hosts": plant.instance, "unit": "orders"},
        "second": {"hosts": plant.instance, "mount": "/data"},
    }
    earlier, later = workshop.calls
    assert later.began_at > earlier.ended_at
    sources = sorted(output["checks"][0]["sources"] for _, output in ends)
    assert sources == [["alertmanager"], ["step_check"]]


def test_an_exporter_that_dies_proves_nothing(plant, receive, workshop):
    """Neither its series nor its alert are there any more."""
    plant.start_exporter()
    plant.write(queue_length=100)
    workshop.repairs["first"] = lambda: plant.stop("exporter")
    [(status, output)] = receive(
        [runbook("QueueGrowing", workshop.step("first", HOST, check="queue_length <= 10"))],
        plant.alert("QueueGrowing"),
    )
    assert (status, output["outcome"]) == ("failed", "not_repaired")
    assert output["ticket"] and output["resolved"] == []
    assert "no healthy result" in output["checks"][0]["reason"]


def test_a_queue_that_flaps_is_not_repaired(plant, receive, workshop):
    plant.start_exporter()
    plant.write(queue_length=100)
    ended = threading.Event()

    def flap():
        value = 0
        while not ended.wait(limit_under_test(2.5)):
            plant.write(queue_length=value)
            value = 100 - value

    flapping = threading.Thread(target=flap, daemon=True)
    workshop.repairs["first"] = flapping.start
    try:
        [(status, output)] = receive(
            [runbook("QueueGrowing", workshop.step("first", HOST, check="queue_length <= 10"))],
            plant.alert("QueueGrowing"),
        )
    finally:
        ended.set()
        flapping.join(PATIENCE_SECONDS)
    assert (status, output["outcome"]) == ("failed", "not_repaired")
    assert output["ticket"] and output["resolved"] == []
