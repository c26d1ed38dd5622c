"""The lines of the table, and whether their budgets hold."""
from dataclasses import asdict, dataclass
from typing import Optional

_DIGITS = {"us": 0, "ms": 1, "s": 2, "KiB": 1, "MiB": 1, "x": 2, "executions": 0,
           "calls": 0, "entries": 0}


@dataclass
class Figure:
    """One line.

    :ivar group: the heading above it.
    :ivar value: a median in `unit`: us, ms, s, KiB, MiB, executions or calls.
    :ivar compared: the same against the floor of its group, in `compared_unit`: x, ms, s or MiB.
    :ivar budget: the maximum of `compared`, or of `value` if nothing is compared.
    :ivar note: for people.
    """

    group: str
    label: str
    value: float
    unit: str
    compared: Optional[float] = None
    compared_unit: str = ""
    budget: Optional[float] = None
    note: str = ""

    @property
    def holds(self):
        """Whether the budget holds, or None without a budget."""
        if self.budget is None:
            return None
        return (self.value if self.compared is None else self.compared) <= self.budget

    def as_dict(self):
        return dict(asdict(self), holds=self.holds)


def table(figures):
    """The text of the table: a heading a group, a line a figure."""
    rows = [("", "median", "against floor", "budget", "holds", "")]
    for figure in figures:
        rows.append((
            figure.label,
            _format_value(figure.value, figure.unit),
            "" if figure.compared is None else _against(figure),
            "" if figure.budget is None else "<= " + _format_value(figure.budget, _unit(figure)),
            {None: "", True: "yes", False: "NO"}[figure.holds],
            figure.note,
        ))
    widths = [max(len(row[n]) for row in rows) for n in range(5)]
    lines, group = [_line(rows[0], widths)], None
    for figure, row in zip(figures, rows[1:]):
        if figure.group != group:
            group = figure.group
            lines += ["", group]
        lines.append(_line(row, widths))
    return "\n".join(lines)


def _line(row, widths):
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:5], widths[1:])]
    return "  ".join(["", "  ".join(cells), row[5]]).rstrip()


def _unit(figure):
    return figure.unit if figure.compared is None else figure.compared_unit


def _against(figure):
    if figure.compared_unit == "x":
        return _format_value(figure.compared, "x")
    return "%+.*f %s" % (_DIGITS[figure.compared_unit], figure.compared, figure.compared_unit)


def _format_value(value, unit):
    return "%.*f %s" % (_DIGITS[unit], value, unit)
