"""`metrics.roll_up`: adds the runs that started or ended since the last roll-up to the totals.

Each run leaves events under keys of their own (run_summaries.record_metrics_event). For each page,
the totals are written with the keys of the events in `pending`, then the events are deleted, then
`pending` is cleared. A process that dies in between leaves keys in `pending`, which the next
roll-up deletes without counting them. `recent` identifies events that are written again. Neither
depends on a clock.

Only one roll-up works at a time: a policy of StackStorm allows one run, locks.try_lock one worker,
and totals_store.save rejects concurrent writes.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Callable, Optional, TypedDict

from synthralos.metrics import definitions, totals_store
from synthralos.metrics.config import MetricsConfig
from synthralos.metrics.pushgateway import PushResult, push
from synthralos.metrics.totals import Totals
from synthralos.metrics.totals_store import StoredTotals
from synthralos.storage import locks, run_summaries
from synthralos.storage.datastore import BestEffortDatastore, require_available

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

# Shorter than locks.LOCK_TTL_SECONDS: nothing may be written once the lock has expired.
WORK_SECONDS = 60.0
REMEMBERED = 1000
BUSY = "another roll-up is at work; it counts what there is"


class Counts(TypedDict):
    """How many events were counted, had been counted before, or cannot be read; whether some are
    left to be counted, and whether another roll-up is at work.
    """

    counted: int
    duplicates: int
    unreadable: int
    left: bool
    busy: bool


class RollUp(Counts):
    """The result of a roll-up. `push`: None where nothing was pushed."""

    summary: str
    push: Optional[PushResult]


def roll_up(
    env: "Environment",
    config: MetricsConfig,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RollUp:
    """Count all new events and push the metrics.

    :raises DatastoreUnavailable: the datastore is unavailable. What was counted stays counted, and
        the next roll-up counts the remaining events.
    """
    counts: Counts = {
        "counted": 0, "duplicates": 0, "unreadable": 0, "left": False, "busy": False
    }
    with locks.try_lock(env.store, "roll_up", env.now, sleep) as is_acquired:
        require_available(env.store)
        if not is_acquired:
            return {**counts, "summary": BUSY, "busy": True, "push": None}
        try:
            _process_pages(env, config, counts, monotonic() + WORK_SECONDS, monotonic)
        except totals_store.ConcurrentWrite:
            return {**counts, "summary": BUSY, "busy": True, "push": None}
    push_result = push(env, config)
    summary = "%(counted)d events counted" % counts
    if counts["left"]:
        summary += ", more are left"
    if push_result is not None:
        summary += (
            "; pushed" if push_result["pushed"] else "; not pushed: %s" % push_result["error"]
        )
    return {"summary": summary, **counts, "push": push_result}


def _process_pages(
    env: "Environment",
    config: MetricsConfig,
    counts: Counts,
    deadline: float,
    monotonic: Callable[[], float],
) -> None:
    store, state = env.store, totals_store.load(env.store)
    totals = load_totals(env, config, state)
    _delete_pending(store, state)
    while True:
        rows = store.list(run_summaries.UNCOUNTED)
        require_available(store)
        if not rows:
            break
        if monotonic() >= deadline:
            counts["left"] = True
            break
        _count_page(totals, state, rows, counts)
        state.totals, state.seen = totals.as_dict(), totals.seen
        totals_store.save(store, state)
        _delete_pending(store, state)
    state.rolled_up_at = env.now()
    totals_store.save(store, state)


def load_totals(env: "Environment", config: MetricsConfig, state: StoredTotals) -> Totals:
    """Return the stored totals, with the limits of the configuration."""
    return Totals(
        state.totals,
        {"agent": config.max_agents},
        {"agent": frozenset(env.settings.agents)},
        state.seen,
        env.now(),
        config.agent_idle_seconds,
    )


def _count_page(
    totals: Totals, state: StoredTotals, rows: Iterable[tuple[str, str]], counts: Counts
) -> None:
    recent_keys, counted = set(state.recent), 0
    for name, text in rows:
        state.pending.append(name)
        event = run_summaries.parse_event(text)
        if name in recent_keys:
            counts["duplicates"] += 1
        elif event is None:
            counts["unreadable"] += 1
        else:
            totals.count_event(event)
            state.recent.append(name)
            counted += 1
    del state.recent[:-REMEMBERED]
    if counted and not counts["counted"]:
        totals.observe(definitions.ROLLUPS, (), 1)
    counts["counted"] += counted


def _delete_pending(store: BestEffortDatastore, state: StoredTotals) -> None:
    for name in state.pending:
        store.delete(name)
        require_available(store)
    state.pending = []
