"""Who of those that want to do something at the same time does it.

There is no compare-and-set, so this is Lamport's bakery (Communications of the ACM 17, 1974): each
draws a number above all that it sees, and the smallest goes. Whoever is still drawing is waited
for. Times decide nothing, so clocks that differ do no harm.
"""

import contextlib
import time

from synthralos.storage.datastore import PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

LOCK_TTL_SECONDS = lifetime_of("claim_notification")
POLL_SECONDS = 0.05
POLLS = 40
_DRAWING = "drawing"


@contextlib.contextmanager
def try_lock(store, name, now, sleep=time.sleep):
    """Gives whether this process is the one that does `name`, until the block ends.

    A process that dies keeps the others away for KEPT_SECONDS.

    :param name: a part of a datastore key.
    :param now: a callable that gives seconds since the epoch.
    """
    prefix = "%sclaim_notification.%s." % (PREFIX, name)
    mine = prefix + timestamp_key(now())
    try:
        yield _acquire(store, prefix, mine, now, sleep)
    finally:
        store.delete(mine)


def _acquire(store, prefix, mine, now, sleep):
    store.put(mine, _DRAWING, LOCK_TTL_SECONDS)
    others = _other_claims(store, prefix, mine, now)
    number = 1 + max([drawn for drawn in others.values() if drawn is not None], default=0)
    # Without a datastore nobody can know whether somebody else does it.
    if not store.put(mine, str(number), LOCK_TTL_SECONDS):
        return False
    for _ in range(POLLS):
        others = _other_claims(store, prefix, mine, now)
        if None not in others.values():
            break
        sleep(POLL_SECONDS)
    if store.unavailable_reason is not None:
        return False
    # Who has been drawing all that time has died of it.
    return all(
        drawn is None or (number, mine) < (drawn, name) for name, drawn in others.items()
    )


def _other_claims(store, prefix, mine, now):
    """{name: the number drawn, or None while it is being drawn} of the others' live claims."""
    oldest = now() - LOCK_TTL_SECONDS
    return {
        name: int(value) if value.isdigit() else None
        for name, value in store.list(prefix)
        if name != mine and (timestamp_of_key(name) or 0) > oldest
    }
