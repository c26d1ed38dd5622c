"""Attempts that stay open while another host is asked: the first good answer wins.

Each runs in a thread of its own, which does nothing but send the request and read its response.
Progress, ledger, budget and datastore belong to the thread that waits for them; it also enforces
their limits, because the timer signal that ends a call reaches the main thread only.
"""

import contextvars
import functools
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol, Union

from synthralos.calls.attempts import Attempt, Ending
from synthralos.calls.http import CallError
from synthralos.calls.relations import Target
from synthralos.core import failures
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure

# A call whose sockets are shut down ends at once; one that still resolves a name ends by itself.
CLOSE_SECONDS = 1.0


class Call(Protocol):
    """A call whose sending can happen in another thread than its bookkeeping."""

    def begin(self) -> None:
        """Reserve what it may use.

        :raises CallNotMade: it may not be made.
        """

    def send(self, seconds: float) -> Mapping[str, Any]:
        """Send the request and return the result, in any thread; the limit is `seconds`."""

    def close(self) -> None:
        """End `send`, which fails then, from another thread."""

    def settle(self, failure: Optional[Failure]) -> None:
        """Count what it used; `failure` is why it has no result."""


@dataclass(frozen=True)
class Return:
    """How the work of a thread ended.

    :ivar key: of the work.
    :ivar error: what it raised, or None.
    :ivar at: when, by the clock of Threads.
    """

    key: int
    result: Optional[Mapping[str, Any]]
    error: Optional[BaseException]
    at: float


class Threads:
    """Starts work in threads, and waits for the first that returns."""

    def __init__(self) -> None:
        self._returns: queue.SimpleQueue[Return] = queue.SimpleQueue()
        self._threads: dict[int, threading.Thread] = {}

    def clock(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def start(self, key: int, work: Callable[[], Mapping[str, Any]]) -> None:
        """Start `work` in a thread, with a copy of the context variables."""
        context = contextvars.copy_context()

        def run() -> None:
            result, error = None, None
            try:
                result = context.run(work)
            except BaseException as caught:  # The thread that waits judges it.
                error = caught
            self._returns.put(Return(key, result, error, self.clock()))

        # Nobody waits for a thread that hangs in a system call when the process ends.
        self._threads[key] = threading.Thread(target=run, name="attempt-%d" % key, daemon=True)
        self._threads[key].start()

    def wait(self, seconds: float) -> Optional[Return]:
        """Return the next return, or None if there is none within `seconds`."""
        try:
            return self._returns.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def join(self, key: int, seconds: float) -> None:
        """Wait for the thread to end, for at most `seconds`."""
        self._threads.pop(key).join(seconds)


@dataclass
class _OpenAttempt:
    attempt: Attempt
    call: Call
    started: float
    is_silent: bool = False


@dataclass(frozen=True)
class Silence:
    """An open attempt has had no answer for `ask_next_after` seconds."""

    attempt: Attempt


class OpenAttempts:
    """The open attempts of one round.

    :param open_call: a callable (target) -> Call; None if no attempt may stay open.
    :param ask_next_after: seconds without an answer after which an attempt is silent; 0 if no
        attempt may stay open.
    """

    def __init__(
        self,
        open_call: Optional[Callable[[Target], Call]],
        ask_next_after: float,
        threads: Optional[Threads] = None,
    ) -> None:
        self._open_call, self._ask_next_after = open_call, ask_next_after
        self._threads = threads or Threads()
        self._open: dict[int, _OpenAttempt] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def are_silent(self) -> bool:
        """Whether the next host may be asked: none of the attempts may still answer soon."""
        return all(entry.is_silent for entry in self._open.values())

    @property
    def hosts(self) -> set[str]:
        return {entry.attempt.target.host_or_name for entry in self._open.values()}

    def may_be_silent(self, attempt: Attempt) -> bool:
        """Return whether the attempt may be silent before its limit ends it."""
        is_possible = self._open_call is not None and self._ask_next_after > 0
        return is_possible and attempt.seconds > self._ask_next_after

    def start(self, attempt: Attempt) -> None:
        """Start an attempt in a thread.

        :raises CallNotMade: its call may not be made.
        """
        assert self._open_call is not None
        call = self._open_call(attempt.target)
        call.begin()
        self._open[attempt.number] = _OpenAttempt(attempt, call, self._threads.clock())
        self._threads.start(attempt.number, functools.partial(call.send, attempt.seconds))

    def wait(self) -> Union[Silence, Ending, None]:
        """Wait for the next event and return it, or None if there was none after all."""
        due_at = min(self._due_at(entry) for entry in self._open.values())
        returned = self._threads.wait(due_at - self._threads.clock())
        if returned is not None:
            # A call that was closed returns, too.
            entry = self._open.pop(returned.key, None)
            return None if entry is None else self._end(entry, returned)
        now = self._threads.clock()
        for entry in self._open.values():
            if now >= entry.started + entry.attempt.seconds:
                return self._expire(entry)
            if now >= self._due_at(entry):
                entry.is_silent = True
                return Silence(entry.attempt)
        return None

    def close(self, reason: str) -> list[Ending]:
        """End all attempts and return them, with the failure `cancelled`; reason: for people.

        An attempt that has ended meanwhile has its usage counted; its result is not used.
        """
        entries, self._open = list(self._open.values()), {}
        for entry in entries:
            entry.call.close()
        return [
            self._settle_closed(entry, failures.make_failure("cancelled", reason))
            for entry in entries
        ]

    def _due_at(self, entry: _OpenAttempt) -> float:
        seconds = entry.attempt.seconds
        return entry.started + (seconds if entry.is_silent else min(seconds, self._ask_next_after))

    def _end(self, entry: _OpenAttempt, returned: Return) -> Ending:
        self._threads.join(returned.key, CLOSE_SECONDS)
        entry.call.close()
        failure = None if returned.error is None else failure_of(returned.error)
        entry.call.settle(failure)
        latency = returned.at - entry.started
        return Ending(entry.attempt, returned.result, failure, latency)

    def _expire(self, entry: _OpenAttempt) -> Ending:
        del self._open[entry.attempt.number]
        entry.call.close()
        message = "no answer within %.1f s" % entry.attempt.seconds
        return self._settle_closed(entry, failures.make_failure("timeout", message))

    def _settle_closed(self, entry: _OpenAttempt, failure: Failure) -> Ending:
        # Its span and its usage are complete when its thread has ended.
        self._threads.join(entry.attempt.number, CLOSE_SECONDS)
        entry.call.settle(failure)
        latency = self._threads.clock() - entry.started
        return Ending(entry.attempt, None, failure, latency)


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an attempt raised; any other exception is raised again."""
    if isinstance(error, CallError):
        failure: Failure = error.failure
        return failure
    if isinstance(error, InvalidInput):
        # The configuration of this target is incomplete, such as a missing secret.
        return failures.make_failure("configuration", str(error))
    raise error
