"""The entries of the configuration, each with its full name."""
import json

from reference.markdown import code, table, text
from reference.metadata import kind_of, read


def lines():
    """The section's lines."""
    section = ["## Configuration", ""]
    for name, spec in read("config.schema.yaml").items():
        section += ["### Configuration: %s" % name, "", text(spec["description"]), ""]
        rows = [_row(*entry) for entry in _entries(name, spec)]
        section += table(("entry", "type", "meaning"), rows)
    return section


def _entries(name, spec):
    """Return [(name, spec)] of the entries below an entry, or of the entry itself if it has none.

    `[]` stands for each item of a list, `<name>` for a key that is not fixed.
    """
    children = []
    for part, inner in (spec.get("properties") or {}).items():
        children.append(("%s.%s" % (name, part), inner))
    if isinstance(spec.get("items"), dict) and spec["items"].get("properties"):
        children.append((name + "[]", spec["items"]))
    if isinstance(spec.get("additionalProperties"), dict):
        children.append((name + ".<name>", spec["additionalProperties"]))
    if not children:
        return [(name, spec)]
    own = [] if "." not in name or not spec.get("description") else [(name, spec)]
    return own + [entry for pair in children for entry in _entries(*pair)]


def _row(name, spec):
    meaning = [text(spec.get("description"))]
    if spec.get("enum"):
        meaning.append("One of %s." % ", ".join(code(value) for value in spec["enum"]))
    if "minimum" in spec and "maximum" in spec:
        meaning.append("%s to %s." % (spec["minimum"], spec["maximum"]))
    elif "minimum" in spec:
        meaning.append("%s or more." % spec["minimum"])
    if "default" in spec:
        default = spec["default"]
        default_text = default if isinstance(default, str) and default else json.dumps(default)
        meaning.append("Default: %s." % code(default_text))
    if spec.get("secret"):
        meaning.append("Secret.")
    label = code(name) + (", required" if spec.get("required") is True else "")
    return label, kind_of(spec), " ".join(word for word in meaning if word)
