"""What an alert is about, and whether it starts a run: notifications as they are really sent."""
from urllib.parse import urlencode

import pytest
from fixtures import notifications

from synthralos.automation import alert_intake, alert_reports
from synthralos.automation.alert_reports import AlertContext
from synthralos.automation.config import AutomationConfig
from synthralos.core.timestamps import to_iso
from synthralos.infrastructure import detection
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.topology import Topology
from synthralos.sensing import alert_payloads
from synthralos.storage import observations, tickets

from .conftest import StartingApi

STARTED, TEST, NOT_A_FAILURE = "started", "test", "not_a_failure"
NOT_EVALUATED, UNCONFIRMED = "not_evaluated", "unconfirmed"
NOTHING_OPEN = "nothing_open"
# {notification: [(outcome, subject) of each alert]}; None where nothing looks for the subject.
EXPECTED = {
    "kube_state_metrics": [
        (STARTED, "shop/web-7f9c"), (STARTED, "shop/web"), (STARTED, "shop/db"),
        (STARTED, "logging/shipper"), (STARTED, "shop/backup-28912345"), ("running", "shop/web"),
        (STARTED, "worker-1"), (STARTED, "pvc-0d1f"),
        (STARTED, "monitoring/kube-state-metrics-6d5f7c9b8-x2x4q"),
    ],
    "kube_state_metrics_exported_labels": [(STARTED, "shop/web-7f9c")],
    "kube_state_metrics_rancher": [(STARTED, "rke2-eu/load/cpu-65cb7677f9-ncs5t")],
    "kubelet": [
        (STARTED, "shop/data-db-0"), (STARTED, "shop/web-7f9c"), (STARTED, "worker-1"),
    ],
    "node_exporter": [
        (STARTED, "10.0.0.21:9100"), (STARTED, "db-1:9100"), (STARTED, "shop/mysql-exporter"),
    ],
    "blackbox": [
        (STARTED, "https://shop.example.com/health"), (STARTED, "https://pay.example.com"),
    ],
    "snmp": [(STARTED, "switch-7")],
    "cloudwatch": [
        (STARTED, "orders"), ("running", "orders"), (STARTED, "i-0abc1234"),
        (STARTED, "project:orders"),
    ],
    "pushgateway": [(STARTED, "backup-host-1")],
    "always_firing": [(NOT_A_FAILURE, None)] * 5,
    "truncated": [(STARTED, "db-1:9100")],
    "alertmanager_0_4": [(STARTED, "db-1:9100")],
    "alertmanager_0_6": [(STARTED, "db-1:9100")],
    "alertmanager_0_25": [(NOTHING_OPEN, None), (STARTED, "eu/127.0.0.2:1")],
    "alertmanager_0_34": [(STARTED, "db-1:9100")],
    "alertmanager_test": [(TEST, None)],
    "grafana_alert": [(STARTED, "queue-1")],
    "grafana_alert_v9": [(NOTHING_OPEN, None), (STARTED, "mq-2.example.com")],
    "grafana_alert_v13": [(STARTED, "queue-1")],
    "grafana_by_alertmanager": [(STARTED, "edge-7"), (NOT_EVALUATED, "DevicesOffline")],
    "grafana_custom_payload": [(STARTED, "edge-7")],
    "grafana_other_data_sources": [
        (STARTED, "i-0abc1234"), (STARTED, "orders"), (STARTED, "4711"),
        (STARTED, "eu/shop/web-7f9c"),
    ],
    "grafana_test": [(TEST, None)],
    "grafana_test_v8": [(TEST, None)],
    "grafana_test_v10": [(TEST, None)],
    "grafana_test_v12": [(TEST, None)],
    "grafana_test_v13": [(TEST, None)],
    "grafana_test_own_labels": [(TEST, None)],
    "grafana_datasource_error": [(NOT_EVALUATED, "AgentFailing")],
    "grafana_no_data": [(NOT_EVALUATED, "Agents_are_silent")],
    "grafana_error_as_alerting": [(NOT_EVALUATED, "AgentFailing")],
    "grafana_state_keep_last": [(NOT_EVALUATED, "DevicesOffline")],
    "grafana_state_error": [(NOT_EVALUATED, "DevicesOffline")],
    "grafana_missing_series": [(UNCONFIRMED, None)],
    "grafana_channel_test": [(TEST, None)],
    "grafana_channel_alert": [(STARTED, "db-1:9100")],
    "grafana_channel_v4": [(STARTED, "db-1:9100")],
    "grafana_channel_no_data": [(NOT_EVALUATED, "No_Data_alert")],
}


@pytest.fixture
def api():
    return StartingApi()


@pytest.fixture
def intake(make_env, api, clock):
    """intake(body, infrastructure, **automation) -> the result of alert.receive, in mode act."""

    def receive(body, infrastructure=None, only_ends=False, **automation):
        clock.at += 1
        env = make_env({"infrastructure": infrastructure or {}}, api=api)
        config = AutomationConfig.from_config(dict({"mode": "act"}, **automation))
        succeeded, result = alert_intake.receive(env, config, {"body": body}, only_ends=only_ends)
        assert succeeded, result
        return result

    return receive


def alert(labels, status="firing", starts="2026-11-29T01:00:00Z", annotations=None, **fields):
    return dict({
        "status": status, "labels": labels, "annotations": annotations or {}, "startsAt": starts,
        "generatorURL": "http://prometheus.example.com/graph",
    }, **fields)


def outcomes(result):
    return [entry["outcome"] for entry in result["alerts"]]


def open_tickets(store):
    stored = [tickets.get(store, name) for name in _ticket_ids(store)]
    return [ticket for ticket in stored if ticket["status"] == tickets.OPEN]


def _ticket_ids(store):
    return [name.rpartition(".")[2] for name, _ in store.list("synthralos.ticket.")]


def test_each_notification_has_its_expectation():
    assert sorted(EXPECTED) == notifications.names()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_a_notification_is_about_and_what_follows(intake, api, name):
    result = intake(notifications.load(name))
    actual = [(entry["outcome"], entry.get("subject")) for entry in result["alerts"]]
    assert actual == EXPECTED[name]
    assert len(api.started) == sum(outcome == STARTED for outcome, _ in EXPECTED[name])
    for entry in result["alerts"]:
        needs_ticket = entry["outcome"] == NOT_EVALUATED
        assert bool(entry["ticket"]) is needs_ticket, entry


@pytest.mark.parametrize("name", [
    name for name in sorted(EXPECTED) if any(outcome == STARTED for outcome, _ in EXPECTED[name])
])
def test_detection_names_the_same_nodes(make_env, name):
    env = make_env({})
    config = load_config(env)
    body = notifications.load(name)
    if "alerts" not in body:
        # A run receives the alert, not the channel's body.
        body = {"alerts": alert_reports.parse_alerts({"body": body}, 0.0)}
    outcomes_of_alerts = [outcome for outcome, _ in EXPECTED[name]]
    alerts = [item for item, outcome in zip(body["alerts"], outcomes_of_alerts)
              if outcome in (STARTED, "running")]
    body = dict(body, alerts=alerts)
    request = detection.parse_request(config, {"alert": body})
    nodes, unresolved = detection.detect_failures(
        env, config, Topology.load(env, config), request, 60)
    subjects = [subject for outcome, subject in EXPECTED[name] if outcome in (STARTED, "running")]
    # A node is named without its cluster unless the topology has it so.
    assert unresolved == [] and len(nodes) == len(set(subjects))
    assert all(subject.endswith(node) for subject, node in zip(dict.fromkeys(subjects), nodes))


@pytest.mark.parametrize("name, position, changes", [
    ("kube_state_metrics", 0, {"instance": "10.244.9.9:8443"}),
    ("kube_state_metrics", 1, {"instance": "10.244.9.9:8443", "pod": "kube-state-metrics-7a-b"}),
    ("kube_state_metrics", 6, {"instance": "10.244.9.9:8443", "pod": "kube-state-metrics-7a-b"}),
    ("kube_state_metrics_exported_labels", 0, {"instance": "10.9.9.9:80", "node": "worker-9"}),
    ("kube_state_metrics_rancher", 0, {"prometheus_replica": "prometheus-rancher-1"}),
    ("cloudwatch", 0, {"instance": "yace-2:5000"}),
    ("cloudwatch", 2, {"instance": "10.2.7.7:9106"}),
    ("kubelet", 0, {"node": "worker-2", "instance": "10.0.0.22:10250"}),
    ("alertmanager_0_25", 1, {"prometheus_replica": "b"}),
])
def test_another_address_of_the_exporter_is_the_same_incident(
    intake, clock, api, name, position, changes
):
    first = notifications.load(name)["alerts"][position]
    moved = alert(dict(first["labels"], **changes), starts="2026-11-29T01:05:00Z")
    assert outcomes(intake({"alerts": [first, moved]})) == ["started", "running"]
    clock.at += 300
    assert outcomes(intake({"alerts": [dict(moved, startsAt="2026-11-29T01:06:00Z")]})) == [
        "running"]
    assert len(api.started) == 1


def test_an_alert_stays_open_while_it_is_reported_under_the_new_address(intake, api, store):
    first = notifications.load("kube_state_metrics")["alerts"][0]
    moved = alert(dict(first["labels"], instance="10.244.9.9:8443"), starts="2026-11-29T01:05:00Z")
    run = intake({"alerts": [first, moved]})["alerts"][0]["run"]
    api.runs[run] = {"status": "failed", "result": {"output": {}}}
    over = dict(first, status="resolved")
    assert outcomes(intake({"alerts": [over]})) == ["still_firing"]
    assert outcomes(intake({"alerts": [moved]})) == ["duplicate"]
    assert outcomes(intake({"alerts": [dict(moved, status="resolved")]})) == ["resolved"]


@pytest.mark.parametrize("labels, changes", [
    ({"alertname": "A", "instance": "a:1"}, {"instance": "b:1"}),
    ({"alertname": "A", "instance": "a:1"}, {"alertname": "B"}),
    ({"alertname": "A", "namespace": "shop", "pod": "web"}, {"namespace": "crm"}),
    ({"alertname": "A", "namespace": "shop", "pod": "web", "container": "x"}, {"container": "y"}),
    ({"alertname": "A", "node": "n1", "severity": "warning"}, {"severity": "critical"}),
    ({"alertname": "A", "node": "n1", "cluster": "eu"}, {"cluster": "us"}),
])
def test_what_matters_makes_another_incident(make_env, labels, changes):
    env = make_env({})
    context = AlertContext(env, AutomationConfig(), load_config(env))
    ids = set()
    for mapping in (labels, dict(labels, **changes)):
        [payload] = alert_reports.parse_alerts({"alerts": [alert(mapping)]}, 0.0)
        ids.add(alert_reports.report_of(context, payload).incident_id)
    assert len(ids) == 2


POD = {"alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "web-7f9c"}


def test_the_same_name_in_another_cluster_is_another_incident(intake, api):
    result = intake({"alerts": [
        alert(dict(POD, cluster="eu")), alert(dict(POD, cluster="us")), alert(POD),
        alert(dict(POD, cluster="eu", prometheus_replica="b")),
    ]})
    assert outcomes(result) == ["started", "started", "ambiguous", "running"]
    subjects = [entry["subject"] for entry in result["alerts"]]
    assert subjects == [
        "eu/shop/web-7f9c", "us/shop/web-7f9c", "shop/web-7f9c", "eu/shop/web-7f9c"]
    assert result["alerts"][2]["ticket"] and len(api.started) == 2


def test_without_a_cluster_it_is_the_only_one_that_has_such_a_thing(intake):
    assert outcomes(intake({"alerts": [alert(dict(POD, cluster="eu"))]})) == ["started"]
    result = intake({"alerts": [alert(POD)]})
    assert outcomes(result) == ["running"]
    assert result["alerts"][0]["subject"] == "eu/shop/web-7f9c"


@pytest.mark.parametrize("name", ["shop/web-7f9c", "web-7f9c"])
def test_the_topology_may_make_a_name_ambiguous(intake, name):
    topology = [{"name": "eu/" + name}, {"name": "us/" + name}]
    assert outcomes(intake({"alerts": [alert(POD)]}, {"topology": topology})) == ["ambiguous"]


@pytest.mark.parametrize("topology_name, labels, node", [
    ("eu/shop/web-7f9c", dict(POD, cluster="eu"), "eu/shop/web-7f9c"),
    ("eu/web-7f9c", dict(POD, cluster="eu"), "eu/web-7f9c"),
    ("shop/web-7f9c", dict(POD, cluster="eu"), "shop/web-7f9c"),
    ("web-7f9c", POD, "web-7f9c"),
    ("us/web-7f9c", dict(POD, cluster="eu"), "shop/web-7f9c"),
    ("db-1", {"instance": "db-1:9100"}, "db-1"),
    ("health", {"instance": "https://shop.example.com/health", "job": "blackbox"},
     "https://shop.example.com/health"),
])
def test_the_topology_s_name_of_what_failed(make_env, topology_name, labels, node):
    env = make_env({"infrastructure": {"topology": [{"name": topology_name}]}})
    config = load_config(env)
    request = detection.parse_request(config, {"alert": {"labels": labels}})
    assert detection.detect_failures(
        env, config, Topology.load(env, config), request, 60)[0] == [node]


@pytest.mark.parametrize("infrastructure, labels, subject", [
    ({"alert_labels": ["rack"]}, {"rack": "r7", "node": "db"}, "r7"),
    ({"alert_labels": ["rack"]}, {"node": "db"}, "db"),
    ({"alert_exporters": ["acme-cmdb"]}, {"job": "acme-cmdb", "instance": "cmdb:1", "host": "h9"},
     "h9"),
    ({}, {"job": "acme-cmdb", "instance": "cmdb:1", "host": "h9"}, "cmdb:1"),
    ({"alert_cluster_labels": ["site"]}, {"site": "eu", "node": "db"}, "eu/db"),
])
def test_the_configuration_extends_the_tables(intake, infrastructure, labels, subject):
    result = intake({"alerts": [alert(dict(labels, alertname="A"))]}, infrastructure)
    assert result["alerts"][0]["subject"] == subject


def test_the_labels_of_replicas_are_configurable(intake):
    body = {"alerts": [alert({"alertname": "A", "node": "n", "shard_copy": copy}) for copy in "ab"]}
    result = intake(body, {"alert_replica_labels": ["shard_copy"]})
    assert outcomes(result) == ["started", "running"]


def test_a_broken_configuration_of_the_infrastructure_loses_no_alert_of_an_agent(intake):
    labels = {"alertname": "AgentDown", "agent_id": "trainer_01"}
    body = {"alerts": [alert(labels, annotations={"query": "Summarise"})]}
    assert outcomes(intake(body, {"alert_labels": "x"})) == ["started"]


def test_an_agent_whose_process_moves_is_the_same_incident(intake, clock, api):
    labels = {"alertname": "AgentDown", "agent_id": "trainer_01", "job": "agents"}
    for n in range(2):
        pod = dict(labels, instance="10.0.0.%d:80" % n, pod="agents-%d" % n, namespace="ai")
        body = {"alerts": [alert(pod, annotations={"query": "Summarise"})]}
        assert outcomes(intake(body)) == [["started", "running"][n]]
        clock.at += 60
    assert len(api.started) == 1


def test_further_alerts_that_always_fire_are_configured(intake, api):
    body = {"alerts": [alert({"alertname": "Heartbeat", "instance": "a"})]}
    assert outcomes(intake(body, always_firing=["Heartbeat"])) == ["not_a_failure"]
    assert api.started == [] and outcomes(intake(body)) == ["started"]


@pytest.mark.parametrize("labels, annotations, address", [
    # A rule stands behind each of these, whatever it is called.
    ({"alertname": "TestAlert", "instance": "a"}, {}, "http://prometheus.example.com/graph?g0=up"),
    ({"alertname": "A", "instance": "a"}, {"summary": "Notification test"},
     "https://grafana.example.com/alerting/grafana/dd2f/view?orgId=1"),
    ({"alertname": "DatasourceError", "instance": "a"}, {}, "http://prometheus.example.com/graph"),
    ({"alertname": "A", "instance": "a"}, {"Error": "connection refused"},
     "http://prometheus.example.com/graph"),
    ({"alertname": "TestAlert", "instance": "Grafana"}, {"summary": "Notification test"},
     "https://grafana.example.com/?orgId=1"),
    # A device, a missing heartbeat, and a rule that only contains a constant.
    ({"alertname": "Watchdog", "instance": "a"}, {},
     "http://prometheus.example.com/graph?g0.expr=node_watchdog_status+%3D%3D+0"),
    ({"alertname": "MissingDeadMansSwitch", "instance": "a"}, {}, ""),
    ({"alertname": "NodeWatchdogReset", "instance": "a"}, {}, ""),
    ({"alertname": "A", "instance": "a"}, {},
     "http://prometheus.example.com/graph?g0.expr=vector%281%29+unless+on%28%29+up"),
    ({"alertname": "A", "instance": "a", "severity": "nonessential"}, {}, ""),
    # Sent by hand, without the address of a rule.
    ({"alertname": "A", "instance": "a"}, {"summary": "It is down"}, ""),
])
def test_what_only_resembles_a_test_or_an_evaluation_error_is_a_failure(
    intake, labels, annotations, address
):
    body = {"alerts": [alert(labels, annotations=annotations, generatorURL=address)]}
    assert outcomes(intake(body)) == ["started"]


@pytest.mark.parametrize("fields, annotations", [
    ({"values": {"A": 3}}, {}), ({}, {"__values__": '{"A":3}'}),
], ids=["values", "annotation"])
def test_an_annotation_of_a_rule_that_has_values_is_its_author_s(intake, fields, annotations):
    body = notifications.load("grafana_error_as_alerting")
    body["alerts"][0].update(fields)
    body["alerts"][0]["annotations"].update(annotations)
    assert outcomes(intake(body)) == ["started"]


@pytest.mark.parametrize("group_key, entry", [
    ('{}/{}:{alertname="A"}', {}), ("", {"ruleUID": "dd2f0260"}),
], ids=["group", "rule"])
def test_grafana_without_an_address_of_its_own_sends_failures_all_the_same(
    intake, group_key, entry
):
    body = dict(notifications.load("grafana_alert"), groupKey=group_key)
    body["alerts"][0].update(entry, generatorURL="?orgId=1", values=None, valueString="")
    assert outcomes(intake(body)) == ["started"]


@pytest.mark.parametrize("expression", [
    "vector(1)", " vector( 1 ) ", "vector(1) > 0", "(vector(1)) == 1", "vector(0.5)",
])
@pytest.mark.parametrize("name", ["Heartbeat", "NodeDown"])
def test_a_rule_that_is_always_true_is_no_failure(intake, name, expression):
    address = "http://prometheus.example.com/graph?" + urlencode({"g0.expr": expression})
    body = {"alerts": [alert({"alertname": name, "instance": "a"}, generatorURL=address)]}
    assert outcomes(intake(body)) == ["not_a_failure"]


@pytest.mark.parametrize("name", [
    "watchdog", "Dead Man's Switch", "dead_mans_snitch", "PrometheusDeadmanSwitch",
    "AlertmanagerWatchdog",
])
def test_a_heartbeat_is_known_by_its_name_where_its_rule_is_unknown(intake, name):
    body = {"alerts": [alert({"alertname": name, "instance": "a"}, generatorURL="")]}
    assert outcomes(intake(body)) == ["not_a_failure"]


@pytest.mark.parametrize("name", [
    "grafana_test", "grafana_test_v8", "grafana_test_v10", "grafana_test_v12", "grafana_test_v13",
])
def test_a_test_is_known_by_its_group_alone(intake, name):
    body = notifications.load(name)
    labels = body["alerts"][0]["labels"]
    body["alerts"][0].update(
        labels=dict(labels, alertname="NodeDown", instance="db-1"), annotations={}, valueString="",
        values={"A": 1}, generatorURL="")
    assert outcomes(intake(body)) == ["test"]


def test_the_end_of_a_test_resolves_nothing(intake, store):
    body = notifications.load("grafana_test")
    body["alerts"][0]["status"] = "resolved"
    assert outcomes(intake(body)) == ["test"] and open_tickets(store) == []


def test_the_ticket_of_a_rule_that_could_not_be_evaluated_says_so(intake, store):
    body = notifications.load("grafana_datasource_error")
    result = intake(body)["alerts"][0]
    [ticket] = open_tickets(store)
    assert ticket["ticket"] == result["ticket"]
    assert "could not be evaluated" in ticket["summary"]
    assert "data source not found" in ticket["summary"] and "AgentFailing" in ticket["summary"]
    body["alerts"][0]["status"] = "resolved"
    assert outcomes(intake(body)) == ["resolved"] and open_tickets(store) == []


def test_a_rule_that_could_not_be_evaluated_has_no_effect_on_its_own_incident(intake, store, api):
    body = notifications.load("grafana_state_error")
    failing = notifications.load("grafana_state_error")
    del failing["alerts"][0]["annotations"]["grafana_state_reason"]
    assert outcomes(intake(failing)) == ["started"]
    assert outcomes(intake(body)) == ["not_evaluated"] and len(api.started) == 1
    [ticket] = open_tickets(store)
    api.runs["%024x" % 0] = {"status": "succeeded", "result": {"output": {}}}
    failing["alerts"][0]["status"] = "resolved"
    assert outcomes(intake(failing)) == ["resolved"]
    assert open_tickets(store) == [] and ticket["status"] == tickets.OPEN


@pytest.mark.parametrize("reason", ["MissingSeries", "NoData", "Error", "Updated", "Paused"])
def test_what_grafana_resolves_for_want_of_data_stays_open(intake, api, clock, reason):
    firing = notifications.load("grafana_missing_series")
    firing["alerts"][0].update(status="firing", annotations={})
    gone = notifications.load("grafana_missing_series")
    gone["alerts"][0]["annotations"]["grafana_state_reason"] = reason
    run = intake(firing)["alerts"][0]["run"]
    clock.at += 60
    result = intake(gone)["alerts"][0]
    assert result["outcome"] == "unconfirmed" and reason in result["reason"]
    again = notifications.load("grafana_missing_series")
    again["alerts"][0].update(status="firing", annotations={}, startsAt="2026-11-29T01:20:00Z")
    result = intake(again)["alerts"][0]
    assert (result["outcome"], result["run"]) == ("running", run)
    end = to_iso(clock())
    api.runs[run] = {"status": "failed", "result": {"output": {}}, "end_timestamp": end}
    assert outcomes(intake(again)) == ["duplicate"] and len(api.started) == 1
    again["alerts"][0]["status"] = "resolved"
    assert outcomes(intake(again)) == ["resolved"]


def test_alerts_that_the_sender_left_out_are_counted_in_a_ticket(intake, store):
    result = intake(notifications.load("truncated"))
    assert result["summary"] == "1 started; 3 more alerts not in the notification"
    assert result["truncated"] == 3
    [ticket] = open_tickets(store)
    assert ticket["ticket"] == result["ticket"] and "3 more alerts" in ticket["summary"]
    assert len(open_tickets(store)) == 1


def test_alerts_beyond_what_a_notification_may_hold_are_counted(intake, store, monkeypatch):
    monkeypatch.setattr(alert_payloads, "MAX_ALERTS", 2)
    alerts = [alert({"alertname": "A", "instance": "node-%d" % n}) for n in range(5)]
    result = intake({"alerts": alerts, "truncatedAlerts": "4"})
    assert result["summary"] == "2 started; 7 more alerts not in the notification"
    assert result["truncated"] == 7 and result["ticket"]


@pytest.mark.parametrize("entry", [
    None, 5, "x", {}, {"labels": None}, {"labels": [{"name": "alertname", "value": "A"}]},
], ids=["null", "number", "text", "empty", "null-labels", "list"])
def test_an_entry_that_is_no_alert_is_reported_and_takes_no_other_with_it(make_env, api, entry):
    env = make_env({}, api=api)
    body = {"alerts": [entry, alert({"alertname": "A", "instance": "a"})]}
    config = AutomationConfig.from_config({"mode": "act"})
    succeeded, result = alert_intake.receive(env, config, {"body": body})
    assert not succeeded and outcomes(result) == ["started"]
    assert result["summary"].startswith("1 started; 1 unreadable entry of the notification")
    assert "labels" in result["error"]


def test_alerts_of_one_fingerprint_and_other_labels_are_two(intake):
    alerts = [alert({"alertname": "A", "instance": name}, fingerprint="ab") for name in "ab"]
    result = intake({"alerts": alerts + alerts})
    assert outcomes(result) == ["started", "started"]
    assert len({entry["fingerprint"] for entry in result["alerts"]}) == 2


def test_an_alert_without_a_start_continues_the_one_before(intake, api, clock):
    body = {"alerts": [alert({"alertname": "A", "instance": "a"}, starts=None)]}
    run = intake(body)["alerts"][0]["run"]
    end = to_iso(clock())
    api.runs[run] = {"status": "failed", "result": {"output": {}}, "end_timestamp": end}
    clock.at += 60
    assert outcomes(intake(body)) == ["duplicate"] and len(api.started) == 1
    body["alerts"][0]["status"] = "RESOLVED"
    assert outcomes(intake(body)) == ["resolved"]


def test_switched_off_nothing_is_ticketed(intake, store):
    for name in ("grafana_datasource_error", "truncated"):
        assert outcomes(intake(notifications.load(name), only_ends=True)) == ["switched_off"]
    assert open_tickets(store) == []


def test_a_notification_channel_of_grafana_resolves_what_it_opened(intake, store):
    body = notifications.load("grafana_channel_no_data")
    assert outcomes(intake(body)) == ["not_evaluated"] and open_tickets(store)
    assert outcomes(intake(dict(body, state="ok"))) == ["nothing_open"]
    assert open_tickets(store) == []
    assert intake(dict(body, state="paused"))["alerts"] == []


def test_the_trigger_s_payload_says_the_same_as_the_webhook(make_env, api):
    env, config = make_env({}, api=api), AutomationConfig()
    [payload] = alert_reports.parse_alerts(
        {"body": notifications.load("grafana_test_own_labels")}, env.now())
    _, result = alert_intake.receive(env, config, payload)
    assert outcomes(result) == ["test"] and api.started == []


HOSTILE = ["{{ config_context.token }}", "<% ctx().st2 %>", "a\x00b", "\u202e\U0001f600", "../..",
           "x" * 5000, " ", "'; drop"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("label", ["pod", "namespace", "cluster", "instance", "job", "rulename"])
def test_hostile_labels_are_data(intake, text, label):
    labels = dict(POD, cluster="eu", job="kube-state-metrics", instance="a:1")
    body = {"alerts": [
        alert(dict(labels, **{label: text})),
        alert(dict(labels, **{label: text, "alertname": "DatasourceError", "ref_id": text}),
              annotations={"Error": text, "grafana_state_reason": text}),
    ]}
    result = intake(body)
    assert result["alerts"][0]["outcome"] == "started"
    for entry in result["alerts"]:
        assert "{" not in entry.get("subject", "") and "<" not in entry.get("subject", "")


# As public reports have them; the README of the fixtures names the reports.


KSM_ALERT = {
    "status": "firing",
    "labels": {
        "alertname": "KubePodCrashLooping", "namespace": "shop", "pod": "web-7f9c",
        "container": "web", "instance": "10.244.1.5:8080", "job": "kube-state-metrics",
        "severity": "warning",
    },
    "annotations": {"description": "Pod shop/web-7f9c is crash looping"},
    "startsAt": "2026-11-29T01:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "6ffcdb58e3a6bc29",
}


def test_the_exporter_of_an_alert_moves(intake, make_env, api):
    moved = dict(KSM_ALERT, labels=dict(KSM_ALERT["labels"], instance="10.244.9.9:8080"),
                 fingerprint="7ffcdb58e3a6bc29")
    first, second = (
        intake({"version": "4", "status": "firing", "alerts": [item]})["alerts"][0]
        for item in (KSM_ALERT, moved)
    )
    assert (first["outcome"], first["subject"]) == ("started", "shop/web-7f9c")
    assert (second["outcome"], second["subject"]) == ("running", "shop/web-7f9c")
    env = make_env({})
    config = load_config(env)
    for item in (KSM_ALERT, moved):
        request = detection.parse_request(
            config, {"source": "alert", "alert": {"labels": item["labels"]}})
        assert detection.detect_failures(
            env, config, Topology.load(env, config), request, 60) == (["shop/web-7f9c"], [])


@pytest.mark.parametrize("labels", [
    {"alertname": "Watchdog", "prometheus": "monitoring/k8s", "severity": "none"},
    {"alertname": "InfoInhibitor", "severity": "none", "namespace": "kube-system",
     "pod": "kubelet-1", "instance": "10.0.0.34:10250"},
], ids=["Watchdog", "InfoInhibitor"])
def test_alerts_that_are_meant_to_fire(intake, api, store, labels):
    assert outcomes(intake({"alerts": [alert(labels)]})) == ["not_a_failure"]
    assert api.started == [] and open_tickets(store) == []


def test_the_test_button_of_grafana(intake, api, store):
    body = {
        "receiver": "st2", "status": "firing", "orgId": 1,
        "alerts": [{
            "status": "firing", "labels": {"alertname": "TestAlert", "instance": "Grafana"},
            "annotations": {"summary": "Notification test"}, "startsAt": "2026-11-29T01:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "?orgId=1",
            "fingerprint": "57c6d9296de2ad39", "silenceURL": "http://g/s", "values": None,
            "valueString": "[ metric='foo' labels={instance=bar} value=10 ]",
        }],
        "truncatedAlerts": 0, "title": "[FIRING:1] TestAlert",
    }
    assert outcomes(intake(body)) == ["test"]
    assert api.started == [] and open_tickets(store) == []


@pytest.mark.parametrize("name", ["DatasourceError", "DatasourceNoData", "AgentFailing"])
def test_the_monitoring_failed_and_not_the_agent(intake, api, store, name):
    labels = {"alertname": name, "rulename": "AgentFailing", "agent_id": "trainer_01",
              "datasource_uid": "abc", "ref_id": "A"}
    if name == "AgentFailing":
        labels = {"alertname": name, "agent_id": "trainer_01"}
    annotations = {"query": "Summarise",
                   "Error": "failed to build query 'A': data source not found"}
    item = alert(labels, annotations=annotations, values=None, valueString="")
    [entry] = intake({"orgId": 1, "status": "firing", "alerts": [item]})["alerts"]
    assert entry["outcome"] == "not_evaluated" and api.started == []
    [ticket] = open_tickets(store)
    assert "could not be evaluated" in ticket["summary"]


@pytest.mark.parametrize("mode", ["act", "observe"])
@pytest.mark.parametrize("reason", ["MissingSeries", "NoData", "Error", "NoData, KeepLast"])
def test_the_data_of_a_grafana_rule_stopped(intake, api, store, clock, reason, mode):
    labels = {"alertname": "DevicesOffline", "instance": "edge-7"}

    def post(starts, annotations=None, **fields):
        item = alert(labels, annotations=annotations, starts=starts, values=None, **fields)
        [entry] = intake({"orgId": 1, "alerts": [item]}, mode=mode)["alerts"]
        clock.at += 600
        return entry

    first = post("2026-11-29T01:00:00Z")
    gone = {"grafana_state_reason": reason}
    assert post("2026-11-29T01:00:00Z", gone, status="resolved")["outcome"] == "unconfirmed"
    # It resolved nothing by itself.
    outcomes_so_far = {fact.outcome for _, fact in observations.iter_since(store, 0.0, 9)}
    assert "resolved" not in outcomes_so_far
    assert (outcomes_so_far == {"started"}) is (mode == "observe")
    again = post("2026-11-29T01:20:00Z")
    if mode == "act":
        assert (first["outcome"], again["outcome"]) == ("started", "running")
        assert again["run"] == first["run"] and len(api.started) == 1
    firing = post("2026-11-29T01:00:00Z", gone)
    assert firing.get("would", firing)["outcome"] == "not_evaluated"
    assert bool(firing["ticket"]) is (mode == "act")


def test_one_name_in_two_clusters_and_a_twin_without_one(intake, api, store):
    topology = [{"name": "eu/shop/web-7f9c"}, {"name": "us/shop/web-7f9c"}]
    result = intake({"alerts": [
        alert(dict(POD, cluster="eu")), alert(dict(POD, cluster="us")), alert(POD),
        alert(dict(POD, cluster="eu", prometheus_replica="b")),
    ]}, {"topology": topology})
    assert outcomes(result) == ["started", "started", "ambiguous", "running"]
    assert result["alerts"][3]["run"] == result["alerts"][0]["run"]
    [ticket] = open_tickets(store)
    assert ticket["ticket"] == result["alerts"][2]["ticket"]
