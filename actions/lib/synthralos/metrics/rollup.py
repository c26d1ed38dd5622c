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
from synthralos.storage.datastore import require_available

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
    done = {"counted": 0, "duplicates": 0, "unreadable": 0, "left": False, "busy": False}
    with locks.try_lock(env.store, "roll_up", env.now, sleep) as mine:
        require_available(env.store)
        if not mine:
            return dict(done, summary=BUSY, busy=True, push=None)
        try:
            _process_pages(env, config, done, monotonic() + WORK_SECONDS, monotonic)
        except totals_store.ConcurrentWrite:
            return dict(done, summary=BUSY, busy=True, push=None)
    told = push(env, config)
    summary = "%(counted)d events counted" % done
    if done["left"]:
        summary += ", more are left"
    if told is not None:
        summary += "; pushed" if told["pushed"] else "; not pushed: %s" % told["error"]
    return dict({"summary": summary}, **done, push=told)


def _process_pages(env, config, done, until, monotonic):
    store, state = env.store, totals_store.load(env.store)
    totals = load_totals(env, config, state)
    _delete_pending(store, state)
    while True:
        rows = store.list(run_summaries.UNCOUNTED)
        require_available(store)
        if not rows:
            break
        if monotonic() >= until:
            done["left"] = True
            break
        _count_page(totals, state, rows, done)
        state.totals, state.seen = totals.as_dict(), totals.seen
        totals_store.save(store, state)
        _delete_pending(store, state)
    state.at = env.now()
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


def _count_page(totals, state, rows, done):
    known, counted = set(state.recent), 0
    for name, text in rows:
        state.pending.append(name)
        told = run_summaries.parse_event(text)
        if name in known:
            done["duplicates"] += 1
        elif told is None:
            done["unreadable"] += 1
        else:
            totals.count_event(told)
            state.recent.append(name)
            counted += 1
    del state.recent[:-REMEMBERED]
    if counted and not done["counted"]:
        totals.observe(definitions.ROLLUPS, (), 1)
    done["counted"] += counted


def _delete_pending(store, state):
    for name in state.pending:
        store.delete(name)
        require_available(store)
    state.pending = []
