"""Who imports whom, and what an entry point looks like."""
import ast
import re
import sys

import pytest
from fixtures import PACK
from pack_files import ACTIONS, PYTHON_ACTIONS, files

LIBRARY = PACK / "actions" / "lib" / "synthralos"
ENTRY_POINTS = sorted({action["entry_point"] for action in PYTHON_ACTIONS.values()})
MODULES = sorted(str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.py"))
# It measures the library, in a process of its own.
MEASURED = "dev/benchmarks/clients/ours.py"
DEV = sorted(
    str(path) for path in files(".py") if path.parts[0] == "dev" and str(path) != MEASURED
)
ST2 = re.compile(r"^st2\w*$")
# Lower may not import higher; what stands on one level may know each other.
LEVELS = {
    "": 0, "telemetry": 1, "state": 2, "calls": 3,
    "recovery": 4, "escalation": 4, "infrastructure": 5, "orchestration": 4, "sensing": 4,
    "automation": 5, "metrics": 5, "reports": 5, "inprocess": 6, "error_handling": 7,
}
NEVER = {"openai", "anthropic", "litellm"}
LATE = {"pydantic", "jsonschema", "requests", "opentelemetry", "prometheus_client"}


def _tree(path):
    return ast.parse((PACK / path).read_text(encoding="utf-8"), str(path))


def _imports(nodes):
    """The dotted names that these nodes, and those within, import."""
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "relative imports hide where a name comes from"
                for alias in node.names:
                    yield "%s.%s" % (node.module, alias.name)


def _imported(path):
    return set(_imports(_tree(path).body))


def _packages(path):
    return {name.split(".")[0] for name in _imported(path)}


def _standard(name):
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:
        pytest.skip("Python 3.9 cannot name its standard library")
    return name in names


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_entry_point(entry):
    tree = _tree("actions/" + entry)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    methods = {node.name: node for node in classes[0].body if isinstance(node, ast.FunctionDef)}
    assert "run" in methods
    # StackStorm 3.9 does not register the module, which breaks dataclasses in it.
    assert "dataclasses" not in _packages("actions/" + entry)
    assert ast.get_docstring(classes[0])
    names = {base.id for base in classes[0].bases if isinstance(base, ast.Name)}
    assert names == {"SynthralosAction"}


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_an_entry_point_takes_what_its_actions_declare(entry):
    tree = _tree("actions/" + entry)
    run = next(
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run"
    )
    named = {argument.arg for argument in run.args.args} - {"self"}
    operations = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert run.args.kwarg is not None
    for action in PYTHON_ACTIONS.values():
        if action["entry_point"] == entry:
            declared = action.get("parameters") or {}
            assert named <= set(declared)
            operation = declared.get("operation")
            assert operation is None or "_" + operation["default"] in operations


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_an_entry_point_imports_the_library_and_its_base_class_only(entry):
    assert _packages("actions/" + entry) <= {"synthralos", "synthralos_action"}


def test_every_entry_point_belongs_to_an_action():
    there = {path.name for path in (PACK / "actions").glob("*.py")}
    assert there == set(ENTRY_POINTS)
    workflows = {"workflows/" + path.name for path in (PACK / "actions" / "workflows").glob("*")}
    named = {action["entry_point"] for action in ACTIONS.values()}
    assert workflows == {name for name in named if name.startswith("workflows/")}


def test_one_file_imports_stackstorm():
    importers = {
        str(path) for path in files(".py")
        if path.parts[0] == "actions" and any(ST2.match(name) for name in _packages(path))
    }
    assert importers == {"actions/lib/synthralos_action.py"}


def _folder(module):
    """The folder of the library in which `module`, dotted or a path, lies; "" for the top."""
    first = re.split(r"[./]", module)[0]
    return first if first in LEVELS else ""


@pytest.mark.parametrize("module", MODULES)
def test_the_library_imports_downwards(module):
    own = LEVELS[_folder(module)]
    for name in _imported(LIBRARY / module):
        if name.startswith("synthralos."):
            assert LEVELS[_folder(name.split(".", 1)[1])] <= own, name


def test_the_library_has_the_folders_whose_order_is_known():
    assert {path.parent.name for path in LIBRARY.glob("*/*.py")} <= set(LEVELS)


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_neither_stackstorm_nor_actions_nor_dev(module):
    packages = _packages(LIBRARY / module)
    assert not any(ST2.match(name) for name in packages)
    outside = {entry[:-3] for entry in ENTRY_POINTS} | {"synthralos_action", "sandbox", "st2local"}
    assert not packages & outside
    assert not packages & NEVER


@pytest.mark.parametrize("module", MODULES)
def test_what_the_library_needs_is_in_requirements(module):
    required = set()
    for line in (PACK / "requirements.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            required.add(re.split(r"[^A-Za-z0-9_.-]", line)[0].replace("-", "_").lower())
    foreign = {name for name in _packages(LIBRARY / module) if not _standard(name)}
    assert foreign - {"synthralos"} <= required


@pytest.mark.parametrize("module", MODULES)
def test_heavy_imports_are_made_where_they_are_needed(module):
    """An action is a process: what a module imports at its top is paid at every attempt."""
    top = [
        node for node in _tree(LIBRARY / module).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert not {name.split(".")[0] for name in _imports(top)} & LATE


@pytest.mark.parametrize("path", DEV)
def test_dev_knows_neither_the_library_nor_an_action(path):
    actions = {entry[:-3] for entry in ENTRY_POINTS}
    assert not _packages(path) & (actions | {"synthralos", "synthralos_action"})


@pytest.mark.parametrize("path", sorted(str(path) for path in files(".py")))
def test_every_file_compiles_for_the_oldest_python(path):
    ast.parse((PACK / path).read_text(encoding="utf-8"), path, feature_version=(3, 9))
