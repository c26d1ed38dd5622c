"""Tickets: problems that the pack could not recover from and that need a person.

A ticket's events are appended under its id. Its state is derived from them, and a head under a key
of its own repeats the state for lists. The id is derived from the problem, so that the same failure
adds to the same ticket. Its level only rises while it is open.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Optional, TypedDict, cast

from synthralos.core.causes import SEVERITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    Listing,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("ticket")
MAX_PAGES = 10
LEVELS = ("auto_recovery", "supervisor_review", "human_intervention", "critical_alert")
OPEN, IN_PROGRESS, RESOLVED = STATUSES = ("open", "in_progress", "resolved")
OCCURRED, ASSIGNED, RAISED = "occurred", "taken", "raised"
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_HEADS = PREFIX + "ticket."
_EVENTS = PREFIX + "ticket_event."


class TicketState(TypedDict):
    """What follows from the events of a ticket; times of day are in ISO 8601.

    `period` is when the ticket was resolved before, in milliseconds since the epoch, or 0.
    `impact` is 0 to 10; `taken_by` is who is assigned to it.
    """

    period: int
    occurrences: int
    attempts: int
    opened_at: Optional[str]
    severity: Optional[str]
    impact: Optional[float]
    level: str
    level_since: Optional[str]
    priority: float
    taken_by: Optional[str]
    taken_at: Optional[str]


class TicketEvent(TypedDict, total=False):
    """An event of a ticket: it occurred, was taken, raised or resolved; times are in ISO 8601.

    `event` is its id, and `time` its time in milliseconds since the epoch. `run` is the execution
    id of the run that failed, or that took, raised or resolved the ticket; then `failed_run` is the
    run that had failed last. `by` is who did it, and `why` the reason for a raised level.
    `evidence` are sanitized JSON objects. `before` is the TicketState before the event, or only its
    `period` after a resolution, for those who no longer find the earlier events; `status` is the
    ticket's after it.
    """

    kind: str
    event: str
    ticket: str
    at: str
    time: int
    workflow: Optional[str]
    subject: Optional[str]
    type: Optional[str]
    cause: Optional[str]
    severity: Optional[str]
    summary: Optional[str]
    run: Optional[str]
    failed_run: Optional[str]
    details: Optional[dict[str, Any]]
    evidence: Sequence[Mapping[str, Any]]
    attempts: int
    impact: float
    level: str
    priority: float
    by: str
    why: str
    resolution: str
    status: str
    before: Optional[Mapping[str, Any]]


class _Ending(TypedDict, total=False):
    resolved_by: Optional[str]
    resolved_at: str
    resolution: Optional[str]
    events: list[TicketEvent]


class Ticket(TicketState, _Ending):
    """A ticket: its id and status, the time of its newest event, in ISO 8601, and its last failure.

    `summary` is one redacted line, `run` the run that failed. `events`, newest first, are only in a
    ticket that was read by itself, and `resolution` with its time and person only in a resolved
    one.
    """

    ticket: str
    status: str
    at: str
    workflow: Optional[str]
    subject: Optional[str]
    type: Optional[str]
    cause: Optional[str]
    summary: Optional[str]
    run: Optional[str]
    details: Optional[dict[str, Any]]


class Occurrence(TypedDict):
    """A ticket after an occurrence of its problem; `new` is whether that opened it.

    `previous_level` is the level before this occurrence if it was lower, else None.
    """

    ticket: str
    status: str
    occurrences: int
    new: bool
    level: str
    priority: float
    previous_level: Optional[str]


# The state of a ticket before its first event.
_INITIAL_STATE: TicketState = {
    "period": 0,
    "occurrences": 0,
    "attempts": 0,
    "opened_at": None,
    "severity": None,
    "impact": None,
    "level": LEVELS[0],
    "level_since": None,
    "priority": 0,
    "taken_by": None,
    "taken_at": None,
}


def ticket_id(workflow: str, subject: str, cause: Optional[str]) -> str:
    """The id of the ticket for failures of `subject` by `cause`: stable, T and 12 hex digits."""
    identity = json.dumps([workflow, subject, cause]).encode()
    return "T" + hashlib.sha256(identity).hexdigest()[:12]


def rank(level: object) -> int:
    """The index of a level in LEVELS; 0 for anything else."""
    return LEVELS.index(level) if isinstance(level, str) and level in LEVELS else 0


def record_occurrence(
    store: BestEffortDatastore,
    now: float,
    workflow: str,
    subject: str,
    failure: Mapping[str, Any],
    run: Optional[str],
    summary: str,
    prioritize: Optional[Callable[[Ticket], tuple[str, float]]] = None,
    attempts: int = 0,
    impact: Optional[float] = None,
    details: Optional[dict[str, Any]] = None,
    evidence: Optional[Sequence[Mapping[str, Any]]] = None,
) -> Optional[Occurrence]:
    """Create the ticket of this problem, or add an occurrence to it.

    :param subject: the agent, model or route that failed.
    :param failure: type, cause and severity, as a mapping.
    :param run: the execution id of the run that failed.
    :param summary: one redacted line.
    :param prioritize: (ticket including this occurrence) -> (level, priority); without it a ticket
        stays at the lowest of both.
    :param attempts: calls that the run made.
    :param impact: 0 to 10, or None.
    :param details: a small redacted mapping, such as the invalid field.
    :param evidence: sanitized JSON objects, which only the event of this occurrence has.
    :returns: None if it could not be recorded.
    """
    name = ticket_id(workflow, subject, failure.get("cause"))
    events = _events(store, name)
    before = _replay(name, events) if events else None
    event: TicketEvent = {
        "kind": OCCURRED,
        "workflow": workflow,
        "subject": subject,
        "type": failure.get("type"),
        "cause": failure.get("cause"),
        "severity": failure.get("severity"),
        "summary": summary,
        "run": run,
        "attempts": attempts,
    }
    if impact is not None:
        event["impact"] = impact
    if details:
        event["details"] = details
    if evidence:
        event["evidence"] = evidence
    if prioritize is not None:
        event["level"], event["priority"] = prioritize(_preview(name, events, before, event, now))
    after = _append_event(store, now, name, events, before, event)
    if after is None:
        return None
    previous_level = _open_level(before)
    is_raised = rank(after["level"]) > rank(previous_level)
    return {
        "ticket": name,
        "status": after["status"],
        "occurrences": after["occurrences"],
        "new": previous_level is None,
        "level": after["level"],
        "priority": after["priority"],
        "previous_level": previous_level if is_raised else None,
    }


def take(
    store: BestEffortDatastore, now: float, name: str, actor: str, run: Optional[str]
) -> Optional[Ticket]:
    """Assign the ticket to `actor`, in place of an earlier assignee, and return it.

    :returns: the ticket, in progress, or None if it could not be recorded.
    :raises InvalidInput: it is resolved, or does not exist.
    """
    events = _require_events(store, name)
    before = _replay(name, events)
    if before["status"] == RESOLVED:
        raise InvalidInput(
            "ticket_id", name, "is resolved", "Add a new occurrence to reopen it: ticket.create"
        )
    if before["taken_by"] == actor:
        return before
    event: TicketEvent = {**_event_about(before), "kind": ASSIGNED, "by": actor, "run": run}
    return _append_event(store, now, name, events, before, event)


def resolve(
    store: BestEffortDatastore,
    now: float,
    name: str,
    resolution: str,
    actor: str,
    run: Optional[str],
) -> Optional[Ticket]:
    """Resolve the ticket and return it; a resolved ticket stays as it is.

    :returns: the ticket, or None if it could not be recorded.
    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    before = _replay(name, events)
    if before["status"] == RESOLVED:
        return before
    event: TicketEvent = {
        **_event_about(before),
        "kind": RESOLVED,
        "by": actor,
        "run": run,
        "resolution": resolution,
    }
    return _append_event(store, now, name, events, before, event)


def escalate(
    store: BestEffortDatastore, now: float, name: str, level: str, reason: str, run: Optional[str]
) -> Optional[Ticket]:
    """Raise the ticket to `level`, unless its level is as high already, and return it.

    :returns: the ticket, or None if it could not be recorded.
    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    before = _replay(name, events)
    if before["status"] == RESOLVED or rank(level) <= rank(before["level"]):
        return before
    event: TicketEvent = {
        **_event_about(before), "kind": RAISED, "level": level, "why": reason, "run": run
    }
    return _append_event(store, now, name, events, before, event)


def list_tickets(
    store: Listing,
    status: Optional[str] = None,
    subject: Optional[str] = None,
    level: Optional[str] = None,
    min_priority: Optional[float] = None,
) -> list[Ticket]:
    """The tickets that match, most recently changed first. Reads at most MAX_PAGES pages."""
    tickets = []
    for rows in records.iter_pages(store, _HEADS, MAX_PAGES):
        for key, head in _read(rows):
            name = key[len(_HEADS):]
            # A key that was added manually is not a ticket.
            if _TICKET.match(name) and isinstance(head.get("at"), str):
                fields = dict(head, ticket=name, level=_level(head.get("level")))
                tickets.append(cast(Ticket, dict(_INITIAL_STATE, **fields)))
    tickets.sort(key=lambda ticket: ticket["at"], reverse=True)
    return [
        ticket
        for ticket in tickets
        if status in (None, ticket["status"]) and
        subject in (None, ticket["subject"]) and
        level in (None, ticket["level"]) and
        (min_priority is None or ticket["priority"] >= min_priority)
    ]


def get(store: Listing, name: str) -> Ticket:
    """Return the ticket called `name`, with its events.

    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    ticket = _replay(name, events)
    ticket["events"] = events
    return ticket


def repair_head(store: BestEffortDatastore, ticket: Ticket, head: Ticket) -> None:
    """Rewrite a ticket's head if concurrent writers have left an outdated one."""
    if (head["status"], head["level"], head["occurrences"]) != (
        ticket["status"], ticket["level"], ticket["occurrences"]
    ):
        _write_head(store, ticket["ticket"], ticket)


def _require_events(store: Listing, name: str) -> list[TicketEvent]:
    events = _events(store, name) if _TICKET.match(name) else []
    if not events:
        raise InvalidInput(
            "ticket_id", name, "does not exist", "List the tickets with synthralos.ticket.list"
        )
    return events


def _append_event(
    store: BestEffortDatastore,
    now: float,
    name: str,
    events: list[TicketEvent],
    before: Optional[Ticket],
    event: TicketEvent,
) -> Optional[Ticket]:
    """Write an event and the head. Return the ticket, or None if it was not written.

    :param events: the earlier events, newest first.
    :param before: the ticket after those, or None without any.
    """
    after = _preview(name, events, before, event, now)
    fields: TicketEvent = {
        **event, "status": after["status"], "before": _carry_over(events, before)
    }
    key = "%s%s.%s" % (_EVENTS, name, timestamp_key(now))
    if not store.put(key, records.encode(fields, FORMAT_VERSION), TTL_SECONDS):
        return None
    _write_head(store, name, after)
    return after


def _open_level(ticket: Optional[Ticket]) -> Optional[str]:
    """Return the level of a ticket that is not resolved, else None."""
    if ticket is None or ticket["status"] == RESOLVED:
        return None
    return ticket["level"]


def _preview(
    name: str,
    events: list[TicketEvent],
    before: Optional[Ticket],
    event: TicketEvent,
    now: float,
) -> Ticket:
    """The ticket as it would be after `event`."""
    next_event: TicketEvent = {
        **event,
        "at": to_iso(now),
        "time": int(now * 1000),
        "before": _carry_over(events, before),
    }
    return _replay(name, ([next_event] + events)[:PAGE_SIZE])


def _write_head(store: BestEffortDatastore, name: str, ticket: Ticket) -> None:
    head = {key: value for key, value in ticket.items() if key not in ("events", "ticket")}
    store.put(_HEADS + name, records.encode(head, FORMAT_VERSION), TTL_SECONDS)


def _event_about(ticket: Ticket) -> TicketEvent:
    """An event that repeats the ticket's subject, so that every page of events contains it."""
    return {
        "workflow": ticket["workflow"],
        "subject": ticket["subject"],
        "type": ticket["type"],
        "cause": ticket["cause"],
        "severity": ticket["severity"],
        "summary": ticket["summary"],
        "failed_run": ticket["run"],
        "details": ticket["details"],
    }


def _events(store: Listing, name: str) -> list[TicketEvent]:
    """The newest events of a ticket, newest first."""
    rows = store.list("%s%s." % (_EVENTS, name))
    events = []
    for key, fields in _read(rows):
        timestamp = timestamp_of_key(key)
        if timestamp is None:
            continue
        identity = dict(event=key.rsplit(".", 1)[-1], ticket=name, at=to_iso(timestamp))
        event = cast(TicketEvent, dict({"kind": OCCURRED}, **dict(fields, **identity)))
        event["time"] = int(round(timestamp * 1000))
        events.append(event)
    return events


def _read(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, records.Fields]]:
    """Yield (key, fields) of the readable rows."""
    for key, fields in records.iter_rows(rows, FORMAT_VERSION):
        if "status" in fields:
            yield key, fields
        else:
            unreadable.skip(key)


def _replay(name: str, events: list[TicketEvent]) -> Ticket:
    """The ticket after its events, which are newest first.

    Only events since its last resolution count, and only an occurrence reopens it: an assignment or
    a raised level at the moment of the resolution came too late.
    """
    period = list(itertools.takewhile(lambda event: event["kind"] != RESOLVED, events))
    resolution = events[len(period)] if len(period) < len(events) else None
    occurred = [event for event in period if event["kind"] == OCCURRED]
    if resolution is not None and not occurred:
        so_far = _state_before(resolution)
        ticket = _ticket(name, resolution, so_far, events[0]["at"], RESOLVED)
        ticket["resolved_by"] = resolution.get("by")
        ticket["resolved_at"] = resolution["at"]
        ticket["resolution"] = resolution.get("resolution")
        return ticket
    so_far = _INITIAL_STATE.copy()
    so_far["period"] = resolution["time"] if resolution else 0
    if resolution is None and len(events) >= PAGE_SIZE:
        # The page's oldest event contains the state before this page.
        so_far = _state_before(period[-1])
    else:
        # It was opened by an occurrence: an event before the first occurrence came too late.
        period = period[: period.index(occurred[-1]) + 1]
    for event in reversed(period):
        so_far = _apply(so_far, event)
    status = IN_PROGRESS if so_far["taken_by"] else OPEN
    return _ticket(name, (occurred or events)[0], so_far, events[0]["at"], status)


def _apply(so_far: TicketState, event: TicketEvent) -> TicketState:
    after = so_far.copy()
    if event["kind"] == OCCURRED:
        after["occurrences"] += 1
        after["attempts"] += event.get("attempts") or 0
        after["opened_at"] = after["opened_at"] or event["at"]
        after["severity"] = max(after["severity"], event.get("severity"), key=_severity)
        after["priority"] = max(after["priority"], event.get("priority") or 0)
        if event.get("impact") is not None:
            after["impact"] = max(after["impact"] or 0, event["impact"])
    if event["kind"] == ASSIGNED:
        after["taken_by"], after["taken_at"] = event.get("by"), event["at"]
    if after["level_since"] is None or rank(event.get("level")) > rank(after["level"]):
        after["level"], after["level_since"] = _level(event.get("level")), event["at"]
    return after


def _ticket(name: str, event: TicketEvent, state: TicketState, at: str, status: str) -> Ticket:
    """The ticket whose last failure is that of `event`."""
    return {
        "ticket": name,
        "status": status,
        "at": at,
        "workflow": event.get("workflow"),
        "subject": event.get("subject"),
        "type": event.get("type"),
        "cause": event.get("cause"),
        "summary": event.get("summary"),
        # The run of any other event is the one that took, raised or resolved it.
        "run": event.get("failed_run", event.get("run")),
        "details": event.get("details"),
        "period": state["period"],
        "occurrences": state["occurrences"],
        "attempts": state["attempts"],
        "opened_at": state["opened_at"],
        "severity": state["severity"],
        "impact": state["impact"],
        "level": state["level"],
        "level_since": state["level_since"],
        "priority": state["priority"],
        "taken_by": state["taken_by"],
        "taken_at": state["taken_at"],
    }


def _state_before(event: TicketEvent) -> TicketState:
    """The state before an event, as the event contains it."""
    return cast(TicketState, dict(_INITIAL_STATE, **(event.get("before") or {})))


def _carry_over(
    events: list[TicketEvent], ticket: Optional[Ticket]
) -> Optional[Mapping[str, Any]]:
    """The part of the state before an event that the event stores for later readers."""
    if ticket is None:
        return None
    if ticket["status"] == RESOLVED:
        last = next(event for event in events if event["kind"] == RESOLVED)
        return {"period": last["time"]}
    return {name: value for name, value in ticket.items() if name in _INITIAL_STATE}


def _level(level: object) -> str:
    return LEVELS[rank(level)]


def _severity(severity: Optional[str]) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1
