"""The content of a report, independent of its format: blocks that markdown.py and html.py render.

Every text is data, which the formats escape. Times are seconds since the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, Union

from synthralos.core.timestamps import to_iso

GOOD, BAD, WAIT, IDLE, PLAIN = KINDS = ("good", "bad", "wait", "idle", "plain")
SIGNS = {GOOD: "✓", BAD: "✗", WAIT: "…", IDLE: "–"}


@dataclass
class Status:
    """The outcome of something, as a text. :ivar kind: one of KINDS."""

    kind: str
    text: str


# A cell of a table; a fact is a name and its value.
Cell = Union[str, int, float, Status, None]
Fact = tuple[str, Union[str, Status]]


@dataclass
class Heading:
    text: str


@dataclass
class Text:
    text: str


@dataclass
class FactList:
    """A list of names and values."""

    rows: Sequence[Fact]


@dataclass
class Steps:
    """An ordered list. :ivar rows: texts with their outcomes, if they have one."""

    rows: Sequence[tuple[str, Optional[Status]]]


@dataclass
class Table:
    """A table.

    :ivar columns: column names; those in `numbers` are aligned as numbers.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: tuple[str, ...] = ()


@dataclass
class Bar:
    """A bar of a timeline. :ivar depth: 0 for a task, 1 for anything within it, and so on."""

    label: str
    kind: str
    started_at: float
    ended_at: float
    note: str = ""
    depth: int = 0


@dataclass
class Timeline:
    started_at: float
    ended_at: float
    bars: Sequence[Bar]


@dataclass
class StackedBars:
    """Horizontal bars with several parts. :ivar rows: (label, [(kind, number)], note)."""

    rows: Sequence[tuple[str, Sequence[tuple[str, int]], str]]


@dataclass
class Diagram:
    """The states of a run and its transitions.

    :ivar states: names, in order.
    :ivar moves: transitions (from state, to state, action), in the order of their time.
    :ivar last: the current state of the run, and its kind.
    """

    states: Sequence[str]
    moves: Sequence[tuple[str, str, str]]
    last: Optional[Status] = None


Block = Union[Heading, Text, FactList, Steps, Table, Timeline, StackedBars, Diagram]


class Cleaner(Protocol):
    """Makes a text from elsewhere a single harmless line of at most `max_chars` characters."""

    def __call__(self, text: Any, max_chars: int = ...) -> str:
        """Return the text as that line."""


@dataclass
class Report:
    """A report.

    :ivar title, subtitle, location: single lines.
    :ivar facts: the most important ones.
    :ivar blocks: the blocks that follow.
    :ivar made_at: time of the report.
    :ivar data: {name: JSON value} of what the report also says in numbers, for programs.
    """

    title: str
    subtitle: str
    outcome: Status
    facts: Sequence[Fact]
    made_at: float
    location: str = ""
    blocks: list[Block] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def add(self, heading: str, *blocks: Optional[Block]) -> None:
        """Add a section, unless all of its blocks are None."""
        present = [block for block in blocks if block is not None]
        if present:
            self.blocks += [Heading(heading), *present]


def duration(seconds: Optional[float]) -> str:
    """Format seconds for people: 340 ms, 2.5 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return "%d ms" % round(seconds * 1000)
    if seconds < 60:
        return "%.1f s" % seconds
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return "%d min %d s" % (minutes, rest) if rest else "%d min" % minutes
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return "%d h %d min" % (hours, minutes) if minutes else "%d h" % hours
    return "%d d %d h" % divmod(hours, 24)


def moment(seconds: float) -> str:
    """Format a time for people, in UTC."""
    return to_iso(seconds).replace("T", " ").replace("Z", " UTC")


def share(part: float, whole: float) -> str:
    """Format a percentage; a dash if `whole` is 0."""
    return "%d %%" % round(100.0 * part / whole) if whole else "–"
