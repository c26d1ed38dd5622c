"""The workflow agent_recovery: analyse, plan the repair, run the agent until it answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from synthralos.calls import agent_targets, relations
from synthralos.calls.attempts import RunProgress
from synthralos.calls.relations import Target
from synthralos.core import causes, failures
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import Failure
from synthralos.core.identifiers import require_identifier
from synthralos.core.sealing import unseal
from synthralos.core.timestamps import to_iso
from synthralos.recovery import (
    checkpoints,
    playbooks,
    repair_actions,
    repair_plan,
    request_id,
)
from synthralos.recovery.repair_actions import RunRequest
from synthralos.recovery.repair_plan import RepairPlan
from synthralos.runtime import failure_record, run_parameters, workflow_run
from synthralos.runtime.environment import Environment
from synthralos.runtime.workflow_run import Case
from synthralos.storage import history, incidents, last_queries, pauses
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.calls.agent_platforms.protocol import Question
    from synthralos.calls.agent_run import Clock
    from synthralos.recovery.llm_planner import PlannerInfo

WORKFLOW = "agent_recovery"
DEFAULT_RUN_SECONDS = 300
MAX_RUN_SECONDS = 24 * 3600
RETRY_DELAY = 5
SIMILAR = 5
_TIME_KEYS = ("timestamp", "failed_at", "occurred_at", "failedAt", "occurredAt")


class FailureReport(TypedDict):
    """What a caller says of a failure. `failure_type`: one of causes.TYPES or ALIASES."""

    failure_type: str
    failure_details: dict[str, Any]


class ReportedFailure(FailureReport):
    """The failure of an agent, as a caller reports it, and the query that it was to answer."""

    agent_id: str
    original_query: str
    context: dict[str, Any]


class SimilarFailure(TypedDict):
    """An earlier failure of the same cause. `record`: its id in the history of the agent."""

    record: str
    event: Optional[str]
    cause: Optional[str]
    run: Optional[str]


def analyse(
    env: Environment,
    parameters: dict[str, Any],
    started: float,
    attempted: bool = True,
    execution: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
    """The result of analyze_agent_failure, with the new case in `next`.

    :param parameters: of the workflow, resolved; started: of the run, seconds since the epoch.
    :param execution: of the run, as StackStorm's API returns it, or None.
    :param attempted: whether an attempt follows; only that uses up the probe of a paused agent.
    """
    request = _request(parameters)
    failure = failure_of(request)
    if not env.settings.platforms:
        hint = "List it in the pack's config"
        raise InvalidInput("config.platforms", None, "no agent platform is configured", hint)
    if is_unsafe_to_repeat(env, request["agent_id"]):
        relations.reject_unknown_effect(
            "failure_type", failure, "run it again with failure_type=error"
        )
    pauses.refuse_if_paused(
        env, request["agent_id"], claim=attempted and not parameters.get("dry_run")
    )
    similar = _similar_failures(env, request["agent_id"], failure)
    rules = workflow_run.build_rules(
        env,
        workflow_run.max_retries_param(parameters, env.settings.max_retries),
        workflow_run.whole_number(
            dict({"retry_delay": RETRY_DELAY}, **parameters),
            "retry_delay",
            0,
            workflow_run.MAX_DELAY_SECONDS,
        ),
        parameters.get("rules"),
    )
    failure_info = failure.as_dict()
    handle = checkpoints.reported_handle(
        request["context"], env.settings.agent_endpoints(request["agent_id"])
    )
    case = workflow_run.new_case(
        env,
        WORKFLOW,
        DEFAULT_RUN_SECONDS,
        parameters,
        started,
        request,
        rules,
        failure=failure_info,
        agent=_agent_request(env, request),
        agent_request=request_id.of_run(env, request["context"], execution),
        is_rerun=request_id.is_rerun(execution),
        max_seconds=MAX_RUN_SECONDS,
        failed_at=workflow_run.failed_at(
            started, *(request["failure_details"].get(name) for name in _TIME_KEYS)
        ),
    )
    checkpoints.add_reported(case, _targets(env, case), handle, failure.cause)
    return {
        "summary": "%s failed: %s (%s, %s)"
        % (request["agent_id"], failure.cause, failure.type, failure.severity),
        "agent_id": request["agent_id"],
        "failure": failure_info,
        "similar_recent_failures": similar,
        "deadline": to_iso(case["deadline"]),
        "next": workflow_run.next_step(env, case),
    }


def standalone_case(
    env: Environment, parameters: dict[str, Any], started: float, attempted: bool = True
) -> Case:
    """The case of an action that no workflow started: from plain parameters, without retries."""
    inputs = dict({"failure_type": "unknown"}, **parameters)
    inputs["max_retries"] = 0
    carry = analyse(env, inputs, started, attempted)["next"]["carry"]
    case: Case = unseal(carry, env.store)
    return case


def plan_repair(env: Environment, case: Case) -> dict[str, Any]:
    """The result of generate_repair_plan: the plan in the clear, and the case with it inside."""
    plan_id = "repair-%s" % (case["run"] or "local")
    raw_plan = case["request"]["context"].get(
        "repairPlan", case["request"]["context"].get("repair_plan")
    )
    planner_info: Optional[PlannerInfo] = None
    if raw_plan is not None:
        plan = repair_plan.validate_plan(raw_plan, case["failure"], plan_id, "context")
        _check_replays(plan, case["request"]["context"])
    else:
        planned, planner_info = _plan_with_llm(env, case, plan_id)
        can_resume = checkpoints.can_resume(_targets(env, case))
        plan = planned or playbooks.plan(case["failure"], plan_id, can_resume)
    case["plan"] = plan
    steps = ", ".join(step["action"] for step in plan["steps"])
    result: dict[str, Any] = {
        "summary": "plan from the %s: %s" % (plan["source"], steps), "plan": plan
    }
    if planner_info is not None:
        result["planner"] = planner_info
    return dict(result, next=workflow_run.next_step(env, case))


def _check_replays(plan: RepairPlan, context: Mapping[str, Any]) -> None:
    for index, step in enumerate(plan["steps"]):
        replays = step["action"] == "replay_execution"
        if replays and repair_actions.replay_target(step["parameters"], context) is None:
            raise InvalidInput(
                "context.repairPlan.steps[%d].parameters.execution_id" % index,
                context.get("execution_id"),
                "names no execution to replay",
                "Give it there or as context.execution_id",
            )


def _plan_with_llm(
    env: Environment, case: Case, plan_id: str
) -> "tuple[Optional[RepairPlan], Optional[PlannerInfo]]":
    """(plan or None, what became of asking): the LLM plans only where the config names a model."""
    if env.settings.planner_model is None or case["dry_run"]:
        return None, None
    from synthralos.recovery import llm_planner

    return llm_planner.plan_with_llm(env, case, plan_id)


def run_round(
    env: Environment, case: Case, clock: "Optional[Clock]" = None
) -> tuple[bool, dict[str, Any]]:
    """(ok, result) of execute_recovery: one round over the agent's endpoints.

    Each attempt applies a step of the plan to the original request; see checkpoints.py.

    :param clock: an agent_run.Clock, for the waits while an agent works; default: real time.
    """
    # The other actions of the workflow call no agent.
    from synthralos.calls import agent_run
    from synthralos.recovery import agent_attempt, agent_questions

    if "plan" not in case:
        plan_repair(env, case)
    targets = _targets(env, case)
    if case["dry_run"]:
        return True, _dry_run_result(env, case, targets)
    agent_questions.count_waiting_time(env, case)

    def call_target(target: Target, seconds: float, attempt_number: int) -> dict[str, Any]:
        step = checkpoints.step_of_attempt(case, target.name, attempt_number)
        run_log.emit("step", action=step["action"])
        return agent_attempt.attempt(
            env, case, step, target, seconds, clock or agent_run.REAL_TIME
        )

    if case["progress"]["cursor"] == 0:
        query = env.redactor.remove_secrets(case["request"]["original_query"])
        last_queries.save_query(env.store, case["request"]["agent_id"], query)
        incidents.record_attempt(env.store, env.now(), case["request"]["agent_id"], case["run"])
        agent_attempt.adopt_run(env, case, targets)
    round_result, progress = workflow_run.play_round(env, case, targets, call_target)
    _label_attempts(case, progress)
    case["progress"] = progress.as_dict()
    if isinstance(round_result.pending, agent_run.QuestionIsOpen):
        return True, _asking_result(env, case, progress, round_result.pending.question)
    if round_result.pending is not None:
        is_awaiting = isinstance(round_result.pending, agent_questions.AnswerIsAwaited)
        return True, _running_result(env, case, progress, round_result.delay or 0, is_awaiting)
    if round_result.result is None:
        return workflow_run.failed_round_result(env, case, round_result, progress)
    answer = workflow_run.fit_to_result_size(
        env, case, env.redactor.remove_secrets(round_result.result), "output"
    )
    agent_attempt.mark_delivered(env, case)
    workflow_run.record_summary(env, case, "recovered", case["failure"])
    _record_recovery(env, case, answer["step"])
    pauses.resume_after_probe(env, case["request"]["agent_id"])
    return True, {
        "summary": "%s recovered at attempt %d by %s"
        % (case["request"]["agent_id"], progress.attempts, answer["step"]),
        "success": True,
        "recovery_result": answer,
        "retry_count": max(0, progress.attempts - 1),
        "attempts": progress.attempts,
        "plan": case["plan"],
        "trail": progress.trail,
    }


def _running_result(
    env: Environment, case: Case, progress: RunProgress, delay: int, is_awaiting: bool = False
) -> dict[str, Any]:
    """The result of a round whose agent works on: the next one asks for its outcome.

    It carries the case by its key only: an agent may run for a day.

    :param is_awaiting: whether a person answers another run, which asks for this agent.
    """
    from synthralos.recovery import agent_questions

    pending = progress.pending
    assert pending is not None
    seconds = int(env.now() - pending["started_at"])
    if is_awaiting:
        agent_questions.record_awaiting(env, case, delay)
    return {
        "summary": "%s has been running at %s for %d s; asked again in %d s"
        % (case["request"]["agent_id"], pending["target"], seconds, delay),
        "success": False,
        "status": "running",
        "target": pending["target"],
        "running_seconds": seconds,
        "next": workflow_run.next_step(env, case, delay, max_bytes=0),
    }


def _asking_result(
    env: Environment, case: Case, progress: RunProgress, question: "Question"
) -> dict[str, Any]:
    """The result of a round whose agent asks: a person answers before the next one."""
    from synthralos.recovery import agent_questions

    assert progress.pending is not None
    case["asked_at"] = env.now()
    text = agent_questions.question_line(env, case, question)
    return {
        "summary": "a person has to answer: %s" % text,
        "success": False,
        "status": "asking",
        "target": progress.pending["target"],
        "question": text,
        "next_task": agent_questions.task_for(question),
        "next": workflow_run.next_step(env, case, max_bytes=0),
    }


def subject(case: Optional[Case], parameters: dict[str, Any]) -> str:
    """The agent of a failed run: of its case, or of its unchecked parameters without one."""
    if case is not None:
        agent_id: str = case["request"]["agent_id"]
        return agent_id
    return failure_record.name_or_unknown(parameters.get("agent_id"))


def _request(parameters: Mapping[str, Any]) -> ReportedFailure:
    """What the caller worded, checked."""
    context = run_parameters.require_object("context", parameters.get("context"))
    details = parameters.get("failure_details")
    request: ReportedFailure = {
        "agent_id": require_identifier("agent_id", parameters.get("agent_id")),
        "failure_type": parameters.get("failure_type") or "",
        "original_query": run_parameters.require_text(
            "original_query", parameters.get("original_query")
        ),
        "failure_details": run_parameters.require_object("failure_details", details),
        "context": context,
    }
    if causes.resolve_type(request["failure_type"]) is None:
        allowed = list(causes.TYPES) + list(causes.ALIASES)
        raise InvalidInput(
            "failure_type",
            parameters.get("failure_type"),
            "is not a failure type",
            "Use one of " + ", ".join(allowed),
        )
    if context.get("expected_schema") is not None:
        from synthralos.calls import output_schema

        output_schema.require_valid_schema(context["expected_schema"])
    return request


def failure_of(report: FailureReport) -> Failure:
    """The Failure that the caller reports: the type as given, the cause from the details."""
    return failures.from_report(report["failure_details"], report["failure_type"])


def _agent_request(env: Environment, request: ReportedFailure) -> RunRequest:
    """The request as it goes to the platform when no repair action changes it."""
    agent = env.settings.agents.get(request["agent_id"])
    caller_config = run_parameters.require_object(
        "context.agentConfig", request["context"].get("agentConfig")
    )
    # The operator's word stands over the caller's.
    config = dict(caller_config, **(agent.config if agent else {}))
    agent_type = (
        (agent.agent_type if agent else None) or
        request["context"].get("agentType") or
        config.pop("type", None)
    )
    return {
        "query": request["original_query"],
        "agent_type": agent_type or "simple",
        "config": config,
        "replay_of": None,
        "resume": None,
    }


def is_unsafe_to_repeat(env: Environment, agent_id: str) -> bool:
    """Whether the configuration says of the agent that a repeat may do harm."""
    agent = env.settings.agents.get(agent_id)
    return bool(agent and agent.unsafe_to_repeat)


def _targets(env: Environment, case: Mapping[str, Any]) -> list[Target]:
    agent_id = case["request"]["agent_id"]
    endpoints = env.settings.agent_endpoints(agent_id)
    return agent_targets.targets_of(endpoints, is_unsafe_to_repeat(env, agent_id))


def _label_attempts(case: Case, progress: RunProgress) -> None:
    for entry in progress.trail:
        if "attempt" in entry:
            step = checkpoints.step_of_attempt(case, entry["target"], entry["attempt"])
            entry["step"] = step["action"]


def _similar_failures(env: Environment, agent_id: str, failure: Failure) -> list[SimilarFailure]:
    entries = history.recent_entries(env.store, agent_id, limit=SIMILAR * 4)
    alike = [entry for entry in entries if entry.get("cause") == failure.cause]
    return [
        {
            "record": entry["record"],
            "event": entry.get("event"),
            "cause": entry.get("cause"),
            "run": entry.get("run"),
        }
        for entry in alike[:SIMILAR]
    ]


def _record_recovery(env: Environment, case: Mapping[str, Any], step: str) -> None:
    entry = {
        "event": "recovered",
        "workflow": WORKFLOW,
        "run": case["run"],
        "type": case["failure"]["type"],
        "cause": case["failure"]["cause"],
        "attempts": case["progress"]["attempts"],
        "step": step,
    }
    history.append_entry(env.store, case["request"]["agent_id"], env.now(), entry)


def _dry_run_result(env: Environment, case: Case, targets: list[Target]) -> dict[str, Any]:
    return {
        "summary": "dry run: nothing was called; %d steps planned" % len(case["plan"]["steps"]),
        "success": False,
        "dry_run": True,
        "attempts": 0,
        "retry_count": 0,
        "plan": case["plan"],
        "targets": workflow_run.breaker_states(env, targets),
        "waits": workflow_run.preview_waits(case["rules"]),
        "trail": [],
    }
