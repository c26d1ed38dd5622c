"""LLM providers: which of them serves a model, and with which of its accounts."""

from dataclasses import dataclass
from typing import Any, Optional

from synthralos.calls.llm_wires.model_traits import ModelTraits, traits_of
from synthralos.calls.relations import Target
from synthralos.config.connection import Connection
from synthralos.config.settings import Account, Model, Provider
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier


@dataclass(frozen=True)
class ServedModel:
    """A model, the provider that serves it, and the account there."""

    provider: Provider
    model: Model
    account: Account

    @property
    def name(self) -> str:
        """The model, with whatever account."""
        return "llm:%s/%s" % (self.provider.name, self.model.name)

    @property
    def target(self) -> str:
        """The name in the trail and the ledger: with the account, if the provider has several."""
        if self.account.name is None:
            return self.name
        return "%s@%s" % (self.name, self.account.name)

    @property
    def connection(self) -> Connection:
        return self.account.connection

    @property
    def traits(self) -> ModelTraits:
        """What the model takes, by its configuration and its name."""
        return traits_of(self.model.name, self.model.capabilities)

    def at_all_accounts(self) -> list["ServedModel"]:
        """Return the model at each account of its provider, in order."""
        return [
            ServedModel(self.provider, self.model, account) for account in self.provider.accounts
        ]

    def as_target(self) -> Target:
        """Return the model as a Target that a round may call."""
        return Target.over(
            self.connection, self.target, self.provider.name, self,
            window=self.model.context_window,
            account_name=account_name(self.provider, self.account),
        )


def account_name(provider: Provider, account: Account) -> Optional[str]:
    """Return the account's name among those of all providers, `provider@datastore_key`.

    :returns: None if the provider has no other account.
    """
    if len(provider.accounts) < 2:
        return None
    return "%s@%s" % (provider.name, account.name)


def resolve_model(
    providers: list[Provider],
    model: Any,
    provider: Any = None,
    field: str = "original_request.model",
) -> ServedModel:
    """Return the ServedModel of `model`: at `provider`, at the provider of a `provider/model` name,
    else at the first provider that lists it; with the provider's first account.

    :raises InvalidInput: there is none; names the known providers or models.
    """
    if not providers:
        raise InvalidInput(
            "config.providers",
            [],
            "has no LLM provider",
            "Configure at least one provider with its models",
        )
    require_identifier(field, model)
    if provider is not None:
        named = [candidate for candidate in providers if candidate.name == provider]
        if not named:
            raise InvalidInput(
                field.rpartition(".")[0] + ".provider" if "." in field else "provider",
                provider,
                "is not configured",
                "Known providers: " + ", ".join(candidate.name for candidate in providers),
            )
        return _serving(named, model, field)
    prefix, _, rest = model.partition("/")
    for candidate in providers:
        if (
            rest and
            candidate.name == prefix and
            any(candidate_model.name == rest for candidate_model in candidate.models)
        ):
            return _serving([candidate], rest, field)
    return _serving(providers, model, field)


def _serving(providers: list[Provider], model: str, field: str) -> ServedModel:
    for provider in providers:
        for candidate in provider.models:
            if candidate.name == model:
                return ServedModel(provider, candidate, provider.accounts[0])
    names = [
        "%s/%s" % (provider.name, candidate.name)
        for provider in providers
        for candidate in provider.models
    ]
    raise InvalidInput(
        field,
        model,
        "is not served by any configured provider",
        "Known models: " + ", ".join(names[:40]),
    )
