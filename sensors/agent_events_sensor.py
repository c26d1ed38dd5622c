import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../actions/lib"))

from st2reactor.sensor.base import Sensor

from synthralos.sensing.agent_events_listener import AgentEventsListener
from synthralos.sensing.sensor_environment import SensorEnvironment


class AgentEventsSensor(Sensor):
    """Fires triggers for server-sent events of agents.

    :cvar datastore: replaces StackStorm's datastore; set by tests.
    """

    datastore = None

    def setup(self):
        env = SensorEnvironment(
            type(self).__name__, self.sensor_service, self.config, self.datastore
        )
        self._listener = AgentEventsListener(env)

    def run(self):
        self._listener.run()

    def cleanup(self):
        self._listener.stop()

    def add_trigger(self, trigger):
        """Rules do not affect what is listened to."""

    def update_trigger(self, trigger):
        """See add_trigger."""

    def remove_trigger(self, trigger):
        """See add_trigger."""
