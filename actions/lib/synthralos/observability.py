"""Metrics, tracing and structured events for Python programs: the public home of what `inprocess`
has.

    from synthralos.observability import get_metrics, trace_agent_execution

    @trace_agent_execution("planner")
    async def planner_agent(ctx): ...

    print(get_metrics().get_metrics())
"""

from synthralos.inprocess.agent_metrics import (
    LOGGER_NAME,
    AgentCalls,
    JsonFormatter,
    Metrics,
    WorkflowMetrics,
    get_metrics,
    log_structured_event,
    trace_agent_execution,
    trace_workflow_operation,
)

__all__ = [
    "LOGGER_NAME",
    "AgentCalls",
    "JsonFormatter",
    "Metrics",
    "WorkflowMetrics",
    "get_metrics",
    "log_structured_event",
    "trace_agent_execution",
    "trace_workflow_operation",
]
