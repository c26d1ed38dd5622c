import copy
import json

import pytest
from fixtures.sensor_world import HOSTILE, check_payload

from synthralos.core import timestamps
from synthralos.core.errors import InvalidInput
from synthralos.sensing import alert_payloads

NOW = 1_700_000_000.0
# As Alertmanager 0.25 lists it.
LISTED_ALERT = {
    "annotations": {"summary": "Instance down"},
    "endsAt": "2023-11-14T22:17:20.123Z",
    "fingerprint": "8b0f2bd1e9a4b0c3",
    "receivers": [{"name": "st2"}, {"name": "mail"}],
    "startsAt": "2023-11-14T22:13:10.123Z",
    "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
    "updatedAt": "2023-11-14T22:13:20.130Z",
    "generatorURL": "http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    "labels": {"alertname": "Down", "instance": "localhost:1", "severity": "critical"},
}
# As Alertmanager posts it.
POSTED = {
    "version": "4",
    "groupKey": "{}:{alertname=\"Down\"}",
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "st2",
    "groupLabels": {"alertname": "Down"},
    "commonLabels": {"alertname": "Down"},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "instance": "a"},
            "annotations": {"summary": "Instance down"},
            "startsAt": "2023-11-14T23:13:10.123456789+01:00",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": "1111111111111111",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "Down", "instance": "b"},
            "annotations": {},
            "startsAt": "2023-11-14T22:13:10.123456789Z",
            "endsAt": "2023-11-14T22:13:15Z",
            "generatorURL": "",
            "fingerprint": "2222222222222222",
        },
    ],
}
GRAFANA = {
    "receiver": "webhook",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "High latency", "grafana_folder": "LLM"},
            "annotations": {},
            "startsAt": "2023-11-14T22:13:10+00:00",
            "endsAt": "0001-01-01T00:00:00Z",
            "values": {"B": 22, "C": 1},
            "valueString": "[ var='B' value=22 ]",
            "generatorURL": "https://play.grafana.org/alerting/1afz29v7z/edit",
            "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "https://play.grafana.org/alerting/silence/new",
            "dashboardURL": "https://play.grafana.org/d/abc",
            "panelURL": "",
        }
    ],
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "https://play.grafana.org/",
    "version": "1",
    "groupKey": "{}:{}",
    "truncatedAlerts": 3,
    "title": "[FIRING:1]",
    "state": "alerting",
    "message": "**Firing**",
}


def test_what_alertmanager_lists():
    payload = alert_payloads.from_api(LISTED_ALERT, NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert payload == {
        "source": "alertmanager",
        "fingerprint": "8b0f2bd1e9a4b0c3",
        "status": "firing",
        "starts_at": "2023-11-14T22:13:10.123Z",
        "ends_at": None,
        "labels": LISTED_ALERT["labels"],
        "annotations": LISTED_ALERT["annotations"],
        "generator_url": LISTED_ALERT["generatorURL"],
        "alertname": "Down",
        "extra": {"receivers": "st2,mail"},
    }


def test_whose_end_has_passed_is_resolved():
    ended = dict(LISTED_ALERT, endsAt="2023-11-14T22:13:20.000Z")
    assert alert_payloads.from_api(ended, NOW)["status"] == "resolved"
    assert alert_payloads.from_api(ended, NOW)["ends_at"] == "2023-11-14T22:13:20.000Z"
    assert alert_payloads.from_api(ended, NOW - 1)["status"] == "firing"


@pytest.mark.parametrize("status, silenced, inhibited", [
    ({"state": "active", "silencedBy": [], "inhibitedBy": []}, False, False),
    ({"state": "unprocessed"}, False, False),
    ({"state": "suppressed", "silencedBy": ["a"], "inhibitedBy": []}, True, False),
    ({"state": "suppressed", "silencedBy": [], "inhibitedBy": ["a"]}, False, True),
    ({"state": "suppressed", "silencedBy": ["a"], "inhibitedBy": ["b"]}, True, True),
    ({"state": "suppressed", "mutedBy": ["night"]}, True, False),
    # Nobody says by what.
    ({"state": "suppressed"}, False, True),
    (None, False, False),
    ("firing", False, False),
])
def test_suppressed(status, silenced, inhibited):
    alert = dict(LISTED_ALERT, status=status)
    assert (alert_payloads.is_silenced(alert), alert_payloads.is_inhibited(alert)) == (
        silenced,
        inhibited,
    )


def test_what_alertmanager_posts():
    firing, resolved = alert_payloads.from_webhook(POSTED, NOW)
    for payload in (firing, resolved):
        check_payload("synthralos.metrics_alert", payload)
        assert payload["source"] == "alertmanager"
        assert payload["starts_at"] == "2023-11-14T22:13:10.123Z"
        assert payload["extra"]["receiver"] == "st2"
    assert (firing["status"], firing["ends_at"]) == ("firing", None)
    assert (resolved["status"], resolved["ends_at"]) == ("resolved", "2023-11-14T22:13:15.000Z")
    assert (firing["generator_url"], resolved["generator_url"]) == (
        "http://prometheus:9090/graph", None
    )


def test_the_webhook_and_the_api_make_the_same_of_an_alert():
    posted = dict(LISTED_ALERT, status="firing", endsAt="0001-01-01T00:00:00Z",
                  startsAt="2023-11-14T22:13:10.123456Z")
    [from_webhook] = alert_payloads.from_webhook({"alerts": [posted]}, NOW)
    assert alert_payloads.identity(from_webhook) == alert_payloads.identity(
        alert_payloads.from_api(LISTED_ALERT, NOW)
    )


def test_what_grafana_posts():
    [payload] = alert_payloads.from_webhook(GRAFANA, NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert (payload["source"], payload["status"]) == ("grafana", "firing")
    assert payload["alertname"] == "High latency"
    assert payload["extra"]["dashboardURL"] == "https://play.grafana.org/d/abc"
    assert payload["extra"]["values"] == '{"B": 22, "C": 1}'
    assert payload["extra"]["truncatedAlerts"] == "3"
    assert "panelURL" not in payload["extra"]


def test_an_alert_that_is_posted_twice_is_one():
    doubled = dict(POSTED, alerts=POSTED["alerts"] * 3)
    assert len(alert_payloads.from_webhook(doubled, NOW)) == 2


@pytest.mark.parametrize("fields, group_status, status", [
    ({"status": "FIRING"}, "firing", "firing"), ({"status": " Resolved "}, "firing", "resolved"),
    ({"status": "resolved", "endsAt": None}, None, "resolved"),
    # What the group says of all its alerts; one that fires may be missing from it.
    ({"status": None}, "resolved", "resolved"), ({"status": None}, "Resolved", "resolved"),
    ({"status": None}, "firing", "firing"), ({"status": 1}, {}, "firing"),
    ({"status": None, "endsAt": "2020-01-01T00:00:00Z"}, "firing", "resolved"),
    ({"status": "firing", "endsAt": "2020-01-01T00:00:00Z"}, "firing", "firing"),
    ({"status": None, "endsAt": "0001-01-01 00:00:00 +0000 UTC"}, None, "firing"),
])
def test_the_status_however_it_is_written(fields, group_status, status):
    alert = dict(POSTED["alerts"][0], **fields)
    [payload] = alert_payloads.from_webhook({"alerts": [alert], "status": group_status}, NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert payload["status"] == status
    assert (payload["ends_at"] is None) is (status == "firing")


@pytest.mark.parametrize("count, expected", [
    (3, 3), ("3", 3), (3.0, 3), ("3.0", 3), (0, 0), (-1, 0), ("many", 0), (None, 0), ([], 0),
    (float("inf"), 0),
])
def test_the_number_of_alerts_that_the_sender_left_out(count, expected):
    assert alert_payloads.read_notification(
        dict(POSTED, truncatedAlerts=count), NOW).truncated == expected


def test_a_list_of_alerts_is_a_notification():
    # As Prometheus and vmalert post them; their end is when they count as resolved.
    posted = {"labels": {"alertname": "Down"}, "startsAt": "2023-11-14T22:13:10Z",
              "endsAt": "2023-11-14T22:17:10Z", "generatorURL": "http://vmalert:8880/vmalert/alert"}
    [payload] = alert_payloads.from_webhook([posted], NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert payload["status"] == "firing"


@pytest.mark.parametrize("labels, expected", [
    # As Alertmanager 0.25 and Grafana compute them.
    ({"alertname": "TargetDown", "cluster": "eu", "instance": "127.0.0.2:1", "job": "node",
      "prometheus_replica": "a", "severity": "critical"}, "2093b6ce6053ffe6"),
    ({"alertname": "TestAlert", "instance": "Grafana"}, "57c6d9296de2ad39"),
])
def test_the_fingerprint_is_that_of_others(labels, expected):
    assert alert_payloads.fingerprint(labels) == expected


def test_what_a_notification_channel_says_of_several_hosts():
    matches = [{"tags": {"instance": "db-%d" % n, "job": "node", "env": "prod"}} for n in (1, 2)]
    body = {"ruleName": "Load", "ruleId": 7, "state": "alerting", "evalMatches": matches}
    [payload] = alert_payloads.from_webhook(body, NOW)
    assert payload["labels"] == {"alertname": "Load", "env": "prod"}


@pytest.mark.parametrize("field", ["evalMatches", "tags", "ruleName", "ruleId", "ruleUrl", "title"])
@pytest.mark.parametrize("value", [
    5, "x", [5], {"a": 1}, [{"tags": 5}], [{"tags": {"a": None}}], True,
], ids=str)
def test_odd_values_of_a_notification_channel(field, value):
    body = {"ruleName": "Load", "ruleId": 7, "state": "Alerting",
            "evalMatches": [{"tags": {"instance": "db-1"}}]}
    [payload] = alert_payloads.from_webhook(dict(body, **{field: value}), NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert payload["status"] == "firing"


@pytest.mark.parametrize("body", [
    None, "x", 5, {}, {"alerts": None}, {"alerts": {}}, {"alerts": ["x"]}, {"alerts": [{}]},
    {"alerts": [{"labels": []}]},
])
def test_a_body_that_tells_of_no_alert_is_refused(body):
    with pytest.raises(InvalidInput):
        alert_payloads.from_webhook(body, NOW)


def test_a_notification_of_nothing_is_nothing():
    assert alert_payloads.from_webhook({"alerts": []}, NOW) == []


def test_one_that_is_broken_does_not_lose_the_others():
    broken = dict(POSTED, alerts=[None, {"labels": 5}] + POSTED["alerts"])
    assert len(alert_payloads.from_webhook(broken, NOW)) == 2


@pytest.mark.parametrize("labels, expected", [
    # By Prometheus' own library (model.LabelSet.Fingerprint).
    ({}, "cbf29ce484222325"),
    ({"name": "garland, briggs", "fear": "love is not enough"}, "%016x" % 5799056148416392346),
])
def test_the_fingerprint_is_prometheus_own(labels, expected):
    assert alert_payloads.fingerprint(labels) == expected


@pytest.mark.parametrize("fingerprint", [None, "", "zz", "../x", 5, "a" * 65])
def test_a_fingerprint_that_is_none_is_made(fingerprint):
    alert = dict(LISTED_ALERT, fingerprint=fingerprint)
    assert alert_payloads.from_api(alert, NOW)["fingerprint"] == alert_payloads.fingerprint(
        LISTED_ALERT["labels"]
    )


@pytest.mark.parametrize("field", ["startsAt", "endsAt"])
@pytest.mark.parametrize("value", [None, "", "yesterday", 5, {}, "9999-99-99T00:00:00Z", "\x00"])
def test_times_that_are_none(field, value):
    payload = alert_payloads.from_api(dict(LISTED_ALERT, **{field: value}), NOW)
    check_payload("synthralos.metrics_alert", payload)
    assert payload["status"] == ("resolved" if (field, value) == ("endsAt", 5) else "firing")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_passed_on_as_text(text):
    alert = copy.deepcopy(LISTED_ALERT)
    alert["labels"].update({"alertname": text, text: "x", "nested": {text: [text]}, "n": None})
    alert["annotations"] = {text: text}
    alert["generatorURL"] = text
    # What is dispatched has gone through `to_json_safe`.
    from synthralos.core.json_safe import to_json_safe

    payload = to_json_safe(alert_payloads.from_api(alert, NOW))
    check_payload("synthralos.metrics_alert", payload)
    if text.isascii() and len(text) < 256:
        assert payload["alertname"] == text
    assert payload["labels"]["n"] == ""


def test_more_than_anybody_needs_is_cut():
    alert = dict(
        LISTED_ALERT, labels={"l%d" % n: "x" * 5000 for n in range(500)}, unknown={"a": [1]}
    )
    payload = alert_payloads.from_api(alert, NOW)
    assert len(payload["labels"]) == 64 and len(json.dumps(payload)) < 100_000
    assert all(len(value) <= 1024 for value in payload["labels"].values())


@pytest.mark.parametrize("text, seconds", [
    ("2023-11-14T22:13:20Z", NOW), ("2023-11-14T22:13:20.5Z", NOW + 0.5),
    ("2023-11-14T23:13:20+01:00", NOW), ("2023-11-14T17:43:20-0430", NOW),
    ("2023-11-14 22:13:20", NOW), ("2023-11-14T22:13:20.123456789Z", NOW + 0.123456789),
    (NOW, NOW), (NOW * 1000, NOW), ("0001-01-01T00:00:00Z", None), (True, None), (None, None),
    (float("nan"), None), (float("inf"), None), (-5, None), ("2023-13-14T22:13:20Z", None),
    (10**400, None),
    # As Go prints it.
    ("2023-11-14 22:13:20.5 +0000 UTC", NOW + 0.5),
    ("2023-11-14 22:13:20.112013015 +0000 UTC m=+8560.285724134", NOW + 0.112013015),
    ("2023-11-14 23:13:20 +0100 CET", NOW), ("2023-11-14 23:13:20 +0100 +01", NOW),
    ("0001-01-01 00:00:00 +0000 UTC", None), ("2023-11-14 22:13:20 UTC noon", None),
])
def test_moments(text, seconds):
    seconds_since_epoch = timestamps.parse_timestamp(text)
    assert (
        seconds_since_epoch == pytest.approx(seconds)
        if seconds is not None
        else seconds_since_epoch is None
    )


def test_a_moment_is_written_in_milliseconds():
    assert timestamps.to_iso(NOW + 0.12349, milliseconds=True) == "2023-11-14T22:13:20.123Z"
    assert timestamps.to_iso(NOW + 0.9999, milliseconds=True) == "2023-11-14T22:13:21.000Z"
    assert timestamps.parse_timestamp(
        timestamps.to_iso(NOW + 0.123, milliseconds=True)
    ) == pytest.approx(NOW + 0.123)
    assert timestamps.to_iso(-1, milliseconds=True) == "1970-01-01T00:00:00.000Z"
    assert timestamps.to_iso(1e18, milliseconds=True).startswith("9999-12-31")


@pytest.mark.parametrize("date, seconds", [
    ("Tue, 14 Nov 2023 22:13:20 GMT", NOW), ("", 5), ("yesterday", 5), (None, 5),
    ("Tue, 99 Nov 2023 22:13:20 GMT", 5),
])
def test_the_server_s_clock(date, seconds):
    assert timestamps.server_time({} if date is None else {"date": date}, 5) == seconds
