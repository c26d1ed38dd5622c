"""Silences of a live StackStorm at a real Alertmanager: none outlives its run, no case stays open.

Alertmanager is a Debian package (prometheus-alertmanager); StackStorm must reach this machine.
"""
import json
import time
import urllib.request

import pytest
from fixtures.prometheus import ALERTMANAGER, Peers, answers
from fixtures.waiting import LIVE_PATIENCE_SECONDS, PATIENCE_SECONDS, limit_under_test, until
from live_host import ASSIGNMENT, kill, processes
from test_live_automation import enabled
from test_live_runbooks import alert, configure, node, receive, runbook  # noqa: F401

from synthralos.core.timestamps import to_iso
from synthralos.sensing import alert_payloads

pytestmark = pytest.mark.skipif(
    not ALERTMANAGER, reason="prometheus-alertmanager is not installed (a Debian package)"
)
# Within which the silence of a run that was killed must be gone.
LIMIT_SECONDS = limit_under_test(120)


@pytest.fixture
def peers(tmp_path):
    running = Peers(tmp_path)
    try:
        running.start_alertmanager()
        yield running
    finally:
        running.close()


@pytest.fixture
def working(st2, configure, node, peers):  # noqa: F811
    """working(seconds) -> (run, entry of the alert): a run that acts for so long, and silences."""
    def start(seconds):
        configure(
            node, runbook({
                "name": "act", "action": "core.local", "approval": "none", "seconds": 300,
                "parameters": {"cmd": "sleep %d" % seconds, "timeout": 300},
            }),
            silence_alerts=True, settle_seconds=5,
        )
        config = st2.call("GET", "/configs/synthralos?show_secrets=true")["values"]
        config["sensors"] = {"alertmanager": {"url": peers.url, "settle_seconds": 1}}
        st2.call("PUT", "/configs/synthralos", json=config)
        entry = dict(alert(node), startsAt=to_iso(time.time() - 60))
        entry["fingerprint"] = alert_payloads.fingerprint(entry["labels"])
        tell(peers, entry, 3600)
        [received] = receive(st2, entry)
        assert received["outcome"] == "started", received
        until(lambda: active_silences(peers), "the alert is silenced", LIVE_PATIENCE_SECONDS)
        return received["run"], entry

    return start


def tell(peers, entry, seconds):
    """Let Alertmanager know that the alert ends in so many seconds."""
    body = {name: entry[name] for name in ("labels", "annotations", "startsAt")}
    request = urllib.request.Request(
        peers.url + "/api/v2/alerts",
        data=json.dumps([dict(body, endsAt=to_iso(time.time() + seconds))]).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request, timeout=PATIENCE_SECONDS).close()


def get(peers, path):
    return json.loads(answers(peers.url + path))


def active_silences(peers):
    return [entry for entry in get(peers, "/api/v2/silences") if
            entry["status"]["state"] != "expired"]


def reap(st2):
    run, _ = st2.run("recovery.reap")
    assert run["status"] == "succeeded", run["result"]
    return run["result"]["result"]


def test_the_case_of_a_silenced_alert_closes_when_the_alert_is_gone(st2, peers, working):
    run, entry = working(20)
    [entry_of_api] = get(peers, "/api/v2/alerts")
    assert entry_of_api["status"]["silencedBy"]
    tell(peers, entry, 0)
    until(lambda: not get(peers, "/api/v2/alerts"), "the alert is gone")
    ended = st2.wait(run)
    output = ended["result"]["output"]
    assert (ended["status"], output["outcome"]) == ("succeeded", "repaired"), output
    assert [silence["status"] for silence in output["silences"]] == ["ended"]
    assert active_silences(peers) == []
    [closed] = [silence for silence in reap(st2)["silences"] if silence["run"] == run]
    assert closed["outcome"] == "resolved"


def test_the_silence_of_a_cancelled_run_is_gone_within_two_minutes(st2, peers, working):
    run, entry = working(30)
    with enabled(st2, "reap"):
        st2.call("DELETE", "/executions/" + run)
        # StackStorm lets the task that runs end first, and with it the work.
        assert st2.wait(run)["status"] == "canceled"
        until(lambda: not active_silences(peers), "the silence is gone", LIMIT_SECONDS)
        # The alert ends: so does the case, with the ticket of the cancelled run.
        tell(peers, entry, 0)
    until(
        lambda: not [s for s in reap(st2)["silences"] if s["outcome"] == "unknown"],
        "the case is closed", LIVE_PATIENCE_SECONDS,
    )


def test_the_silence_of_a_run_whose_process_is_killed_is_gone_within_two_minutes(
    st2, peers, working
):
    working(200)
    if not kill(processes(ASSIGNMENT)):
        pytest.skip("StackStorm's processes are not on this machine")
    until(lambda: not active_silences(peers), "the silence is gone", LIMIT_SECONDS)
