"""The runs that rules have started: for which subject, because of which incident, with what result.

What the mode observe has recorded in place of a run stands beside it, with a kind and keys of its
own: it is never taken for a run.

An incident is the reason for a run: an alert, or an error that a platform reports. Its events are
appended under the incident's key; the starts for a subject under the subject's.

Several alerts may report one incident, such as those of a thing whose exporter has moved: each has
its own key while it is firing.
"""
from dataclasses import asdict, dataclass

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.storage import records
from synthralos.storage.datastore import PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("incident")
MAX_EVENT_PAGES = 10
_INCIDENTS = PREFIX + "incident."
_STARTS = PREFIX + "start."
_OBSERVED_STARTS = PREFIX + "observed_start."
_CLOSING = PREFIX + "scheduled_close."
_ATTEMPTS = PREFIX + "attempt."
_FIRING = PREFIX + "firing_alert."
_CLUSTERS = PREFIX + "seen_cluster."
STARTED, ON_HOLD, RESOLVED, OBSERVED = "started", "held", "resolved", "observed"


@dataclass(frozen=True)
class FiringAlert:
    """An alert that reports an incident.

    :ivar fingerprint: of its labels.
    :ivar starts_at: when it began to fire, in ISO 8601.
    :ivar since: when the incident began, in ISO 8601: earlier, where another alert reported it.
    :ivar at: when it was reported last, in seconds since the epoch.
    :ivar is_gone: whether its data has stopped, which does not mean that the incident is over.
    """

    fingerprint: str
    starts_at: str
    since: str
    at: float
    is_gone: bool = False


def record_event(store, now, incident, event):
    """Append `event`, a small JSON object of ids, enums and numbers. Return whether it was written.

    {kind: STARTED, ON_HOLD, RESOLVED or OBSERVED, since, workflow, subject, run, ticket}; OBSERVED
    also has `outcome`, what would have become of the report, `runbook` and `crews`.
    """
    return _append(store, now, "%s%s." % (_INCIDENTS, encode_key_part(incident)), event)


def recent_events(store, incident, since=None):
    """The newest events of the incident, newest first, each with `at`, seconds since the epoch.

    An alert that flaps leaves two of them each time. Costs one call to the datastore, and further
    ones as far as a page is not enough.

    :param since: seconds since the epoch: all events since then, up to MAX_EVENT_PAGES pages; None
        for a page.
    """
    prefix = "%s%s." % (_INCIDENTS, encode_key_part(incident))
    events = []
    for page in records.iter_pages(store, prefix, 1 if since is None else MAX_EVENT_PAGES):
        events += _events(page)
        if not events or since is None or events[-1]["at"] < since:
            break
    return events


def record_start(store, now, subject, run, work=None):
    """Record that `run`, an execution id, was started for `subject`. Return whether it was.

    :param work: what it does by a runbook (see Runbook.work_for), or None.
    """
    start = {"run": run} if work is None else {"run": run, "work": work}
    return _append(store, now, "%s%s." % (_STARTS, encode_key_part(subject)), start)


def starts_since(store, subject, timestamp):
    """The starts for `subject` since `timestamp`, newest first: [{run, at}], some with {work}."""
    starts = _read(store, "%s%s." % (_STARTS, encode_key_part(subject)), 100)
    return [start for start in starts if start["at"] >= timestamp]


def record_observed_start(store, now, subject, incident, work=None):
    """Record that a run would have been started for `subject`. Return whether it was.

    :param work: as for record_start.
    :param incident: the id of the incident that it would have handled; None for a single request,
        whose end nobody reports.
    """
    prefix = "%s%s." % (_OBSERVED_STARTS, encode_key_part(subject))
    return _append(store, now, prefix, {"incident": incident, "work": work})


def observed_starts_since(store, subject, timestamp):
    """The would-be starts for `subject` since `timestamp`, newest first: [{incident, work, at}]."""
    starts = _read(store, "%s%s." % (_OBSERVED_STARTS, encode_key_part(subject)), 100)
    return [start for start in starts if start["at"] >= timestamp]


def record_attempt(store, now, agent_id, run):
    """Record that `run` attempts to recover the agent, whoever started it."""
    return _append(store, now, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), {"run": run})


def recent_attempts(store, agent_id, limit=5):
    """The newest runs that attempted to recover the agent, newest first: [{run, at}]."""
    return _read(store, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), limit)


def record_firing(store, incident, alert):
    """Record a FiringAlert of the incident in place of an older one with its fingerprint."""
    fields = asdict(alert)
    fingerprint = fields.pop("fingerprint")
    row = records.encode(fields, FORMAT_VERSION)
    return store.put(_firing_prefix(incident) + fingerprint, row, TTL_SECONDS)


def firing_alerts(store, incident):
    """The FiringAlerts of the incident, at most a page."""
    prefix = _firing_prefix(incident)
    rows = records.iter_rows(store.list(prefix), FORMAT_VERSION)
    return [FiringAlert(fingerprint=name[len(prefix):], **fields) for name, fields in rows]


def remove_firing(store, incident, fingerprint):
    """Remove the FiringAlert of the incident, which is firing no longer."""
    store.delete(_firing_prefix(incident) + fingerprint)


def record_cluster(store, name, cluster):
    """Record that the cluster has a thing of that name."""
    key = "%s%s.%s" % (_CLUSTERS, encode_key_part(name), encode_key_part(cluster))
    return store.put(key, "1", TTL_SECONDS)


def clusters_with(store, name):
    """The clusters in which alerts have reported a thing of that name, at most a page."""
    prefix = "%s%s." % (_CLUSTERS, encode_key_part(name))
    return [decode_key_part(key[len(prefix):]) for key, _ in store.list(prefix)]


def schedule_close(store, run, actor):
    """Record that the ticket of `run`, which is still running, is to be resolved when it ends."""
    return store.put(_CLOSING + encode_key_part(run), actor, TTL_SECONDS)


def is_close_scheduled(store, run):
    """Whether what `run` was started for has ended while it was still running."""
    return store.get(_CLOSING + encode_key_part(run)) is not None


def scheduled_closes(store):
    """The closes that schedule_close has recorded, at most a page: [(run, actor)]."""
    return [(name[len(_CLOSING):], actor) for name, actor in store.list(_CLOSING)]


def remove_scheduled_close(store, run):
    """Remove the close that schedule_close has recorded for `run`."""
    store.delete(_CLOSING + encode_key_part(run))


def _firing_prefix(incident):
    return "%s%s." % (_FIRING, encode_key_part(incident))


def _append(store, now, prefix, event):
    return store.put(
        prefix + timestamp_key(now), records.encode(event, FORMAT_VERSION), TTL_SECONDS
    )


def _read(store, prefix, limit):
    return _events(store.list(prefix, limit=limit))


def _events(rows):
    return [
        dict(event, at=timestamp_of_key(name) or 0.0)
        for name, event in records.iter_rows(rows, FORMAT_VERSION)
    ]
