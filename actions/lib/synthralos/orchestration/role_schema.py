"""The schema of roles: who answers a step."""

from typing import Any, Optional, TypedDict, Union

from synthralos.config.settings import CAPABILITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration.field_reader import Allowed, Fields, shallow, text_item

META = "meta"
NEEDS = CAPABILITIES
DEFAULTS: dict[str, Any] = {
    "temperature": 0.7,
    "max_tokens": 2048,
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stop": None,
    "seed": None,
    "response_format": None,
}
MAX_TOKENS = 100_000_000
MAX_FALLBACKS = 20
MAX_STOPS = 16
# Fields that a stored definition has besides; they are ignored, so that it can be sent back.
RECORD = ("id", "version", "versions", "created_at", "updated_at", "created_by", "updated_by")
_RECORD_CAMEL = ("createdAt", "updatedAt", "createdBy", "updatedBy")
IGNORED = RECORD + _RECORD_CAMEL
_FIELDS: dict[str, tuple[str, ...]] = {
    "name": (),
    "base_prompt": (),
    "needs": ("capabilities",),
    "limits": ("context_limits",),
    "min_context": (),
    "max_context": (),
    "defaults": ("hyperparameters",),
    "given": (),
    "model": (),
    "fallback_models": (),
    "tools": (),
    "terminal_restrictions": (),
    "criteria": (),
    "tone": (),
    "domain_knowledge": (),
}
# The guide also has them at the top level: needsCoding, defaultTemperature.
_FIELDS.update(("needs_" + name, ()) for name in NEEDS)
_FIELDS.update(("default_" + name, ()) for name in DEFAULTS)


class Named(TypedDict):
    """What has a name: a role or an orchestration."""

    name: str


# The functional form, because the key is no name for code.
_ExplicitDefaults = TypedDict("_ExplicitDefaults", {"given": list[str]})  # noqa: UP013


class Role(Named, _ExplicitDefaults):
    """A role in its normal form.

    `needs`: whether it needs each of NEEDS; `min_context`, `max_context`: tokens; `defaults`: the
    values of DEFAULTS; `given`: the names of those that were set explicitly; `model`: the name of a
    configured one; `terminal_restrictions`, `criteria`: JSON values.
    """

    base_prompt: str
    needs: dict[str, bool]
    min_context: Optional[int]
    max_context: Optional[int]
    defaults: dict[str, Any]
    model: Optional[str]
    fallback_models: list[str]
    tools: list[str]
    terminal_restrictions: Any
    criteria: Any
    tone: Optional[str]
    domain_knowledge: list[str]


def role(raw: object, path: str = "role") -> Role:
    """Return the normal form of a role.

    :raises InvalidInput: `raw` is not a valid role.
    """
    fields = Fields(raw, path, _FIELDS, IGNORED)
    min_context, max_context = _limits(fields)
    defaults, explicit = _defaults(fields)
    return {
        "name": fields.title("name"),
        "base_prompt": _prompt(fields),
        "needs": _needs(fields),
        "min_context": min_context,
        "max_context": max_context,
        "defaults": defaults,
        "given": explicit,
        "model": _model(fields),
        "fallback_models": fields.unique_list("fallback_models", require_identifier, MAX_FALLBACKS),
        "tools": fields.unique_list("tools", require_identifier),
        "terminal_restrictions": shallow(
            fields.path("terminal_restrictions"), fields.value("terminal_restrictions")
        ),
        "criteria": shallow(fields.path("criteria"), fields.value("criteria")),
        "tone": fields.text("tone"),
        "domain_knowledge": fields.list_of("domain_knowledge", text_item),
    }


def updated(before: Role, updates: object, path: str = "updates") -> Role:
    """Return the normal form of a role after `updates`.

    :param updates: fields in either spelling; null resets a field to its default. Needs and
        defaults that are not named are unchanged.
    :raises InvalidInput: `updates` are not valid.
    """
    fields = Fields(updates, path, _FIELDS, IGNORED)
    keep_name(fields, before)
    flat = _flat(before)
    nested = [
        (_nested(fields, "needs", {name: ("needs_" + name,) for name in NEEDS}), "needs_"),
        (_nested(fields, "limits", {"min_context": (), "max_context": ()}), ""),
        (
            _nested(fields, "defaults", {name: ("default_" + name,) for name in DEFAULTS}),
            "default_",
        ),
    ]
    outer = [name for name in fields.names() if name not in ("needs", "limits", "defaults")]
    places = [(fields, name, name) for name in outer]
    for inner, prefix in nested:
        places += [(inner, name, prefix + name) for name in inner.names() + inner.blank]
    for source, name, target in places + [(fields, name, name) for name in fields.blank]:
        flat[target] = source.value(name)
    return role(flat, path)


def keep_name(fields: Fields, before: Named) -> None:
    """Raise InvalidInput if an update changes the name, by which other definitions refer to it."""
    name = fields.value("name", before["name"])
    if name != before["name"]:
        hint = "Names cannot be changed; create another definition with that name"
        raise InvalidInput(fields.path("name"), name, "differs from the stored name", hint)


def _flat(normal: Role) -> dict[str, Any]:
    """Return a normal form with its needs and its explicit defaults at the top level."""
    flat = {name: value for name, value in normal.items()
            if name not in ("needs", "defaults", "given")}
    flat.update(("needs_" + name, needed) for name, needed in normal["needs"].items())
    flat.update(("default_" + name, normal["defaults"][name]) for name in normal["given"])
    return flat


def may_change_definitions(role: Role) -> bool:
    """Return whether the role may create, change and delete roles and orchestrations."""
    return META in role["tools"]


def _prompt(fields: Fields) -> str:
    prompt = fields.text("base_prompt")
    if prompt is None:
        hint = "Describe in base_prompt what the role has to do"
        raise InvalidInput(fields.path("base_prompt"), None, "is missing", hint)
    return prompt


def _model(fields: Fields) -> Optional[str]:
    value = fields.value("model")
    return None if value is None else require_identifier(fields.path("model"), value)


def _needs(fields: Fields) -> dict[str, bool]:
    nested = _nested(fields, "needs", {name: ("needs_" + name,) for name in NEEDS})
    needs = {}
    for name in NEEDS:
        source, field = _locate(fields, "needs_" + name, nested, name)
        needs[name] = source.boolean(field, False)
    return needs


def _limits(fields: Fields) -> tuple[Optional[int], Optional[int]]:
    nested = _nested(fields, "limits", {"min_context": (), "max_context": ()})
    limits = []
    for name in ("min_context", "max_context"):
        source, field = _locate(fields, name, nested, name)
        limits.append(source.integer(field, None, 1, MAX_TOKENS))
    minimum, maximum = limits
    if minimum is not None and maximum is not None and minimum > maximum:
        hint = "Set min_context no greater than max_context"
        raise InvalidInput(
            fields.path("min_context"), minimum, "is greater than max_context %d" % maximum, hint
        )
    return minimum, maximum


def _defaults(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    """Return (the defaults, the names of those that were set explicitly)."""
    nested = _nested(fields, "defaults", {name: ("default_" + name,) for name in DEFAULTS})
    defaults: dict[str, Any] = {}
    explicit: list[str] = []
    for name in DEFAULTS:
        source, field = _locate(fields, "default_" + name, nested, name)
        defaults[name] = _hyperparameter(source, field, name)
        if source.has(field):
            explicit.append(name)
    if fields.has("given"):
        # A normal form lists its explicit defaults itself.
        explicit = fields.unique_list("given", _default_name)
    return defaults, [name for name in DEFAULTS if name in explicit]


def _hyperparameter(source: Fields, field: str, name: str) -> Any:
    default = DEFAULTS[name]
    if name == "max_tokens":
        return source.integer(field, default, 1, MAX_TOKENS)
    if name == "seed":
        return source.integer(field, default, -(2**63), 2**63 - 1)
    if name == "stop":
        return _stop(source, field)
    if name == "response_format":
        return _response_format(source, field)
    minimum, maximum = {"temperature": (0, 2), "top_p": (0, 1)}.get(name, (-2, 2))
    return source.number(field, default, minimum, maximum)


def _stop(source: Fields, field: str) -> Union[str, list[str], None]:
    value = source.value(field)
    if value is None or (isinstance(value, str) and value):
        return value
    return source.list_of(field, _stop_item, MAX_STOPS)


def _stop_item(path: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(path, value, "must be text", "Write the text at which the model stops")
    return value


def _response_format(source: Fields, field: str) -> Optional[dict[str, Any]]:
    value = source.value(field)
    if isinstance(value, str):
        # The guide's short form of the providers' object.
        value = {"type": value}
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        hint = "Use json_object, or an object such as {type: json_object}"
        raise InvalidInput(source.path(field), value, "is not a response format", hint)
    return shallow(source.path(field), value)


def _default_name(path: str, value: object) -> str:
    if not isinstance(value, str) or value not in DEFAULTS:
        raise InvalidInput(
            path, value, "is not a hyperparameter", "Use some of " + ", ".join(DEFAULTS)
        )
    return value


def _nested(fields: Fields, name: str, allowed: Allowed) -> Fields:
    """Return the Fields of the object under `name`, or of an empty one if it is missing."""
    return Fields(fields.mapping(name) or {}, fields.path(name), allowed, parent_style=fields.style)


def _locate(fields: Fields, outer: str, nested: Fields, inner: str) -> tuple[Fields, str]:
    """Find a field that may be at the top level or in a nested object.

    :returns: (the Fields that have it, its name there).
    :raises InvalidInput: it is in both places.
    """
    if not fields.has(outer):
        return nested, inner
    if nested.has(inner):
        hint = "Use %s or %s, not both" % (fields.path(outer), nested.path(inner))
        raise InvalidInput(fields.path(outer), fields.value(outer), "is a duplicate", hint)
    return fields, outer
