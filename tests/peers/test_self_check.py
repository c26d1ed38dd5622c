"""pack.check before a real Prometheus and Alertmanager, both Debian packages."""
import pytest
from fixtures import PACK
from fixtures.prometheus import ALERTMANAGER, PROMETHEUS, Peers

from sandbox import Sandbox
from st2local import St2Local

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


@pytest.fixture
def checks(peers, tmp_path):
    """checks(check of a runbook's step, filter of Alertmanager) -> {name: entry}."""

    def run(check, matcher):
        runbook = {
            "name": "node_down", "match": {"alertname": "NodeDown"},
            "steps": [{"action": "core.noop", "check": check}],
        }
        with Sandbox() as box:
            config = dict(
                box.pack_config(), sensors={"alertmanager": {"url": peers.url, "filter": [matcher]}}
            )
            config["infrastructure"].update(
                prometheus={"base_url": "http://127.0.0.1:%d" % peers.ports["prometheus"]},
                runbooks=[runbook], allowed_actions=["core.noop"],
            )
            with St2Local(PACK, config, tmp_path / "state") as local:
                result = local.run("synthralos.pack.check")["result"]["result"]
        return {entry["name"]: entry for entry in result["checks"]}

    return run


def test_what_both_accept_is_ok(checks):
    entries = checks('up{job="node"} == 1', 'severity="critical"')
    for name in ("prometheus", "alertmanager", "runbooks"):
        assert entries[name]["status"] == "ok", entries[name]


@pytest.mark.parametrize("check, words", [
    ("up == == 1", "parse error"), ("nonsense(up) == 1", "parse error"),
])
def test_what_prometheus_cannot_use_is_named(checks, check, words):
    entry = checks(check, 'severity="critical"')["prometheus"]
    assert entry["status"] == "failed" and entry["hint"]
    assert "node_down/step1" in entry["details"] and words in entry["details"]


def test_a_filter_that_alertmanager_cannot_parse_is_named(checks):
    entry = checks("up == 1", 'severity~"critical"')["alertmanager"]
    assert entry["status"] == "failed" and "matcher" in entry["details"]
