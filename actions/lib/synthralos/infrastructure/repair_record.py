"""The record of a run that did not see to every failed node: history, ticket, trigger, webhook."""

from synthralos.core.identifiers import is_name
from synthralos.escalation import ticketing
from synthralos.infrastructure.impact import rank
from synthralos.runtime import failure_record as recovery_record
from synthralos.runtime import workflow_run
from synthralos.storage import history

WORKFLOW = "infrastructure_repair"
# Of a run whose subject has no name, or that ended before it knew one.
SUBJECT = "infrastructure"
# Ends that are good and repaired nothing: no failure, and a person who refused.
HEALTHY, REFUSED = NOTHING_REPAIRED = ("healthy", "refused")
_IMPACT = {"low": 2.5, "medium": 5.0, "high": 7.5, "critical": 10.0}


def record(env, case, parameters, error):
    """Writes the record; returns {ticket, occurrences, notifications, record, trigger, webhook}.

    :param case: of the run, or None; parameters: of the run, as they were given.
    :param error: {cause, message, reason ...}, of the run.
    """
    case = case if case is not None and "progress" in case else None
    subject, criticality = _subject(case, parameters)
    summary = "%s of %s: %s" % (WORKFLOW, subject, error["reason"])
    failure = {"type": "error", "cause": error["cause"], "severity": criticality}
    attempts = len(case["assignments"]) if case else 0
    entry = {
        "event": "failed",
        "workflow": WORKFLOW,
        "run": env.run,
        "type": failure["type"],
        "cause": failure["cause"],
        "reason": env.redactor.redact_text(error["reason"]),
        "error": env.redactor.redact_value(error),
        "attempts": attempts,
    }
    record_id = history.append_entry(env.store, subject, env.now(), entry)
    ticket = ticketing.open_failure_ticket(
        env,
        env.settings.escalation,
        WORKFLOW,
        subject,
        failure,
        env.redactor.redact_text(" ".join(summary.split())[:500]),
        attempts=attempts,
        impact=_IMPACT[criticality],
        details=env.redactor.redact_value(
            {name: error[name] for name in ("field", "hint") if error.get(name)}
        ),
    )
    if case:
        # Without a type: what recoveries of agents have come to is not learned from it.
        workflow_run.record_summary(
            env, case, "failed", {"cause": failure["cause"]}, **counted(case)
        )
    else:
        workflow_run.record_early_end(env, WORKFLOW, failure["cause"])
    known = ticket or {}
    told = {
        "workflow": WORKFLOW,
        "execution_id": env.run,
        "subject": subject,
        "failure_type": failure["type"],
        "cause": failure["cause"],
        "attempts": attempts,
    }
    told.update((name, known.get(name)) for name in ("ticket", "occurrences", "level", "priority"))
    return {
        "ticket": known.get("ticket"),
        "occurrences": known.get("occurrences"),
        "notifications": known.get("notifications", []),
        "record": record_id,
        "trigger": env.fire(recovery_record.TRIGGER, told),
        "webhook": recovery_record.notify_platform(env, told),
    }


def counted(case):
    """What the summary of a run tells beside what all have: its outcome and its transitions."""
    transitions = {}
    for step in case["step_history"]:
        name = "%(from_state)s->%(to_state)s" % step
        transitions[name] = transitions.get(name, 0) + 1
    told = {"end": case["outcome"] or "failed", "transitions": transitions}
    if case["outcome"] in NOTHING_REPAIRED:
        told["recovery"] = None
    return told


def _subject(case, parameters):
    """(name, criticality): the most severe node that nobody has; else the first that was given."""
    if case and case["failures"]:
        known = {told["node"]: told for told in case["impact"]["nodes"]}
        worst = max(
            case["failures"],
            key=lambda name: (
                rank(known[name]["criticality"]) if name in known else 0,
                known[name]["population_affected"] if name in known else 0,
            ),
        )
        criticality = known[worst]["criticality"] if worst in known else "medium"
        return (worst if is_name(worst) else SUBJECT), criticality
    nodes = parameters.get("nodes")
    first = nodes[0] if isinstance(nodes, list) and nodes else None
    return (first if is_name(first) else SUBJECT), "medium"
