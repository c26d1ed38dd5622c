"""The entries of the configuration, each under its whole name."""
import json

from reference.markdown import code, table, text
from reference.metadata import kind_of, read


def lines():
    """The section's lines."""
    shown = ["## Configuration", ""]
    for name, spec in read("config.schema.yaml").items():
        shown += ["### Configuration: %s" % name, "", text(spec["description"]), ""]
        rows = [_row(*entry) for entry in _entries(name, spec)]
        shown += table(("entry", "type", "meaning"), rows)
    return shown


def _entries(name, spec):
    """(name, spec, required) of what stands below an entry, or of the entry itself if nothing does.

    `[]` stands for each item of a list, `<name>` for a key that is not fixed.
    """
    below = []
    for part, inner in (spec.get("properties") or {}).items():
        below.append(("%s.%s" % (name, part), inner))
    if isinstance(spec.get("items"), dict) and spec["items"].get("properties"):
        below.append((name + "[]", spec["items"]))
    if isinstance(spec.get("additionalProperties"), dict):
        below.append((name + ".<name>", spec["additionalProperties"]))
    if not below:
        return [(name, spec)]
    own = [] if "." not in name or not spec.get("description") else [(name, spec)]
    return own + [entry for pair in below for entry in _entries(*pair)]


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
        shown = default if isinstance(default, str) and default else json.dumps(default)
        meaning.append("Default: %s." % code(shown))
    if spec.get("secret"):
        meaning.append("Secret.")
    told = code(name) + (", required" if spec.get("required") is True else "")
    return told, kind_of(spec), " ".join(word for word in meaning if word)
