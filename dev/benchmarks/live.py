"""The same on a live StackStorm: ST2_API_URL names its API, such as http://127.0.0.1:9101/v1.

The pack must be installed there. Its configuration is replaced by one for the benchmarks' server,
and put back afterwards; so never point ST2_API_URL at a StackStorm that people use. Its action
runners must reach this machine's loopback address. Times are StackStorm's own, from the start of an
execution to its end.
"""
import contextlib
import datetime
import os
import secrets
import sys
import time

import requests

from benchmarks.figures import Figure
from benchmarks.measure import interleaved, median, over
from benchmarks.server import HEALTHY, LIMITED_30
from benchmarks.workflows import request

GROUP = "Whole llm_retry on StackStorm (floor: two no-op Python executions, one after the other)"
WAVES = "A wave of orchestration.run on StackStorm (floor: two no-op Python executions)"
NOOP = "core.uuid"
# {what: steps of a wave}; each is a run of WAVES_OF_A_RUN waves.
SHAPES, WAVES_OF_A_RUN = {"of one step": 1, "of five steps": 5}, 6
MAX_OVERHEAD_SECONDS = 1.0
ROUNDS = 5
RUN_SECONDS, CALL_SECONDS, POLL_SECONDS = 90, 30, 0.2
_ENDED = ("succeeded", "failed", "timeout", "canceled", "abandoned")


class StackStorm:
    def __init__(self, url, token=None, api_key=None):
        self._url, self._session = url.rstrip("/"), requests.Session()
        self._session.trust_env = False
        if token:
            self._session.headers["X-Auth-Token"] = token
        if api_key:
            self._session.headers["St2-Api-Key"] = api_key

    def call(self, method, path, **options):
        answer = self._session.request(method, self._url + path, timeout=CALL_SECONDS, **options)
        answer.raise_for_status()
        return answer.json()

    def knows(self, action):
        """Whether the action exists."""
        pack, name = action.split(".", 1)
        return bool(self.call("GET", "/actions", params={"pack": pack, "name": name}))

    def start(self, action, parameters):
        """Start an execution and return its id."""
        body = {"action": action, "parameters": parameters}
        return self.call("POST", "/executions", json=body)["id"]

    def ended(self, execution_id, seconds=RUN_SECONDS):
        """Wait for the execution to end and return it."""
        path, end = "/executions/" + execution_id, time.monotonic() + seconds
        while time.monotonic() < end:
            execution = self.call("GET", path)
            if execution["status"] in _ENDED:
                return execution
            time.sleep(POLL_SECONDS)
        raise TimeoutError("%s has not ended within %d s" % (path, seconds))

    def run(self, action, parameters):
        """Run an action to its end and return the execution; it must succeed."""
        execution = self.ended(self.start(action, parameters))
        assert execution["status"] == "succeeded", (action, execution["result"])
        return execution


def _seconds(execution):
    return _epoch_seconds(execution["end_timestamp"]) - _epoch_seconds(execution["start_timestamp"])


def _epoch_seconds(timestamp):
    moment = datetime.datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def stackstorm():
    """The StackStorm that ST2_API_URL names."""
    env = os.environ
    return StackStorm(env["ST2_API_URL"], env.get("ST2_AUTH_TOKEN"), env.get("ST2_API_KEY"))


def measure(base):
    """Figures; none where ST2_API_URL is not set. :param base: of the server."""
    if not os.environ.get("ST2_API_URL"):
        return []
    st2 = stackstorm()
    # Unused names, so that the ledger holds no outcomes of other runs for them.
    models = ["bench-%s-%d" % (secrets.token_hex(4), number) for number in range(ROUNDS + 2)]
    unused, in_tasks = iter(models), []

    def recovery():
        execution = st2.run("synthralos.llm_retry", request(next(unused)))
        tasks = st2.call("GET", "/executions", params={"parent": execution["id"]})
        in_tasks.append(sum(_seconds(task) for task in tasks))
        return _seconds(execution)

    def noops():
        return sum(_seconds(st2.run(NOOP, {})) for _ in range(2))

    with configured(st2, _config(base, models)):
        timings = interleaved({"floor": noops, "limited": recovery}, ROUNDS)
        waves = _waves(st2)
    floor, in_tasks = timings["floor"], in_tasks[-ROUNDS:]
    return [
        Figure(GROUP, "two runs of " + NOOP, median(floor), "s"),
        Figure(GROUP, "the primary answers 429, Retry-After: 30, for ever",
               median(timings["limited"]), "s", over(timings["limited"], floor), "s"),
        Figure(GROUP, "of that in its two tasks, the rest is StackStorm's", median(in_tasks), "s",
               over(in_tasks, floor), "s", MAX_OVERHEAD_SECONDS),
    ] + [
        Figure(WAVES, label, seconds, "s", seconds / median(floor), "x") for label, seconds in waves
    ]


def _waves(st2):
    """[(what, seconds of a wave)], of one run for each of SHAPES."""
    name, timings = "bench-" + secrets.token_hex(4), []
    for shape, group in SHAPES.items():
        steps = [
            {"name": "s%d-%d" % (wave, n), "order": wave, "group": "g%d" % wave}
            for wave in range(WAVES_OF_A_RUN) for n in range(group)
        ]
        st2.run("synthralos.orchestration.create", {"name": name, "steps": steps})
        try:
            run = st2.run("synthralos.orchestration.run", {"orchestration": name})
        finally:
            st2.run("synthralos.orchestration.delete", {"name": name, "force": True})
        tasks = st2.call("GET", "/executions", params={"parent": run["id"], "limit": 100})
        begun = next(task for task in tasks if task["action"]["ref"].endswith("begin"))
        seconds = _epoch_seconds(run["end_timestamp"]) - _epoch_seconds(begun["end_timestamp"])
        timings.append((shape, seconds / WAVES_OF_A_RUN))
    return timings


def _config(base, models):
    name = "bench-" + secrets.token_hex(4)
    return {
        "providers": [
            {"name": name, "api": "openai", "base_url": base + LIMITED_30,
             "api_key": "sk-benchmark", "models": [{"name": model} for model in models]},
            {"name": name + "-backup", "api": "openai", "base_url": base + HEALTHY,
             "api_key": "sk-benchmark", "models": [{"name": "backup"}]},
        ],
        # Of the roles of orchestrations: the one that answers.
        "orchestration": {"default_model": "backup"},
    }


@contextlib.contextmanager
def configured(st2, values):
    """Give the pack this configuration until the block ends."""
    path = "/configs/synthralos"
    before = st2.call("GET", path, params={"show_secrets": "true"}).get("values") or {}
    st2.call("PUT", path, json=values)
    try:
        yield
    finally:
        now = st2.call("GET", path, params={"show_secrets": "true"}).get("values")
        if now == values:
            st2.call("PUT", path, json=before)
        else:
            print(
                "The configuration was changed in the meantime and is not restored.",
                file=sys.stderr,
            )
