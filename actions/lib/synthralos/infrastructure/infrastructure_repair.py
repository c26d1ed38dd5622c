"""The workflow infrastructure_repair: a state machine, one task a state.

    INIT -> FAILURE_DETECTION -> IMPACT_ANALYSIS -> REPAIR_PLANNING -> EXECUTION -> RESCHEDULING
    -> FINAL, with EXECUTION -> REPAIR_PLANNING for what could not be assigned, and
    RESCHEDULING -> FAILURE_DETECTION for what has failed meanwhile

Each function carries out one state and says in `do` which task is next. What is assigned stays
assigned: `failures` holds the nodes that nobody has yet.
"""

from synthralos.calls import backoff
from synthralos.calls.http import CallError
from synthralos.core.errors import InvalidInput
from synthralos.core.timestamps import parse_iso, to_iso
from synthralos.infrastructure import crew_planner, crews, detection, impact, outcome, planner_tools
from synthralos.infrastructure.config import configuration
from synthralos.infrastructure.outcome import WORKFLOW, all_failed, summarize_names
from synthralos.infrastructure.topology import Topology
from synthralos.runtime import workflow_run
from synthralos.storage.stackstorm_api import StackStormError
from synthralos.telemetry import run_log

DEFAULT_RUN_SECONDS = 600
MAX_STEPS, MAX_RETRIES = 100, 10
DEFAULTS = {"max_steps": 10, "max_retries": 3}
ASK = "core.ask"
INIT, DETECTION, IMPACT, PLANNING, EXECUTION, RESCHEDULING, FINAL = STATES = (
    "INIT", "FAILURE_DETECTION", "IMPACT_ANALYSIS", "REPAIR_PLANNING", "EXECUTION",
    "RESCHEDULING", "FINAL",
)
# The task of a state, as `do` names it.
_TASK_OF_STATE = {
    DETECTION: "detect", IMPACT: "estimate", PLANNING: "plan", EXECUTION: "execute",
    RESCHEDULING: "reschedule", FINAL: "final",
}


def begin(env, parameters, started, payload=None):
    """The result of repair.begin: the run's case, in state FAILURE_DETECTION.

    :param parameters: of the workflow, resolved; payload: of the trigger that started it.
    """
    case = new_case(env, parameters, started, payload)
    request = case["request"]
    said = "run %s: failures by %s" % (case["run"] or "local", request["source"])
    told = {"source": request["source"], "deadline": to_iso(case["deadline"])}
    return _goto(env, case, DETECTION, "initialize", {}, said, **told)


def new_case(env, parameters, started, payload=None):
    config = configuration(env)
    given = dict(DEFAULTS, **{k: v for k, v in parameters.items() if v is not None})
    request = detection.request_of(config, given, payload)
    return workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        given,
        started,
        request,
        {},
        failed_at=workflow_run.failed_at(started, *_began(request["alert"])),
        max_steps=workflow_run.whole_number(given, "max_steps", 1, MAX_STEPS),
        max_retries=workflow_run.whole_number(given, "max_retries", 1, MAX_RETRIES),
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
        unresolved_alerts=[],
        tried={},
        impact={"nodes": [], "total": {}},
        plan=None,
        retry_count=0,
        asked_at=None,
        outcome=None,
        reason=None,
    )


def _began(alert):
    """When an alert says that it began; Alertmanager's webhook has several alerts in one."""
    many = alert.get("alerts") if isinstance(alert.get("alerts"), list) else [alert]
    for one in many:
        if isinstance(one, dict):
            yield one.get("startsAt") or one.get("starts_at")


def detect(env, case):
    """The result of detect_failure_nodes in a run: as FAILURE_DETECTION, or as RESCHEDULING."""
    if case["state"] == RESCHEDULING:
        return _recheck(env, case)
    _check_state(case, DETECTION)
    config = configuration(env)
    topology = Topology.of(env, config)
    first = not case["known"]
    try:
        found, unresolved_alerts = _found(env, case, config, topology, first)
    except CallError as error:
        if first:
            return _fail_task(env, case, "the failed nodes are not known", error.failure)
        found, unresolved_alerts = case["cascade"], []
    _register_unresolved(case, unresolved_alerts)
    up_again = [name for name in case["cascade"] if name not in found]
    case["cascade"] = []
    case["failures"] = [name for name in case["failures"] if name not in up_again]
    case["resolved"] += [name for name in up_again if name not in case["resolved"]]
    _register_failures(case, found)
    if first:
        _record_baseline(env, case, config, topology)
    if not case["failures"]:
        summary = "no node has failed" + (" that has a name" if case["unresolved_alerts"] else "")
        return _goto(env, case, FINAL, "no_failures_detected", {}, summary)
    told = {"failures": list(case["failures"])}
    summary = "%d nodes have failed: %s" % (
        len(case["failures"]),
        summarize_names(case["failures"]),
    )
    return _goto(env, case, IMPACT, "failures_detected", told, summary, **told)


def _found(env, case, config, topology, first):
    """(nodes, left out): at first as the run was asked, later as Prometheus says."""
    seconds = max(1.0, env.deadline(case).seconds_left())
    if first:
        return detection.detect_failures(env, config, topology, case["request"], seconds)
    return detection.query_prometheus(env, config, topology, case["request"]["query"], seconds)


def _record_baseline(env, case, config, topology):
    """What was down before a run that was told its nodes is not that run's cascade."""
    case["watched"] = config.prometheus is not None
    if case["watched"] and case["request"]["source"] != detection.QUERY:
        seconds = max(1.0, env.deadline(case).seconds_left())
        try:
            found, _ = detection.query_prometheus(
                env, config, topology, case["request"]["query"], seconds
            )
            case["known"] += [name for name in found if name not in case["known"]]
        except CallError as error:
            run_log.emit("not_watched", cause=error.failure.cause)
            case["watched"] = False


def _register_failures(case, found):
    """The nodes among `found` that the run did not know; they are open failures from now on."""
    new = [name for name in found if name not in case["known"]]
    case["known"] += new
    case["failures"] += new
    return new


def _register_unresolved(case, unresolved_alerts):
    case["unresolved_alerts"] += [
        one for one in unresolved_alerts if one not in case["unresolved_alerts"]
    ]


def estimate(env, case):
    """The result of estimate_impact in a run: IMPACT_ANALYSIS, of all that has failed in it."""
    _check_state(case, IMPACT)
    topology = Topology.of(env, configuration(env))
    report = case["impact"] = impact.estimate(topology, all_failed(case))
    shown = [
        {name: told[name] for name in ("node", "criticality", "population_affected")}
        for told in report["nodes"]
        if told["node"] in case["failures"]
    ]
    total = report["total"]
    summary = "%s: %d people, %d nodes affected" % (
        total["criticality"], total["population_affected"], total["nodes_affected"],
    )
    return _goto(
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
        reason = made["unassigned"][0]["reason"]
    else:
        reason = None
    case["plan"] = made if made is not None else case["plan"]
    if reason is not None:
        case["outcome"], case["reason"] = outcome.MAX_RETRIES, reason
        data = {"retry_count": case["retry_count"], "reason": reason}
        summary = "no plan: " + reason
        return _goto(env, case, FINAL, outcome.MAX_RETRIES, data, summary, plan=made, **told)
    label = "%s_decision_assign_crew" % made["source"]
    decision = {
        "thoughts": made["thoughts"],
        "action": planner_tools.ASSIGN,
        "arguments": {
            "node_ids": [one["node"] for one in made["assignments"]],
            "crew_ids": [one["crew"] for one in made["assignments"]],
        },
    }
    summary = "plan from the %s: %d nodes to %s" % (
        made["source"], len(made["assignments"]),
        summarize_names(sorted({one["crew"] for one in made["assignments"]})),
    )
    to, delay = EXECUTION, _retry_delay(env, case, made)
    if case["dry_run"]:
        to, delay, case["outcome"] = FINAL, 0, outcome.PLANNED
    return _goto(
        env, case, to, label, {"decision": decision}, summary, delay=delay, plan=made, **told
    )


def make_plan(env, case, config):
    """(plan or None, what became of asking the LLM or None).

    A plan is {source, thoughts, assignments [{node, crew, asks, source}],
    unassigned [{node, why}]}. None when the LLM decided nothing and the rules may not.
    """
    facts = planner_tools.PlannerFacts(
        env,
        config,
        Topology.of(env, config),
        tuple(case["failures"]),
        _loads(env, case, config),
    )
    decided, told, thoughts = None, None, None
    if env.settings.planner_model is not None and config.crews:
        decided, told = crew_planner.plan_by_llm(
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
    more, unassigned = crew_planner.plan_by_rules(facts, case["impact"], case["tried"], left, taken)
    if decided is not None and not config.fallback:
        more, unassigned = (
            [],
            [{"node": name, "reason": "the planner left it out"} for name in left],
        )
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


def _retry_delay(env, case, made):
    """Seconds to wait before a crew is asked again for a node that it has failed at."""
    again = [
        case["tried"].get(one["node"], []).count(one["crew"]) for one in made["assignments"]
    ]
    repeat = max(again)
    if not repeat:
        return 0
    rules = env.settings.backoff
    seconds = backoff.full_delay(rules.strategy, repeat, rules.base_delay, rules.max_delay)
    left = env.deadline(case).seconds_left()
    return backoff.round_up(min(seconds, max(0.0, left / 2)))


def execute(env, case):
    """The result of assign_repair_crew in a run: EXECUTION.

    Crews that need nobody's consent come first; then a person is asked for the others, and the
    workflow comes back here.
    """
    _check_state(case, EXECUTION)
    config = configuration(env)
    waiting = [one for one in case["plan"]["assignments"] if one["node"] in case["failures"]]
    asking = [one for one in waiting if one["requires_approval"]]
    if case["asked_at"] is not None:
        return _apply_approval(env, case, config, asking)
    done = assign(env, case, config, [one for one in waiting if not one["requires_approval"]])
    if asking:
        case["asked_at"], case["done"] = env.now(), done
        case["progress"]["cursor"] += 1
        summary = "a person is asked for consent: %s" % summarize_names(
            [one["crew"] for one in asking]
        )
        return {
            "summary": summary,
            "next_task": "ask",
            "assignments": done,
            "asking": [{"node": one["node"], "crew": one["crew"]} for one in asking],
            "next": workflow_run.next_step(env, case),
        }
    return _after_execution(env, case, done)


def _apply_approval(env, case, config, asking):
    """What a person's answer comes to. The time that it took is not the run's."""
    case["deadline"] += max(0.0, env.now() - case["asked_at"])
    asked_at, case["asked_at"] = case["asked_at"], None
    done = case.pop("done", [])
    answer = _answer(env, case, asked_at)
    if answer is True:
        return _after_execution(env, case, done + assign(env, case, config, asking))
    names = [one["node"] for one in asking]
    if answer is False:
        case["failures"] = [name for name in case["failures"] if name not in names]
        case["refused_nodes"] += names
        return _after_execution(env, case, done, "approval_refused", names)
    why = "nobody answered whether the actions may run"
    case["outcome"], case["reason"] = outcome.NOT_ANSWERED, why
    data = {"nodes": names}
    return _goto(env, case, FINAL, "approval_not_given", data, why, assignments=done)


def _answer(env, case, asked_at):
    """True, False, or None when the inquiry ended without an answer."""
    if env.api is None:
        raise StackStormError("there is no StackStorm API to read the answer from")
    rows = env.api.children(case["run"], "id,status,result,action.ref,start_timestamp")
    found = [row for row in rows if (row.get("action") or {}).get("ref") == ASK]
    if not found:
        return None
    newest = max(found, key=lambda row: parse_iso(row["start_timestamp"]) or 0.0)
    response = (newest.get("result") or {}).get("response")
    approved = response.get("approved") if isinstance(response, dict) else None
    return approved if isinstance(approved, bool) else None


def assign(env, case, config, wanted):
    """The entries of what was tried; the case's own lists are brought up to date."""
    by_crew = {}
    for one in wanted:
        by_crew.setdefault(one["crew"], []).append(one["node"])
    done = []
    for name, given in by_crew.items():
        crew = config.crew(name)
        if crew is None:
            # The configuration has changed since the plan was made.
            why = {"status": crews.FAILED, "details": "there is no such crew any more"}
            done += [dict({"node": node, "crew": name}, **why) for node in given]
            continue
        seconds = max(0.0, env.deadline(case).seconds_left())
        done += crews.assign(env, config, crew, given, case["impact"], seconds)
    assigned = {one["node"] for one in done if one["status"] == crews.ASSIGNED}
    case["failures"] = [name for name in case["failures"] if name not in assigned]
    case["assignments"] += done
    for one in done:
        if one["status"] == crews.FAILED:
            case["tried"].setdefault(one["node"], []).append(one["crew"])
    return done


def _after_execution(env, case, done, refused=None, names=()):
    """The transition out of EXECUTION.

    :param done: the entries of this execution; refused: the action's label, when a person said no.
    """
    failed = [one["node"] for one in done if one["status"] == crews.FAILED]
    details = [{"node": one["node"], "status": one["status"]} for one in done]
    told = {"assignments": done}
    if failed:
        message = "Assignment failed for nodes: %s" % summarize_names(failed)
        entry = {"role": "execution_result", "message": message, "details": details}
        crew_planner.remember(case, entry)
        data = {"failed_nodes": failed, "details": details}
        return _goto(env, case, PLANNING, "assignments_failed", data, message, **told)
    if refused is not None and not done:
        summary = "a person refused the actions for %s" % summarize_names(names)
        return _goto(env, case, FINAL, refused, {"nodes": list(names)}, summary)
    config = configuration(env)
    delay = config.settle_seconds if case.get("watched") else 0
    delay = backoff.round_up(min(delay, max(0.0, env.deadline(case).seconds_left() / 2)))
    summary = "%d nodes assigned" % len(done)
    data = {"details": details}
    return _goto(
        env, case, RESCHEDULING, "assignments_succeeded", data, summary, delay=delay, **told
    )


def _recheck(env, case):
    """RESCHEDULING: whether anything new has failed since."""
    config = configuration(env)
    found, unresolved_alerts = [], []
    if case.get("watched"):
        topology = Topology.of(env, config)
        try:
            found, unresolved_alerts = _found(env, case, config, topology, first=False)
        except CallError as error:
            reason = "what was assigned could not be looked after: %s" % error.failure.cause
            case["outcome"], case["reason"] = outcome.UNCHECKED, reason
            return _goto(env, case, FINAL, "not_checked", {"cause": error.failure.cause}, reason)
        _register_unresolved(case, unresolved_alerts)
        if case["request"]["source"] == detection.QUERY:
            case["resolved"] = [name for name in all_failed(case) if name not in found]
    new = _register_failures(case, found)
    if new:
        case["cascade"] = new
        summary = "%d nodes more have failed: %s" % (len(new), summarize_names(new))
        data = {"new_failures": new}
        return _goto(env, case, DETECTION, "cascading_failures", data, summary, **data)
    if case["failures"] or case["refused_nodes"] or case["unresolved_alerts"]:
        left = case["failures"] + case["refused_nodes"]
        summary = "no new failure; without a crew: %s" % (
            summarize_names(left) or "some that have no name"
        )
        return _goto(env, case, FINAL, outcome.INCOMPLETE, {"unassigned": left}, summary)
    return _goto(env, case, FINAL, outcome.COMPLETED, {}, "no new failure")


def _check_state(case, *states):
    if case["state"] not in states:
        raise InvalidInput(
            "case", None, "is in state %s" % case["state"], "Pass on `next` as it was returned"
        )


def _step(case, before, after, action, data):
    case["step_history"].append(
        {"from_state": before, "to_state": after, "action": action, "data": data}
    )


def _goto(env, case, to, action, data, summary, delay=0, **told):
    """The result that sends the workflow to the state `to`, or to FINAL when it must stop.

    A run stops before a state, not before FINAL: then the case keeps that state, as it was reached.
    """
    _step(case, case["state"], to, action, data)
    case["state"] = to
    case["steps"] += 1
    case["progress"]["cursor"] += 1
    do = _TASK_OF_STATE[to]
    if to != FINAL:
        stopped = None
        if case["steps"] >= case["max_steps"]:
            stopped = outcome.MAX_STEPS, "max_steps, %d, is used up" % case["max_steps"]
        elif not env.deadline(case).allows_attempt():
            stopped = outcome.OUT_OF_TIME, "the time was up"
        if stopped is not None:
            (case["outcome"], case["reason"]), do, delay = stopped, _TASK_OF_STATE[FINAL], 0
            summary = "%s; stopped: %s" % (summary, stopped[1])
    result = {"summary": summary, "next_task": do, "state": case["state"], "action": action}
    return dict(result, **told, next=workflow_run.next_step(env, case, delay))


def _fail_task(env, case, what, failure):
    """(False, result) of a task after which the run cannot go on."""
    error = dict(failure.as_dict(), message="%s: %s" % (what, failure.message))
    case["gave_up"] = {"reason": error["message"], "error": error}
    return False, {
        "summary": error["message"],
        "error": error,
        "next": None,
        "carry": workflow_run.seal_case(env, case),
    }
