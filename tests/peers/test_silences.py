"""Silences before a real Prometheus and Alertmanager: of one alert only, and no longer than a run.

Both are Debian packages (prometheus, prometheus-alertmanager); without them the tests are skipped.
"""
import http.server
import json
import threading
import time
import urllib.request

import pytest
from fixtures.prometheus import ALERTMANAGER, PROMETHEUS, Peers, Target, answers
from fixtures.waiting import PATIENCE_SECONDS, until
from fixtures.workshop import Workshop

from sandbox import Sandbox
from st2local import St2Local
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.sensing import alert_payloads

pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="prometheus and prometheus-alertmanager are not installed (Debian packages)",
)
# Prometheus scrapes and evaluates each second; a busy machine gets some more.
SETTLE = 10


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
def workshop():
    running = Workshop("repair")
    yield running
    running.close()


@pytest.fixture
def pack(peers, workshop, tmp_path):
    workshop.install(tmp_path / "pack")
    with Sandbox() as box:
        config = dict(
            box.pack_config(), automation={"mode": "act"},
            # Alertmanager knows all alerts a few seconds after its start here.
            sensors={"alertmanager": {"url": peers.url, "settle_seconds": 1}},
        )
        config["infrastructure"].update(
            prometheus={}, topology=[], crews=workshop.crews(), settle_seconds=SETTLE,
            allowed_actions=workshop.actions, silence_alerts=True,
        )
        with St2Local(tmp_path / "pack", config, tmp_path / "state") as local:
            yield local


class ReadOnly(http.server.ThreadingHTTPServer):
    """Passes GETs on to a server, and forbids everything else."""

    daemon_threads = True

    def __init__(self, target):
        self.target = target
        super().__init__(("127.0.0.1", 0), _Passing)
        self.url = "http://127.0.0.1:%d" % self.server_port
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Passing(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):
        pass

    def do_GET(self):
        self._answer(200, answers(self.server.target + self.path))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(403, b"read only")

    def _answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def get(peers, path):
    return json.loads(answers(peers.url + path))


def active_silences(peers):
    return [entry for entry in get(peers, "/api/v2/silences") if
            entry["status"]["state"] != "expired"]


def add_alert(peers, labels, seconds=None):
    """Let Alertmanager know of another alert, as Prometheus would.

    :param seconds: until it ends; None for what Alertmanager assumes.
    """
    alert = {"labels": labels}
    if seconds is not None:
        alert["endsAt"] = to_iso(time.time() + seconds, milliseconds=True)
    request = urllib.request.Request(
        peers.url + "/api/v2/alerts", data=json.dumps([alert]).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=PATIENCE_SECONDS).close()


def receive(pack, payload):
    run = pack.run("synthralos.alert.receive", {}, trigger_instance={"payload": payload})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]["alerts"][0]


def reap(pack):
    run = pack.run("synthralos.recovery.reap", {})
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]


def until_ended(pack, run):
    until(lambda: pack.execution(run)["status"] in ("succeeded", "failed", "canceled"),
          "it has ended")
    return pack.execution(run)


def test_an_alert_is_silenced_alone_and_while_its_run_works(peers, pack, workshop):
    [alert] = peers.hook.bodies[0]["alerts"]
    add_alert(peers, dict(alert["labels"], device="sda", zone="a"))
    add_alert(peers, dict(alert["labels"], zone="b"))
    add_alert(peers, dict(alert["labels"], instance="127.0.0.1:1"))
    seen = []

    def repair():
        seen.extend(active_silences(peers))
        seen.append([
            entry["labels"] for entry in get(peers, "/api/v2/alerts") if
            entry["status"]["silencedBy"]
        ])
        peers.target = Target(peers.ports["target"])

    workshop.repairs["repair"] = repair
    entry = receive(pack, {"body": peers.hook.bodies[0]})
    run = until_ended(pack, entry["run"])
    output = run["result"]["output"]
    assert (run["status"], output["outcome"]) == ("succeeded", "repaired"), output
    silence, silenced = seen
    # Neither the alerts with more labels nor that of another target.
    assert silenced == [alert["labels"]]
    assert silence["createdBy"] == "synthralos.infrastructure_repair " + entry["run"]
    assert entry["run"] in silence["comment"]
    assert all(matcher["isEqual"] and not matcher["isRegex"] for matcher in silence["matchers"])
    limit = parse_iso(run["start_timestamp"]) + 600
    assert parse_iso(silence["endsAt"]) < limit
    assert active_silences(peers) == []
    assert [(entry["status"], entry["reason"]) for entry in output["silences"]] == [("ended", "")]
    assert output["silences"][0]["fingerprint"] == alert["fingerprint"]
    # The alert has ended in silence: nobody else says so.
    assert not any(body["status"] == "resolved" for body in peers.hook.bodies)
    [closed] = reap(pack)["silences"]
    assert (closed["run"], closed["outcome"]) == (entry["run"], "resolved")
    assert reap(pack)["silences"] == []


@pytest.mark.parametrize("is_over", [True, False])
def test_labels_with_commas_quotes_and_backslashes_are_those_of_one_alert(
    peers, pack, workshop, is_over
):
    labels = {"alertname": 'Queue "Growing", a|b', "instance": "db", "queue": "gum,latency",
              "path": 'C:\\t "x"', "expr": "a|b.*", "text": "line\nline"}
    similar = [dict(labels, queue="gum"), dict(labels, expr="a|bc"), dict(labels, path="C:\\t")]
    for own in [labels, *similar]:
        add_alert(peers, own)
    seen = []

    def repair():
        seen.extend(active_silences(peers))
        until(lambda: any(
            entry["status"]["silencedBy"] for entry in get(peers, "/api/v2/alerts")
        ), "it is silenced")
        seen.append([
            entry["labels"] for entry in get(peers, "/api/v2/alerts") if
            entry["status"]["silencedBy"]
        ])
        if is_over:
            add_alert(peers, labels, 0)

    workshop.repairs["repair"] = repair
    alert = {"status": "firing", "labels": labels, "startsAt": to_iso(time.time() - 60),
             "fingerprint": alert_payloads.fingerprint(labels)}
    run = pack.run("synthralos.infrastructure_repair", {"alert": {"alerts": [alert]}})
    output = run["result"]["output"]
    assert output["outcome"] == ("repaired" if is_over else "not_repaired"), output
    assert output["checks"][0]["sources"] == ["alertmanager"]
    silence, silenced = seen
    assert silenced == [labels]
    assert sorted((matcher["name"], matcher["value"]) for matcher in silence["matchers"]) == sorted(
        labels.items())
    assert all(matcher["isEqual"] and not matcher["isRegex"] for matcher in silence["matchers"])
    assert active_silences(peers) == []


def test_a_cancelled_run_leaves_no_silence_and_its_case_closes_when_the_alert_is_gone(
    peers, pack, workshop
):
    def work():
        until(lambda: peers.target is None, "the test is done with it")

    workshop.repairs["repair"] = work
    entry = receive(pack, {"body": peers.hook.bodies[0]})
    try:
        until(lambda: active_silences(peers), "the alert is silenced")
        pack.stop(pack.live(entry["run"]))
    finally:
        target, peers.target = peers.target, None
    assert until_ended(pack, entry["run"])["status"] == "canceled"
    assert active_silences(peers)
    peers.target = target
    peers.target = Target(peers.ports["target"])
    until(lambda: not get(peers, "/api/v2/alerts"), "the alert is gone")
    result = reap(pack)
    assert active_silences(peers) == []
    [silence] = result["silences"]
    assert (silence["run"], silence["ended"]) == (entry["run"], True)
    assert silence["outcome"] == "resolved"
    assert silence["ticket"] == result["logged"][0]["ticket"]
    ticket = pack.run("synthralos.ticket.get", {"ticket_id": silence["ticket"]})
    assert ticket["result"]["result"]["ticket"]["status"] == "resolved"


def test_a_repair_goes_on_where_nothing_can_be_silenced(peers, pack, workshop):
    """The token may read and not write: a proxy before Alertmanager refuses it."""
    with ReadOnly(peers.url) as proxy:
        pack.config["sensors"]["alertmanager"]["url"] = proxy.url

        def repair():
            peers.target = Target(peers.ports["target"])

        workshop.repairs["repair"] = repair
        entry = receive(pack, {"body": peers.hook.bodies[0]})
        run = until_ended(pack, entry["run"])
    output = run["result"]["output"]
    assert (run["status"], output["outcome"]) == ("succeeded", "repaired"), output
    [silence] = output["silences"]
    assert (silence["id"], silence["status"]) == (None, "not_silenced")
    assert silence["reason"] == "Alertmanager could not silence it (permission)"
