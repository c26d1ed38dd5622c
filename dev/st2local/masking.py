"""Masks parameters that metadata marks as secret, as StackStorm's API and command line do."""
import copy

MASK = "********"


def masked(document, action):
    """Return a copy of an execution with its secret parameters masked.

    :param action: the action's metadata, or None if it no longer exists.
    """
    document = copy.deepcopy(document)
    if action is None:
        return document
    _mask(document.get("parameters") or {}, action.specs)
    _mask((document.get("liveaction") or {}).get("parameters") or {}, action.specs)
    properties = (action.output_schema or {}).get("properties")
    key = {"python-script": "result", "orquesta": "output"}.get(action.runner)
    result = document.get("result")
    if properties and isinstance(result, dict) and isinstance(result.get(key), dict):
        _mask(result[key], properties)
    return document


def _mask(values, specs):
    for name, value in values.items():
        spec = specs.get(name) or {}
        if spec.get("secret") and value not in (None, ""):
            values[name] = MASK
        elif isinstance(value, dict) and isinstance(spec.get("properties"), dict):
            _mask(value, spec["properties"])
