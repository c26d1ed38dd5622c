"""Whose turn it is to repair a node: runs that act on the same node do so one after the other.

Each run adds itself at the end of one queue, with the nodes that it will act on. It waits for every
run before it that has a node in common with it. All nodes of a run are added at once, so that no
two runs wait for each other. A run that has ended without leaving is not waited for, but for the
executions of actions that it has started: they go on without it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, NamedTuple, Optional

from synthralos.storage import locks, records, unreadable
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
# A process that takes longer to join the queue may have lost its lock.
MAX_LOCK_SECONDS = locks.LOCK_TTL_SECONDS / 2


class Turn(NamedTuple):
    """A place in the queue.

    :ivar key: sorts in the order of the queue.
    :ivar executions: of actions that the run has started.
    :ivar has_left: whether only these are waited for, and no longer the run.
    """

    key: str
    run: str
    nodes: frozenset[str]
    executions: tuple[str, ...] = ()
    has_left: bool = False


def queue_up(
    store: BestEffortDatastore,
    now: Callable[[], float],
    run: str,
    nodes: Iterable[str],
    sleep: Callable[[float], None] = time.sleep,
) -> Optional[Turn]:
    """Add `run` to the end of the queue, and return its Turn; the one it has if that has all nodes.

    :param now: returns seconds since the epoch.
    :returns: None if another run is joining the queue at this moment, this one was too slow, or the
        datastore is unavailable.
    """
    began_at = now()
    with locks.try_lock(store, _LOCK, now, sleep) as is_acquired:
        if not is_acquired:
            return None
        turns, needed = list_turns(store), frozenset(nodes)
        for own in turns:
            if own.run == run and needed <= own.nodes and not own.has_left:
                return own
            if own.run == run and not own.executions:
                store.delete(own.key)
        last = max([timestamp_of_key(turn.key) or 0.0 for turn in turns], default=0.0)
        # Clocks differ: the key decides who is first. Two milliseconds, because a key has whole
        # ones, and the sum may be rounded to the one before.
        key = _TURNS + timestamp_key(max(now(), last + 0.002))
        turn = Turn(key, run, needed)
        if not _put(store, turn):
            return None
        if now() - began_at > MAX_LOCK_SECONDS:
            # Another run may have joined before this one, and act: it has not seen this turn.
            store.delete(key)
            return None
        return turn


def add_execution(store: BestEffortDatastore, turn: Turn, execution: str) -> Turn:
    """Return the turn with an execution of an action that its run has started, and store it."""
    turn = turn._replace(executions=turn.executions + (execution,))
    _put(store, turn)
    return turn


def _put(store: BestEffortDatastore, turn: Turn) -> bool:
    fields = {
        "run": turn.run, "nodes": sorted(turn.nodes), "executions": turn.executions,
        "has_left": turn.has_left,
    }
    return bool(store.put(turn.key, records.encode(fields, FORMAT_VERSION), TTL_SECONDS))


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
        turn
        for rows in records.iter_pages(store, _TURNS, MAX_PAGES)
        for name, fields in records.iter_rows(rows, FORMAT_VERSION)
        for turn in _decode(name, fields)
    )


def _decode(key: str, fields: Mapping[str, Any]) -> Iterator[Turn]:
    run, nodes, executions = (fields.get(name) for name in ("run", "nodes", "executions"))
    if isinstance(run, str) and isinstance(nodes, list) and isinstance(executions, list):
        yield Turn(
            key, run, frozenset(map(str, nodes)), tuple(map(str, executions)),
            bool(fields.get("has_left")),
        )
    else:
        # Somebody has edited it.
        unreadable.skip(key)


def leave(
    store: BestEffortDatastore,
    run: str,
    is_running: Callable[[str], bool] = lambda execution: False,
) -> None:
    """Remove `run` from the queue, but for what it has started and is still running."""
    for turn in list_turns(store):
        if turn.run != run:
            continue
        executions = tuple(filter(is_running, turn.executions))
        if executions:
            _put(store, turn._replace(executions=executions, has_left=True))
        else:
            store.delete(turn.key)
