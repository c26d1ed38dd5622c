"""The metrics of the pack: names, types, labels and help texts.

Names follow Prometheus (base units, `_total` for counters) and, where it defines a metric,
OpenTelemetry's GenAI convention in its Prometheus form:
https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from dataclasses import dataclass
from typing import Any, Union

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
# Seconds. Runs take from 5 s to an hour, attempts from milliseconds to a minute.
_RUNS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_RECOVERIES = (1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_ATTEMPTS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# These two are the boundaries of OpenTelemetry's convention.
_CALLS = tuple(0.01 * 2**n for n in range(14))
_TOKENS = tuple(float(4**n) for n in range(14))
_MODEL = ("gen_ai_provider_name", "gen_ai_request_model")
_CALL = ("gen_ai_operation_name",) + _MODEL


@dataclass(frozen=True)
class Family:
    """A metric.

    :ivar labels: label names, in the order of the label values of a series.
    :ivar buckets: the upper bounds of a histogram, ascending, without +Inf.
    """

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# A number; of a histogram [count, sum, counts]: the counts are per bucket, not cumulative, and the
# last one is that of +Inf.
Value = Union[float, list[Any]]
# {label values: value}
Series = dict[tuple[str, ...], Value]
SeriesByFamily = dict[Family, Series]


def _counter(name: str, help_text: str, *labels: str) -> Family:
    return Family(name, COUNTER, help_text, labels)


def _gauge(name: str, help_text: str, *labels: str) -> Family:
    return Family(name, GAUGE, help_text, labels)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Family:
    return Family(name, HISTOGRAM, help_text, labels, buckets)


STARTED = _counter("synthralos_runs_started_total", "Runs of workflows that began.", "workflow")
COMPLETED = _counter(
    "synthralos_runs_completed_total", "Runs that succeeded.",
    "workflow", "outcome", "failure_type",
)
FAILED = _counter(
    "synthralos_runs_failed_total", "Runs that failed.",
    "workflow", "outcome", "failure_type", "cause",
)
REDRIVEN = _counter(
    "synthralos_runs_redriven_total", "Runs that recovery.redrive has started, by how they ended.",
    "workflow", "result",
)
RUN_SECONDS = _histogram(
    "synthralos_run_duration_seconds", "From a run's start to its end.", _RUNS,
    "workflow", "result",
)
RECOVERY_SECONDS = _histogram(
    "synthralos_time_to_recovery_seconds",
    "From a failure, where it says when it happened, else from the run's start, to its recovery.",
    _RECOVERIES, "workflow",
)
ATTEMPTS = _counter("synthralos_attempts_total", "Calls to targets.", "workflow", "target")
ATTEMPT_FAILURES = _counter(
    "synthralos_attempt_failures_total", "Calls to targets that failed.",
    "workflow", "target", "cause",
)
ATTEMPT_SECONDS = _histogram(
    "synthralos_attempt_duration_seconds", "Duration of a call to a target.", _ATTEMPTS, "target"
)
REPEATS = _counter(
    "synthralos_repeats_total",
    "Calls to a target that the run had tried before, by what it had failed with.",
    "workflow", "target", "cause",
)
FALLBACKS = _counter(
    "synthralos_fallbacks_total",
    "Calls to a target that the run had not tried before, by the one that was left, and why.",
    "workflow", "target", "cause",
)
SKIPPED = _counter(
    "synthralos_targets_skipped_total",
    "Times that a target was passed over without a call.", "workflow", "target",
)
AGENT_CALLS = _counter(
    "synthralos_agent_calls_total", "Calls to agents, by success or failure.", "agent", "result"
)
AGENT_SECONDS = _histogram(
    "synthralos_agent_call_duration_seconds", "Duration of a call to an agent.", _ATTEMPTS, "agent"
)
TRANSITIONS = _counter(
    "synthralos_state_transitions_total", "Transitions of workflows that are state machines.",
    "workflow", "from_state", "to_state",
)
LLM_SECONDS = _histogram(
    "gen_ai_client_operation_duration_seconds", "Duration of a call to an LLM.", _CALLS,
    *_CALL, "error_type"
)
LLM_TOKENS = _histogram(
    "gen_ai_client_token_usage", "Tokens read and written by a call to an LLM.", _TOKENS,
    *_CALL, "gen_ai_token_type"
)
LLM_COST = _counter(
    "synthralos_llm_cost_total", "What calls to LLMs cost, by the configured prices.",
    *_MODEL, "currency"
)
LLM_UNPRICED = _counter(
    "synthralos_llm_unpriced_calls_total", "Answers of models that have no configured price.",
    *_MODEL
)
ROLLUPS = _counter("synthralos_rollups_total", "Times that metrics.roll_up has counted something.")
# Stored in the totals; everything below is computed on request.
TOTALS = (
    STARTED, COMPLETED, FAILED, RUN_SECONDS, RECOVERY_SECONDS, ATTEMPTS, ATTEMPT_FAILURES,
    ATTEMPT_SECONDS, REPEATS, FALLBACKS, SKIPPED, AGENT_CALLS, AGENT_SECONDS, TRANSITIONS,
    LLM_SECONDS, LLM_TOKENS, LLM_COST, LLM_UNPRICED, ROLLUPS, REDRIVEN,
)
BREAKER = _gauge(
    "synthralos_breaker_state", "1 for the state that the breaker of a target is in, else 0.",
    "target", "state",
)
_ACCOUNT = ("provider", "account")
ACCOUNT_RESTING = _gauge(
    "synthralos_account_resting",
    "1 while an account is not called because it is spent or its key is not valid, else 0.",
    *_ACCOUNT
)
ACCOUNT_RESTS_UNTIL = _gauge(
    "synthralos_account_rests_until_timestamp_seconds",
    "When an account that is not called may be called again.", *_ACCOUNT
)
SENSOR_CONNECTED = _gauge(
    "synthralos_sensor_connected", "1 while a sensor is connected to its source, else 0.",
    "sensor",
)
SENSOR_SEEN = _gauge(
    "synthralos_sensor_last_seen_timestamp_seconds",
    "When a sensor last reported that it is running.", "sensor",
)
SENSOR_RECONNECTS = _counter(
    "synthralos_sensor_reconnects_total", "Times that a sensor had to try again.", "sensor"
)
RECENT_RUNS = _gauge(
    "synthralos_recent_runs", "Runs that ended within the last `window`.", "workflow", "window"
)
RECENT_RATIO = _gauge(
    "synthralos_recent_success_ratio",
    "Share, 0 to 1, of the runs of the last `window` that succeeded; without failed runs that a "
    "re-run has made good.", "workflow", "window",
)
WAITING = _gauge(
    "synthralos_uncounted_events", "Events since the last roll-up, at most a page."
)
ROLLED_UP_AT = _gauge(
    "synthralos_last_rollup_timestamp_seconds", "When metrics.roll_up last succeeded."
)
NOW = (
    BREAKER, ACCOUNT_RESTING, ACCOUNT_RESTS_UNTIL, SENSOR_CONNECTED, SENSOR_SEEN,
    SENSOR_RECONNECTS, RECENT_RUNS, RECENT_RATIO, WAITING, ROLLED_UP_AT,
)
FAMILIES = TOTALS + NOW
BY_NAME = {family.name: family for family in FAMILIES}
