"""The base classes of action and sensor tests, with StackStorm's names and arguments."""
import inspect
import logging
import os
import unittest

from st2tests.action_aliases import BaseActionAliasTestCase

__all__ = ["BaseActionAliasTestCase", "BaseActionTestCase", "BaseSensorTestCase"]


class _Datastore:
    """Values in memory, not converted to text, like StackStorm's own datastore for tests."""

    def __init__(self):
        self._values = {}

    def get_value(self, name, local=True, scope="system", decrypt=False):
        return self._values.get((local, name))

    def set_value(self, name, value, ttl=None, local=True, scope="system", encrypt=False):
        self._values[local, name] = value
        return True

    def delete_value(self, name, local=True, scope="system"):
        return self._values.pop((local, name), None) is not None


class _Service:
    """The service through which actions and sensors use StackStorm."""

    def __init__(self):
        self.datastore_service = _Datastore()
        self.get_value = self.datastore_service.get_value
        self.set_value = self.datastore_service.set_value
        self.delete_value = self.datastore_service.delete_value
        self.dispatched_triggers = []

    def get_logger(self, name):
        return logging.getLogger(name)

    def dispatch(self, trigger, payload=None, trace_tag=None):
        return self.dispatch_with_context(trigger, payload, trace_tag)

    def dispatch_with_context(self, trigger, payload=None, trace_context=None):
        dispatched = {"trigger": trigger, "payload": payload, "trace_context": trace_context}
        self.dispatched_triggers.append(dispatched)
        return dispatched


class _PackTestCase(unittest.TestCase):
    def get_fixture_content(self, fixture_path):
        """The text of a file in tests/fixtures."""
        folder = os.path.dirname(os.path.abspath(inspect.getfile(type(self))))
        with open(os.path.join(folder, "fixtures", fixture_path), encoding="utf-8") as file:
            return file.read()


class BaseActionTestCase(_PackTestCase):
    """Subclasses name their `action_cls`."""

    action_cls = None

    def setUp(self):
        super().setUp()
        self.action_service = _Service()

    def get_action_instance(self, config=None):
        return self.action_cls(config=config, action_service=self.action_service)


class BaseSensorTestCase(_PackTestCase):
    """Subclasses name their `sensor_cls`."""

    sensor_cls = None

    def setUp(self):
        super().setUp()
        self.sensor_service = _Service()

    def get_sensor_instance(self, config=None, poll_interval=None):
        options = {"config": config} if config else {}
        if poll_interval is not None:
            options["poll_interval"] = poll_interval
        return self.sensor_cls(sensor_service=self.sensor_service, **options)

    def get_dispatched_triggers(self):
        return self.sensor_service.dispatched_triggers

    def get_last_dispatched_trigger(self):
        return self.sensor_service.dispatched_triggers[-1]

    def assertTriggerDispatched(self, trigger, payload=None, trace_context=None):
        """Assert that a trigger was dispatched; a missing payload or context matches any."""
        expected = {"trigger": trigger, "payload": payload, "trace_context": trace_context}
        expected = {name: value for name, value in expected.items() if value}
        for dispatched in self.get_dispatched_triggers():
            if all(dispatched[name] == value for name, value in expected.items()):
                return True
        raise AssertionError("%s was not dispatched" % trigger)
