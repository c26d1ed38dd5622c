"""One attempt of agent_recovery: a step of the plan, applied to the request, at one endpoint.

The run at the platform is recorded before anybody waits for it, under the request that it serves,
so that it is joined and not repeated: by the next round, by a re-run, and by a second run for the
same request.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from synthralos.calls import agent_run, idempotency
from synthralos.calls.agent_platforms import capabilities_of, connect
from synthralos.calls.agent_platforms.protocol import AgentRequest, Checkpoint, Handle, Question
from synthralos.calls.agent_run import Answer, Patience, QuestionIsOpen
from synthralos.calls.attempts import StillRunning
from synthralos.calls.http import CallError
from synthralos.calls.relations import Target
from synthralos.config.platforms import AgentEndpoint
from synthralos.recovery import agent_questions, checkpoints, repair_actions
from synthralos.recovery.repair_actions import Facts, RunRequest
from synthralos.storage import agent_runs, locks
from synthralos.storage.agent_runs import AgentRun
from synthralos.storage.stackstorm_api import ExecutionNotFound
from synthralos.telemetry import run_log

if TYPE_CHECKING:
    from synthralos.recovery.repair_plan import PlanStep
    from synthralos.runtime.environment import Environment
    from synthralos.runtime.workflow_run import Case

# Until another process that is just starting the run has recorded it.
CLAIM_DELAY_SECONDS, CLAIM_DELAY_SHARE = 2.0, 0.5


def attempt(
    env: "Environment",
    case: "Case",
    step: "PlanStep",
    target: Target,
    seconds: float,
    clock: agent_run.Clock,
) -> dict[str, Any]:
    """Run the agent once, or join its run, and return the result of `agent_run.run_agent`, with the
    `step` added.

    :param step: of the plan.
    :raises StillRunning: the agent works on.
    :raises CallError: the platform or the agent failed, or its output is not accepted.
    """
    endpoint = target.endpoint
    assert isinstance(endpoint, AgentEndpoint)
    request = repair_actions.apply(
        step["action"], case["agent"], step["parameters"], _facts(env, case)
    )
    result = _RecordedRun(env, case, target, endpoint, request).run(seconds, clock)
    return dict(result, step=step["action"])


def adopt_run(env: "Environment", case: "Case", targets: list[Target]) -> None:
    """Make the first attempt of a run join what already runs for its request, if anything does.

    Costs one datastore call.
    """
    agent_run_record = find_open_run(env, case)
    if agent_run_record is None:
        return
    if agent_run_record.failed_with is not None:
        checkpoints.add_recorded(case, targets, agent_run_record)
        return
    target = next((item for item in targets if item.name == agent_run_record.target), None)
    if target is None:
        # It runs where this agent is no longer configured to run: nobody can ask for it.
        run_log.emit("agent_run_lost", target=agent_run_record.target)
        return
    progress = case["progress"]
    progress["attempts"] += 1
    mark = progress["marks"].setdefault(target.name, {"tries": 0, "ready_at": 0.0, "out": None})
    mark["tries"] += 1
    # What can only be started again begins now.
    is_found = _is_found(env, agent_run_record, target)
    worked_seconds = agent_run_record.worked_seconds(env.now()) if is_found else 0.0
    started_at = env.now() - worked_seconds
    limit = min(target.seconds, case["deadline"] - started_at)
    progress["pending"] = {
        "target": target.name,
        "number": progress["attempts"],
        "round": 1,
        "repeat": False,
        "seconds": limit,
        "started_at": started_at,
    }
    agent_runs.add_waiter(env.store, agent_run_record, case["run"], env.now())


def _is_found(env: "Environment", record: AgentRun, target: Target) -> bool:
    """Return whether the platform has named the run of a record, or lets its id be chosen. Any
    other one is looked for under the key of its start, and started once more where that is in vain.
    """
    endpoint = target.endpoint
    assert isinstance(endpoint, AgentEndpoint)
    handle = Handle.restore(record.handle)
    if handle is None or capabilities_of(endpoint.platform.api).chooses_run_id:
        return handle is not None
    request = AgentRequest(endpoint.agent, "", record.start_key)
    return handle != _handle_for(env, endpoint, request)


def _handle_for(
    env: "Environment", endpoint: AgentEndpoint, request: AgentRequest
) -> Optional[Handle]:
    """Return the handle of a run before its start has returned; see AgentPlatform.handle_for."""
    return connect(env.client, endpoint.platform).handle_for(request)


def find_open_run(env: "Environment", case: "Case") -> Optional[AgentRun]:
    """Return the run that serves the request of a case, or has served it and failed, unless its
    answer was delivered before the case's own run waited for it.
    """
    agent_id = case["request"]["agent_id"]
    record = agent_runs.find(env.store, agent_id, case["agent_request"])
    if record is None or record.delivered_by in (None, case["run"]):
        return record
    has_key = case["request"]["context"].get("idempotency_key") is not None
    if has_key and not case.get("is_rerun"):
        # The same request again has the same answer; whoever runs a run again asks for another.
        return replace(record, delivered_by=None)
    if case["run"] in agent_runs.waiters(env.store, record):
        # Both serve the same request, and one of them was first.
        return replace(record, delivered_by=None)
    api: Any = env.api
    try:
        status = None if api is None else api.execution(record.delivered_by, "status")["status"]
    except ExecutionNotFound:
        status = None
    # A run that failed after it had the answer has not returned it.
    return None if status in (None, "succeeded") else replace(record, delivered_by=None)


def mark_delivered(env: "Environment", case: "Case") -> None:
    """Record that this run returns the answer of the run that served its request."""
    record = agent_runs.find(env.store, case["request"]["agent_id"], case["agent_request"])
    if record is None:
        return
    if record.handle is None:
        # Nobody could ask for the answer once more.
        agent_runs.forget(env.store, record)
    else:
        agent_runs.mark_delivered(env.store, record, case["run"], env.now())


class _RecordedRun:
    """The run of an agent for the request of a case, and its record.

    :ivar _scope: part of the idempotency key of its start; see AgentRun.key_scope.
    """

    def __init__(
        self,
        env: "Environment",
        case: "Case",
        target: Target,
        endpoint: AgentEndpoint,
        request: RunRequest,
    ) -> None:
        self._env, self._case, self._target, self._endpoint = env, case, target, endpoint
        self._raw_request = request
        self._capabilities = capabilities_of(endpoint.platform.api)
        self._record: Optional[AgentRun] = None
        self._scope = ""
        self._find()

    def run(self, seconds: float, clock: agent_run.Clock) -> dict[str, Any]:
        """Join the recorded run at this target, or start one.

        :raises StillRunning: the agent works on, or another process is just starting it.
        :raises CallError: it failed.
        """
        env, record = self._env, self._record
        is_found = record is not None and _is_found(env, record, self._target)
        if is_found or not self._capabilities.joins:
            return self._wait(seconds, clock)
        # Two processes of one execution would both find nothing, and start it twice.
        with locks.try_lock(env.store, self._lock_name(), env.now) as is_acquired:
            if not is_acquired and env.store.unavailable_reason is None:
                raise StillRunning(self._claim_delay())
            self._find()
            return self._wait(seconds, clock)

    def _find(self) -> None:
        """Read the record of the run, and make the request that it was or will be started with.

        A start whose reply was lost, maybe with its process, is repeated under the same key as long
        as the same is asked for.
        """
        record = find_open_run(self._env, self._case)
        if record is not None and not record.is_open:
            record = None
        self._scope = _new_scope(self._case) if record is None else record.key_scope
        is_own = record is not None and record.target == self._target.name
        self._record = record if is_own else None
        self._request = _platform_request(
            self._env, self._case, self._raw_request, self._target, self._scope
        )

    def _claim_delay(self) -> float:
        """Return when to look again: a process that died with the lock keeps it for minutes."""
        pending = self._case["progress"].get("pending")
        waited = 0.0 if pending is None else self._env.now() - pending["started_at"]
        return max(CLAIM_DELAY_SECONDS, waited * CLAIM_DELAY_SHARE)

    def _wait(self, seconds: float, clock: agent_run.Clock) -> dict[str, Any]:
        env = self._env
        if self._record is not None and not _is_found(env, self._record, self._target):
            self._record = replace(
                self._record, started_at=env.now(), asked_seconds=0.0, question=None,
                unknown_since=None,
            )
        record = self._record
        handle = None if record is None else Handle.restore(record.handle)
        is_first = handle is None or self._case["progress"]["cursor"] == 0
        # Whoever has just answered waits for what comes of it, as whoever has just started it.
        is_first = self._case.pop("is_answered", False) or is_first
        unknown_since = None if record is None else record.unknown_since
        patience = Patience(
            seconds=seconds,
            elapsed=0.0 if record is None else record.worked_seconds(env.now()),
            hold_seconds=self._hold_seconds() if is_first else 0.0,
            unknown_seconds=None if unknown_since is None else max(0.0, env.now() - unknown_since),
        )
        # A single action is followed by no task that could ask a person.
        answer = agent_run.nobody_answers if self._case.get("alone") else self._find_answer
        try:
            return agent_run.run_agent(
                env.client, self._endpoint, self._request, patience, clock, handle, self._save,
                answer, self._may_start(),
            )
        except QuestionIsOpen as error:
            assert self._record is not None
            self._record = agent_questions.ask(env, self._case, self._record, error.question)
            raise
        except StillRunning:
            seconds = 0.0 if self._record is None else self._record.worked_seconds(env.now())
            run_log.emit("agent_running", target=self._target.name, seconds=seconds)
            raise
        except CallError as error:
            evidence = error.failure.evidence
            is_open = evidence.get("live") or (
                agent_run.may_exist(error.failure) and not evidence.get("ran")
            )
            if self._record is not None and not is_open:
                self._close(self._record, error.failure.cause)
            raise

    def _may_start(self) -> bool:
        """Return whether the agent may be started: not under another key than the start whose reply
        was lost, where its effect must not be repeated.
        """
        record = self._record
        is_repeated = record is None or record.start_key == self._request.idempotency_key
        return is_repeated or not self._target.unsafe_to_repeat

    def _find_answer(self, handle: Handle, question: Question) -> Answer:
        # Asked only after a handle has been saved.
        assert self._record is not None
        env = self._env
        answer = agent_questions.find_answer(env, self._case, self._record, question)
        # From now on the agent works.
        self._record = self._record.with_answer(env.now())
        agent_runs.save(env.store, self._record, env.now())
        return answer

    def _close(self, record: AgentRun, cause: str) -> None:
        """Keep what a run that failed has left to continue from, else forget it."""
        resumed = self._request.checkpoint is not None
        handle = Handle.restore(record.handle)
        checkpoints.record_failure(self._case, self._target, handle, cause, resumed)
        left = checkpoints.of_target(self._case, self._target.name)
        if left is not None and left.is_worth_resuming:
            agent_runs.mark_failed(self._env.store, record, cause, self._env.now())
        else:
            agent_runs.forget(self._env.store, record)

    def _hold_seconds(self) -> Optional[float]:
        # A single action is followed by no round that could ask.
        return None if self._case.get("alone") else float(self._endpoint.platform.hold_seconds)

    def _save(
        self, handle: Optional[Handle], progress: str, unknown_seconds: Optional[float]
    ) -> None:
        env, case, now = self._env, self._case, self._env.now()
        if not self._capabilities.joins:
            # What has ended is not joined either: only its start is of interest.
            handle = None
        if self._record is None:
            self._record = AgentRun(
                agent_id=case["request"]["agent_id"],
                request=case["agent_request"],
                started_by=case["run"] or "",
                start_key=self._request.idempotency_key,
                key_scope=self._scope,
                target=self._target.name,
                handle=None if handle is None else handle.as_dict(),
                started_at=now,
                ends_by=case["deadline"],
            )
            agent_runs.add_waiter(env.store, self._record, case["run"] or "", now)
        else:
            is_start = handle == _handle_for(env, self._endpoint, self._request)
            key = self._request.idempotency_key if is_start else self._record.start_key
            self._record = replace(
                self._record,
                start_key=key,
                handle=self._record.handle if handle is None else handle.as_dict(),
                ends_by=max(self._record.ends_by, case["deadline"]),
                progress=progress or self._record.progress,
                unknown_since=None if unknown_seconds is None else now - unknown_seconds,
            )
        agent_runs.save(env.store, self._record, now)

    def _lock_name(self) -> str:
        agent_id = self._case["request"]["agent_id"]
        return str(idempotency.key(self._case["agent_request"], "AGENT-RUN", agent_id, None))


def _new_scope(case: "Case") -> str:
    """Return the scope of a start that repeats none.

    After a reply that was lost the same request has the same key, at every platform: its run may
    be live. After a failure that is known, it is a new start.
    """
    causes = [entry.get("cause") for entry in case["progress"]["trail"] if "attempt" in entry]
    known_ends = [cause for cause in causes if cause and cause not in agent_run.LOST_REPLIES]
    return "%s/%d" % (case["run"] or "", len(known_ends))


def _platform_request(
    env: "Environment", case: "Case", request: RunRequest, target: Target, scope: str
) -> AgentRequest:
    """Return the AgentRequest for an endpoint, from the request that a repair action made.

    Whatever is sent follows from it and the scope, so that the same key has the same bytes.
    """
    endpoint = target.endpoint
    assert isinstance(endpoint, AgentEndpoint)
    agent_id = case["request"]["agent_id"]
    agent = env.settings.agents.get(agent_id)
    return AgentRequest(
        agent=endpoint.agent,
        query=request["query"],
        idempotency_key=idempotency.key(scope, "POST", agent_id, request),
        config=request["config"],
        schema=case["request"]["context"].get("expected_schema"),
        context={"agent_id": agent_id, "execution_id": scope.partition("/")[0]},
        agent_type=request["agent_type"],
        execute_path=agent.execute_path if agent else None,
        replay_of=request["replay_of"],
        checkpoint=_checkpoint(case, request, target),
    )


def _checkpoint(case: "Case", request: RunRequest, target: Target) -> Optional[Checkpoint]:
    """Return where the request is continued at a target, or None to start it there."""
    resume, left = request["resume"], checkpoints.of_target(case, target.name)
    handle = None if left is None else Handle.restore(left.handle)
    if resume is None or handle is None:
        return None
    return Checkpoint(handle, resume["checkpoint"], resume["state"], resume["as_node"])


def _facts(env: "Environment", case: "Case") -> Facts:
    request = case["request"]
    return {
        "failure": case["failure"],
        "failure_details": request["failure_details"],
        "context": request["context"],
        "expected_schema": request["context"].get("expected_schema"),
        "model_map": env.settings.model_map,
        "models": [
            (provider.name, model.name)
            for provider in env.settings.providers
            for model in provider.models
        ],
    }
