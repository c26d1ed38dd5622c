"""Workflows of agents: transitions, checkpoints, recovery, versions, approval."""
import asyncio

import pytest

from synthralos.core.errors import InvalidInput
from synthralos.inprocess.circuit_breaker import CircuitBreaker, CircuitBreakerOpen
from synthralos.observability import WorkflowMetrics, trace_agent_execution
from synthralos.retry import RetryConfig
from synthralos.storage.datastore import DatastoreUnavailable
from synthralos.workflow import (
    Workflow,
    WorkflowContext,
    WorkflowState,
    advance,
    recover,
    rollback,
    run_to_completion,
)

CHAIN = ["CREATED", "PLANNED", "CRITIQUED", "APPROVED", "EXECUTING", "COMPLETED"]
PLAIN = RetryConfig(jitter=False)


class Failing:
    """An agent that raises in its first calls, and leaves its mark on the context each time."""

    def __init__(self, times, error=RuntimeError, result=None):
        self.times, self.error, self.result, self.calls = times, error, result, 0
        self.seen = []

    async def __call__(self, ctx):
        self.calls += 1
        self.seen.append(dict(ctx.metadata))
        ctx.metadata["half_done"] = self.calls
        if self.calls <= self.times:
            raise self.error("no")
        return self.result


@pytest.fixture
def metrics():
    return WorkflowMetrics()


@pytest.fixture
def slept():
    return []


@pytest.fixture
def make(clock, datastore, metrics, slept):
    """make(**agents) -> Workflow, whose sleeping moves the clock."""

    def sleep(seconds):
        slept.append(seconds)
        clock.forward(seconds)

    def build(**agents):
        options = {
            "planner": lambda ctx: {"steps": ["a"]},
            "critic": lambda ctx: {"approved": True},
            "hitl": lambda ctx: True,
            "executor": lambda ctx: {"status": "done"},
            "datastore": datastore, "metrics": metrics, "now": clock, "monotonic": clock,
            "sleep": sleep, "draw": lambda: 0.5,
        }
        options.update(agents)
        return Workflow(**options)

    return build


def run(ctx, **options):
    return asyncio.run(run_to_completion(ctx, **options))


def states(ctx):
    return [ctx.state_history[0]["from"]] + [entry["to"] for entry in ctx.state_history]


def test_one_call_is_one_transition(make):
    ctx = make().create_context({"prompt": "x"})

    async def main():
        for expected in CHAIN[1:]:
            assert await advance(ctx) is ctx
            assert (str(ctx.state), ctx.locked) == (expected, False)

    asyncio.run(main())
    assert states(ctx) == CHAIN and ctx.version == 6
    assert (ctx.plan, ctx.critique, ctx.result) == (
        {"steps": ["a"]}, {"approved": True}, {"status": "done"}
    )
    before = ctx.to_dict()
    assert asyncio.run(advance(ctx)).to_dict() == before


def test_a_retry_begins_from_the_checkpoint_and_waits_longer_each_time(make, slept, metrics):
    planner = Failing(2, result={"steps": []})
    ctx = run(make(planner=planner).create_context({"items": [1]}), retry_config=PLAIN)
    assert ctx.state is WorkflowState.COMPLETED and ctx.error is None
    assert planner.seen == [{}, {}, {}] and slept == [1, 2]
    assert ctx.state_history[0]["retry_count"] == 2 and ctx.retry_count == 0
    counts = metrics.get_metrics()
    assert counts["retries"] == {"planner": 2}
    assert (counts["agent_calls"]["planner"]["failed"], counts["workflows_failed"]) == (2, 0)


def test_exhausted_retries_fail_and_recover_leads_back(make, metrics):
    critic = Failing(3, result={"approved": True})
    ctx = run(make(critic=critic).create_context(), retry_config=PLAIN)
    assert (str(ctx.state), ctx.error, ctx.retry_count) == ("FAILED", "RuntimeError: no", 3)
    assert ctx.plan == {"steps": ["a"]} and ctx.metadata == {}
    assert states(ctx)[-2:] == ["PLANNED", "FAILED"]
    assert metrics.get_metrics()["workflows_failed"] == 1

    recover(ctx)
    assert (str(ctx.state), ctx.error, ctx.retry_count) == ("PLANNED", None, 0)
    assert str(run(ctx, retry_config=PLAIN).state) == "COMPLETED"
    assert metrics.get_metrics()["state_transitions"]["FAILED->PLANNED"] == 1
    with pytest.raises(InvalidInput, match="must be FAILED"):
        recover(ctx)


def test_exceptions_that_the_config_names_are_the_only_ones_retried(make):
    planner = Failing(1, ValueError)
    config = RetryConfig(retryable_exceptions=(ConnectionError,))
    ctx = run(make(planner=planner).create_context(), retry_config=config)
    assert (str(ctx.state), planner.calls) == ("FAILED", 1)


def test_a_version_can_be_rolled_back_to(make):
    plans = iter([{"n": 1}, {"n": 2}])
    ctx = make(planner=lambda ctx: next(plans)).create_context()
    run(ctx)
    rollback(ctx, 1)
    assert (str(ctx.state), ctx.plan, ctx.result, ctx.version) == ("CREATED", None, None, 7)
    run(ctx)
    assert (str(ctx.state), ctx.plan, ctx.version) == ("COMPLETED", {"n": 2}, 12)
    rollback(ctx, 2)
    assert (str(ctx.state), ctx.plan) == ("PLANNED", {"n": 1})
    with pytest.raises(InvalidInput, match="version 99: is not stored"):
        rollback(ctx, 99)


@pytest.mark.parametrize("decision, state", [(True, "COMPLETED"), (False, "FAILED"),
                                             (None, "CRITIQUED")])
def test_a_person_decides(make, decision, state):
    ctx = run(make(hitl=lambda ctx: decision).create_context())
    assert str(ctx.state) == state
    assert decision is not False or ctx.error.startswith("Rejected")


@pytest.mark.parametrize("decision", [{"approved": False}, "no", 1])
def test_what_is_no_decision_approves_nothing(make, decision):
    ctx = run(make(hitl=lambda ctx: decision).create_context())
    assert str(ctx.state) == "FAILED" and "must be True, False or None" in ctx.error
    assert ctx.result is None


def test_without_a_person_it_waits_for_the_argument(make):
    updates = []
    ctx = run(make(hitl=None).create_context(), broadcast_update=updates.append)
    assert (str(ctx.state), ctx.locked) == ("CRITIQUED", False)
    assert updates[-1] == {
        "run_id": ctx.run_id, "state": "CRITIQUED", "message": "Waiting for human approval",
        "requires_approval": True,
    }
    assert str(run(ctx, human_approved=True).state) == "COMPLETED"


def test_asking_again_and_again_does_not_push_versions_out(make, datastore):
    ctx = make(hitl=lambda ctx: None).create_context()
    run(ctx)
    stored = len(datastore.names())
    for _ in range(300):
        run(ctx)
    assert len(datastore.names()) == stored and 1 in ctx.versions


def test_a_locked_context_is_left_alone(make):
    async def main():
        gate = asyncio.Event()

        async def plan(ctx):
            await gate.wait()
            return {"steps": []}

        ctx = make(planner=plan).create_context()
        first = asyncio.ensure_future(advance(ctx))
        await asyncio.sleep(0)
        assert ctx.locked
        assert (await advance(ctx)).state is WorkflowState.CREATED
        with pytest.raises(InvalidInput, match="is being advanced"):
            rollback(ctx, 1)
        gate.set()
        await first
        return ctx

    assert str(asyncio.run(main()).state) == "PLANNED"


def test_a_cancelled_transition_leaves_the_context_as_it_was(make):
    async def main():
        async def plan(ctx):
            ctx.metadata["half_done"] = True
            await asyncio.sleep(3600)

        ctx = make(planner=plan).create_context()
        task = asyncio.ensure_future(advance(ctx))
        while not ctx.metadata:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ctx

    ctx = asyncio.run(main())
    assert (str(ctx.state), ctx.metadata, ctx.locked) == ("CREATED", {}, False)


def test_another_process_goes_on_from_the_datastore(make):
    workflow = make()
    ctx = workflow.create_context({"prompt": "x"})
    asyncio.run(advance(ctx))
    loaded = make().load_context(ctx.run_id)
    assert loaded.plan == {"steps": ["a"]} and str(loaded.state) == "PLANNED"
    assert states(loaded) == ["CREATED", "PLANNED"]
    assert str(run(loaded).state) == "COMPLETED" and str(ctx.state) == "PLANNED"
    rollback(loaded, 1)
    with pytest.raises(InvalidInput, match="no intact checkpoint"):
        workflow.load_context("nobody")


def test_another_process_recovers_a_failed_run(make):
    ctx = run(make(critic=Failing(99)).create_context(), retry_config=PLAIN)
    loaded = make().load_context(ctx.run_id)
    assert (str(loaded.state), loaded.error) == ("FAILED", "RuntimeError: no")
    assert str(run(recover(loaded)).state) == "COMPLETED"
    # A version that had failed is a failed one again.
    rollback(loaded, ctx.version)
    assert (str(loaded.state), loaded.error) == ("FAILED", "RuntimeError: no")
    assert str(recover(loaded).state) == "PLANNED"


def test_a_context_survives_its_dict(make):
    ctx = run(make().create_context({"prompt": "x"}))
    again = WorkflowContext.from_dict(ctx.to_dict())
    assert again == ctx and again.to_dict() == ctx.to_dict()
    with pytest.raises(InvalidInput, match="is missing in the context"):
        asyncio.run(advance(WorkflowContext()))


def test_no_agent_runs_without_a_checkpoint(make, datastore):
    planner = Failing(0)
    ctx = make(planner=planner).create_context()
    datastore.away = True
    with pytest.raises(DatastoreUnavailable):
        asyncio.run(advance(ctx))
    assert (planner.calls, str(ctx.state), ctx.locked) == (0, "CREATED", False)
    datastore.away = ()
    assert str(asyncio.run(advance(ctx)).state) == "PLANNED"


def test_a_datastore_that_goes_away_later_loses_no_result(make, datastore):
    def plan(ctx):
        datastore.away = True
        return {"steps": [1]}

    ctx = asyncio.run(advance(make(planner=plan).create_context()))
    assert (str(ctx.state), ctx.plan) == ("PLANNED", {"steps": [1]})


def test_a_failure_without_the_datastore_is_still_one(make, datastore):
    def plan(ctx):
        datastore.away = True
        raise RuntimeError("no")

    ctx = asyncio.run(advance(make(planner=plan).create_context(), retry_config=PLAIN))
    assert str(ctx.state) == "FAILED" and ctx.error
    datastore.away = ()
    assert str(recover(ctx).state) == "CREATED"


def test_a_cancellation_without_the_datastore_is_still_one(make, datastore):
    async def main():
        async def plan(ctx):
            datastore.away = True
            await asyncio.sleep(3600)

        task = asyncio.ensure_future(advance(make(planner=plan).create_context()))
        while not datastore.away:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_is_not_json_names_its_field(make):
    ctx = run(make(planner=lambda ctx: {"when": object()}).create_context())
    assert str(ctx.state) == "FAILED" and "plan" in ctx.error
    with pytest.raises(InvalidInput, match="input_data"):
        run(make().create_context({"x": {1, 2}}))


def test_a_missing_agent_is_named(make):
    with pytest.raises(InvalidInput, match="critic: is not registered"):
        run(make(critic=None).create_context())
    with pytest.raises(InvalidInput, match="is not a role"):
        make().register("painter", print)
    with pytest.raises(InvalidInput, match="must be callable"):
        make().register("critic", "x")


def test_a_traced_agent_is_counted_once(make, metrics):
    @trace_agent_execution("planner", metrics)
    async def plan(ctx):
        ctx.plan = {"own": 1}

    ctx = run(make(planner=plan).create_context())
    assert ctx.plan == {"own": 1}
    assert {role: calls["total"] for role, calls in metrics.get_metrics()["agent_calls"].items()} \
        == {"planner": 1, "critic": 1, "hitl": 1, "executor": 1}


def test_an_open_breaker_keeps_an_agent_from_being_called(make):
    executor = Failing(99)
    workflow = make(
        executor=executor,
        make_circuit_breaker=lambda: CircuitBreaker(failure_threshold=2, recovery_timeout=3600),
    )
    ctx = run(workflow.create_context(), retry_config=RetryConfig(max_attempts=4, jitter=False))
    assert executor.calls == 2 and workflow.circuit_breakers["executor"].state == "open"
    assert ctx.error.startswith(CircuitBreakerOpen.__name__)
    # The breaker is of the agent, not of the run: another run is spared too.
    other = run(workflow.create_context(), retry_config=PLAIN)
    assert (executor.calls, str(other.state)) == (2, "FAILED")


def test_a_broken_listener_changes_nothing(make):
    def broadcast(update):
        raise OSError("gone")

    ctx = run(make().create_context(), broadcast_update=broadcast)
    assert str(ctx.state) == "COMPLETED"


def test_metrics_of_workflows(make, metrics, clock):
    def execute(ctx):
        clock.forward(8)
        return {}

    run(make(executor=execute).create_context())
    counts = metrics.get_metrics()
    assert (counts["workflows_started"], counts["workflows_completed"]) == (1, 1)
    assert counts["average_duration"] == 8 and counts["success_rate"] == 1.0
    assert counts["agent_calls"]["executor"]["average_duration"] == 8
    assert counts["state_transitions"] == {
        "%s->%s" % pair: 1 for pair in zip(CHAIN, CHAIN[1:])
    }
