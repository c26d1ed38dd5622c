"""The pack's example orchestrations.

Each is a file with orchestrations, the roles that they need, and an input to try.
"""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import definition_service, definition_store, orchestration_schema
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE, DefinitionKind, N, S

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

SUFFIX = ".json"
# At the top of the pack, where people look for it.
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 4, "examples")


class Example(TypedDict):
    """An example as it is written, not validated. `input`: to try its orchestrations with."""

    roles: list[dict[str, Any]]
    orchestrations: list[dict[str, Any]]
    input: Any


class LoadedDefinition(TypedDict):
    """What has become of a definition of an example. `kind`: role or orchestration; `changed`:
    whether an existing one was replaced.
    """

    kind: str
    name: str
    example: str
    created: bool
    changed: bool


def names(folder: str = FOLDER) -> list[str]:
    """Return the sorted names of the examples."""
    return sorted(
        name[:-len(SUFFIX)] for name in os.listdir(folder) if name.endswith(SUFFIX)
    )


def read(name: str, folder: str = FOLDER) -> Example:
    """Return an example as it is written.

    :raises InvalidInput: there is no example of that name.
    """
    available = names(folder)
    if name not in available:
        raise InvalidInput(
            "names", name, "is not an example", "Use some of " + ", ".join(available)
        )
    with open(os.path.join(folder, name + SUFFIX), encoding="utf-8") as file:
        example: Example = json.load(file)
    return example


def load(
    env: "Environment",
    actor: Optional[str],
    requested: Optional[Iterable[str]] = None,
    llm: Optional[str] = None,
    overwrite: bool = False,
    folder: str = FOLDER,
) -> list[LoadedDefinition]:
    """Create the roles and orchestrations of examples that do not exist yet.

    :param requested: names of examples; None is all of them.
    :param llm: the model to set in the roles; None is the first one that fits each role.
    :param overwrite: replace existing definitions by the example's, as a new version.
    """
    loaded: dict[tuple[str, str], LoadedDefinition] = {}

    def put(kind: DefinitionKind[N, S], normal: N, example: str) -> None:
        key = (kind.noun, normal["name"])
        # Examples share roles.
        if key not in loaded:
            loaded[key] = _put(env, kind, normal, actor, example, overwrite)

    for name in requested or names(folder):
        example = read(name, folder)
        raw_roles = [dict(role, model=llm) if llm else role for role in example["roles"]]
        roles = [orchestration_schema.role(role) for role in raw_roles]
        orchestrations = [
            orchestration_schema.orchestration(orchestration)
            for orchestration in example["orchestrations"]
        ]
        for role in roles:
            put(ROLE, role, name)
        for orchestration in orchestrations:
            put(ORCHESTRATION, orchestration, name)
    return list(loaded.values())


def _put(
    env: "Environment",
    kind: DefinitionKind[N, S],
    normal: N,
    actor: Optional[str],
    example: str,
    overwrite: bool,
) -> LoadedDefinition:
    existing, changed = definition_store.find(env.store, kind, normal["name"]), False
    if existing is None and kind is ROLE:
        definition_service.create_role(env, normal, actor)
    elif existing is None:
        definition_service.create_orchestration(env, normal, actor)
    elif overwrite:
        with definition_store.locked(env, kind, normal["name"]) as before:
            changed = definition_store.save_version(env, kind, before, normal, actor) is not before
    return {
        "kind": kind.noun, "name": normal["name"], "example": example,
        "created": existing is None, "changed": changed,
    }
