"""Tasks with dependencies, priorities and time limits."""
import asyncio
import threading

import pytest
from fixtures.waiting import limit_under_test

from synthralos.core.errors import InvalidInput
from synthralos.observability import WorkflowMetrics
from synthralos.retry import RetryConfig
from synthralos.workflow import AgentTask, ParallelExecutor

PATIENCE_SECONDS = 60


@pytest.fixture
def metrics():
    return WorkflowMetrics()


def execute(tasks, metrics, **options):
    executor = ParallelExecutor(metrics=metrics, **options)
    return asyncio.run(asyncio.wait_for(executor.execute_parallel(tasks), PATIENCE_SECONDS))


def statuses(results):
    return {name: result["status"] for name, result in results.items()}


class Journal:
    """Records when tasks begin and end."""

    def __init__(self):
        self.lines = []

    def task(self, name, result=None, error=None, **options):
        async def work():
            self.lines.append("+" + name)
            await asyncio.sleep(0)
            self.lines.append("-" + name)
            if error is not None:
                raise error
            return result

        return AgentTask(name, "worker", work, **options)


def test_dependencies_come_first_and_results_in_the_order_of_the_call(metrics):
    journal = Journal()
    tasks = [
        journal.task("report", {"r": 3}, dependencies=["left", "right"]),
        journal.task("left", {"r": 1}), journal.task("right", {"r": 2}),
    ]
    results = execute(tasks, metrics)
    assert list(results) == ["report", "left", "right"]
    assert results["report"] == {
        "task_id": "report", "status": "completed", "result": {"r": 3}, "error": None
    }
    assert journal.lines.index("+report") > max(map(journal.lines.index, ["-left", "-right"]))
    assert metrics.get_metrics()["agent_calls"]["worker"]["success"] == 3


def test_independent_tasks_run_at_once(metrics):
    async def main():
        arrived = []
        everyone = asyncio.Event()

        async def work():
            arrived.append(1)
            if len(arrived) == 3:
                everyone.set()
            await everyone.wait()

        tasks = [AgentTask(name, "worker", work) for name in "abc"]
        return await asyncio.wait_for(
            ParallelExecutor(3, metrics=metrics).execute_parallel(tasks), PATIENCE_SECONDS
        )

    assert set(statuses(asyncio.run(main())).values()) == {"completed"}


def test_no_more_than_max_concurrent_and_the_highest_priority_first(metrics):
    journal = Journal()
    tasks = [journal.task("p%d" % n, priority=n) for n in (1, 3, 2, 3)[:3]]
    execute(tasks, metrics, max_concurrent=1)
    assert journal.lines == ["+p3", "-p3", "+p2", "-p2", "+p1", "-p1"]


def test_a_task_does_not_wait_for_what_it_does_not_depend_on(metrics):
    async def main():
        gate, order = asyncio.Event(), []

        async def slow():
            await gate.wait()
            order.append("slow")

        async def quick():
            order.append("quick")

        async def after_quick():
            order.append("after_quick")
            gate.set()

        tasks = [
            AgentTask("slow", "w", slow), AgentTask("quick", "w", quick),
            AgentTask("after_quick", "w", after_quick, dependencies=("quick",)),
        ]
        await asyncio.wait_for(
            ParallelExecutor(metrics=metrics).execute_parallel(tasks), PATIENCE_SECONDS
        )
        return order

    assert asyncio.run(main()) == ["quick", "after_quick", "slow"]


def test_dependents_of_a_failure_are_skipped_to_the_last(metrics):
    journal = Journal()
    results = execute([
        journal.task("a", error=ValueError("bad")), journal.task("b", dependencies=["a"]),
        journal.task("c", dependencies=["b"]), journal.task("d"),
    ], metrics)
    assert statuses(results) == {"a": "failed", "b": "skipped", "c": "skipped", "d": "completed"}
    assert results["a"]["error"] == "ValueError: bad"
    assert results["c"]["error"] == "Dependencies did not complete: b"
    assert "+b" not in journal.lines and "+c" not in journal.lines


def test_a_timeout_ends_one_task_alone(metrics):
    async def hang():
        await asyncio.sleep(3600)

    results = execute(
        [AgentTask("hung", "w", hang, timeout=limit_under_test(0.05)), Journal().task("fine")],
        metrics,
    )
    assert statuses(results) == {"hung": "timeout", "fine": "completed"}
    assert results["hung"]["error"] == "Task timed out after 0.05s"


def test_functions_run_in_threads(metrics):
    barrier = threading.Barrier(2)

    def work():
        barrier.wait(PATIENCE_SECONDS)
        return threading.current_thread() is threading.main_thread()

    results = execute([AgentTask(name, "w", work) for name in "ab"], metrics)
    assert [result["result"] for result in results.values()] == [False, False]


def test_retries_where_the_task_allows_them(metrics):
    calls = {"yes": 0, "no": 0}

    def failing(name):
        async def work():
            calls[name] += 1
            if calls[name] < 3:
                raise ConnectionError("no")
            return "ok"

        return work

    slept = []
    results = execute(
        [AgentTask("yes", "y", failing("yes")), AgentTask("no", "n", failing("no"),
                                                          retryable=False)],
        metrics, retry_config=RetryConfig(jitter=False), sleep=slept.append,
    )
    assert statuses(results) == {"yes": "completed", "no": "failed"}
    assert slept == [1, 2] and metrics.get_metrics()["retries"] == {"y": 2}


@pytest.mark.parametrize("tasks, message", [
    ([("a", ["b"]), ("b", ["a"])], "are circular"),
    ([("a", ["a"])], "are circular"),
    ([("a", ["x"])], "a.dependencies 'x': does not exist"),
    ([("a", []), ("a", [])], "is a duplicate"),
])
def test_a_graph_that_cannot_be_run_starts_nothing(metrics, tasks, message):
    journal = Journal()
    with pytest.raises(InvalidInput, match=message):
        execute([journal.task(name, dependencies=needs) for name, needs in tasks], metrics)
    assert journal.lines == []


def test_cancelled_from_outside_it_leaves_nothing_running(metrics):
    async def main():
        started, ended = asyncio.Event(), []

        async def work():
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(1)

        run = asyncio.ensure_future(
            ParallelExecutor(metrics=metrics).execute_parallel([AgentTask("a", "w", work)])
        )
        await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return ended

    assert asyncio.run(main()) == [1]


def test_nothing_to_do_is_done():
    assert asyncio.run(ParallelExecutor().execute_parallel([])) == {}
    with pytest.raises(InvalidInput, match="max_concurrent 0"):
        ParallelExecutor(0)
