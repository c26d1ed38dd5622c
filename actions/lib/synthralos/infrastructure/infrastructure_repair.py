"""The workflow infrastructure_repair: a state machine, one task a state.

    INIT -> FAILURE_DETECTION -> IMPACT_ANALYSIS -> REPAIR_PLANNING -> EXECUTION -> RESCHEDULING
    -> FINAL, with EXECUTION -> REPAIR_PLANNING for what could not be assigned, and
    RESCHEDULING -> FAILURE_DETECTION for what has failed meanwhile

Each function carries out one state and says in `do` which task is next. What is assigned stays
assigned: `failures` holds the nodes that nobody has yet.
"""

from synthralos.calls import backoff
from synthralos.calls.http import CallFailed
from synthralos.infrastructure import crews, detection, impact, nodes, planning, record, tools
from synthralos.infrastructure.config import configuration
from synthralos.infrastructure.record import WORKFLOW
from synthralos.infrastructure.topology import Topology
from synthralos.names import is_name
from synthralos.recovery import record as recovery_record
from synthralos.recovery import run
from synthralos.refusals import Refused
from synthralos.state.stackstorm import ApiError
from synthralos.telemetry import log
from synthralos.times import seconds_of, timestamp

RUN_SECONDS = 600
MOST_STEPS, MOST_RETRIES = 100, 10
DEFAULTS = {"max_steps": 10, "max_retries": 3}
ASK = "core.ask"
INIT, DETECTION, IMPACT, PLANNING, EXECUTION, RESCHEDULING, FINAL = STATES = (
    "INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
    "RESCHEDULING", "FINAL",
)
# The task of a state, as `do` names it.
_DO = {
    DETECTION: "detect", IMPACT: "estimate", PLANNING: "plan", EXECUTION: "execute",
    RESCHEDULING: "reschedule", FINAL: "final",
}
HEALTHY, COMPLETED, UNCHECKED = "healthy", "repairs_completed", "repairs_assigned"
PLANNED, REFUSED, NOT_ANSWERED = "planned", "refused", "not_answered"
INCOMPLETE, MAX_RETRIES, FAILED = "repairs_incomplete", "max_retries_reached", "failed"
MAX_STEPS, OUT_OF_TIME = "max_steps_reached", "out_of_time"
_GOOD = (HEALTHY, COMPLETED, UNCHECKED)


def begin(env, parameters, started, payload=None):
    """The result of repair.begin: the run's case, in state FAILURE_DETECTION.

    :param parameters: of the workflow, resolved; payload: of the trigger that started it.
    """
    case = new_case(env, parameters, started, payload)
    request = case["request"]
    said = "run %s: failures by %s" % (case["run"] or "local", request["source"])
    told = {"source": request["source"], "deadline": timestamp(case["deadline"])}
    return _go(env, case, DETECTION, "initialize", {}, said, **told)


def new_case(env, parameters, started, payload=None):
    config = configuration(env)
    given = dict(DEFAULTS, **{k: v for k, v in parameters.items() if v is not None})
    return run.new_case(
        env,
        WORKFLOW,
        RUN_SECONDS,
        given,
        started,
        detection.request_of(config, given, payload),
        {},
        max_steps=run.whole_number(given, "max_steps", 1, MOST_STEPS),
        max_retries=run.whole_number(given, "max_retries", 1, MOST_RETRIES),
        state=INIT,
        steps=0,
        step_history=[],
        plan_history=[],
        failures=[],
        known=[],
        cascade=[],
        assignments=[],
        resolved=[],
        refused_nodes=[],
        left_out=[],
        tried={},
        impact={"nodes": [], "total": {}},
        plan=None,
        retry_count=0,
        asked_at=None,
        outcome=None,
        reason=None,
    )


def detect(env, case):
    """The result of detect_failure_nodes in a run: as FAILURE_DETECTION, or as RESCHEDULING."""
    if case["state"] == RESCHEDULING:
        return _reschedule(env, case)
    _check_state(case, DETECTION)
    config = configuration(env)
    topology = Topology.of(env, config)
    first = not case["known"]
    try:
        found, left_out = _found(env, case, config, topology, first)
    except CallFailed as error:
        if first:
            return _gave_up(env, case, "the failed nodes are not known", error.failure)
        found, left_out = case["cascade"], []
    _leave_out(case, left_out)
    up_again = [name for name in case["cascade"] if name not in found]
    case["cascade"] = []
    case["failures"] = [name for name in case["failures"] if name not in up_again]
    case["resolved"] += [name for name in up_again if name not in case["resolved"]]
    _add(case, found)
    if first:
        _remember_what_was_down(env, case, config, topology)
    if not case["failures"]:
        summary = "no node has failed" + (" that has a name" if case["left_out"] else "")
        return _go(env, case, FINAL, "no_failures_detected", {}, summary)
    told = {"failures": list(case["failures"])}
    summary = "%d nodes have failed: %s" % (len(case["failures"]), _some(case["failures"]))
    return _go(env, case, IMPACT, "failures_detected", told, summary, **told)


def _found(env, case, config, topology, first):
    """(nodes, left out): at first as the run was asked, later as Prometheus says."""
    seconds = max(1.0, env.deadline(case).left())
    if first:
        return detection.find(env, config, topology, case["request"], seconds)
    return detection.ask(env, config, topology, case["request"]["query"], seconds)


def _remember_what_was_down(env, case, config, topology):
    """What was down before a run that was told its nodes is not that run's cascade."""
    case["watched"] = config.prometheus is not None
    if case["watched"] and case["request"]["source"] != detection.QUERY:
        seconds = max(1.0, env.deadline(case).left())
        try:
            found, _ = detection.ask(env, config, topology, case["request"]["query"], seconds)
            case["known"] += [name for name in found if name not in case["known"]]
        except CallFailed as error:
            log.line("not_watched", cause=error.failure.cause)
            case["watched"] = False


def _add(case, found):
    """The nodes among `found` that the run did not know; they are open failures from now on."""
    new = [name for name in found if name not in case["known"]]
    case["known"] += new
    case["failures"] += new
    return new


def _leave_out(case, left_out):
    case["left_out"] += [one for one in left_out if one not in case["left_out"]]


def estimate(env, case):
    """The result of estimate_impact in a run: IMPACT_ANALYSIS, of all that has failed in it."""
    _check_state(case, IMPACT)
    topology = Topology.of(env, configuration(env))
    report = case["impact"] = impact.estimate(topology, _all_failed(case))
    shown = [
        {name: told[name] for name in ("node", "criticality", "population_affected")}
        for told in report["nodes"]
        if told["node"] in case["failures"]
    ]
    total = report["total"]
    summary = "%s: %d people, %d nodes affected" % (
        total["criticality"], total["population_affected"], total["nodes_affected"],
    )
    return _go(
        env, case, PLANNING, "impact_analyzed", {"impact_report": shown}, summary, impact=report
    )


def plan(env, case):
    """The result of plan_repairs in a run: REPAIR_PLANNING."""
    _check_state(case, PLANNING)
    made, planner = make_plan(env, case, configuration(env))
    told = {} if planner is None else {"planner": planner}
    if made is None:
        reason = planner["reason"]
    elif not made["assignments"]:
        reason = made["unassigned"][0]["why"]
    else:
        reason = None
    case["plan"] = made if made is not None else case["plan"]
    if reason is not None:
        case["outcome"], case["reason"] = MAX_RETRIES, reason
        data = {"retry_count": case["retry_count"], "reason": reason}
        return _go(env, case, FINAL, MAX_RETRIES, data, "no plan: " + reason, plan=made, **told)
    label = "%s_decision_assign_crew" % made["source"]
    decision = {
        "thoughts": made["thoughts"],
        "action": tools.ASSIGN,
        "arguments": {
            "node_ids": [one["node"] for one in made["assignments"]],
            "crew_ids": [one["crew"] for one in made["assignments"]],
        },
    }
    summary = "plan from the %s: %d nodes to %s" % (
        made["source"], len(made["assignments"]),
        _some(sorted({one["crew"] for one in made["assignments"]})),
    )
    to, delay = EXECUTION, _pause_before(env, case, made)
    if case["dry_run"]:
        to, delay, case["outcome"] = FINAL, 0, PLANNED
    return _go(
        env, case, to, label, {"decision": decision}, summary, delay=delay, plan=made, **told
    )


def make_plan(env, case, config):
    """(plan or None, what became of asking the LLM or None).

    A plan is {source, thoughts, assignments [{node, crew, asks, source}],
    unassigned [{node, why}]}. None when the LLM decided nothing and the rules may not.
    """
    facts = tools.Facts(
        env,
        config,
        Topology.of(env, config),
        tuple(case["failures"]),
        _loads(env, case, config),
    )
    decided, told, thoughts = None, None, None
    if env.settings.planner_model is not None and config.crews:
        decided, told = planning.by_llm(
            env, facts, case, lambda *used: _tool_used(case, *used)
        )
        case["retry_count"] = told["retry_count"]
        thoughts = told.pop("thoughts", None)
        if decided is None and not config.fallback:
            return None, told
    by_llm = decided or []
    left = [name for name in case["failures"] if name not in {one["node"] for one in by_llm}]
    taken = {}
    for one in by_llm:
        taken[one["crew"]] = taken.get(one["crew"], 0) + 1
    more, unassigned = planning.by_rules(facts, case["impact"], case["tried"], left, taken)
    if decided is not None and not config.fallback:
        more, unassigned = [], [{"node": name, "why": "the planner left it out"} for name in left]
    made = {
        "source": "llm" if decided is not None else "rules",
        "thoughts": thoughts,
        "assignments": by_llm + more,
        "unassigned": unassigned,
    }
    return made, told


def _loads(env, case, config):
    """What each crew has, this run's own nodes included where nothing else remembers them."""
    known = crews.loads(env, config)
    for crew in config.crews:
        own = sum(
            one["crew"] == crew.name and one["status"] == crews.ASSIGNED
            for one in case["assignments"]
        )
        known[crew.name] = max(known[crew.name], own)
    return known


def _tool_used(case, thoughts, tool, arguments, result):
    data = {"tool": tool, "arguments": arguments, "result": result}
    _step(case, PLANNING, PLANNING, "llm_decision_use_tool", data)


def _pause_before(env, case, made):
    """Seconds to wait before a crew is asked again for a node that it has failed at."""
    again = [
        case["tried"].get(one["node"], []).count(one["crew"]) for one in made["assignments"]
    ]
    repeat = max(again)
    if not repeat:
        return 0
    rules = env.settings.backoff
    seconds = backoff.whole(rules.strategy, repeat, rules.base_delay, rules.max_delay)
    left = env.deadline(case).left()
    return backoff.whole_seconds(min(seconds, max(0.0, left / 2)))


def execute(env, case):
    """The result of assign_repair_crew in a run: EXECUTION.

    Crews that need nobody's consent come first; then a person is asked for the others, and the
    workflow comes back here.
    """
    _check_state(case, EXECUTION)
    config = configuration(env)
    waiting = [one for one in case["plan"]["assignments"] if one["node"] in case["failures"]]
    asking = [one for one in waiting if one["asks"]]
    if case["asked_at"] is not None:
        return _answered(env, case, config, asking)
    done = _assign(env, case, config, [one for one in waiting if not one["asks"]])
    if asking:
        case["asked_at"], case["done"] = env.now(), done
        case["progress"]["cursor"] += 1
        summary = "a person is asked for consent: %s" % _some([one["crew"] for one in asking])
        return {
            "summary": summary,
            "do": "ask",
            "assignments": done,
            "asking": [{"node": one["node"], "crew": one["crew"]} for one in asking],
            "next": run.following(env, case),
        }
    return _executed(env, case, done)


def _answered(env, case, config, asking):
    """What a person's answer comes to. The time that it took is not the run's."""
    case["deadline"] += max(0.0, env.now() - case["asked_at"])
    asked_at, case["asked_at"] = case["asked_at"], None
    done = case.pop("done", [])
    answer = _answer(env, case, asked_at)
    if answer is True:
        return _executed(env, case, done + _assign(env, case, config, asking))
    names = [one["node"] for one in asking]
    if answer is False:
        case["failures"] = [name for name in case["failures"] if name not in names]
        case["refused_nodes"] += names
        return _executed(env, case, done, "approval_refused", names)
    case["outcome"], case["reason"] = NOT_ANSWERED, "nobody answered whether the actions may run"
    data = {"nodes": names}
    return _go(env, case, FINAL, "approval_not_given", data, case["reason"], assignments=done)


def _answer(env, case, asked_at):
    """True, False, or None when the inquiry ended without an answer."""
    if env.api is None:
        raise ApiError("there is no StackStorm API to read the answer from")
    rows = env.api.children(case["run"], "id,status,result,action.ref,start_timestamp")
    found = [row for row in rows if (row.get("action") or {}).get("ref") == ASK]
    if not found:
        return None
    newest = max(found, key=lambda row: seconds_of(row["start_timestamp"]) or 0.0)
    response = (newest.get("result") or {}).get("response")
    approved = response.get("approved") if isinstance(response, dict) else None
    return approved if isinstance(approved, bool) else None


def _assign(env, case, config, wanted):
    """The entries of what was tried; the case's own lists are brought up to date."""
    by_crew = {}
    for one in wanted:
        by_crew.setdefault(one["crew"], []).append(one["node"])
    done = []
    for name, given in by_crew.items():
        crew = config.crew(name)
        if crew is None:
            # The configuration has changed since the plan was made.
            why = {"status": crews.FAILED, "told": "there is no such crew any more"}
            done += [dict({"node": node, "crew": name}, **why) for node in given]
            continue
        seconds = max(0.0, env.deadline(case).left())
        done += crews.assign(env, config, crew, given, case["impact"], seconds)
    assigned = {one["node"] for one in done if one["status"] == crews.ASSIGNED}
    case["failures"] = [name for name in case["failures"] if name not in assigned]
    case["assignments"] += done
    for one in done:
        if one["status"] == crews.FAILED:
            case["tried"].setdefault(one["node"], []).append(one["crew"])
    return done


def _executed(env, case, done, refused=None, names=()):
    """The transition out of EXECUTION.

    :param done: the entries of this execution; refused: the action's label, when a person said no.
    """
    failed = [one["node"] for one in done if one["status"] == crews.FAILED]
    details = [{"node": one["node"], "status": one["status"]} for one in done]
    told = {"assignments": done}
    if failed:
        message = "Assignment failed for nodes: %s" % _some(failed)
        entry = {"role": "execution_result", "message": message, "details": details}
        planning.remember(case, entry)
        data = {"failed_nodes": failed, "details": details}
        return _go(env, case, PLANNING, "assignments_failed", data, message, **told)
    if refused is not None and not done:
        summary = "a person refused the actions for %s" % _some(names)
        return _go(env, case, FINAL, refused, {"nodes": list(names)}, summary)
    config = configuration(env)
    delay = config.settle_seconds if case.get("watched") else 0
    delay = backoff.whole_seconds(min(delay, max(0.0, env.deadline(case).left() / 2)))
    summary = "%d nodes assigned" % len(done)
    data = {"details": details}
    return _go(
        env, case, RESCHEDULING, "assignments_succeeded", data, summary, delay=delay, **told
    )


def _reschedule(env, case):
    """RESCHEDULING: whether anything new has failed since."""
    config = configuration(env)
    found, left_out = [], []
    if case.get("watched"):
        topology = Topology.of(env, config)
        try:
            found, left_out = _found(env, case, config, topology, first=False)
        except CallFailed as error:
            reason = "what was assigned could not be looked after: %s" % error.failure.cause
            case["outcome"], case["reason"] = UNCHECKED, reason
            return _go(env, case, FINAL, "not_checked", {"cause": error.failure.cause}, reason)
        _leave_out(case, left_out)
        if case["request"]["source"] == detection.QUERY:
            case["resolved"] = [name for name in _all_failed(case) if name not in found]
    new = _add(case, found)
    if new:
        case["cascade"] = new
        summary = "%d nodes more have failed: %s" % (len(new), _some(new))
        data = {"new_failures": new}
        return _go(env, case, DETECTION, "cascading_failures", data, summary, **data)
    if case["failures"] or case["refused_nodes"] or case["left_out"]:
        left = case["failures"] + case["refused_nodes"]
        summary = "no new failure; without a crew: %s" % (_some(left) or "some that have no name")
        return _go(env, case, FINAL, INCOMPLETE, {"unassigned": left}, summary)
    return _go(env, case, FINAL, COMPLETED, {}, "no new failure")


def finish(env, case):
    """The result of repair.finish: what came of the run; a run that failed is recorded."""
    outcome, succeeded = _outcome(case)
    case["outcome"] = outcome
    told = report(case)
    told.update(success=outcome in _GOOD, ticket=None, error=None)
    summary = "%s: %s" % (outcome, _counts(case))
    if succeeded:
        if not case["dry_run"]:
            run.summarise(env, case, "recovered", None)
        return dict({"summary": summary, "do": "done"}, **told)
    reason = case["reason"] or summary
    error = {"cause": outcome, "message": reason, "reason": reason}
    if not case["dry_run"]:
        told.update(record.record(env, case, {}, error))
    return dict(dict({"summary": summary, "do": "failed"}, **told), summary=summary, error=error)


def _outcome(case):
    """(outcome, whether the run succeeded)."""
    missing = case["failures"] or case["left_out"]
    if case["dry_run"] and case["outcome"] == PLANNED:
        return PLANNED, not case["plan"]["unassigned"] and not case["left_out"]
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
    error, reason = recovery_record.why(case, case["progress"] if whole else {})
    error = dict(error, reason=reason)
    told = dict(report(case), outcome=FAILED) if whole else {"outcome": FAILED}
    told.update(record.record(env, case, parameters, error))
    summary = "%s failed: %s" % (WORKFLOW, reason)
    return dict({"summary": summary, "success": False}, **told, error=error)


def report(case):
    """What every end of a run tells: a mapping of lists, mappings, numbers and enums."""
    return {
        "outcome": case["outcome"],
        "state": case["state"],
        "failures": _all_failed(case),
        "unassigned": case["failures"] + case["refused_nodes"],
        "left_out": case["left_out"],
        "resolved": case["resolved"],
        "impact": case["impact"],
        "assignments": case["assignments"],
        "plan": case["plan"],
        "step_history": case["step_history"],
        "retry_count": case["retry_count"],
    }


def summary_of(history):
    """The steps in words, for people: `STATE -action-> STATE ...`."""
    if not history:
        return "No execution history"
    told = history[0]["from_state"]
    for step in history:
        told += " -%s-> %s" % (step["action"], step["to_state"])
    return told


def _counts(case):
    assigned = {one["node"] for one in case["assignments"] if one["status"] == crews.ASSIGNED}
    parts = ["%d failed" % len(_all_failed(case)), "%d assigned" % len(assigned)]
    open_nodes = case["failures"] + case["refused_nodes"]
    if open_nodes:
        parts.append("without a crew: %s" % _some(open_nodes))
    if case["left_out"]:
        parts.append("not told apart: %s" % _some([one["what"] for one in case["left_out"]]))
    return "; ".join(parts)


def _all_failed(case):
    """Every node that the run has had to do with, each once, in the order they were found."""
    handled = [one["node"] for one in case["assignments"]]
    ours = set(handled) | set(case["failures"]) | set(case["refused_nodes"])
    return [name for name in case["known"] if name in ours]


def _some(names, most=5):
    told = ", ".join(names[:most])
    return told if len(names) <= most else "%s and %d more" % (told, len(names) - most)


def _check_state(case, *states):
    if case["state"] not in states:
        raise Refused(
            "case", None, "is in state %s" % case["state"], "Pass on `next` as it was returned"
        )


def _step(case, before, after, action, data):
    case["step_history"].append(
        {"from_state": before, "to_state": after, "action": action, "data": data}
    )


def _go(env, case, to, action, data, summary, delay=0, **told):
    """The result that sends the workflow to the state `to`, or to FINAL when it must stop.

    A run stops before a state, not before FINAL: then the case keeps that state, as it was reached.
    """
    _step(case, case["state"], to, action, data)
    case["state"] = to
    case["steps"] += 1
    case["progress"]["cursor"] += 1
    do = _DO[to]
    if to != FINAL:
        stopped = None
        if case["steps"] >= case["max_steps"]:
            stopped = MAX_STEPS, "max_steps, %d, is used up" % case["max_steps"]
        elif not env.deadline(case).allows_attempt():
            stopped = OUT_OF_TIME, "the time was up"
        if stopped is not None:
            (case["outcome"], case["reason"]), do, delay = stopped, _DO[FINAL], 0
            summary = "%s; stopped: %s" % (summary, stopped[1])
    result = {"summary": summary, "do": do, "state": case["state"], "action": action}
    return dict(result, **told, next=run.following(env, case, delay))


def _gave_up(env, case, what, failure):
    """(False, result) of a task after which the run cannot go on."""
    error = dict(failure.as_dict(), message="%s: %s" % (what, failure.message))
    case["gave_up"] = {"reason": error["message"], "error": error}
    return False, {
        "summary": error["message"],
        "error": error,
        "next": None,
        "carry": run.sealed(env, case),
    }


def alone_found(env, parameters):
    """(ok, result) of detect_failure_nodes outside a run: {failures, left_out, source}."""
    config = configuration(env)
    request = detection.request_of(config, parameters)
    topology = Topology.of(env, config)
    try:
        found, left_out = detection.find(env, config, topology, request, 60.0)
    except CallFailed as error:
        told = error.failure.as_dict()
        summary = "the failed nodes are not known: %s" % error.failure.message
        return False, {"summary": summary, "error": told}
    summary = "%d nodes have failed" % len(found)
    found = {"failures": found, "left_out": left_out, "source": request["source"]}
    return True, dict({"summary": summary}, **found)


def alone_case(env, parameters, names, started):
    """The case of an action that no workflow started, in which `names` have failed."""
    given = dict(parameters, source=detection.LIST, nodes=names)
    case = new_case(env, given, started)
    topology = Topology.of(env, configuration(env))
    case["failures"] = list(
        dict.fromkeys(topology.resolved(name) for name in case["request"]["nodes"])
    )
    case["known"] = list(case["failures"])
    case["impact"] = impact.estimate(topology, case["failures"])
    return case


def alone_impact(env, parameters, started):
    """The result of estimate_impact outside a run."""
    case = alone_case(env, parameters, parameters.get("nodes") or [], started)
    total = case["impact"]["total"]
    summary = "%s: %d people, %d nodes affected" % (
        total["criticality"], total["population_affected"], total["nodes_affected"],
    )
    return {"summary": summary, "impact": case["impact"]}


def alone_plan(env, parameters, started):
    """(ok, result) of plan_repairs outside a run."""
    case = alone_case(env, parameters, parameters.get("nodes") or [], started)
    made, told = make_plan(env, case, configuration(env))
    if made is None:
        error = {"cause": MAX_RETRIES, "message": told["reason"]}
        return False, {"summary": "no plan: " + told["reason"], "error": error, "planner": told}
    summary = "plan from the %s: %d nodes, %d without a crew" % (
        made["source"], len(made["assignments"]), len(made["unassigned"]),
    )
    result = {"summary": summary, "plan": made, "impact": case["impact"]}
    if told is not None:
        result["planner"] = told
    return not made["unassigned"], result


def alone_assigned(env, parameters, started):
    """(ok, result) of assign_repair_crew outside a run: node_ids to crew_ids, pair by pair."""
    config = configuration(env)
    names = nodes.listed("node_ids", parameters.get("node_ids") or [])
    crew_ids = parameters.get("crew_ids") or []
    if not isinstance(crew_ids, list) or not all(is_name(one) for one in crew_ids) or not crew_ids:
        raise Refused("crew_ids", crew_ids, "is no list of crews", "List one, or one for each node")
    case = alone_case(env, parameters, names, started)
    crew_ids = crew_ids * len(names) if len(crew_ids) == 1 else crew_ids
    if len(crew_ids) != len(names) or len(case["failures"]) != len(names):
        why = "has %d crews for %d nodes" % (len(crew_ids), len(set(names)))
        raise Refused("crew_ids", None, why, "Give one crew for each node, or one for all")
    wanted = []
    for name, crew_id in zip(case["failures"], crew_ids):
        crew = config.crew(crew_id)
        if crew is None:
            known = ", ".join(one.name for one in config.crews) or "none"
            raise Refused("crew_ids", crew_id, "is no crew", "Crews: " + known)
        if crew.asks and not parameters.get("approved"):
            way_out = "Run infrastructure_repair, which asks, or set approved=true"
            raise Refused("crew_ids", crew_id, "asks for consent first", way_out)
        wanted.append({"node": name, "crew": crew_id})
    done = _assign(env, case, config, wanted)
    failed = [one["node"] for one in done if one["status"] == crews.FAILED]
    summary = "%d nodes assigned, %d failed" % (len(done) - len(failed), len(failed))
    details = [{"node": one["node"], "status": one["status"]} for one in done]
    result = {"summary": summary, "details": details, "assignments": done}
    return not failed, result
