"""A real Prometheus and a real Alertmanager, on loopback: a target goes down, and comes back.

Both are Debian packages (prometheus, prometheus-alertmanager); without them the test is skipped.
"""
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
import yaml
from fixtures import PACK
from fixtures.sensor_world import Service, surroundings

from synthralos.sensing import alerts
from synthralos.sensing.alertmanager import AlertmanagerPoller
from synthralos.state.datastore import MemoryDatastore

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = pytest.mark.skipif(
    not (PROMETHEUS and ALERTMANAGER),
    reason="prometheus and prometheus-alertmanager are not installed (Debian packages)",
)
SECONDS = 20


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answers(url):
    # A proxy of the host has no say on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as answer:
            return answer.read()
    except (OSError, urllib.error.URLError):
        return None


def until(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "not within %d s: %s" % (SECONDS, what)
        time.sleep(0.1)


class Target(http.server.ThreadingHTTPServer):
    """Something to scrape."""

    daemon_threads = True

    def __init__(self, port):
        self.allow_reuse_address = True
        super().__init__(("127.0.0.1", port), _Metrics)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class _Metrics(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):
        pass

    def do_GET(self):
        body = b"agent_up 1\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Hook(http.server.ThreadingHTTPServer):
    """Takes what Alertmanager posts.

    :ivar bodies: of the notifications.
    """

    daemon_threads = True

    def __init__(self):
        self.bodies = []
        super().__init__(("127.0.0.1", 0), _Taking)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Taking(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):
        pass

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.server.bodies.append(json.loads(self.rfile.read(length)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Peers:
    """Both programs, the target and the webhook."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        self.ports = {name: free_port() for name in ("prometheus", "alertmanager", "target")}
        self.url = "http://127.0.0.1:%d" % self.ports["alertmanager"]
        self.hook = Hook()
        self.target = Target(self.ports["target"])
        self._write("alertmanager.yml", {
            "route": {
                "receiver": "hook", "group_wait": "0s", "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [{"name": "hook", "webhook_configs": [
                {"url": "http://127.0.0.1:%d/" % self.hook.server_port}
            ]}],
        })
        self._write("rules.yml", {"groups": [{"name": "agents", "rules": [{
            "alert": "AgentDown", "expr": "up == 0", "for": "0s",
            "labels": {"severity": "critical"},
            "annotations": {"summary": "{{ $labels.job }} down {{ \"{{ config_context.x }}\" }}"},
        }]}]})
        self._write("prometheus.yml", {
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
            },
            "rule_files": [str(folder / "rules.yml")],
            "alerting": {"alertmanagers": [
                {"static_configs": [{"targets": ["127.0.0.1:%d" % self.ports["alertmanager"]]}]}
            ]},
            "scrape_configs": [{"job_name": "agent", "static_configs": [
                {"targets": ["127.0.0.1:%d" % self.ports["target"]]}
            ]}],
        })

    def start_alertmanager(self):
        self._start(
            "alertmanager", ALERTMANAGER,
            "--config.file=%s" % (self.folder / "alertmanager.yml"),
            "--storage.path=%s" % (self.folder / "alertmanager"),
            "--web.listen-address=127.0.0.1:%d" % self.ports["alertmanager"],
            # No cluster: it would listen on every address.
            "--cluster.listen-address=",
        )
        until(lambda: answers(self.url + "/-/ready"), "Alertmanager is ready")

    def start_prometheus(self):
        self._start(
            "prometheus", PROMETHEUS,
            "--config.file=%s" % (self.folder / "prometheus.yml"),
            "--storage.tsdb.path=%s" % (self.folder / "prometheus"),
            "--web.listen-address=127.0.0.1:%d" % self.ports["prometheus"],
            # How soon it tells a new Alertmanager of an alert that still fires.
            "--rules.alert.resend-delay=1s",
        )
        address = "http://127.0.0.1:%d/-/ready" % self.ports["prometheus"]
        until(lambda: answers(address), "Prometheus is ready")

    def stop(self, name):
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def close(self):
        for name in list(self.processes):
            self.stop(name)
        self.hook.shutdown()
        self.hook.server_close()
        self.target.stop()

    def _start(self, name, *command):
        with open(self.folder / (name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder
            )

    def _write(self, name, content):
        (self.folder / name).write_text(yaml.safe_dump(content))


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
            "url": peers.url, "filter": ['severity="critical"'], "settle_seconds": 3}}}
        return AlertmanagerPoller(
            surroundings(service, config, datastore, time.time, "AlertmanagerSensor")
        )

    def seen(*statuses):
        poller().poll()
        return [one["status"] for one in service.payloads("metrics_alert")] == list(statuses)

    assert seen()
    peers.target.stop()
    until(lambda: seen("firing"), "the alert fires")
    [firing] = service.payloads("metrics_alert")
    assert firing["alertname"] == "AgentDown"
    assert firing["labels"]["job"] == "agent" and firing["labels"]["severity"] == "critical"
    assert firing["annotations"]["summary"] == "agent down {{ config_context.x }}"
    assert firing["extra"] == {"receivers": "hook"} and firing["ends_at"] is None
    # Prometheus and Alertmanager make it of the labels, and so do we.
    assert firing["fingerprint"] == alerts.fingerprint(firing["labels"])
    # Alertmanager forgets what fires, until it is told again; nothing has ended by that.
    peers.stop("alertmanager")
    assert seen("firing")
    peers.start_alertmanager()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert seen("firing")
        time.sleep(0.1)
    until(lambda: len(json.loads(answers(peers.url + "/api/v2/alerts"))) == 1, "it was told again")
    peers.target = Target(peers.ports["target"])
    until(lambda: seen("firing", "resolved"), "the alert has ended")
    _, resolved = service.payloads("metrics_alert")
    assert resolved["labels"] == firing["labels"]
    assert resolved["starts_at"] == firing["starts_at"] < resolved["ends_at"]
    # What Alertmanager posts to a webhook tells of the same.
    until(lambda: any(body["status"] == "resolved" for body in peers.hook.bodies), "it was posted")
    posted = [payload for body in peers.hook.bodies
              for payload in alerts.from_webhook(body, time.time())]
    told = {alerts.identity(payload) for payload in service.payloads("metrics_alert")}
    assert {alerts.identity(payload) for payload in posted} == told
    assert [one["seeing"] for one in service.payloads("sensor_blind")] in ([], [False, True])


@pytest.fixture
def pack(peers, tmp_path):
    """The pack on st2local, which asks the real Prometheus which nodes are down."""
    from sandbox import Sandbox
    from st2local import St2Local

    with Sandbox() as box:
        config = box.pack_config()
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
        surroundings(service, config, datastore, time.time, "AlertmanagerSensor")
    )

    def told():
        poller.poll()
        return service.payloads("metrics_alert")

    peers.target.stop()
    until(told, "the alert fires")
    until(lambda: peers.hook.bodies, "it was posted")
    started = received(pack, told()[0])
    assert started["workflow"] == "infrastructure_repair", started
    # The webhook tells of the same: no second run.
    assert received(pack, {"body": peers.hook.bodies[0]})["outcome"] in ("running", "duplicate")
    until(lambda: pack.execution(started["run"])["status"] in ("succeeded", "failed"), "it ended")
    output = pack.execution(started["run"])["result"]["output"]
    node = "127.0.0.1:%d" % peers.ports["target"]
    assert [(one["node"], one["status"]) for one in output["assignments"]] == [(node, "Assigned")]
    peers.target = Target(peers.ports["target"])
    until(lambda: told()[-1]["status"] == "resolved", "the alert has ended")
    assert received(pack, told()[-1])["outcome"] == "resolved"
    assert received(pack, told()[-1])["outcome"] == "nothing_open"
