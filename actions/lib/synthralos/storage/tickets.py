"""Tickets: problems that the pack could not recover from and that need a person.

A ticket's events are appended under its id. Its state is derived from them, and a head under a key
of its own repeats the state for lists. The id is derived from the problem, so that the same failure
adds to the same ticket. Its level only rises while it is open.
"""

import hashlib
import itertools
import json
import re

from synthralos.core.causes import SEVERITIES
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import to_iso
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key
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
# The state of a ticket before its first event.
_INITIAL_STATE = {
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
_FACTS = ("workflow", "subject", "type", "cause", "summary", "run", "details")


def ticket_id(workflow, subject, cause):
    """The id of the ticket for failures of `subject` by `cause`: stable, T and 12 hex digits."""
    identity = json.dumps([workflow, subject, cause]).encode()
    return "T" + hashlib.sha256(identity).hexdigest()[:12]


def rank(level):
    """The index of a level in LEVELS; 0 for anything else."""
    return LEVELS.index(level) if level in LEVELS else 0


def record_occurrence(
    store,
    now,
    workflow,
    subject,
    failure,
    run,
    summary,
    prioritize=None,
    attempts=0,
    impact=None,
    details=None,
    evidence=None,
):
    """Create the ticket of this problem, or add an occurrence to it.

    :param subject: the agent, model or route that failed.
    :param failure: type, cause and severity, as a mapping.
    :param run: the execution id of the run that failed.
    :param summary: one redacted line.
    :param prioritize: a callable (ticket including this occurrence) -> (level, priority); without
        it a ticket stays at the lowest of both.
    :param attempts: calls that the run made.
    :param impact: 0 to 10, or None.
    :param details: a small redacted mapping, such as the invalid field.
    :param evidence: a list of sanitized JSON objects, which only the event of this occurrence has.
    :returns: {ticket, status, occurrences, new, level, priority, previous_level}, or None if it
        could not be recorded; previous_level is the level before this occurrence if it was lower,
        else None.
    """
    name = ticket_id(workflow, subject, failure.get("cause"))
    events = _events(store, name)
    before = _replay(events) if events else None
    previous = before or {"status": RESOLVED, "level": None}
    is_new = previous["status"] == RESOLVED
    event = {
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
    is_raised = not is_new and rank(after["level"]) > rank(previous["level"])
    return {
        "ticket": name,
        "status": after["status"],
        "occurrences": after["occurrences"],
        "new": is_new,
        "level": after["level"],
        "priority": after["priority"],
        "previous_level": previous["level"] if is_raised else None,
    }


def take(store, now, name, actor, run):
    """Assign the ticket to `actor`, in place of an earlier assignee, and return it.

    :returns: the ticket, in progress, or None if it could not be recorded.
    :raises InvalidInput: it is resolved, or does not exist.
    """
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED:
        raise InvalidInput(
            "ticket_id", name, "is resolved", "Add a new occurrence to reopen it: ticket.create"
        )
    if before["taken_by"] == actor:
        return dict(before, ticket=name)
    return _append_event(
        store, now, name, events, before, _event_for(before, kind=ASSIGNED, by=actor, run=run)
    )


def resolve(store, now, name, resolution, actor, run):
    """Resolve the ticket and return it; a resolved ticket stays as it is.

    :returns: the ticket, or None if it could not be recorded.
    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED:
        return dict(before, ticket=name)
    event = _event_for(before, kind=RESOLVED, by=actor, run=run, resolution=resolution)
    return _append_event(store, now, name, events, before, event)


def escalate(store, now, name, level, reason, run):
    """Raise the ticket to `level`, unless its level is as high already, and return it.

    :returns: the ticket, or None if it could not be recorded.
    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED or rank(level) <= rank(before["level"]):
        return dict(before, ticket=name)
    event = _event_for(before, kind=RAISED, level=level, why=reason, run=run)
    return _append_event(store, now, name, events, before, event)


def list_tickets(store, status=None, subject=None, level=None, min_priority=None):
    """The tickets that match, most recently changed first. Reads at most MAX_PAGES pages."""
    tickets = []
    for rows in records.iter_pages(store, _HEADS, MAX_PAGES):
        for key, head in _read(rows):
            name, ticket = key[len(_HEADS):], dict(_INITIAL_STATE, **head)
            # A key that was added manually is not a ticket.
            if _TICKET.match(name) and isinstance(ticket.get("at"), str):
                tickets.append(dict(ticket, ticket=name, level=_level(ticket["level"])))
    tickets.sort(key=lambda ticket: ticket["at"], reverse=True)
    return [
        ticket
        for ticket in tickets
        if status in (None, ticket["status"]) and
        subject in (None, ticket["subject"]) and
        level in (None, ticket["level"]) and
        (min_priority is None or ticket["priority"] >= min_priority)
    ]


def get(store, name):
    """Return the ticket called `name`, with its events, newest first.

    :raises InvalidInput: it does not exist.
    """
    events = _require_events(store, name)
    return dict(_replay(events), ticket=name, events=events)


def repair_head(store, ticket, head):
    """Rewrite a ticket's head if concurrent writers have left an outdated one."""
    if (head["status"], head["level"], head["occurrences"]) != (
        ticket["status"], ticket["level"], ticket["occurrences"]
    ):
        _write_head(store, ticket["ticket"], ticket)


def _require_events(store, name):
    events = _events(store, name) if _TICKET.match(name) else []
    if not events:
        raise InvalidInput(
            "ticket_id", name, "does not exist", "List the tickets with synthralos.ticket.list"
        )
    return events


def _append_event(store, now, name, events, before, event):
    """Write an event and the head. Return the ticket, or None if it was not written.

    :param events: the earlier events, newest first.
    :param before: the ticket's state after those, or None without any.
    """
    after = _preview(name, events, before, event, now)
    fields = dict(event, status=after["status"], before=_carry_over(events, before))
    key = "%s%s.%s" % (_EVENTS, name, timestamp_key(now))
    if not store.put(key, records.encode(fields, FORMAT_VERSION), TTL_SECONDS):
        return None
    _write_head(store, name, after)
    return after


def _preview(name, events, before, event, now):
    """The ticket as it would be after `event`."""
    next_event = dict(
        event, at=to_iso(now), time=int(now * 1000), before=_carry_over(events, before)
    )
    return dict(_replay(([next_event] + events)[:PAGE_SIZE]), ticket=name)


def _write_head(store, name, ticket):
    head = {key: ticket[key] for key in ticket if key not in ("events", "ticket")}
    store.put(_HEADS + name, records.encode(head, FORMAT_VERSION), TTL_SECONDS)


def _event_for(ticket, **fields):
    """An event that repeats the ticket's subject, so that every page of events contains it."""
    return dict({name: ticket[name] for name in _FACTS + ("severity",) if name in ticket}, **fields)


def _events(store, name):
    """The newest events of a ticket, newest first."""
    rows = store.list("%s%s." % (_EVENTS, name))
    events = []
    for key, fields in _read(rows):
        timestamp = timestamp_of_key(key)
        if timestamp is None:
            continue
        event = dict(fields, event=key.rsplit(".", 1)[-1], ticket=name, at=to_iso(timestamp))
        event.setdefault("kind", OCCURRED)
        events.append(dict(event, time=int(round(timestamp * 1000))))
    return events


def _read(rows):
    """Yield (key, fields) of the readable rows."""
    for key, fields in records.iter_rows(rows, FORMAT_VERSION):
        if "status" in fields:
            yield key, fields
        else:
            unreadable.skip(key)


def _replay(events):
    """The state of a ticket after its events, which are newest first.

    Only events since its last resolution count, and only an occurrence reopens it: an assignment or
    a raised level at the moment of the resolution came too late.
    """
    period = list(itertools.takewhile(lambda event: event["kind"] != RESOLVED, events))
    resolution = events[len(period)] if len(period) < len(events) else None
    occurred = [event for event in period if event["kind"] == OCCURRED]
    if resolution is not None and not occurred:
        so_far = dict(_INITIAL_STATE, **(resolution.get("before") or {}))
        return dict(
            _facts(resolution),
            **so_far,
            at=events[0]["at"],
            status=RESOLVED,
            resolved_by=resolution.get("by"),
            resolved_at=resolution["at"],
            resolution=resolution.get("resolution"),
        )
    so_far = dict(_INITIAL_STATE, period=resolution["time"] if resolution else 0)
    if resolution is None and len(events) >= PAGE_SIZE:
        # The page's oldest event contains the state before this page.
        so_far = dict(_INITIAL_STATE, **(period[-1].get("before") or {}))
    else:
        # It was opened by an occurrence: an event before the first occurrence came too late.
        period = period[: period.index(occurred[-1]) + 1]
    for event in reversed(period):
        so_far = _apply(so_far, event)
    status = IN_PROGRESS if so_far["taken_by"] else OPEN
    return dict(_facts((occurred or events)[0]), **so_far, at=events[0]["at"], status=status)


def _apply(so_far, event):
    after = dict(so_far)
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


def _facts(event):
    return {name: event.get(name) for name in _FACTS}


def _carry_over(events, ticket):
    """The part of the state before an event that the event stores for later readers."""
    if ticket is None:
        return None
    if ticket["status"] == RESOLVED:
        last = next(event for event in events if event["kind"] == RESOLVED)
        return {"period": last["time"]}
    return {name: ticket[name] for name in _INITIAL_STATE}


def _level(level):
    return LEVELS[rank(level)]


def _severity(severity):
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1
