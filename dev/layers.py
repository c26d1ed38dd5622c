"""The rooms of the library and the order of their imports.

The single source of that order: `tests/contract/test_python_files.py` holds the imports to it, and
`make docs` draws it in docs/architecture.md (`dev/reference/layers.py`).
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Modules directly under actions/lib/synthralos that the table does not name.
TOP_LEVEL = 0
# Modules that Python programs import: they only re-export.
PUBLIC = 7


class Room(NamedTuple):
    """A folder of actions/lib/synthralos, or modules there where `name` ends in ".py".

    :ivar name: "calls", or "retry.py"; "*.py" for the modules that have no entry of their own.
    :ivar level: 0 is the lowest. A room imports from its own level and from those below.
    :ivar contents: What is in it, in a few words of Markdown.
    """

    name: str
    level: int
    contents: str


ROOMS = (
    Room(
        "core", 0, "identifiers, errors, timestamps, JSON, sealing, redaction, sanitizing, failures"
    ),
    Room("config", 0, "settings and their reader, budget, retention"),
    Room("telemetry", 1, "the live log, traces, OTLP, prices of LLM calls"),
    Room(
        "storage", 2, "the datastore, its keys, locks and retention; ledger, breaker, tickets ..."
    ),
    Room("calls", 3, "HTTP, credentials, deadline, rounds, routes, LLM providers, agent platforms"),
    Room("loop_detection", 3, "which steps of an agent count as alike, and when they form a loop"),
    Room("escalation", 4, "tickets: levels, priorities, notifications"),
    Room("runtime", 4, "what every action runs through: parameters, cases, failure records"),
    Room("sensing", 4, "what sensors read and report, and when they are disconnected"),
    Room("recovery", 5, "the four recovery workflows: plans, playbooks, strategies"),
    Room("infrastructure", 5, "topology, impact, crews, repair planning"),
    Room("orchestration", 5, "roles, orchestrations, their steps and waves"),
    Room("automation", 6, "intake of events from rules, modes, admission, approvals, the reaper"),
    Room("metrics", 6, "totals of runs, in Prometheus's format"),
    Room("operations", 6, "health, self check, redrives of failed runs"),
    Room("reports", 6, "reports on a run, a ticket or a period, as HTML or Markdown"),
    Room("inprocess", 6, "implementation of the public API for Python programs"),
    Room("error_handling", PUBLIC, "public: the error handling system, with examples"),
    Room("retry.py", PUBLIC, "public: retries and circuit breakers for Python programs"),
    Room("observability.py", PUBLIC, "public: metrics, tracing and structured events"),
    Room("workflow.py", PUBLIC, "public: checkpointed workflows of agents, parallel tasks"),
    Room("streaming.py", PUBLIC, "public: a client for server-sent events"),
)


def level_of(module: str, rooms: Iterable[Room] = ROOMS) -> int:
    """The level of a module, dotted or a path below actions/lib/synthralos.

    :returns: TOP_LEVEL for a module that lies in none of `rooms`.
    """
    first = re.split(r"[./]", module)[0]
    for room in rooms:
        if room.name in (first, first + ".py"):
            return room.level
    return TOP_LEVEL


def by_level(rooms: Iterable[Room] = ROOMS) -> Iterator[tuple[int, list[Room]]]:
    """(level, its rooms in the table's order), the highest level first."""
    rooms = list(rooms)
    for level in sorted({room.level for room in rooms}, reverse=True):
        yield level, [room for room in rooms if room.level == level]
