"""What a ticket says of an alert of a real Prometheus: its rule, its values, earlier repairs.

Prometheus and Alertmanager are Debian packages (prometheus, prometheus-alertmanager); without them
the tests are skipped.
"""
import copy
import re

import pytest
from fixtures.prometheus import ALERTMANAGER, PROMETHEUS, Peers, free_port
from fixtures.waiting import until
from fixtures.workshop import Workshop

from sandbox import Sandbox
from st2local import St2Local

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="prometheus and prometheus-alertmanager are not installed (Debian packages)",
)
HOSTILE = "https://wiki/{{ config_context.token }}/<% ctx().st2 %>"


@pytest.fixture
def peers(tmp_path):
    running = Peers(tmp_path)
    try:
        running.start_alertmanager()
        running.start_prometheus()
        running.target.stop()
        until(lambda: running.hook.bodies, "the alert was posted")
        yield running
    finally:
        running.close()


@pytest.fixture
def pack(peers, tmp_path):
    workshop = Workshop("repair")
    workshop.install(tmp_path / "pack")
    with Sandbox() as box:
        config = dict(box.pack_config(), sensors={
            "alertmanager": {"url": peers.url, "settle_seconds": 1}})
        config["infrastructure"].update(
            prometheus={"base_url": "http://127.0.0.1:%d" % peers.ports["prometheus"]},
            topology=[], crews=workshop.crews(), settle_seconds=1,
            allowed_actions=workshop.actions,
        )
        with St2Local(tmp_path / "pack", config, tmp_path / "state") as local:
            yield local
    workshop.close()


def ticket_of(pack, body):
    """(run, evidence, text) of the ticket that a run with this notification ends with."""
    parameters = {"max_steps": 50, "timeout": 3600, "max_retries": 1}
    run = pack.run("synthralos.infrastructure_repair", parameters,
                   trigger_instance={"payload": {"body": body}})
    output = run["result"]["output"]
    assert (run["status"], output["outcome"]) == ("failed", "not_repaired"), output
    ticket = pack.run("synthralos.ticket.get", {"ticket_id": output["ticket"]})
    analysis = ticket["result"]["result"]["report"]
    return run["id"], analysis["evidence"], analysis["markdown"]


def test_a_ticket_has_the_rule_its_values_and_what_was_done_before(peers, pack):
    body = copy.deepcopy(peers.hook.bodies[0])
    [alert] = body["alerts"]
    alert["annotations"]["runbook_url"] = HOSTILE
    first_run, [evidence], text = ticket_of(pack, body)
    instance = alert["labels"]["instance"]
    assert (evidence["subject"], evidence["alertname"]) == (instance, "AgentDown")
    assert evidence["expression"] == "up == 0" and float(evidence["value"]) == 0
    [series] = evidence["series"]
    assert series["labels"]["instance"] == instance
    assert series["values"] and {value for _, value in series["values"]} == {"0"}
    assert evidence["links"]["Source"] == alert["generatorURL"]
    assert (evidence["past"], evidence["problems"]) == ([], [])
    assert "Expression: up == 0" in text and "## Evidence" in text
    # What others have written is evaluated by nobody.
    assert not re.search(r"\{\{|<%", text + str(evidence["links"]))
    assert "https://wiki/" in evidence["links"]["Runbook"]
    # Another graph's address is shown, and what it asks is not asked.
    alert["generatorURL"] = "http://evil.example.com/graph?g0.expr=count%28evil%29"
    alert["labels"]["alertname"] = "Unknown"
    _, [evidence], text = ticket_of(pack, body)
    assert evidence["expression"] == "count(evil)" and evidence["series"] == []
    assert evidence["problems"] == ["the last values: Prometheus has no rule of this alert"]
    [past] = evidence["past"]
    assert (past["run"], past["outcome"]) == (first_run, "not_repaired")
    assert past["repairs"] == ["repair: assigned"]
    assert first_run in text


def test_prometheus_is_away(peers, pack):
    body = peers.hook.bodies[0]
    pack.config["infrastructure"]["prometheus"]["base_url"] = "http://127.0.0.1:%d" % free_port()
    _, [evidence], text = ticket_of(pack, body)
    assert evidence["expression"] == "up == 0" and evidence["series"] == []
    assert evidence["problems"] == ["the last values: Prometheus could not be asked (network)"]
    assert "Unknown: the last values" in text
