"""Which outputs of agents and models are accepted, and how they are matched to a JSON schema."""

import re
import sys
from typing import Any, Optional
from urllib.parse import unquote

from synthralos.calls import limit_messages
from synthralos.core import failures, json_extract
from synthralos.core.errors import InvalidInput

# Keywords of a JSON schema: those with schemas under names chosen by callers, and those with data.
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "definitions", "dependencies")
_DATA = ("enum", "default")


def accept_output(
    output: Any, schema: Optional[dict[str, Any]] = None
) -> tuple[Any, Optional[failures.Failure]]:
    """Return (the output to hand on, None), or (None, the Failure of an output that is not good).

    An output is handed on as it came, except for JSON in reasoning tags, a fence or words, which
    is handed on parsed. An output is only searched for JSON if there is a schema, and never for
    the words of a failure: only one that is a framework's message and nothing else is a failure.
    """
    if output is None or (isinstance(output, str) and not output.strip()):
        return None, failures.make_failure("blank_output", "the agent's output is blank", 200)
    if limit_messages.is_limit_message(output):
        message = "the agent ran into a limit: %s" % " ".join(output.split())
        return None, failures.make_failure("infinite_loop", message, 200)
    if schema is None:
        return output, None
    value, mismatch = match_schema(output, schema)
    if mismatch is not None:
        return None, failures.make_failure("schema_mismatch", mismatch, 200)
    is_as_it_came = not isinstance(output, str) or json_extract.is_json(output)
    return (output if is_as_it_came else value), None


def match_schema(
    output: Any, schema: dict[str, Any], prefer_json: bool = False
) -> tuple[Any, Optional[str]]:
    """Return (the value of an output that matches the schema, None), or (None, the mismatch).

    That is the output itself, or the last value of the JSON in a text that matches.

    :param prefer_json: whether JSON in a text takes precedence over the text itself.
    """
    values = json_extract.find_values(output) if isinstance(output, str) else []
    candidates = values[::-1] + [output] if prefer_json else [output] + values[::-1]
    for value in candidates:
        if _schema_error(value, schema) is None:
            return value, None
    return None, _schema_error(values[-1] if values else output, schema)


def require_valid_schema(schema: Any, field: str = "context.expected_schema") -> None:
    """Raise InvalidInput if `schema` is not a JSON schema, or refers to anything outside itself."""
    import jsonschema

    if not isinstance(schema, dict):
        raise InvalidInput(field, schema, "is not an object", "Give a JSON schema of draft 4")
    for ref in _values_of("$ref", schema):
        # jsonschema would fetch it from any address that the caller chose.
        if not _resolves(ref, schema):
            raise InvalidInput(
                field, ref, "does not refer to a part of the schema", "Use #/definitions/..."
            )
    try:
        jsonschema.Draft4Validator.check_schema(schema)
        for pattern in _values_of("pattern", schema):
            re.compile(pattern)
    except (jsonschema.SchemaError, re.error, TypeError) as error:
        error_message = getattr(error, "message", str(error))
        reason = "is not a JSON schema (%s)" % error_message
        raise InvalidInput(field, schema, reason, "Give one of draft 4") from error


def _values_of(name: str, schema: Any) -> list[str]:
    """Return every text under the key `name` in a schema, at any depth."""
    values: list[str] = []
    level = [schema]
    while level:
        item = level.pop()
        if isinstance(item, dict):
            if isinstance(item.get(name), str):
                values.append(item[name])
            level.extend(item.values())
        elif isinstance(item, list):
            level.extend(item)
    return values


def _resolves(ref: str, schema: dict[str, Any]) -> bool:
    if ref == "#":
        return True
    if not ref.startswith("#/"):
        return False
    node: Any = schema
    for part in ref[2:].split("/"):
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return isinstance(node, dict)


def _without_ids(schema: Any) -> Any:
    """Return `schema` without the `id` of any part of it.

    An `id` changes the base of `#/definitions/...`: jsonschema would fetch them from there.
    """
    if isinstance(schema, list):
        return [_without_ids(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, dict):
            cleaned[key] = {name: _without_ids(subschema) for name, subschema in value.items()}
        elif key in _DATA:
            cleaned[key] = value
        elif key != "id" or not isinstance(value, str):
            cleaned[key] = _without_ids(value)
    return cleaned


def _schema_error(value: Any, schema: dict[str, Any]) -> Optional[str]:
    """Return how `value` violates the schema, or None."""
    import jsonschema

    try:
        checker = jsonschema.Draft4Validator(_without_ids(schema))
        errors = list(checker.iter_errors(value))
    except tuple([RecursionError] + _reference_errors()):
        return "the schema refers to itself endlessly"
    if not errors:
        return None
    first = min(errors, key=lambda error: list(map(str, error.path)))
    path = "/".join(str(part) for part in first.path) or "the output"
    return "%s: %s" % (path, first.message)


def _reference_errors() -> list[type[Exception]]:
    """The exceptions by which jsonschema says that it cannot follow a reference.

    Up to 4.17 it is one of its own. Since 4.18 that is deprecated and to be removed, and what it
    raises is one of the package `referencing` as well.
    """
    import jsonschema

    errors: list[type[Exception]] = []
    # Not by its name: since 4.18 that only warns, or fails.
    if "RefResolutionError" in vars(jsonschema):
        errors.append(vars(jsonschema)["RefResolutionError"])
    # Where jsonschema uses it, it has imported it.
    referencing = sys.modules.get("referencing.exceptions")
    if referencing is not None:
        errors.append(referencing.Unresolvable)
    return errors
