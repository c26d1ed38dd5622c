"""The workflow infrastructure_repair: a state machine, one task a state.

    INIT -> FAILURE_DETECTION -> IMPACT_ANALYSIS -> REPAIR_PLANNING -> EXECUTION -> RESCHEDULING
    -> FINAL, with EXECUTION -> REPAIR_PLANNING for nodes that could not be assigned,
    RESCHEDULING -> FAILURE_DETECTION for nodes that have failed since,
    RESCHEDULING -> REPAIR_PLANNING for nodes that the action of their crew has not repaired,
    RESCHEDULING -> RESCHEDULING, after a wait, while a repair cannot be judged yet,
    EXECUTION -> EXECUTION, after a wait, while another run acts on one of the nodes (turns),
    EXECUTION -> REPAIR_PLANNING if the configuration has changed since the plan, and
    RESCHEDULING or EXECUTION -> REPAIR_PLANNING for further alerts of a node.

Each function executes one state and returns the next task in `next_task`. `failures` holds the
nodes without a crew. A node whose alert matches a runbook is repaired by its steps (runbook_steps),
others by crews, and the alerts of a node one after the other. A node that is assigned to people
stays assigned; one whose repair by an action fails its check (repair_check) is planned again, for
the next step, or for a crew that has not been assigned to it.
"""

import dataclasses

from synthralos.calls import backoff
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.plurals import count_noun
from synthralos.core.timestamps import to_iso
from synthralos.infrastructure import (
    approval_question,
    check_records,
    crew_planner,
    crews,
    detection,
    evidence_collection,
    impact,
    outcome,
    planner_tools,
    reopening,
    repair_check,
    repair_evidence,
    runbook_steps,
    silences,
    turns,
)
from synthralos.infrastructure.config import REQUIRED, load_config
from synthralos.infrastructure.outcome import WORKFLOW, all_failed, summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime import child_runs, workflow_run
from synthralos.telemetry import run_log

DEFAULT_RUN_SECONDS = 600
MAX_STEPS, MAX_RETRIES = 100, 10
DEFAULTS = {"max_steps": 10, "max_retries": 3}
# What a person who is asked for approval is shown of an assignment.
_QUESTION_FIELDS = ("node", "crew", "runbook", "step", "action", "parameters")
INIT, DETECTION, IMPACT, PLANNING, EXECUTION, RESCHEDULING, FINAL = STATES = (
    "INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
    "RESCHEDULING", "FINAL",
)
# The task of a state, as in `next_task`.
_TASK_OF_STATE = {
    DETECTION: "detect", IMPACT: "estimate", PLANNING: "plan", EXECUTION: "execute",
    RESCHEDULING: "reschedule", FINAL: "final",
}


def begin(env, parameters, started, payload=None):
    """Return the result of repair.begin: the run's case, in state FAILURE_DETECTION.

    :param parameters: of the workflow, resolved.
    :param payload: of the trigger that started the workflow, or None.
    """
    case = new_case(env, parameters, started, payload)
    request = case["request"]
    summary = "run %s: failures by %s" % (case["run"] or "local", request["source"])
    extra = {"source": request["source"], "deadline": to_iso(case["deadline"])}
    return _goto(env, case, DETECTION, "initialize", {}, summary, **extra)


def new_case(env, parameters, started, payload=None):
    """Return a new case in state INIT; see `begin` for the parameters."""
    config = load_config(env)
    inputs = dict(DEFAULTS, **{k: v for k, v in parameters.items() if v is not None})
    request = detection.parse_request(config, inputs, payload)
    return workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        inputs,
        started,
        request,
        {},
        failed_at=workflow_run.failed_at(started, *_alert_start_times(request["alert"])),
        max_steps=workflow_run.whole_number(inputs, "max_steps", 1, MAX_STEPS),
        max_retries=workflow_run.whole_number(inputs, "max_retries", 1, MAX_RETRIES),
        state=INIT,
        approval=inputs.get("approval"),
        steps=0,
        step_history=[],
        plan_history=[],
        failures=[],
        known=[],
        cascade=[],
        assignments=[],
        resolved=[],
        refused_nodes=[],
        unresolved_alerts=[],
        tried={},
        ineffective={},
        repair_retries=0,
        alerts={},
        seen_down=[],
        checks=[],
        impact={"nodes": [], "total": {}},
        plan=None,
        retry_count=0,
        asked_at=None,
        approved=[],
        turn=None,
        silences=[],
        polls=0,
        look_first=[],
        outcome=None,
        reason=None,
    )


def _alert_start_times(alert):
    """Yield the start times in an alert; a webhook of Alertmanager contains several alerts."""
    alerts = alert.get("alerts") if isinstance(alert.get("alerts"), list) else [alert]
    for item in alerts:
        if isinstance(item, dict):
            yield item.get("startsAt") or item.get("starts_at")


def detect(env, case):
    """Return the result of detect_failure_nodes: state FAILURE_DETECTION or RESCHEDULING."""
    if case["state"] == RESCHEDULING:
        return _recheck(env, case)
    _check_state(case, DETECTION)
    config = load_config(env)
    topology = Topology.load(env, config)
    is_first = not case["known"]
    try:
        nodes, unresolved_alerts = _detect_nodes(env, case, config, topology, is_first)
    except CallError as error:
        if is_first:
            return _fail_task(env, case, "the failed nodes could not be determined", error.failure)
        nodes, unresolved_alerts = case["cascade"], []
    if not is_first or case["request"]["source"] == detection.QUERY:
        _register_seen(case, nodes)
    _register_unresolved(case, unresolved_alerts)
    up_again = [name for name in case["cascade"] if name not in nodes]
    case["cascade"] = []
    case["failures"] = [name for name in case["failures"] if name not in up_again]
    case["resolved"] += [name for name in up_again if name not in case["resolved"]]
    _register_failures(case, nodes)
    if is_first:
        _record_baseline(env, case, config, topology)
        if case["failures"] and case["request"]["source"] == detection.ALERT:
            case["alerts"] = repair_evidence.find_alerts(env, config, topology, case["request"])
    if not case["failures"]:
        summary = "no node has failed" + (
            " whose name is known" if case["unresolved_alerts"] else ""
        )
        return _goto(env, case, FINAL, "no_failures_detected", {}, summary)
    extra = {"failures": list(case["failures"])}
    summary = "%s failed: %s" % (
        count_noun(len(case["failures"]), "node has", "nodes have"),
        summarize_names(case["failures"]),
    )
    return _goto(env, case, IMPACT, "failures_detected", extra, summary, **extra)


def _detect_nodes(env, case, config, topology, is_first):
    """Return (nodes, unresolved): first by the run's request, later from Prometheus."""
    seconds = max(1.0, env.deadline(case).seconds_left())
    if is_first:
        return detection.detect_failures(env, config, topology, case["request"], seconds)
    return detection.query_prometheus(env, config, topology, case["request"]["query"], seconds)


def _record_baseline(env, case, config, topology):
    """Mark nodes that were down before the run as known: they are not a cascade of its nodes."""
    case["watched"] = config.prometheus is not None
    if case["watched"] and case["request"]["source"] != detection.QUERY:
        seconds = max(1.0, env.deadline(case).seconds_left())
        try:
            nodes, _ = detection.query_prometheus(
                env, config, topology, case["request"]["query"], seconds
            )
            case["known"] += [name for name in nodes if name not in case["known"]]
            _register_seen(case, nodes)
        except CallError as error:
            run_log.emit("not_watched", cause=error.failure.cause)
            case["watched"] = False


def _register_seen(case, nodes):
    """Remember that Prometheus has shown `nodes` as failed: it can show that they are healthy."""
    case["seen_down"] += [name for name in nodes if name not in case["seen_down"]]


def _register_failures(case, nodes):
    """Add those of `nodes` that are new to the run to its open failures, and return them."""
    new = [name for name in nodes if name not in case["known"]]
    case["known"] += new
    case["failures"] += new
    return new


def _register_unresolved(case, unresolved_alerts):
    case["unresolved_alerts"] += [
        entry for entry in unresolved_alerts if entry not in case["unresolved_alerts"]
    ]


def estimate(env, case):
    """Return the result of estimate_impact: IMPACT_ANALYSIS of all nodes that have failed."""
    _check_state(case, IMPACT)
    topology = Topology.load(env, load_config(env))
    report = case["impact"] = impact.estimate(topology, all_failed(case))
    node_summaries = [
        {name: node_impact[name] for name in ("node", "criticality", "population_affected")}
        for node_impact in report["nodes"]
        if node_impact["node"] in case["failures"]
    ]
    summary = impact.describe(report["total"])
    return _goto(
        env,
        case,
        PLANNING,
        "impact_analyzed",
        {"impact_report": node_summaries},
        summary,
        impact=report,
    )


def plan(env, case):
    """Return the result of plan_repairs: state REPAIR_PLANNING."""
    _check_state(case, PLANNING)
    repair_plan, planner = make_plan(env, case, load_config(env))
    extra = {} if planner is None else {"planner": planner}
    if repair_plan is None:
        reason = planner["reason"]
    elif not repair_plan["assignments"]:
        reason = repair_plan["unassigned"][0]["reason"]
    else:
        reason = None
    case["plan"] = repair_plan if repair_plan is not None else case["plan"]
    if reason is not None:
        is_by_runbook = repair_plan is not None and "runbook" in repair_plan["unassigned"][0]
        case["outcome"] = outcome.INCOMPLETE if is_by_runbook else outcome.MAX_RETRIES
        case["reason"] = reason
        data = {"retry_count": case["retry_count"], "reason": reason}
        summary = "no plan: " + reason
        return _goto(env, case, FINAL, case["outcome"], data, summary, plan=repair_plan, **extra)
    if runbook_steps.is_further(case, repair_plan["assignments"]):
        # The runbook itself limits how many steps there are.
        case["max_steps"] += runbook_steps.TRANSITIONS
    label = "%s_decision_assign_crew" % repair_plan["source"]
    decision = {
        "thoughts": repair_plan["thoughts"],
        "action": planner_tools.ASSIGN,
        "arguments": {
            "node_ids": [assignment["node"] for assignment in repair_plan["assignments"]],
            "crew_ids": [assignment["crew"] for assignment in repair_plan["assignments"]],
        },
    }
    summary = "plan from the %s: %s to %s" % (
        repair_plan["source"],
        count_noun(len(repair_plan["assignments"]), "node"),
        summarize_names(sorted({assignment["crew"] for assignment in repair_plan["assignments"]})),
    )
    next_state, delay = EXECUTION, _retry_delay(env, case, repair_plan)
    if case["dry_run"]:
        next_state, delay, case["outcome"] = FINAL, 0, outcome.PLANNED
    return _goto(
        env,
        case,
        next_state,
        label,
        {"decision": decision},
        summary,
        delay=delay,
        plan=repair_plan,
        **extra,
    )


def make_plan(env, case, config, may_ask=True):
    """Plan by the runbooks, then by the LLM if one is configured, then by the rules.

    :param may_ask: whether the LLM may be asked.
    :returns: (plan or None, planner_info or None). A plan is {source, thoughts, assignments [{node,
        crew, requires_approval, source}], unassigned [{node, reason}]}; it is None if the LLM made
        no decision and the rules may not plan. planner_info is the statistics of asking the LLM.
    """
    topology = Topology.load(env, config)
    by_runbook, unassigned_by_runbook = runbook_steps.plan(env, config, topology, case)
    planned = {entry["node"] for entry in by_runbook + unassigned_by_runbook}
    open_nodes = [name for name in case["failures"] if name not in planned]
    facts = _facts(env, case, config, topology, open_nodes)
    decided, planner_info, thoughts = None, None, None
    if may_ask and env.settings.planner_model is not None and config.crews and open_nodes:
        evidence = evidence_collection.collect(env, config, topology, case, open_nodes)
        facts = dataclasses.replace(facts, evidence=evidence)
        decided, planner_info = crew_planner.plan_by_llm(
            env, facts, case, lambda *used: _tool_used(case, *used)
        )
        case["retry_count"] = planner_info["retry_count"]
        thoughts = planner_info.pop("thoughts", None)
        if decided is None and not config.fallback:
            return None, planner_info
    llm_assignments = decided or []
    remaining = [
        name
        for name in open_nodes
        if name not in {assignment["node"] for assignment in llm_assignments}
    ]
    assigned_counts = {}
    for assignment in llm_assignments:
        assigned_counts[assignment["crew"]] = assigned_counts.get(assignment["crew"], 0) + 1
    rule_assignments, unassigned = crew_planner.plan_by_rules(
        facts, case["impact"], case["tried"], remaining, assigned_counts
    )
    if decided is not None and not config.fallback:
        rule_assignments, unassigned = (
            [],
            [{"node": name, "reason": "the planner did not assign it"} for name in remaining],
        )
    source = "llm" if decided is not None else "rules"
    repair_plan = {
        "source": runbook_steps.SOURCE if by_runbook and not open_nodes else source,
        "thoughts": thoughts,
        "assignments": by_runbook + llm_assignments + rule_assignments,
        "unassigned": unassigned_by_runbook + unassigned,
    }
    return repair_plan, planner_info


def _facts(env, case, config, topology, open_nodes):
    """Return the PlannerFacts of the run as it is now."""
    return planner_tools.PlannerFacts(
        env,
        config,
        topology,
        tuple(open_nodes),
        _loads(env, case, config),
        case["ineffective"],
    )


def _loads(env, case, config):
    """Return {crew: number of nodes}, including this run's own even if they are not stored."""
    loads = crews.crew_loads(env, config)
    for crew in config.crews:
        own_count = sum(
            assignment["crew"] == crew.name and assignment["status"] == crews.ASSIGNED
            for assignment in case["assignments"]
        )
        loads[crew.name] = max(loads[crew.name], own_count)
    return loads


def _tool_used(case, thoughts, tool, arguments, result):
    data = {"tool": tool, "arguments": arguments, "result": result}
    _step(case, PLANNING, PLANNING, "llm_decision_use_tool", data)


def _retry_delay(env, case, repair_plan):
    """Return the seconds to wait before a crew is assigned a node again that it has failed on."""
    failure_counts = [
        case["tried"].get(assignment["node"], []).count(assignment["crew"])
        for assignment in repair_plan["assignments"]
    ]
    max_failures = max(failure_counts)
    if not max_failures:
        return 0
    rules = env.settings.backoff
    seconds = backoff.full_delay(rules.strategy, max_failures, rules.base_delay, rules.max_delay)
    seconds_left = env.deadline(case).seconds_left()
    return backoff.round_up(min(seconds, max(0.0, seconds_left / 2)))


def execute(env, case):
    """Return the result of assign_repair_crew: state EXECUTION.

    Crews that need no approval are assigned first; then a person is asked to approve the others,
    and the workflow returns to this task. So it does while another run acts on one of the nodes.
    """
    _check_state(case, EXECUTION)
    config = load_config(env)
    topology = Topology.load(env, config)
    pending = [
        assignment
        for assignment in case["plan"]["assignments"]
        if assignment["node"] in case["failures"]
    ]
    unapproved = [assignment for assignment in pending if _requires_approval(case, assignment)]
    if case["asked_at"] is not None:
        refusal = _apply_approval(env, case, unapproved)
        if refusal is not None:
            return refusal
    changed = [
        assignment["node"]
        for assignment in pending
        if runbook_steps.has_changed(env, config, topology, case, assignment)
    ]
    if changed:
        return _plan_again(env, case, "runbooks_changed", changed, "their runbooks have changed")
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
    entries = case.pop("done", []) + assign(env, case, config, ready)
    case["approved"] = []
    if unapproved:
        return _ask(env, case, config, unapproved, entries)
    if not entries and not case["failures"]:
        summary = "every failure was over before its turn"
        return _goto(env, case, FINAL, "failures_over", {"nodes": case["resolved"]}, summary)
    return _after_execution(env, case, entries)


def _requires_approval(case, assignment):
    """Return whether a person must approve the assignment: as configured, or as the run says."""
    return assignment["requires_approval"] or case.get("approval") == REQUIRED


def _plan_again(env, case, action, nodes, reason):
    """Return the result of the transition from EXECUTION back to REPAIR_PLANNING."""
    case["approved"] = []
    summary = "%s: %s" % (summarize_names(nodes), reason)
    entries = case.pop("done", [])
    return _goto(env, case, PLANNING, action, {"nodes": nodes}, summary, assignments=entries)


def _ask(env, case, config, unapproved, entries):
    """Return the result after which a person is asked to approve the assignments.

    :param entries: of what was assigned before.
    """
    # Nobody waits for a person because another run does; afterwards much may have happened.
    turns.leave(env, case)
    silences.end(env, case["run"], case)
    case["look_first"] = [assignment["node"] for assignment in unapproved]
    case["asked_at"], case["done"] = env.now(), entries
    case["progress"]["cursor"] += 1
    approval_question.record(env, config, case, unapproved)
    summary = "a person is asked for approval: %s" % summarize_names(
        [assignment["crew"] for assignment in unapproved]
    )
    return {
        "summary": summary,
        "next_task": "ask",
        "assignments": entries,
        "asking": [
            {
                name: assignment[name]
                for name in _QUESTION_FIELDS
                if assignment.get(name) is not None
            }
            for assignment in unapproved
        ],
        "next": workflow_run.next_step(env, case),
    }


def _wait_for_turn(env, case, config, ready):
    """Return the result that waits while another run acts on the nodes of `ready`, or None."""
    acting = [
        assignment["node"] for assignment in ready if turns.is_action(config, assignment)
    ]
    blocker = turns.wait_for(env, case, acting)
    if blocker is None:
        return None
    case["look_first"] = [assignment["node"] for assignment in ready]
    delay = turns.poll_seconds(case)
    if env.deadline(case).seconds_left() <= delay:
        reason = "another run was still acting on %s" % summarize_names(acting)
        case["outcome"], case["reason"] = outcome.OUT_OF_TIME, reason
        return _goto(env, case, FINAL, outcome.OUT_OF_TIME, {"nodes": acting}, reason)
    case["progress"]["cursor"] += 1
    data = {"nodes": acting, "run": blocker}
    if case["step_history"][-1]["action"] != "waiting_for_run":
        _step(case, EXECUTION, EXECUTION, "waiting_for_run", data)
    return {
        "summary": "run %s acts on %s: waiting for its end" % (blocker, summarize_names(acting)),
        "next_task": _TASK_OF_STATE[EXECUTION],
        "state": EXECUTION,
        "action": "waiting_for_run",
        "next": workflow_run.next_step(env, case, delay),
    }


def _close_recovered(env, case, config, topology, ready):
    """Close the nodes of `look_first` whose failure is over by now.

    :param ready: the assignments that would be carried out now.
    :returns: the nodes of these that stay open, because of further alerts.
    """
    steps = {
        assignment["node"]: runbook_steps.find_step(config, topology, case, assignment)
        for assignment in ready
        if assignment["node"] in case["look_first"]
    }
    seconds = max(1.0, env.deadline(case).seconds_left())
    over = repair_check.find_recovered(env, config, topology, case, steps, seconds)
    case["look_first"] = reopening.close_recovered(config, topology, case, over)
    return case["look_first"]


def _apply_approval(env, case, unapproved):
    """Apply a person's answer; the time that it took does not count against the run's deadline.

    :returns: None if it is approved; else the result of the transition out of EXECUTION.
    """
    case["deadline"] += max(0.0, env.now() - case["asked_at"])
    case["asked_at"] = None
    inquiry = child_runs.latest_child(env, case["run"], (child_runs.ASK,))
    answer = child_runs.answer_of(inquiry, "approved")
    names = [assignment["node"] for assignment in unapproved]
    if answer is True:
        case["approved"] = names
        return None
    entries = case.pop("done", [])
    if answer is False:
        case["failures"] = [name for name in case["failures"] if name not in names]
        case["refused_nodes"] += names
        return _after_execution(env, case, entries, "approval_refused", names)
    reason = "the approval request was not answered"
    case["outcome"], case["reason"] = outcome.NOT_ANSWERED, reason
    data = {"nodes": names}
    return _goto(env, case, FINAL, "approval_not_given", data, reason, assignments=entries)


def assign(env, case, config, requested):
    """Assign the requested [{node, crew}], update the case, and return the entries.

    :param requested: of runbooks too, as runbook_steps.plan returns them.
    """
    topology = Topology.load(env, config)
    steps, by_crew = {}, {}
    for assignment in requested:
        node_step = runbook_steps.find_step(config, topology, case, assignment)
        if node_step is not None:
            steps[assignment["node"], assignment["crew"]] = node_step
        if node_step is None or node_step.step.action is None:
            by_crew.setdefault(assignment["crew"], []).append(assignment["node"])
    _silence(env, case, config, requested, steps)
    sleep = silences.extending_sleep(env, case)
    actions = [node_step for node_step in steps.values() if node_step.step.action is not None]
    seconds = max(0.0, env.deadline(case).seconds_left())
    entries = runbook_steps.run_steps(env, config, topology, actions, seconds, sleep)
    for name, nodes in by_crew.items():
        crew = config.crew(name)
        if crew is None:
            # The configuration has changed since the plan.
            failure = {"status": crews.FAILED, "details": "the crew is no longer configured"}
            entries += [dict({"node": node, "crew": name}, **failure) for node in nodes]
            continue
        seconds = max(0.0, env.deadline(case).seconds_left())
        entries += crews.assign(env, config, crew, nodes, case["impact"], seconds, sleep)
    assigned = {entry["node"] for entry in entries if entry["status"] == crews.ASSIGNED}
    case["failures"] = [name for name in case["failures"] if name not in assigned]
    case["assignments"] += entries
    for entry in entries:
        if entry["status"] == crews.FAILED:
            case["tried"].setdefault(entry["node"], []).append(entry["crew"])
            continue
        node_step = steps.get((entry["node"], entry["crew"]))
        check_records.put(case, repair_check.new_check(env, config, case, entry, node_step))
    return entries


def _silence(env, case, config, requested, steps):
    """Silence the alerts that the assignments are for.

    :param steps: {(node, crew): the NodeStep of an assignment by a runbook}.
    """
    keys = []
    for assignment in requested:
        node_step = steps.get((assignment["node"], assignment["crew"]))
        keys += [
            key
            for key in case["alerts"].get(assignment["node"], ())
            if node_step is None or key["alert"] == node_step.alert
        ]
    silences.begin(env, config, case, keys)


def _after_execution(env, case, entries, refused=None, names=()):
    """Return the result of the transition out of EXECUTION.

    :param entries: the entries of this execution.
    :param refused: the label of the transition if a person refused the actions, else None.
    :param names: the nodes whose actions were refused.
    """
    failed = [entry["node"] for entry in entries if entry["status"] == crews.FAILED]
    details = [{"node": entry["node"], "status": entry["status"]} for entry in entries]
    extra = {"assignments": entries}
    if failed:
        message = "Assignment failed for nodes: %s" % summarize_names(failed)
        conversation_entry = {"role": "execution_result", "message": message, "details": details}
        crew_planner.remember(case, conversation_entry)
        data = {"failed_nodes": failed, "details": details}
        return _goto(env, case, PLANNING, "assignments_failed", data, message, **extra)
    if refused is not None and not entries:
        summary = "a person refused the actions for %s" % summarize_names(names)
        return _goto(env, case, FINAL, refused, {"nodes": list(names)}, summary)
    config = load_config(env)
    due_at, delay = check_records.next_check_at(case), 0
    if case.get("watched") or due_at is not None:
        delay = config.settle_seconds if due_at is None else max(0.0, due_at - env.now())
    delay = backoff.round_up(min(delay, max(0.0, env.deadline(case).seconds_left() / 2)))
    summary = "%s assigned" % count_noun(len(entries), "node")
    data = {"details": details}
    return _goto(
        env, case, RESCHEDULING, "assignments_succeeded", data, summary, delay=delay, **extra
    )


def _recheck(env, case):
    """Return the result of RESCHEDULING: check the repairs, and whether more nodes have failed."""
    config = load_config(env)
    topology = Topology.load(env, config)
    nodes, failure = [], None
    if case.get("watched"):
        try:
            nodes, unresolved_alerts = _detect_nodes(env, case, config, topology, is_first=False)
            _register_seen(case, nodes)
            _register_unresolved(case, unresolved_alerts)
        except CallError as error:
            failure = error.failure
    seconds = max(1.0, env.deadline(case).seconds_left())
    repair_check.run_checks(env, config, topology, case, nodes, seconds)
    still_failed, further = _reopen(env, case, config, topology)
    # What has repaired one alert of a node may have repaired its others.
    case["look_first"] = list(further)
    case["resolved"] += [
        name for name in check_records.repaired_nodes(case) if name not in case["resolved"]
    ]
    new = _register_failures(case, nodes)
    if new:
        case["cascade"] = new
        summary = "%s failed: %s" % (
            count_noun(len(new), "more node has", "more nodes have"), summarize_names(new)
        )
        data = {"new_failures": new}
        return _goto(env, case, DETECTION, "cascading_failures", data, summary, **data)
    if still_failed:
        summary = "%s still failed: %s" % (
            count_noun(len(still_failed), "node is", "nodes are"), summarize_names(still_failed)
        )
        data = {"nodes": still_failed, "checks": check_records.report(case)}
        return _goto(env, case, PLANNING, "repairs_failed", data, summary)
    if further:
        summary = "further alerts of %s" % summarize_names(further)
        return _goto(env, case, PLANNING, "further_alerts", {"nodes": further}, summary)
    check_at = check_records.next_check_at(case)
    if check_at is not None and env.deadline(case).allows_attempt_at(check_at):
        return _check_again(env, case, check_at)
    check_records.close_checks(case)
    if failure is not None:
        case["reason"] = "could not check for new failures: %s" % failure.cause
        data = {"cause": failure.cause}
        return _goto(env, case, FINAL, "not_checked", data, case["reason"])
    label, _ = outcome.outcome_of(case)
    data, summary = {}, "no new failure"
    if case["failures"] or case["refused_nodes"] or case["unresolved_alerts"]:
        data = {"unassigned": outcome.unassigned_nodes(case)}
        summary = "no new failure; without a crew: %s" % (
            summarize_names(data["unassigned"]) or "nodes whose names are unknown"
        )
        label = outcome.INCOMPLETE if label in (outcome.REFUSED, outcome.HEALTHY) else label
    return _goto(
        env, case, FINAL, label, data, summary, checks=check_records.report(case)
    )


def _reopen(env, case, config, topology):
    """Open the nodes again for which there is something else to do.

    :returns: (still_failed, further): the nodes whose repair has failed its check, as far as there
        is another step or crew for that, and those of which another alert comes next.
    """
    ineffective = reopening.note_ineffective(case)
    failed = {(check["node"], check["alert"]) for check in ineffective}
    nodes = reopening.nodes_with_further_steps(config, topology, case)
    still_failed = [name for name, alert in nodes.items() if (name, alert) in failed]
    if case["repair_retries"] < case["max_retries"]:
        facts = _facts(env, case, config, topology, case["failures"])
        by_crews = [
            check["node"]
            for check in ineffective
            if check["alert"] is None and check["node"] not in nodes and
            crew_planner.has_next_crew(facts, check["node"])
        ]
        case["repair_retries"] += bool(by_crews)
        still_failed += by_crews
    further = [name for name in nodes if name not in still_failed]
    case["failures"] += still_failed + further
    if still_failed:
        for check in ineffective:
            crew_planner.remember(
                case,
                {
                    "role": "check_result",
                    "message": "%s has not repaired %s" % (check["crew"], check["node"]),
                    "reason": check["reason"],
                },
            )
    return still_failed, further


def _check_again(env, case, check_at):
    """Return the result that checks the repairs again at `check_at`, in seconds since the epoch.

    It is no transition to another state, so it does not count towards max_steps.
    """
    nodes = check_records.nodes_with(case, check_records.PENDING)
    delay = max(1, backoff.round_up(check_at - env.now()))
    data = {"nodes": nodes, "checks": check_records.report(case)}
    _step(case, RESCHEDULING, RESCHEDULING, "repairs_pending", data)
    silences.extend(env, case, delay)
    case["progress"]["cursor"] += 1
    return {
        "summary": "not certain yet: %s" % summarize_names(nodes),
        "next_task": _TASK_OF_STATE[RESCHEDULING],
        "state": RESCHEDULING,
        "action": "repairs_pending",
        "checks": data["checks"],
        "next": workflow_run.next_step(env, case, delay),
    }


def _check_state(case, *states):
    if case["state"] not in states:
        raise InvalidInput(
            "case", None, "is in state %s" % case["state"], "Pass on `next` as it was returned"
        )


def _step(case, before, after, action, data):
    case["step_history"].append(
        {"from_state": before, "to_state": after, "action": action, "data": data}
    )


def _goto(env, case, next_state, action, data, summary, delay=0, **extra):
    """Return the result that moves the workflow to `next_state`, or to FINAL if it must stop.

    A run that stops early keeps the state that it reached in its case. FINAL is always executed.
    """
    _step(case, case["state"], next_state, action, data)
    case["state"] = next_state
    case["steps"] += 1
    case["progress"]["cursor"] += 1
    next_task = _TASK_OF_STATE[next_state]
    if next_state != FINAL:
        stopped = None
        if case["steps"] >= case["max_steps"]:
            stopped = outcome.MAX_STEPS, "max_steps (%d) was reached" % case["max_steps"]
        elif not env.deadline(case).allows_attempt():
            stopped = outcome.OUT_OF_TIME, "the time limit was reached"
        if stopped is not None:
            (case["outcome"], case["reason"]), next_task, delay = stopped, _TASK_OF_STATE[FINAL], 0
            summary = "%s; stopped: %s" % (summary, stopped[1])
    if next_task != _TASK_OF_STATE[FINAL]:
        silences.extend(env, case, delay)
    result = {"summary": summary, "next_task": next_task, "state": case["state"], "action": action}
    return dict(result, **extra, next=workflow_run.next_step(env, case, delay))


def _fail_task(env, case, subject, failure):
    """Return (False, result) of a task after which the run cannot continue."""
    error = dict(failure.as_dict(), message="%s: %s" % (subject, failure.message))
    case["gave_up"] = {"reason": error["message"], "error": error}
    return False, {
        "summary": error["message"],
        "error": error,
        "next": None,
        "carry": workflow_run.seal_case(env, case),
    }
