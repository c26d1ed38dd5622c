"""What comes of a run of infrastructure_repair: outcome, report, and the record of a failure.

A run has succeeded when somebody has every node that failed, or when a person refused the actions
that would have had them.
"""

from synthralos.infrastructure import crews, repair_record
from synthralos.infrastructure.repair_record import WORKFLOW
from synthralos.runtime import failure_record as recovery_record
from synthralos.runtime import workflow_run

HEALTHY, REFUSED = repair_record.HEALTHY, repair_record.REFUSED
COMPLETED, UNCHECKED = "repairs_completed", "repairs_assigned"
PLANNED, NOT_ANSWERED = "planned", "not_answered"
INCOMPLETE, MAX_RETRIES, FAILED = "repairs_incomplete", "max_retries_reached", "failed"
MAX_STEPS, OUT_OF_TIME = "max_steps_reached", "out_of_time"
_SUCCESS_OUTCOMES = (HEALTHY, COMPLETED, UNCHECKED)


def finish(env, case):
    """The result of repair.finish: what came of the run; a run that failed is recorded."""
    outcome, succeeded = _outcome(case)
    case["outcome"] = outcome
    told = run_report(case)
    told.update(success=outcome in _SUCCESS_OUTCOMES, ticket=None, error=None)
    summary = "%s: %s" % (outcome, _counts_text(case))
    if succeeded:
        if not case["dry_run"]:
            workflow_run.record_summary(env, case, "recovered", None, **repair_record.counted(case))
        return dict({"summary": summary, "next_task": "done"}, **told)
    reason = case["reason"] or summary
    error = {"cause": outcome, "message": reason, "reason": reason}
    if not case["dry_run"]:
        told.update(repair_record.record(env, case, {}, error))
    told["error"] = error
    return dict({"summary": summary, "next_task": "failed"}, **told)


def _outcome(case):
    """(outcome, whether the run succeeded)."""
    missing = case["failures"] or case["unresolved_alerts"]
    if case["dry_run"] and case["outcome"] == PLANNED:
        return PLANNED, not case["plan"]["unassigned"] and not case["unresolved_alerts"]
    stopped = case["outcome"] in (MAX_STEPS, OUT_OF_TIME)
    if missing:
        kept = stopped or case["outcome"] in (MAX_RETRIES, NOT_ANSWERED)
        return case["outcome"] if kept else INCOMPLETE, False
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

    :param case: what the last task left, as recovery.record.record takes it.
    """
    whole = case is not None and "progress" in case
    error, reason = recovery_record.failure_reason(case, case["progress"] if whole else {})
    error = dict(error, reason=reason)
    told = dict(run_report(case), outcome=FAILED) if whole else {"outcome": FAILED}
    told.update(repair_record.record(env, case, parameters, error))
    summary = "%s failed: %s" % (WORKFLOW, reason)
    return dict({"summary": summary, "success": False}, **told, error=error)


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
    assigned = {one["node"] for one in case["assignments"] if one["status"] == crews.ASSIGNED}
    parts = ["%d failed" % len(all_failed(case)), "%d assigned" % len(assigned)]
    open_nodes = case["failures"] + case["refused_nodes"]
    if open_nodes:
        parts.append("without a crew: %s" % summarize_names(open_nodes))
    if case["unresolved_alerts"]:
        parts.append(
            "not told apart: %s" %
            summarize_names([one["name"] for one in case["unresolved_alerts"]])
        )
    return "; ".join(parts)


def all_failed(case):
    """Every node that the run has had to do with, each once, in the order they were found."""
    handled = [one["node"] for one in case["assignments"]]
    ours = set(handled) | set(case["failures"]) | set(case["refused_nodes"])
    return [name for name in case["known"] if name in ours]


def summarize_names(names, most=5):
    told = ", ".join(names[:most])
    return told if len(names) <= most else "%s and %d more" % (told, len(names) - most)
