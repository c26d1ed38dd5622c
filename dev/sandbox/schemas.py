"""The smallest JSON value that matches a schema: the answer of a model that was asked for JSON.

Numbers are as large as allowed, so that scores pass; booleans are true.
"""
import json

# The pack asks any provider for JSON with these words; the schema follows.
SCHEMA_MARK = "one JSON value that matches this JSON Schema, and with nothing else:"
_MAX_DEPTH = 20


def answer(texts, form=None):
    """Return the JSON text of a value that matches the requested schema.

    None if no schema is requested, or it has a keyword that `_smallest` does not support.

    :param texts: the texts of the request, which may contain the schema.
    :param form: its `response_format`, which may contain it.
    """
    schema = _of_format(form)
    if schema is None:
        candidates = [_of_text(text) for text in texts]
        schema = next((candidate for candidate in candidates if candidate is not None), None)
    return None if schema is None else _matching(schema)


def _of_format(form):
    """Return the schema of OpenAI's structured outputs, or None."""
    json_schema = form.get("json_schema") if isinstance(form, dict) else None
    schema = json_schema.get("schema") if isinstance(json_schema, dict) else None
    return schema if isinstance(schema, dict) else None


def _of_text(text):
    _, mark, after = text.rpartition(SCHEMA_MARK)
    try:
        schema, _ = json.JSONDecoder().raw_decode(after.lstrip()) if mark else (None, 0)
    except (ValueError, RecursionError):
        return None
    return schema if isinstance(schema, dict) else None


def _matching(schema):
    # Heavy, and needed by few calls.
    import jsonschema

    try:
        value = _smallest(schema, schema, "answer", 0)
        jsonschema.Draft4Validator(schema).validate(value)
    except (jsonschema.ValidationError, jsonschema.SchemaError, jsonschema.RefResolutionError,
            AttributeError, LookupError, TypeError, RecursionError):
        return None
    return json.dumps(value)


def _smallest(schema, root, name, depth):
    """Return the smallest value.

    :param name: of the field; it is the value of a string.
    """
    if depth > _MAX_DEPTH:
        raise LookupError("the schema is nested too deeply")
    if "$ref" in schema:
        return _smallest(_resolve_reference(root, schema["$ref"]), root, name, depth + 1)
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _smallest(schema[choice][0], root, name, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        fields = schema.get("properties", {})
        return {
            field: _smallest(fields.get(field, {}), root, field, depth + 1)
            for field in schema.get("required", [])
        }
    if kind == "array":
        item = schema.get("items", {})
        return [_smallest(item, root, name, depth + 1)] * schema.get("minItems", 0)
    if kind == "string":
        text = name[:schema.get("maxLength", len(name))]
        return text.ljust(schema.get("minLength", 0), ".")
    if kind in ("number", "integer"):
        return schema.get("maximum", schema.get("minimum", 0))
    return {"boolean": True, "null": None}[kind]


def _resolve_reference(root, reference):
    node = root
    for part in reference.lstrip("#/").split("/"):
        node = node[part]
    return node
