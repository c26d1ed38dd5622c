import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../actions/lib"))

from st2reactor.sensor.base import PollingSensor

from synthralos.sensing.agent_errors_poller import AgentErrorsPoller
from synthralos.sensing.sensor_environment import SensorEnvironment


class AgentErrorsSensor(PollingSensor):
    """Fires triggers for the errors that the agent platform lists.

    :cvar datastore: replaces StackStorm's datastore; set by tests.
    """

    datastore = None

    def setup(self):
        env = SensorEnvironment(
            type(self).__name__, self.sensor_service, self.config, self.datastore
        )
        self._poller = AgentErrorsPoller(env)
        if self._poller.poll_interval:
            self.set_poll_interval(self._poller.poll_interval)

    def poll(self):
        self._poller.poll()

    def cleanup(self):
        """Nothing to clean up."""

    def add_trigger(self, trigger):
        """Rules do not affect what is polled."""

    def update_trigger(self, trigger):
        """See add_trigger."""

    def remove_trigger(self, trigger):
        """See add_trigger."""
