"""Selects the configured models that can serve a role."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional

from synthralos.calls import llm_providers
from synthralos.config.settings import Model, Settings
from synthralos.core.errors import InvalidInput
from synthralos.orchestration.config import configuration
from synthralos.orchestration.role_schema import Role

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

# Characters per token: an estimate of the fewest tokens that a text takes, in any language.
_CHARACTERS = 4


def fitting(env: "Environment", role: Role) -> list[str]:
    """Return the names of the models to call for `role`, in order.

    First its own model, else the default if that fits, else the first one that fits; then its
    fallbacks. Empty if no model fits.
    """
    first = role["model"] or _default(env, role) or _first(env.settings, role)
    names = [first] if first else []
    return list(dict.fromkeys(names + role["fallback_models"]))


def fits(model: Model, role: Role) -> bool:
    """Return whether a configured model has the window and the capabilities that `role` needs.

    A property that the configuration does not state counts as sufficient.
    """
    min_context, window = role["min_context"], model.context_window
    if min_context is not None and window is not None and window < min_context:
        return False
    if model.capabilities is None:
        return True
    return all(name in model.capabilities for name, needed in role["needs"].items() if needed)


def check(env: "Environment", role: Role, path: str = "role") -> None:
    """Raise InvalidInput if the role names a model that is not configured."""
    if role["model"] is not None:
        llm_providers.resolve_model(env.settings.providers, role["model"], field=path + ".model")
    check_fallbacks(env, role["fallback_models"], path)


def check_fallbacks(env: "Environment", names: Iterable[str], path: str) -> None:
    """Raise InvalidInput if one of `names` is not a configured model."""
    for n, name in enumerate(names):
        field = "%s.fallback_models[%d]" % (path, n)
        llm_providers.resolve_model(env.settings.providers, name, field=field)


def check_length(role: Role, text: str) -> None:
    """Raise InvalidInput if `text` exceeds the role's max_context, at 4 characters a token."""
    tokens = len(text) // _CHARACTERS
    if role["max_context"] is not None and tokens > role["max_context"]:
        reason = "is about %d tokens, and the role %s takes %d" % (
            tokens, role["name"], role["max_context"]
        )
        raise InvalidInput(
            "input", None, reason, "Shorten the input, or raise the role's max_context"
        )


def _default(env: "Environment", role: Role) -> Optional[str]:
    name = configuration(env).default_model
    if name is None:
        return None
    served = llm_providers.resolve_model(
        env.settings.providers, name, field="orchestration.default_model"
    )
    return name if fits(served.model, role) else None


def _first(settings: Settings, role: Role) -> Optional[str]:
    for provider in settings.providers:
        for model in provider.models:
            if fits(model, role):
                return "%s/%s" % (provider.name, model.name)
    return None
