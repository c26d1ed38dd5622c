"""The runs that rules have started: for which subject, because of which incident, with what result.

What the mode observe has recorded in place of a run stands beside it, with a kind and keys of its
own: it is never taken for a run.

An incident is the reason for a run: an alert, or an error that a platform reports. Its events are
appended under the incident's key; the starts for a subject under the subject's.

Several alerts may report one incident, such as those of a thing whose exporter has moved: each has
its own key while it is firing.
"""
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional, TypedDict

from synthralos.core.identifiers import decode_key_part, encode_key_part
from synthralos.storage import records, unreadable
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    Rows,
    timestamp_key,
    timestamp_of_key,
)
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

# A small JSON object of ids, enums and numbers; which of them depends on its kind.
Event = records.Fields


class Attempt(TypedDict):
    """A run that attempted to recover an agent; `at` in seconds since the epoch."""

    run: str
    at: float


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


def record_event(
    store: BestEffortDatastore, now: float, incident: str, event: Mapping[str, Any]
) -> bool:
    """Append an Event. Return whether it was written.

    {kind: STARTED, ON_HOLD, RESOLVED or OBSERVED, since, workflow, subject, run, ticket}; OBSERVED
    also has `outcome`, what would have become of the report, `runbook` and `crews`.
    """
    return _append(store, now, "%s%s." % (_INCIDENTS, encode_key_part(incident)), event)


def recent_events(
    store: BestEffortDatastore, incident: str, since: Optional[float] = None
) -> list[Event]:
    """The newest events of the incident, newest first, each with `at`, seconds since the epoch.

    An alert that flaps leaves two of them each time. Costs one call to the datastore, and further
    ones as far as a page is not enough.

    :param since: seconds since the epoch: all events since then, up to MAX_EVENT_PAGES pages; None
        for a page.
    """
    prefix = "%s%s." % (_INCIDENTS, encode_key_part(incident))
    events: list[Event] = []
    for page in records.iter_pages(store, prefix, 1 if since is None else MAX_EVENT_PAGES):
        events += _events(page)
        if not events or since is None or events[-1]["at"] < since:
            break
    return events


def record_start(
    store: BestEffortDatastore, now: float, subject: str, run: str, work: Optional[str] = None
) -> bool:
    """Record that `run`, an execution id, was started for `subject`. Return whether it was.

    :param work: what it does by a runbook (see Runbook.work_for), or None.
    """
    start = {"run": run} if work is None else {"run": run, "work": work}
    return _append(store, now, "%s%s." % (_STARTS, encode_key_part(subject)), start)


def starts_since(store: BestEffortDatastore, subject: str, timestamp: float) -> list[Event]:
    """The starts for `subject` since `timestamp`, newest first: [{run, at}], some with {work}."""
    starts = _read(store, "%s%s." % (_STARTS, encode_key_part(subject)), 100)
    return [start for start in starts if start["at"] >= timestamp]


def record_observed_start(
    store: BestEffortDatastore,
    now: float,
    subject: str,
    incident: Optional[str],
    work: Optional[str] = None,
) -> bool:
    """Record that a run would have been started for `subject`. Return whether it was.

    :param work: as for record_start.
    :param incident: the id of the incident that it would have handled; None for a single request,
        whose end nobody reports.
    """
    prefix = "%s%s." % (_OBSERVED_STARTS, encode_key_part(subject))
    return _append(store, now, prefix, {"incident": incident, "work": work})


def observed_starts_since(
    store: BestEffortDatastore, subject: str, timestamp: float
) -> list[Event]:
    """The would-be starts for `subject` since `timestamp`, newest first: [{incident, work, at}]."""
    starts = _read(store, "%s%s." % (_OBSERVED_STARTS, encode_key_part(subject)), 100)
    return [start for start in starts if start["at"] >= timestamp]


def record_attempt(store: BestEffortDatastore, now: float, agent_id: str, run: str) -> bool:
    """Record that `run` attempts to recover the agent, whoever started it."""
    return _append(store, now, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), {"run": run})


def recent_attempts(
    store: BestEffortDatastore, agent_id: str, limit: int = 5
) -> list[Attempt]:
    """The newest runs that attempted to recover the agent, newest first."""
    events = _read(store, "%s%s." % (_ATTEMPTS, encode_key_part(agent_id)), limit)
    return [{"run": event["run"], "at": event["at"]} for event in events]


def record_firing(store: BestEffortDatastore, incident: str, alert: FiringAlert) -> bool:
    """Record an alert of the incident in place of an older one with its fingerprint."""
    fields = asdict(alert)
    fingerprint = fields.pop("fingerprint")
    row = records.encode(fields, FORMAT_VERSION)
    return store.put(_firing_prefix(incident) + fingerprint, row, TTL_SECONDS)


def firing_alerts(store: BestEffortDatastore, incident: str) -> list[FiringAlert]:
    """The alerts that report the incident, at most a page."""
    prefix, alerts = _firing_prefix(incident), []
    for name, fields in records.iter_rows(store.list(prefix), FORMAT_VERSION):
        try:
            alerts.append(FiringAlert(fingerprint=name[len(prefix):], **fields))
        except TypeError:
            unreadable.skip(name)
    return alerts


def remove_firing(store: BestEffortDatastore, incident: str, fingerprint: str) -> None:
    """Remove the alert of the incident, which is firing no longer."""
    store.delete(_firing_prefix(incident) + fingerprint)


def record_cluster(store: BestEffortDatastore, name: str, cluster: str) -> bool:
    """Record that the cluster has a thing of that name."""
    key = "%s%s.%s" % (_CLUSTERS, encode_key_part(name), encode_key_part(cluster))
    return store.put(key, "1", TTL_SECONDS)


def clusters_with(store: BestEffortDatastore, name: str) -> list[str]:
    """The clusters in which alerts have reported a thing of that name, at most a page."""
    prefix = "%s%s." % (_CLUSTERS, encode_key_part(name))
    return [decode_key_part(key[len(prefix):]) for key, _ in store.list(prefix)]


def schedule_close(store: BestEffortDatastore, run: str, actor: str) -> bool:
    """Record that the ticket of `run`, which is still running, is to be resolved when it ends."""
    return store.put(_CLOSING + encode_key_part(run), actor, TTL_SECONDS)


def is_close_scheduled(store: BestEffortDatastore, run: str) -> bool:
    """Whether what `run` was started for has ended while it was still running."""
    return store.get(_CLOSING + encode_key_part(run)) is not None


def scheduled_closes(store: BestEffortDatastore) -> list[tuple[str, str]]:
    """The closes that schedule_close has recorded, at most a page: [(run, actor)]."""
    return [(name[len(_CLOSING):], actor) for name, actor in store.list(_CLOSING)]


def remove_scheduled_close(store: BestEffortDatastore, run: str) -> None:
    """Remove the close that schedule_close has recorded for `run`."""
    store.delete(_CLOSING + encode_key_part(run))


def _firing_prefix(incident: str) -> str:
    return "%s%s." % (_FIRING, encode_key_part(incident))


def _append(
    store: BestEffortDatastore, now: float, prefix: str, event: Mapping[str, Any]
) -> bool:
    return store.put(
        prefix + timestamp_key(now), records.encode(event, FORMAT_VERSION), TTL_SECONDS
    )


def _read(store: BestEffortDatastore, prefix: str, limit: int) -> list[Event]:
    return _events(store.list(prefix, limit=limit))


def _events(rows: Rows) -> list[Event]:
    return [
        dict(event, at=timestamp_of_key(name) or 0.0)
        for name, event in records.iter_rows(rows, FORMAT_VERSION)
    ]
