"""The list of strictly typed files in pyproject.toml: it only grows."""
import sys

import pytest
from fixtures import PACK
from fixtures.check_each import check_each

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="tomli is not installed; mypy brings it")

CONFIG = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
LIBRARY = "actions/lib/synthralos/"


@check_each("path", CONFIG["files"])
def test_a_listed_path_exists(path):
    assert (PACK / path).suffix == ".py" or list((PACK / path).rglob("*.py"))
    assert (PACK / path).exists()


@pytest.mark.parametrize("path", ["core", "storage", "inprocess"])
def test_what_everything_builds_on_is_typed(path):
    assert LIBRARY + path in CONFIG["files"]


@pytest.mark.parametrize("room", CONFIG["untyped_calls_exclude"])
def test_a_room_that_may_be_called_untyped_exists(room):
    assert (PACK / "actions" / "lib" / room.replace(".", "/")).is_dir()
    assert room != "synthralos.core"


def test_the_listed_files_are_checked_strictly():
    assert CONFIG["strict"] is True and CONFIG["follow_imports"] == "silent"


def test_lint_checks_types():
    lint = (PACK / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].split("\n\n")[0]
    assert [line for line in lint.splitlines() if line.split() == ["$(BIN)/mypy"]]
