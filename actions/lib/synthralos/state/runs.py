"""One summary per run: what learning and metrics are computed from. It holds no text."""

import json

from synthralos.names import key_part
from synthralos.state.datastore import PAGE, PREFIX, time_key, time_of

FORMAT = 1
KEPT_SECONDS = 7 * 24 * 3600


def summarise(store, run, now, **facts):
    """Writes the summary of the run `run`.

    :param facts: workflow, outcome ("recovered" or "failed"), failure_type, cause, attempts,
        repeats, duration in seconds, targets tried; numbers, enums and names.
    """
    value = dict(facts, v=FORMAT, run=run)
    name = PREFIX + "run." + time_key(now, key_part(run or "unknown"))
    return store.put(name, json.dumps(value, separators=(",", ":"), sort_keys=True), KEPT_SECONDS)


HALF_LIFE_SECONDS = 24 * 3600
LEAST_SAMPLES = 10


def recent(store, limit=PAGE):
    """The newest summaries, newest first, each with `at`, seconds since the epoch."""
    found = []
    for name, text in store.list(PREFIX + "run.", limit=limit):
        try:
            summary = json.loads(text)
        except ValueError:
            continue
        if isinstance(summary, dict) and summary.pop("v", None) == FORMAT:
            found.append(dict(summary, at=time_of(name) or 0.0))
    return found


def success_rate(summaries, now, failure_type=None, target=None):
    """The share of runs that recovered, 0 to 1, each weighed by `0.5 ** (age / HALF_LIFE_SECONDS)`.

    1.0 with fewer than LEAST_SAMPLES, for a small sample says nothing.

    :param failure_type: of the runs to count; default: all.
    :param target: count only runs that tried it, and as recovered only those that it answered.
    """
    counted = [
        run
        for run in summaries
        if failure_type in (None, run.get("failure_type")) and
        (target is None or target in (run.get("targets") or []))
    ]
    if len(counted) < LEAST_SAMPLES:
        return 1.0
    weights = [0.5 ** (max(0.0, now - run["at"]) / HALF_LIFE_SECONDS) for run in counted]
    good = [
        weight
        for weight, run in zip(weights, counted)
        if (run.get("outcome") == "recovered" if target is None else run.get("answered") == target)
    ]
    return sum(good) / sum(weights) if sum(weights) else 1.0
