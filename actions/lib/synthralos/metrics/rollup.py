"""`metrics.roll_up`: adds to the totals what has begun and ended since the last time.

Each run leaves an event under a key of its own (runs.tell). Per page: the totals are written with
the events' keys in `pending`, then the events are deleted, then the keys leave `pending`. Whoever
dies in between leaves keys in `pending`, which the next one deletes without counting them. A run
whose event is written again is known by `recent`. Neither uses a clock.

One at a time: StackStorm's policy lets one run, escalation.claims one work, and kept.write refuses
what has been overtaken.
"""

import time

from synthralos.metrics import definitions, totals_store
from synthralos.metrics.pushgateway import push
from synthralos.metrics.totals import Totals
from synthralos.storage import locks, run_summaries
from synthralos.storage.datastore import answered

# A claim lasts claims.KEPT_SECONDS; nothing is written after that.
WORK_SECONDS = 60.0
REMEMBERED = 1000
BUSY = "another roll-up is at work; it counts what there is"


def roll_up(env, config, monotonic=time.monotonic, sleep=time.sleep):
    """The result: {summary, counted, duplicates, unreadable, left, busy, push}.

    :param config: a Metrics.
    :returns: left is whether there is more to count; push what became of it, or null.
    :raises DatastoreUnavailable: the datastore is unavailable; what was counted stays counted, and the
        rest waits.
    """
    counts = {"counted": 0, "duplicates": 0, "unreadable": 0, "left": False, "busy": False}
    with locks.try_lock(env.store, "roll_up", env.now, sleep) as is_acquired:
        answered(env.store)
        if not is_acquired:
            return dict(counts, summary=BUSY, busy=True, push=None)
        try:
            _process_pages(env, config, counts, monotonic() + WORK_SECONDS, monotonic)
        except totals_store.ConcurrentWrite:
            return dict(counts, summary=BUSY, busy=True, push=None)
    push_result = push(env, config)
    summary = "%(counted)d events counted" % counts
    if counts["left"]:
        summary += ", more are left"
    if push_result is not None:
        summary += (
            "; pushed" if push_result["pushed"] else "; not pushed: %s" % push_result["error"]
        )
    return dict({"summary": summary}, **counts, push=push_result)


def _process_pages(env, config, counts, deadline, monotonic):
    store, state = env.store, totals_store.load(env.store)
    totals = load_totals(env, config, state)
    _delete_pending(store, state)
    while True:
        rows = store.list(run_summaries.UNCOUNTED)
        answered(store)
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


def load_totals(env, config, state):
    """The Totals of what is kept, with the bounds of the configuration."""
    return Totals(
        state.totals,
        {"agent": config.max_agents},
        {"agent": frozenset(env.settings.agents)},
        state.seen,
        env.now(),
        config.agent_idle_seconds,
    )


def _count_page(totals, state, rows, counts):
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


def _delete_pending(store, state):
    for name in state.pending:
        store.delete(name)
        answered(store)
    state.pending = []
