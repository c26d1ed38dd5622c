"""What comes of a run of infrastructure_repair: outcome, report, and the record of a failure.

A run has succeeded when every node that failed is repaired, as its check has shown, or is with
people, or was assigned and cannot be checked; also when a person refused the actions for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.core.identifiers import is_name
from synthralos.escalation.ticket_evidence import Evidence
from synthralos.infrastructure import (
    check_records,
    crews,
    evidence_collection,
    repair_history,
    silences,
    turns,
)
from synthralos.infrastructure.config import load_config
from synthralos.infrastructure.impact import rank
from synthralos.infrastructure.topology import Topology
from synthralos.runtime import failure_record, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.failure_record import FailedRun, FailureRecord

WORKFLOW = "infrastructure_repair"
# Of a run whose subject has no name, or that ended before it knew one.
SUBJECT = "infrastructure"
# Ends that are good and repaired nothing: no failure, and a person who refused.
HEALTHY, REFUSED = NOTHING_REPAIRED = ("healthy", "refused")
MAX_SUMMARY_CHARS = 500
_IMPACT = {"low": 2.5, "medium": 5.0, "high": 7.5, "critical": 10.0}
REPAIRED, ASSIGNED = "repaired", "repairs_assigned"
NOT_REPAIRED, UNCHECKED = "not_repaired", "repairs_unchecked"
PLANNED, NOT_ANSWERED = "planned", "not_answered"
INCOMPLETE, MAX_RETRIES, FAILED = "repairs_incomplete", "max_retries_reached", "failed"
MAX_STEPS, OUT_OF_TIME = "max_steps_reached", "out_of_time"
_SUCCESS_OUTCOMES = (HEALTHY, REPAIRED, ASSIGNED)


def finish(env: Environment, case: dict[str, Any]) -> dict[str, Any]:
    """The result of repair.finish: what came of the run; a run that failed is recorded."""
    turns.leave(env, case)
    silences.end(env, case["run"], case)
    check_records.close_checks(case)
    outcome, succeeded = outcome_of(case)
    case["outcome"] = outcome
    if not case["dry_run"]:
        repair_history.record(env, WORKFLOW, case)
    result = run_report(case)
    result.update(success=outcome in _SUCCESS_OUTCOMES, ticket=None, error=None)
    summary = "%s: %s" % (outcome, _counts_text(case))
    if succeeded:
        if not case["dry_run"]:
            workflow_run.record_summary(env, case, "recovered", None, **summary_facts(case))
        return dict({"summary": summary, "next_task": "done"}, **result)
    reason = case["reason"] or _check_reason(case) or summary
    error = {"cause": outcome, "message": reason, "reason": reason}
    if not case["dry_run"]:
        result.update(record_failure(env, case, {}, error))
    result["error"] = error
    return dict({"summary": summary, "next_task": "failed"}, **result)


def outcome_of(case: Mapping[str, Any]) -> tuple[str, bool]:
    """(outcome, whether the run succeeded) of a run that has ended; no check is pending any more.
    """
    missing = case["failures"] or case["unresolved_alerts"]
    if case["dry_run"] and case["outcome"] == PLANNED:
        return PLANNED, not case["plan"]["unassigned"] and not case["unresolved_alerts"]
    stopped = case["outcome"] in (MAX_STEPS, OUT_OF_TIME)
    if missing and (stopped or case["outcome"] in (MAX_RETRIES, NOT_ANSWERED)):
        return case["outcome"], False
    if check_records.nodes_with(case, check_records.NOT_REPAIRED):
        return NOT_REPAIRED, False
    if missing:
        return INCOMPLETE, False
    if case["refused_nodes"]:
        return REFUSED, True
    if check_records.nodes_with(case, check_records.UNCHECKED):
        return UNCHECKED, False
    if not case["assignments"]:
        # It was stopped before it knew of anything.
        return (case["outcome"], False) if stopped else (HEALTHY, True)
    if check_records.nodes_with(case, check_records.ASSIGNED):
        return ASSIGNED, True
    return REPAIRED, True


def _check_reason(case: Mapping[str, Any]) -> Optional[str]:
    """Why the checks of a run do not show its nodes as repaired; None if they are not the reason.
    """
    open_checks = [
        check
        for check in check_records.report(case)
        if check["status"] in (check_records.NOT_REPAIRED, check_records.UNCHECKED)
    ]
    if not open_checks:
        return None
    texts = [
        ("%(node)s after %(crew)s: %(reason)s" if check["crew"] else "%(node)s: %(reason)s") % check
        for check in open_checks
    ]
    return "not shown to be repaired: %s" % summarize_names(texts)


def unassigned_nodes(case: Mapping[str, Any]) -> list[str]:
    """The nodes that no crew has: none was found, a person refused, or the repair did not help."""
    nodes = case["failures"] + case["refused_nodes"]
    nodes += check_records.nodes_with(case, check_records.NOT_REPAIRED)
    return list(dict.fromkeys(nodes))


def log_failure(
    env: Environment, case: Optional[dict[str, Any]], parameters: dict[str, Any]
) -> dict[str, Any]:
    """The result of log_infrastructure_failure, for a run that a task ended.

    :param case: what the last task left, as failure_record.failed_run takes it.
    """
    complete = failure_record.complete_case(case)
    if complete:
        turns.leave(env, complete)
        silences.end(env, complete["run"], complete)
        check_records.close_checks(complete)
        repair_history.record(env, WORKFLOW, complete)
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
) -> FailureRecord:
    """Write the record of a run that did not see to every failed node.

    :param case: of the run, or None; parameters: of the run, unchecked.
    :param error: {cause, message, reason ...}, of the run.
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
        evidence=_evidence(env, case) if case else [],
    )
    return failure_record.record_failed_run(env, run)


def _evidence(env: Environment, case: dict[str, Any]) -> list[Evidence]:
    """Return the evidence of the nodes that need a person; nothing of it keeps the record back."""
    nodes = unassigned_nodes(case) + check_records.nodes_with(case, check_records.UNCHECKED)
    try:
        config = load_config(env)
        topology = Topology.load(env, config)
        nodes = list(dict.fromkeys(nodes)) or all_failed(case)
        return evidence_collection.collect(env, config, topology, case, nodes)
    except InvalidInput:
        # The configuration has changed during the run, or is what ended it.
        return []


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
    """(name, criticality): the most severe node that needs a person, else the first parameter."""
    open_nodes = unassigned_nodes(case) if case else []
    if case and not open_nodes:
        open_nodes = check_records.nodes_with(case, check_records.UNCHECKED)
    if case and open_nodes:
        impact_by_node = {impact["node"]: impact for impact in case["impact"]["nodes"]}

        def severity_of(name: str) -> tuple[int, int]:
            impact = impact_by_node.get(name)
            if impact is None:
                return 0, 0
            return rank(impact["criticality"]), impact["population_affected"]

        worst = max(open_nodes, key=severity_of)
        criticality = (
            impact_by_node[worst]["criticality"] if worst in impact_by_node else "medium"
        )
        return (worst if is_name(worst) else SUBJECT), criticality
    nodes = parameters.get("nodes")
    first: Any = nodes[0] if isinstance(nodes, list) and nodes else None
    return (first if is_name(first) else SUBJECT), "medium"


def run_report(case: Mapping[str, Any]) -> dict[str, Any]:
    """What every end of a run tells: a mapping of lists, mappings, numbers and enums."""
    return {
        "outcome": case["outcome"],
        "state": case["state"],
        "failures": all_failed(case),
        "unassigned": unassigned_nodes(case),
        "unresolved_alerts": case["unresolved_alerts"],
        "resolved": case["resolved"],
        "checks": check_records.report(case),
        "silences": silences.report(case),
        "impact": case["impact"],
        "assignments": case["assignments"],
        "plan": case["plan"],
        "step_history": case["step_history"],
        "retry_count": case["retry_count"],
    }


def _counts_text(case: Mapping[str, Any]) -> str:
    assigned = {entry["node"] for entry in case["assignments"] if entry["status"] == crews.ASSIGNED}
    parts = ["%d failed" % len(all_failed(case)), "%d assigned" % len(assigned)]
    repaired = check_records.repaired_nodes(case)
    if repaired:
        parts.append("%d repaired" % len(repaired))
    open_nodes = unassigned_nodes(case)
    if open_nodes:
        parts.append("without a crew: %s" % summarize_names(open_nodes))
    if case["unresolved_alerts"]:
        parts.append(
            "not identified: %s" %
            summarize_names([entry["name"] for entry in case["unresolved_alerts"]])
        )
    return "; ".join(parts)


def all_failed(case: Mapping[str, Any]) -> list[str]:
    """Every node that the run has had to do with, each once, in the order they were found."""
    handled = [assignment["node"] for assignment in case["assignments"]]
    repair_nodes = set(handled) | set(case["failures"]) | set(case["refused_nodes"])
    return [name for name in case["known"] if name in repair_nodes]


def summarize_names(names: Sequence[str], maximum: int = 5) -> str:
    text = ", ".join(names[:maximum])
    return text if len(names) <= maximum else "%s and %d more" % (text, len(names) - maximum)
