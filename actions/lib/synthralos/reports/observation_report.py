"""The part of the report on a period that says what would have been done in the mode observe, and
what may take the next step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.automation.observation_summary import Group, Summary, summarize
from synthralos.automation.outcomes import REASONS, RECURRED
from synthralos.config.modes import OBSERVE
from synthralos.core.plurals import count_noun
from synthralos.core.timestamps import to_iso
from synthralos.reports.document import Block, Cell, Report, Table, Text, duration, moment
from synthralos.runtime.environment import Environment
from synthralos.storage import observations

HEADING, NEXT_HEADING = "What would have been done", "What may take the next step"
# A page has 100 facts; further ones are not read.
MAX_PAGES = 300
# A run needs about that long: what ends sooner needs none.
QUICK_SECONDS = 600.0
# Nothing was repaired after which an incident could have recurred.
_REASONS = dict(REASONS, **{RECURRED: "it recurred soon after it had ended"})
_NO_FAILURES = {
    "not_a_failure": "not a failure: meant to fire, or of no severity",
    "test": "a test of the notification",
}
_INTRODUCTION = (
    "In the mode observe, since %s: %s of %s. %s would have been started; the incidents of %d of "
    "them resolved by themselves. A person would have been asked about %s. Nothing was started, "
    "and nobody was asked."
)
Clean = Callable[[Any], str]


class Observed(NamedTuple):
    """What was observed in a period.

    :ivar in_force: the modes in force now; see modes.modes_in_force.
    :ivar is_complete: whether all facts of the period have been read.
    """

    summary: Summary
    in_force: dict[str, Any]
    is_complete: bool


class _Advice(NamedTuple):
    text: str
    reason: str
    way: str


def read_observed(env: Environment, since: float) -> Observed:
    """Return what was observed since then.

    Costs two calls to the datastore, and one for each 100 reports.

    :param since: the beginning of the period, in seconds since the epoch.
    """
    config, _ = automation_config.load(env.settings.automation)
    in_force = modes.modes_in_force(env, config)
    facts = list(observations.iter_since(env.store, since, MAX_PAGES))
    return Observed(summarize(facts, since), in_force, len(facts) < MAX_PAGES * 100)


def add_observations(report: Report, observed: Observed, clean: Clean) -> None:
    """Add the sections, if something was observed in the period or may be from now on.

    :param clean: makes a text from elsewhere harmless.
    """
    summary, in_force, is_complete = observed
    if summary.first_at is None and OBSERVE not in _modes(in_force):
        return
    report.data["observed"] = _as_data(observed)
    blocks: list[Optional[Block]] = [
        Text(_introduction(summary, in_force)),
        _groups(summary, clean),
        _runs(summary, in_force, clean),
        _crews(summary, clean),
        _questions(summary),
        _no_failures(summary),
    ]
    if not is_complete:
        blocks.append(Text("There are more reports; only the newest ones are counted."))
    report.add(HEADING, *blocks)
    report.add(NEXT_HEADING, _next_steps(summary, in_force, clean))


def outcome_text(observed: Observed) -> Optional[str]:
    """Return the outcome of a period without runs, as a part of a sentence; None without any."""
    starts = observed.summary.starts
    if not starts:
        return None
    return "no run ended, and %s would have been started" % count_noun(starts, "run")


def _modes(in_force: dict[str, Any]) -> set[str]:
    entries = [in_force, *in_force["workflows"].values(), *in_force["runbooks"].values()]
    return {entry["mode"] for entry in entries}


def _introduction(summary: Summary, in_force: dict[str, Any]) -> str:
    mode = "Mode in force: %s." % modes.describe(in_force)
    if summary.first_at is None:
        return "%s Nothing was reported in the mode observe." % mode
    counts = (
        moment(summary.first_at),
        count_noun(summary.reports, "report"),
        count_noun(summary.incidents, "incident"),
        count_noun(summary.starts, "run"),
        summary.self_resolved,
        count_noun(summary.question_count, "incident"),
    )
    return "%s %s" % (mode, _INTRODUCTION % counts)


def _sorted_groups(summary: Summary) -> list[tuple[Optional[str], Optional[str], Group]]:
    items = sorted(summary.groups.items(), key=lambda item: (-item[1].starts, str(item[0])))
    return [(workflow, runbook, group) for (workflow, runbook), group in items]


def _groups(summary: Summary, clean: Clean) -> Optional[Table]:
    rows = [
        [
            *_names(workflow, runbook, clean),
            group.reports,
            len(group.incidents),
            group.starts,
            group.left_to_person,
            group.covered,
        ]
        for workflow, runbook, group in _sorted_groups(summary)
    ]
    columns = [
        "Workflow", "Runbook", "Reports", "Incidents", "Would have started", "Left to a person",
        "Covered or known",
    ]
    return Table(columns, rows, tuple(columns[2:])) if rows else None


def _runs(summary: Summary, in_force: dict[str, Any], clean: Clean) -> Optional[Table]:
    """Return the table of the runs that would have been started."""
    rows = [
        [
            *_names(workflow, runbook, clean),
            modes.mode_in(in_force, workflow, runbook),
            group.starts,
            len(group.subjects),
            group.unplanned,
            len(group.self_resolved),
            None if group.median_seconds is None else duration(group.median_seconds),
        ]
        for workflow, runbook, group in _sorted_groups(summary)
        if group.starts
    ]
    columns = [
        "Workflow", "Runbook", "Mode now", "Runs", "Subjects", "Nothing to do",
        "Resolved by themselves", "Median time",
    ]
    return Table(columns, rows, tuple(columns[3:])) if rows else None


def _names(workflow: Optional[str], runbook: Optional[str], clean: Clean) -> list[Optional[str]]:
    return [clean(workflow or "no workflow"), None if runbook is None else clean(runbook)]


def _crews(summary: Summary, clean: Clean) -> Optional[Table]:
    rows: list[list[Cell]] = [[clean(name), count] for name, count in summary.crews.most_common()]
    return Table(["Crew", "Would have been assigned"], rows, ("Would have been assigned",)) \
        if rows else None


def _questions(summary: Summary) -> Optional[Table]:
    rows: list[list[Cell]] = [
        [_REASONS.get(reason, reason), question.incidents, question.self_resolved]
        for reason, question in sorted(
            summary.questions.items(), key=lambda item: -item[1].incidents
        )
    ]
    columns = ["A person would have been asked because", "Incidents", "Resolved by themselves"]
    return Table(columns, rows, tuple(columns[1:])) if rows else None


def _no_failures(summary: Summary) -> Optional[Table]:
    rows: list[list[Cell]] = [
        [_NO_FAILURES[name], count] for name, count in summary.no_failures.most_common()
    ]
    columns = ["No failure", "Alerts, each once an hour"]
    return Table(columns, rows, (columns[1],)) if rows else None


def _next_steps(summary: Summary, in_force: dict[str, Any], clean: Clean) -> Optional[Table]:
    rows = []
    for workflow, runbook, group in _sorted_groups(summary):
        if group.starts and modes.mode_in(in_force, workflow, runbook) == OBSERVE:
            advice = _advise(workflow, runbook, group, in_force)
            rows.append([clean(runbook or workflow), advice.text, advice.reason, clean(advice.way)])
    columns = ["Runbook or workflow", "Advice", "Why", "How"]
    return Table(columns, rows) if rows else None


def _advise(
    workflow: Optional[str], runbook: Optional[str], group: Group, in_force: dict[str, Any]
) -> _Advice:
    """Return what to do about what is observed, by its numbers."""
    incidents = count_noun(group.starts, "incident")
    if group.unplanned == group.starts:
        return _Advice(
            "stays in observe",
            "%s would have had nothing to do" % (
                "the run" if group.starts == 1 else "all %d runs" % group.starts),
            "runbook.explain shows why: a node that is not in the topology, or no crew for it",
        )
    quick = group.resolved_within(QUICK_SECONDS)
    if quick * 2 > group.starts:
        return _Advice(
            "may need no run",
            "%d of %s ended by %s within %s" % (
                quick, incidents, _themselves(quick), duration(QUICK_SECONDS)),
            "a longer `for` in the alerting rule, or leave it in observe",
        )
    remaining = group.starts - len(group.self_resolved)
    reason = "%d of %s did not end by %s" % (remaining, incidents, _themselves(remaining))
    if group.unplanned:
        reason += "; %s would have had nothing to do" % count_noun(group.unplanned, "run")
    return _Advice("may go up to approve", reason, _way_up(workflow, runbook, in_force))


def _way_up(workflow: Optional[str], runbook: Optional[str], in_force: dict[str, Any]) -> str:
    if runbook is not None:
        return "st2 run synthralos.automation.set_mode mode=approve runbook=%s" % runbook
    entry = in_force["workflows"].get(workflow) or in_force
    way = "automation.modes: {%s: approve} in the configuration" % workflow
    if modes.is_override(entry["source"]):
        # An override for all holds down what the configuration says of a workflow.
        way = "st2 run synthralos.automation.set_mode mode=default, and " + way
    return way


def _themselves(count: int) -> str:
    return "itself" if count == 1 else "themselves"


def _as_data(observed: Observed) -> dict[str, Any]:
    """Return the same numbers for programs."""
    summary, in_force, is_complete = observed
    return {
        "since": None if summary.first_at is None else to_iso(summary.first_at),
        "is_complete": is_complete,
        "reports": summary.reports,
        "incidents": summary.incidents,
        "would_start": summary.starts,
        "resolved_by_themselves": summary.self_resolved,
        "would_ask": {
            reason: {
                "incidents": question.incidents,
                "resolved_by_themselves": question.self_resolved,
            }
            for reason, question in sorted(summary.questions.items())
        },
        "no_failures": dict(sorted(summary.no_failures.items())),
        "crews": dict(summary.crews.most_common()),
        "groups": [
            dict(
                {
                    "workflow": workflow,
                    "runbook": runbook,
                    "mode": modes.mode_in(in_force, workflow, runbook),
                },
                **group.as_dict(),
            )
            for workflow, runbook, group in _sorted_groups(summary)
        ],
    }
