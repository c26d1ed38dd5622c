"""Tickets: what the pack could not cure and a person should look at.

A ticket is its events, appended under its id; what they make of it is derived from them, and a head
under a key of its own repeats that for lists. The id is derived from the problem, so the same
problem has one ticket and the same failure adds to it. Its level only rises while it is open.
"""

import hashlib
import itertools
import json
import re

from synthralos.core.errors import InvalidInput
from synthralos.core.failures import SEVERITIES
from synthralos.core.timestamps import to_iso
from synthralos.storage import unreadable
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
# What a ticket that has just been opened starts from.
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
    """The id of the ticket for failures of `subject` by `cause`: stable, 12 hex digits."""
    told = json.dumps([workflow, subject, cause]).encode()
    return "T" + hashlib.sha256(told).hexdigest()[:12]


def rank(level):
    """The place of a level among LEVELS, from 0; of anything else 0."""
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
):
    """Creates the ticket of this problem, or adds an occurrence to it.

    :param subject: the agent, model or route that failed.
    :param failure: type, cause and severity, as a mapping.
    :param run: the execution id of the run that failed.
    :param summary: one redacted line.
    :param prioritize: a callable (ticket as it is with this occurrence) -> (level, priority); without
        one a ticket stays at the lowest of both.
    :param attempts: calls that the run made.
    :param impact: 0 to 10, or None.
    :param details: a small redacted mapping, such as the refused field.
    :returns: {ticket, status, occurrences, new, level, priority, previous_level}, or None when it
        could not be recorded; previous_level is the level that it had before, where that was lower.
    """
    name = ticket_id(workflow, subject, failure.get("cause"))
    events = _events(store, name)
    before = _replay(events) if events else None
    was = before or {"status": RESOLVED, "level": None}
    new = was["status"] == RESOLVED
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
    if prioritize is not None:
        event["level"], event["priority"] = prioritize(_preview(name, events, before, event, now))
    after = _append_event(store, now, name, events, before, event)
    if after is None:
        return None
    raised = not new and rank(after["level"]) > rank(was["level"])
    return {
        "ticket": name,
        "status": after["status"],
        "occurrences": after["occurrences"],
        "new": new,
        "level": after["level"],
        "priority": after["priority"],
        "previous_level": was["level"] if raised else None,
    }


def take(store, now, name, actor, run):
    """The ticket, in progress with `actor`. InvalidInput when it is resolved, or is none.

    Who takes it from somebody else has it from then on. None when it could not be recorded.
    """
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED:
        raise InvalidInput(
            "ticket_id", name, "is resolved", "A new occurrence opens it again: ticket.create"
        )
    if before["taken_by"] == actor:
        return dict(before, ticket=name)
    return _append_event(
        store, now, name, events, before, _event_for(before, kind=ASSIGNED, by=actor, run=run)
    )


def resolve(store, now, name, resolution, actor, run):
    """The ticket, resolved; one that is so already stays as it is.

    InvalidInput when there is none; None when it could not be recorded.
    """
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED:
        return dict(before, ticket=name)
    event = _event_for(before, kind=RESOLVED, by=actor, run=run, resolution=resolution)
    return _append_event(store, now, name, events, before, event)


def escalate(store, now, name, level, reason, run):
    """The ticket, at `level` or the higher one that it has. None when it could not be recorded."""
    events = _require_events(store, name)
    before = _replay(events)
    if before["status"] == RESOLVED or rank(level) <= rank(before["level"]):
        return dict(before, ticket=name)
    event = _event_for(before, kind=RAISED, level=level, why=reason, run=run)
    return _append_event(store, now, name, events, before, event)


def list_tickets(store, status=None, subject=None, level=None, min_priority=None):
    """The tickets as their newest event left them, the newest first. Reads at most PAGES pages."""
    found = []
    for page in range(MAX_PAGES):
        rows = store.list(_HEADS, limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        for name, head in _read(rows):
            ticket, shown = name[len(_HEADS):], dict(_INITIAL_STATE, **head)
            # Whatever else a hand has put below the prefix is no ticket.
            if _TICKET.match(ticket) and isinstance(shown.get("at"), str):
                found.append(dict(shown, ticket=ticket, level=_level(shown["level"])))
        if len(rows) < PAGE_SIZE:
            break
    found.sort(key=lambda ticket: ticket["at"], reverse=True)
    return [
        ticket
        for ticket in found
        if status in (None, ticket["status"]) and
        subject in (None, ticket["subject"]) and
        level in (None, ticket["level"]) and
        (min_priority is None or ticket["priority"] >= min_priority)
    ]


def get(store, name):
    """The ticket called `name`, with its events, newest first. InvalidInput when there is none."""
    events = _require_events(store, name)
    return dict(_replay(events), ticket=name, events=events)


def repair_head(store, ticket, head):
    """Writes the head of a ticket anew where two that wrote at once have left an older one."""
    if (head["status"], head["level"], head["occurrences"]) != (
        ticket["status"], ticket["level"], ticket["occurrences"]
    ):
        _write_head(store, ticket["ticket"], ticket)


def _require_events(store, name):
    events = _events(store, name) if _TICKET.match(name) else []
    if not events:
        raise InvalidInput(
            "ticket_id", name, "is no ticket", "List them with synthralos.ticket.list"
        )
    return events


def _append_event(store, now, name, events, before, event):
    """Writes an event and the head; returns the ticket, or None when it was not written.

    :param events: those that were there, newest first; before: what they make, or None.
    """
    after = _preview(name, events, before, event, now)
    value = dict(
        event, v=FORMAT_VERSION, status=after["status"], before=_carry_over(events, before)
    )
    key = "%s%s.%s" % (_EVENTS, name, timestamp_key(now))
    if not store.put(key, _json(value), TTL_SECONDS):
        return None
    _write_head(store, name, after)
    return after


def _preview(name, events, before, event, now):
    """The ticket as it is with one event more."""
    shown = dict(event, at=to_iso(now), time=int(now * 1000), before=_carry_over(events, before))
    return dict(_replay(([shown] + events)[:PAGE_SIZE]), ticket=name)


def _write_head(store, name, ticket):
    head = {key: ticket[key] for key in ticket if key not in ("events", "ticket")}
    store.put(_HEADS + name, _json(dict(head, v=FORMAT_VERSION)), TTL_SECONDS)


def _event_for(ticket, **more):
    """An event that repeats what the ticket is about, so that no page of events lacks it."""
    return dict({name: ticket[name] for name in _FACTS + ("severity",) if name in ticket}, **more)


def _events(store, name):
    """The newest events of a ticket, newest first."""
    rows = store.list("%s%s." % (_EVENTS, name))
    found = []
    for key, event in _read(rows):
        at = timestamp_of_key(key)
        if at is None:
            continue
        shown = dict(event, event=key.rsplit(".", 1)[-1], ticket=name, at=to_iso(at))
        shown.setdefault("kind", OCCURRED)
        found.append(dict(shown, time=int(round(at * 1000))))
    return found


def _read(rows):
    """(name, value) of the rows that this version of the pack has written."""
    for name, text in rows:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict) and value.pop("v", None) == FORMAT_VERSION and "status" in value:
            yield name, value
        else:
            unreadable.skip(name)


def _replay(events):
    """What the events of a ticket, newest first, make of it.

    What came after its last resolution counts, and only an occurrence opens it again: whoever
    raised or took it at the moment at which it was resolved came too late.
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
        # What happened before this page is known from what the page's oldest event found.
        so_far = dict(_INITIAL_STATE, **(period[-1].get("before") or {}))
    else:
        # It was opened by an occurrence: what stands before the first one came too late.
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
    """What an event tells of the ticket as it found it, as far as a later reader needs it."""
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


def _json(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
