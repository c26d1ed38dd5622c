"""The report on a period: runs, their outcomes and cost, tickets, and what was only observed."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Optional

from synthralos.core.sanitize import sanitize_line
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.reports import costs, observation_report
from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    Cell,
    Fact,
    Report,
    StackedBars,
    Status,
    Table,
    Text,
    duration,
    moment,
    share,
)
from synthralos.reports.observation_report import Clean
from synthralos.storage import run_summaries, tickets
from synthralos.storage.run_summaries import RunFacts
from synthralos.storage.tickets import Ticket

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

DAY = 24 * 3600
SLOWEST = MAX_REPEATED_SHOWN = 10
# A page of the datastore has 100 runs; further ones are not read.
MAX_PAGES = 50


class PeriodRun(RunFacts):
    """The summary of a run. `made_good`: whether it failed and a later run has made it good."""

    made_good: bool


@dataclass
class _TargetCalls:
    """The calls to one target, added up.

    :ivar failed: how many of `count` failed.
    :ivar seconds: how long each took, as far as it is known.
    """

    count: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)


def build_period_report(env: "Environment", days: int) -> Report:
    """Build the report on the last `days` days."""

    def clean(text: Any) -> str:
        return sanitize_line(text, env.redactor, 200)

    now = env.now()
    since = now - days * DAY
    runs = _with_made_good(list(run_summaries.summaries_since(env.store, since, MAX_PAGES)))
    made_good = sum(run["made_good"] for run in runs)
    recovered = [run for run in runs if _is_recovered(run)]
    opened, closed, waiting = _tickets(env, since)
    facts: list[Fact] = [
        ("Runs", str(len(runs))),
        ("Recovered", share(len(recovered), len(runs))),
        ("Median duration", duration(_median([_seconds(run) for run in runs]))),
        ("Calls", str(sum(run.get("attempts") or 0 for run in runs))),
        ("Tickets opened", str(len(opened))),
        ("Tickets closed", str(len(closed))),
    ]
    redriven = sum(bool(run.get("redrive")) for run in runs)
    if made_good or redriven:
        facts += [("Failed, made good later", str(made_good)), ("Redriven", str(redriven))]
    cost = _cost(runs)
    observed = observation_report.read_observed(env, since)
    facts.append(("Mode", observed.in_force["mode"]))
    facts += [("LLM cost", costs.money(amount, currency)) for currency, amount in cost]
    settled = len(recovered) + made_good
    kind = IDLE if not runs else GOOD if settled == len(runs) else PLAIN
    report = Report(
        title="The last day" if days == 1 else "The last %d days" % days,
        subtitle="%s to %s" % (moment(since), moment(now)),
        outcome=Status(
            kind,
            (None if runs else observation_report.outcome_text(observed)) or
            _outcome_text(len(recovered), len(runs), made_good),
        ),
        facts=facts,
        made_at=now,
    )
    if len(runs) >= MAX_PAGES * 100:
        report.add("Truncated", Text("There are more runs; only the newest ones are included."))
    observation_report.add_observations(report, observed, clean)
    report.add("Day by day", _by_day(runs, since, now))
    report.add("By workflow", _grouped(runs, lambda run: run.get("workflow"), clean))
    report.add("By type of failure", _grouped(
        runs, lambda run: run.get("failure_type") or "unknown", clean))
    report.add("By target", _targets(runs, clean))
    report.add("Causes of failed runs", _causes(runs, clean))
    report.add("Slowest runs", _runs(
        sorted(runs, key=_seconds, reverse=True)[:SLOWEST], clean))
    report.add("Runs with the most repeats", _runs(
        sorted((run for run in runs if run.get("repeats")),
               key=lambda run: run["repeats"], reverse=True)[:MAX_REPEATED_SHOWN], clean))
    report.add("Tickets waiting for a person", _waiting(waiting, clean))
    return report


def _with_made_good(summaries: list[RunFacts]) -> list[PeriodRun]:
    open_runs = {id(summary) for summary in run_summaries.open_runs(summaries)}
    return [{**summary, "made_good": id(summary) not in open_runs} for summary in summaries]


def _outcome_text(recovered: int, number: int, made_good: int) -> str:
    text = "%d of %d runs recovered" % (recovered, number)
    return "%s, and %d were made good later" % (text, made_good) if made_good else text


def _is_recovered(run: PeriodRun) -> bool:
    return run.get("outcome") == "recovered"


def _seconds(run: PeriodRun) -> float:
    return run.get("duration") or 0.0


def _median(numbers: Sequence[float]) -> Optional[float]:
    return statistics.median(numbers) if numbers else None


def _cost(runs: Sequence[PeriodRun]) -> list[tuple[str, float]]:
    """Return [(currency, amount)] of the calls with a known price."""
    cost_by_currency: dict[str, float] = {}
    for run in runs:
        for call in run.get("llm") or ():
            cost: Any = call[-1]
            if cost is not None:
                currency = run.get("currency") or "?"
                cost_by_currency[currency] = cost_by_currency.get(currency, 0.0) + cost
    return sorted(cost_by_currency.items())


def _tickets(
    env: "Environment", since: float
) -> tuple[list[Ticket], list[Ticket], list[Ticket]]:
    """Return the tickets (opened, closed, waiting for a person) since then."""
    all_tickets = tickets.list_tickets(env.store)
    opened = [
        ticket for ticket in all_tickets if (parse_iso(ticket.get("opened_at")) or 0) >= since
    ]
    closed = [
        ticket for ticket in all_tickets if (parse_iso(ticket.get("resolved_at")) or 0) >= since
    ]
    waiting = [ticket for ticket in all_tickets if ticket["status"] != tickets.RESOLVED]
    waiting.sort(key=lambda ticket: ticket.get("priority") or 0, reverse=True)
    return opened, closed, waiting


def _recovered_failed(runs: Sequence[PeriodRun]) -> list[tuple[str, int]]:
    recovered = sum(_is_recovered(run) for run in runs)
    made_good = sum(run["made_good"] for run in runs)
    parts = [(GOOD, recovered), (WAIT, made_good), (BAD, len(runs) - recovered - made_good)]
    return [part for part in parts if part[0] != WAIT or part[1]]


def _by_day(runs: Sequence[PeriodRun], since: float, now: float) -> Optional[StackedBars]:
    if not runs:
        return None
    day_starts = list(range(int(since), int(now), DAY)) + [now]
    days: dict[str, list[PeriodRun]] = {
        to_iso(timestamp)[:10]: [] for timestamp in day_starts
    }
    for run in runs:
        days.setdefault(to_iso(run["at"])[:10], []).append(run)
    return StackedBars(
        [(day, _recovered_failed(days[day]), _recovered_text(days[day])) for day in sorted(days)]
    )


def _recovered_text(runs: Sequence[PeriodRun]) -> str:
    recovered = sum(_is_recovered(run) for run in runs)
    return "%d, %s recovered" % (len(runs), share(recovered, len(runs))) if runs else "none"


def _grouped(
    runs: Sequence[PeriodRun], key_of: Callable[[PeriodRun], Optional[str]], clean: Clean
) -> Optional[StackedBars]:
    groups: dict[str, list[PeriodRun]] = {}
    for run in runs:
        groups.setdefault(str(key_of(run)), []).append(run)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: len(item[1]), reverse=True)
    return StackedBars(
        [(clean(name), _recovered_failed(group), _recovered_text(group)) for name, group in ordered]
    )


def _targets(runs: Sequence[PeriodRun], clean: Clean) -> Optional[Table]:
    calls_by_target: dict[str, _TargetCalls] = {}
    for run in runs:
        names, causes = run.get("targets") or [], run.get("causes") or []
        latencies = run.get("latency_ms") or []
        for n, name in enumerate(names):
            calls = calls_by_target.setdefault(name, _TargetCalls())
            calls.count += 1
            calls.failed += n < len(causes) and causes[n] is not None
            latency = latencies[n] if n < len(latencies) else None
            if latency is not None:
                calls.seconds.append(latency / 1000.0)
    if not calls_by_target:
        return None
    rows: list[list[Cell]] = [
        [
            clean(name),
            calls.count,
            Status(BAD, str(calls.failed)) if calls.failed else 0,
            share(calls.count - calls.failed, calls.count),
            duration(_median(calls.seconds)) if calls.seconds else None,
        ]
        for name, calls in sorted(calls_by_target.items(), key=lambda item: -item[1].count)
    ]
    columns = ["Target", "Calls", "Failed", "Answered", "Median"]
    return Table(columns, rows, tuple(columns[1:]))


def _causes(runs: Sequence[PeriodRun], clean: Clean) -> Optional[StackedBars]:
    count_by_cause: dict[str, int] = {}
    for run in runs:
        if not _is_recovered(run) and not run["made_good"]:
            key = run.get("cause") or "unknown"
            count_by_cause[key] = count_by_cause.get(key, 0) + 1
    rows = sorted(count_by_cause.items(), key=lambda item: -item[1])
    return StackedBars([(clean(name), [(BAD, n)], "%d" % n) for name, n in rows]) if rows else None


def _runs(runs: Sequence[PeriodRun], clean: Clean) -> Optional[Table]:
    if not runs:
        return None
    rows: list[list[Cell]] = [
        [clean(run.get("workflow")), _outcome(run), duration(_seconds(run)),
         run.get("attempts"), run.get("repeats"), moment(run["at"]), clean(run.get("run") or "")]
        for run in runs
    ]
    columns = ["Workflow", "Outcome", "Took", "Attempts", "Repeats", "Ended", "Run"]
    return Table(columns, rows, ("Took", "Attempts", "Repeats"))


def _outcome(run: PeriodRun) -> Status:
    if _is_recovered(run):
        return Status(GOOD, "recovered")
    if run["made_good"]:
        return Status(WAIT, "made good later")
    return Status(BAD, str(run.get("cause") or "failed"))


def _waiting(tickets_waiting: Sequence[Ticket], clean: Clean) -> Optional[Table]:
    if not tickets_waiting:
        return None
    rows: list[list[Cell]] = [
        [ticket["ticket"], clean(ticket["subject"]), clean(ticket["cause"]),
         Status(WAIT if ticket["status"] == tickets.IN_PROGRESS else BAD,
              ticket["status"].replace("_", " ")),
         ticket.get("priority"), ticket.get("occurrences"), clean(ticket.get("opened_at") or "")]
        for ticket in tickets_waiting
    ]
    columns = ["Ticket", "Of", "Cause", "Status", "Priority", "Times", "Since"]
    return Table(columns, rows, ("Priority", "Times"))
