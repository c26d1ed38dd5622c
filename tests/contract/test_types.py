"""The list of strictly typed paths in pyproject.toml: it only grows."""
import sys

import pytest
from fixtures import PACK
from fixtures.check_each import check_each

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="tomli is not installed; mypy brings it")

CONFIG = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]


@check_each("path", CONFIG["files"])
def test_a_listed_path_exists(path):
    assert (PACK / path).suffix == ".py" or list((PACK / path).rglob("*.py"))
    assert (PACK / path).exists()


def test_the_whole_library_is_typed():
    assert "actions/lib/synthralos" in CONFIG["files"]
    assert not CONFIG.keys() & {"untyped_calls_exclude", "exclude"}


def test_the_listed_files_are_checked_strictly():
    assert CONFIG["strict"] is True and CONFIG["follow_imports"] == "silent"


def test_lint_checks_types():
    lint = (PACK / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].split("\n\n")[0]
    assert [line for line in lint.splitlines() if line.split() == ["$(BIN)/mypy"]]
