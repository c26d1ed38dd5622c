"""docs/where-do-i-change.md names places that exist, and every module of the library."""
import re

from fixtures import PACK
from fixtures.check_each import check_each

PAGE = (PACK / "docs" / "where-do-i-change.md").read_text(encoding="utf-8")
LIBRARY = "actions/lib/synthralos/"
MODULES = sorted(
    str(path.relative_to(PACK)) for path in (PACK / LIBRARY).rglob("*.py")
    if path.name != "__init__.py"
)
_ENDINGS = (".py", ".yaml", ".json", ".md", "/")
# A file that each room of the library may have: the page says so once.
_OF_EACH_ROOM = "config.py"


def _paths():
    """What the page has between backquotes and looks like a path; `<name>` stands for any name."""
    spans = re.findall(r"`([^`\n]+)`", PAGE)
    return [re.sub(r"<\w+>", "*", text) for text in spans if text.endswith(_ENDINGS)]


@check_each("path", sorted(set(_paths()) - {_OF_EACH_ROOM}))
def test_each_path_exists(path):
    assert "/" in path or (PACK / path).is_file(), "write the whole path, from the pack's folder"
    places = list(PACK.glob(path.rstrip("/")))
    assert places, path
    assert all(place.is_dir() == path.endswith("/") for place in places)


@check_each("module", MODULES)
def test_each_module_of_the_library_is_named_or_its_folder_is(module):
    folder = module.rpartition("/")[0] + "/"
    ways = {module}
    if folder != LIBRARY:
        ways.add(folder)
        if module.endswith("/" + _OF_EACH_ROOM):
            return
    assert ways & set(_paths()), "docs/where-do-i-change.md does not say what %s is for" % module


def test_each_row_names_a_place():
    rows = [
        line for line in PAGE.split("\n")
        if line.startswith("| ") and not line.endswith("| where |")
    ]
    assert len(rows) > 50
    for row in rows:
        spans = re.findall(r"`([^`]+)`", row.strip("| ").split(" | ")[-1])
        assert any(text.endswith(_ENDINGS) for text in spans), row
