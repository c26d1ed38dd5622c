"""Checks that only read files. Each takes the pack's folder and returns its errors, a line each.

They are the checks of StackStorm-Exchange/ci and StackStorm/st2sdk.
"""
import json
import re
import struct

import yaml

from exchange.files import files

LICENCE = ("Apache License", "Version 2.0", "www.apache.org/licenses/LICENSE-2.0")
ICON = 64


def metadata(pack):
    """pack.yaml is there, with what the Exchange's index needs of it."""
    path = pack / "pack.yaml"
    if not path.is_file():
        return ["pack.yaml is missing"]
    about = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    errors = [
        "pack.yaml: %s is missing" % name
        for name in ("name", "description", "version", "author") if not about.get(name)
    ]
    if not re.match(r"[a-z0-9_]+\Z", str(about.get("ref") or about.get("name"))):
        errors.append("pack.yaml: ref, or name if ref is missing, must match [a-z0-9_]+")
    if about.get("version") and version(about["version"]) is None:
        errors.append("pack.yaml: version %r must be semantic, such as 1.2.3" % about["version"])
    # Without "3" the Exchange runs the checks and ignores failures.
    if "3" not in (about.get("python_versions") or []):
        errors.append('pack.yaml: python_versions must contain "3"')
    return errors


def compiles(pack):
    """Every Python file is syntax of the Python that runs this."""
    return _each(files(pack, ".py"), lambda path: compile(
        (pack / path).read_bytes(), str(path), "exec", dont_inherit=True
    ), SyntaxError)


def licence(pack):
    """LICENSE is the Apache License 2.0."""
    path = pack / "LICENSE"
    if not path.is_file():
        return ["LICENSE is missing"]
    text = path.read_text(encoding="utf-8")
    return ["LICENSE has no %r" % words for words in LICENCE if words not in text]


def syntax(pack):
    """Every YAML and JSON file holds one document."""
    errors = _each(
        files(pack, ".yaml", ".yml"), lambda path: yaml.safe_load((pack / path).read_bytes()),
        yaml.YAMLError, UnicodeDecodeError,
    )
    return errors + _each(
        files(pack, ".json"), lambda path: json.loads((pack / path).read_bytes()), ValueError
    )


def example_config(pack):
    """There is exactly one example configuration, at the top, and a schema to hold it against.

    With none the Exchange checks nothing, with two its script fails. Whether it fits the schema is
    checked by tests/contract.
    """
    names = sorted(path.name for path in pack.glob("*.yaml.example"))
    errors = [] if len(names) == 1 else ["expected one *.yaml.example (got %s)" % names]
    if not (pack / "config.schema.yaml").is_file():
        errors.append("config.schema.yaml is missing")
    return errors


def icon(pack):
    """icon.png is a square PNG from which the index can make its 64 x 64 pixels."""
    path = pack / "icon.png"
    head = path.read_bytes()[:24] if path.is_file() else b""
    if head[:8] != b"\x89PNG\r\n\x1a\n":
        return ["icon.png is missing or not a PNG"]
    width, height = struct.unpack(">II", head[16:24])
    if width != height or width < ICON:
        return ["icon.png is %d x %d; it must be a square of at least %d" % (width, height, ICON)]
    return []


def version(text):
    """Return a semantic version as a sortable tuple, or None if `text` is not one.

    A release counts for more than its pre-releases (semver.org, 11).
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)(?:-([\da-z.-]+))?\Z", str(text), re.I)
    if match is None:
        return None
    parts = [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in (match.group(4) or "").split(".") if part
    ]
    return tuple(int(n) for n in match.groups()[:3]) + (not parts, parts)


def _each(paths, read, *errors):
    wrong = []
    for path in paths:
        try:
            read(path)
        except errors as error:
            wrong.append("%s: %s" % (path, " ".join(str(error).split())))
    return wrong
