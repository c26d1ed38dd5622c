from alertmanager_sensor import AlertmanagerSensor
from fixtures.sensor_case import SensorCase

CONFIG = {"sensors": {"alertmanager": {"url": "http://alertmanager:9093", "poll_interval": 15}}}
ALERT = {
    "labels": {"alertname": "Down", "note": "{{ config_context.token }}"},
    "annotations": {},
    "startsAt": "2023-11-14T22:13:10.123Z",
    "endsAt": "2999-01-01T00:00:00.000Z",
    "fingerprint": "8b0f2bd1e9a4b0c3",
    "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
}


class AlertmanagerSensorTest(SensorCase):
    sensor_cls = AlertmanagerSensor

    def test_an_alert_begins_and_ends(self):
        self.answers = {"/alerts": [ALERT], "/status": {"uptime": "2023-01-01T00:00:00Z"}}
        sensor = self.started(CONFIG)
        sensor.poll()
        sensor.poll()
        self.assertTriggerDispatched("synthralos.metrics_alert")
        self.answers["/alerts"] = []
        self.started(CONFIG).poll()
        self.started(CONFIG).poll()
        began, ended = self.payloads("metrics_alert")
        self.assertEqual((began["status"], ended["status"]), ("firing", "resolved"))
        self.assertEqual(began["labels"], ALERT["labels"])
        self.assertEqual(ended["labels"], ALERT["labels"])
        self.assertEqual(self.requests[0][0], "http://alertmanager:9093")

    def test_the_interval_is_the_configuration_s(self):
        self.assertEqual(self.started(CONFIG).get_poll_interval(), 15)

    def test_nothing_it_meets_ends_it(self):
        sensor = self.started(CONFIG)
        for method in ((500, ""), (200, "<html>"), (200, "[{"), (404, ""), {}, None, [None], "x"):
            self.answers = {"/alerts": method}
            sensor.poll()
        self.assertEqual(self.payloads("metrics_alert"), [])
        self.assertEqual(
            [payload["seeing"] for payload in self.payloads("sensor_disconnected")], [False, True]
        )

    def test_without_a_configuration_it_is_idle(self):
        for config in (None, {}, {"sensors": {"alertmanager": {"silenced": False}}}):
            sensor = self.started(config)
            sensor.poll()
            sensor.poll()
        self.assertEqual(self.requests, [])
        self.assertEqual(self.get_dispatched_triggers(), [])

    def test_a_configuration_that_is_wrong_is_reported(self):
        sensor = self.started({"sensors": {"alertmanager": {"url": "nonsense"}}})
        sensor.poll()
        sensor.poll()
        [blind] = self.payloads("sensor_disconnected")
        self.assertEqual((blind["sensor"], blind["reason"]), (
            "AlertmanagerSensor", "configuration"
        ))

    def test_rules_and_the_end_are_of_no_concern(self):
        sensor = self.started()
        for method in (sensor.add_trigger, sensor.update_trigger, sensor.remove_trigger):
            method({})
        sensor.cleanup()
