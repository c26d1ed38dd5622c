"""What the systems of a program share: settings, store, clock, and how they wait for them."""
import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable
from typing import Any, Callable, TypeVar

from synthralos.config.settings import Settings
from synthralos.core.redaction import Redactor
from synthralos.runtime.environment import Environment
from synthralos.storage.datastore import BestEffortDatastore, Datastore, MemoryDatastore
from synthralos.storage.retention_store import with_retention

LOGGER = logging.getLogger("synthralos.error_handling")
# What is logged is for the program to show or not.
LOGGER.addHandler(logging.NullHandler())
_Result = TypeVar("_Result")


class RisingClock:
    """A clock that never shows the same time twice.

    Facts are ordered by the microsecond at which they were written. Within one process two may be
    written faster than the system's clock moves, which on some systems is 16 ms.
    """

    # One microsecond may be lost between a float and its digits.
    STEP_MICROSECONDS = 2

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._last, self._lock = now, 0, threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self._last = max(int(self._now() * 1_000_000), self._last + self.STEP_MICROSECONDS)
            return self._last / 1_000_000


class Runtime:
    """One for each ErrorHandlingSystem.

    :param datastore: anything with the methods of state.datastore.Datastore.
    :param sleep: an async callable (seconds).
    :param now: gives seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        datastore: Datastore,
        sleep: Callable[[float], Awaitable[Any]],
        now: Callable[[], float],
    ) -> None:
        self.settings, self.datastore, self.sleep = settings, datastore, sleep
        self.now = RisingClock(now)
        self.redactor = Redactor(settings.secrets(), settings.redaction)
        self._store = BestEffortDatastore(with_retention(datastore, settings))

    def environment(self, run: str = "") -> Environment:
        """A new Environment: a datastore that was away at the last operation gets a new chance.

        :param run: the id under which this operation's outcome is recorded.
        """
        return Environment(self.settings, self._store.fresh(), self.now, run, self.redactor)

    async def read_write(self, work: Callable[..., _Result], *arguments: Any, **more: Any
                         ) -> _Result:
        """What `work` returns, which uses the datastore and nothing else that waits.

        Memory answers at once; any other datastore may wait for a network, so its calls are made
        in a thread, and the program's other tasks go on meanwhile.
        """
        if isinstance(self.datastore, MemoryDatastore):
            return work(*arguments, **more)
        return await self.in_thread(work, *arguments, **more)

    async def in_thread(self, work: Callable[..., _Result], *arguments: Any, **more: Any
                        ) -> _Result:
        """What `work` returns, which may wait for other hosts."""
        return await asyncio.to_thread(work, *arguments, **more)


async def result_of(value: Any) -> Any:
    """What a callback returned, awaited where it is awaitable."""
    return await value if inspect.isawaitable(value) else value
