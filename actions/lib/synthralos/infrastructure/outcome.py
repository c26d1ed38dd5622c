"""What comes of a run of infrastructure_repair: outcome, report, and the record of a failure.

A run has succeeded when somebody has every node that failed, or when a person refused the actions
that would have had them.
"""

from typing import Any, Optional

from synthralos.core.identifiers import is_name
from synthralos.infrastructure import crews
from synthralos.infrastructure.impact import rank
from synthralos.runtime import failure_record, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.failure_record import FailedRun

WORKFLOW = "infrastructure_repair"
# Of a run whose subject has no name, or that ended before it knew one.
SUBJECT = "infrastructure"
# Ends that are good and repaired nothing: no failure, and a person who refused.
HEALTHY, REFUSED = NOTHING_REPAIRED = ("healthy", "refused")
MAX_SUMMARY_CHARS = 500
_IMPACT = {"low": 2.5, "medium": 5.0, "high": 7.5, "critical": 10.0}
COMPLETED, UNCHECKED = "repairs_completed", "repairs_assigned"
PLANNED, NOT_ANSWERED = "planned", "not_answered"
INCOMPLETE, MAX_RETRIES, FAILED = "repairs_incomplete", "max_retries_reached", "failed"
MAX_STEPS, OUT_OF_TIME = "max_steps_reached", "out_of_time"
_SUCCESS_OUTCOMES = (HEALTHY, COMPLETED, UNCHECKED)


def finish(env, case):
    """The result of repair.finish: what came of the run; a run that failed is recorded."""
    outcome, succeeded = _outcome(case)
    case["outcome"] = outcome
    result = run_report(case)
    result.update(success=outcome in _SUCCESS_OUTCOMES, ticket=None, error=None)
    summary = "%s: %s" % (outcome, _counts_text(case))
    if succeeded:
        if not case["dry_run"]:
            workflow_run.record_summary(env, case, "recovered", None, **summary_facts(case))
        return dict({"summary": summary, "next_task": "done"}, **result)
    reason = case["reason"] or summary
    error = {"cause": outcome, "message": reason, "reason": reason}
    if not case["dry_run"]:
        result.update(record_failure(env, case, {}, error))
    result["error"] = error
    return dict({"summary": summary, "next_task": "failed"}, **result)


def _outcome(case):
    """(outcome, whether the run succeeded)."""
    missing = case["failures"] or case["unresolved_alerts"]
    if case["dry_run"] and case["outcome"] == PLANNED:
        return PLANNED, not case["plan"]["unassigned"] and not case["unresolved_alerts"]
    stopped = case["outcome"] in (MAX_STEPS, OUT_OF_TIME)
    if missing:
        keeps_outcome = stopped or case["outcome"] in (MAX_RETRIES, NOT_ANSWERED)
        return case["outcome"] if keeps_outcome else INCOMPLETE, False
    if case["refused_nodes"]:
        return REFUSED, True
    if not case["assignments"]:
        # It was stopped before it knew of anything.
        return (case["outcome"], False) if stopped else (HEALTHY, True)
    if stopped or case["outcome"] == UNCHECKED:
        return UNCHECKED, True
    return COMPLETED, True


def log_failure(env, case, parameters):
    """The result of log_infrastructure_failure, for a run that a task ended.

    :param case: what the last task left, as failure_record.failed_run takes it.
    """
    complete = failure_record.complete_case(case)
    error, reason = failure_record.failure_reason(case, complete["progress"] if complete else {})
    error = dict(error, reason=reason)
    result = dict(run_report(complete), outcome=FAILED) if complete else {"outcome": FAILED}
    result.update(record_failure(env, case, parameters, error))
    summary = "%s failed: %s" % (WORKFLOW, reason)
    return dict({"summary": summary, "success": False}, **result, error=error)


def record_failure(
    env: Environment,
    case: Optional[dict[str, Any]],
    parameters: dict[str, Any],
    error: dict[str, Any],
) -> dict[str, Any]:
    """Write the record of a run that did not see to every failed node.

    :param case: of the run, or None; parameters: of the run, unchecked.
    :param error: {cause, message, reason ...}, of the run.
    :returns: what failure_record.record_failed_run returns.
    """
    case = failure_record.complete_case(case)
    subject, criticality = _subject(case, parameters)
    summary = "%s of %s: %s" % (WORKFLOW, subject, error["reason"])
    run = FailedRun(
        workflow=WORKFLOW,
        subject=subject,
        error=error,
        reason=error["reason"],
        summary=" ".join(summary.split())[:MAX_SUMMARY_CHARS],
        type="error",
        severity=criticality,
        attempts=len(case["assignments"]) if case else 0,
        impact=_IMPACT[criticality],
        case=case,
        # Adaptive retries learn from recoveries of agents.
        teaches=False,
        facts=summary_facts(case) if case else {},
    )
    return failure_record.record_failed_run(env, run)


def summary_facts(case: dict[str, Any]) -> dict[str, Any]:
    """What the summary of a run says in addition to every run's: its outcome and transitions.

    :returns: {end, transitions {"FROM->TO": times}, recovery (None) where nothing was repaired}.
    """
    transitions: dict[str, int] = {}
    for step in case["step_history"]:
        name = "%(from_state)s->%(to_state)s" % step
        transitions[name] = transitions.get(name, 0) + 1
    facts = {"end": case["outcome"] or FAILED, "transitions": transitions}
    if case["outcome"] in NOTHING_REPAIRED:
        facts["recovery"] = None
    return facts


def _subject(case: Optional[dict[str, Any]], parameters: dict[str, Any]) -> tuple[str, str]:
    """(name, criticality): the most severe node without a crew, else the first of `parameters`."""
    if case and case["failures"]:
        impact_by_node = {impact["node"]: impact for impact in case["impact"]["nodes"]}

        def severity_of(name: str) -> tuple[int, int]:
            impact = impact_by_node.get(name)
            if impact is None:
                return 0, 0
            return rank(impact["criticality"]), impact["population_affected"]

        worst = max(case["failures"], key=severity_of)
        criticality = (
            impact_by_node[worst]["criticality"] if worst in impact_by_node else "medium"
        )
        return (worst if is_name(worst) else SUBJECT), criticality
    nodes = parameters.get("nodes")
    first = nodes[0] if isinstance(nodes, list) and nodes else None
    return (first if is_name(first) else SUBJECT), "medium"


def run_report(case):
    """What every end of a run tells: a mapping of lists, mappings, numbers and enums."""
    return {
        "outcome": case["outcome"],
        "state": case["state"],
        "failures": all_failed(case),
        "unassigned": case["failures"] + case["refused_nodes"],
        "unresolved_alerts": case["unresolved_alerts"],
        "resolved": case["resolved"],
        "impact": case["impact"],
        "assignments": case["assignments"],
        "plan": case["plan"],
        "step_history": case["step_history"],
        "retry_count": case["retry_count"],
    }


def _counts_text(case):
    assigned = {entry["node"] for entry in case["assignments"] if entry["status"] == crews.ASSIGNED}
    parts = ["%d failed" % len(all_failed(case)), "%d assigned" % len(assigned)]
    open_nodes = case["failures"] + case["refused_nodes"]
    if open_nodes:
        parts.append("without a crew: %s" % summarize_names(open_nodes))
    if case["unresolved_alerts"]:
        parts.append(
            "not identified: %s" %
            summarize_names([entry["name"] for entry in case["unresolved_alerts"]])
        )
    return "; ".join(parts)


def all_failed(case):
    """Every node that the run has had to do with, each once, in the order they were found."""
    handled = [assignment["node"] for assignment in case["assignments"]]
    repair_nodes = set(handled) | set(case["failures"]) | set(case["refused_nodes"])
    return [name for name in case["known"] if name in repair_nodes]


def summarize_names(names, maximum=5):
    text = ", ".join(names[:maximum])
    return text if len(names) <= maximum else "%s and %d more" % (text, len(names) - maximum)
