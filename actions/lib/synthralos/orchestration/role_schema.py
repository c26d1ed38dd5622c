"""Roles: who answers a step, as people define them and as the pack keeps them.

A role in its normal form:

    {name, base_prompt,
     needs {vision, reasoning, coding, tools, json, uncensored, image_generation: booleans},
     min_context, max_context: tokens or null,
     defaults {temperature, max_tokens, top_p, frequency_penalty, presence_penalty, stop, seed,
               response_format}, given [which of these somebody gave],
     model: the name of a configured one or null, fallback_models [names], tools [names],
     terminal_restrictions, criteria: a JSON value or null, tone: text or null,
     domain_knowledge [texts]}
"""

from synthralos.config.settings import CAPABILITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import require_identifier
from synthralos.orchestration.field_reader import Fields, shallow, text_item

META = "meta"
NEEDS = CAPABILITIES
DEFAULTS = {
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
# What a role that was read has besides, so that it can be given back.
RECORD = ("id", "version", "versions", "created_at", "updated_at", "created_by", "updated_by")
_RECORD_CAMEL = ("createdAt", "updatedAt", "createdBy", "updatedBy")
IGNORED = RECORD + _RECORD_CAMEL
_FIELDS = {
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
# The guide has them at the top, too: needsCoding, defaultTemperature.
_FIELDS.update(("needs_" + name, ()) for name in NEEDS)
_FIELDS.update(("default_" + name, ()) for name in DEFAULTS)


def role(given, where="role"):
    """The normal form of a role; of a normal form, itself. InvalidInput names what is wrong in `given`.
    """
    fields = Fields(given, where, _FIELDS, IGNORED)
    limits = _limits(fields)
    defaults, gave = _defaults(fields)
    return {
        "name": fields.title("name"),
        "base_prompt": _prompt(fields),
        "needs": _needs(fields),
        "min_context": limits[0],
        "max_context": limits[1],
        "defaults": defaults,
        "given": gave,
        "model": _model(fields),
        "fallback_models": fields.unique_list("fallback_models", require_identifier, MAX_FALLBACKS),
        "tools": fields.unique_list("tools", require_identifier),
        "terminal_restrictions": shallow(
            fields.at("terminal_restrictions"), fields.value("terminal_restrictions")
        ),
        "criteria": shallow(fields.at("criteria"), fields.value("criteria")),
        "tone": fields.text("tone"),
        "domain_knowledge": fields.list_of("domain_knowledge", text_item),
    }


def updated(before, updates, where="updates"):
    """The normal form of a role after `updates`: fields as people give them; null is the default.

    Needs and defaults that are not named stay. InvalidInput names what is wrong in `updates`.
    """
    fields = Fields(updates, where, _FIELDS, IGNORED)
    keep_name(fields, before)
    flat = _flat(before)
    below = [
        (_below(fields, "needs", {name: ("needs_" + name,) for name in NEEDS}), "needs_"),
        (_below(fields, "limits", {"min_context": (), "max_context": ()}), ""),
        (_below(fields, "defaults", {name: ("default_" + name,) for name in DEFAULTS}), "default_"),
    ]
    outer = [name for name in fields.names() if name not in ("needs", "limits", "defaults")]
    places = [(fields, name, name) for name in outer]
    for inner, prefix in below:
        places += [(inner, name, prefix + name) for name in inner.names() + inner.blank]
    for source, name, target in places + [(fields, name, name) for name in fields.blank]:
        flat[target] = source.value(name)
    return role(flat, where)


def keep_name(fields, before):
    """InvalidInput when the fields of an update name it otherwise: others know it by its name."""
    name = fields.value("name", before["name"])
    if name != before["name"]:
        way_out = "A name stays; create another with that name"
        raise InvalidInput(fields.at("name"), name, "is not its name", way_out)


def _flat(normal):
    """A normal form with what stands in `needs` and `defaults` at the top; only what was given."""
    flat = {name: value for name, value in normal.items()
            if name not in ("needs", "defaults", "given")}
    flat.update(("needs_" + name, needed) for name, needed in normal["needs"].items())
    flat.update(("default_" + name, normal["defaults"][name]) for name in normal["given"])
    return flat


def may_change_definitions(role):
    """Whether the role may create, change and delete roles and orchestrations."""
    return META in role["tools"]


def _prompt(fields):
    prompt = fields.text("base_prompt")
    if prompt is None:
        way_out = "Say in base_prompt what the role is to do"
        raise InvalidInput(fields.at("base_prompt"), None, "is missing", way_out)
    return prompt


def _model(fields):
    value = fields.value("model")
    return None if value is None else require_identifier(fields.at("model"), value)


def _needs(fields):
    below = _below(fields, "needs", {name: ("needs_" + name,) for name in NEEDS})
    found = {}
    for name in NEEDS:
        source, field = _place(fields, "needs_" + name, below, name)
        found[name] = source.boolean(field, False)
    return found


def _limits(fields):
    below = _below(fields, "limits", {"min_context": (), "max_context": ()})
    found = []
    for name in ("min_context", "max_context"):
        source, field = _place(fields, name, below, name)
        found.append(source.integer(field, None, 1, MAX_TOKENS))
    least, most = found
    if least is not None and most is not None and least > most:
        way_out = "Give a smaller min_context than max_context"
        raise InvalidInput(
            fields.at("min_context"), least, "is above max_context %d" % most, way_out
        )
    return least, most


def _defaults(fields):
    """(the defaults, which of them were given)."""
    below = _below(fields, "defaults", {name: ("default_" + name,) for name in DEFAULTS})
    found, gave = {}, []
    for name in DEFAULTS:
        source, field = _place(fields, "default_" + name, below, name)
        found[name] = _hyperparameter(source, field, name)
        if source.has(field):
            gave.append(name)
    if fields.has("given"):
        # A normal form says itself which were given.
        gave = fields.unique_list("given", _known_default)
    return found, [name for name in DEFAULTS if name in gave]


def _hyperparameter(source, field, name):
    default = DEFAULTS[name]
    if name == "max_tokens":
        return source.integer(field, default, 1, MAX_TOKENS)
    if name == "seed":
        return source.integer(field, default, -(2**63), 2**63 - 1)
    if name == "stop":
        return _stop(source, field)
    if name == "response_format":
        return _response_format(source, field)
    least, most = {"temperature": (0, 2), "top_p": (0, 1)}.get(name, (-2, 2))
    return source.number(field, default, least, most)


def _stop(source, field):
    value = source.value(field)
    if value is None or (isinstance(value, str) and value):
        return value
    return source.list_of(field, _stop_item, MAX_STOPS)


def _stop_item(where, value):
    if not isinstance(value, str) or not value:
        raise InvalidInput(where, value, "is no text", "Give text at which the model is to stop")
    return value


def _response_format(source, field):
    value = source.value(field)
    if isinstance(value, str):
        # The guide's short form of what providers take.
        value = {"type": value}
    good = value is None or (isinstance(value, dict) and isinstance(value.get("type"), str))
    if not good:
        way_out = "Give json_object, or an object such as {type: json_object}"
        raise InvalidInput(source.at(field), value, "is no response format", way_out)
    return shallow(source.at(field), value)


def _known_default(where, value):
    if value not in DEFAULTS:
        raise InvalidInput(where, value, "is not known", "Use some of " + ", ".join(DEFAULTS))
    return value


def _below(fields, name, known):
    """The Fields of the object under `name`; of an empty one when it was not given."""
    return Fields(fields.mapping(name, {}), fields.at(name), known, around=fields.style)


def _place(fields, outer, below, inner):
    """(the Fields, the name there) of a field that may stand in two places."""
    if not fields.has(outer):
        return below, inner
    if below.has(inner):
        way_out = "Give %s or %s, not both" % (fields.at(outer), below.at(inner))
        raise InvalidInput(fields.at(outer), fields.value(outer), "is given twice", way_out)
    return fields, outer
