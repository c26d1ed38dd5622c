"""Draws a state diagram as inline SVG: states in a column, transitions as arrows.

A transition to the next state is an arrow between the two; others are curves, backward ones on the
left. It is narrow enough for a phone.
"""

_WIDTH, _LEFT, _BOX, _HEIGHT, _GAP = 460, 90, 210, 34, 34
_MAX_LABEL_CHARS = 28


def svg(diagram, max_moves, escape):
    """Draw a Diagram.

    :param max_moves: maximum number of transitions to draw.
    :param escape: a callable that escapes a text for HTML.
    """
    places = {name: n for n, name in enumerate(diagram.states)}
    moves_by_edge = {}
    for n, (from_state, to_state, action) in enumerate(diagram.moves[:max_moves], 1):
        moves_by_edge.setdefault((from_state, to_state), []).append((n, action))
    visited = {name for move in moves_by_edge for name in move}
    parts = [_state(name, places[name], visited, diagram.last, escape) for name in diagram.states]
    lanes = {}
    for (from_state, to_state), moves in moves_by_edge.items():
        parts.append(_move(places[from_state], places[to_state], moves, lanes, escape))
    height = len(diagram.states) * (_HEIGHT + _GAP) - _GAP + 8
    return (
        '<svg class="states" viewBox="0 0 %d %d" role="img" aria-label="States of the run">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>%s</svg>'
        % (_WIDTH, height, "".join(parts))
    )


def _top(place):
    return 4 + place * (_HEIGHT + _GAP)


def _state(name, place, visited, last, escape):
    kind = last.kind if last is not None and last.text == name else ""
    kind = kind or ("seen" if name in visited else "unseen")
    return (
        '<g class="state %s"><rect x="%d" y="%d" width="%d" height="%d" rx="8"/>'
        '<text x="%d" y="%d">%s</text></g>'
        % (kind, _LEFT, _top(place), _BOX, _HEIGHT, _LEFT + _BOX // 2, _top(place) + 22,
           escape(_short(name)))
    )


def _move(from_index, to_index, moves, lanes, escape):
    label = ", ".join(str(n) for n, _ in moves[:4]) + (" ..." if len(moves) > 4 else "")
    title = "; ".join("%d. %s" % move for move in moves[:20])
    middle = _LEFT + _BOX // 2
    if to_index == from_index + 1:
        y = _top(from_index) + _HEIGHT
        path = "M%d %dV%d" % (middle, y, y + _GAP - 2)
        position, anchor = (middle + 8, y + _GAP // 2 + 4), "start"
        label = "%s  %s" % (label, _short(moves[-1][1]))
    else:
        back = to_index <= from_index
        lane = lanes[back] = lanes.get(back, 0) + 1
        reach = min(74, 18 + 14 * lane)
        x, reach_x = (_LEFT, -reach) if back else (_LEFT + _BOX, reach)
        from_, to = _top(from_index) + _HEIGHT // 2 + 6, _top(to_index) + _HEIGHT // 2 - 6
        if from_index == to_index:
            from_, to = _top(from_index) + _HEIGHT - 6, _top(from_index) + 6
        path = "M%d %dC%d %d %d %d %d %d" % (x, from_, x + reach_x, from_, x + reach_x, to, x, to)
        position = (x + reach_x * 3 // 4 + (-4 if back else 4), (from_ + to) // 2 + 4)
        anchor = "end" if back else "start"
    return (
        '<g class="move"><title>%s</title><path d="%s" marker-end="url(#tip)"/>'
        '<text x="%d" y="%d" text-anchor="%s">%s</text></g>'
        % (escape(title), path, position[0], position[1], anchor, escape(label))
    )


def _short(name):
    return name if len(name) <= _MAX_LABEL_CHARS else name[: _MAX_LABEL_CHARS - 1] + "…"
