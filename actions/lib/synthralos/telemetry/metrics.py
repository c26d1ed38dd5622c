"""`get_metrics` and `trace_agent_execution`, under the name that programs know them by."""

from synthralos.telemetry.agents import WorkflowMetrics, get_metrics, trace_agent_execution

__all__ = ["WorkflowMetrics", "get_metrics", "trace_agent_execution"]
