"""The report on a ticket: the analysis of ticket.get, to print or to forward."""

from typing import TYPE_CHECKING, Any

from synthralos.core.sanitize import sanitize_line
from synthralos.escalation import ticket_analysis as escalation
from synthralos.escalation import ticket_evidence
from synthralos.reports.document import (
    BAD,
    GOOD,
    IDLE,
    PLAIN,
    WAIT,
    FactList,
    Report,
    Status,
    Steps,
    Table,
)

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment
    from synthralos.storage.tickets import Ticket

MAX_CELL_CHARS = 400
_STATUS = {"open": BAD, "in_progress": WAIT, "resolved": GOOD}
_LEVEL = {"critical_alert": BAD, "human_intervention": WAIT, "supervisor_review": PLAIN}


def build_ticket_report(env: "Environment", ticket: "Ticket") -> Report:
    """Build the report on a ticket as tickets.get returns it."""

    def clean(text: Any) -> str:
        return sanitize_line(text, env.redactor, MAX_CELL_CHARS)

    analysis = escalation.analyze_ticket(env, ticket)
    root, impact = analysis["root_cause"], analysis["impact"]
    report = Report(
        title="Ticket %s: %s" % (analysis["ticket"], clean(impact["subject"])),
        subtitle=clean(root["summary"]),
        outcome=Status(
            _STATUS.get(analysis["status"], PLAIN), analysis["status"].replace("_", " ")
        ),
        facts=[
            (
                "Level",
                Status(_LEVEL.get(analysis["level"], IDLE), analysis["level"].replace("_", " ")),
            ),
            ("Priority", "%s of 100" % analysis["priority"]),
            ("Occurrences", str(impact["occurrences"])),
            ("Attempts", str(impact["attempts"])),
            ("Since", clean(impact["since"])),
            ("Last", clean(impact["last"])),
        ],
        made_at=env.now(),
    )
    report.add("Cause", FactList([
        ("Cause", Status(BAD, clean(root["cause"]))),
        ("Type", clean("%s, severity %s" % (root["type"], root["severity"]))),
        ("Meaning", clean(root["meaning"])),
        ("Workflow", clean(impact["workflow"])),
        ("Impact", clean("%s (%s of 10)" % (impact["level"], impact["score"]))),
    ]))
    report.add(
        "What to do",
        Steps([(clean(recommendation), None) for recommendation in analysis["recommendations"]]),
    )
    lines = [[clean(line)] for line in ticket_evidence.lines_of(analysis["evidence"])]
    report.add("Evidence", Table(["What is known"], lines) if lines else None)
    rows = [[entry["at"], clean(entry["event"]), clean(entry["run"] or "")]
            for entry in analysis["timeline"]]
    report.add("What happened", Table(["At", "What", "Run"], rows) if rows else None)
    return report
