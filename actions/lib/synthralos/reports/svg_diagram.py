"""Lays out a state diagram for an inline SVG: states in a column, transitions as arrows.

A transition to the next state is an arrow between the two; others are curves, backward ones on the
left. It is narrow enough for a phone. The template of the page draws the layout.
"""

from __future__ import annotations

from dataclasses import dataclass

from synthralos.reports.document import Diagram

_WIDTH, _LEFT, _BOX_WIDTH, _BOX_HEIGHT, _GAP = 460, 90, 210, 34, 34
_MARGIN = 4
_MAX_LABEL_CHARS = 28
_MAX_NUMBERS_IN_LABEL, _MAX_MOVES_IN_TITLE = 4, 20


@dataclass
class Box:
    """A state. :ivar kind: one of document.KINDS, `seen` or `unseen`."""

    x: int
    y: int
    width: int
    height: int
    text_x: int
    text_y: int
    text: str
    kind: str


@dataclass
class Arrow:
    """All transitions between two states. :ivar path: the `d` of an SVG path."""

    path: str
    title: str
    text: str
    text_x: int
    text_y: int
    anchor: str


@dataclass
class Drawing:
    """A diagram with its coordinates, in the units of the view box."""

    width: int
    height: int
    boxes: list[Box]
    arrows: list[Arrow]


def draw(diagram: Diagram, max_moves: int) -> Drawing:
    """Lay out a diagram with at most `max_moves` transitions."""
    indices = {name: index for index, name in enumerate(diagram.states)}
    moves_by_edge: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for number, (from_state, to_state, action) in enumerate(diagram.moves[:max_moves], 1):
        moves_by_edge.setdefault((from_state, to_state), []).append((number, action))
    visited = {name for edge in moves_by_edge for name in edge}
    lanes = {False: 0, True: 0}
    return Drawing(
        width=_WIDTH,
        height=len(diagram.states) * (_BOX_HEIGHT + _GAP) - _GAP + 2 * _MARGIN,
        boxes=[_box(diagram, name, indices[name], name in visited) for name in diagram.states],
        arrows=[
            _arrow(indices[from_state], indices[to_state], moves, lanes)
            for (from_state, to_state), moves in moves_by_edge.items()
        ],
    )


def _top(index: int) -> int:
    return _MARGIN + index * (_BOX_HEIGHT + _GAP)


def _box(diagram: Diagram, name: str, index: int, is_visited: bool) -> Box:
    kind = "seen" if is_visited else "unseen"
    if diagram.last is not None and diagram.last.text == name:
        kind = diagram.last.kind
    return Box(
        x=_LEFT, y=_top(index), width=_BOX_WIDTH, height=_BOX_HEIGHT,
        text_x=_LEFT + _BOX_WIDTH // 2, text_y=_top(index) + 22, text=_shorten(name), kind=kind,
    )


def _arrow(
    from_index: int, to_index: int, moves: list[tuple[int, str]], lanes: dict[bool, int]
) -> Arrow:
    """Lay out an arrow. :param lanes: number of curves so far, by whether they go backward."""
    text = ", ".join(str(number) for number, _ in moves[:_MAX_NUMBERS_IN_LABEL])
    if len(moves) > _MAX_NUMBERS_IN_LABEL:
        text += " ..."
    title = "; ".join("%d. %s" % move for move in moves[:_MAX_MOVES_IN_TITLE])
    if to_index == from_index + 1:
        x, y = _LEFT + _BOX_WIDTH // 2, _top(from_index) + _BOX_HEIGHT
        return Arrow(
            path="M%d %dV%d" % (x, y, y + _GAP - 2), title=title,
            text="%s  %s" % (text, _shorten(moves[-1][1])),
            text_x=x + 8, text_y=y + _GAP // 2 + 4, anchor="start",
        )
    is_backward = to_index <= from_index
    lanes[is_backward] += 1
    reach = min(74, 18 + 14 * lanes[is_backward]) * (-1 if is_backward else 1)
    x = _LEFT if is_backward else _LEFT + _BOX_WIDTH
    from_y = _top(from_index) + _BOX_HEIGHT // 2 + 6
    to_y = _top(to_index) + _BOX_HEIGHT // 2 - 6
    if from_index == to_index:
        from_y, to_y = _top(from_index) + _BOX_HEIGHT - 6, _top(from_index) + 6
    return Arrow(
        path="M%d %dC%d %d %d %d %d %d" % (
            x, from_y, x + reach, from_y, x + reach, to_y, x, to_y),
        title=title, text=text,
        text_x=x + reach * 3 // 4 + (-4 if is_backward else 4),
        text_y=(from_y + to_y) // 2 + 4, anchor="end" if is_backward else "start",
    )


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_LABEL_CHARS else name[: _MAX_LABEL_CHARS - 1] + "…"
