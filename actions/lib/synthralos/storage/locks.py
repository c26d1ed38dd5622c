"""A best-effort distributed lock on the datastore (Lamport's bakery algorithm).

The datastore has no compare-and-set, so each process draws a number above all that it sees, and the
smallest number wins (Communications of the ACM 17, 1974). A process that is still drawing is waited
for. Times decide nothing, so clocks that differ do no harm.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Callable, Optional

from synthralos.storage.datastore import (
    PREFIX,
    BestEffortDatastore,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of

LOCK_TTL_SECONDS = lifetime_of("claim_notification")
POLL_SECONDS = 0.05
POLLS = 40
_DRAWING = "drawing"


@contextlib.contextmanager
def try_lock(
    store: BestEffortDatastore,
    name: str,
    now: Callable[[], float],
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[bool]:
    """Yield whether this process has the lock `name`, and release it when the block ends.

    A process that dies keeps the lock for LOCK_TTL_SECONDS.

    :param name: a part of a datastore key.
    :param now: a callable that returns seconds since the epoch.
    """
    prefix = "%sclaim_notification.%s." % (PREFIX, name)
    own_key = prefix + timestamp_key(now())
    try:
        yield _acquire(store, prefix, own_key, now, sleep)
    finally:
        store.delete(own_key)


def _acquire(
    store: BestEffortDatastore,
    prefix: str,
    own_key: str,
    now: Callable[[], float],
    sleep: Callable[[float], object],
) -> bool:
    store.put(own_key, _DRAWING, LOCK_TTL_SECONDS)
    claims = _other_claims(store, prefix, own_key, now)
    number = 1 + max([drawn for drawn in claims.values() if drawn is not None], default=0)
    # Without a datastore it is unknown whether another process has the lock.
    if not store.put(own_key, str(number), LOCK_TTL_SECONDS):
        return False
    for _ in range(POLLS):
        claims = _other_claims(store, prefix, own_key, now)
        if None not in claims.values():
            break
        sleep(POLL_SECONDS)
    if store.unavailable_reason is not None:
        return False
    # A process that has been drawing all that time has died.
    return all(
        drawn is None or (number, own_key) < (drawn, name) for name, drawn in claims.items()
    )


def _other_claims(
    store: BestEffortDatastore, prefix: str, own_key: str, now: Callable[[], float]
) -> dict[str, Optional[int]]:
    """The live claims of other processes: {key: its number, or None while it is being drawn}."""
    oldest = now() - LOCK_TTL_SECONDS
    return {
        name: int(value) if value.isdigit() else None
        for name, value in store.list(prefix)
        if name != own_key and (timestamp_of_key(name) or 0) > oldest
    }
