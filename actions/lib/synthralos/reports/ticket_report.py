"""The report of a ticket: ticket.get's, in a form to print or to send on."""

from synthralos.core.sanitize import sanitize_line
from synthralos.escalation import ticket_analysis as escalation
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

MAX_CELL_CHARS = 400
_STATUS = {"open": BAD, "in_progress": WAIT, "resolved": GOOD}
_LEVEL = {"critical_alert": BAD, "human_intervention": WAIT, "supervisor_review": PLAIN}


def build_ticket_report(env, ticket):
    """The Report of `ticket`, which tickets.get gave."""

    def said(text):
        return sanitize_line(text, env.redactor, MAX_CELL_CHARS)

    found = escalation.analyze_ticket(env, ticket)
    root, impact = found["root_cause"], found["impact"]
    report = Report(
        title="Ticket %s: %s" % (found["ticket"], said(impact["subject"])),
        subtitle=said(root["summary"]),
        outcome=Status(_STATUS.get(found["status"], PLAIN), found["status"].replace("_", " ")),
        facts=[
            ("Level", Status(_LEVEL.get(found["level"], IDLE), found["level"].replace("_", " "))),
            ("Priority", "%s of 100" % found["priority"]),
            ("Occurrences", str(impact["occurrences"])),
            ("Attempts", str(impact["attempts"])),
            ("Since", said(impact["since"])),
            ("Last", said(impact["last"])),
        ],
        made_at=env.now(),
    )
    report.add("Cause", FactList([
        ("Cause", Status(BAD, said(root["cause"]))),
        ("Type", said("%s, severity %s" % (root["type"], root["severity"]))),
        ("That means", said(root["meaning"])),
        ("Workflow", said(impact["workflow"])),
        ("Impact", said("%s (%s of 10)" % (impact["level"], impact["score"]))),
    ]))
    report.add("What to do", Steps([(said(told), None) for told in found["recommendations"]]))
    rows = [[entry["at"], said(entry["event"]), said(entry["run"] or "")]
            for entry in found["timeline"]]
    report.add("What happened", Table(["At", "What", "Run"], rows) if rows else None)
    return report
