"""What would have been done in a period, counted from the facts that the mode observe recorded."""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.automation import alert_triage
from synthralos.automation.outcomes import REASONS, RESOLVED, STARTED
from synthralos.storage.observations import Observation

NO_FAILURES = (alert_triage.NOT_A_FAILURE, alert_triage.TEST)
# An incident: its id, and when it began.
IncidentKey = tuple[Optional[str], Optional[str]]


@dataclass
class Group:
    """What would have been done by one workflow, by one runbook if there is one.

    Each incident is in one of three sets: of those that a run would have been started for; of
    those for which a person would have been asked and nothing else; and of the rest, which were
    covered by a run for another incident, or had begun before the period.

    :ivar reports: the number of alerts and failures that were reported, repeats included.
    :ivar incidents: what they were about.
    :ivar started, questioned: the incidents of the first two sets; one may have been in both.
    :ivar starts: the number of runs that would have been started.
    :ivar unplanned: how many of these would have had nothing to do.
    :ivar subjects: the agents and nodes that these would have been about.
    :ivar self_resolved: for each of these runs whose incident has ended, the seconds from its
        start until then.
    """

    reports: int = 0
    incidents: set[IncidentKey] = field(default_factory=set)
    started: set[IncidentKey] = field(default_factory=set)
    questioned: set[IncidentKey] = field(default_factory=set)
    starts: int = 0
    unplanned: int = 0
    subjects: set[str] = field(default_factory=set)
    self_resolved: list[float] = field(default_factory=list)

    @property
    def left_to_person(self) -> int:
        return len(self.questioned - self.started)

    @property
    def covered(self) -> int:
        return len(self.incidents - self.started - self.questioned)

    @property
    def median_seconds(self) -> Optional[float]:
        return statistics.median(self.self_resolved) if self.self_resolved else None

    def resolved_within(self, seconds: float) -> int:
        """Return how many of the incidents had ended so soon."""
        return sum(duration <= seconds for duration in self.self_resolved)

    def as_dict(self) -> dict[str, Any]:
        """Return the group in numbers."""
        return {
            "reports": self.reports,
            "incidents": len(self.incidents),
            "would_start": self.starts,
            "left_to_person": self.left_to_person,
            "covered": self.covered,
            "without_plan": self.unplanned,
            "subjects": len(self.subjects),
            "resolved_by_themselves": len(self.self_resolved),
            "median_seconds": self.median_seconds,
        }


@dataclass
class Question:
    """Why a person would have been asked.

    :ivar incidents: the number of incidents for which one would have been.
    :ivar self_resolved: how many of them ended nevertheless.
    """

    incidents: int = 0
    self_resolved: int = 0


@dataclass
class Summary:
    """What would have been done in a period.

    :ivar first_at: the time of the oldest fact, in seconds since the epoch; None without any.
    :ivar groups: {(workflow or None, runbook or None): Group}.
    :ivar crews: {crew: runs that would have been given to it}.
    :ivar questions: {reason, one of outcomes.REASONS: Question}.
    :ivar no_failures: {outcome: alerts that are no failures, each once an hour}.
    """

    first_at: Optional[float] = None
    groups: dict[tuple[Optional[str], Optional[str]], Group] = field(default_factory=dict)
    crews: Counter[str] = field(default_factory=Counter)
    questions: dict[str, Question] = field(default_factory=dict)
    no_failures: Counter[str] = field(default_factory=Counter)

    @property
    def reports(self) -> int:
        """The number of reports of failures."""
        return sum(group.reports for group in self.groups.values())

    @property
    def incidents(self) -> int:
        return sum(len(group.incidents) for group in self.groups.values())

    @property
    def starts(self) -> int:
        return sum(group.starts for group in self.groups.values())

    @property
    def self_resolved(self) -> int:
        """The number of runs whose incidents have ended."""
        return sum(len(group.self_resolved) for group in self.groups.values())

    @property
    def question_count(self) -> int:
        return sum(question.incidents for question in self.questions.values())


def summarize(facts: Iterable[tuple[float, Observation]], since: float) -> Summary:
    """Count the facts of a period.

    The end of an incident counts only if its report is in the period, too.

    :param facts: (seconds since the epoch, Observation), in any order.
    :param since: the beginning of the period, in seconds since the epoch.
    """
    summary, seen = Summary(), set()
    for at, fact in facts:
        summary.first_at = at if summary.first_at is None else min(at, summary.first_at)
        if fact.outcome in NO_FAILURES:
            summary.no_failures[fact.outcome] += fact.count
            continue
        if fact.outcome == RESOLVED:
            if at - (fact.seconds or 0.0) >= since:
                _count_end(summary, fact)
            continue
        group = _group_of(summary, fact)
        key = (fact.incident, fact.since)
        group.reports += fact.count
        if fact.incident is not None:
            group.incidents.add(key)
        if fact.outcome == STARTED:
            group.starts += 1
            group.unplanned += fact.is_unplanned
            group.started.add(key)
            group.subjects.add(fact.subject or "")
            summary.crews.update(fact.crews)
        elif fact.outcome in REASONS:
            if fact.incident is not None:
                group.questioned.add(key)
            if (fact.outcome, key) not in seen:
                if fact.incident is not None:
                    seen.add((fact.outcome, key))
                summary.questions.setdefault(fact.outcome, Question()).incidents += 1
    return summary


def _group_of(summary: Summary, fact: Observation) -> Group:
    return summary.groups.setdefault((fact.workflow, fact.runbook), Group())


def _count_end(summary: Summary, fact: Observation) -> None:
    if fact.ended == STARTED:
        _group_of(summary, fact).self_resolved.append(fact.seconds or 0.0)
    elif fact.ended is not None:
        summary.questions.setdefault(fact.ended, Question()).self_resolved += 1
