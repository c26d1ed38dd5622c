"""Repairs on a live StackStorm before a real Prometheus, Alertmanager and node-exporter.

Alertmanager posts to StackStorm's webhook; the runbooks' actions are StackStorm's own. All programs
are Debian packages (prometheus, prometheus-alertmanager, prometheus-node-exporter), and StackStorm
must be on this machine, because an action of it starts the exporter.
"""
import json
import os
import shlex
import signal
import threading
import time
import urllib.request

import pytest
from fixtures.prometheus import (
    ALERTMANAGER,
    NODE_EXPORTER,
    PROMETHEUS,
    ExporterPlant,
    answers,
)
from fixtures.waiting import ENDED, LIVE_PATIENCE_SECONDS, PATIENCE_SECONDS, limit_under_test, until
from live_host import kill, processes
from live_rules import enabled
from test_live_runbooks import executions

from synthralos.core.timestamps import to_iso
from synthralos.sensing import alert_payloads

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER and NODE_EXPORTER),
    reason="prometheus, prometheus-alertmanager and prometheus-node-exporter are not installed "
           "(Debian packages)",
)
# Prometheus scrapes and evaluates each second; a busy machine gets some more.
SETTLE = 15
HOSTILE = ["; touch /tmp/evil", "$(reboot)", "web-1,evil", "web-1@evil", "http://evil", "-rf",
           "{{ config_context.platform.token }}", "<% ctx().st2 %>", "{% raw %}", "web-1\nevil",
           "wеb-1", "a|b.*", 'C:\\t "x"', "'; reboot '"]


@pytest.fixture
def since():
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1))


def unfinished(st2, action, since):
    return [row["id"] for row in executions(st2, action, since) if row["status"] not in ENDED]


@pytest.fixture
def plant(st2, tmp_path, since):
    """Its Alertmanager posts to StackStorm."""
    if not processes("st2actionrunner"):
        pytest.skip("StackStorm is not on this machine: its actions cannot start the exporter here")
    credentials = {"X-Auth-Token": "x-auth-token", "St2-Api-Key": "st2-api-key"}
    query = [
        "%s=%s" % (credentials[name], value) for name, value in st2.session.headers.items()
        if name in credentials
    ]
    url = "%s/webhooks/synthralos/alertmanager%s" % (
        st2.url, "?" + "&".join(query) if query else "")
    running = ExporterPlant(tmp_path, webhooks=[url])
    pid_file = tmp_path / "exporter.pid"
    try:
        with enabled(st2, "webhook_alertmanager"):
            running.start_alertmanager()
            yield running
    finally:
        running.close()
        # The one that a repair has started.
        if pid_file.exists():
            kill([int(pid_file.read_text())], signal.SIGTERM)
        # What an alert of this test has started, or is about to, must not act in the next one.
        until(lambda: not unfinished(st2, "synthralos.alert.receive", since),
              "no alert is being received", PATIENCE_SECONDS)
        for run in unfinished(st2, "synthralos.infrastructure_repair", since):
            st2.call("DELETE", "/executions/" + run)
            st2.wait(run)


@pytest.fixture
def configure(st2, box, plant):
    """configure(*runbooks) -> None; the configuration is put back afterwards."""

    def put(*runbooks, **more):
        config = box.pack_config()
        config["automation"] = {"mode": "act", "recoveries_per_hour": 50}
        config["sensors"] = {"alertmanager": {"url": plant.url, "settle_seconds": 1}}
        config["infrastructure"].update(dict({
            "prometheus": {"base_url": "http://127.0.0.1:%d" % plant.ports["prometheus"]},
            "topology": [{"name": plant.instance}], "runbooks": list(runbooks), "crews": [],
            "settle_seconds": SETTLE,
            "allowed_actions": ["core.local", "core.echo", "synthralos.failure.explain"],
        }, **more))
        st2.call("PUT", "/configs/synthralos", json=config)

    yield put
    st2.call("PUT", "/configs/synthralos", json=box.pack_config())


def runbook(alertname, *steps):
    return {"name": alertname, "match": {"alertname": alertname}, "steps": list(steps)}


def local(name, command, **more):
    """The step that runs a command on this machine."""
    return dict({"name": name, "action": "core.local", "approval": "none", "seconds": 120,
                 "parameters": {"cmd": command}}, **more)


def reports(st2, since):
    """What alert.receive has made of the alerts that Alertmanager has posted."""
    return [
        entry
        for row in executions(st2, "synthralos.alert.receive", since)
        for entry in ((row.get("result") or {}).get("result") or {}).get("alerts") or ()
    ]


def run_of(st2, plant, alertname, since):
    """The run that the firing alert of this name has started, once it has ended."""
    body = plant.alert(alertname)
    [fingerprint] = {
        alert["fingerprint"] for alert in body["alerts"]
        if alert["labels"]["alertname"] == alertname
    }

    def started():
        runs = [entry["run"] for entry in reports(st2, since)
                if (entry["fingerprint"], entry["outcome"]) == (fingerprint, "started")]
        return runs[0] if runs else None

    run = until(started, "%s has started a run" % alertname, LIVE_PATIENCE_SECONDS)
    return st2.wait(run)


def outcome_of(run):
    return run["status"], run["result"]["output"]["outcome"]


def ticket_of(st2, output):
    assert output["ticket"], output
    run, _ = st2.run("ticket.get", ticket_id=output["ticket"])
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]["ticket"]


def test_the_second_step_really_starts_the_exporter(st2, plant, configure, since, tmp_path):
    log, pid_file = tmp_path / "exporter.log", tmp_path / "exporter.pid"
    command = "setsid %s > %s 2>&1 < /dev/null & echo $! > %s" % (
        shlex.join(plant.exporter_command), log, pid_file)
    up = {"check": "up == 1"}
    configure(runbook("ExporterDown", local("first", "true", **up), local("second", command, **up)))
    plant.start_prometheus()
    run = run_of(st2, plant, "ExporterDown", since)
    output = run["result"]["output"]
    assert outcome_of(run) == ("succeeded", "repaired"), output
    assert output["resolved"] == [plant.instance] and output["ticket"] is None
    assert [(entry["crew"], entry["status"]) for entry in output["assignments"]] == [
        ("ExporterDown/first", "Assigned"), ("ExporterDown/second", "Assigned")]
    assert output["checks"][0]["sources"] == ["step_check"]
    assert answers("http://%s/metrics" % plant.instance)
    assert os.path.exists("/proc/%s" % pid_file.read_text().strip())


def test_without_a_check_alertmanager_shows_the_repair(st2, plant, configure, since):
    """The alert is gone twice, and Prometheus does not have it as pending."""
    plant.start_exporter()
    plant.write(queue_length=100)
    mend = "printf '%%s\\n' 'queue_length{queue=\"orders\"} 0' > %s.new && mv %s.new %s" % (
        (plant.folder / "textfile" / "plant.prom",) * 3)
    configure(runbook("QueueGrowing", local("first", "true"), local("second", mend)))
    plant.start_prometheus()
    run = run_of(st2, plant, "QueueGrowing", since)
    output = run["result"]["output"]
    assert outcome_of(run) == ("succeeded", "repaired"), output
    assert [entry["crew"] for entry in output["assignments"]] == [
        "QueueGrowing/first", "QueueGrowing/second"]
    assert output["checks"][0]["sources"] == ["alertmanager"]


def test_an_exporter_that_dies_proves_nothing(st2, plant, configure, since):
    """Neither its series nor its alert are there any more."""
    plant.start_exporter()
    plant.write(queue_length=100)
    died = local("first", "kill %d" % plant.processes["exporter"].pid)
    configure(runbook("QueueGrowing", dict(died, check="queue_length <= 10")))
    plant.start_prometheus()
    run = run_of(st2, plant, "QueueGrowing", since)
    output = run["result"]["output"]
    assert outcome_of(run) == ("failed", "not_repaired"), output
    assert output["resolved"] == []
    assert "no healthy result" in output["checks"][0]["reason"]
    assert ticket_of(st2, output)["run"] == run["id"]


def test_a_queue_that_flaps_is_not_repaired(st2, plant, configure, since):
    plant.start_exporter()
    plant.write(queue_length=100)
    check = {"check": "queue_length <= 10"}
    configure(runbook("QueueGrowing", local("first", "echo flaps %s" % plant.instance, **check)))
    ended = threading.Event()

    def flap():
        value = 100
        while not ended.wait(limit_under_test(2.5)):
            if executions(st2, "core.local", since):
                value = 100 - value
                plant.write(queue_length=value)

    flapping = threading.Thread(target=flap, daemon=True)
    flapping.start()
    try:
        plant.start_prometheus()
        run = run_of(st2, plant, "QueueGrowing", since)
    finally:
        ended.set()
        flapping.join(PATIENCE_SECONDS)
    output = run["result"]["output"]
    assert outcome_of(run) == ("failed", "not_repaired"), output
    assert output["resolved"] == [] and "failed again" in output["checks"][0]["reason"]
    assert ticket_of(st2, output)["run"] == run["id"]


def test_two_alerts_of_one_node_start_two_actions_one_after_the_other(
    st2, plant, configure, since
):
    plant.start_exporter()
    plant.write(queue_length=100, disk_free=0.01)
    queue = {"name": "queue", "action": "core.echo", "approval": "none",
             "parameters": {"message": {"label": "queue"}}, "check": "queue_length <= 10",
             # Long enough for the other run to begin meanwhile.
             "settle_seconds": 60}
    disk = {"name": "disk", "action": "synthralos.failure.explain", "approval": "none",
            "parameters": {"failure": {"label": "mountpoint", "pattern": "/[a-z]+"}}}
    configure(runbook("QueueGrowing", queue), runbook("DiskFull", disk))

    def actions(ref, parameter, value):
        return [row for row in executions(st2, ref, since)
                if row["parameters"].get(parameter) == value]

    def echoed():
        return actions("core.echo", "message", "orders")

    def explained():
        return actions("synthralos.failure.explain", "failure", "/data")

    ended = threading.Event()

    def mend():
        while not ended.wait(limit_under_test(0.5)):
            if echoed():
                plant.write(queue_length=0)
            if explained():
                plant.write(disk_free=0.9)

    mending = threading.Thread(target=mend, daemon=True)
    mending.start()
    try:
        plant.start_prometheus()
        runs = [run_of(st2, plant, name, since) for name in ("QueueGrowing", "DiskFull")]
    finally:
        ended.set()
        mending.join(PATIENCE_SECONDS)
    for run in runs:
        assert outcome_of(run) == ("succeeded", "repaired"), run["result"]["output"]
    assert len(echoed()) == len(explained()) == 1
    # The second has waited for the end of the first one's check.
    first, second = sorted(
        zip(runs, (echoed()[0], explained()[0])), key=lambda pair: pair[1]["start_timestamp"])
    [finish] = [child for child in st2.children(first[0])
                if child["action"]["ref"].endswith("repair.finish")]
    assert second[1]["start_timestamp"] >= finish["start_timestamp"]


def post_alerts(plant, *labels):
    """Let Alertmanager have these alerts, and return their fingerprints."""
    starts_at = time.time() - 60
    body = [{"labels": own, "startsAt": to_iso(starts_at), "endsAt": to_iso(starts_at + 3600)}
            for own in labels]
    request = urllib.request.Request(
        plant.url + "/api/v2/alerts", data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=PATIENCE_SECONDS).close()
    return [alert_payloads.fingerprint(own) for own in labels]


def entries_of(st2, fingerprints, since):
    """The first entry of alert.receive for each of the alerts, in their order."""
    def all_received():
        entries = {}
        for entry in reports(st2, since):
            entries.setdefault(entry["fingerprint"], entry)
        return [entries[name] for name in fingerprints] if set(fingerprints) <= set(
            entries) else None

    return until(all_received, "all alerts have been received", LIVE_PATIENCE_SECONDS)


def test_hostile_labels_start_nothing(st2, plant, configure, since):
    second = {"name": "second", "action": "core.echo", "approval": "none",
              "parameters": {"message": {"label": "instance", "host": True}}}
    configure(
        runbook("Hostile", local("first", "echo first %s" % plant.instance), second), prometheus={},
    )
    labels = [
        {"alertname": "Hostile", "instance": text, "run": "%s-%d" % (plant.instance, n)}
        for n, text in enumerate(HOSTILE)
    ]
    for entry in entries_of(st2, post_alerts(plant, *labels), since):
        assert entry["outcome"] == "started", entry
        run = st2.wait(entry["run"])
        output = run["result"]["output"]
        assert (run["status"], output["success"]) == ("failed", False) and output["ticket"], output
    commands = [row["parameters"].get("cmd") for row in executions(st2, "core.local", since)]
    assert "echo first %s" % plant.instance not in commands
    messages = [row["parameters"].get("message") for row in executions(st2, "core.echo", since)]
    assert not set(HOSTILE) & set(messages) and not os.path.exists("/tmp/evil")


def test_hostile_labels_that_a_pattern_accepts_arrive_as_text(st2, plant, configure, since):
    marks = ("{{", "<%", "{%", "\n")
    texts = [text for text in HOSTILE if not any(mark in text for mark in marks)]
    step = {"name": "say", "action": "synthralos.failure.explain", "approval": "none",
            "parameters": {"failure": {"label": "text", "pattern": ".+"}}}
    configure(
        runbook("Hostile", step), settle_seconds=1, prometheus={},
        topology=[{"name": "web-%d" % n} for n in range(len(texts))],
    )
    labels = [
        {"alertname": "Hostile", "instance": "web-%d" % n, "text": text, "run": plant.instance}
        for n, text in enumerate(texts)
    ]
    received = []
    for entry in entries_of(st2, post_alerts(plant, *labels), since):
        assert entry["outcome"] == "started", entry
        run = st2.wait(entry["run"])
        [assignment] = run["result"]["output"]["assignments"]
        execution = st2.call("GET", "/executions/" + assignment["execution_id"])
        received.append(execution["parameters"]["failure"])
    assert received == texts
