import threading
from unittest import mock

from agent_events_sensor import AgentEventsSensor
from fixtures.sensor_case import SensorCase
from fixtures.waiting import PATIENCE_SECONDS, limit_under_test, until

from synthralos.sensing.response_stream import DATA, ENDED, OPENED

CONFIG = {"sensors": {"agent_events": {"url": "http://events/stream"}}}
STREAM = (
    b'event: agent_failure\nid: 1\ndata: {"agentId": "a", "message": "{{ foo }}"}\n\n'
    b'event: agent_loop\nid: 2\ndata: {"agentId": "b", "kind": "cycle"}\n\n'
)


class Stream:
    def __init__(self, *_):
        self.items = [
            (OPENED, (200, {"content-type": "text/event-stream"})), (DATA, STREAM), (ENDED, None),
        ]

    def get(self, seconds):
        return self.items.pop(0)

    def close(self):
        """There is nothing to close."""


class AgentEventsSensorTest(SensorCase):
    sensor_cls = AgentEventsSensor

    def setUp(self):
        super().setUp()
        patched = mock.patch("synthralos.sensing.agent_events_listener.Stream", Stream)
        patched.start()
        self.addCleanup(patched.stop)

    def run_until(self, sensor, condition):
        """Runs the sensor, as its process does, until the condition holds; then ends it."""
        thread = threading.Thread(target=sensor.run)
        thread.start()
        try:
            until(condition)
        finally:
            sensor.cleanup()
            thread.join(PATIENCE_SECONDS)
        self.assertFalse(thread.is_alive())

    def test_events_are_told_once(self):
        for _ in range(2):
            self.run_until(
                self.started(CONFIG),
                lambda: self.payloads("agent_loop") and self.datastore.list("synthralos.sensor."),
            )
        [failure] = self.payloads("agent_failure")
        self.assertEqual((failure["source"], failure["agent_id"]), ("events", "a"))
        self.assertEqual(failure["failure_details"]["message"], "{{ foo }}")
        [loop] = self.payloads("agent_loop")
        self.assertEqual((loop["agent_id"], loop["kind"]), ("b", "cycle"))

    def test_without_a_configuration_it_is_idle_and_does_not_end(self):
        sensor = self.started()
        thread = threading.Thread(target=sensor.run)
        thread.start()
        thread.join(limit_under_test(0.1))
        self.assertTrue(thread.is_alive())
        sensor.cleanup()
        thread.join(PATIENCE_SECONDS)
        self.assertFalse(thread.is_alive())
        self.assertEqual(self.get_dispatched_triggers(), [])

    def test_rules_are_of_no_concern(self):
        sensor = self.started()
        for method in (sensor.add_trigger, sensor.update_trigger, sensor.remove_trigger):
            method({})
        sensor.cleanup()
