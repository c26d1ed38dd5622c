"""Which of the configured models answers for a role."""

from synthralos.calls import llm_providers
from synthralos.core.errors import InvalidInput
from synthralos.orchestration.config import configuration

# What a text takes at least is about this many characters a token, in any language.
_CHARACTERS = 4


def fitting(env, role):
    """The names of the models to ask for `role`, in order: its own, else the first that fits it;
    then its fallbacks. Empty when none fits.
    """
    first = role["model"] or _default(env, role) or _first(env.settings, role)
    names = [first] if first else []
    return list(dict.fromkeys(names + role["fallback_models"]))


def fits(model, role):
    """Whether a configured model has the window and the capabilities that `role` needs.

    What the configuration does not say of a model is not held against it.
    """
    least, window = role["min_context"], model.context_window
    if least is not None and window is not None and window < least:
        return False
    if model.capabilities is None:
        return True
    return all(name in model.capabilities for name, needed in role["needs"].items() if needed)


def check(env, role, where="role"):
    """InvalidInput when the role names a model that is not configured."""
    if role["model"] is not None:
        llm_providers.resolve_model(env.settings.providers, role["model"], field=where + ".model")
    check_fallbacks(env, role["fallback_models"], where)


def check_fallbacks(env, names, where):
    """InvalidInput when one of `names` is no model that is configured."""
    for n, name in enumerate(names):
        field = "%s.fallback_models[%d]" % (where, n)
        llm_providers.resolve_model(env.settings.providers, name, field=field)


def check_length(role, text):
    """InvalidInput when `text` is more than the role may be given, at about 4 characters a token."""
    tokens = len(text) // _CHARACTERS
    if role["max_context"] is not None and tokens > role["max_context"]:
        why = "is about %d tokens, and the role %s takes %d" % (
            tokens, role["name"], role["max_context"]
        )
        raise InvalidInput("input", None, why, "Pass on less, or raise the role's max_context")


def _default(env, role):
    name = configuration(env).default_model
    if name is None:
        return None
    served = llm_providers.resolve_model(
        env.settings.providers, name, field="orchestration.default_model"
    )
    return name if fits(served.model, role) else None


def _first(settings, role):
    for provider in settings.providers:
        for model in provider.models:
            if fits(model, role):
                return "%s/%s" % (provider.name, model.name)
    return None
