"""The layers of the library, as docs/architecture.md shows them and the import test reads them."""
import pytest

import layers
from layers import Room
from reference import layers as drawing

ROOMS = (
    Room("core", 0, "errors"), Room("recovery", 5, "workflows"), Room("metrics", 6, "totals"),
    Room("reports", 6, "pages"), Room("retry.py", 7, "for programs"),
)


def test_the_page_shows_the_table_of_today():
    text = drawing.PAGE.read_text(encoding="utf-8")
    assert text == drawing.page(text), "run `make docs`"
    for room in layers.ROOMS:
        assert "| %d | `%s" % (room.level, room.name) in text


def test_the_diagram_goes_down_level_by_level():
    lines = [line.strip() for line in drawing.section(ROOMS).split("\n")]
    boxes = [line for line in lines if line.startswith("subgraph")]
    assert boxes == ['subgraph level%d["level %d"]' % (n, n) for n in (7, 6, 5, 0)]
    arrows = [line for line in lines if "-->" in line]
    assert arrows == ["level7 --> level6", "level6 --> level5", "level5 --> level0"]
    level_6 = lines[lines.index(boxes[1]):lines.index(boxes[2])]
    assert 'metrics["metrics/"]' in level_6 and 'reports["reports/"]' in level_6
    # A point in a node's name would end it.
    assert 'retry_py["retry.py"]' in lines
    assert "| 7 | `retry.py` | for programs |" in lines


def test_what_people_wrote_around_the_diagram_stays():
    page = "before\n%s\nold\n%s\nafter\n" % (drawing.BEGIN, drawing.END)
    drawn = drawing.page(page, ROOMS)
    assert drawn.startswith("before\n" + drawing.BEGIN)
    assert drawn.endswith(drawing.END + "\nafter\n")
    assert "old" not in drawn and drawing.section(ROOMS) in drawn
    assert drawing.page(drawn, ROOMS) == drawn


@pytest.mark.parametrize("page", [
    "", drawing.BEGIN, drawing.END, drawing.BEGIN * 2 + drawing.END, drawing.END + drawing.BEGIN,
])
def test_a_page_without_its_markers_is_refused(page):
    with pytest.raises(ValueError, match="architecture.md"):
        drawing.page(page, ROOMS)


@pytest.mark.parametrize("module, level", [
    ("recovery/llm_retry.py", 5), ("recovery.llm_retry", 5), ("recovery", 5), ("retry.py", 7),
    ("retry.Policy", 7), ("settings.py", 0), ("retrying/deep.py", 0),
])
def test_the_level_of_a_module(module, level):
    assert layers.level_of(module, ROOMS) == level
