"""The state EXECUTION: the assignments of the plan are carried out, once it is their turn, and once
a person has approved those that require it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from synthralos.core.plurals import count_noun
from synthralos.infrastructure import (
    check_records,
    crew_assignment,
    crew_planner,
    crews,
    execution_approval,
    outcome,
    reopening,
    repair_check,
    runbook_steps,
    turns,
)
from synthralos.infrastructure.config import InfrastructureConfig, load_config
from synthralos.infrastructure.infrastructure_repair import (
    EXECUTION,
    FINAL,
    PLANNING,
    RESCHEDULING,
    Result,
    call_seconds,
    limit_delay,
    record_step,
    repeat_state,
    require_state,
    transition_to,
)
from synthralos.infrastructure.outcome import summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime.environment import Environment

WAITING = "waiting_for_run"


def execute(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of assign_repair_crew: state EXECUTION.

    Crews that need no approval are assigned first; then a person is asked to approve the others,
    and the workflow returns to this task. So it does while another run acts on one of the nodes.
    """
    require_state(case, EXECUTION)
    config = load_config(env)
    topology = Topology.load(env, config)
    pending = [
        assignment
        for assignment in case["plan"]["assignments"]
        if assignment["node"] in case["failures"]
    ]
    unapproved = [
        assignment
        for assignment in pending
        if execution_approval.requires_approval(case, assignment)
    ]
    if case["asked_at"] is not None:
        answer, nodes = execution_approval.read_answer(env, case), _nodes_of(unapproved)
        if answer == execution_approval.OVER:
            return _end_over(env, case, nodes)
        if answer != execution_approval.APPROVED:
            is_refused = answer == execution_approval.REFUSED
            return _end_unapproved(env, case, nodes, is_refused)
        case["approved"] = nodes
    changed = [
        assignment["node"]
        for assignment in pending
        if runbook_steps.has_changed(env, config, topology, case, assignment)
    ]
    if changed:
        return _plan_again(env, case, "runbooks_changed", changed, "their runbooks have changed")
    changed = [
        assignment["node"]
        for assignment in pending
        if execution_approval.has_changed(config, case, assignment)
    ]
    if changed:
        reason = "their crews have changed since a person was asked"
        return _plan_again(env, case, "crews_changed", changed, reason)
    if case["approved"]:
        ready = [assignment for assignment in pending if assignment["node"] in case["approved"]]
        unapproved = []
    else:
        ready = [assignment for assignment in pending if assignment not in unapproved]
    wait = _wait_for_turn(env, case, config, ready)
    if wait is not None:
        return wait
    if case["look_first"]:
        open_nodes = _close_recovered(env, case, config, topology, ready)
        if open_nodes:
            reason = "another alert of them is open"
            return _plan_again(env, case, "alerts_over", open_nodes, reason)
        ready = [assignment for assignment in ready if assignment["node"] in case["failures"]]
    entries = case.pop("done", []) + crew_assignment.assign(env, case, config, ready)
    case["approved"], case["asked_about"] = [], {}
    if unapproved:
        return execution_approval.ask(env, case, config, unapproved, entries)
    if not entries and not case["failures"]:
        return _leave_without_action(env, case)
    return _leave(env, case, entries)


def _nodes_of(assignments: Iterable[Mapping[str, Any]]) -> list[str]:
    return [assignment["node"] for assignment in assignments]


def _end_unapproved(
    env: Environment, case: dict[str, Any], nodes: list[str], is_refused: bool
) -> Result:
    """Return the result of the transition out of EXECUTION without the actions for `nodes`.

    :param is_refused: whether a person refused them; else nobody answered.
    """
    entries = case.pop("done", [])
    if is_refused:
        case["failures"] = [name for name in case["failures"] if name not in nodes]
        case["refused_nodes"] += nodes
        if entries:
            return _leave(env, case, entries)
        summary = "a person refused the actions for %s" % summarize_names(nodes)
        return transition_to(env, case, FINAL, "approval_refused", {"nodes": nodes}, summary)
    reason = "the approval request was not answered"
    case["outcome"], case["reason"] = outcome.NOT_ANSWERED, reason
    return transition_to(
        env, case, FINAL, "approval_not_given", {"nodes": nodes}, reason, assignments=entries
    )


def _end_over(env: Environment, case: dict[str, Any], nodes: list[str]) -> Result:
    """Return the result of the transition out of EXECUTION because the alert of `nodes` is over."""
    entries = case.pop("done", [])
    case["failures"] = [name for name in case["failures"] if name not in nodes]
    case["resolved"] += [name for name in nodes if name not in case["resolved"]]
    if entries:
        return _leave(env, case, entries)
    summary = "the alert of %s was over before a person answered" % summarize_names(nodes)
    return transition_to(env, case, FINAL, "failures_over", {"nodes": nodes}, summary)


def _plan_again(
    env: Environment, case: dict[str, Any], action: str, nodes: list[str], reason: str
) -> Result:
    """Return the result of the transition from EXECUTION back to REPAIR_PLANNING."""
    case["approved"], case["asked_about"] = [], {}
    summary = "%s: %s" % (summarize_names(nodes), reason)
    entries = case.pop("done", [])
    return transition_to(
        env, case, PLANNING, action, {"nodes": nodes}, summary, assignments=entries
    )


def _wait_for_turn(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    ready: list[dict[str, Any]],
) -> Optional[Result]:
    """Return the result that waits while another run acts on the nodes of `ready`, or None."""
    acting = list(dict.fromkeys(
        node
        for assignment in ready if turns.is_action(config, assignment)
        for node in (assignment["node"], *assignment.get("hosts", ()))
    ))
    blocker = turns.wait_for(env, case, acting)
    if blocker is None:
        return None
    case["look_first"] = _nodes_of(ready)
    delay = turns.poll_seconds(case)
    if env.deadline(case).seconds_left() <= delay:
        reason = "another run was still acting on %s" % summarize_names(acting)
        if blocker == turns.UNKNOWN_RUN:
            reason = "nobody knows whether another run acts on %s" % summarize_names(acting)
        case["outcome"], case["reason"] = outcome.OUT_OF_TIME, reason
        return transition_to(env, case, FINAL, outcome.OUT_OF_TIME, {"nodes": acting}, reason)
    if case["step_history"][-1]["action"] != WAITING:
        record_step(case, EXECUTION, EXECUTION, WAITING, {"nodes": acting, "run": blocker})
    summary = "run %s acts on %s: waiting for its end" % (blocker, summarize_names(acting))
    return repeat_state(env, case, WAITING, summary, delay)


def _close_recovered(
    env: Environment,
    case: dict[str, Any],
    config: InfrastructureConfig,
    topology: Topology,
    ready: list[dict[str, Any]],
) -> list[str]:
    """Close the nodes of `look_first` whose failure is over by now.

    :param ready: the assignments that would be carried out now.
    :returns: the nodes of these that stay open, because of further alerts.
    """
    steps = {
        assignment["node"]: runbook_steps.find_step(config, topology, case, assignment)
        for assignment in ready
        if assignment["node"] in case["look_first"]
    }
    over = repair_check.find_recovered(
        env, config, topology, case, steps, call_seconds(env, case)
    )
    open_nodes = case["look_first"] = reopening.close_recovered(config, topology, case, over)
    return open_nodes


def _leave_without_action(env: Environment, case: dict[str, Any]) -> Result:
    """Return the result of the transition out of EXECUTION if every failure is over.

    Where one has been over for a moment only, its check is repeated.
    """
    pending = check_records.nodes_with(case, check_records.PENDING)
    turns.leave(env, case)
    return transition_to(
        env,
        case,
        RESCHEDULING if pending else FINAL,
        "failures_over",
        {"nodes": pending or case["resolved"]},
        "every failure was over before its turn",
        delay=limit_delay(env, case, _check_delay(env, case)) if pending else 0,
    )


def _leave(env: Environment, case: dict[str, Any], entries: list[dict[str, Any]]) -> Result:
    """Return the result of the transition out of EXECUTION after assignments.

    :param entries: of this execution, as crew_assignment.assign returns them.
    """
    failed = [entry["node"] for entry in entries if entry["status"] == crews.FAILED]
    details = [{"node": entry["node"], "status": entry["status"]} for entry in entries]
    if failed:
        message = "Assignment failed for nodes: %s" % summarize_names(failed)
        crew_planner.remember(
            case, {"role": "execution_result", "message": message, "details": details}
        )
        data = {"failed_nodes": failed, "details": details}
        return transition_to(
            env, case, PLANNING, "assignments_failed", data, message, assignments=entries
        )
    summary = "%s assigned" % count_noun(len(entries), "node")
    return transition_to(
        env,
        case,
        RESCHEDULING,
        "assignments_succeeded",
        {"details": details},
        summary,
        delay=limit_delay(env, case, _check_delay(env, case)),
        assignments=entries,
    )


def _check_delay(env: Environment, case: Mapping[str, Any]) -> float:
    """Return the seconds until the repairs are checked, and whether more nodes have failed."""
    due_at = check_records.next_check_at(case)
    if due_at is not None:
        return max(0.0, due_at - env.now())
    settle_seconds: float = load_config(env).settle_seconds
    return settle_seconds if case.get("watched") else 0
