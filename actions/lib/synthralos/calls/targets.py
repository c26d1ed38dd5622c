"""The configured targets of calls, by the names under which the outcome ledger records them."""

from typing import TYPE_CHECKING

from synthralos.calls import agent_platform, llm_providers, routes

if TYPE_CHECKING:
    from synthralos.config.settings import Settings


def targets_by_kind(settings: "Settings") -> "dict[str, list[str]]":
    """Return {kind: names of its targets}; the kinds are platform, providers and routes."""
    return {
        "platform": [agent_platform.target(platform) for platform in settings.platforms],
        "providers": [
            llm_providers.ServedModel(provider, model).target
            for provider in settings.providers
            for model in provider.models
        ],
        "routes": [routes.RouteCandidate(route, None).target for route in settings.routes],
    }
