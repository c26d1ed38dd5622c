"""The base classes of sensors, with StackStorm's names and arguments."""
import abc
import time

__all__ = ["PollingSensor", "Sensor"]


class BaseSensor(abc.ABC):
    def __init__(self, sensor_service, config=None):
        self._sensor_service = self.sensor_service = sensor_service
        self._config = self.config = config or {}

    @abc.abstractmethod
    def setup(self):
        """Called once, before `run`."""

    @abc.abstractmethod
    def run(self):
        """Called once; the sensor's process ends with it."""

    @abc.abstractmethod
    def cleanup(self):
        """Called when the process ends."""

    @abc.abstractmethod
    def add_trigger(self, trigger):
        """Called when a rule starts to use the trigger."""

    @abc.abstractmethod
    def update_trigger(self, trigger):
        """Called when the trigger has changed."""

    @abc.abstractmethod
    def remove_trigger(self, trigger):
        """Called when no rule uses the trigger any more."""


class Sensor(BaseSensor):
    """A sensor that waits for events in `run`."""


class PollingSensor(BaseSensor):
    """A sensor that polls every `poll_interval` seconds. An exception of `poll` ends it."""

    def __init__(self, sensor_service, config=None, poll_interval=5):
        super().__init__(sensor_service=sensor_service, config=config)
        self._poll_interval = poll_interval

    @abc.abstractmethod
    def poll(self):
        """Poll once."""

    def run(self):
        while True:
            self.poll()
            time.sleep(self._poll_interval)

    def get_poll_interval(self):
        return self._poll_interval

    def set_poll_interval(self, poll_interval):
        self._poll_interval = poll_interval
