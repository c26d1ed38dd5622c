"""Runs tasks with dependencies at once, as far as these allow.

    results = await ParallelExecutor(max_concurrent=3).execute_parallel([
        AgentTask("analyse", "analyst", analyse),
        AgentTask("report", "writer", report, dependencies=["analyse"], timeout=30),
    ])

A task starts as soon as its dependencies have completed and one of the places is free; of those
that could start, the one with the highest priority does.
"""

import asyncio
import contextvars
import functools
import graphlib
import heapq
import inspect
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional, TypedDict

from synthralos.core.errors import InvalidInput
from synthralos.inprocess.agent_metrics import (
    WorkflowMetrics,
    get_metrics,
    log_structured_event,
    trace_agent_execution,
)
from synthralos.inprocess.retry import RetryConfig, Sleep, retry_with_backoff

COMPLETED, FAILED, TIMEOUT, SKIPPED = "completed", "failed", "timeout", "skipped"


@dataclass(frozen=True)
class AgentTask:
    """:ivar id: unique within a call of execute_parallel.
    :ivar agent_role: under which its calls are counted.
    :ivar execute: called without arguments: a coroutine function, or a function, which runs in a
        thread so that it does not keep the rest from running.
    :ivar dependencies: ids of the tasks that must have completed before.
    :ivar priority: higher first.
    :ivar timeout: seconds for each attempt, or None. The thread of a function goes on until the
        function returns; its result is dropped.
    :ivar retryable: whether the executor's retry_config applies.
    """

    id: str
    agent_role: str
    execute: Callable[[], Any]
    dependencies: Sequence[str] = ()
    priority: int = 0
    timeout: Optional[float] = None
    retryable: bool = True


class TaskResult(TypedDict):
    """status: completed, failed, timeout, or skipped because a dependency did not complete.
    result: what `execute` returned, else None; error: a message, or None.
    """

    task_id: str
    status: str
    result: Any
    error: Optional[str]


@dataclass
class _Run:
    """One call of execute_parallel.

    :ivar waiting: a heap of (-priority, place in the call, task) that could start.
    """

    sorter: "graphlib.TopologicalSorter[str]"
    tasks: dict[str, AgentTask]
    places: dict[str, int]
    waiting: list[tuple[int, int, AgentTask]] = field(default_factory=list)
    running: "dict[asyncio.Task[TaskResult], str]" = field(default_factory=dict)
    results: dict[str, TaskResult] = field(default_factory=dict)

    def gather_ready(self) -> None:
        """Move what has no open dependency to `waiting`, or to the results as skipped."""
        ready = list(self.sorter.get_ready())
        while ready:
            task = self.tasks[ready.pop()]
            missed = [
                name for name in task.dependencies if self.results[name]["status"] != COMPLETED
            ]
            if missed:
                self.results[task.id] = _result(task, SKIPPED, error=(
                    "Dependencies did not complete: %s" % ", ".join(missed)
                ))
                self.sorter.done(task.id)
                ready += self.sorter.get_ready()
            else:
                heapq.heappush(self.waiting, (-task.priority, self.places[task.id], task))


class ParallelExecutor:
    """:param max_concurrent: tasks at a time, 1 or more.
    :param retry_config: for tasks that are retryable; None: each is called once.
    :param metrics: default: the process's; monotonic: the clock of the durations, in seconds.
    :param sleep: called with seconds between attempts; default: asyncio.sleep.
    :param draw: gives a number from 0 to 1, for the jitter of the waits.
    """

    def __init__(
        self,
        max_concurrent: int = 3,
        retry_config: Optional[RetryConfig] = None,
        metrics: Optional[WorkflowMetrics] = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not isinstance(max_concurrent, int) or max_concurrent < 1:
            raise InvalidInput("max_concurrent", max_concurrent, "must be an integer of 1 or more",
                          "Use the number of tasks that may run at a time")
        self.max_concurrent, self.retry_config = max_concurrent, retry_config
        self.metrics, self._monotonic = metrics or get_metrics(), monotonic
        self._sleep, self._draw = sleep, draw

    async def execute_parallel(self, tasks: Sequence[AgentTask]) -> dict[str, TaskResult]:
        """Run all tasks; return {id: TaskResult}, in the order of `tasks`.

        A task that fails raises nothing here; its dependents are skipped.

        :raises InvalidInput: an id is not unique, a dependency does not exist, or dependencies are
            circular. Then no task was started.
        """
        run = _planned(tasks)
        try:
            run.gather_ready()
            while run.waiting or run.running:
                while run.waiting and len(run.running) < self.max_concurrent:
                    task = heapq.heappop(run.waiting)[2]
                    run.running[asyncio.ensure_future(self._execute(task))] = task.id
                ended, _ = await asyncio.wait(
                    set(run.running), return_when=asyncio.FIRST_COMPLETED
                )
                for future in ended:
                    task_id = run.running.pop(future)
                    run.results[task_id] = future.result()
                    run.sorter.done(task_id)
                run.gather_ready()
        finally:
            # Cancelled from outside, or a task raised what is no Exception.
            for future in run.running:
                future.cancel()
            if run.running:
                await asyncio.gather(*run.running, return_exceptions=True)
        return {task.id: run.results[task.id] for task in tasks}

    async def _execute(self, task: AgentTask) -> TaskResult:
        traced = trace_agent_execution(task.agent_role, self.metrics, self._monotonic)
        attempt = traced(functools.partial(_attempt, task))
        config = self.retry_config if task.retryable else None
        try:
            awaitable: Awaitable[Any] = retry_with_backoff(
                attempt, config or RetryConfig(max_attempts=1), task.agent_role, self._sleep,
                draw=self._draw, metrics=self.metrics,
            )
            return _result(task, COMPLETED, await awaitable)
        except _TaskTimeout as error:
            status, message = TIMEOUT, str(error)
        except Exception as error:
            status, message = FAILED, "%s: %s" % (type(error).__name__, error)
        log_structured_event("task_not_completed", None, task_id=task.id, status=status)
        return _result(task, status, error=message)


class _TaskTimeout(asyncio.TimeoutError):
    """The task took longer than its own timeout; a TimeoutError of its code is a failure."""


async def _attempt(task: AgentTask) -> Any:
    started = _started(task.execute)
    if task.timeout is None:
        return await started
    future = asyncio.ensure_future(started)
    try:
        ended, _ = await asyncio.wait({future}, timeout=task.timeout)
    except asyncio.CancelledError:
        future.cancel()
        raise
    if ended:
        return future.result()
    future.cancel()
    raise _TaskTimeout("Task timed out after %gs" % task.timeout)


async def _started(execute: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(execute):
        return await execute()
    context = contextvars.copy_context()
    result = await asyncio.get_running_loop().run_in_executor(None, context.run, execute)
    # Such as a lambda that calls a coroutine function.
    return await result if inspect.isawaitable(result) else result


def _planned(tasks: Sequence[AgentTask]) -> _Run:
    by_id: dict[str, AgentTask] = {}
    for task in tasks:
        if task.id in by_id:
            raise InvalidInput("id", task.id, "is a duplicate", "Give each task an id of its own")
        by_id[task.id] = replace(task, dependencies=tuple(task.dependencies))
    for task in tasks:
        for name in task.dependencies:
            if name not in by_id:
                raise InvalidInput("%s.dependencies" % task.id, name, "does not exist",
                              "Use ids of the tasks of the same call")
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(
        {task.id: task.dependencies for task in tasks}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise InvalidInput("dependencies", " -> ".join(error.args[1]), "are circular",
                      "Remove one of them") from error
    return _Run(sorter, by_id, {task.id: place for place, task in enumerate(tasks)})


def _result(
    task: AgentTask, status: str, result: Any = None, error: Optional[str] = None
) -> TaskResult:
    return {"task_id": task.id, "status": status, "result": result, "error": error}
