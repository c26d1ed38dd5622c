"""The pack's files as StackStorm reads them."""
import os
import re

from fixtures import PACK
from fixtures.yaml_files import read_yaml

# What a runner takes, as the runners' own metadata has it; an action may set these too.
RUNNER_PARAMETERS = {
    "python-script": {"debug", "content_version", "env", "timeout", "log_level"},
    "orquesta": {"notify"},
}
# Actions of StackStorm's own that the workflows use, and what they take.
CORE = {"core.ask": {"schema", "ttl", "roles", "users", "route"}}
KINDS = ("actions", "triggers", "sensors", "rules", "aliases", "policies")
CASE_PATTERN = "^[A-Za-z0-9_=-]*$"
NOT_OURS = ("__pycache__", "node_modules", "venv", "virtualenv")


def read(path):
    """The one document in a YAML file."""
    return read_yaml(PACK / path)


def metadata(kind):
    """{file name: document} of one of KINDS; empty while there is no such folder."""
    return {path.name: read(path) for path in sorted((PACK / kind).glob("*.yaml"))}


def files(*endings):
    """Yield every file of the pack with these endings, except caches and environments."""
    for folder, subfolders, names in os.walk(PACK):
        subfolders[:] = [
            name for name in subfolders
            if name not in NOT_OURS and (not name.startswith(".") or name == ".github")
        ]
        for name in sorted(names):
            if name.endswith(endings):
                yield (PACK / folder / name).relative_to(PACK)


ABOUT = read("pack.yaml")
REF = ABOUT.get("ref") or ABOUT["name"]
ACTIONS = {action["name"]: action for action in metadata("actions").values()}
WORKFLOWS = {name: a for name, a in ACTIONS.items() if a["runner_type"] == "orquesta"}
PYTHON_ACTIONS = {name: a for name, a in ACTIONS.items() if a["runner_type"] == "python-script"}


def own_parameters(action):
    """The action's parameters without what it sets of its runner."""
    of_runner = RUNNER_PARAMETERS[action["runner_type"]]
    parameters = action.get("parameters") or {}
    return {name: spec for name, spec in parameters.items() if name not in of_runner}


def all_parameters():
    """(action name, parameter name, its schema) of the whole pack, the runners' left out."""
    for name, action in ACTIONS.items():
        for parameter, spec in own_parameters(action).items():
            yield name, parameter, spec


def unacceptable(action, values):
    """Return why StackStorm would reject a request of `action` with these values, or None."""
    specs = action.get("parameters") or {}
    for name, spec in specs.items():
        if spec.get("required") and "default" not in spec and name not in values:
            return "%s is missing" % name
    for name, value in values.items():
        if name not in specs:
            return "%s is not declared" % name
        if specs[name].get("immutable"):
            return "%s is immutable" % name
        problem = value is not None and _mismatch(specs[name], value)
        if problem:
            return "%s: %r %s" % (name, value, problem)
    return None


def _mismatch(spec, value):
    if "type" not in spec:
        # The runner's own, which has its type there.
        return None
    kind = {"string": str, "integer": int, "object": dict, "array": list, "boolean": bool}.get(
        spec["type"], object
    )
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return "must be of type %s" % spec["type"]
    if "pattern" in spec and not re.search(spec["pattern"], value):
        return "does not match %s" % spec["pattern"]
    if "enum" in spec and value not in spec["enum"]:
        return "must be one of %s" % spec["enum"]
    if "minimum" in spec and value < spec["minimum"]:
        return "must be %s or more" % spec["minimum"]
    return None
