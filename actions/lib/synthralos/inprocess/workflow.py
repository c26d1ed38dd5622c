"""Agentic workflows within one process: planner, critic, approval by a person, executor.

    workflow = Workflow(planner=plan, critic=criticise, hitl=ask_person, executor=execute)
    ctx = workflow.create_context({"prompt": "..."})
    while not ctx.is_terminal:
        ctx = await advance(ctx, retry_config=RetryConfig(max_attempts=5))

    CREATED -[planner]-> PLANNED -[critic]-> CRITIQUED -[HITL]-> APPROVED
        -[executor]-> EXECUTING -> COMPLETED, or FAILED, from which `recover` leads back

Workflows of the pack on StackStorm are orchestrations: see synthralos.orchestration.
"""

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

from synthralos.core.errors import InvalidInput
from synthralos.inprocess.agent_metrics import (
    Span,
    WorkflowMetrics,
    get_metrics,
    log_structured_event,
    trace_agent_execution,
    traced_role,
)
from synthralos.inprocess.circuit_breaker import CircuitBreaker
from synthralos.inprocess.parallel_executor import ParallelExecutor
from synthralos.inprocess.retry import (
    DEFAULT_RETRYABLE_EXCEPTIONS,
    RetryConfig,
    Sleep,
    retry_with_backoff,
)
from synthralos.inprocess.workflow_context import (
    CHECKPOINT_CONFIG,
    WorkflowContext,
    WorkflowState,
)
from synthralos.storage import snapshots, state_codec
from synthralos.storage.datastore import (
    BestEffortDatastore,
    Datastore,
    DatastoreUnavailable,
    MemoryDatastore,
)

# HITL, the human in the loop, approves or rejects.
PLANNER, CRITIC, HITL, EXECUTOR = ROLES = ("planner", "critic", "hitl", "executor")
MAX_ERROR_CHARS = 2000

Agent = Callable[[WorkflowContext], Any]
Broadcast = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Route:
    """The transition from one state to the next.

    :ivar role: of the agent that runs before it, or None.
    :ivar output_field: of the context, which holds what the agent returned.
    """

    target: WorkflowState
    role: Optional[str] = None
    output_field: Optional[str] = None


ROUTES = {
    WorkflowState.CREATED: Route(WorkflowState.PLANNED, PLANNER, "plan"),
    WorkflowState.PLANNED: Route(WorkflowState.CRITIQUED, CRITIC, "critique"),
    WorkflowState.CRITIQUED: Route(WorkflowState.APPROVED, HITL),
    WorkflowState.APPROVED: Route(WorkflowState.EXECUTING, EXECUTOR, "result"),
    WorkflowState.EXECUTING: Route(WorkflowState.COMPLETED),
}


class Rejected(Exception):
    """The approval was denied."""


class Workflow:
    """The agents of a program, and what runs them.

    An agent is called with the WorkflowContext; it is a function or a coroutine function. What it
    returns, if not None, becomes `plan`, `critique` or `result` of the context, and must be a JSON
    value. Every call is counted in the metrics under the agent's role, and goes through a circuit
    breaker of that role.

    :param hitl: returns True to approve, False to reject, None when a person has not decided
        yet. Without it `advance` waits in CRITIQUED for `human_approved=True`.
    :param datastore: of the checkpoints; default: the memory of this process.
    :param metrics: default: the process's.
    :param make_circuit_breaker: called once for each role; default: CircuitBreaker's defaults.
    :param now: seconds since the epoch.
    :param monotonic: seconds, of a clock that only goes forward.
    :param sleep: called with seconds between attempts; default: asyncio.sleep.
    :param draw: gives a number from 0 to 1, for the jitter of the waits.
    :param span: opens a span for each call to an agent, as in trace_agent_execution.
    """

    def __init__(
        self,
        planner: Optional[Agent] = None,
        critic: Optional[Agent] = None,
        hitl: Optional[Agent] = None,
        executor: Optional[Agent] = None,
        datastore: Optional[Datastore] = None,
        metrics: Optional[WorkflowMetrics] = None,
        make_circuit_breaker: Optional[Callable[[], CircuitBreaker]] = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        span: Optional[Span] = None,
    ) -> None:
        self._span = span
        self.now, self.monotonic, self.sleep, self.draw = now, monotonic, sleep, draw
        self.datastore: Datastore = MemoryDatastore(now) if datastore is None else datastore
        self.metrics = metrics or get_metrics()
        make = make_circuit_breaker or (lambda: CircuitBreaker(clock=monotonic))
        self.circuit_breakers = {role: make() for role in ROLES}
        self._agents: dict[str, Agent] = {}
        for role, agent in zip(ROLES, (planner, critic, hitl, executor)):
            if agent is not None:
                self.register(role, agent)

    def register(self, role: str, agent: Agent) -> None:
        """Make `agent` the one of `role`: planner, critic, hitl or executor.

        :raises InvalidInput: there is no such role, or the agent cannot be called.
        """
        if role not in ROLES:
            raise InvalidInput("role", role, "is not a role", "Use one of " + ", ".join(ROLES))
        if not callable(agent):
            raise InvalidInput(role, agent, "must be callable", "Give a function of the context")
        if traced_role(agent) is None:
            agent = trace_agent_execution(role, self.metrics, self.monotonic, self._span)(agent)
        self._agents[role] = agent

    def agent(self, role: str) -> Optional[Agent]:
        """The agent of a role, traced; None where none is registered."""
        return self._agents.get(role)

    def parallel_executor(
        self, max_concurrent: int = 3, retry_config: Optional[RetryConfig] = None
    ) -> ParallelExecutor:
        """Runs the parallel tasks of an agent, with the metrics and clocks of this workflow."""
        return ParallelExecutor(
            max_concurrent, retry_config, self.metrics, self.monotonic, self.sleep, self.draw
        )

    def create_context(self, input_data: Optional[dict[str, Any]] = None) -> WorkflowContext:
        """A new run of this workflow."""
        return WorkflowContext({} if input_data is None else input_data, workflow=self)

    def load_context(self, run_id: str) -> WorkflowContext:
        """The run as its newest intact checkpoint has it, to be advanced from there.

        :raises InvalidInput: the run has no intact checkpoint.
        :raises synthralos.storage.datastore.DatastoreUnavailable: the datastore is unavailable.
        """
        snapshot = snapshots.latest_valid(
            BestEffortDatastore(self.datastore), CHECKPOINT_CONFIG, self.now(), run_id
        )
        if snapshot is None:
            raise InvalidInput(
                "run_id", run_id, "has no intact checkpoint",
                "Use the run_id of a workflow that was advanced, with the same datastore",
            )
        ctx = WorkflowContext.from_dict(snapshot["state"], self)
        ctx.checkpoints[snapshot["task_id"]] = snapshot["snapshot_id"]
        ctx.versions[ctx.version] = snapshot["snapshot_id"]
        return ctx


async def advance(
    ctx: WorkflowContext,
    human_approved: bool = False,
    broadcast_update: Optional[Broadcast] = None,
    retry_config: Optional[RetryConfig] = None,
) -> WorkflowContext:
    """Make the next transition of the workflow; return the same context.

    A checkpoint is created before the agent runs. After an exception of the agent the context is
    restored from it, and the agent runs again after a delay; when all attempts have failed, the
    context is restored once more and its state is FAILED, with `error`. A context that is locked,
    terminal, or waiting for approval is returned as it is.

    :param human_approved: approves a CRITIQUED workflow, in place of its hitl agent.
    :param broadcast_update: called, and awaited where it returns an awaitable, with {run_id, state,
        message, requires_approval} after each change and while approval is needed. An exception of
        it is logged, and changes nothing.
    :param retry_config: default: RetryConfig(). Every Exception is retried, unless it names its own
        retryable_exceptions.
    :raises InvalidInput: the context has no workflow, the workflow no agent of the role, or the
        context holds what is not JSON.
    :raises synthralos.storage.datastore.DatastoreUnavailable: the datastore of the checkpoints is
        unavailable; the agent was not called.
    """
    workflow = _workflow_of(ctx)
    if not ctx.acquire():
        log_structured_event("workflow_locked", ctx.run_id, state=str(ctx.state))
        return ctx
    try:
        if ctx.is_terminal:
            return ctx
        route = ROUTES[ctx.state]
        approved_by_argument = route.role == HITL and human_approved
        agent = None if approved_by_argument else _agent_of(workflow, route)
        if route.role == HITL and agent is None and not human_approved:
            await _broadcast_waiting(ctx, broadcast_update)
            return ctx
        _start(workflow, ctx)
        checkpoint = "pre_" + route.target.value
        _create_checkpoint(workflow, ctx, checkpoint)
        if agent is not None:
            try:
                decision = await _run_agent(workflow, ctx, route, agent, checkpoint, retry_config)
                if route.role == HITL:
                    _require_decision(decision)
            except Exception as error:
                _fail(workflow, ctx, checkpoint, error)
                await _broadcast(ctx, broadcast_update, "Workflow failed")
                return ctx
            if route.role == HITL and decision is None:
                await _broadcast_waiting(ctx, broadcast_update)
                return ctx
        _transition(workflow, ctx, route.target)
        await _broadcast(ctx, broadcast_update, "Workflow is %s" % ctx.state)
        return ctx
    finally:
        ctx.release()


async def run_to_completion(
    ctx: WorkflowContext,
    retry_config: Optional[RetryConfig] = None,
    broadcast_update: Optional[Broadcast] = None,
    human_approved: bool = False,
) -> WorkflowContext:
    """Call `advance` until the workflow is COMPLETED or FAILED, or waits for approval."""
    while not ctx.is_terminal:
        version = ctx.version
        ctx = await advance(ctx, human_approved, broadcast_update, retry_config)
        if ctx.version == version:
            break
    return ctx


def recover(ctx: WorkflowContext) -> WorkflowContext:
    """Lead a FAILED workflow back to the state before the transition that failed.

    `advance` then makes that transition again, with all its attempts.

    :raises InvalidInput: the workflow has not failed, or its checkpoint is gone.
    """
    workflow = _workflow_of(ctx)
    if ctx.state is not WorkflowState.FAILED:
        raise InvalidInput(
            "state", str(ctx.state), "must be FAILED", "Recover failed workflows only"
        )
    _lock(ctx)
    try:
        checkpoint = str(ctx.failed_checkpoint)
        _go_back(workflow, ctx, lambda: ctx.restore_checkpoint(
            checkpoint, workflow.datastore, workflow.now()
        ))
    finally:
        ctx.release()
    log_structured_event(
        "workflow_recovered", ctx.run_id, state=str(ctx.state), checkpoint=checkpoint
    )
    return ctx


def rollback(ctx: WorkflowContext, version: int) -> WorkflowContext:
    """Lead a workflow back to the state it had at `version`. That is a new version in its turn.

    :raises InvalidInput: the version is not stored, or an `advance` is under way.
    """
    workflow = _workflow_of(ctx)
    _lock(ctx)
    try:
        _go_back(workflow, ctx, lambda: ctx.restore_version(
            version, workflow.datastore, workflow.now()
        ))
    finally:
        ctx.release()
    log_structured_event(
        "workflow_rolled_back", ctx.run_id, state=str(ctx.state), version=version
    )
    return ctx


def _workflow_of(ctx: WorkflowContext) -> Workflow:
    if ctx.workflow is None:
        raise InvalidInput(
            "workflow", None, "is missing in the context",
            "Create the context with Workflow.create_context, or set its workflow",
        )
    return ctx.workflow


def _lock(ctx: WorkflowContext) -> None:
    if not ctx.acquire():
        raise InvalidInput("run_id", ctx.run_id, "is being advanced", "Wait until that has ended")


def _agent_of(workflow: Workflow, route: Route) -> Optional[Agent]:
    if route.role is None:
        return None
    agent = workflow.agent(route.role)
    if agent is None and route.role != HITL:
        raise InvalidInput(
            route.role, None, "is not registered",
            "Register it with Workflow.register(%r, agent)" % route.role,
        )
    return agent


def _start(workflow: Workflow, ctx: WorkflowContext) -> None:
    if ctx.started_at is None:
        ctx.started_at = workflow.now()
        workflow.metrics.record_workflow_start(ctx.run_id, str(ctx.state))


def _create_checkpoint(workflow: Workflow, ctx: WorkflowContext, name: str) -> None:
    snapshot_id = ctx.create_checkpoint(name, workflow.datastore, workflow.now())
    log_structured_event(
        "checkpoint_created", ctx.run_id, checkpoint=name, snapshot_id=snapshot_id
    )


def _require_decision(decision: Any) -> None:
    """Raise Rejected for False, InvalidInput for anything but a decision.

    A mapping such as {"approved": False} is truthy, and not a decision.
    """
    if decision is False:
        raise Rejected("the approval was denied")
    if decision is not True and decision is not None:
        raise InvalidInput(
            HITL, decision, "must be True, False or None",
            "Return True to approve, False to reject, None to wait for a person",
        )


async def _run_agent(
    workflow: Workflow, ctx: WorkflowContext, route: Route, agent: Agent, checkpoint: str,
    retry_config: Optional[RetryConfig],
) -> Any:
    """What the agent returned, which is then in the context too."""
    config = retry_config or RetryConfig()
    if config.retryable_exceptions is DEFAULT_RETRYABLE_EXCEPTIONS:
        # The state is restored before each attempt, so that any failure may be tried again.
        config = replace(config, retryable_exceptions=(Exception,))
    role = str(route.role)
    ctx.retry_count = 0

    async def attempt() -> Any:
        if ctx.retry_count:
            _restore(workflow, ctx, checkpoint)
        try:
            result = workflow.circuit_breakers[role].call(lambda: agent(ctx), role)
            if inspect.isawaitable(result):
                result = await result
            if route.output_field is not None:
                _store_output(ctx, route.output_field, result)
        except Exception as error:
            ctx.retry_count += 1
            ctx.error = ("%s: %s" % (type(error).__name__, error))[:MAX_ERROR_CHARS]
            raise
        ctx.error = None
        return result

    try:
        awaitable: Awaitable[Any] = retry_with_backoff(
            attempt, config, role, workflow.sleep, draw=workflow.draw, metrics=workflow.metrics
        )
        return await awaitable
    except BaseException as error:
        if not isinstance(error, Exception):
            # Cancelled, or the program ends: the context is as before this transition.
            _restore_if_possible(workflow, ctx, checkpoint)
        raise


def _store_output(ctx: WorkflowContext, output_field: str, result: Any) -> None:
    if result is not None and result is not ctx:
        setattr(ctx, output_field, result)
    # InvalidInput names the field: the next checkpoint could not hold it.
    state_codec.canonical_json(output_field, getattr(ctx, output_field))


def _restore(workflow: Workflow, ctx: WorkflowContext, checkpoint: str) -> None:
    ctx.restore_checkpoint(checkpoint, workflow.datastore, workflow.now())
    log_structured_event(
        "checkpoint_restored", ctx.run_id, checkpoint=checkpoint, retry_count=ctx.retry_count
    )


def _restore_if_possible(workflow: Workflow, ctx: WorkflowContext, checkpoint: str) -> None:
    try:
        _restore(workflow, ctx, checkpoint)
    except (DatastoreUnavailable, InvalidInput) as error:
        log_structured_event(
            "checkpoint_not_restored", ctx.run_id, logging.ERROR,
            checkpoint=checkpoint, error=type(error).__name__,
        )


def _transition(workflow: Workflow, ctx: WorkflowContext, target: WorkflowState) -> None:
    _change_state(workflow, ctx, target)
    ctx.retry_count = 0
    _persist(workflow, ctx)
    if target is WorkflowState.COMPLETED:
        workflow.metrics.record_workflow_complete(ctx.run_id, _duration(workflow, ctx))


def _fail(
    workflow: Workflow, ctx: WorkflowContext, checkpoint: str, error: Exception
) -> None:
    message = ("%s: %s" % (type(error).__name__, error))[:MAX_ERROR_CHARS]
    # The workflow has failed either way, and `recover` restores the checkpoint again.
    _restore_if_possible(workflow, ctx, checkpoint)
    ctx.error, ctx.failed_checkpoint = message, checkpoint
    _change_state(workflow, ctx, WorkflowState.FAILED)
    _persist(workflow, ctx)
    workflow.metrics.record_workflow_failed(ctx.run_id, error, _duration(workflow, ctx))


def _go_back(
    workflow: Workflow, ctx: WorkflowContext, restore: Callable[[], dict[str, Any]]
) -> None:
    """Restore an earlier state as a transition of the history.

    :param restore: changes the context as a checkpoint has it, and returns that as a dict.
    """
    left_state = ctx.state
    stored = restore()
    target = ctx.state
    ctx.state, ctx.retry_count = left_state, 0
    # Both are None, unless the version to roll back to had failed.
    ctx.error, ctx.failed_checkpoint = stored["error"], stored["failed_checkpoint"]
    _change_state(workflow, ctx, target)
    _persist(workflow, ctx)


def _persist(workflow: Workflow, ctx: WorkflowContext) -> None:
    """Store the context in its new state, under that state's name."""
    try:
        _create_checkpoint(workflow, ctx, str(ctx.state))
    except DatastoreUnavailable as error:
        # The transition is made; the next one creates a checkpoint before its agent, or raises.
        log_structured_event(
            "checkpoint_not_created", ctx.run_id, logging.ERROR,
            checkpoint=str(ctx.state), error=type(error).__name__,
        )


def _change_state(workflow: Workflow, ctx: WorkflowContext, target: WorkflowState) -> None:
    transition = ctx.record_transition(target, workflow.now())
    workflow.metrics.record_state_transition(transition["from"], transition["to"])
    log_structured_event(
        "state_transition", ctx.run_id, from_state=transition["from"], to_state=transition["to"],
        retry_count=transition["retry_count"], version=transition["version"],
    )


def _duration(workflow: Workflow, ctx: WorkflowContext) -> float:
    # The clock may have been set back in the meantime.
    return max(0.0, workflow.now() - (ctx.started_at or workflow.now()))


async def _broadcast_waiting(ctx: WorkflowContext, broadcast_update: Optional[Broadcast]) -> None:
    log_structured_event("approval_required", ctx.run_id, state=str(ctx.state))
    await _broadcast(ctx, broadcast_update, "Waiting for human approval", True)


async def _broadcast(
    ctx: WorkflowContext, broadcast_update: Optional[Broadcast], message: str,
    requires_approval: bool = False,
) -> None:
    if broadcast_update is None:
        return
    update: dict[str, Union[str, bool]] = {
        "run_id": ctx.run_id, "state": ctx.state.value, "message": message,
        "requires_approval": requires_approval,
    }
    try:
        sent = broadcast_update(update)
        if inspect.isawaitable(sent):
            await sent
    except Exception as error:
        # Whoever listens must not stop the workflow.
        log_structured_event("broadcast_failed", ctx.run_id, error=type(error).__name__)
