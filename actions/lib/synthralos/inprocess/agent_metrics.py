"""Statistics and structured events of workflows and agents within one process.

For Python programs that run their own agents; the names are those of PROLIGHT AI's observability.
The pack's own runs are counted in the datastore: see synthralos.metrics.

Every event is one record of the logger `synthralos.agents`: its message is the event's name, and
its fields are attributes of the record; `JsonFormatter` writes both as one line of JSON.
"""

import contextlib
import copy
import functools
import inspect
import json
import logging
import threading
import time
from collections.abc import Awaitable, Iterator
from typing import Any, Callable, Optional, TypedDict, Union

from synthralos.core.timestamps import to_iso

LOGGER_NAME = "synthralos.agents"
_LOG = logging.getLogger(LOGGER_NAME)
# What logging itself keeps in a record; a field of that name would raise KeyError there.
_RESERVED = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "event_fields"}
_ROLE_ATTRIBUTE = "__synthralos_agent_role__"

Clock = Callable[[], float]
Span = Callable[[str, dict[str, str]], contextlib.AbstractContextManager[Any]]


class AgentCalls(TypedDict):
    """Calls to agents of one role. Durations are in seconds, rates are shares from 0 to 1."""

    total: int
    success: int
    failed: int
    total_duration: float
    average_duration: float
    success_rate: float
    failure_rate: float


class Metrics(TypedDict):
    """A copy of all statistics.

    average_duration (seconds) is the mean of the workflows that completed; success_rate and
    failure_rate are shares (0 to 1) of the workflows that ended. state_transitions counts
    "FROM->TO", retries the repeated calls of each operation, connections how often a stream came
    into each state.
    """

    workflows_started: int
    workflows_completed: int
    workflows_failed: int
    average_duration: float
    success_rate: float
    failure_rate: float
    agent_calls: dict[str, AgentCalls]
    state_transitions: dict[str, int]
    retries: dict[str, int]
    connections: dict[str, int]


class WorkflowMetrics:
    """Counts and durations, from any thread. Durations are in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything that was recorded."""
        with self._lock:
            self._counts = {"started": 0, "completed": 0, "failed": 0}
            self._completed_seconds = 0.0
            self._agents: dict[str, AgentCalls] = {}
            self._transitions: dict[str, int] = {}
            self._retries: dict[str, int] = {}
            self._connections: dict[str, int] = {}

    def record_workflow_start(self, workflow_id: str, state: str) -> None:
        """:param workflow_id, state: of the workflow, for the log."""
        with self._lock:
            self._counts["started"] += 1
        log_structured_event("workflow_start", workflow_id, state=state)

    def record_workflow_complete(self, workflow_id: str, duration: float) -> None:
        """:param duration: seconds since the workflow started."""
        with self._lock:
            self._counts["completed"] += 1
            self._completed_seconds += duration
        log_structured_event("workflow_complete", workflow_id, duration_seconds=duration)

    def record_workflow_failed(
        self, workflow_id: str, error: Union[str, BaseException], duration: float
    ) -> None:
        """:param error: an exception, of which the class is logged, or the kind of failure."""
        with self._lock:
            self._counts["failed"] += 1
        log_structured_event(
            "workflow_failed", workflow_id, logging.ERROR,
            duration_seconds=duration, error=_kind(error),
        )

    def record_agent_call(self, role: str, duration: float, success: bool) -> None:
        """Count a call to an agent that took `duration` seconds."""
        with self._lock:
            calls = self._agents.setdefault(role, {
                "total": 0, "success": 0, "failed": 0, "total_duration": 0.0,
                "average_duration": 0.0, "success_rate": 0.0, "failure_rate": 0.0,
            })
            calls["total"] += 1
            if success:
                calls["success"] += 1
            else:
                calls["failed"] += 1
            calls["total_duration"] += duration
            calls["average_duration"] = calls["total_duration"] / calls["total"]
            calls["success_rate"] = calls["success"] / calls["total"]
            calls["failure_rate"] = calls["failed"] / calls["total"]

    def record_state_transition(self, from_state: str, to_state: str) -> None:
        """Count a transition between two states of a workflow."""
        with self._lock:
            _increment(self._transitions, "%s->%s" % (from_state, to_state))

    def record_retry(
        self, operation_name: str, attempt: int, error: BaseException, delay: float
    ) -> None:
        """Count a retry that begins in `delay` seconds, after failed attempt number `attempt`."""
        with self._lock:
            _increment(self._retries, operation_name)
        log_structured_event(
            "retry", None, logging.WARNING,
            operation_name=operation_name, attempt=attempt, delay_seconds=delay, error=_kind(error),
        )

    def record_connection_state(self, state: str) -> None:
        """Count that a stream of events came into this state."""
        with self._lock:
            _increment(self._connections, state)

    def get_metrics(self) -> Metrics:
        """A copy of all statistics."""
        with self._lock:
            completed, failed = self._counts["completed"], self._counts["failed"]
            ended = completed + failed
            return {
                "workflows_started": self._counts["started"],
                "workflows_completed": completed,
                "workflows_failed": failed,
                "average_duration": self._completed_seconds / completed if completed else 0.0,
                "success_rate": completed / ended if ended else 0.0,
                "failure_rate": failed / ended if ended else 0.0,
                "agent_calls": copy.deepcopy(self._agents),
                "state_transitions": dict(self._transitions),
                "retries": dict(self._retries),
                "connections": dict(self._connections),
            }


_METRICS = WorkflowMetrics()


def get_metrics() -> WorkflowMetrics:
    """The WorkflowMetrics of this process."""
    return _METRICS


def trace_agent_execution(
    role: str,
    metrics: Optional[WorkflowMetrics] = None,
    now: Clock = time.monotonic,
    span: Optional[Span] = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that counts each call to a function, plain or `async`, as a call to an
    agent. An exception is raised on, and counted as a failed call; so is a call that is cancelled.

    :param role: of the agent. Each role is a series of its own: keep ids out of it.
    :param metrics: default: the process's.
    :param now: seconds, of a clock that only goes forward.
    :param span: a callable (name, attributes) that gives a context manager, in which the function
        is called, such as synthralos.telemetry.tracing.span.
    """
    recorder = metrics or _METRICS

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        traced: Callable[..., Any]
        if inspect.iscoroutinefunction(function):
            @functools.wraps(function)
            async def traced_async(*arguments: Any, **named: Any) -> Any:
                with _measured(recorder, role, now, span, arguments):
                    return await function(*arguments, **named)
            traced = traced_async
        else:
            @functools.wraps(function)
            def traced_plain(*arguments: Any, **named: Any) -> Any:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(_measured(recorder, role, now, span, arguments))
                    result = function(*arguments, **named)
                    if inspect.isawaitable(result):
                        # Such as a lambda that calls a coroutine function: it has only begun.
                        return _awaited(result, stack.pop_all())
                    return result
            traced = traced_plain
        setattr(traced, _ROLE_ATTRIBUTE, role)
        return traced

    return decorate


def traced_role(function: Callable[..., Any]) -> Optional[str]:
    """The role under which calls to `function` are already counted, or None."""
    return getattr(function, _ROLE_ATTRIBUTE, None)


@contextlib.contextmanager
def trace_workflow_operation(
    operation: str, workflow_id: str, now: Clock = time.monotonic
) -> Iterator[None]:
    """Log the start of the block, and its end or failure with its duration."""
    started_at = now()
    log_structured_event("workflow_operation_start", workflow_id, operation=operation)
    try:
        yield
    except BaseException as error:
        log_structured_event(
            "workflow_operation_failed", workflow_id, logging.ERROR,
            operation=operation, duration_seconds=now() - started_at, error=_kind(error),
        )
        raise
    log_structured_event(
        "workflow_operation_complete", workflow_id,
        operation=operation, duration_seconds=now() - started_at,
    )


def log_structured_event(
    event_type: str, workflow_id: Optional[str] = None, level: int = logging.INFO, **data: Any
) -> None:
    """Log an event of a workflow with its fields, all in the same form.

    :param data: the fields. One whose name logging reserves (`name`, `args` ...) is no attribute of
        the record, and still in its `event_fields`.
    """
    fields = data if workflow_id is None else dict(data, workflow_id=workflow_id)
    attributes = {name: value for name, value in fields.items() if name not in _RESERVED}
    _LOG.log(level, event_type, extra=dict(attributes, event_fields=fields))


class JsonFormatter(logging.Formatter):
    """A line of JSON for each event: time, level, event, then its fields.

    logging.getLogger("synthralos.agents").handlers[0].setFormatter(JsonFormatter())
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line; a value that JSON lacks is written as its repr."""
        line = dict(
            getattr(record, "event_fields", {}),
            time=to_iso(record.created, milliseconds=True),
            level=record.levelname.lower(),
            event=record.getMessage(),
        )
        return json.dumps(line, default=repr, sort_keys=True)


async def _awaited(awaitable: Awaitable[Any], stack: contextlib.ExitStack) -> Any:
    with stack:
        return await awaitable


@contextlib.contextmanager
def _measured(
    metrics: WorkflowMetrics, role: str, now: Clock, span: Optional[Span],
    arguments: tuple[Any, ...],
) -> Iterator[None]:
    workflow_id = _workflow_id(arguments)
    started_at = now()
    log_structured_event("agent_execution_start", workflow_id, agent_role=role)
    try:
        with _opened(span, role):
            yield
    except BaseException as error:
        seconds = now() - started_at
        metrics.record_agent_call(role, seconds, False)
        log_structured_event(
            "agent_execution_failed", workflow_id, logging.ERROR,
            agent_role=role, duration_seconds=seconds, error=_kind(error),
        )
        raise
    seconds = now() - started_at
    metrics.record_agent_call(role, seconds, True)
    log_structured_event(
        "agent_execution_complete", workflow_id, agent_role=role, duration_seconds=seconds
    )


def _opened(
    span: Optional[Span], role: str
) -> contextlib.AbstractContextManager[Any]:
    if span is None:
        return contextlib.nullcontext()
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": role}
    return span("invoke_agent %s" % role, attributes)


def _workflow_id(arguments: tuple[Any, ...]) -> str:
    """The run_id of the first argument, such as a workflow's context."""
    return str(getattr(arguments[0], "run_id", "unknown")) if arguments else "unknown"


def _kind(error: Union[str, BaseException]) -> str:
    # An exception's message may hold a prompt, or a secret.
    return type(error).__name__ if isinstance(error, BaseException) else str(error)


def _increment(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
