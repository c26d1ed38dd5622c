"""The accounts that are spent or whose key is not valid: no run calls them before they are renewed.

It is a fact like an outcome, but about all models of the account: a run that has not called one of
them yet profits, too. Accounts are named by provider and datastore key; nothing here shows a key.
"""

from dataclasses import dataclass
from typing import Callable, Optional

from synthralos.core.causes import CAUSES
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import PAGE_SIZE, BestEffortDatastore, timestamp_key
from synthralos.storage.keyspace import key_prefix

FORMAT_VERSION = 1
_KIND = "account_failure"


@dataclass(frozen=True)
class AccountFailure:
    """A failure of an account.

    :ivar cause: a key of core.causes.CAUSES.
    :ivar until: seconds since the epoch at which the account may be called again.
    """

    cause: str
    until: float


class AccountMemory:
    """Remembers failures of accounts in the datastore. An unavailable datastore remembers none.

    :param now: a callable that returns seconds since the epoch.
    """

    def __init__(self, store: BestEffortDatastore, now: Callable[[], float]) -> None:
        self._store, self._now = store, now

    def remember(self, account: str, cause: str, seconds: float) -> None:
        """Store that `account` must not be called for `seconds`. Costs one datastore call.

        :param account: `provider@datastore_key`.
        """
        now = self._now()
        fields = {"account": account, "cause": cause, "until": now + seconds}
        text = records.encode(fields, FORMAT_VERSION)
        name = key_prefix(_KIND) + timestamp_key(now)
        self._store.put(name, text, ttl=max(1, int(seconds)))

    def resting(self) -> dict[str, AccountFailure]:
        """Return the accounts that may not be called now, each with the failure that lasts longest.

        Costs one datastore call. Of more than PAGE_SIZE failures, the newest are read.
        """
        longest: dict[str, AccountFailure] = {}
        rows = self._store.list(key_prefix(_KIND), limit=PAGE_SIZE)
        for name, fields in records.iter_rows(rows, FORMAT_VERSION):
            account, failure = fields.get("account"), _failure_of(fields)
            if not isinstance(account, str) or failure is None:
                unreadable.skip(name)
            elif account not in longest or longest[account].until < failure.until:
                longest[account] = failure
        now = self._now()
        return {account: failure for account, failure in longest.items() if failure.until > now}


def _failure_of(fields: records.Fields) -> Optional[AccountFailure]:
    cause, until = fields.get("cause"), fields.get("until")
    is_cause = isinstance(cause, str) and cause in CAUSES
    if not is_cause or not isinstance(until, (int, float)) or until is True:
        return None
    return AccountFailure(str(cause), float(until))
