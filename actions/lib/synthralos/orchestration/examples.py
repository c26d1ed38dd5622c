"""The pack's example orchestrations.

Each is a file with orchestrations, the roles that they need, and an input to try.
"""

import json
import os

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import definition_service, definition_store, orchestration_schema
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE

SUFFIX = ".json"
# At the top of the pack, where people look for it.
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 4, "examples")


def names(folder=FOLDER):
    """Return the sorted names of the examples."""
    return sorted(
        name[:-len(SUFFIX)] for name in os.listdir(folder) if name.endswith(SUFFIX)
    )


def read(name, folder=FOLDER):
    """Return an example as it is written: {roles, orchestrations, input}.

    :raises InvalidInput: there is no example of that name.
    """
    available = names(folder)
    if name not in available:
        raise InvalidInput(
            "names", name, "is not an example", "Use some of " + ", ".join(available)
        )
    with open(os.path.join(folder, name + SUFFIX), encoding="utf-8") as file:
        return json.load(file)


def load(env, actor, requested=None, llm=None, overwrite=False, folder=FOLDER):
    """Create the roles and orchestrations of examples that do not exist yet.

    :param requested: names of examples; None is all of them.
    :param llm: the model to set in the roles; None is the first one that fits each role.
    :param overwrite: replace existing definitions by the example's, as a new version.
    :returns: [{kind, name, example, created, changed}].
    """
    loaded = {}
    for name in requested or names(folder):
        example = read(name, folder)
        raw_roles = [dict(role, model=llm) if llm else role for role in example["roles"]]
        definitions = [(ROLE, orchestration_schema.role(role)) for role in raw_roles]
        definitions += [
            (ORCHESTRATION, orchestration_schema.orchestration(orchestration))
            for orchestration in example["orchestrations"]
        ]
        for kind, normal in definitions:
            # Examples share roles.
            if (kind, normal["name"]) not in loaded:
                loaded[kind, normal["name"]] = _put(env, kind, normal, actor, name, overwrite)
    return list(loaded.values())


def _put(env, kind, normal, actor, example, overwrite):
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
