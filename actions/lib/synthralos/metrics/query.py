"""`metrics.get`: the totals, and what can be read now, as Prometheus's text or as JSON."""

from synthralos.core.errors import InvalidInput
from synthralos.metrics import definitions as f
from synthralos.metrics import prometheus_text, totals_store
from synthralos.metrics.totals import Totals
from synthralos.operations.health import targets_by_kind
from synthralos.sensing import sensor_status
from synthralos.storage import run_summaries
from synthralos.storage.circuit_breaker import CLOSED, HALF_OPEN, OPEN
from synthralos.storage.datastore import require_available

PROMETHEUS, JSON = FORMATS = ("prometheus", "json")
WINDOW_SECONDS, WINDOW_NAME = 3600, "1h"


def metrics_report(env, config, form, prefix=None, labels=None):
    """The result of metrics.get.

    :param form: one of FORMATS.
    :param prefix: only metrics whose name begins with it.
    :param labels: {label: value}: only series that have these.
    :raises DatastoreUnavailable: the datastore is unavailable. Counters that are not there are not 0.
    """
    chosen = _filtered(current_series(env, config), prefix or "", labels or {})
    count = sum(len(series) for series in chosen.values())
    names = sum(bool(series) for series in chosen.values())
    told = {"summary": "%d series of %d metrics" % (count, names), "format": form}
    if form == JSON:
        return dict(told, metrics=prometheus_text.to_json(chosen))
    return dict(told, text=prometheus_text.to_prometheus_text(chosen))


def current_series(env, config):
    """{Family: {values of labels: value}} of all metrics.

    :param config: a Metrics.
    """
    state = totals_store.load(env.store)
    series = dict(Totals(state.totals).series)
    series[f.BREAKER] = _breakers(env)
    for family, told in sensor_status.metrics(env.store, env.now()).items():
        series[family] = told
    series[f.RECENT_RUNS], series[f.RECENT_RATIO] = _recent_runs(env)
    series[f.WAITING] = {(): len(env.store.list(run_summaries.UNCOUNTED))}
    if state.at is not None:
        series[f.ROLLED_UP_AT] = {(): round(state.at, 3)}
    require_available(env.store)
    return series


def _breakers(env):
    told = {}
    for names in targets_by_kind(env.settings).values():
        for name in names:
            now = env.ledger.breaker_state(name).state
            told.update(((name, state), int(state == now)) for state in (CLOSED, HALF_OPEN, OPEN))
    return told


def _recent_runs(env):
    """Runs of the last WINDOW, and the share of them that succeeded, by workflow."""
    ended, good = {}, {}
    for run in run_summaries.summaries_since(env.store, env.now() - WINDOW_SECONDS):
        workflow = run.get("workflow")
        if isinstance(workflow, str) and not run.get("alone"):
            key = (workflow, WINDOW_NAME)
            ended[key] = ended.get(key, 0) + 1
            good[key] = good.get(key, 0) + (run.get("outcome") == "recovered")
    return ended, {key: round(good[key] / count, 4) for key, count in ended.items()}


def _filtered(series, prefix, labels):
    known = {label for family in series for label in family.labels}
    for label in labels:
        if label not in known:
            way_out = "Labels are " + ", ".join(sorted(known))
            raise InvalidInput("labels", label, "is no label of any metric", way_out)
    return {
        family: {
            values: told for values, told in rows.items() if _has_labels(family, values, labels)
        }
        for family, rows in series.items()
        if family.name.startswith(prefix)
    }


def _has_labels(family, values, labels):
    own = dict(zip(family.labels, values))
    return all(own.get(label) == value for label, value in labels.items())
