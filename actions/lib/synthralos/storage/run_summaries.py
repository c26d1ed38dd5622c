"""One summary per run, without text: the source of adaptive retry and metrics.

An event that metrics have not counted yet is stored under a key of its own until metrics.roll_up
counts it: so it matters neither when it was written nor by which clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, TypedDict, cast

from synthralos.core.identifiers import encode_key_part
from synthralos.storage import records
from synthralos.storage.datastore import (
    PAGE_SIZE,
    PREFIX,
    BestEffortDatastore,
    Listing,
    timestamp_key,
    timestamp_of_key,
)
from synthralos.storage.keyspace import lifetime_of
from synthralos.telemetry.llm_pricing import CallRow

FORMAT_VERSION = 1
TTL_SECONDS = lifetime_of("run")
HALF_LIFE_SECONDS = 24 * 3600
MIN_SAMPLES = 10
UNCOUNTED = PREFIX + "uncounted."
START, END, CALLS = "start", "end", "calls"


# The functional form, because the key is no name for code.
_AnswerFact = TypedDict("_AnswerFact", {"answered": Optional[str]}, total=False)  # noqa: UP013


class RunFacts(_AnswerFact, total=False):
    """A summary of a run, or an event of one: numbers, enums and names.

    `kind` of an event is START, END or CALLS; `at` is when a summary was written, in seconds since
    the epoch. `outcome` is "recovered" or "failed", `end` what the workflow calls it. `duration` is
    in seconds, and `recovery` is how many of them passed since the failure, null where nothing has
    recovered. `targets`, `causes` (null if it succeeded) and `latency_ms` have an item for each
    attempt, `llm` one for each call to an LLM; `skipped` are targets that were not called, and
    `answered` is the one that answered. `transitions` are counts by `from->to`.
    """

    run: str
    kind: str
    at: float
    workflow: str
    outcome: str
    end: str
    failure_type: Optional[str]
    cause: Optional[str]
    attempts: int
    repeats: int
    duration: float
    recovery: Optional[float]
    targets: list[str]
    causes: list[Optional[str]]
    latency_ms: list[Optional[int]]
    skipped: list[str]
    agent: str
    llm: list[CallRow]
    currency: str
    transitions: dict[str, int]
    alone: bool
    rerun_of: str
    redrive: str


def record_summary(store: BestEffortDatastore, run: str, now: float, **facts: Any) -> bool:
    """Store the summary of the run `run`. Return whether it was written.

    :param facts: RunFacts.
    """
    record_metrics_event(store, END, run, now, **facts)
    return learn(store, run, now, **facts)


def learn(store: BestEffortDatastore, run: str, now: float, **facts: Any) -> bool:
    """Like `record_summary`, for adaptive retry alone: metrics do not count it."""
    name = PREFIX + "run." + timestamp_key(now, encode_key_part(run or "unknown"))
    return store.put(name, records.encode(dict(facts, run=run), FORMAT_VERSION), TTL_SECONDS)


def record_metrics_event(
    store: BestEffortDatastore, kind: str, run: str, now: float, **facts: Any
) -> bool:
    """Store an event that only metrics are computed from. Return whether it was written.

    :param kind: START or END, of which a run has at most one each; or CALLS, of steps or to LLMs,
        of which it may have any number.
    :param facts: RunFacts.
    """
    once = run and kind != CALLS
    name = UNCOUNTED + ("%s.%s" % (encode_key_part(run), kind) if once else timestamp_key(now))
    text = records.encode(dict(facts, kind=kind, run=run), FORMAT_VERSION)
    return store.put(name, text, TTL_SECONDS)


def parse_event(text: str) -> Optional[RunFacts]:
    """The facts that `record_metrics_event` has stored, or None if they are unreadable."""
    fields = records.decode(text, FORMAT_VERSION)
    return None if fields is None else cast(RunFacts, fields)


def recent_summaries(store: Listing, limit: int = PAGE_SIZE) -> list[RunFacts]:
    """The newest summaries, newest first."""
    return list(_summaries(store.list(PREFIX + "run.", limit=limit)))


def _summaries(rows: Iterable[tuple[str, str]]) -> Iterator[RunFacts]:
    for name, summary in records.iter_rows(rows, FORMAT_VERSION):
        yield cast(RunFacts, dict(summary, at=timestamp_of_key(name) or 0.0))


def summaries_since(
    store: Listing, timestamp: float, max_pages: int = 10
) -> Iterator[RunFacts]:
    """Yield the summaries since `timestamp`, newest first, of at most `max_pages` pages."""
    for rows in records.iter_pages(store, PREFIX + "run.", max_pages):
        for summary in _summaries(rows):
            if summary["at"] < timestamp:
                return
            yield summary


def open_runs(summaries: Sequence[RunFacts]) -> list[RunFacts]:
    """Return the summaries without those of failed runs that a later run has made good.

    That is a re-run, a redriven run, or one that resumes an orchestration; or one of that. If the
    later run is not among `summaries`, the failure stays.
    """
    origins = {run.get("run"): run.get("rerun_of") for run in summaries}
    made_good = set()
    for run in summaries:
        if run.get("outcome") != "recovered":
            continue
        origin = run.get("rerun_of")
        while origin is not None and origin not in made_good:
            made_good.add(origin)
            origin = origins.get(origin)
    return [
        run
        for run in summaries
        if run.get("outcome") == "recovered" or run.get("run") not in made_good
    ]


def success_rate(
    summaries: Iterable[RunFacts],
    now: float,
    failure_type: Optional[str] = None,
    target: Optional[str] = None,
) -> float:
    """The share of runs that recovered, 0 to 1, weighted by `0.5 ** (age / HALF_LIFE_SECONDS)`.

    1.0 with fewer than MIN_SAMPLES runs, because a small sample says nothing.

    :param failure_type: count only runs with this one; None for all.
    :param target: count only runs that attempted it, and as recovered only those that it answered.
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
    recovered_weights = [
        weight
        for weight, run in zip(weights, counted)
        if (run.get("outcome") == "recovered" if target is None else run.get("answered") == target)
    ]
    return sum(recovered_weights) / sum(weights) if sum(weights) else 1.0
