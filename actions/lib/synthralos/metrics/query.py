"""`metrics.get`: the totals and the current values, as Prometheus text or as JSON."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls import provider_accounts
from synthralos.calls.targets import targets_by_kind
from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import decode_key_part
from synthralos.metrics import definitions as f
from synthralos.metrics import prometheus_text, totals_store
from synthralos.metrics.config import MetricsConfig
from synthralos.metrics.definitions import Series, SeriesByFamily
from synthralos.metrics.totals import Totals
from synthralos.sensing.sensor_state import note_of
from synthralos.sensing.sensor_status import (
    FORGOTTEN_SECONDS,
    MAX_MISSED_NOTES,
    STATUS_SUFFIX,
    count_or_zero,
)
from synthralos.storage import run_summaries
from synthralos.storage.circuit_breaker import CLOSED, HALF_OPEN, OPEN
from synthralos.storage.datastore import PREFIX, BestEffortDatastore, require_available
from synthralos.storage.run_summaries import RunFacts

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

PROMETHEUS, JSON = FORMATS = ("prometheus", "json")
WINDOW_SECONDS, WINDOW_NAME = 3600, "1h"


def metrics_report(
    env: "Environment",
    config: MetricsConfig,
    form: str,
    prefix: Optional[str] = None,
    labels: Optional[Mapping[str, str]] = None,
) -> dict[str, Any]:
    """Build the result of metrics.get.

    :param form: one of FORMATS.
    :param prefix: only metrics whose names begin with it.
    :param labels: {label: value}: only series with these labels.
    :returns: {summary, format, and metrics [Metric] or text}.
    :raises DatastoreUnavailable: the datastore is unavailable. A counter that cannot be read is not
        a counter of 0.
    """
    selected = _filtered(current_series(env, config), prefix or "", labels or {})
    count = sum(len(series) for series in selected.values())
    metric_count = sum(bool(series) for series in selected.values())
    result: dict[str, Any] = {
        "summary": "%d series of %d metrics" % (count, metric_count), "format": form
    }
    if form == JSON:
        return dict(result, metrics=prometheus_text.to_json(selected))
    return dict(result, text=prometheus_text.to_prometheus_text(selected))


def current_series(env: "Environment", config: MetricsConfig) -> SeriesByFamily:
    """Return all series."""
    state = totals_store.load(env.store)
    series = dict(Totals(state.totals).series)
    series[f.BREAKER] = _breakers(env)
    series[f.ACCOUNT_RESTING], series[f.ACCOUNT_RESTS_UNTIL] = _accounts(env)
    series.update(_sensor_series(env.store, env.now()))
    series[f.RECENT_RUNS], series[f.RECENT_RATIO] = _recent_runs(env)
    series[f.WAITING] = {(): len(env.store.list(run_summaries.UNCOUNTED))}
    if state.rolled_up_at is not None:
        series[f.ROLLED_UP_AT] = {(): round(state.rolled_up_at, 3)}
    require_available(env.store)
    return series


def _sensor_series(store: BestEffortDatastore, now: float) -> SeriesByFamily:
    """Series of the sensors whose last status note is at most a day old."""
    connected: Series = {}
    last_seen: Series = {}
    retries: Series = {}
    for name, text in store.list(PREFIX + "sensor."):
        sensor = decode_key_part(name[len(PREFIX + "sensor."):])
        note = note_of(text) if sensor.endswith(STATUS_SUFFIX) else None
        if note is None:
            continue
        written_at = _number(note.get("at"))
        age = now - written_at
        if age > FORGOTTEN_SECONDS:
            continue
        labels = (sensor[: -len(STATUS_SUFFIX)],)
        is_alive = age <= MAX_MISSED_NOTES * max(1, _number(note.get("every")))
        connected[labels] = int(bool(note.get("sees")) and is_alive)
        last_seen[labels] = round(written_at, 3)
        retries[labels] = count_or_zero(note.get("retries"))
    return {
        f.SENSOR_CONNECTED: connected,
        f.SENSOR_SEEN: last_seen,
        f.SENSOR_RECONNECTS: retries,
    }


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _breakers(env: "Environment") -> Series:
    states: Series = {}
    for names in targets_by_kind(env.settings).values():
        for name in names:
            current_state = env.ledger.breaker_state(name).state
            states.update(
                ((name, state), int(state == current_state)) for state in (CLOSED, HALF_OPEN, OPEN)
            )
    return states


def _accounts(env: "Environment") -> tuple[Series, Series]:
    """Return the series of ACCOUNT_RESTING and ACCOUNT_RESTS_UNTIL."""
    accounts = provider_accounts.list_accounts(env.settings.providers, env.account_memory)
    resting: Series = {}
    until: Series = {}
    for account in accounts:
        labels = (account.provider, account.name)
        resting[labels] = int(account.failure is not None)
        if account.failure is not None:
            until[labels] = round(account.failure.until, 3)
    return resting, until


def _recent_runs(env: "Environment") -> tuple[Series, Series]:
    """Count the runs of the last WINDOW_SECONDS by workflow.

    :returns: (the counts, the ratios of successes, 0 to 1). A failed run that was made good later
        does not count for the ratio.
    """
    summaries = list(run_summaries.summaries_since(env.store, env.now() - WINDOW_SECONDS))
    run_counts: Series = dict(_counts_by_workflow(summaries))
    open_counts = _counts_by_workflow(run_summaries.open_runs(summaries))
    recovered = [run for run in summaries if run.get("outcome") == "recovered"]
    success_counts = _counts_by_workflow(recovered)
    return run_counts, {
        key: round(success_counts.get(key, 0) / count, 4) for key, count in open_counts.items()
    }


def _counts_by_workflow(summaries: Iterable[RunFacts]) -> dict[tuple[str, ...], int]:
    counts: dict[tuple[str, ...], int] = {}
    for run in summaries:
        workflow = run.get("workflow")
        if isinstance(workflow, str) and not run.get("alone"):
            key = (workflow, WINDOW_NAME)
            counts[key] = counts.get(key, 0) + 1
    return counts


def _filtered(series: SeriesByFamily, prefix: str, labels: Mapping[str, str]) -> SeriesByFamily:
    label_names = {label for family in series for label in family.labels}
    for label in labels:
        if label not in label_names:
            hint = "Labels are " + ", ".join(sorted(label_names))
            raise InvalidInput("labels", label, "is not a label of any metric", hint)
    return {
        family: {
            values: value for values, value in rows.items() if _has_labels(family, values, labels)
        }
        for family, rows in series.items()
        if family.name.startswith(prefix)
    }


def _has_labels(family: f.Family, values: tuple[str, ...], labels: Mapping[str, str]) -> bool:
    series_labels = dict(zip(family.labels, values))
    return all(series_labels.get(label) == value for label, value in labels.items())
