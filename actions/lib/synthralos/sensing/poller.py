"""One poll after the other, of which none raises: StackStorm gives a sensor that does up for good.
"""

import traceback

from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.sensing.call_timeout import TimedCall
from synthralos.sensing.connectivity import ConnectivityMonitor, DispatchError
from synthralos.sensing.sensor_environment import load_config_or_log
from synthralos.storage.datastore import DatastoreUnavailable

# Failed polls in a row from which on a sensor counts as blind.
MAX_ATTEMPTS = 3
_MAY_PASS = (408, 425, 429)


class Poller:
    """What a polling sensor does. A subclass names its `entry` and has `look`.

    :cvar entry: of the configuration, below `sensors`.
    :ivar around: Surroundings.
    :ivar config: of the entry; None when there is nothing to do.
    """

    entry = None

    def __init__(self, env):
        self.env, self._timed_call = env, TimedCall()
        self.connectivity = ConnectivityMonitor(
            env.sensor, env.dispatch, env.datastore, env.now, env.log, MAX_ATTEMPTS
        )
        self.config, is_wrong = load_config_or_log(env, self.entry)
        self.poll_interval = None if self.config is None else self.config.poll_interval
        if self.poll_interval:
            status = self.connectivity.status
            status.every = max(status.every, float(self.poll_interval))
        self._is_wrong = is_wrong

    def poll_once(self):
        """Asks, and dispatches what is new. It may raise what `poll` tells of."""
        raise NotImplementedError

    def poll(self):
        """Looks once. Nothing is raised."""
        if self._is_wrong:
            # Once: the configuration is read when the sensor starts.
            self._is_wrong = not self._tell_wrong()
        if self.config is None:
            return
        try:
            self.poll_once()
            self.connectivity.succeeded()
        except Exception as error:
            self._failed(error)

    def get(self, connection, path):
        """The Answer, of status 200, to a GET. CallError when there is none."""
        client, seconds = self.env.client(), connection.timeout
        # Twice: a token that has expired is read anew.
        response = self._timed_call.call(
            2 * seconds + 1, lambda: client.request(connection, "GET", path, seconds)
        )
        if response.status != 200:
            raise CallError(client.failure_of(response, "request"))
        return response

    def _tell_wrong(self):
        try:
            self.connectivity.failed("configuration", "the configuration is wrong", 0, at_once=True)
        except Exception as error:
            self.env.log.warning("%s: %s", self.env.sensor, type(error).__name__)
        return True

    def _failed(self, error):
        try:
            reason, message, at_once = describe_error(error)
            if reason == "internal":
                self.env.log.error("%s", "".join(traceback.format_exception(
                    type(error), error, error.__traceback__
                )))
            self.connectivity.failed(reason, message, self.poll_interval, at_once)
        except Exception as second_error:
            self.env.log.error("%s: %s", self.env.sensor, type(second_error).__name__)


def describe_error(error):
    """(reason, message, whether another try would fail too) of what a look has raised."""
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
