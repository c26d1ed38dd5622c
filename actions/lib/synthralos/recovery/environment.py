"""What a piece of work has around it: settings, datastore, clock, HTTP and StackStorm."""

import json
from dataclasses import dataclass
from typing import Callable, Optional

from synthralos.calls import http
from synthralos.calls.deadline import Deadline
from synthralos.redact import Redactor
from synthralos.refusals import Refused
from synthralos.settings import Settings
from synthralos.state.datastore import DatastoreAway, Tolerant
from synthralos.state.ledger import Ledger


@dataclass
class Environment:
    """:ivar store: a Tolerant datastore.
    :ivar now: a callable that gives seconds since the epoch.
    :ivar run: the execution id under which outcomes are recorded: the workflow's, or the action's
    own.
    :ivar api: stackstorm.Api, or None where there is none.
    """

    settings: Settings
    store: Tolerant
    now: Callable[[], float]
    run: str
    redactor: Redactor
    api: Optional[object] = None
    session: Optional[object] = None

    def __post_init__(self):
        self._credentials = {}
        self.client = http.Client(self.credentials, self.now, self.session)
        self.ledger = Ledger(self.store, self.now, self.settings.breaker)

    def deadline(self, case):
        return Deadline(case["deadline"], self.now)

    def credentials(self, connection, fresh=False):
        """(secret or None, headers) of a connection; what the datastore holds is decrypted."""
        known = (connection.secret, connection.secret_from, connection.headers_from)
        if fresh or known not in self._credentials:
            secret = connection.secret
            if connection.secret_from:
                secret = self._read(connection.secret_from)
            headers = {}
            if connection.headers_from:
                headers = self._headers(connection.headers_from)
            for value in [secret] + list(headers.values()):
                self.redactor.add(value)
            self._credentials[known] = (secret, headers)
        return self._credentials[known]

    def _read(self, key):
        try:
            value, why = self.store.secret(key), "is not in the datastore"
        except DatastoreAway as error:
            value, why = None, str(error)
        if value is None:
            raise Refused(
                "config ..._from",
                key,
                why,
                "Set it with `st2 key set --encrypt %s VALUE`" % key,
            )
        return value

    def _headers(self, key):
        value = self._read(key)
        try:
            headers = json.loads(value)
        except ValueError:
            headers = None
        if not isinstance(headers, dict):
            raise Refused(
                "config headers_from", key, "holds no JSON object", 'Store {"Name": "value"}'
            )
        return {str(name): str(told) for name, told in headers.items()}
