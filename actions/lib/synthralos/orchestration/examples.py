"""The pack's ready orchestrations: files that hold one, the roles it needs, and an input to try."""

import json
import os

from synthralos.core.errors import InvalidInput
from synthralos.orchestration import definition_service, definition_store, orchestration_schema
from synthralos.orchestration.definition_store import ORCHESTRATION, ROLE

SUFFIX = ".json"
# At the top of the pack, where people look for them.
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 4, "examples")


def names(folder=FOLDER):
    """The names of the examples, sorted."""
    return sorted(
        name[:-len(SUFFIX)] for name in os.listdir(folder) if name.endswith(SUFFIX)
    )


def read(name, folder=FOLDER):
    """{roles [role], orchestrations [orchestration], input} of an example, as people write it."""
    known = names(folder)
    if name not in known:
        raise InvalidInput("names", name, "is no example", "Use some of " + ", ".join(known))
    with open(os.path.join(folder, name + SUFFIX), encoding="utf-8") as file:
        return json.load(file)


def load(env, by, wanted=None, llm=None, overwrite=False, folder=FOLDER):
    """Creates what is not there yet: [{kind, name, example, created}].

    :param wanted: names of examples; all of them when None.
    :param llm: a model that is given to the roles, or None for the first one that fits.
    :param overwrite: whether what is there becomes as the example has it, as a further version.
    """
    done = {}
    for name in wanted or names(folder):
        example = read(name, folder)
        given = [dict(role, model=llm) if llm else role for role in example["roles"]]
        found = [(ROLE, orchestration_schema.role(role)) for role in given]
        found += [
            (ORCHESTRATION, orchestration_schema.orchestration(one))
            for one in example["orchestrations"]
        ]
        for kind, normal in found:
            # Several examples have roles in common.
            if (kind, normal["name"]) not in done:
                done[kind, normal["name"]] = _put(env, kind, normal, by, name, overwrite)
    return list(done.values())


def _put(env, kind, normal, by, example, overwrite):
    there, changed = definition_store.find(env.store, kind, normal["name"]), False
    if there is None and kind is ROLE:
        definition_service.create_role(env, normal, by)
    elif there is None:
        definition_service.create_orchestration(env, normal, by)
    elif overwrite:
        with definition_store.locked(env, kind, normal["name"]) as before:
            changed = definition_store.save_version(env, kind, before, normal, by) is not before
    return {
        "kind": kind.noun, "name": normal["name"], "example": example,
        "created": there is None, "changed": changed,
    }
