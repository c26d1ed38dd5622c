"""Agentic workflows for Python programs: the public home of what `inprocess` has.

    from synthralos.workflow import Workflow, advance

    workflow = Workflow(planner=plan, critic=criticise, executor=execute)
    ctx = workflow.create_context({"prompt": "..."})
    ctx = await advance(ctx, retry_config=RetryConfig(max_attempts=5))
"""

from synthralos.inprocess.parallel_executor import AgentTask, ParallelExecutor, TaskResult
from synthralos.inprocess.retry import RetryConfig
from synthralos.inprocess.workflow import (
    Rejected,
    Workflow,
    advance,
    recover,
    rollback,
    run_to_completion,
)
from synthralos.inprocess.workflow_context import (
    StateTransition,
    WorkflowContext,
    WorkflowState,
)

__all__ = [
    "AgentTask",
    "ParallelExecutor",
    "Rejected",
    "RetryConfig",
    "StateTransition",
    "TaskResult",
    "Workflow",
    "WorkflowContext",
    "WorkflowState",
    "advance",
    "recover",
    "rollback",
    "run_to_completion",
]
