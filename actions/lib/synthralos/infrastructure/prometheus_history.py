"""What Prometheus has measured since a repair: range queries, and the nodes in their results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlencode

from synthralos.calls.http import CallError
from synthralos.core.failures import make_failure
from synthralos.infrastructure import node_names
from synthralos.infrastructure.config import Prometheus
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
    """

    labels: Mapping[str, Any]
    indices: frozenset[int]


def query_series(
    calls: Calls, prometheus: Prometheus, query: str, window: Window
) -> list[Series]:
    """Return the series of `query` in a window.

    :raises CallError: Prometheus did not respond, or not with series.
    """
    parameters = {
        "query": query.encode("utf-8", "replace"),
        "start": "%.3f" % window.times[0],
        "end": "%.3f" % window.times[-1],
        "step": "%d" % window.step,
    }
    path = "%s?%s" % (RANGE_PATH, urlencode(parameters))
    body = calls.get(prometheus.connection, path).json()
    data = body.get("data") if isinstance(body, dict) else None
    data = data if isinstance(data, dict) else {}
    result = data.get("result")
    if data.get("resultType") != "matrix" or not isinstance(result, list):
        raise CallError(
            make_failure("malformed_answer", "Prometheus did not return series of samples")
        )
    return [_series(entry, window) for entry in result if isinstance(entry, dict)]


def _series(entry: Mapping[str, Any], window: Window) -> Series:
    labels, indices = entry.get("metric"), set()
    for value in entry.get("values") or ():
        timestamp = value[0] if isinstance(value, list) and value else None
        if isinstance(timestamp, (int, float)):
            indices.add(round((timestamp - window.times[0]) / window.step))
    return Series(labels if isinstance(labels, dict) else {}, frozenset(indices))


class NodeHistory:
    """Which nodes were failed and which healthy since the first repair."""

    def __init__(
        self,
        calls: Calls,
        prometheus: Optional[Prometheus],
        topology: Topology,
        query: Optional[str],
    ) -> None:
        self._calls, self._prometheus, self._topology = calls, prometheus, topology
        self._query = query
        self._window = Window((0.0,), 1.0)
        self._failed: dict[str, set[int]] = {}
        self._healthy: dict[str, set[int]] = {}
        self._doubt: Optional[Evidence] = None

    def load(self, start: float, now: float) -> None:
        """Query Prometheus for the time from `start` to `now`; see MAX_WINDOW_SECONDS."""
        self._window = Window.since(start, now)
        prometheus = self._prometheus
        healthy = None if prometheus is None else health_query(prometheus, self._query)
        try:
            if prometheus is None or healthy is None:
                raise CallError(make_failure("configuration", "the check is no longer configured"))
            self._healthy = self._indices_by_node(prometheus, healthy)
            self._failed = self._indices_by_node(prometheus, self._query or prometheus.query)
        except CallError as error:
            self._doubt = doubt_of(error)

    def evidence(self, node: str, ended_at: float) -> Evidence:
        """Return what the series show of the node since `ended_at`, the end of its repair."""
        if self._doubt is not None:
            return self._doubt
        failed = self._failed.get(node, set())
        healthy = self._healthy.get(node, set()) - failed
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

    def _indices_by_node(self, prometheus: Prometheus, query: str) -> dict[str, set[int]]:
        """Return {node: indices of the times at which the result of `query` has the node}.

        :raises CallError: Prometheus did not respond, or not with series.
        """
        indices: dict[str, set[int]] = {}
        for series in query_series(self._calls, prometheus, query, self._window):
            name = series.labels.get(prometheus.label)
            if node_names.is_node_name(name):
                node = self._topology.canonical_name(name)
                indices.setdefault(node, set()).update(series.indices)
        return indices


def doubt_of(error: CallError) -> Evidence:
    """Return the evidence of a query that failed: none."""
    return Evidence(
        UNKNOWN, reason="Prometheus could not be queried (%s)" % error.failure.cause
    )
