"""The library's own work. PYTHONPATH has dev/ and actions/lib.

    python -m benchmarks.clients.ours URL N        a round and tenacity, against the floor
    python -m benchmarks.clients.ours records N    stored records, in stores of several sizes

Prints {name: [seconds, one for each of N rounds]}.
"""
import bisect
import json
import os
import sys
import time

import requests
import tenacity

from benchmarks.clients.bare import HEADERS, KEY, MESSAGES, floor
from benchmarks.measure import interleaved
from benchmarks.server import CHAT, HEALTHY, LIMITED
from synthralos.calls import llm_calls, llm_providers, rounds
from synthralos.calls.deadline import Deadline
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.config.settings import Settings
from synthralos.core.redaction import Redactor
from synthralos.loop_detection import detector
from synthralos.metrics import rollup
from synthralos.metrics.config import MetricsConfig
from synthralos.runtime.environment import Environment
from synthralos.storage import run_summaries, snapshots
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.outcome_ledger import WINDOW_SIZE, Ledger, Outcome

WARM_UP = WINDOW_SIZE + 5
SIZES = (10, 100, 1000)
# Consecutive calls for each measurement: a single call takes microseconds.
CALLS = 5
_AFTER_ALL_NAMES = "\x7f"


class Memory:
    """The fastest possible in-memory datastore. Times to live are ignored."""

    def __init__(self):
        self._names, self._values = [], {}

    def get(self, name, decrypt=False):
        return self._values.get(name)

    def put(self, name, value, ttl=None):
        if name not in self._values:
            bisect.insort(self._names, name)
        self._values[name] = value

    def list(self, prefix, limit=100, offset=0):
        start = bisect.bisect_left(self._names, prefix)
        end = max(start, bisect.bisect_left(self._names, prefix + _AFTER_ALL_NAMES) - offset)
        first = max(start, end - limit)
        return [(name, self._values[name]) for name in reversed(self._names[first:end])]

    def delete(self, name):
        if self._values.pop(name, None) is None:
            return False
        del self._names[bisect.bisect_left(self._names, name)]
        return True

    def names(self):
        return set(self._values)


def library(base, fresh):
    """Return a callable that plays one round over both providers.

    :param fresh: whether each round finds an empty store; else it finds as many outcomes of
        earlier rounds as the ledger reads.
    """
    entries = [
        {"name": name, "base_url": base + path, "api_key": KEY, "models": ["bench"]}
        for name, path in (("limited", LIMITED), ("healthy", HEALTHY))
    ]
    settings = Settings.from_config({"providers": entries})
    env = Environment(settings, BestEffortDatastore(Memory()), time.time, "benchmark", Redactor())
    request = ChatRequest(MESSAGES)

    def attempt(target, seconds, number):
        return llm_calls.complete(env.client, target.endpoint, request, seconds, env.run)

    def once():
        # In an action every round has an Environment of its own; its session lives as long.
        if fresh:
            env.ledger._store = BestEffortDatastore(Memory())
        served_models = [llm_providers.resolve_model(settings.providers, "bench", name)
                  for name in ("limited", "healthy")]
        targets = [rounds.Target(model.target, 60.0, model) for model in served_models]
        round_result = rounds.play_round(
            targets, rounds.RunProgress(), rounds.RetryRules(), attempt, env.ledger,
            Deadline(time.time() + 180, time.time), time.time, env.run,
        )
        assert round_result.result["response"] == "hello"

    return once


def with_tenacity(base):
    """Return a callable that lets tenacity repeat the POST at the next provider, without a wait."""
    session = requests.Session()
    body = {"model": "bench", "messages": MESSAGES}

    def once():
        urls = iter([base + LIMITED + CHAT, base + HEALTHY + CHAT])

        @tenacity.retry(
            stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none(), reraise=True,
            retry=tenacity.retry_if_exception_type(requests.HTTPError),
        )
        def post():
            answer = session.post(next(urls), json=body, headers=HEADERS, timeout=60)
            answer.raise_for_status()
            return answer.json()

        assert post()["choices"][0]["message"]["content"] == "hello"

    return once


def records(size):
    """Return {operation: a callable that returns the seconds of one call}.

    Keys that the calls of a round add are deleted before the next round.

    :param size: how many records of one agent are in the store.
    """
    state = {"parameters": {"layer_%d" % n: [n / 7.0] * 20 for n in range(20)}}
    # Nothing is evicted: with a full store that would be two more calls for each snapshot.
    config = snapshots.SnapshotConfig(max_snapshots=max(SIZES) + CALLS)
    limits = detector.LoopDetectionConfig(time_window_seconds=3600)
    clock = [1_700_000_000.0]

    def now():
        clock[0] += 0.01
        return clock[0]

    memory = Memory()
    store = BestEffortDatastore(memory)
    ledger = Ledger(store, now, Settings.from_config({}).breaker)
    outcome = dict(ok=True, cause=None, latency=0.5, run="benchmark")
    for n in range(size):
        ledger.append("llm:openai/gpt-4", Outcome(at=now(), **outcome))
        # As of an agent that makes progress: no two steps are alike.
        _step(store, now(), limits, n)
        newest = snapshots.create(store, config, now(), "agent", "task", state)["snapshot_id"]
    calls = {
        "ledger append": lambda: ledger.append("llm:openai/gpt-4", Outcome(at=now(), **outcome)),
        "ledger window": lambda: ledger.window("llm:openai/gpt-4"),
        "loop check": lambda: _step(store, now(), limits, int(100 * clock[0])),
        "snapshot create": lambda: snapshots.create(store, config, now(), "agent", "task", state),
        "snapshot get": lambda: snapshots.get(store, config, now(), newest),
        "snapshot list, a page": lambda: snapshots.list_snapshots(
            store, config, now(), "agent", limit=100
        ),
    }

    def timed(call):
        before = memory.names()

        def once():
            started_at = time.perf_counter()
            for _ in range(CALLS):
                call()
            seconds = (time.perf_counter() - started_at) / CALLS
            for name in memory.names() - before:
                memory.delete(name)
            return seconds

        return once

    return dict({operation: timed(call) for operation, call in calls.items()},
                **{"roll-up, for a run": rolled_up(size)})


def rolled_up(size):
    """Return a callable that returns the seconds of metrics.roll_up for each of `size` runs."""
    memory = Memory()
    env = Environment(
        Settings.from_config({}), BestEffortDatastore(memory), time.time, "benchmark", Redactor()
    )
    target = "llm:openai/gpt-4"
    run_end = dict(
        workflow="llm_retry", outcome="recovered", failure_type="llm_error", cause="rate_limit",
        attempts=2, repeats=1, duration=2.5, recovery=2.5, targets=[target, target],
        causes=["rate_limit", None], latency_ms=[120, 900], currency="USD",
        llm=[["openai", "gpt-4", 900, None, 1000, 200, 0.0042]],
    )

    def once():
        for n in range(size):
            run_summaries.record_metrics_event(
                env.store, run_summaries.END, "%024x" % n, env.now(), **run_end
            )
        started_at = time.perf_counter()
        result = rollup.roll_up(env, MetricsConfig())
        seconds = (time.perf_counter() - started_at) / size
        assert result["counted"] == size
        for name in memory.names():
            memory.delete(name)
        return seconds

    return once


def _step(store, now, limits, n):
    result = detector.record_step(
        store, now, limits, "agent", "search", {"query": "word%d and more" % n, "page": n},
        {"items": [n, "item %d" % n]})
    assert result["level"] == detector.NONE


def against_the_floor(base):
    return {
        "floor": floor(base),
        "tenacity": with_tenacity(base),
        "empty": library(base, fresh=True),
        "full": library(base, fresh=False),
    }


def from_stores():
    """Return tasks named "<operation>, <size>"."""
    return {
        "%s, %d" % (operation, size): once
        for size in SIZES
        for operation, once in records(size).items()
    }


def main(base, count):
    tasks = from_stores() if base == "records" else against_the_floor(base)
    out, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    timings = interleaved(tasks, count, WARM_UP)
    print(json.dumps(timings), file=out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
