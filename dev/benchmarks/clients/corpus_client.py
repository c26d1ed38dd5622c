"""What the clients of the corpus share. The standard library only.

Each is `python -m benchmarks.clients.corpus_<name>` and reads one JSON object, an Order, from its
standard input. It calls each failing provider once, with the healthy one as its fallback, and
prints {id: [text or null, seconds, error or null]}.
"""
from __future__ import annotations

import concurrent.futures
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Callable, Optional

KEY = "sk-benchmark"
MODEL = "bench"
PROMPT = "Say hello"
MESSAGES = [{"role": "user", "content": PROMPT}]
MAX_ERROR_CHARS = 200

# Returns the text of the answer, or raises.
Ask = Callable[[], Optional[str]]
Outcome = tuple[Optional[str], float, Optional[str]]


@dataclass(frozen=True)
class Order:
    """What a client has to do.

    :ivar failing: the URL of the corpus's server.
    :ivar healthy: the base URL of the provider that answers.
    :ivar ids: of the entries to call.
    :ivar workers: how many calls are made at the same time.
    :ivar seconds: after which the calls that have not ended count as unanswered.
    :ivar options: of the client.
    """

    failing: str
    healthy: str
    ids: list[str]
    workers: int
    seconds: float
    options: dict[str, int]

    def base_url(self, entry_id: str) -> str:
        """Return the base URL of the provider that fails with this entry."""
        return "%s/%s/v1" % (self.failing, entry_id)


def main(prepare: Callable[[Order], dict[str, Ask]]) -> None:
    """Carry out the order from standard input, print the outcomes, and exit.

    :param prepare: returns {id: the callable that asks once}; it is not measured.
    """
    order = Order(**json.load(sys.stdin))
    # Libraries log to both streams; keep that out of the result.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    asks = prepare(order)
    if order.workers == 1:
        outcomes = _in_turn(asks, order.seconds)
    else:
        outcomes = _at_once(asks, order.workers, order.seconds)
    print(json.dumps(outcomes), file=out, flush=True)
    # Calls that have not ended would keep the process.
    os._exit(0)


def _in_turn(asks: dict[str, Ask], seconds: float) -> dict[str, Outcome]:
    deadline = time.monotonic() + seconds
    outcomes = {}
    for entry_id, ask in asks.items():
        outcomes[entry_id] = _outcome(ask) if time.monotonic() < deadline else _unended(0.0)
    return outcomes


def _at_once(asks: dict[str, Ask], workers: int, seconds: float) -> dict[str, Outcome]:
    started_at: dict[str, float] = {}

    def work(entry_id: str) -> Outcome:
        started_at[entry_id] = time.perf_counter()
        return _outcome(asks[entry_id])

    executor = concurrent.futures.ThreadPoolExecutor(workers)
    futures = {entry_id: executor.submit(work, entry_id) for entry_id in asks}
    ended = concurrent.futures.wait(futures.values(), timeout=seconds).done
    now = time.perf_counter()
    return {
        entry_id: future.result() if future in ended
        else _unended(now - started_at.get(entry_id, now))
        for entry_id, future in futures.items()
    }


def _outcome(ask: Ask) -> Outcome:
    started_at = time.perf_counter()
    text, error = None, None
    try:
        text = ask()
    except Exception as problem:
        # Whatever a library raises is its outcome.
        error = ("%s: %s" % (type(problem).__name__, problem))[:MAX_ERROR_CHARS]
    return text, time.perf_counter() - started_at, error


def _unended(seconds: float) -> Outcome:
    return None, seconds, "not ended when the time was over"
