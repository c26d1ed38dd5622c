"""Read the pack's metadata as StackStorm does: the YAML files at the top of each folder."""
from __future__ import annotations

import pathlib
from typing import Any

import yaml

# The C parser is ten times as fast, and reads the same documents.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PACK = pathlib.Path(__file__).resolve().parent.parent.parent


def read(path: str | pathlib.Path) -> Any:
    """The one document of a YAML file of the pack."""
    return yaml.load((PACK / path).read_text(encoding="utf-8"), Loader=_LOADER)


def documents(kind: str) -> list[tuple[str, Any]]:
    """[(path, document)] of the folder `kind`, by file name."""
    return [
        (str(path.relative_to(PACK)), read(path)) for path in sorted((PACK / kind).glob("*.yaml"))
    ]


def outputs(action: dict[str, Any]) -> list[str]:
    """The names of a workflow's outputs, in its order; [] of any other action."""
    if action["runner_type"] != "orquesta":
        return []
    workflow = read("actions/" + action["entry_point"])
    return [name for entry in workflow.get("output") or [] for name in entry]


def kind_of(schema: dict[str, Any]) -> str:
    """A schema's type in words, such as `array of string`."""
    if "type" not in schema and schema.get("anyOf"):
        return " or ".join(kind_of(alternative) for alternative in schema["anyOf"])
    declared = schema.get("type", "any")
    kind = " or ".join(declared) if isinstance(declared, list) else str(declared)
    inner = schema.get("items")
    if kind == "array" and isinstance(inner, dict) and inner.get("type"):
        return "array of %s" % inner["type"]
    return kind
