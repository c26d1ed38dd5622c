"""Who imports whom, and what an entry point looks like."""
import ast
import re
import sys

import pytest
from fixtures import PACK
from fixtures.check_each import check_each
from pack_files import ACTIONS, PYTHON_ACTIONS, files

import layers

LIBRARY = PACK / "actions" / "lib" / "synthralos"
ENTRY_POINTS = sorted({action["entry_point"] for action in PYTHON_ACTIONS.values()})
MODULES = sorted(str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.py"))
# They measure the library, in processes of their own, or show its table of causes.
LIBRARY_READERS = (
    "dev/benchmarks/clients/corpus_synthralos.py",
    "dev/benchmarks/clients/ours.py",
    "dev/reference/failures.py",
)
DEV = sorted(
    str(path) for path in files(".py")
    if path.parts[0] == "dev" and str(path) not in LIBRARY_READERS
)
ST2 = re.compile(r"^st2\w*$")
PUBLIC_MODULES = sorted(
    room.name for room in layers.ROOMS if room.level == layers.PUBLIC and room.name.endswith(".py")
)
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


@check_each("entry", ENTRY_POINTS)
def test_entry_point(entry):
    tree = _tree("actions/" + entry)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1
    methods = {node.name: node for node in classes[0].body if isinstance(node, ast.FunctionDef)}
    bases = [base.id for base in classes[0].bases if isinstance(base, ast.Name)]
    # StackStorm takes an inherited `run` as well.
    assert bases == (["SynthralosAction"] if "run" in methods else ["ResourceAction"])
    # StackStorm 3.9 does not register the module, which breaks dataclasses in it.
    assert "dataclasses" not in _packages("actions/" + entry)
    assert ast.get_docstring(classes[0])


def _inherited_run():
    """The method `run` of ResourceAction."""
    base = next(
        node for node in _tree("actions/lib/synthralos_action.py").body
        if isinstance(node, ast.ClassDef) and node.name == "ResourceAction"
    )
    return next(
        node for node in base.body if isinstance(node, ast.FunctionDef) and node.name == "run"
    )


@check_each("entry", ENTRY_POINTS)
def test_an_entry_point_takes_what_its_actions_declare(entry):
    tree = _tree("actions/" + entry)
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    run = methods.get("run") or _inherited_run()
    named = {argument.arg for argument in run.args.args} - {"self"}
    operations = set(methods)
    assert run.args.kwarg is not None
    for action in PYTHON_ACTIONS.values():
        if action["entry_point"] == entry:
            declared = action.get("parameters") or {}
            assert named <= set(declared)
            operation = declared.get("operation")
            assert operation is None or "_" + operation["default"] in operations


@check_each("entry", ENTRY_POINTS)
def test_an_entry_point_imports_the_library_and_its_base_class_only(entry):
    assert _packages("actions/" + entry) <= {"synthralos", "synthralos_action"}


def test_every_entry_point_belongs_to_an_action():
    existing = {path.name for path in (PACK / "actions").glob("*.py")}
    assert existing == set(ENTRY_POINTS)
    workflows = {"workflows/" + path.name for path in (PACK / "actions" / "workflows").glob("*")}
    named = {action["entry_point"] for action in ACTIONS.values()}
    assert workflows == {name for name in named if name.startswith("workflows/")}


def test_one_file_imports_stackstorm():
    importers = {
        str(path) for path in files(".py")
        if path.parts[0] == "actions" and any(ST2.match(name) for name in _packages(path))
    }
    assert importers == {"actions/lib/synthralos_action.py"}


@check_each("module", MODULES)
def test_the_library_imports_downwards(module):
    own = layers.level_of(module)
    for name in _imported(LIBRARY / module):
        if name.startswith("synthralos."):
            assert layers.level_of(name.split(".", 1)[1]) <= own, name


@check_each("module", PUBLIC_MODULES)
def test_a_public_module_only_re_exports(module):
    tree = _tree(LIBRARY / module)
    assert ast.get_docstring(tree)
    *imports, exported = tree.body[1:]
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    names = [alias.asname or alias.name for node in imports for alias in node.names]
    assert [target.id for target in exported.targets] == ["__all__"]
    assert sorted(ast.literal_eval(exported.value)) == sorted(names)


def test_the_layer_table_has_each_folder_of_the_library_and_no_other():
    named = [room.name for room in layers.ROOMS]
    assert len(named) == len(set(named))
    folders = {path.parent.name for path in LIBRARY.glob("*/*.py")}
    assert folders == {name for name in named if not name.endswith(".py")}
    assert all(list(LIBRARY.glob(name)) for name in named if name.endswith(".py"))


@check_each("module", MODULES)
def test_the_library_knows_neither_stackstorm_nor_actions_nor_dev(module):
    packages = _packages(LIBRARY / module)
    assert not any(ST2.match(name) for name in packages)
    outside = {entry[:-3] for entry in ENTRY_POINTS} | {"synthralos_action", "sandbox", "st2local"}
    assert not packages & outside
    assert not packages & NEVER


# Packages of requirements.txt that are imported by another name.
IMPORTED_AS = {"pyyaml": "yaml"}


def _optional(module):
    """The packages that a module imports only where they are installed: `except ImportError`."""
    names = set()
    for node in ast.walk(_tree(LIBRARY / module)):
        if isinstance(node, ast.Try) and any(
            isinstance(handler.type, ast.Name) and handler.type.id == "ImportError"
            for handler in node.handlers
        ):
            names |= {name.split(".")[0] for name in _imports(node.body)}
    return names


@check_each("module", MODULES)
def test_what_the_library_needs_is_in_requirements(module):
    required = set()
    for line in (PACK / "requirements.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            package = re.split(r"[^A-Za-z0-9_.-]", line)[0].replace("-", "_").lower()
            required.add(IMPORTED_AS.get(package, package))
    foreign = {name for name in _packages(LIBRARY / module) if not _standard(name)}
    assert foreign - {"synthralos"} - _optional(module) <= required


@check_each("module", MODULES)
def test_heavy_imports_are_made_where_they_are_needed(module):
    """An action is a process: what a module imports at its top is paid at every attempt."""
    top = [
        node for node in _tree(LIBRARY / module).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert not {name.split(".")[0] for name in _imports(top)} & LATE


@check_each("path", DEV)
def test_dev_knows_neither_the_library_nor_an_action(path):
    actions = {entry[:-3] for entry in ENTRY_POINTS}
    assert not _packages(path) & (actions | {"synthralos", "synthralos_action"})


@check_each("path", sorted(str(path) for path in files(".py")))
def test_every_file_compiles_for_the_oldest_python(path):
    ast.parse((PACK / path).read_text(encoding="utf-8"), path, feature_version=(3, 9))
