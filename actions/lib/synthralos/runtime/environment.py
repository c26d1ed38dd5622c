"""The environment of a run: settings, datastore, clock, HTTP and StackStorm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.calls import http
from synthralos.calls.credentials import Credentials
from synthralos.calls.deadline import Deadline
from synthralos.config.settings import Settings
from synthralos.core.redaction import Redactor
from synthralos.storage import outcome_ledger
from synthralos.storage.account_memory import AccountMemory
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.host_memory import HostMemory
from synthralos.storage.stackstorm_api import StackStormError

if TYPE_CHECKING:
    import requests

    from synthralos.calls.trace_exporter import Tracing
    from synthralos.config.connection import Connection


@dataclass
class Environment:
    """What a run works with.

    :ivar store: never raises; what it could not record is named in the result.
    :ivar now: returns seconds since the epoch.
    :ivar run: the execution id under which outcomes are recorded: the workflow's, or the action's
        own.
    :ivar is_workflow: whether that is a workflow's run.
    :ivar api: StackStorm's, or None where there is none.
    :ivar tracing: None where traces go nowhere.
    :ivar own_process: whether the process runs this action alone; see http.Client.
    """

    settings: Settings
    store: BestEffortDatastore
    now: Callable[[], float]
    run: str
    redactor: Redactor
    api: Any = None
    session: "Optional[requests.Session]" = None
    is_workflow: bool = False
    tracing: "Optional[Tracing]" = None
    own_process: bool = False

    def __post_init__(self) -> None:
        self._credentials = Credentials(self.store.secret, self.redactor)
        self.client = http.Client(self.credentials, self.now, self.session, self.own_process)
        if self.settings.budget:
            from synthralos.calls.budget_guard import BudgetGuard

            self.client.guard = BudgetGuard(self.settings, self.store, self.now)
        ledger_ttl = self.settings.retention.get("ledger", outcome_ledger.TTL_SECONDS)
        self.ledger = outcome_ledger.Ledger(self.store, self.now, self.settings.breaker, ledger_ttl)
        self.host_memory = HostMemory(self.store, self.now, self.settings.breaker)
        self.account_memory = AccountMemory(self.store, self.now)

    def deadline(self, case: Mapping[str, Any]) -> Deadline:
        return Deadline(case["deadline"], self.now)

    def fire(self, trigger: str, payload: Mapping[str, Any]) -> str:
        """Dispatch a trigger; null values in `payload` are left out.

        :returns: the trigger's reference, or "not fired: " and why. A failure never ends a run.
        """
        if self.api is None:
            return "not fired: no StackStorm API"
        non_null = {name: value for name, value in payload.items() if value is not None}
        try:
            self.api.fire(trigger, non_null)
        except StackStormError as error:
            return "not fired: %s" % error
        return trigger

    def credentials(self, connection: "Connection", fresh: bool = False) -> http.Resolved:
        """The credentials of a connection; what the datastore holds is decrypted."""
        return self._credentials(connection, fresh)
