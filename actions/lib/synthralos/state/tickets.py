"""Tickets: what the pack could not cure and a person should look at.

A ticket is its events, appended under its id; the newest event is its present state, which a head
under a key of its own repeats for lists. The id is derived from the problem, so the same problem
has one ticket and the same failure adds to it.
"""

import hashlib
import itertools
import json
import re

from synthralos.refusals import Refused
from synthralos.state.datastore import PAGE, PREFIX, time_key, time_of
from synthralos.times import timestamp

FORMAT = 1
KEPT_SECONDS = 90 * 24 * 3600
PAGES = 10
OPEN = "open"
_TICKET = re.compile(r"T[0-9a-f]{12}\Z")
_HEADS = PREFIX + "ticket."
_EVENTS = PREFIX + "ticket_event."


def ticket_id(workflow, subject, cause):
    """The id of the ticket for failures of `subject` by `cause`: stable, 12 hex digits."""
    told = json.dumps([workflow, subject, cause]).encode()
    return "T" + hashlib.sha256(told).hexdigest()[:12]


def report(store, now, workflow, subject, failure, run, summary):
    """Creates the ticket of this problem, or adds an occurrence to it.

    :param subject: the agent, model or route that failed.
    :param failure: type, cause and severity, as a mapping.
    :param run: the execution id of the run that failed.
    :param summary: one redacted line.
    :returns: {ticket, status, occurrences, new}, or None when it could not be recorded.
    """
    name = ticket_id(workflow, subject, failure.get("cause"))
    before = _still_open(_events(store, name))
    event = {
        "v": FORMAT,
        "status": OPEN,
        "workflow": workflow,
        "subject": subject,
        "type": failure.get("type"),
        "cause": failure.get("cause"),
        "severity": failure.get("severity"),
        "summary": summary,
        "run": run,
    }
    value = json.dumps(event, separators=(",", ":"), sort_keys=True)
    if not store.put("%s%s.%s" % (_EVENTS, name, time_key(now)), value, KEPT_SECONDS):
        return None
    occurrences = len(before) + 1
    opened = before[-1]["at"] if before else timestamp(now)
    # What a list shows of it. The newest event wins; the events themselves are never overwritten.
    head = dict(event, at=timestamp(now), occurrences=occurrences, opened_at=opened)
    store.put(_HEADS + name, json.dumps(head, separators=(",", ":"), sort_keys=True), KEPT_SECONDS)
    return {"ticket": name, "status": OPEN, "occurrences": occurrences, "new": not before}


def listing(store, status=None, subject=None):
    """The tickets as their newest event left them, the newest first. Reads at most PAGES pages."""
    found = []
    for page in range(PAGES):
        rows = store.list(_HEADS, limit=PAGE, offset=page * PAGE)
        found += [dict(head, ticket=name[len(_HEADS):]) for name, head in _read(rows)]
        if len(rows) < PAGE:
            break
    found.sort(key=lambda ticket: ticket["at"], reverse=True)
    return [
        ticket
        for ticket in found
        if status in (None, ticket["status"]) and subject in (None, ticket["subject"])
    ]


def get(store, name):
    """The ticket called `name`, with its events, newest first. Refused when there is none."""
    events = _events(store, name) if _TICKET.match(name) else []
    if not events:
        raise Refused("ticket_id", name, "is no ticket", "List them with synthralos.ticket.list")
    return dict(_state(events), events=events)


def _events(store, name):
    """The newest events of a ticket, newest first."""
    rows = store.list("%s%s." % (_EVENTS, name))
    found = []
    for key, event in _read(rows):
        at = time_of(key)
        shown = dict(event, event=key.rsplit(".", 1)[-1], ticket=name)
        found.append(dict(shown, at=None if at is None else timestamp(at)))
    return found


def _read(rows):
    """(name, value) of the rows that this version of the pack has written."""
    for name, text in rows:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict) and value.pop("v", None) == FORMAT and "status" in value:
            yield name, value


def _still_open(events):
    """The newest events, down to the one before the ticket was last resolved."""
    return list(itertools.takewhile(lambda event: event["status"] == OPEN, events))


def _state(events):
    """The newest event, and how often the problem has occurred since the ticket was opened."""
    occurrences = _still_open(events)
    opened = occurrences[-1]["at"] if occurrences else None
    return dict(events[0], occurrences=len(occurrences), opened_at=opened)
