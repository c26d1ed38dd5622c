"""Whose turn it is to repair a node: runs that act on the same node do so one after the other.

Each run adds itself at the end of one queue, with the nodes that it will act on. It waits for every
run before it that has a node in common with it. All nodes of a run are added at once, so that no
two runs wait for each other. A run that has ended without leaving is not waited for.
"""

import time
from collections.abc import Iterable
from typing import Callable, NamedTuple, Optional

from synthralos.storage import locks, records
from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("repair_turn")
_TURNS = PREFIX + "repair_turn."
_LOCK = "repair-turns"
MAX_PAGES = 20


class Turn(NamedTuple):
    """A place in the queue. `key` sorts in the order of the queue."""

    key: str
    run: str
    nodes: frozenset[str]


def queue_up(
    store: BestEffortDatastore,
    now: Callable[[], float],
    run: str,
    nodes: Iterable[str],
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[Turn]:
    """Add `run` to the end of the queue, and return its Turn; the one it has if that has all nodes.

    :param now: returns seconds since the epoch.
    :returns: None if another run is joining the queue at this moment, or the datastore is
        unavailable.
    """
    with locks.try_lock(store, _LOCK, now, sleep) as is_acquired:
        if not is_acquired:
            return None
        turns, needed = list_turns(store), frozenset(nodes)
        for own in turns:
            if own.run == run and needed <= own.nodes:
                return own
            if own.run == run:
                store.delete(own.key)
        last = max([timestamp_of_key(turn.key) or 0.0 for turn in turns], default=0.0)
        # Clocks differ: the key decides who is first. Two milliseconds, because a key has whole
        # ones, and the sum may be rounded to the one before.
        key = _TURNS + timestamp_key(max(now(), last + 0.002))
        turn = Turn(key, run, needed)
        fields = {"run": run, "nodes": sorted(turn.nodes)}
        return turn if store.put(key, records.encode(fields, FORMAT_VERSION), TTL_SECONDS) else None


def turns_before(store: BestEffortDatastore, turn: Turn) -> list[Turn]:
    """Return the turns before `turn` that share a node with it, the first in the queue first."""
    return [
        other
        for other in list_turns(store)
        if other.key < turn.key and other.run != turn.run and other.nodes & turn.nodes
    ]


def list_turns(store: BestEffortDatastore) -> list[Turn]:
    """Return all turns, the first in the queue first. Costs a call for each page of them."""
    return sorted(
        Turn(name, str(fields["run"]), frozenset(map(str, fields["nodes"])))
        for rows in records.iter_pages(store, _TURNS, MAX_PAGES)
        for name, fields in records.iter_rows(rows, FORMAT_VERSION)
    )


def leave(store: BestEffortDatastore, run: str) -> None:
    """Remove `run` from the queue."""
    for turn in list_turns(store):
        if turn.run == run:
            store.delete(turn.key)
