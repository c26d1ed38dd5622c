"""The library's round and tenacity, against the floor: `python -m benchmarks.clients.ours URL N`.

PYTHONPATH has dev/ and actions/lib. Prints {name: [seconds, one for each of N rounds]}.
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
from synthralos.calls import providers, rounds
from synthralos.calls.deadline import Deadline
from synthralos.recovery.environment import Environment
from synthralos.redact import Redactor
from synthralos.settings import Settings
from synthralos.state.datastore import Tolerant
from synthralos.state.ledger import WINDOW

WARM_UP = WINDOW + 5
_AFTER_ALL_NAMES = "\x7f"


class Memory:
    """A datastore of this process, as quick as one can be. Times to live are not looked at."""

    def __init__(self):
        self._names, self._values = [], {}

    def get(self, name, decrypt=False):
        return self._values.get(name)

    def put(self, name, value, ttl=None):
        if name not in self._values:
            bisect.insort(self._names, name)
        self._values[name] = value

    def list(self, prefix, limit=100, offset=0):
        end = bisect.bisect_left(self._names, prefix + _AFTER_ALL_NAMES) - offset
        first = max(bisect.bisect_left(self._names, prefix), end - limit)
        return [(name, self._values[name]) for name in reversed(self._names[first:end])]


def library(base, fresh):
    """A callable that plays one round over both providers.

    :param fresh: whether each round finds an empty store; else it finds as many outcomes of
        earlier rounds as the ledger reads.
    """
    entries = [
        {"name": name, "base_url": base + path, "api_key": KEY, "models": ["bench"]}
        for name, path in (("limited", LIMITED), ("healthy", HEALTHY))
    ]
    settings = Settings.from_config({"providers": entries})
    env = Environment(settings, Tolerant(Memory()), time.time, "benchmark", Redactor())

    def attempt(target, seconds, number):
        return providers.call(env.client, target.what, MESSAGES, {}, seconds, env.run)

    def once():
        # In an action every round has an Environment of its own; its session lives as long.
        if fresh:
            env.ledger._store = Tolerant(Memory())
        served = [providers.find(settings.providers, "bench", name)
                  for name in ("limited", "healthy")]
        targets = [rounds.Target(one.target, 60.0, one) for one in served]
        played = rounds.play(
            targets, rounds.Progress(), rounds.Rules(), attempt, env.ledger,
            Deadline(time.time() + 180, time.time), time.time, env.run,
        )
        assert played.result["response"] == "hello"

    return once


def with_tenacity(base):
    """A callable that lets tenacity repeat the POST, without a wait, at the next provider."""
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


def main(base, count):
    tasks = {
        "floor": floor(base),
        "tenacity": with_tenacity(base),
        "empty": library(base, fresh=True),
        "full": library(base, fresh=False),
    }
    out, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    taken = interleaved(tasks, count, WARM_UP)
    print(json.dumps(taken), file=out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
