"""A report before it has a form: blocks, of which markdown.py and html.py each make their own.

Every text is data: the forms escape it. Times are seconds since the epoch.
"""

from dataclasses import dataclass, field
from typing import Optional

from synthralos.core.timestamps import to_iso

GOOD, BAD, WAIT, IDLE, PLAIN = KINDS = ("good", "bad", "wait", "idle", "plain")
SIGNS = {GOOD: "✓", BAD: "✗", WAIT: "…", IDLE: "–"}


@dataclass
class Status:
    """A text that says how something went; kind is one of KINDS."""

    kind: str
    text: str


@dataclass
class Heading:
    text: str


@dataclass
class Text:
    text: str


@dataclass
class FactList:
    """:ivar rows: (name, a text or a Mark)."""

    rows: list


@dataclass
class Steps:
    """An ordered list. :ivar rows: (text, Mark or None)."""

    rows: list


@dataclass
class Table:
    """:ivar columns: names; those in `numbers` are aligned as numbers.
    :ivar rows: lists of texts, Marks, numbers or None.
    """

    columns: list
    rows: list
    numbers: tuple = ()


@dataclass
class Bar:
    """A line of a timeline. :ivar depth: 0 for a task, 1 for what is within it ..."""

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
    bars: list


@dataclass
class StackedBars:
    """Horizontal bars of parts. :ivar rows: (label, [(kind, number)], told)."""

    rows: list


@dataclass
class Diagram:
    """States and the transitions that a run made. :ivar states: names, in order.

    :ivar moves: (from, to, what), in the order in which they were made.
    :ivar last: the state that the run is in, and its kind.
    """

    states: list
    moves: list
    last: Optional[Status] = None


@dataclass
class Report:
    """:ivar title, subtitle, where: lines; outcome: a Mark; facts: (name, value), of what
        matters most.
    :ivar blocks: the blocks after that; made_at: seconds since the epoch.
    """

    title: str
    subtitle: str
    outcome: Status
    facts: list
    made_at: float
    location: str = ""
    blocks: list = field(default_factory=list)

    def add(self, heading, *blocks):
        """Adds a section; nothing when all of its blocks are None."""
        blocks = [block for block in blocks if block is not None]
        if blocks:
            self.blocks += [Heading(heading)] + blocks


def duration(seconds):
    """Seconds for people: 340 ms, 2.5 s, 3 min 20 s, 2 h 5 min."""
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


def moment(seconds):
    """A time for people, in UTC."""
    return to_iso(seconds).replace("T", " ").replace("Z", " UTC")


def share(part, whole):
    """A percentage, or a dash where there is nothing to divide."""
    return "%d %%" % round(100.0 * part / whole) if whole else "–"
