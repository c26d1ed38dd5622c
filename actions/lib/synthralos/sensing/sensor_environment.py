"""The environment of a sensor: configuration, datastore, clock, log, and trigger dispatch."""

import time
from collections.abc import Mapping
from typing import Any, Callable, Optional

from synthralos.calls.credentials import Credentials
from synthralos.calls.http import Client
from synthralos.config.reader import read_seconds
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import to_json_safe
from synthralos.core.redaction import Redactor
from synthralos.sensing.config import SensorsConfig
from synthralos.sensing.connectivity import DispatchError
from synthralos.sensing.sensor_state import SensorDatastore
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.storage.stackstorm_api import Api

PACK = "synthralos."


class SensorEnvironment:
    """Everything that a sensor uses outside itself.

    :param sensor: class name of the sensor.
    :param service: StackStorm's sensor service: dispatch, datastore_service, get_logger.
    :param config: the pack's configuration.
    :param datastore: replaces StackStorm's datastore in tests.
    :param now: returns seconds since the epoch.
    """

    def __init__(
        self,
        sensor: str,
        service: Any,
        config: Optional[Mapping[str, Any]],
        datastore: Optional[SensorDatastore] = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.sensor, self.now, self._service = sensor, now, service
        self._config = dict(config or {})
        self.redactor = Redactor()
        self.log = _Log(service.get_logger(sensor), self.redactor)
        self.datastore: SensorDatastore = (
            _Datastore(service, self._config.get("stackstorm")) if datastore is None else datastore
        )

    def configuration(self, name: str) -> Any:
        """Read one entry of the configuration under `sensors`; None if it is not configured.

        :returns: what the attribute `name` of SensorsConfig holds.
        :raises InvalidInput: a value is not valid; the error names its path.
        """
        settings = Settings.from_config(self._config)
        self.redactor.redaction = settings.redaction
        for secret in settings.secrets():
            self.redactor.add(secret)
        limits = self._config.get("attempt_timeouts") or {}
        connect = read_seconds(limits, "attempt_timeouts.connect", 5.0)
        # Only its own entry: an error in that of another sensor must not affect this one.
        own_entry = {name: settings.sensors.get(name)}
        return getattr(SensorsConfig.from_config(own_entry, settings.platforms, connect), name)

    def client(self) -> Client:
        """Return an HTTP client that reads credentials again."""
        read = Credentials(lambda key: self.datastore.get(key, True), self.redactor)
        return Client(read, self.now)

    def dispatch(self, trigger: str, payload: Mapping[str, Any]) -> None:
        """Dispatch a trigger of the pack.

        :raises DispatchError: StackStorm did not accept it.
        """
        safe_payload = to_json_safe(self.redactor.remove_secrets(payload))
        try:
            self._service.dispatch(trigger=PACK + trigger, payload=safe_payload)
        except Exception as error:
            # The message bus raises many kinds of errors while it is unavailable.
            raise DispatchError("%s: %s" % (type(error).__name__, error)) from error


class _Log:
    """StackStorm's logger, without secrets."""

    def __init__(self, logger: Any, redactor: Redactor) -> None:
        self._logger, self._redactor = logger, redactor

    def info(self, text: str, *values: object) -> None:
        self._logger.info(self._redactor.redact_text(text % values))

    def warning(self, text: str, *values: object) -> None:
        self._logger.warning(self._redactor.redact_text(text % values))

    def error(self, text: str, *values: object) -> None:
        self._logger.error(self._redactor.redact_text(text % values))


class _Datastore:
    """StackStorm's datastore, with the token of the sensor service, which renews it in time."""

    def __init__(self, service: Any, raw_entry: Any) -> None:
        entry = raw_entry if isinstance(raw_entry, dict) else {}
        self._service = service
        self._verify = entry.get("ca_bundle") or entry.get("verify", True)
        self._endpoint_and_token: Optional[tuple[str, str]] = None
        self._api: Optional[Api] = None

    def get(self, name: str, decrypt: bool = False) -> Optional[str]:
        return self._connected_api().get(name, decrypt)

    def put(self, name: str, value: str, ttl: Optional[int] = None) -> None:
        self._connected_api().put(name, value, ttl)

    def delete(self, name: str) -> bool:
        return self._connected_api().delete(name)

    def _connected_api(self) -> Api:
        try:
            client = self._service.datastore_service.get_api_client()
            endpoint_and_token = (str(client.endpoints["api"]), client.token)
        except Exception as error:
            # The token comes from the database, which may be unavailable in many ways.
            message = "no token for StackStorm's API: %s" % type(error).__name__
            raise DatastoreUnavailable(message) from error
        if self._api is None or endpoint_and_token != self._endpoint_and_token:
            self._endpoint_and_token = endpoint_and_token
            self._api = Api(*endpoint_and_token, verify=self._verify)
        return self._api


def load_config_or_log(env: SensorEnvironment, name: str) -> tuple[Any, bool]:
    """Read an entry of the configuration; log if it is invalid or missing.

    It never raises: StackStorm gives up a sensor that fails at its third start.

    :returns: (the configuration or None, as SensorEnvironment.configuration returns it; whether it
        is invalid).
    """
    try:
        entry = env.configuration(name)
    except InvalidInput as error:
        env.log.error("%s is idle until it is restarted: %s", env.sensor, error)
        return None, True
    if entry is None:
        env.log.info("%s is idle: sensors.%s is not configured", env.sensor, name)
    return entry, False
