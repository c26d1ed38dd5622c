"""The result of a redrive: what became of each run, and the one ticket about what did not work."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.core.plurals import count_noun
from synthralos.escalation import ticketing
from synthralos.operations import redrive_selection
from synthralos.operations.redrive_selection import Candidate, SkippedRun
from synthralos.runtime.environment import Environment
from synthralos.storage import redrives, tickets
from synthralos.storage.redrives import RedrivenRun

WORKFLOW = "recovery.redrive"
# Outcomes of a redrive.
DRY_RUN, NOTHING, COMPLETED = "dry_run", "nothing_to_redrive", "completed"
ANOTHER_REDRIVE = "another_redrive"
INCOMPLETE, STOPPED = "incomplete", "stopped"
# Entries of each list in a result; the counts are complete.
MAX_ENTRIES = 200
MAX_IN_TICKET = 50
MAX_SUMMARY_CHARS = 300


@dataclass
class RedriveReport:
    """What became of the runs of a redrive.

    :ivar outcome: DRY_RUN, NOTHING, ANOTHER_REDRIVE (which is at work), COMPLETED (each run
        recovered), INCOMPLETE, or STOPPED before each was started.
    :ivar stopped: why, for people, or None.
    :ivar runs: the RedrivenRuns.
    :ivar remaining: the candidates that were not started.
    :ivar skipped: the runs that no redrive starts.
    :ivar over_limit: how many more there are than the limit.
    :ivar truncated: whether there are more failed runs than were looked at.
    :ivar command: how to go on, or None.
    :ivar resolved_tickets: what the recovered runs had opened.
    """

    outcome: str
    stopped: Optional[str] = None
    runs: list[RedrivenRun] = field(default_factory=list)
    remaining: list[Candidate] = field(default_factory=list)
    skipped: list[SkippedRun] = field(default_factory=list)
    over_limit: int = 0
    truncated: bool = False
    command: Optional[str] = None
    ticket: Optional[str] = None
    resolved_tickets: list[str] = field(default_factory=list)

    def of(self, outcome: Optional[str]) -> list[RedrivenRun]:
        """Return the redriven runs with an outcome; None for those that are at work."""
        return [run for run in self.runs if run.outcome == outcome]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs there are of each kind."""
        return {
            "started": sum(run.run is not None for run in self.runs),
            "recovered": len(self.of(redrives.RECOVERED)),
            "failed": len(self.of(redrives.FAILED)),
            "unknown": len(self.of(redrives.UNKNOWN)),
            "running": len(self.of(None)),
            "not_started": len(self.of(redrives.NOT_STARTED)),
            "remaining": len(self.remaining) + self.over_limit,
            "skipped": len(self.skipped),
        }

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left for a person, except for what no redrive starts."""
        counts = self.counts
        names = ("failed", "unknown", "running", "not_started", "remaining")
        return self.stopped is None and not any(counts[name] for name in names)

    def summary(self) -> str:
        """Return one line of ids, names and numbers."""
        counts = self.counts
        if self.outcome == NOTHING:
            text = "nothing to redrive"
        elif self.outcome == ANOTHER_REDRIVE:
            text = "another redrive is running"
        elif self.outcome == DRY_RUN:
            text = "dry run: %s would be started again" % count_noun(len(self.remaining), "run")
            if self.over_limit:
                text += ", and %d more are over the limit" % self.over_limit
        else:
            text = "%d of %s recovered" % (
                counts["recovered"], count_noun(counts["started"], "redriven run")
            )
            kinds = ("failed", "unknown", "running", "not_started", "remaining")
            parts = ["%d %s" % (counts[kind], kind.replace("_", " ")) for kind in kinds
                     if counts[kind]]
            text = ", ".join([text] + parts)
        if counts["skipped"]:
            text += "; %d skipped" % counts["skipped"]
        if self.stopped:
            text += "; stopped: %s" % self.stopped
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return the report as the result of an action: ids, names, enums and numbers."""
        return {
            "summary": self.summary(),
            "success": self.outcome in (DRY_RUN, NOTHING, ANOTHER_REDRIVE, COMPLETED),
            "outcome": self.outcome,
            "stopped": self.stopped,
            "counts": self.counts,
            "skipped_by_reason": _counted(run.reason for run in self.skipped),
            "recovered": [_ended(run) for run in self.of(redrives.RECOVERED)[:MAX_ENTRIES]],
            "failed": [_ended(run) for run in self.of(redrives.FAILED)[:MAX_ENTRIES]],
            "unknown": [_ended(run) for run in self.of(redrives.UNKNOWN)[:MAX_ENTRIES]],
            "running": [_ended(run) for run in self.of(None)[:MAX_ENTRIES]],
            "not_started": [_ended(run) for run in self.of(redrives.NOT_STARTED)[:MAX_ENTRIES]],
            "remaining": [
                {"failed_run": entry.run, "workflow": entry.workflow, "cause": entry.cause,
                 "targets": list(entry.targets)}
                for entry in self.remaining[:MAX_ENTRIES]
            ],
            "skipped": [run.as_dict() for run in self.skipped[:MAX_ENTRIES]],
            "truncated": self.truncated,
            "command": self.command,
            "ticket": self.ticket,
            "resolved_tickets": self.resolved_tickets,
        }


def open_ticket(env: Environment, report: RedriveReport, subject: str) -> None:
    """Open the ticket about what did not work, and add its id to the report.

    Redriven runs open none of their own while the redrive is at work.

    :param subject: the target that fails again, or the redrive's own name.
    """
    details: dict[str, Any] = {
        kind: [run.run or run.failed_run for run in report.of(outcome)[:MAX_IN_TICKET]]
        for kind, outcome in (
            ("failed", redrives.FAILED), ("unknown", redrives.UNKNOWN), ("running", None),
            ("not_started", redrives.NOT_STARTED),
        )
        if report.of(outcome)
    }
    if report.remaining:
        details["remaining"] = [entry.run for entry in report.remaining[:MAX_IN_TICKET]]
    if report.command:
        details["hint"] = "Once it works again: " + report.command
    secrets = [run.details for run in report.skipped if run.details]
    if secrets:
        details["unreadable"] = sorted(set(secrets))[:MAX_IN_TICKET]
    counts = report.counts
    stopped = report.stopped is not None
    ticket = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        WORKFLOW,
        subject,
        {
            "type": "error",
            "cause": "redrive_stopped" if stopped else "redrive_incomplete",
            "severity": "high" if stopped or counts["unknown"] else "medium",
        },
        env.redactor.redact_text(report.summary())[:MAX_SUMMARY_CHARS],
        level="supervisor_review",
        attempts=counts["started"],
        details=env.redactor.redact_value(details),
    )
    report.ticket = None if ticket is None else ticket["ticket"]


def resolve_tickets(env: Environment, report: RedriveReport) -> None:
    """Resolve the tickets that the answered runs had opened, and add their ids to the report.

    A ticket stays open if another run may still be its subject: one with the same workflow and
    cause that was not answered.

    :raises InvalidInput: the entry `escalation` of the configuration is not valid.
    """
    if not report.of(redrives.RECOVERED) or report.over_limit or report.truncated:
        return
    # Earlier redrives may have left the last of a ticket's runs to this one, or the first ones.
    recovered_runs = {
        run.failed_run
        for run in redrives.runs_since(env.store, 0.0)
        if run.outcome == redrives.RECOVERED
    }
    unanswered = {
        (run.workflow, run.failed_cause)
        for run in report.runs
        if run.outcome != redrives.RECOVERED
    }
    unanswered |= {(entry.workflow, entry.cause) for entry in report.remaining}
    unanswered |= {
        (run.workflow, run.cause)
        for run in report.skipped
        if run.reason != redrive_selection.ANSWERED_SINCE and run.run not in recovered_runs
    }
    config = ticketing.load_config(env, env.settings.escalation)
    for ticket in tickets.list_tickets(env.store):
        if (
            ticket["status"] != tickets.RESOLVED and
            ticket["run"] in recovered_runs and
            (ticket["workflow"], ticket["cause"]) not in unanswered
        ):
            resolution = "the failed runs were redriven, and answered"
            if ticketing.resolve(env, config, ticket["ticket"], resolution, WORKFLOW) is not None:
                report.resolved_tickets.append(ticket["ticket"])


def _ended(run: RedrivenRun) -> dict[str, Any]:
    entry = {
        "run": run.run, "failed_run": run.failed_run, "workflow": run.workflow,
        "cause": run.cause, "reason": run.reason,
    }
    return {name: value for name, value in entry.items() if value is not None}


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts
