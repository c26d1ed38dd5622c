"""Validation by schema as StackStorm does it: draft 4, with draft 3's boolean `required`."""
import copy

from st2local.errors import InvalidInput, ValidationError
from st2local.shims import import_jsonschema

_ANY = {"anyOf": [{"type": kind} for kind in (
    "array", "boolean", "integer", "number", "object", "string")]}
_validator = None

# At import time: the import hides a module for a moment, so no other thread may run.
jsonschema = import_jsonschema()


def check_parameters(action, parameters):
    """Check the parameters of a request.

    :raises ValidationError: if they do not match the action's schema.
    :raises InvalidInput: if they override an immutable parameter.
    """
    specs = action.specs
    if specs:
        schema = {
            "type": "object",
            "properties": {name: spec or _ANY for name, spec in specs.items()},
            "additionalProperties": False,
        }
        check(parameters, schema)
    fixed = [
        name for schema in (action.parameters, action.runner_parameters)
        for name, spec in schema.items() if (spec or {}).get("immutable")
    ]
    overridden = [name for name in parameters if name in fixed]
    if overridden:
        raise InvalidInput("Override of immutable parameter(s) %s is unsupported." % overridden)


def check(value, schema):
    """Return the value with defaults.

    :raises ValidationError: if it does not match; `.path` leads to the wrong part.
    """
    value, schema = copy.deepcopy(value), _nullable(schema)
    _add_defaults(value, schema)
    errors = sorted(
        _class()(schema).iter_errors(value), key=lambda error: list(map(str, error.path)))
    if errors:
        refused = ValidationError(errors[0].message)
        refused.path = list(errors[0].path)
        raise refused
    return value


def _class():
    global _validator
    if _validator is None:
        from jsonschema import _validators

        rules = dict(jsonschema.Draft4Validator.VALIDATORS)
        rules.pop("required", None)
        rules["properties"] = _validators.properties_draft3
        _validator = jsonschema.validators.create(
            meta_schema=jsonschema.Draft4Validator.META_SCHEMA, validators=rules
        )
    return _validator


def _nullable(schema):
    """Return the schema with null allowed for optional values without a default."""
    schema = copy.deepcopy(schema)
    for spec in (schema.get("properties") or {}).values():
        free = "default" in spec or not spec.get("required", False)
        if free and spec.get("default") is None:
            _allow_null(spec)
        items = spec.get("items")
        if _is(spec, "array") and isinstance(items, dict) and items.get("properties"):
            spec["items"] = _nullable(items)
        if _is(spec, "object") and spec.get("properties"):
            spec.update(_nullable(spec))
    return schema


def _allow_null(spec):
    for several in ("anyOf", "oneOf"):
        if several in spec:
            spec[several] = spec[several] + [{"type": "null"}]
            return
    kind = spec.get("type", "string")
    kinds = kind if isinstance(kind, list) else [kind]
    if "null" not in kinds:
        spec["type"] = kinds + ["null"]


def _is(spec, kind):
    kinds = spec.get("type")
    return kind == kinds or (isinstance(kinds, list) and kind in kinds)


def _add_defaults(value, schema):
    if isinstance(value, dict):
        for name, spec in (schema.get("properties") or {}).items():
            if "default" in spec and value.get(name) is None:
                value[name] = copy.deepcopy(spec["default"])
            if value.get(name) is not None:
                _add_defaults(value[name], spec)
    elif isinstance(value, list):
        items = schema.get("items") or []
        if isinstance(items, dict):
            items = [items] * len(value)
        for index, spec in enumerate(items[:len(value)]):
            if value[index] is None and "default" in spec:
                value[index] = copy.deepcopy(spec["default"])
            if value[index] is not None:
                _add_defaults(value[index], spec)
