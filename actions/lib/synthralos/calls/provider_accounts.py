"""The accounts of providers that have several, and which of them no run calls at present."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Optional

from synthralos.calls.llm_providers import ServedModel, account_name
from synthralos.config.settings import Account, Provider
from synthralos.storage.account_memory import AccountFailure, AccountMemory


@dataclass(frozen=True)
class ProviderAccount:
    """An account of a provider.

    :ivar name: `provider@datastore_key`; shows no key.
    :ivar targets: the names of the provider's models at this account.
    :ivar failure: why it is not called, or None if it may be called.
    """

    provider: str
    name: str
    targets: tuple[str, ...]
    failure: Optional[AccountFailure] = None


def list_accounts(
    providers: Iterable[Provider], account_memory: AccountMemory
) -> list[ProviderAccount]:
    """Return the accounts of each provider that has several, in order.

    Costs one datastore call, or none if no provider has several. Without the datastore, all may be
    called.
    """
    accounts = [
        ProviderAccount(provider.name, name, _targets(provider, account))
        for provider in providers
        for account in provider.accounts
        for name in [account_name(provider, account)]
        if name is not None
    ]
    failures = account_memory.resting() if accounts else {}
    return [replace(account, failure=failures.get(account.name)) for account in accounts]


def _targets(provider: Provider, account: Account) -> tuple[str, ...]:
    return tuple(ServedModel(provider, model, account).target for model in provider.models)
