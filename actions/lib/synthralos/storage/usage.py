"""What the pack keeps in the datastore: how much of which kind, and clearing it.

Only keys that the pack writes are counted and deleted; whatever else stands under its prefix is
told as foreign. Datastore calls: one for each 100 keys, and one for each that is deleted. All of it
stops when its time is up, and says what is left.
"""

from synthralos.config.retention import format_duration
from synthralos.core.timestamps import to_iso
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, require_available
from synthralos.storage.keyspace import (
    GROUPS,
    KINDS,
    key_prefix,
    kind_of_key,
    run_id_of_key,
    written_at,
)
from synthralos.storage.stackstorm_api import StackStormError

# Of an execution that has not ended.
LIVE = (
    "requested", "scheduled", "delayed", "running", "pausing", "paused", "pending", "resuming",
    "canceling",
)
MAX_ACTIVE_RUN_PAGES = 10


def storage_usage(store, now, deadline, lifetimes):
    """{kinds {group: ...}, foreign, complete}; see `_group_stats`.

    :param now: a callable that gives seconds since the epoch; until: when to stop.
    """
    groups, foreign, complete = {}, 0, True
    for fact in _iter_keys(store, PREFIX):
        if fact is None:
            complete = now() < deadline
            if not complete:
                break
            continue
        kind = kind_of_key(fact.name)
        if kind is None:
            foreign += 1
        else:
            groups.setdefault(KINDS[kind].group, []).append(fact)
    require_available(store)
    told = {
        group: _group_stats(groups[group], now(), lifetimes) for group in GROUPS if group in groups
    }
    return {"kinds": told, "foreign": foreign, "complete": complete}


def _group_stats(facts, at, lifetimes):
    """{keys, bytes, oldest, newest (null where unknown), next_expiry, without_expiry}."""
    written = [when for when in (written_at(fact, lifetimes) for fact in facts) if when is not None]
    # The datastore is up to a minute late with what is over.
    ends = [
        fact.expires_at for fact in facts if fact.expires_at is not None and fact.expires_at > at
    ]
    return {
        "keys": len(facts),
        "bytes": sum(fact.size for fact in facts),
        "oldest": to_iso(min(written)) if written else None,
        "newest": to_iso(max(written)) if written else None,
        "next_expiry": to_iso(min(ends)) if ends else None,
        "without_expiry": sum(fact.expires_at is None for fact in facts),
    }


def clear_storage(store, now, deadline, groups, lifetimes, min_age_seconds=None, active_runs=None, dry_run=True):
    """Deletes the keys of `groups`; with `dry_run` it says which it would.

    :param deadline: when to stop, in seconds since the epoch; half of the time is for looking.
    :param min_age_seconds: seconds since it was last written from which on a key goes; None for all.
    :param active_runs: the runs that go on, whose keys stay; None where nothing is to be spared.
    :returns: {kinds: {group: {matched, bytes, deleted, kept_for_runs, of_unknown_age}}, deleted,
        left (matched, and not deleted), complete (whether all keys were looked at)}.
    """
    half = now() + (deadline - now()) / 2
    counts = {
        group: {"matched": 0, "bytes": 0, "deleted": 0, "kept_for_runs": 0, "of_unknown_age": 0}
        for group in groups
    }
    names, complete = [], True
    for kind, known in KINDS.items():
        if known.group not in counts:
            continue
        for fact in _iter_keys(store, key_prefix(kind)):
            if fact is None:
                complete = now() < half
                if not complete:
                    break
            elif kind_of_key(fact.name) == kind:
                names += _select_key(fact, counts[known.group], now, min_age_seconds, active_runs, lifetimes)
        if not complete:
            break
    require_available(store)
    left = len(names)
    if not dry_run:
        left -= _deleted(store, now, deadline, names, counts)
    return {"kinds": counts, "deleted": len(names) - left, "left": left, "complete": complete}


def _select_key(fact, count, now, older_than, live, lifetimes):
    """[the name of the key] where it is to go, else []."""
    if older_than is not None:
        written = written_at(fact, lifetimes)
        if written is None:
            count["of_unknown_age"] += 1
            return []
        if written > now() - older_than:
            return []
    if live is not None and run_id_of_key(fact.name) in live:
        count["kept_for_runs"] += 1
        return []
    count["matched"] += 1
    count["bytes"] += fact.size
    return [fact.name]


def _deleted(store, now, until, names, counts):
    """How many of `names` were deleted, or had gone meanwhile, before the time was up."""
    for done, name in enumerate(names):
        if now() >= until:
            return done
        store.delete(name)
        if store.unavailable_reason:
            return done
        counts[KINDS[kind_of_key(name)].group]["deleted"] += 1
    return len(names)


def active_run_ids(api):
    """The ids, as keys have them, of all executions that go on, of whatever pack.

    :raises StackStormError: StackStorm does not tell them, or there are too many to read.
    """
    if api is None:
        raise StackStormError("there is no StackStorm API that could tell which runs go on")
    found = set()
    for status in LIVE:
        for page in range(MAX_ACTIVE_RUN_PAGES + 1):
            if page == MAX_ACTIVE_RUN_PAGES:
                raise StackStormError("more than %d executions are %s" % (page * PAGE_SIZE, status))
            rows = api.executions("id", status=status, offset=page * PAGE_SIZE)
            found |= {row["id"] for row in rows}
            if len(rows) < PAGE_SIZE:
                break
    return found


def clear_summary(result, dry_run, min_age_seconds):
    """One line of what `clear_storage` has done."""
    age = "" if min_age_seconds is None else " older than %s" % format_duration(min_age_seconds)
    matched = result["deleted"] + result["left"]
    if dry_run:
        told = "%d keys%s would be deleted; dry_run=false deletes them" % (matched, age)
    else:
        told = "deleted %d keys%s" % (result["deleted"], age)
        if result["left"]:
            told += ", %d are left; run it again" % result["left"]
    return told if result["complete"] else told + "; the time was up before all were looked at"


def _iter_keys(store, prefix):
    """Yields the facts below `prefix`, and None after each page."""
    offset = 0
    while True:
        facts = store.list_keys(prefix, PAGE_SIZE, offset)
        yield from facts
        yield None
        if len(facts) < PAGE_SIZE:
            return
        offset += len(facts)
