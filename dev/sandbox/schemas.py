"""The least JSON value that matches a schema: what a model says that was asked for JSON.

Numbers are as great as they may be, so that what is scored passes; booleans are true.
"""
import json

# With these words the pack asks for JSON, whatever the provider; the schema follows.
SCHEMA_MARK = "one JSON value that matches this JSON Schema, and with nothing else:"
_MAX_DEPTH = 20


def answer(texts, form=None):
    """The JSON text of a value that matches the schema that is asked for, or None: none is, or it
    asks for what `_smallest` does not know.

    :param texts: the texts of the request, in which the schema may stand.
    :param form: its `response_format`, which may hold it.
    """
    schema = _of_format(form)
    if schema is None:
        candidates = [_of_text(text) for text in texts]
        schema = next((candidate for candidate in candidates if candidate is not None), None)
    return None if schema is None else _matching(schema)


def _of_format(form):
    """The schema of OpenAI's structured outputs."""
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
    # Few calls need it.
    import jsonschema

    try:
        value = _smallest(schema, schema, "answer", 0)
        jsonschema.Draft4Validator(schema).validate(value)
    except (jsonschema.ValidationError, jsonschema.SchemaError, jsonschema.RefResolutionError,
            AttributeError, LookupError, TypeError, RecursionError):
        return None
    return json.dumps(value)


def _smallest(schema, root, name, depth):
    """:param name: of the field, which is what a text says."""
    if depth > _MAX_DEPTH:
        raise LookupError("it has no end")
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
