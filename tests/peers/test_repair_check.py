"""Repairs before a real Prometheus, Alertmanager and Pushgateway: only what really helps counts.

All are Debian packages (prometheus, prometheus-alertmanager, prometheus-pushgateway); without them
the tests are skipped.
"""
import json
import threading
import time
import urllib.request

import pytest
import yaml
from fixtures.prometheus import (
    ALERTMANAGER,
    PROMETHEUS,
    PUSHGATEWAY,
    Gateway,
    Peers,
    Target,
    answers,
)
from fixtures.waiting import PATIENCE_SECONDS, until
from fixtures.workshop import Workshop

from sandbox import Sandbox
from st2local import St2Local
from synthralos.core.timestamps import to_iso

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER and PUSHGATEWAY),
    reason="prometheus, prometheus-alertmanager and prometheus-pushgateway are not installed "
           "(Debian packages)",
)
# Prometheus scrapes and evaluates each second; a busy machine gets some more.
SETTLE = 10


@pytest.fixture
def workshop():
    running = Workshop("first", "second")
    yield running
    running.close()


@pytest.fixture
def pack(workshop, tmp_path):
    """pack(prometheus entry, sensors) -> run(payload of a trigger) -> (status, output)."""
    folder, running = tmp_path / "pack", []
    workshop.install(folder)

    def start(prometheus, sensors=None):
        box = Sandbox().start()
        running.append(box)
        config = dict(box.pack_config(), sensors=sensors or {})
        config["infrastructure"].update(
            prometheus=prometheus, topology=[], crews=workshop.crews(), settle_seconds=SETTLE,
            allowed_actions=workshop.actions,
        )
        local = St2Local(folder, config, tmp_path / "state")
        running.append(local)

        def run(payload=None):
            more = {"trigger_instance": {"payload": payload}} if payload else {}
            execution = local.start(
                "synthralos.infrastructure_repair", {"max_steps": 50, "timeout": 3600}, **more
            ).wait(PATIENCE_SECONDS)
            assert execution["status"] in ("succeeded", "failed"), execution["status"]
            return execution["status"], execution["result"]["output"]

        return run

    yield start
    for part in reversed(running):
        part.close()


def repairs_of(workshop):
    return [call.name for call in workshop.calls]


@pytest.fixture
def gateway(tmp_path):
    running = Gateway(tmp_path)
    try:
        running.start_prometheus()
        yield running
    finally:
        running.close()


def prometheus_entry(peers, **more):
    return dict({"base_url": "http://127.0.0.1:%d" % peers.ports["prometheus"]}, **more)


def post(address, body, content_type, method="POST"):
    request = urllib.request.Request(
        address, data=body, headers={"Content-Type": content_type}, method=method
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE_SECONDS) as response:
        return response.read()


def push(gateway, value):
    post(gateway.address + "/metrics/job/agents/node/db-1", b"agent_ok %d\n" % value, "text/plain")


def test_the_crew_that_really_starts_the_exporter_has_repaired_it(gateway, pack, workshop):
    workshop.repairs["second"] = gateway.start_pushgateway
    until(lambda: gateway.query("up == 0"), "Prometheus has seen that it is down")
    status, output = pack(prometheus_entry(gateway))()
    node = "127.0.0.1:%d" % gateway.ports["pushgateway"]
    assert repairs_of(workshop) == ["first", "second"]
    assert (status, output["outcome"], output["resolved"]) == ("succeeded", "repaired", [node])
    assert output["success"] and output["ticket"] is None
    assert gateway.query("up") == [({"__name__": "up", "instance": node, "job": "pushgateway"}, 1)]


def test_an_exporter_that_dies_empties_the_query_and_repairs_nothing(gateway, pack, workshop):
    gateway.start_pushgateway()
    push(gateway, 0)
    until(lambda: gateway.query("agent_ok == 0"), "Prometheus has scraped it")
    workshop.repairs["first"] = lambda: gateway.stop("pushgateway")
    status, output = pack(prometheus_entry(gateway, query="agent_ok == 0", label="node"))()
    assert gateway.query("agent_ok == 0") == []
    assert repairs_of(workshop) == ["first", "second"]
    assert (status, output["outcome"]) == ("failed", "not_repaired")
    assert output["ticket"] and output["resolved"] == [] and output["unassigned"] == ["db-1"]
    assert "no sample" in output["checks"][0]["reason"]


def test_a_node_that_flaps_is_not_repaired(gateway, pack, workshop):
    gateway.start_pushgateway()
    push(gateway, 0)
    until(lambda: gateway.query("agent_ok == 0"), "Prometheus has scraped it")
    ended = threading.Event()

    def flap():
        value = 1
        while not ended.is_set():
            push(gateway, value)
            until(
                lambda: ended.is_set() or gateway.query("agent_ok == %d" % value),  # noqa: B023
                "Prometheus has scraped it",
            )
            value = 1 - value

    flapping = threading.Thread(target=flap, daemon=True)
    workshop.repairs["first"] = flapping.start
    try:
        status, output = pack(prometheus_entry(gateway, query="agent_ok == 0", label="node"))()
    finally:
        ended.set()
        flapping.join(PATIENCE_SECONDS)
    assert (status, output["outcome"]) == ("failed", "not_repaired")
    assert output["ticket"] and output["resolved"] == []


def test_a_silenced_alert_is_not_repaired_until_it_is_gone(tmp_path, pack, workshop):
    peers = Peers(tmp_path)
    labels = {"instance": "127.0.0.1:%d" % peers.ports["target"]}

    def silence():
        now = time.time()
        body = {
            "matchers": [{"name": "instance", "value": labels["instance"], "isRegex": False}],
            "startsAt": to_iso(now, True), "endsAt": to_iso(now + 3600), "createdBy": "a crew",
            "comment": "quiet now",
        }
        post(peers.url + "/api/v2/silences", json.dumps(body).encode(), "application/json")

    def start_target():
        peers.target = Target(peers.ports["target"])

    workshop.repairs.update(first=silence, second=start_target)
    try:
        peers.start_alertmanager()
        peers.start_prometheus()
        peers.target.stop()
        until(lambda: peers.hook.bodies, "the alert was posted")
        sensors = {"alertmanager": {"url": peers.url, "settle_seconds": 1}}
        status, output = pack({}, sensors)({"body": peers.hook.bodies[0]})
    finally:
        peers.close()
    assert repairs_of(workshop) == ["first", "second"]
    assert (status, output["outcome"]) == ("succeeded", "repaired")
    assert output["resolved"] == [labels["instance"]]
    assert output["checks"][0]["sources"] == ["alertmanager"]


def test_an_alertmanager_that_was_restarted_proves_nothing(tmp_path, pack, workshop):
    """It lists no alert until Prometheus sends them again, which takes longer than the check."""
    peers = Peers(tmp_path)

    def restart():
        peers.stop("alertmanager")
        peers.start_alertmanager()
        assert json.loads(answers(peers.url + "/api/v2/alerts")) == []

    workshop.repairs["first"] = restart
    try:
        peers.start_alertmanager()
        peers.start_prometheus(resend="%ds" % (4 * SETTLE))
        peers.target.stop()
        until(lambda: peers.hook.bodies, "the alert was posted")
        sensors = {"alertmanager": {"url": peers.url, "settle_seconds": 6 * SETTLE}}
        status, output = pack({}, sensors)({"body": peers.hook.bodies[0]})
    finally:
        peers.close()
    assert (status, output["outcome"]) == ("failed", "not_repaired"), output
    assert repairs_of(workshop) == ["first", "second"] and output["resolved"] == []


def test_an_alert_that_is_pending_again_is_not_over(tmp_path, pack, workshop):
    """It flaps, and its rule demands that it lasts for longer than it does."""
    peers = Peers(tmp_path)
    ended = threading.Event()

    def flap():
        while not ended.is_set():
            peers.target = Target(peers.ports["target"])
            until(lambda: ended.is_set() or not peers.alerts(), "it is over")
            peers.target.stop()
            until(lambda: ended.is_set() or peers.alerts(), "it is pending")

    flapping = threading.Thread(target=flap, daemon=True)

    def begin():
        flapping.start()
        until(lambda: json.loads(answers(peers.url + "/api/v2/alerts")) == [], "it is gone")

    workshop.repairs["first"] = begin
    rules = yaml.safe_load((tmp_path / "rules.yml").read_text())
    rules["groups"][0]["rules"][0]["for"] = "%ds" % SETTLE
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    try:
        peers.start_alertmanager()
        peers.start_prometheus()
        peers.target.stop()
        until(lambda: peers.hook.bodies, "the alert was posted")
        sensors = {"alertmanager": {"url": peers.url, "settle_seconds": 1}}
        # Its own query shows nothing of what the alert is about.
        prometheus = dict(prometheus_entry(peers), query="absent_metric == 0")
        status, output = pack(prometheus, sensors)({"body": peers.hook.bodies[0]})
    finally:
        ended.set()
        if flapping.ident is not None:
            flapping.join(PATIENCE_SECONDS)
        peers.close()
    assert (status, output["outcome"]) == ("failed", "not_repaired"), output
    assert repairs_of(workshop)[0] == "first" and output["resolved"] == []
    assert output["checks"][0]["sources"] == ["alertmanager"]
