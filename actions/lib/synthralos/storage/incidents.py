"""What rules have started: for whom, because of what, and what came of it.

An incident is what a run is started for: an alert, or an error that a platform tells of. Its events
are appended under the incident's key; the starts for a subject under the subject's.
"""

import json

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("incident")
_INCIDENTS = PREFIX + "incident."
_STARTS = PREFIX + "start."
_CLOSING = PREFIX + "scheduled_close."
_ATTEMPTS = PREFIX + "attempt."
STARTED, ON_HOLD, RESOLVED = "started", "held", "resolved"


def record_event(store, now, incident, event):
    """Appends `event`, a small JSON object of ids, enums and numbers; whether it was written.

    {kind: STARTED, HELD or RESOLVED, since, workflow, subject, run, ticket}
    """
    return _append(store, now, "%s%s." % (_INCIDENTS, encode_key_part(incident)), event)


def recent_events(store, incident, limit=20):
    """The newest events of the incident, newest first, each with `at`, seconds since the epoch."""
    return _read(store, "%s%s." % (_INCIDENTS, encode_key_part(incident)), limit)


def record_start(store, now, subject, run):
    """Appends that `run`, an execution id, was started for `subject`."""
    return _append(store, now, "%s%s." % (_STARTS, encode_key_part(subject)), {"run": run})


def starts_since(store, subject, timestamp):
    """The starts for `subject` from `timestamp` on, newest first: [{run, at}]."""
    found = _read(store, "%s%s." % (_STARTS, encode_key_part(subject)), 100)
    return [one for one in found if one["at"] >= timestamp]


def record_attempt(store, now, agent_id, run):
    """Appends that `run` tries the agent, whoever started it."""
    return _append(store, now, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), {"run": run})


def recent_attempts(store, agent_id, limit=5):
    """The newest runs that tried the agent, newest first: [{run, at}]."""
    return _read(store, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), limit)


def schedule_close(store, run, actor):
    """Remembers that the ticket of `run`, which goes on, is to be resolved when it has ended."""
    return store.put(_CLOSING + encode_key_part(run), actor, TTL_SECONDS)


def scheduled_closes(store):
    """[(run, by)] of what close_later has remembered, at most a page."""
    return [(name[len(_CLOSING):], by) for name, by in store.list(_CLOSING)]


def remove_scheduled_close(store, run):
    """Forgets what close_later has remembered."""
    store.delete(_CLOSING + encode_key_part(run))


def _append(store, now, prefix, event):
    value = json.dumps(dict(event, v=FORMAT_VERSION), separators=(",", ":"), sort_keys=True)
    return store.put(prefix + timestamp_key(now), value, TTL_SECONDS)


def _read(store, prefix, limit):
    found = []
    for name, value in store.list(prefix, limit=limit):
        try:
            event = json.loads(value)
        except ValueError:
            event = None
        if isinstance(event, dict) and event.pop("v", None) == FORMAT_VERSION:
            found.append(dict(event, at=timestamp_of_key(name) or 0.0))
        else:
            unreadable.skip(name)
    return found
