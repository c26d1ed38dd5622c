"""A pack's config: values from the datastore, defaults from the schema, validated."""
import copy
import re

from st2local.errors import ConfigError, ValidationError
from st2local.rendering import has_template, render_text
from st2local.validation import check


def check_config(pack, values, source):
    """Check the config against config.schema.yaml.

    :param source: where the values are from, for the message.
    :raises ConfigError: if it does not match.
    """
    schema = pack.config_schema
    if not isinstance(values, dict):
        raise ConfigError("%s: the config must be a mapping" % source)
    if not schema:
        return
    try:
        check(values, {"type": "object", "properties": schema})
    except ValidationError as error:
        key_path = ".".join(map(str, error.path))
        raise ConfigError("%s: %s%s (pack %s)" % (
            source, key_path + ": " if key_path else "", error, pack.ref)) from None
    for name, value in values.items():
        if (schema.get(name) or {}).get("secret") and "decrypt_kv" in str(value):
            raise ConfigError(
                '%s: %s: values marked "secret: true" in the schema are decrypted automatically;'
                " remove decrypt_kv" % (source, name)
            )


def resolve(pack, values, datastore):
    """Return the config as actions see it.

    :raises ConfigError: if the datastore lacks a secret.
    """
    config = copy.deepcopy(values)
    schema = pack.config_schema
    _from_datastore(schema, config, datastore, [])
    _defaults(schema, config)
    return config


def _from_datastore(schema, config, datastore, path):
    pairs = list(config.items() if isinstance(config, dict) else enumerate(config))
    for key, value in pairs:
        spec = _member(schema, key)
        here = path + [str(key)]
        if isinstance(value, dict):
            _from_datastore(_properties(spec, value), value, datastore, here)
        elif isinstance(value, list):
            _from_datastore(_items(spec, value), value, datastore, here)
        elif has_template(value):
            config[key] = _value(value, spec, datastore, ".".join(here))


def _value(template, spec, datastore, key_path):
    try:
        value = render_text(template, datastore)
        if not value:
            return None
        return datastore.encrypted_text(value) if spec.get("secret") else value
    except Exception as error:
        # Jinja's errors and the datastore's alike: the reader needs the config's key.
        raise ConfigError(
            'Failed to render dynamic configuration value for key "%s" with value "%s": %s'
            % (key_path, template, error)
        ) from None


def _defaults(schema, config):
    pairs = schema.items() if isinstance(schema, dict) else enumerate(schema)
    for key, spec in pairs:
        spec = spec or {}
        exists = key in config if isinstance(config, dict) else key < len(config)
        if not exists and isinstance(config, list):
            continue
        if not exists and "default" in spec:
            config[key] = copy.deepcopy(spec["default"])
        value = config.get(key) if isinstance(config, dict) else config[key]
        if spec.get("type") == "object" and any(
                spec.get(word) for word in ("properties", "patternProperties",
                                            "additionalProperties")):
            if not value:
                value = config[key] = {}
            _defaults(_properties(spec, value), value)
        elif spec.get("type") == "array" and (spec.get("items") or spec.get("additionalItems")):
            if not value:
                value = config[key] = []
            _defaults(_items(spec, value), value)


def _member(schema, key):
    if isinstance(schema, dict):
        return schema.get(key) or {}
    return (schema[key] or {}) if key < len(schema) else {}


def _properties(spec, value):
    """Return {key: schema}: from properties, else the patterns, else additionalProperties."""
    properties = spec.get("properties") or {}
    schema = {key: {} for key in value}
    schema.update(properties)
    for key in value:
        if key in properties:
            continue
        matching = [
            member for pattern, member in (spec.get("patternProperties") or {}).items()
            if re.search(pattern, str(key))
        ]
        if matching:
            schema[key] = {name: word for member in matching for name, word in member.items()}
        elif isinstance(spec.get("additionalProperties"), dict):
            schema[key] = spec["additionalProperties"]
    return schema


def _items(spec, value):
    items = spec.get("items") or []
    if isinstance(items, dict):
        return [items] * len(value)
    more = spec.get("additionalItems")
    rest = max(0, len(value) - len(items))
    return list(items) + ([more] * rest if isinstance(more, dict) else [])
