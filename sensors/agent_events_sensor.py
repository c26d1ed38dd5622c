import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../actions/lib"))

from st2reactor.sensor.base import Sensor

from synthralos.sensing.agent_events_listener import AgentEventsListener
from synthralos.sensing.sensor_environment import SensorEnvironment


class AgentEventsSensor(Sensor):
    """Server-sent events of agents as triggers.

    :cvar datastore: an object to use in place of StackStorm's datastore; a test sets it.
    """

    datastore = None

    def setup(self):
        env = SensorEnvironment(
            type(self).__name__, self.sensor_service, self.config, self.datastore
        )
        self._follower = AgentEventsListener(env)

    def run(self):
        self._follower.run()

    def cleanup(self):
        self._follower.stop()

    def add_trigger(self, trigger):
        """Rules do not change what is listened to."""

    def update_trigger(self, trigger):
        """As for add_trigger."""

    def remove_trigger(self, trigger):
        """As for add_trigger."""
