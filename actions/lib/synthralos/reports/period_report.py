"""The report of a period: what ran, what came of it, what it cost, which tickets there were."""

import statistics

from synthralos.core.sanitize import sanitize_line
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.reports import costs
from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    Report,
    StackedBars,
    Status,
    Table,
    Text,
    duration,
    moment,
    share,
)
from synthralos.storage import run_summaries, tickets

DAY = 24 * 3600
SLOWEST = MAX_REPEATED_SHOWN = 10
# A page of the datastore has 100; more runs than these are not read.
MAX_PAGES = 50


def build_period_report(env, days):
    """The Report of the last `days`."""

    def said(text):
        return sanitize_line(text, env.redactor, 200)

    now = env.now()
    since = now - days * DAY
    found = list(run_summaries.summaries_since(env.store, since, MAX_PAGES))
    good = [run for run in found if _is_good(run)]
    opened, closed, waiting = _tickets(env, since)
    facts = [
        ("Runs", str(len(found))),
        ("Recovered", share(len(good), len(found))),
        ("Median duration", duration(_median([_seconds(run) for run in found]))),
        ("Calls", str(sum(run.get("attempts") or 0 for run in found))),
        ("Tickets opened", str(len(opened))),
        ("Tickets closed", str(len(closed))),
    ]
    cost = _cost(found)
    facts += [("LLM cost", costs.money(amount, currency)) for currency, amount in cost]
    kind = IDLE if not found else GOOD if len(good) == len(found) else PLAIN
    report = Report(
        title="The last day" if days == 1 else "The last %d days" % days,
        subtitle="%s to %s" % (moment(since), moment(now)),
        outcome=Status(kind, "%d of %d runs recovered" % (len(good), len(found))),
        facts=facts,
        made_at=now,
    )
    if len(found) >= MAX_PAGES * 100:
        report.add("Cut", Text("There are more runs than these: only the newest are read."))
    report.add("Day by day", _by_day(found, since, now))
    report.add("By workflow", _shared(found, lambda run: run.get("workflow"), said))
    report.add("By type of failure", _shared(
        found, lambda run: run.get("failure_type") or "not told", said))
    report.add("By target", _targets(found, said))
    report.add("Causes of runs that failed", _causes(found, said))
    report.add("The slowest runs", _runs(
        sorted(found, key=_seconds, reverse=True)[:SLOWEST], said))
    report.add("The most repeats", _runs(
        sorted((run for run in found if run.get("repeats")),
               key=lambda run: run["repeats"], reverse=True)[:MAX_REPEATED_SHOWN], said))
    report.add("Tickets that wait for a person", _waiting(waiting, said))
    return report


def _is_good(run):
    return run.get("outcome") == "recovered"


def _seconds(run):
    return run.get("duration") or 0.0


def _median(numbers):
    return statistics.median(numbers) if numbers else None


def _cost(found):
    """[(currency, amount)], where prices are known."""
    told = {}
    for run in found:
        for call in run.get("llm") or ():
            if call[-1] is not None:
                currency = run.get("currency") or "?"
                told[currency] = told.get(currency, 0.0) + call[-1]
    return sorted(told.items())


def _tickets(env, since):
    """(opened, closed, those that wait) since then."""
    known = tickets.list_tickets(env.store)
    opened = [one for one in known if (parse_iso(one.get("opened_at")) or 0) >= since]
    closed = [one for one in known if (parse_iso(one.get("resolved_at")) or 0) >= since]
    waiting = [one for one in known if one["status"] != tickets.RESOLVED]
    waiting.sort(key=lambda one: one.get("priority") or 0, reverse=True)
    return opened, closed, waiting


def _good_bad(found):
    good = sum(_is_good(run) for run in found)
    return [(GOOD, good), (BAD, len(found) - good)]


def _by_day(found, since, now):
    if not found:
        return None
    begins = list(range(int(since), int(now), DAY)) + [now]
    days = {to_iso(at)[:10]: [] for at in begins}
    for run in found:
        days.setdefault(to_iso(run["at"])[:10], []).append(run)
    return StackedBars([(day, _good_bad(days[day]), _told(days[day])) for day in sorted(days)])


def _told(found):
    good = sum(_is_good(run) for run in found)
    return "%d, %s recovered" % (len(found), share(good, len(found))) if found else "none"


def _shared(found, of, said):
    groups = {}
    for run in found:
        groups.setdefault(str(of(run)), []).append(run)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: len(item[1]), reverse=True)
    return StackedBars([(said(name), _good_bad(group), _told(group)) for name, group in ordered])


def _targets(found, said):
    told = {}
    for run in found:
        names, causes = run.get("targets") or [], run.get("causes") or []
        latencies = run.get("latency_ms") or []
        for n, name in enumerate(names):
            entry = told.setdefault(name, [0, 0, []])
            entry[0] += 1
            entry[1] += n < len(causes) and causes[n] is not None
            if n < len(latencies) and latencies[n] is not None:
                entry[2].append(latencies[n] / 1000.0)
    if not told:
        return None
    rows = [
        [said(name), calls, Status(BAD, str(failed)) if failed else 0, share(calls - failed, calls),
         duration(_median(took)) if took else None]
        for name, (calls, failed, took) in sorted(told.items(), key=lambda item: -item[1][0])
    ]
    columns = ["Target", "Calls", "Failed", "Answered", "Median"]
    return Table(columns, rows, tuple(columns[1:]))


def _causes(found, said):
    told = {}
    for run in found:
        if not _is_good(run):
            key = run.get("cause") or "unknown"
            told[key] = told.get(key, 0) + 1
    rows = sorted(told.items(), key=lambda item: -item[1])
    return StackedBars([(said(name), [(BAD, n)], "%d" % n) for name, n in rows]) if rows else None


def _runs(found, said):
    if not found:
        return None
    rows = [
        [said(run.get("workflow")), _outcome(run), duration(_seconds(run)),
         run.get("attempts"), run.get("repeats"), moment(run["at"]), said(run.get("run") or "")]
        for run in found
    ]
    columns = ["Workflow", "Outcome", "Took", "Attempts", "Repeats", "Ended", "Run"]
    return Table(columns, rows, ("Took", "Attempts", "Repeats"))


def _outcome(run):
    if _is_good(run):
        return Status(GOOD, "recovered")
    return Status(BAD, str(run.get("cause") or "failed"))


def _waiting(found, said):
    if not found:
        return None
    rows = [
        [one["ticket"], said(one["subject"]), said(one["cause"]),
         Status(WAIT if one["status"] == tickets.IN_PROGRESS else BAD,
              one["status"].replace("_", " ")),
         one.get("priority"), one.get("occurrences"), said(one.get("opened_at") or "")]
        for one in found
    ]
    columns = ["Ticket", "Of", "Cause", "Status", "Priority", "Times", "Since"]
    return Table(columns, rows, ("Priority", "Times"))
