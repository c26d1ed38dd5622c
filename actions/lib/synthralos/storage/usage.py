"""What the pack stores in the datastore: how much of which kind, and clearing it.

Only keys that the pack writes are counted and deleted; others under its prefix are reported as
foreign. Datastore calls: one per 100 keys, and one for each key that is deleted. Everything stops
at its deadline, and reports how much remains.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Callable, Optional, TypedDict

from synthralos.config.retention import format_duration
from synthralos.core.timestamps import to_iso
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    KeyInfo,
    Keys,
    require_available,
)
from synthralos.storage.keyspace import (
    GROUPS,
    KINDS,
    key_prefix,
    kind_of_key,
    run_id_of_key,
    written_at,
)
from synthralos.storage.stackstorm_api import Api, StackStormError

# The statuses of an execution that has not ended.
LIVE = (
    "requested", "scheduled", "delayed", "running", "pausing", "paused", "pending", "resuming",
    "canceling",
)
MAX_ACTIVE_RUN_PAGES = 10


class GroupStats(TypedDict):
    """How much of one group is stored; times are in ISO 8601, None if unknown."""

    keys: int
    bytes: int
    oldest: Optional[str]
    newest: Optional[str]
    next_expiry: Optional[str]
    without_expiry: int


class StorageUsage(TypedDict):
    """How much is stored: by group, how many keys are foreign, whether all keys were counted."""

    kinds: dict[str, GroupStats]
    foreign: int
    complete: bool


class GroupCounts(TypedDict):
    """The keys of one group that were looked at to be deleted; `bytes` are those that match."""

    matched: int
    bytes: int
    deleted: int
    kept_for_runs: int
    of_unknown_age: int


class Clearing(TypedDict):
    """What was deleted: by group and in total; `left` are keys that match and were not deleted.

    `complete` is whether all keys were looked at.
    """

    kinds: dict[str, GroupCounts]
    deleted: int
    left: int
    complete: bool


def storage_usage(
    store: BestEffortDatastore,
    now: Callable[[], float],
    deadline: float,
    lifetimes: Mapping[str, int],
) -> StorageUsage:
    """Count the stored keys.

    :param now: a callable that returns seconds since the epoch.
    :param deadline: when to stop, in seconds since the epoch.
    :param lifetimes: {group: seconds} of the configuration.
    """
    groups: dict[str, list[KeyInfo]] = {}
    foreign, complete = 0, True
    for keys in _iter_key_pages(store, PREFIX):
        for key in keys:
            kind = kind_of_key(key.name)
            if kind is None:
                foreign += 1
            else:
                groups.setdefault(KINDS[kind].group, []).append(key)
        complete = now() < deadline
        if not complete:
            break
    require_available(store)
    group_stats = {
        group: _group_stats(groups[group], now(), lifetimes) for group in GROUPS if group in groups
    }
    return {"kinds": group_stats, "foreign": foreign, "complete": complete}


def _group_stats(keys: Keys, now: float, lifetimes: Mapping[str, int]) -> GroupStats:
    write_times = [
        timestamp
        for timestamp in (written_at(key, lifetimes) for key in keys)
        if timestamp is not None
    ]
    # The datastore may expire keys up to a minute late.
    expiries = [key.expires_at for key in keys if key.expires_at is not None]
    expiries = [timestamp for timestamp in expiries if timestamp > now]
    return {
        "keys": len(keys),
        "bytes": sum(key.size for key in keys),
        "oldest": to_iso(min(write_times)) if write_times else None,
        "newest": to_iso(max(write_times)) if write_times else None,
        "next_expiry": to_iso(min(expiries)) if expiries else None,
        "without_expiry": sum(key.expires_at is None for key in keys),
    }


def clear_storage(
    store: BestEffortDatastore,
    now: Callable[[], float],
    deadline: float,
    groups: Iterable[str],
    lifetimes: Mapping[str, int],
    min_age_seconds: Optional[int] = None,
    active_runs: Optional[Collection[str]] = None,
    dry_run: bool = True,
) -> Clearing:
    """Delete the keys of `groups`, or with `dry_run` report which would be deleted.

    :param deadline: when to stop, in seconds since the epoch; half of the time is for looking.
    :param min_age_seconds: seconds since a key was last written, for it to be deleted; None for
        all.
    :param active_runs: the ids of running runs, whose keys are spared; None to spare none.
    """
    half_time = now() + (deadline - now()) / 2
    counts: dict[str, GroupCounts] = {
        group: {"matched": 0, "bytes": 0, "deleted": 0, "kept_for_runs": 0, "of_unknown_age": 0}
        for group in groups
    }
    # Each with its group.
    names: list[tuple[str, str]] = []
    complete = True
    for kind, key_kind in KINDS.items():
        if key_kind.group not in counts:
            continue
        group_counts = counts[key_kind.group]
        for keys in _iter_key_pages(store, key_prefix(kind)):
            for key in keys:
                if kind_of_key(key.name) == kind and _select_key(
                    key, group_counts, now, min_age_seconds, active_runs, lifetimes
                ):
                    names.append((key.name, key_kind.group))
            complete = now() < half_time
            if not complete:
                break
        if not complete:
            break
    require_available(store)
    remaining = len(names)
    if not dry_run:
        remaining -= _delete(store, now, deadline, names, counts)
    return {
        "kinds": counts,
        "deleted": len(names) - remaining,
        "left": remaining,
        "complete": complete,
    }


def _select_key(
    key: KeyInfo,
    group_counts: GroupCounts,
    now: Callable[[], float],
    min_age_seconds: Optional[int],
    active_runs: Optional[Collection[str]],
    lifetimes: Mapping[str, int],
) -> bool:
    """Whether the key is to be deleted; counts it in `group_counts`."""
    if min_age_seconds is not None:
        timestamp = written_at(key, lifetimes)
        if timestamp is None:
            group_counts["of_unknown_age"] += 1
            return False
        if timestamp > now() - min_age_seconds:
            return False
    if active_runs is not None and run_id_of_key(key.name) in active_runs:
        group_counts["kept_for_runs"] += 1
        return False
    group_counts["matched"] += 1
    group_counts["bytes"] += key.size
    return True


def _delete(
    store: BestEffortDatastore,
    now: Callable[[], float],
    deadline: float,
    names: list[tuple[str, str]],
    counts: dict[str, GroupCounts],
) -> int:
    """Delete keys until the deadline. Return how many of `names` no longer exist."""
    for index, (name, group) in enumerate(names):
        if now() >= deadline:
            return index
        store.delete(name)
        if store.unavailable_reason:
            return index
        counts[group]["deleted"] += 1
    return len(names)


def active_run_ids(api: Optional[Api]) -> set[str]:
    """Return the ids of all executions that are still running, of any pack.

    :raises StackStormError: StackStorm does not list them, or there are too many to read.
    """
    if api is None:
        raise StackStormError("running executions cannot be listed without StackStorm's API")
    run_ids: set[str] = set()
    for status in LIVE:
        for page in range(MAX_ACTIVE_RUN_PAGES + 1):
            if page == MAX_ACTIVE_RUN_PAGES:
                raise StackStormError("more than %d executions are %s" % (page * PAGE_SIZE, status))
            executions = api.executions("id", status=status, offset=page * PAGE_SIZE)
            run_ids |= {execution["id"] for execution in executions}
            if len(executions) < PAGE_SIZE:
                break
    return run_ids


def clear_summary(result: Clearing, dry_run: bool, min_age_seconds: Optional[int]) -> str:
    """Return the `result` of `clear_storage` as a line of text."""
    age = "" if min_age_seconds is None else " older than %s" % format_duration(min_age_seconds)
    matched = result["deleted"] + result["left"]
    if dry_run:
        summary = "%d keys%s would be deleted; dry_run=false deletes them" % (matched, age)
    else:
        summary = "deleted %d keys%s" % (result["deleted"], age)
        if result["left"]:
            summary += ", %d are left; run it again" % result["left"]
    if not result["complete"]:
        summary += "; the time was up before all were looked at"
    return summary


def _iter_key_pages(store: BestEffortDatastore, prefix: str) -> Iterator[Keys]:
    """Yield the keys with a prefix, one page after another."""
    offset = 0
    while True:
        keys = store.list_keys(prefix, PAGE_SIZE, offset)
        yield keys
        if len(keys) < PAGE_SIZE:
            return
        offset += len(keys)
