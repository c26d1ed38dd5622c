"""Tickets: what the pack could not cure and a person should look at.

A ticket is its events, appended under its id; the newest event is its present state. The id is
derived from the problem, so the same problem has one ticket and the same failure adds to it.
"""

import hashlib
import itertools
import json

from synthralos.names import key_part
from synthralos.refusals import Refused
from synthralos.state.datastore import PAGE, PREFIX, time_key, time_of
from synthralos.times import timestamp

FORMAT = 1
KEPT_SECONDS = 90 * 24 * 3600
PAGES = 10
OPEN = "open"


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
    key = "%sticket.%s.%s" % (PREFIX, name, time_key(now))
    if not store.put(key, json.dumps(event, separators=(",", ":"), sort_keys=True), KEPT_SECONDS):
        return None
    return {"ticket": name, "status": OPEN, "occurrences": len(before) + 1, "new": not before}


def listing(store, status=None, subject=None):
    """The tickets, the newest event first, each as `get` gives it but for its events.

    Reads at most PAGES pages of events.
    """
    found = {}
    for page in range(PAGES):
        rows = store.list(PREFIX + "ticket.", limit=PAGE, offset=page * PAGE)
        for name, value in rows:
            event = _event(name, value)
            if event is not None:
                found.setdefault(event["ticket"], []).append(event)
        if len(rows) < PAGE:
            break
    tickets = [_state(events) for events in found.values()]
    tickets.sort(key=lambda ticket: ticket["event"], reverse=True)
    return [
        ticket
        for ticket in tickets
        if status in (None, ticket["status"]) and subject in (None, ticket["subject"])
    ]


def get(store, name):
    """The ticket called `name`, with its events, newest first. Refused when there is none."""
    events = _events(store, name)
    if not events:
        raise Refused("ticket_id", name, "is no ticket", "List them with synthralos.ticket.list")
    return dict(_state(events), events=events)


def _events(store, name):
    rows = store.list("%sticket.%s." % (PREFIX, key_part(name)))
    return [event for event in (_event(*row) for row in rows) if event is not None]


def _event(name, value):
    try:
        event = json.loads(value)
        if event.pop("v") != FORMAT:
            return None
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    last = name.rsplit(".", 1)[-1]
    at = time_of(name)
    return dict(
        event,
        ticket=name[len(PREFIX):].split(".")[1],
        event=last,
        at=None if at is None else timestamp(at),
    )


def _still_open(events):
    """The newest events, down to the one before the ticket was last resolved."""
    return list(itertools.takewhile(lambda event: event["status"] == OPEN, events))


def _state(events):
    """The newest event, and how often the problem has occurred since the ticket was opened."""
    occurrences = _still_open(events)
    opened = occurrences[-1]["at"] if occurrences else None
    return dict(events[0], occurrences=len(occurrences), opened_at=opened)
