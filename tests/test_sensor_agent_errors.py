import time

from agent_errors_sensor import AgentErrorsSensor
from fixtures.sensor_case import SensorCase

CONFIG = {
    "platforms": [{"base_url": "http://platform", "token": "hush-hush"}],
    "sensors": {"agent_errors": {"path": "/api/v1/observability/errors"}},
}


class AgentErrorsSensorTest(SensorCase):
    sensor_cls = AgentErrorsSensor

    def error(self, message):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return {"timestamp": stamp, "message": message, "traceId": "t", "framework": "react"}

    def test_an_error_is_told_once(self):
        self.answers = {"/errors": {"errors": []}}
        sensor = self.started(CONFIG)
        sensor.poll()
        self.answers = {"/errors": {"errors": [self.error("<% ctx() %> timed out, hush-hush")] * 2}}
        sensor.poll()
        self.started(CONFIG).poll()
        [payload] = self.payloads("agent_failure")
        self.assertEqual(payload["failure_type"], "timeout")
        self.assertEqual(payload["failure_details"]["message"], "<% ctx() %> timed out, ********")
        self.assertEqual(self.requests[0], (
            "http://platform", "/api/v1/observability/errors?range=1h"
        ))

    def test_nothing_it_meets_ends_it(self):
        sensor = self.started(CONFIG)
        for method in ((500, ""), (200, "<html>"), (200, '{"errors": [{'), (401, ""), None, [None]):
            self.answers = {"/errors": method}
            sensor.poll()
        self.assertEqual(self.payloads("agent_failure"), [])
        self.assertEqual(
            [payload["seeing"] for payload in self.payloads("sensor_disconnected")], [False, True]
        )

    def test_without_a_configuration_it_is_idle(self):
        for config in (None, {"platform": CONFIG["platforms"][0]}):
            self.started(config).poll()
        self.assertEqual((self.requests, self.get_dispatched_triggers()), ([], []))

    def test_rules_and_the_end_are_of_no_concern(self):
        sensor = self.started()
        for method in (sensor.add_trigger, sensor.update_trigger, sensor.remove_trigger):
            method({})
        sensor.cleanup()
