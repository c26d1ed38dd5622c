"""What Prometheus has measured since a repair: range queries, and the nodes in their results."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.core.failures import make_failure
from synthralos.infrastructure import likeness, node_names
from synthralos.infrastructure.config import InfrastructureConfig, Prometheus
from synthralos.infrastructure.prometheus_responses import is_partial
from synthralos.infrastructure.promql import opposite_of
from synthralos.infrastructure.repair_evidence import (
    FAILED,
    HEALTHY,
    UNKNOWN,
    Calls,
    Evidence,
    health_query,
)
from synthralos.infrastructure.topology import Topology

RANGE_PATH = "/api/v1/query_range"
# Points of a range query: a flap that is shorter than a step between two of them may be missed.
MAX_POINTS = 30
MAX_WINDOW_SECONDS = 3600
# A clock that differs by more is not taken for this one. The server reports whole seconds, and a
# call takes some time.
MAX_SKEW_SECONDS = 5.0
FAILED_AGAIN = "it was healthy and failed again"


@dataclass(frozen=True)
class Window:
    """Equal steps of time, of which the last one is now.

    :ivar times: seconds since the epoch, oldest first.
    :ivar step: seconds between two of them.
    """

    times: tuple[float, ...]
    step: float

    @classmethod
    def since(cls, start: float, now: float) -> "Window":
        """Return the window from `start` to `now`, at most MAX_WINDOW_SECONDS long."""
        seconds = min(max(now - start, 1.0), MAX_WINDOW_SECONDS)
        step = float(math.ceil(seconds / MAX_POINTS))
        count = math.ceil(seconds / step)
        return cls(tuple(now - step * (count - index) for index in range(count + 1)), step)

    def indices_since(self, start: float) -> list[int]:
        """Return the indices of the times since `start`; the last one in any case."""
        last = len(self.times) - 1
        return [i for i in range(last) if self.times[i] >= start] + [last]


@dataclass(frozen=True)
class Series:
    """A series in the result of a range query.

    :ivar labels: its labels.
    :ivar indices: of the times of the window at which it has a sample.
    :ivar measured: those of them at which that is a number. A division by zero, of what is not
        measured any more, is none, though `!= 0` and `> 1` accept it.
    """

    labels: Mapping[str, Any]
    indices: frozenset[int]
    measured: frozenset[int]


def query_series(
    calls: Calls, prometheus: Prometheus, query: str, window: Window
) -> list[Series]:
    """Return the series of `query` in a window, which is moved by what the clocks differ.

    :raises CallError: Prometheus did not respond, or not with all series.
    """
    connection = prometheus.connection
    skew = calls.skew_of(connection)
    data = _query(calls, prometheus, query, window, skew)
    if abs(calls.skew_of(connection) - skew) > MAX_SKEW_SECONDS:
        skew = calls.skew_of(connection)
        data = _query(calls, prometheus, query, window, skew)
    return [_series(entry, window, skew) for entry in data if isinstance(entry, dict)]


def _query(
    calls: Calls, prometheus: Prometheus, query: str, window: Window, skew: float
) -> list[Any]:
    parameters = {
        "query": query.encode("utf-8", "replace"),
        "start": "%.3f" % (window.times[0] + skew),
        "end": "%.3f" % (window.times[-1] + skew),
        "step": "%d" % window.step,
    }
    path = "%s?%s" % (RANGE_PATH, urlencode(parameters))
    body = calls.get(prometheus.connection, path).json()
    body = body if isinstance(body, dict) else {}
    data = body.get("data")
    data = data if isinstance(data, dict) else {}
    result = data.get("result")
    is_error = body.get("status", "success") != "success"
    if is_error or data.get("resultType") != "matrix" or not isinstance(result, list):
        raise CallError(
            make_failure("malformed_answer", "Prometheus did not return series of samples")
        )
    if is_partial(body):
        raise CallError(make_failure("malformed_answer", "Prometheus did not return all series"))
    return result


def _series(entry: Mapping[str, Any], window: Window, skew: float) -> Series:
    labels, indices, measured = entry.get("metric"), set(), set()
    values = entry.get("values")
    for sample in values if isinstance(values, list) else ():
        timestamp = sample[0] if isinstance(sample, list) and sample else None
        if not isinstance(timestamp, (int, float)):
            continue
        index = round((timestamp - skew - window.times[0]) / window.step)
        indices.add(index)
        if len(sample) > 1 and _is_number(sample[1]):
            measured.add(index)
    return Series(
        labels if isinstance(labels, dict) else {}, frozenset(indices), frozenset(measured)
    )


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


NO_SERIES = Series({}, frozenset(), frozenset())
# {node: {key of what a series measures: the series}}
SeriesByNode = dict[str, dict[str, Series]]


class NodeHistory:
    """Which nodes were failed and which healthy since the first repair."""

    def __init__(
        self,
        calls: Calls,
        config: InfrastructureConfig,
        topology: Topology,
        query: Optional[str],
    ) -> None:
        self._calls, self._config, self._topology = calls, config, topology
        self._query = query
        self._window = Window((0.0,), 1.0)
        self._failed: SeriesByNode = {}
        self._healthy: SeriesByNode = {}
        # {timestamp: the series by which nodes were failed at that time}
        self._earlier: dict[float, SeriesByNode] = {}
        self._doubt: Optional[Evidence] = None

    def load(self, start: float, now: float, earlier: Iterable[float] = ()) -> None:
        """Query Prometheus for the time from `start` to `now`; see MAX_WINDOW_SECONDS.

        :param earlier: when each repair began, in seconds since the epoch: a call for each.
        """
        self._window = Window.since(start, now)
        prometheus = self._config.prometheus
        healthy = None if prometheus is None else health_query(prometheus, self._query)
        try:
            if prometheus is None or healthy is None:
                raise CallError(make_failure("configuration", "the check is no longer configured"))
            failed = self._query or prometheus.query
            self._healthy = self._series_by_node(prometheus, healthy, self._window)
            self._failed = self._series_by_node(prometheus, failed, self._window)
            if healthy == opposite_of(failed):
                # Both have the same labels. Those of a configured check may be others.
                self._earlier = {
                    timestamp: self._series_by_node(prometheus, failed, Window((timestamp,), 1.0))
                    for timestamp in set(earlier)
                }
        except CallError as error:
            self._doubt = doubt_of(error)

    def evidence(self, node: str, ended_at: float, began_at: Optional[float] = None) -> Evidence:
        """Return what the series show of the node since `ended_at`, the end of its repair.

        :param began_at: when the repair began. What was failed then must be healthy: another target
            of the node proves nothing.
        """
        if self._doubt is not None:
            return self._doubt
        failed = {i for series in self._failed.get(node, {}).values() for i in series.indices}
        healthy = self._healthy_indices(node, began_at) - failed
        indices = self._window.indices_since(ended_at)
        last = indices[-1]
        since, was_healthy = indices[0], False
        for index in indices:
            if index in failed and was_healthy:
                return Evidence(FAILED, reason=FAILED_AGAIN)
            was_healthy = was_healthy or index in healthy
            if index not in healthy:
                since = index + 1
        if last in failed:
            return Evidence(FAILED, reason="Prometheus shows it as failed")
        if last not in healthy:
            return Evidence(FAILED, reason="Prometheus has no sample of it")
        return Evidence(HEALTHY, self._window.times[since])

    def _healthy_indices(self, node: str, began_at: Optional[float]) -> set[int]:
        """Return the indices at which everything of the node is healthy that was failed before."""
        series_by_key = self._healthy.get(node, {})
        earlier = {} if began_at is None else self._earlier.get(began_at, {})
        required = [series_by_key.get(key, NO_SERIES) for key in earlier.get(node, ())]
        if required:
            return set(required[0].measured.intersection(*(own.measured for own in required)))
        return {index for series in series_by_key.values() for index in series.measured}

    def _series_by_node(
        self, prometheus: Prometheus, query: str, window: Window
    ) -> SeriesByNode:
        """Return the series of `query`.

        :raises CallError: Prometheus did not respond, or not with series.
        """
        series_by_node: SeriesByNode = {}
        for series in query_series(self._calls, prometheus, query, window):
            name = series.labels.get(prometheus.label)
            if isinstance(name, str) and node_names.is_node_name(name):
                by_key = series_by_node.setdefault(self._topology.canonical_name(name), {})
                key = likeness.series_key(series.labels, self._config.alert_rules)
                by_key[key] = _merge(by_key.get(key, NO_SERIES), series)
        return series_by_node


def _merge(first: Series, second: Series) -> Series:
    """Return a series with the samples of both."""
    return Series(
        second.labels, first.indices | second.indices, first.measured | second.measured
    )


def doubt_of(error: CallError) -> Evidence:
    """Return the evidence of a query that failed: none."""
    return Evidence(
        UNKNOWN, reason="Prometheus could not be queried (%s)" % error.failure.cause
    )
