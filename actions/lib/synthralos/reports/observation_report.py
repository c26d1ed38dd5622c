"""The part of the report on a period that says what would have been done in the mode observe."""

from collections.abc import Callable
from typing import Any, Optional

from synthralos.automation import config as automation_config
from synthralos.automation import modes
from synthralos.automation.observation_summary import Summary, summarize
from synthralos.automation.outcomes import REASONS
from synthralos.config.modes import OBSERVE
from synthralos.core.plurals import count_noun
from synthralos.reports.document import Report, Table, Text, duration, moment, share
from synthralos.runtime.environment import Environment
from synthralos.storage import observations

HEADING = "What would have been done"
# A page has 100 facts; further ones are not read.
MAX_PAGES = 100
_NO_FAILURES = {
    "not_a_failure": "not a failure: meant to fire, or of no severity",
    "test": "a test of the notification",
}
Clean = Callable[[Any], str]


def read_modes(env: Environment) -> dict[str, Any]:
    """Return the modes in force now; see modes.modes_in_force. Costs two calls to the datastore."""
    config, _ = automation_config.load(env.settings.automation)
    return modes.modes_in_force(env, config)


def add_observations(
    report: Report, env: Environment, in_force: dict[str, Any], since: float, clean: Clean
) -> None:
    """Add the section, if something was observed in the period or may be from now on.

    :param in_force: the modes in force, of `read_modes`.
    :param since: the beginning of the period, in seconds since the epoch.
    :param clean: makes a text from elsewhere harmless.
    """
    facts = list(observations.iter_since(env.store, since, MAX_PAGES))
    if not facts and OBSERVE not in _modes(in_force):
        return
    summary = summarize(facts, since)
    blocks = [Text(_introduction(summary, in_force)), _groups(summary, clean)]
    blocks += [_crews(summary, clean), _questions(summary), _no_failures(summary)]
    if len(facts) >= MAX_PAGES * 100:
        blocks.append(Text("There are more reports; only the newest ones are included."))
    report.add(HEADING, *blocks)


def _modes(in_force: dict[str, Any]) -> set[str]:
    entries = [in_force, *in_force["workflows"].values(), *in_force["runbooks"].values()]
    return {entry["mode"] for entry in entries}


def _introduction(summary: Summary, in_force: dict[str, Any]) -> str:
    mode = "Mode in force: %s." % modes.describe(in_force)
    if summary.first_at is None:
        return "%s Nothing was reported in the mode observe." % mode
    return "%s Of %s in the mode observe, since %s, %s would have been started, and a person " \
        "would have been asked about %s. Nothing was started, and nobody was asked." % (
            mode,
            count_noun(summary.reports, "report"),
            moment(summary.first_at),
            count_noun(summary.starts, "run"),
            count_noun(summary.question_count, "incident"),
        )


def _groups(summary: Summary, clean: Clean) -> Optional[Table]:
    rows = [
        [
            clean(workflow or "no workflow"),
            None if runbook is None else clean(runbook),
            group.reports,
            len(group.incidents),
            group.starts,
            len(group.subjects),
            len(group.self_resolved),
            share(len(group.self_resolved), group.starts),
            None if group.median_seconds is None else duration(group.median_seconds),
        ]
        for (workflow, runbook), group in sorted(
            summary.groups.items(), key=lambda item: (-item[1].starts, str(item[0]))
        )
    ]
    columns = [
        "Workflow", "Runbook", "Reports", "Incidents", "Would have started", "Subjects",
        "Resolved by themselves", "Share", "Median time",
    ]
    return Table(columns, rows, tuple(columns[2:])) if rows else None


def _crews(summary: Summary, clean: Clean) -> Optional[Table]:
    rows = [[clean(name), count] for name, count in summary.crews.most_common()]
    return Table(["Crew", "Would have been assigned"], rows, ("Would have been assigned",)) \
        if rows else None


def _questions(summary: Summary) -> Optional[Table]:
    rows = [
        [REASONS.get(reason, reason), question.incidents, question.self_resolved]
        for reason, question in sorted(
            summary.questions.items(), key=lambda item: -item[1].incidents
        )
    ]
    columns = ["A person would have been asked because", "Incidents", "Resolved by themselves"]
    return Table(columns, rows, tuple(columns[1:])) if rows else None


def _no_failures(summary: Summary) -> Optional[Table]:
    rows = [[_NO_FAILURES[name], count] for name, count in summary.no_failures.most_common()]
    return Table(["No failure", "Reports"], rows, ("Reports",)) if rows else None
