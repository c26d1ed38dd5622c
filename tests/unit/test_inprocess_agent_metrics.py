import asyncio
import contextlib
import json
import logging
import threading

import pytest

from synthralos.observability import (
    JsonFormatter,
    WorkflowMetrics,
    get_metrics,
    log_structured_event,
    trace_agent_execution,
    trace_workflow_operation,
)


class Context:
    run_id = "run-7"


@pytest.fixture
def metrics():
    return WorkflowMetrics()


@pytest.fixture
def traced(metrics):
    """A decorator whose every call takes two seconds."""
    ticks = iter(range(0, 10_000, 2))
    return lambda role, **more: trace_agent_execution(
        role, metrics, now=lambda: float(next(ticks)), **more
    )


def test_a_plain_function_is_counted(metrics, traced):
    @traced("planner")
    def plan(ctx, depth=1):
        """Plans."""
        return depth

    assert plan(Context(), depth=3) == 3 and plan.__doc__ == "Plans."
    assert metrics.get_metrics()["agent_calls"] == {"planner": {
        "total": 1, "success": 1, "failed": 0, "total_duration": 2.0, "average_duration": 2.0,
        "success_rate": 1.0, "failure_rate": 0.0,
    }}


def test_an_async_function_is_counted_when_it_has_ended(metrics, traced):
    @traced("executor")
    async def execute(ctx):
        await asyncio.sleep(0)
        return "done"

    assert asyncio.iscoroutinefunction(execute)
    coroutine = execute(Context())
    assert metrics.get_metrics()["agent_calls"] == {}
    assert asyncio.run(coroutine) == "done"
    assert metrics.get_metrics()["agent_calls"]["executor"]["success"] == 1


@pytest.mark.parametrize("error", [ValueError("secret"), KeyboardInterrupt()])
def test_what_it_raises_is_raised_on_and_counted(metrics, traced, error, caplog):
    caplog.set_level(logging.INFO, "synthralos.agents")

    @traced("critic")
    def criticise(ctx):
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            criticise(Context())
        assert raised.value is error
    counts = metrics.get_metrics()["agent_calls"]["critic"]
    assert (counts["total"], counts["failed"], counts["failure_rate"]) == (2, 2, 1.0)
    assert [record.message for record in caplog.records][:2] == [
        "agent_execution_start", "agent_execution_failed"
    ]
    failed = caplog.records[1]
    assert (failed.workflow_id, failed.agent_role, failed.error, failed.duration_seconds) == (
        "run-7", "critic", type(error).__name__, 2.0
    )
    assert "secret" not in caplog.text


def test_a_call_that_is_cancelled_has_failed(metrics, traced):
    @traced("planner")
    async def plan():
        await asyncio.sleep(60)

    async def main():
        task = asyncio.ensure_future(plan())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert metrics.get_metrics()["agent_calls"]["planner"]["failed"] == 1


def test_a_span_is_open_meanwhile(metrics, traced):
    seen = []

    @contextlib.contextmanager
    def span(name, attributes):
        seen.append((name, attributes))
        yield
        seen.append("closed")

    @traced("planner", span=span)
    def plan():
        seen.append("called")

    plan()
    assert seen == [
        ("invoke_agent planner",
         {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}),
        "called", "closed",
    ]


def test_workflows_and_transitions(metrics):
    for n in range(3):
        metrics.record_workflow_start("w%d" % n, "CREATED")
        metrics.record_state_transition("CREATED", "PLANNED")
    metrics.record_state_transition("PLANNED", "CRITIQUED")
    metrics.record_workflow_complete("w0", 2.0)
    metrics.record_workflow_complete("w1", 4.0)
    # A failure's duration is no completion's: the original divided by both.
    metrics.record_workflow_failed("w2", ValueError("x"), 100.0)
    counts = metrics.get_metrics()
    assert (counts["workflows_started"], counts["workflows_completed"]) == (3, 2)
    assert (counts["workflows_failed"], counts["average_duration"]) == (1, 3.0)
    assert counts["state_transitions"] == {"CREATED->PLANNED": 3, "PLANNED->CRITIQUED": 1}


def test_what_is_given_away_is_a_copy(metrics):
    metrics.record_agent_call("a", 1.0, True)
    metrics.get_metrics()["agent_calls"]["a"]["total"] = 99
    assert metrics.get_metrics()["agent_calls"]["a"]["total"] == 1
    metrics.reset()
    assert metrics.get_metrics()["agent_calls"] == {}


def test_many_threads_lose_nothing(metrics):
    @trace_agent_execution("planner", metrics)
    def plan():
        metrics.record_state_transition("A", "B")

    threads = [threading.Thread(target=lambda: [plan() for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = metrics.get_metrics()
    assert counts["agent_calls"]["planner"]["total"] == counts["state_transitions"]["A->B"] == 4000


def test_the_process_has_one():
    @trace_agent_execution("seed_004")
    def plan():
        return 1

    plan()
    assert get_metrics() is get_metrics()
    assert get_metrics().get_metrics()["agent_calls"]["seed_004"]["total"] == 1


def test_rates_retries_and_connections(metrics):
    assert metrics.get_metrics()["success_rate"] == 0.0
    for _ in range(3):
        metrics.record_workflow_complete("w", 1.0)
    metrics.record_workflow_failed("w", "timeout", 1.0)
    metrics.record_retry("planner", 1, ConnectionError(), 2.0)
    metrics.record_connection_state("open")
    counts = metrics.get_metrics()
    assert (counts["success_rate"], counts["failure_rate"]) == (0.75, 0.25)
    assert (counts["retries"], counts["connections"]) == ({"planner": 1}, {"open": 1})


def test_events_are_lines_of_json(caplog):
    caplog.set_level(logging.INFO, "synthralos.agents")
    # `name` and `args` are logging's own.
    log_structured_event("step", "w1", name="x", args=[1], when=object)
    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert (line["event"], line["workflow_id"], line["name"], line["args"]) == (
        "step", "w1", "x", [1]
    )
    assert line["level"] == "info" and line["time"].endswith("Z") and "object" in line["when"]


def test_operations_are_logged_with_their_duration(caplog):
    caplog.set_level(logging.INFO, "synthralos.agents")
    ticks = iter([1.0, 4.0, 5.0, 9.0])
    with trace_workflow_operation("load", "w1", now=lambda: next(ticks)):
        pass
    with pytest.raises(ValueError), trace_workflow_operation("load", "w1", lambda: next(ticks)):
        raise ValueError("secret")
    assert [(record.message, getattr(record, "duration_seconds", None))
            for record in caplog.records] == [
        ("workflow_operation_start", None), ("workflow_operation_complete", 3.0),
        ("workflow_operation_start", None), ("workflow_operation_failed", 4.0),
    ]
    assert "secret" not in caplog.text


def test_a_function_that_returns_an_awaitable_is_counted_when_that_has_ended(metrics, traced):
    async def later():
        raise ValueError("later")

    @traced("planner")
    def plan():
        return later()

    awaitable = plan()
    assert metrics.get_metrics()["agent_calls"] == {}
    with pytest.raises(ValueError, match="later"):
        asyncio.run(awaitable)
    assert metrics.get_metrics()["agent_calls"]["planner"]["failed"] == 1
