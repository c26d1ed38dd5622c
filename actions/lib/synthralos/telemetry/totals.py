"""Cumulative totals: what runs tell of themselves, added up, for ever.

How many series there may be is bounded: each label has at most so many values, and what comes
after that is `other`. Whoever has a series keeps it.
"""

import math

from synthralos.telemetry import counting
from synthralos.telemetry.families import BY_NAME, HISTOGRAM, TOTALS

OTHER = "other"
LONGEST = 128
# Most values of a label; targets, models and states come from the configuration, agents from
# callers.
MOST = {
    "workflow": 20, "outcome": 30, "result": 4, "failure_type": 20, "cause": 60, "target": 200,
    "agent": 50, "from_state": 60, "to_state": 60, "gen_ai_operation_name": 5,
    "gen_ai_provider_name": 50, "gen_ai_request_model": 100, "gen_ai_token_type": 2,
    "error_type": 60, "currency": 5,
}


class Totals:
    """:param kept: what `as_dict` gave, or None.
    :param most: {label: most values}, over MOST.
    :param always: {label: values that get a series however many there are}.
    :ivar series: {Family: {values of labels: number or [count, sum, counts]}}.
    """

    def __init__(self, kept=None, most=None, always=None):
        self.series = {family: {} for family in TOTALS}
        self._most, self._always = dict(MOST, **(most or {})), always or {}
        self._known = {label: set() for label in MOST}
        for name, rows in (kept or {}).items():
            family = BY_NAME.get(name)
            # A metric or a bucket that another version had is that version's.
            for labels, value in rows if family in self.series else ():
                if len(labels) == len(family.labels) and _fits(family, value):
                    self.series[family][tuple(labels)] = value
                    self._remember(family, labels)

    def as_dict(self):
        """{name: [[values of labels, value]]}, as JSON can hold it."""
        return {
            family.name: [[list(labels), value] for labels, value in sorted(series.items())]
            for family, series in self.series.items()
            if series
        }

    def count(self, event):
        """Adds an event of runs.py."""
        for family, labels, value in counting.of(event):
            self.add(family, labels, value)

    def add(self, family, labels, value):
        """Adds `value` to a counter, or observes it. What is no number above 0 adds nothing."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            return
        labels = tuple(
            self._bounded(label, given) for label, given in zip(family.labels, labels)
        )
        series = self.series[family]
        if family.type != HISTOGRAM:
            series[labels] = series.get(labels, 0) + value
            return
        kept = series.setdefault(labels, [0, 0, [0] * (len(family.buckets) + 1)])
        place = sum(value > bound for bound in family.buckets)
        kept[0] += 1
        kept[1] += value
        kept[2][place] += 1

    def _bounded(self, label, value):
        if not isinstance(value, str) or len(value) > LONGEST:
            return OTHER
        known = self._known[label]
        if value in known or value == OTHER:
            return value
        if len(known) >= self._most[label] and value not in self._always.get(label, ()):
            return OTHER
        known.add(value)
        return value

    def _remember(self, family, labels):
        for label, value in zip(family.labels, labels):
            if value != OTHER:
                self._known[label].add(value)


def _fits(family, value):
    if family.type != HISTOGRAM:
        return isinstance(value, (int, float))
    return isinstance(value, list) and len(value) == 3 and len(value[2]) == len(family.buckets) + 1
