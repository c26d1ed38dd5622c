"""The evidence of a ticket and of the planner: bounded, trusted where it is asked, and harmless."""
import json
import urllib.parse

import pytest

from synthralos.calls.http import CallError, Response
from synthralos.core.failures import make_failure
from synthralos.core.redaction import Redactor
from synthralos.escalation import ticket_analysis
from synthralos.infrastructure import alert_links, evidence_collection
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Topology
from synthralos.sensing import alert_payloads
from synthralos.storage import tickets

from .test_infrastructure_repair import Run

HOSTILE = ["{{ config_context.token }}", "<% ctx().st2 %>", "{% raw %}", "a\u202eb", "x" * 9000]
LABELS = {"alertname": "DiskFull", "instance": "db", "severity": "critical", "device": "sda"}
RULE = "disk_free < 0.1"
GRAPH = "http://prometheus:9090/graph?" + urllib.parse.urlencode({"g0.expr": RULE, "g0.tab": "1"})


class Prometheus:
    """In place of the HTTP client.

    :ivar rules: [(name, expression, labels of its alerts)]; series: [(labels, values)]; queries:
        the expressions that it was asked; fails: {path: cause}.
    """

    def __init__(self):
        self.rules = [("DiskFull", RULE, [LABELS])]
        self.series = [({"__name__": "disk_free", "instance": "db", "device": "sda"}, 8)]
        self.queries, self.fails, self.llm_calls = [], {}, []

    def request(self, connection, method, path, seconds, body=None):
        path, _, query = path.partition("?")
        query = urllib.parse.parse_qs(query)
        if path in self.fails:
            raise CallError(make_failure(self.fails[path], "as asked"))
        if path == "/api/v1/rules":
            rules = [
                {"name": name, "query": expression, "type": "alerting",
                 "alerts": [{"labels": labels, "value": "5e-02"} for labels in alerts]}
                for name, expression, alerts in self.rules
            ]
            return self._data({"groups": [{"rules": rules}]})
        self.queries.append(query["query"][0])
        end = float(query["end"][0])
        return self._data({"resultType": "matrix", "result": [
            {"metric": labels, "values": [[end - 60 * n, "0.05"] for n in reversed(range(count))]}
            for labels, count in self.series
        ]})

    def _data(self, data):
        return Response(200, {}, json.dumps({"status": "success", "data": data}), 0.01)

    def failure_of(self, response, call_kind):
        return make_failure("server_error", "as asked")


def alert(labels=None, **more):
    return dict({
        "status": "firing", "labels": labels or LABELS, "annotations": {}, "generatorURL": GRAPH,
        "startsAt": "2026-11-29T01:00:00Z", "fingerprint": "a" * 16,
    }, **more)


@pytest.fixture
def prometheus():
    return Prometheus()


@pytest.fixture
def collect(infra, prometheus):
    """collect(alert, **infrastructure) -> the Evidence of it."""
    def of(entry, **infrastructure):
        env = infra.configure(infrastructure)
        run = Run(env, source="alert", alert={"alerts": [entry]})
        env.client = prometheus
        config = load_config(env)
        topology = Topology.load(env, config)
        [evidence] = evidence_collection.collect(env, config, topology, run.case, ["db"])
        return evidence

    return of


class TestValues:
    def test_the_rule_that_lists_the_alert_counts(self, collect, prometheus):
        prometheus.rules.insert(0, ("DiskFull", "other > 1", [dict(LABELS, instance="web")]))
        evidence = collect(alert(generatorURL=""))
        assert (evidence["expression"], evidence["value"]) == (RULE, "5e-02")
        assert prometheus.queries == [RULE] and evidence["problems"] == []

    def test_of_several_rules_the_one_of_the_address(self, collect, prometheus):
        prometheus.rules = [("DiskFull", "other > 1", []), ("DiskFull", RULE, [])]
        assert collect(alert())["expression"] == RULE and prometheus.queries == [RULE]

    def test_several_rules_and_no_address(self, collect, prometheus):
        prometheus.rules = [("DiskFull", "other > 1", []), ("DiskFull", RULE, [])]
        evidence = collect(alert(generatorURL=""))
        assert evidence["expression"] is None and prometheus.queries == []
        assert evidence["problems"] == ["the expression: 2 rules have this name"]

    @pytest.mark.parametrize("expression", ["count(evil)", "count({__name__=~\".+\"})"])
    def test_an_expression_from_elsewhere_is_shown_and_not_asked(
        self, collect, prometheus, expression
    ):
        prometheus.rules = [("DiskFull", RULE, [])]
        address = "http://evil/graph?" + urllib.parse.urlencode({"g0.expr": expression})
        evidence = collect(alert(generatorURL=address))
        assert evidence["expression"] == expression and prometheus.queries == []
        assert "no rule" in evidence["problems"][0]

    def test_the_series_of_the_alert_and_few_values(self, collect, prometheus):
        prometheus.series = [
            ({"instance": "web", "device": "sda"}, 30), ({"instance": "db", "device": "sdb"}, 30),
            ({"instance": "db", "device": "sda", "mode": "rw"}, 30),
        ]
        evidence = collect(alert())
        [series] = evidence["series"]
        assert series["labels"]["mode"] == "rw" and evidence["omitted_series"] == 2
        assert len(series["values"]) == 5
        assert series["values"] == sorted(series["values"])

    def test_more_series_than_fit(self, collect, prometheus):
        prometheus.series = [({"instance": "db", "n": str(n)}, 30) for n in range(1000)]
        evidence = collect(alert())
        assert len(evidence["series"]) == 3 and evidence["omitted_series"] == 997
        assert len(json.dumps(evidence)) < 4000

    def test_a_response_that_is_too_large(self, collect, prometheus):
        prometheus.series = [({"instance": "db", "text": "x" * 3_000_000}, 1)]
        assert "malformed_answer" in collect(alert())["problems"][0]

    @pytest.mark.parametrize("path", ["/api/v1/rules", "/api/v1/query_range"])
    def test_that_prometheus_fails_is_named(self, collect, prometheus, path):
        prometheus.fails[path] = "timeout"
        evidence = collect(alert())
        assert evidence["expression"] == RULE
        assert evidence["problems"] == ["the last values: Prometheus could not be asked (timeout)"]

    def test_without_prometheus(self, collect):
        evidence = collect(alert(), prometheus=None)
        assert evidence["expression"] == RULE and "not configured" in evidence["problems"][0]


class TestLinks:
    def test_of_grafana(self, collect):
        entry = alert(
            generatorURL="http://grafana/alerting/grafana/abc/view", values={"A": 3},
            valueString="[ var='A' value=3 ]", dashboardURL="http://grafana/d/x",
            panelURL="http://user:secret@grafana/d/x?viewPanel=1", silenceURL="javascript:alert(1)",
            annotations={"runbook_url": "https://wiki/disk"},
        )
        evidence = collect(entry)
        assert evidence["links"] == {
            "Source": "http://grafana/alerting/grafana/abc/view", "Runbook": "https://wiki/disk",
            "Dashboard": "http://grafana/d/x", "Panel": "http://grafana/d/x?viewPanel=1",
        }
        assert evidence["value"] == '{"A": 3}'

    @pytest.mark.parametrize("url", [
        None, "", "?orgId=1", "http://[", "x" * 9000, "http://p/graph?g0.expr=", "http://p/#g0.expr"
    ])
    def test_addresses_that_name_no_expression(self, url):
        payload = alert_payloads.from_item(alert(generatorURL=url), {}, 0.0)
        assert alert_links.expression_of(payload) is None

    def test_payloads_of_the_sensor_and_of_a_webhook_are_the_same(self):
        [payload] = alert_payloads.from_webhook({"alerts": [alert()]}, 0.0)
        again = alert_payloads.from_item(payload, {}, 0.0)
        assert again["generator_url"] == GRAPH and again["starts_at"] == payload["starts_at"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_harmless(collect, prometheus, text):
    prometheus.series = [({"instance": "db", "device": "sda", "note": text}, 1)]
    labels = dict(LABELS, note=text, severity=text)
    address = "http://x/graph?" + urllib.parse.urlencode({"g0.expr": text})
    evidence = collect(alert(
        labels, generatorURL=address, annotations={"runbook_url": "http://x/" + text},
        valueString=text,
    ))
    written = json.dumps(evidence, ensure_ascii=False)
    assert not any(mark in written for mark in ("{{", "{%", "<%", "\u202e"))
    assert len(written) < 6000


class TestTicket:
    def failed(self, infra, prometheus, **settings):
        env = infra.configure({"crews": []}, **settings)
        run = Run(env, source="alert", alert={"alerts": [alert()]}).to("final")
        env.client = prometheus
        result = run.end()
        assert result["next_task"] == "failed"
        return env, tickets.get(env.store, result["ticket"])

    def test_it_has_the_evidence_of_its_last_occurrence(self, infra, prometheus):
        env, ticket = self.failed(infra, prometheus)
        report = ticket_analysis.analyze_ticket(env, ticket)
        assert report["evidence"][0]["expression"] == RULE
        assert "Expression: %s" % RULE in report["markdown"]
        assert "0.05 at " in report["markdown"]
        # A list of tickets stays small.
        assert "evidence" not in tickets.list_tickets(env.store)[0]

    def test_secrets_are_masked(self, infra, prometheus, monkeypatch):
        redactor = Redactor()
        redactor.add("sup3rsecret")
        prometheus.series = [({"instance": "db", "device": "sda", "token": "sup3rsecret"}, 1)]
        env = infra.configure({"crews": []})
        run = Run(env, source="alert", alert={"alerts": [alert()]}).to("final")
        env.client, env.redactor = prometheus, redactor
        ticket = tickets.get(env.store, run.end()["ticket"])
        assert "sup3rsecret" not in json.dumps(ticket)


def test_the_history_of_a_node_names_its_repairs(infra):
    env = infra.configure()
    infra.down = [["db"], ["db"], []]
    env.run = "a" * 24
    Run(env).end()
    env.run = "b" * 24
    run = Run(env, nodes=["db"], source="list")
    config = load_config(env)
    topology = Topology.load(env, config)
    [evidence] = evidence_collection.collect(env, config, topology, run.case, ["db"])
    [past] = evidence["past"]
    assert past["run"] == "a" * 24 and past["workflow"] == "infrastructure_repair"
    assert past["repairs"] == ["east: assigned"]
