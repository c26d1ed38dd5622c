"""The configured targets of calls, by the names under which the outcome ledger records them."""

from typing import TYPE_CHECKING

from synthralos.calls import agent_targets, llm_providers, routes
from synthralos.calls.relations import Target

if TYPE_CHECKING:
    from synthralos.config.settings import Settings


def configured(settings: "Settings") -> "dict[str, list[Target]]":
    """Return {kind: its targets}; the kinds are platform, providers and routes."""
    served_models = [
        llm_providers.ServedModel(provider, model, account)
        for provider in settings.providers
        for model in provider.models
        for account in provider.accounts
    ]
    candidates = [routes.RouteCandidate(route, None) for route in settings.routes]
    return {
        "platform": [agent_targets.platform_target(platform) for platform in settings.platforms],
        "providers": [served_model.as_target() for served_model in served_models],
        "routes": [
            candidate.as_target(candidate.route.unsafe_to_repeat) for candidate in candidates
        ],
    }


def targets_by_kind(settings: "Settings") -> "dict[str, list[str]]":
    """Return {kind: names of its targets}; the kinds are platform, providers and routes."""
    return {
        kind: [target.name for target in kind_targets]
        for kind, kind_targets in configured(settings).items()
    }
