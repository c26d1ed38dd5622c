"""Cumulative totals of the events of runs.

The number of series is bounded: each label has a maximum number of values, and further values
count as `other`. A value keeps its series, except that an agent without a count for
`idle_seconds` may be replaced by a new one. Its series then disappear and restart at 0 if it comes
back. Their counts are not added to `other`, where they would be counted twice. Until an agent is
replaced, new agents count as `other`, so no count disappears before it could be read.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Optional

from synthralos.metrics import event_mapping
from synthralos.metrics.definitions import (
    BY_NAME,
    HISTOGRAM,
    TOTALS,
    Family,
    SeriesByFamily,
    Value,
)
from synthralos.storage.run_summaries import RunFacts

OTHER = "other"
MAX_LABEL_CHARS = 128
# Maximum number of values per label. Targets, models and states come from the configuration, agents
# from callers.
MAX_LABEL_VALUES = {
    "workflow": 20, "outcome": 30, "result": 4, "failure_type": 20, "cause": 60, "target": 200,
    "agent": 50, "from_state": 60, "to_state": 60, "gen_ai_operation_name": 5,
    "gen_ai_provider_name": 50, "gen_ai_request_model": 100, "gen_ai_token_type": 2,
    "error_type": 60, "currency": 5,
}


class Totals:
    """Counters and histograms by label values.

    :param stored: the result of an earlier `as_dict`, or None.
    :param max_values: {label: maximum number of values}; overrides MAX_LABEL_VALUES.
    :param reserved: {label: values that always get a series and keep it}.
    :param seen: {agent: time of its last count, seconds since the epoch}: an earlier `seen`.
    :param now: the time of the counted events, seconds since the epoch.
    :param idle_seconds: seconds without a count after which an agent may be replaced; None for
        never.
    :ivar seen: the updated times, for the next Totals.
    """

    def __init__(
        self,
        stored: Optional[Mapping[str, Any]] = None,
        max_values: Optional[Mapping[str, int]] = None,
        reserved: Optional[Mapping[str, Collection[str]]] = None,
        seen: Optional[Mapping[str, float]] = None,
        now: float = 0.0,
        idle_seconds: Optional[float] = None,
    ) -> None:
        self.series: SeriesByFamily = {family: {} for family in TOTALS}
        self._max_values = dict(MAX_LABEL_VALUES, **(max_values or {}))
        self._reserved = reserved or {}
        self._values: dict[str, set[str]] = {label: set() for label in MAX_LABEL_VALUES}
        self._now, self._idle_seconds = now, idle_seconds
        for name, rows in (stored or {}).items():
            family = BY_NAME.get(name)
            # Metrics and buckets of another version of the pack are skipped.
            if family is None or family not in self.series:
                continue
            for labels, value in rows:
                if len(labels) == len(family.labels) and _fits(family, value):
                    self.series[family][tuple(labels)] = value
                    self._remember(family, labels)
        # An agent without a known time counts as idle.
        self.seen = {agent: (seen or {}).get(agent, 0.0) for agent in self._values["agent"]}

    def as_dict(self) -> dict[str, list[Any]]:
        """Return {name: [[label values, value]]}, which JSON can hold."""
        return {
            family.name: [[list(labels), value] for labels, value in sorted(series.items())]
            for family, series in self.series.items()
            if series
        }

    def count_event(self, event: RunFacts) -> None:
        """Add an event of run_summaries."""
        for family, labels, value in event_mapping.updates_for(event):
            self.observe(family, labels, value)

    def observe(self, family: Family, labels: Iterable[object], value: object) -> None:
        """Add `value` to a counter or observe it; anything but a finite number >= 0 is ignored."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return
        if not math.isfinite(value) or value < 0:
            return
        bounded_labels = tuple(
            self._bounded_label(label, label_value)
            for label, label_value in zip(family.labels, labels)
        )
        series = self.series[family]
        initial: Value = 0
        if family.type == HISTOGRAM:
            initial = [0, 0, [0] * (len(family.buckets) + 1)]
        histogram = series.setdefault(bounded_labels, initial)
        if not isinstance(histogram, list):
            series[bounded_labels] = histogram + value
            return
        bucket = sum(value > bound for bound in family.buckets)
        histogram[0] += 1
        histogram[1] += value
        histogram[2][bucket] += 1

    def _bounded_label(self, label: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > MAX_LABEL_CHARS:
            return OTHER
        known_values = self._values[label]
        if value == OTHER:
            return value
        if value not in known_values:
            if not self._has_room(label, value):
                return OTHER
            known_values.add(value)
        if label == "agent":
            self.seen[value] = max(self._now, self.seen.get(value, 0.0))
        return value

    def _has_room(self, label: str, value: str) -> bool:
        reserved = self._reserved.get(label, ())
        if value in reserved:
            return True
        # Reserved values do not count against the maximum.
        bounded = self._values[label].difference(reserved)
        if len(bounded) < self._max_values[label]:
            return True
        return label == "agent" and bool(bounded) and self._give_way(bounded)

    def _give_way(self, agents: Collection[str]) -> bool:
        """Drop the agent that has been idle for longest, if that is long enough."""
        oldest = min(agents, key=lambda agent: (self.seen[agent], agent))
        if self._idle_seconds is None or self._now - self.seen[oldest] < self._idle_seconds:
            return False
        for family, series in self.series.items():
            if "agent" in family.labels:
                position = family.labels.index("agent")
                for labels in [labels for labels in series if labels[position] == oldest]:
                    del series[labels]
        self._values["agent"].discard(oldest)
        del self.seen[oldest]
        return True

    def _remember(self, family: Family, labels: Iterable[str]) -> None:
        for label, value in zip(family.labels, labels):
            if value != OTHER:
                self._values[label].add(value)


def _fits(family: Family, value: object) -> bool:
    if family.type != HISTOGRAM:
        return isinstance(value, (int, float))
    return isinstance(value, list) and len(value) == 3 and len(value[2]) == len(family.buckets) + 1
