"""What a piece of work has around it: settings, datastore, clock, HTTP and StackStorm."""

from dataclasses import dataclass
from typing import Callable, Optional

from synthralos.calls import http
from synthralos.calls.credentials import Credentials
from synthralos.calls.deadline import Deadline
from synthralos.redact import Redactor
from synthralos.settings import Settings
from synthralos.state.datastore import Tolerant
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
        self._credentials = Credentials(self.store.secret, self.redactor)
        self.client = http.Client(self.credentials, self.now, self.session)
        self.ledger = Ledger(self.store, self.now, self.settings.breaker)

    def deadline(self, case):
        return Deadline(case["deadline"], self.now)

    def credentials(self, connection, fresh=False):
        """(secret or None, headers) of a connection; what the datastore holds is decrypted."""
        return self._credentials(connection, fresh)
