"""Names: a name is a noun for what it holds, never one of the words below.

The words are participles and pronouns that could name anything. A variable is the noun for what it
holds (`response`, `ticket`), a loop variable the singular of its list, a function a verb phrase.
"""
import ast

import pytest
from fixtures import PACK
from fixtures.check_each import check_each
from pack_files import files

FORBIDDEN = frozenset((
    "told", "found", "given", "kept", "worded", "one", "known", "shown", "wanted", "asked", "said",
    "answered", "handed", "taken", "listed", "done", "held", "tried", "made", "what", "others",
))
FOLDERS = ("actions", "sensors", "dev", "tests")
PATHS = sorted(str(path) for path in files(".py") if path.parts[0] in FOLDERS)


def is_forbidden(name):
    return name.strip("_").lower() in FORBIDDEN


def bound_names(tree):
    """Yield (name, line) of everything that the code binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)
        ):
            yield node.name or "", node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0], node.lineno


def forbidden_names(source):
    """Return "line N: name" of every forbidden name that `source` binds."""
    return [
        "line %d: %s" % (line, name)
        for name, line in bound_names(ast.parse(source))
        if is_forbidden(name)
    ]


@check_each("path", PATHS)
def test_a_file_binds_no_forbidden_name(path):
    stem = path.rpartition("/")[2].partition(".")[0]
    assert not is_forbidden(stem), "name the module for what it holds"
    assert forbidden_names((PACK / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_searched(folder):
    assert any(path.startswith(folder + "/") for path in PATHS)


@pytest.mark.parametrize("source", [
    "told = 1", "_found_ = 1", "KNOWN = 1", "a, (b, kept) = 1, (2, 3)", "for one in []: pass",
    "[given for given in []]", "with x() as made: pass", "told: int = 1", "told += 1",
    "def answered(): pass", "async def _asked(): pass", "class Held: pass", "def f(told): pass",
    "def f(*, told=1): pass", "def f(*what): pass", "def f(**others): pass", "lambda done: 0",
    "class A:\n    shown = 1", "self._told = 1", "try: pass\nexcept E as said: pass",
    "import told", "import told.x", "import x as listed", "from x import given", "(tried := 1)",
])
def test_every_way_to_bind_a_name_is_seen(source):
    assert len(forbidden_names(source)) == 1


def test_a_use_or_a_longer_name_is_allowed():
    assert forbidden_names("x = told\nbase_delay_given = f(given=1)['found']\na.kept()") == []
