"""One summary per run: what learning and metrics are computed from. It holds no text.

What is still to be counted stands under a key of its own until metrics.roll_up has counted it: so
it matters neither when it was written nor by which clock.
"""

import json

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import unreadable
from synthralos.storage.datastore import PAGE_SIZE, PREFIX, timestamp_key, timestamp_of_key
from synthralos.storage.keyspace import lifetime_of

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("run")
HALF_LIFE_SECONDS = 24 * 3600
MIN_SAMPLES = 10
UNCOUNTED = PREFIX + "uncounted."
START, END, CALLS = "start", "end", "calls"


def record_summary(store, run, now, **facts):
    """Writes the summary of the run `run`.

    :param facts: workflow, outcome ("recovered" or "failed"), failure_type, cause, attempts,
        repeats, duration in seconds, targets tried; numbers, enums and names. Of each attempt:
        targets, causes (null where it was good) and latency_ms; of each call to an LLM, llm:
        [provider, model, milliseconds, cause, tokens read, tokens written, cost].
    """
    record_metrics_event(store, END, run, now, **facts)
    return learn(store, run, now, **facts)


def learn(store, run, now, **facts):
    """As `record_summary`, for learning alone: no metric counts it."""
    name = PREFIX + "run." + timestamp_key(now, encode_key_part(run or "unknown"))
    return store.put(name, _json(dict(facts, v=FORMAT_VERSION, run=run)), TTL_SECONDS)


def record_metrics_event(store, kind, run, now, **facts):
    """Writes what metrics alone are computed from.

    :param kind: START or END, of which a run has one each; or CALLS, of its steps or to LLMs, of
        which it may have any number.
    """
    once = run and kind != CALLS
    name = UNCOUNTED + ("%s.%s" % (encode_key_part(run), kind) if once else timestamp_key(now))
    return store.put(name, _json(dict(facts, v=FORMAT_VERSION, kind=kind, run=run)), TTL_SECONDS)


def parse_event(text):
    """What `record_metrics_event` has written, or None when it is of another version."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) and told.get("v") == FORMAT_VERSION else None


def _json(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def recent_summaries(store, limit=PAGE_SIZE):
    """The newest summaries, newest first, each with `at`, seconds since the epoch."""
    return list(_summaries(store.list(PREFIX + "run.", limit=limit)))


def _summaries(rows):
    for name, text in rows:
        try:
            summary = json.loads(text)
        except ValueError:
            summary = None
        if isinstance(summary, dict) and summary.pop("v", None) == FORMAT_VERSION:
            yield dict(summary, at=timestamp_of_key(name) or 0.0)
        else:
            unreadable.skip(name)


def summaries_since(store, timestamp, max_pages=10):
    """The summaries from `timestamp` on, newest first, of at most `max_pages` pages."""
    for page in range(max_pages):
        rows = store.list(PREFIX + "run.", limit=PAGE_SIZE, offset=page * PAGE_SIZE)
        for summary in _summaries(rows):
            if summary["at"] < timestamp:
                return
            yield summary
        if len(rows) < PAGE_SIZE:
            return


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
    if len(counted) < MIN_SAMPLES:
        return 1.0
    weights = [0.5 ** (max(0.0, now - run["at"]) / HALF_LIFE_SECONDS) for run in counted]
    good = [
        weight
        for weight, run in zip(weights, counted)
        if (run.get("outcome") == "recovered" if target is None else run.get("answered") == target)
    ]
    return sum(good) / sum(weights) if sum(weights) else 1.0
