"""Definitions in the parameters of an action: an object, JSON text, or single fields."""

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

_HINT = "Give %s as an object, or definition as JSON, as base64:... where it has templates"


def read_definition(
    parameters: Mapping[str, Any], name: str, fields: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the object under `name`, or the one in the JSON text under `definition`.

    :param fields: names of parameters that override the object's own fields.
    :returns: {} when neither is present.
    :raises InvalidInput: both are present, or the text is not a JSON object.
    """
    definition, text = parameters.get(name) or {}, parameters.get("definition")
    if text is not None and text != "":
        if definition:
            raise InvalidInput(
                "definition", None, "cannot be combined with %s" % name, "Use one of them"
            )
        definition = _read(text, name)
    merged = dict(definition)
    merged.update(
        (field, parameters[field]) for field in fields if parameters.get(field) is not None
    )
    return merged


def require_name(parameters: Mapping[str, Any], alias: Optional[str] = None) -> str:
    """Return the name or id of a definition from the parameters.

    :param alias: another parameter for the same value, as in the orchestration guide.
    :raises InvalidInput: it is missing, or both parameters are present.
    """
    name = parameters.get("name")
    if alias is not None and parameters.get(alias) is not None:
        if name is not None:
            raise InvalidInput(
                alias, parameters[alias], "cannot be combined with name", "Use one of them"
            )
        name = parameters[alias]
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput("name", name, "is missing", "Give a name or an id")
    return name


def _read(text: Any, name: str) -> dict[str, Any]:
    try:
        definition = bounded_json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            "definition", text, "is not valid JSON (%s)" % error, _HINT % name
        ) from error
    if not isinstance(definition, dict):
        raise InvalidInput("definition", text, "is not a JSON object", _HINT % name)
    return definition
