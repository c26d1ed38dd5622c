"""Statistics of workflows and agents within one process, and the decorator that keeps them.

For Python programs that run their own agents; the names are those of PROLIGHT AI's observability.
What the pack's own runs come to is counted in the datastore: see synthralos.metrics.
"""

import contextlib
import copy
import functools
import inspect
import logging
import threading
import time

_LOG = logging.getLogger("synthralos.agents")


class WorkflowMetrics:
    """Counts and durations, from any thread. Durations are in seconds."""

    def __init__(self):
        self._lock = threading.Lock()
        self.reset()

    def reset(self):
        with self._lock:
            self._counts = {"started": 0, "completed": 0, "failed": 0}
            self._completed_seconds = 0.0
            self._agents, self._transitions = {}, {}

    def record_workflow_start(self, workflow_id, state):
        """:param workflow_id, state: of the workflow, for the log."""
        with self._lock:
            self._counts["started"] += 1
        _log("workflow_start", workflow_id=workflow_id, state=state)

    def record_workflow_complete(self, workflow_id, duration):
        with self._lock:
            self._counts["completed"] += 1
            self._completed_seconds += duration
        _log("workflow_complete", workflow_id=workflow_id, duration_seconds=duration)

    def record_workflow_failed(self, workflow_id, error, duration):
        """:param error: an exception, or what kind of failure it was; of the former its class."""
        with self._lock:
            self._counts["failed"] += 1
        _log(
            "workflow_failed", logging.ERROR,
            workflow_id=workflow_id, duration_seconds=duration, error=_kind(error),
        )

    def record_agent_call(self, role, duration, success):
        with self._lock:
            told = self._agents.setdefault(
                role, {"total": 0, "success": 0, "failed": 0, "total_duration": 0.0}
            )
            told["total"] += 1
            told["success" if success else "failed"] += 1
            told["total_duration"] += duration

    def record_state_transition(self, from_state, to_state):
        name = "%s->%s" % (from_state, to_state)
        with self._lock:
            self._transitions[name] = self._transitions.get(name, 0) + 1

    def get_metrics(self):
        """A copy of what there is.

        {workflows_started, workflows_completed, workflows_failed, average_duration,
        agent_calls {role: {total, success, failed, total_duration, average_duration, success_rate,
        failure_rate}}, state_transitions {"FROM->TO": times}}. average_duration is the mean of the
        workflows that completed; rates are shares, 0 to 1.
        """
        with self._lock:
            counts, agents = dict(self._counts), copy.deepcopy(self._agents)
            transitions, seconds = dict(self._transitions), self._completed_seconds
        for told in agents.values():
            told["average_duration"] = told["total_duration"] / told["total"]
            told["success_rate"] = told["success"] / told["total"]
            told["failure_rate"] = told["failed"] / told["total"]
        return {
            "workflows_started": counts["started"],
            "workflows_completed": counts["completed"],
            "workflows_failed": counts["failed"],
            "average_duration": seconds / counts["completed"] if counts["completed"] else 0.0,
            "agent_calls": agents,
            "state_transitions": transitions,
        }


_METRICS = WorkflowMetrics()


def get_metrics():
    """The WorkflowMetrics of this process."""
    return _METRICS


def trace_agent_execution(role, metrics=None, now=time.monotonic, span=None):
    """A decorator that counts each call to a function, plain or `async`, as a call to an agent.

    What it raises is raised on, and counted as failed; so is a call that is cancelled.

    :param role: of the agent; an id of its own for each call would be a series each.
    :param metrics: a WorkflowMetrics; default: the process's.
    :param now: a callable that gives seconds, of a clock that only goes forward.
    :param span: a callable (name, attributes) that gives a context manager, in which the function
        is called, such as synthralos.telemetry.traces.span.
    """
    kept = metrics or _METRICS

    def decorated(function):
        if inspect.iscoroutinefunction(function):
            @functools.wraps(function)
            async def traced(*arguments, **named):
                with _measured(kept, role, now, span, arguments):
                    return await function(*arguments, **named)
        else:
            @functools.wraps(function)
            def traced(*arguments, **named):
                with _measured(kept, role, now, span, arguments):
                    return function(*arguments, **named)
        return traced

    return decorated


@contextlib.contextmanager
def _measured(metrics, role, now, span, arguments):
    about = {"agent_role": role, "workflow_id": _workflow(arguments)}
    began = now()
    _log("agent_execution_start", **about)
    try:
        with _opened(span, role):
            yield
    except BaseException as error:
        seconds = now() - began
        metrics.record_agent_call(role, seconds, False)
        told = dict(about, duration_seconds=seconds, error=_kind(error))
        _log("agent_execution_failed", logging.ERROR, **told)
        raise
    seconds = now() - began
    metrics.record_agent_call(role, seconds, True)
    _log("agent_execution_complete", duration_seconds=seconds, **about)


def _opened(span, role):
    if span is None:
        return contextlib.nullcontext()
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": role}
    return span("invoke_agent %s" % role, attributes)


def _workflow(arguments):
    """The run_id of the first argument, such as a workflow's context."""
    return str(getattr(arguments[0], "run_id", "unknown")) if arguments else "unknown"


def _kind(error):
    # What an exception says may hold a prompt, or a secret.
    return type(error).__name__ if isinstance(error, BaseException) else str(error)


def _log(event, level=logging.INFO, **facts):
    _LOG.log(level, event, extra=facts)
