"""Base class for polling sensors. `poll` never raises: StackStorm stops a sensor that raises."""

import traceback
from typing import TYPE_CHECKING, Generic, Optional, Protocol, TypeVar

from synthralos.calls.http import CallError, Response
from synthralos.core.errors import InvalidInput
from synthralos.sensing.call_timeout import TimedCall
from synthralos.sensing.connectivity import ConnectivityMonitor, DispatchError
from synthralos.sensing.sensor_environment import SensorEnvironment, load_config_or_log
from synthralos.storage.datastore import DatastoreUnavailable

if TYPE_CHECKING:
    from synthralos.config.connection import Connection

# Failed polls in a row after which a sensor counts as disconnected.
MAX_ATTEMPTS = 3
_MAY_PASS = (408, 425, 429)


class PollerConfig(Protocol):
    """What the entry of every polling sensor has."""

    @property
    def poll_interval(self) -> int:
        """Seconds between two polls."""


Config = TypeVar("Config", bound=PollerConfig)


class Poller(Generic[Config]):
    """A polling sensor with a configuration. A subclass sets `entry` and implements `poll_once`.

    :cvar entry: name of its entry in the configuration, under `sensors`.
    :ivar config: the configuration of the entry; None if there is nothing to do.
    """

    entry: str

    def __init__(self, env: SensorEnvironment) -> None:
        self.env, self._timed_call = env, TimedCall()
        self.connectivity = ConnectivityMonitor(
            env.sensor, env.dispatch, env.datastore, env.now, env.log, MAX_ATTEMPTS
        )
        self.config: Optional[Config]
        self.config, is_wrong = load_config_or_log(env, self.entry)
        self.poll_interval = None if self.config is None else self.config.poll_interval
        if self.poll_interval:
            status = self.connectivity.status
            status.every = max(status.every, float(self.poll_interval))
        self._is_wrong = is_wrong
        self._skips = False

    def poll_once(self, config: Config) -> None:
        """Query the source and dispatch new items. It may raise anything; `poll` reports it."""
        raise NotImplementedError

    def poll(self) -> None:
        """Poll once. It never raises."""
        if self._is_wrong:
            # Reported once: the configuration is read when the sensor starts.
            self._is_wrong = not self._tell_wrong()
        if self.config is None:
            return
        try:
            self.poll_once(self.config)
            self.connectivity.succeeded()
        except Exception as error:
            self._failed(error, self.config.poll_interval)

    def get(self, connection: "Connection", path: str) -> Response:
        """Send a GET and return the Response.

        :raises CallError: it failed, or the status is not 200.
        """
        client, seconds = self.env.client(), connection.timeout
        # Twice the timeout: with an expired token, the request is repeated with a fresh one.
        response = self._timed_call.call(
            2 * seconds + 1, lambda: client.request(connection, "GET", path, seconds)
        )
        if response.status != 200:
            raise CallError(client.failure_of(response, "request"))
        return response

    def report_skipped(self, count: int, kind: str) -> None:
        """Log, once until there are none, that entries of a list could not be read.

        :param kind: what they should be, in the plural.
        """
        if count and not self._skips:
            self.env.log.warning(
                "%s: %d entries of the list are not %s, and are left out",
                self.env.sensor, count, kind,
            )
        self._skips = bool(count)

    def _tell_wrong(self) -> bool:
        try:
            self.connectivity.failed(
                "configuration", "the configuration is invalid", 0, at_once=True
            )
        except Exception as error:
            self.env.log.warning("%s: %s", self.env.sensor, type(error).__name__)
        return True

    def _failed(self, error: Exception, next_try: float) -> None:
        try:
            reason, message, at_once = describe_error(error)
            if reason == "internal":
                self.env.log.error("%s", "".join(traceback.format_exception(
                    type(error), error, error.__traceback__
                )))
            self.connectivity.failed(reason, message, next_try, at_once)
        except Exception as second_error:
            self.env.log.error("%s: %s", self.env.sensor, type(second_error).__name__)


def describe_error(error: Exception) -> tuple[str, str, bool]:
    """Return (reason, message, whether another attempt would fail too) of an exception."""
    if isinstance(error, CallError):
        failure = error.failure
        status = failure.status or 0
        is_permanent = 300 <= status < 500 and status not in _MAY_PASS
        return failure.cause, failure.message, is_permanent
    if isinstance(error, InvalidInput):
        return "configuration", str(error), True
    if isinstance(error, DatastoreUnavailable):
        return "datastore", str(error), False
    if isinstance(error, DispatchError):
        return "message_bus", str(error), False
    return "internal", "%s: %s" % (type(error).__name__, error), False
