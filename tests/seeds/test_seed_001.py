"""Document 001, "Agentic Workflow Improvements": its blocks are executed, its promises checked.

`app.orchestration.retry` and `.observability` are synthralos.retry and .observability; TypeScript
is the same call in Python, against servers on loopback that drop connections.
"""
import ast
import asyncio
import contextlib
import http.server
import inspect
import io
import itertools
import json
import logging
import re
import sys
import threading
import types

import pytest
import seed_documents
from fixtures.waiting import at_least, limit_under_test, until
from seed_documents import block, covers

from synthralos import observability, retry
from synthralos.observability import (
    JsonFormatter,
    WorkflowMetrics,
    get_metrics,
    trace_agent_execution,
)
from synthralos.retry import CircuitBreaker, CircuitBreakerOpen, RetryConfig, retryable
from synthralos.storage.datastore import MemoryDatastore
from synthralos.streaming import ConnectionState, EnhancedSSEClient
from synthralos.workflow import (
    AgentTask,
    ParallelExecutor,
    Workflow,
    WorkflowContext,
    advance,
    recover,
    rollback,
    run_to_completion,
)

PATIENCE_SECONDS = 60
CHAIN = ["CREATED", "PLANNED", "CRITIQUED", "APPROVED", "EXECUTING", "COMPLETED"]
BULLET = re.compile(r"(?:- |\d\. )(?:✅ )?(?:\*\*(.+?)\*\*: )?(.+)")
# Plans (196-198), steps of the guide whose code block is executed, and the summary.
NOT_PROMISED = set(range(196, 199)) | {205, 211, 218, 226} | set(range(258, 263))


# The code blocks


@pytest.fixture
def app(monkeypatch):
    """The package `app.orchestration`, as the document's program has it."""
    names = ("app", "app.orchestration")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "app.orchestration.retry", retry)
    monkeypatch.setitem(sys.modules, "app.orchestration.observability", observability)


def execute(line, **names):
    """Execute the block at `line`, with `await` at its top; return its names."""
    python = block("001", line)
    code = compile(python.text, python.id, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def run():
        # With a loop, for the block may call what looks for one.
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result

    asyncio.run(run())
    return names


@covers("001", 21)
@pytest.mark.parametrize("is_async", [True, False])
def test_001_21_retry_with_backoff(app, is_async):
    calls = []

    def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("no")
        return "an answer"

    async def fail_once_async():
        return fail_once()

    names = execute(21, my_agent_function=fail_once_async if is_async else fail_once)
    assert (names["result"], len(calls)) == ("an answer", 2)
    config = names["config"]
    assert (config.max_attempts, config.initial_delay) == (5, 1.0)


@covers("001", 78)
def test_001_78_trace_agent_execution_and_get_metrics(app, capsys):
    get_metrics().reset()
    names = execute(78)
    assert "'agent_calls': {}" in capsys.readouterr().out
    assert names["metrics"] is get_metrics()
    asyncio.run(names["planner_agent"](WorkflowContext()))
    calls = get_metrics().get_metrics()["agent_calls"]["planner"]
    assert (calls["total"], calls["success"], calls["success_rate"]) == (1, 1, 1.0)


@covers("001", 174)
def test_001_174_retry_configuration():
    text = block("001", 174).text
    config = eval(text, {"RetryConfig": RetryConfig})
    assert config == RetryConfig(), "the document shows the defaults"
    whole = RetryConfig(jitter=False)
    assert [whole.delay(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert config.delay(3, lambda: 0.0) == 3.0 and config.delay(3, lambda: 1.0) == 5.0


@covers("001", 206)
def test_001_206_import_new_modules(app):
    names = execute(206)
    assert names["RetryConfig"] is RetryConfig
    assert names["trace_agent_execution"] is trace_agent_execution
    assert names["retry_with_backoff"] is retry.retry_with_backoff


@covers("001", 212)
def test_001_212_use_decorators_for_agents():
    get_metrics().reset()
    names = execute(212, trace_agent_execution=trace_agent_execution)
    assert inspect.iscoroutinefunction(names["my_agent"])
    asyncio.run(names["my_agent"](WorkflowContext()))
    assert get_metrics().get_metrics()["agent_calls"]["agent_name"]["success"] == 1


@covers("001", 219)
def test_001_219_configure_retry_in_the_orchestrator():
    world = World(planner=Failing(4, {"steps": []}))
    ctx = world.context()
    names = execute(219, RetryConfig=RetryConfig, advance=advance, ctx=ctx)
    assert names["ctx"] is ctx and str(ctx.state) == "PLANNED"
    assert ctx.state_history[0]["retry_count"] == 4 and len(world.slept) == 4


# The diagrams


def leaves_of_tree(text):
    """{branch: leaves} of a tree drawn with box characters, two levels deep."""
    branches, branch = {}, None
    for line in text.splitlines()[1:]:
        name = line.lstrip("│├└─ ")
        if line.startswith(("├", "└")):
            branch = branches.setdefault(name, [])
        else:
            branch.append(name)
    return branches


@covers("001", 127)
def test_001_127_architecture():
    text = block("001", 127).text
    assert text.splitlines()[0] == WorkflowContext.__name__
    tree = leaves_of_tree(text)
    components = {
        "State Management": {
            "Current State": transitions_follow_the_chain,
            "State History": transitions_follow_the_chain,
            "Checkpoints": checkpoints_precede_every_agent,
        },
        "Error Recovery": {
            "Retry Count": retry_count_meets_max_attempts,
            "Checkpoint Restoration": every_attempt_begins_from_the_checkpoint,
            "Circuit Breaker": open_breakers_spare_the_agent,
        },
        "Observability": {
            "Structured Logging": every_log_record_has_the_same_form,
            "Metrics Collection": metrics_count_workflows_and_agents,
            "Execution Tracing": durations_are_measured,
        },
        "Execution": {
            "Sequential Agents": agents_run_in_sequence,
            "Parallel Tasks": independent_tasks_take_the_time_of_the_longest,
            "State Transitions": transitions_follow_the_chain,
        },
    }
    assert {branch: set(leaves) for branch, leaves in tree.items()} == {
        branch: set(leaves) for branch, leaves in components.items()
    }
    for leaves in components.values():
        for check in leaves.values():
            check()


@covers("001", 149)
def test_001_149_flow():
    text = block("001", 149).text
    steps = re.findall(r"\[\w+\]|[A-Z]{5,}", text.splitlines()[0])
    world = World()
    world.run()
    transitions = [(entry["from"], entry["to"]) for entry in world.ctx.state_history]
    agents = iter(world.calls)
    drawn = [transitions[0][0]]
    for source, target in transitions:
        # EXECUTING -> COMPLETED has no agent.
        if (source, target) != ("EXECUTING", "COMPLETED"):
            role = next(agents)
            drawn.append("[%s]" % (role.upper() if role == "hitl" else role.capitalize()))
        drawn.append(target)
    assert drawn == steps and next(agents, None) is None

    assert "FAILED (with recovery)" in text
    failed = World(executor=Failing(3, {}))
    assert str(failed.run().state) == "FAILED"
    recover(failed.ctx)
    assert str(failed.run().state) == "COMPLETED"


@covers("001", 185)
def test_001_185_sse_configuration():
    typescript = block("001", 185).text
    options = json.loads(re.sub(r"(\w+):", r'"\1":', typescript))
    client = EnhancedSSEClient(options, url="http://127.0.0.1:9/stream")
    assert (
        client.options.reconnect_interval_ms, client.options.max_reconnect_attempts,
        client.options.heartbeat_interval_ms,
    ) == (3000, 10, 30000)
    assert client.options == EnhancedSSEClient(url="http://127.0.0.1:9/stream").options


@covers("001", 227)
def test_001_227_use_the_enhanced_sse_client(events_server):
    typescript = block("001", 227).text
    assert re.search(r"import \{ (\w+) \}", typescript).group(1) == EnhancedSSEClient.__name__
    url = re.search(r"url: `(.+)`", typescript).group(1).replace("${runId}", "run-7")
    call = re.search(r"^sse\.(\w+)\(\);$", typescript, re.M).group(1)

    # It drops the connection after every event.
    server = events_server([b"id: 1\ndata: PLANNED\n\n"], [b"id: 2\ndata: CRITIQUED\n\n"])
    messages = []
    sse = EnhancedSSEClient({
        "url": url, "baseUrl": server.address, "reconnectInterval": 20,
        "onMessage": lambda event: messages.append(event.data),
    })
    getattr(sse, call)()
    try:
        until(lambda: len(messages) == 2, seconds=PATIENCE_SECONDS)
    finally:
        sse.close()
        assert sse.join(PATIENCE_SECONDS)
    assert messages == ["PLANNED", "CRITIQUED"]
    assert [path for path, _ in server.requests[:2]] == ["/api/runs/run-7/stream"] * 2
    assert [last_id for _, last_id in server.requests[:2]] == [None, "1"]


# The promises


class Failing:
    """An agent that raises in its first `times` calls, having changed the context each time."""

    def __init__(self, times, result=None, error=RuntimeError):
        self.times, self.result, self.error = times, result, error
        self.calls, self.metadata = 0, []

    async def __call__(self, ctx):
        self.calls += 1
        self.metadata.append(dict(ctx.metadata))
        ctx.metadata["half_done"] = self.calls
        if self.calls <= self.times:
            raise self.error("no")
        return self.result


class World:
    """A workflow with a clock that only its waits, and agents that work, move forward.

    :ivar calls: the roles of the agents, in the order of their calls; slept: seconds.
    """

    def __init__(self, make_circuit_breaker=None, **agents):
        self.now, self.slept, self.calls = 1_700_000_000.0, [], []
        self.metrics, self.ctx = WorkflowMetrics(), None
        self.datastore = MemoryDatastore(self.clock)
        results = {"planner": {"steps": []}, "critic": {"approved": True}, "hitl": True,
                   "executor": {"status": "completed"}}
        self.workflow = Workflow(
            datastore=self.datastore, metrics=self.metrics, now=self.clock, monotonic=self.clock,
            sleep=self.sleep, draw=lambda: 0.5, make_circuit_breaker=make_circuit_breaker,
            **{role: self._agent(role, agents.get(role, lambda ctx, role=role: results[role]))
               for role in results},
        )

    def _agent(self, role, agent):
        async def call(ctx):
            self.calls.append(role)
            self.now += 2
            result = agent(ctx)
            return await result if inspect.isawaitable(result) else result

        return call

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def context(self):
        self.ctx = self.workflow.create_context({"prompt": "x"})
        return self.ctx

    def run(self, **config):
        """Run the context to its end, or to its failure."""
        retry_config = RetryConfig(**dict({"jitter": False}, **config))
        ctx = self.ctx or self.context()
        return asyncio.run(run_to_completion(ctx, retry_config=retry_config))


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self):
        self.now = 0.0
        super().__init__()

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def virtual_run(tasks, **options):
    """(results, virtual clock at the end) of these tasks in an event loop with virtual time."""
    loop = VirtualTimeLoop()
    try:
        executor = ParallelExecutor(metrics=WorkflowMetrics(), **options)
        results = loop.run_until_complete(executor.execute_parallel(tasks))
        return results, loop.now
    finally:
        loop.close()


def sleeping_task(name, work_units=10, journal=None, **options):
    async def work():
        if journal is not None:
            journal.append(name)
        await asyncio.sleep(work_units)
        return name

    return AgentTask(name, "worker", work, **options)


@contextlib.contextmanager
def log_lines():
    """The events of the block, as JsonFormatter writes them."""
    stream, lines = io.StringIO(), []
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(observability.LOGGER_NAME)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def delays_grow_and_are_jittered():
    slept, calls = [], itertools.count()

    def fail():
        next(calls)
        raise ConnectionError("no")

    for draw, expected in ((0.5, [1, 2, 4, 5]), (1.0, [1.25, 2.5, 5, 5])):
        del slept[:]
        with pytest.raises(ConnectionError):
            retry.retry_with_backoff(
                fail, RetryConfig(max_attempts=5, max_delay=5), sleep=slept.append,
                draw=lambda draw=draw: draw,
            )
        assert slept == expected
    assert next(calls) == 10


def open_breakers_spare_the_agent():
    executor = Failing(99)
    world = World(lambda: CircuitBreaker(failure_threshold=2, recovery_timeout=1e9),
                  executor=executor)
    world.run(max_attempts=4)
    assert executor.calls == 2 and world.ctx.error.startswith(CircuitBreakerOpen.__name__)


def operations_have_policies_of_their_own():
    calls = []

    def fail(error):
        calls.append(1)
        raise error("no")

    for config, error, expected in (
        (RetryConfig(max_attempts=1), ConnectionError, 1),
        (RetryConfig(max_attempts=4), ConnectionError, 4),
        (RetryConfig(retryable_exceptions=(KeyError,)), KeyError, 3),
        (RetryConfig(retryable_exceptions=(KeyError,)), ConnectionError, 1),
    ):
        del calls[:]
        with pytest.raises(error):
            retry.retry_with_backoff(
                lambda error=error: fail(error), config, sleep=lambda seconds: None
            )
        assert len(calls) == expected


def decorated_functions_are_retried():
    failures = [ConnectionError("no"), ConnectionError("no")]
    slept = []

    @retryable(RetryConfig(jitter=False), sleep=slept.append)
    async def add(a, b):
        if failures:
            raise failures.pop()
        return a + b

    assert asyncio.run(add(1, b=2)) == 3 and slept == [1, 2]


def checkpoints_precede_every_agent():
    stored = {}

    def recording(role):
        def agent(ctx):
            stored[role] = dict(ctx.checkpoints)
            # What the checkpoint holds can be read before the agent has done anything.
            other = WorkflowContext.from_dict(ctx.to_dict(), ctx.workflow)
            other.restore_checkpoint(
                list(ctx.checkpoints)[-1], ctx.workflow.datastore, ctx.workflow.now()
            )
            assert other.state == ctx.state
            return True if role == "hitl" else {"role": role}

        return agent

    world = World(**{role: recording(role) for role in ("planner", "critic", "hitl", "executor")})
    assert str(world.run().state) == "COMPLETED"
    expected = zip(["planner", "critic", "hitl", "executor"], CHAIN[1:])
    for role, target in expected:
        assert "pre_" + target in stored[role]


def checkpoints_are_created_and_restored():
    world = World()
    world.run()
    ctx = world.ctx
    ctx.restore_checkpoint("pre_CRITIQUED", world.datastore, world.clock())
    assert (str(ctx.state), ctx.plan, ctx.critique) == ("PLANNED", {"steps": []}, None)


def transitions_follow_the_chain():
    world = World()
    world.run()
    history = world.ctx.state_history
    assert [history[0]["from"]] + [entry["to"] for entry in history] == CHAIN
    assert str(world.ctx.state) == "COMPLETED"


def history_is_an_audit_trail():
    world = World(critic=Failing(9, {}))
    world.run()
    recover(world.ctx)
    trail = [
        (entry["from"], entry["to"], entry["retry_count"]) for entry in world.ctx.state_history
    ]
    assert trail == [
        ("CREATED", "PLANNED", 0), ("PLANNED", "FAILED", 3), ("FAILED", "PLANNED", 0),
    ]
    times = [entry["timestamp"] for entry in world.ctx.state_history]
    assert times == sorted(times) and all(time.endswith("Z") for time in times)
    assert WorkflowContext.from_dict(world.ctx.to_dict()).state_history == world.ctx.state_history


def every_attempt_begins_from_the_checkpoint():
    critic = Failing(2, {"approved": True})
    world = World(critic=critic)
    assert str(world.run().state) == "COMPLETED"
    assert critic.metadata == [{}, {}, {}] and world.slept == [1, 2]


def failed_workflows_are_recovered():
    world = World(executor=Failing(3, {"status": "completed"}))
    assert str(world.run().state) == "FAILED"
    assert str(recover(world.ctx).state) == "APPROVED"
    assert str(world.run().state) == "COMPLETED"


def versions_are_tracked_and_rolled_back_to():
    world = World()
    world.run()
    versions = [entry["version"] for entry in world.ctx.state_history]
    assert versions == [2, 3, 4, 5, 6] and world.ctx.version == 6
    assert set(world.ctx.versions) == {1, 2, 3, 4, 5, 6}
    rollback(world.ctx, 2)
    assert (str(world.ctx.state), world.ctx.critique, world.ctx.version) == ("PLANNED", None, 7)
    assert str(world.run().state) == "COMPLETED"


def states_survive_the_process():
    world = World()
    asyncio.run(advance(world.context()))
    successor = World()
    successor.workflow.datastore = world.datastore
    successor.ctx = successor.workflow.load_context(world.ctx.run_id)
    assert str(successor.run().state) == "COMPLETED"
    assert successor.calls == ["critic", "hitl", "executor"]


def agents_run_in_sequence():
    world = World()
    world.run()
    assert world.calls == ["planner", "critic", "hitl", "executor"]


def retry_count_meets_max_attempts():
    seen = []

    def plan(ctx):
        seen.append(ctx.retry_count)
        raise RuntimeError("no")

    world = World(planner=plan)
    world.run(max_attempts=4)
    assert seen == [0, 1, 2, 3] and world.ctx.retry_count == 4
    assert str(world.ctx.state) == "FAILED"


def errors_are_caught_and_named():
    world = World(planner=Failing(9, error=ZeroDivisionError))
    world.run()
    assert (str(world.ctx.state), world.ctx.error) == ("FAILED", "ZeroDivisionError: no")
    assert not world.ctx.locked


def waits_grow_between_attempts():
    world = World(planner=Failing(4, {}))
    assert str(world.run(max_attempts=5).state) == "COMPLETED"
    assert world.slept == [1, 2, 4, 8]


def metrics_count_workflows_and_agents():
    world = World(executor=Failing(3, {}))
    world.run()
    world.context()
    world.run()
    metrics = world.metrics.get_metrics()
    assert (metrics["workflows_started"], metrics["workflows_completed"],
            metrics["workflows_failed"]) == (2, 1, 1)
    assert (metrics["success_rate"], metrics["failure_rate"]) == (0.5, 0.5)
    executor = metrics["agent_calls"]["executor"]
    assert (executor["total"], executor["success"], executor["failed"]) == (4, 1, 3)
    assert (executor["success_rate"], executor["failure_rate"]) == (0.25, 0.75)


def durations_are_measured():
    world = World()
    world.run()
    metrics = world.metrics.get_metrics()
    assert metrics["average_duration"] == 8
    assert {calls["average_duration"] for calls in metrics["agent_calls"].values()} == {2.0}


def transitions_are_counted():
    world = World(critic=Failing(3, {}))
    world.run()
    recover(world.ctx)
    world.run()
    transitions = world.metrics.get_metrics()["state_transitions"]
    assert transitions == dict(
        {"%s->%s" % pair: 1 for pair in zip(CHAIN, CHAIN[1:])},
        **{"PLANNED->FAILED": 1, "FAILED->PLANNED": 1},
    )


def retries_are_counted():
    world = World(critic=Failing(2, {}), executor=Failing(1, {}))
    world.run()
    assert world.metrics.get_metrics()["retries"] == {"critic": 2, "executor": 1}


def every_log_record_has_the_same_form():
    def fail():
        raise ConnectionError("no")

    with log_lines() as lines:
        World(critic=Failing(1, {})).run()
        with pytest.raises(ConnectionError):
            retry.retry_with_backoff(fail, sleep=lambda seconds: None)
    for line in lines:
        assert {"time", "level", "event"} <= set(line) and isinstance(line["event"], str)
    events = {line["event"] for line in lines}
    assert {"workflow_start", "checkpoint_created", "agent_execution_start", "retry",
            "checkpoint_restored", "state_transition", "workflow_complete"} <= events
    about_a_workflow = [line for line in lines if line["event"] != "retry"]
    assert len({line["workflow_id"] for line in about_a_workflow}) == 1


def failures_are_logged_with_their_context():
    with log_lines() as lines:
        world = World(executor=Failing(3))
        world.run()
    failed = [line for line in lines if line["event"] == "agent_execution_failed"]
    assert [(line["agent_role"], line["workflow_id"], line["error"], line["duration_seconds"])
            for line in failed] == [("executor", world.ctx.run_id, "RuntimeError", 2.0)] * 3
    [end] = [line for line in lines if line["event"] == "workflow_failed"]
    assert (end["level"], end["error"]) == ("error", "RuntimeError")


def agents_are_traced_without_a_decorator():
    world = World()
    world.run()
    calls = world.metrics.get_metrics()["agent_calls"]
    assert {role: count["total"] for role, count in calls.items()} == {
        "planner": 1, "critic": 1, "hitl": 1, "executor": 1
    }


def agents_are_spans_of_a_trace():
    spans = []

    @contextlib.contextmanager
    def span(name, attributes):
        spans.append(attributes["gen_ai.agent.name"])
        yield

    workflow = Workflow(
        planner=lambda ctx: {}, critic=lambda ctx: {}, hitl=lambda ctx: True,
        executor=lambda ctx: {}, span=span, metrics=WorkflowMetrics(),
    )
    asyncio.run(run_to_completion(workflow.create_context()))
    assert spans == ["planner", "critic", "hitl", "executor"]


def programs_log_events_of_their_own():
    with log_lines() as lines:
        observability.log_structured_event("budget_checked", "run-7", cost_usd=0.05)
    [line] = lines
    assert (line["event"], line["workflow_id"], line["cost_usd"]) == (
        "budget_checked", "run-7", 0.05
    )


def dependencies_are_resolved():
    journal = []
    tasks = [
        sleeping_task("report", journal=journal, dependencies=["analyse", "check"]),
        sleeping_task("check", journal=journal, dependencies=["fetch"]),
        sleeping_task("analyse", journal=journal, dependencies=["fetch"]),
        sleeping_task("fetch", journal=journal),
    ]
    results, clock = virtual_run(tasks)
    assert journal[0] == "fetch" and journal[-1] == "report" and len(journal) == 4
    assert clock == 30 and {result["status"] for result in results.values()} == {"completed"}


def independent_tasks_take_the_time_of_the_longest():
    tasks = [sleeping_task("t%d" % n, work_units=n) for n in (10, 20, 30)]
    assert virtual_run(tasks, max_concurrent=3)[1] == 30
    assert virtual_run(tasks, max_concurrent=1)[1] == 60


def places_are_never_idle():
    # In waves it would take 10 + 10 seconds: `next` need not wait for `long`.
    tasks = [
        sleeping_task("long", 10), sleeping_task("short", 1),
        sleeping_task("next", 9, dependencies=["short"]),
    ]
    assert virtual_run(tasks, max_concurrent=2)[1] == 10


def priorities_come_first():
    journal = []
    tasks = [sleeping_task("p%d" % n, journal=journal, priority=n) for n in (1, 5, 3)]
    virtual_run(tasks, max_concurrent=1)
    assert journal == ["p5", "p3", "p1"]


def timeouts_are_per_task():
    tasks = [
        sleeping_task("hung", 3600, timeout=limit_under_test(5)),
        sleeping_task("slow", 60, timeout=90),
        sleeping_task("after_hung", dependencies=["hung"]),
    ]
    results, clock = virtual_run(tasks)
    assert {name: result["status"] for name, result in results.items()} == {
        "hung": "timeout", "slow": "completed", "after_hung": "skipped",
    }
    assert clock == 60


def agents_run_parallel_tasks():
    async def execute(ctx):
        results = await ctx.workflow.parallel_executor().execute_parallel(
            [sleeping_task(name, 0) for name in "ab"]
        )
        return {name: result["status"] for name, result in results.items()}

    assert World(executor=execute).run().result == {"a": "completed", "b": "completed"}


class EventsServer(http.server.ThreadingHTTPServer):
    """Gives each connection its script, then drops it; a number is seconds to be silent, up to the
    end of the test. Connections beyond the scripts are answered 204.

    :ivar requests: (path, Last-Event-ID) of each connection.
    """

    daemon_threads = True

    def __init__(self, scripts):
        super().__init__(("127.0.0.1", 0), _EventsHandler)
        self.scripts, self.requests, self.stopping = list(scripts), [], threading.Event()
        self.address = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.stopping.set()
        self.shutdown()
        self.server_close()


class _EventsHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Last-Event-ID"]))
        script = self.server.scripts.pop(0) if self.server.scripts else None
        self.send_response(204 if script is None else 200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in script or ():
            if isinstance(piece, bytes):
                self.wfile.write(piece)
                self.wfile.flush()
            else:
                self.server.stopping.wait(piece)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def events_server():
    with events_servers() as start:
        yield start


@contextlib.contextmanager
def events_servers():
    """start(*scripts) -> EventsServer."""
    servers = []

    def start(*scripts):
        servers.append(EventsServer(scripts))
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            server.stop()


def listen(*scripts, address=None, metrics=None, **options):
    """(client, lines, waits, log lines) of a client that has ended by itself."""
    lines, waits, metrics = [], [], metrics or WorkflowMetrics()
    options = dict({
        "onMessage": lambda event: lines.append(event.data),
        "onError": lambda error: lines.append("error"), "onOpen": lambda: lines.append("open"),
        "onClose": lambda: lines.append("close"), "onReconnect": lines.append,
    }, **options)
    with events_servers() as start, log_lines() as log:
        url = (address or start(*scripts).address) + "/stream"
        client = EnhancedSSEClient(
            options, url=url, wait=waits.append, draw=lambda: 0.5, metrics=metrics
        )
        client.connect()
        assert client.join(PATIENCE_SECONDS)
    return client, lines, waits, log


def address_of_a_stopped_server():
    with events_servers() as start:
        return start().address


def connections_are_opened_again():
    client, lines, waits, _ = listen([b"data: a\n\n"], [], [b"data: b\n\n"])
    assert lines == ["open", "a", "error", 1, "open", "error", 2, "open", "b", "error", 1, "close"]
    assert waits == [3, 6, 3]


def lost_servers_are_given_up_after_ten_attempts():
    address = address_of_a_stopped_server()
    client, _, waits, _ = listen(address=address)
    assert len(waits) == 10 and client.state is ConnectionState.FAILED
    assert waits == sorted(waits) and waits[:5] == [3, 6, 12, 24, 48]
    assert len(listen(address=address, maxReconnectAttempts=2)[2]) == 2


def dead_connections_are_detected():
    # A connection is dead after twice the interval without a byte.
    client, lines, waits, log = at_least(
        3, lambda: listen([b"data: a\n\n", 3600], heartbeatInterval=1500)
    )
    assert lines == ["open", "a", "error", 1, "close"] and waits == [3]
    assert "timeout" in [line.get("cause") for line in log]


def heartbeats_keep_connections():
    pieces = [b"data: ping\n\n", 0.25] * 6 + [b": comment\n\n", 0.25] * 6 + [b"data: a\n\n"]
    _, lines, _, _ = listen(pieces, heartbeatInterval=1000)
    assert lines == ["open", "a", "error", 1, "close"]
    assert EnhancedSSEClient(url="http://a.example").options.heartbeat_interval_ms == 30000


def connection_states_are_logged_and_counted():
    metrics = WorkflowMetrics()
    log = listen([b"data: a\n\n"], metrics=metrics)[3]
    changes = [
        (line["from_state"], line["to_state"]) for line in log
        if line["event"] == "sse_connection_state"
    ]
    assert changes == [("closed", "connecting"), ("connecting", "open"),
                       ("open", "reconnecting"), ("reconnecting", "closed")]
    assert metrics.get_metrics()["connections"] == {
        "connecting": 1, "open": 1, "reconnecting": 1, "closed": 1
    }


def callbacks_may_fail():
    def broken(*arguments):
        raise RuntimeError("a mistake")

    lines = listen(
        [b"data: a\n\n"], [b"data: b\n\n"], onError=broken, onOpen=broken, onReconnect=broken
    )[1]
    assert lines == ["a", "b", "close"]


def a_lost_connection_keeps_the_program_going():
    client, lines, _, _ = listen(address=address_of_a_stopped_server(), maxReconnectAttempts=1)
    assert not client.isConnected() and lines == ["error", 1, "error", "close"]
    # It may be used again, and remembers where it was.
    client, lines, _, _ = listen([b"id: 5\ndata: a\n\n"])
    assert client.last_event_id == "5"
    client.connect()
    assert client.join(PATIENCE_SECONDS)


PROMISES = {
    15: (delays_grow_and_are_jittered, waits_grow_between_attempts),
    16: (open_breakers_spare_the_agent,),
    17: (operations_have_policies_of_their_own,),
    18: (decorated_functions_are_retried,),
    36: (checkpoints_are_created_and_restored, states_survive_the_process),
    37: (transitions_follow_the_chain,),
    38: (every_attempt_begins_from_the_checkpoint, failed_workflows_are_recovered),
    39: (versions_are_tracked_and_rolled_back_to,),
    42: (checkpoints_precede_every_agent,),
    43: (every_attempt_begins_from_the_checkpoint,),
    44: (history_is_an_audit_trail,),
    45: (versions_are_tracked_and_rolled_back_to,),
    51: (connections_are_opened_again,),
    52: (dead_connections_are_detected, heartbeats_keep_connections),
    53: (connection_states_are_logged_and_counted,),
    54: (callbacks_may_fail, connections_are_opened_again),
    57: (lost_servers_are_given_up_after_ten_attempts,),
    58: (heartbeats_keep_connections,),
    59: (a_lost_connection_keeps_the_program_going,),
    60: (connection_states_are_logged_and_counted,),
    66: (every_log_record_has_the_same_form,),
    67: (metrics_count_workflows_and_agents,),
    68: (durations_are_measured,),
    69: (programs_log_events_of_their_own,),
    72: (metrics_count_workflows_and_agents,),
    73: (metrics_count_workflows_and_agents, durations_are_measured),
    74: (transitions_are_counted,),
    75: (durations_are_measured,),
    95: (dependencies_are_resolved,),
    96: (independent_tasks_take_the_time_of_the_longest, agents_run_parallel_tasks),
    97: (priorities_come_first,),
    98: (timeouts_are_per_task,),
    101: (independent_tasks_take_the_time_of_the_longest,),
    102: (places_are_never_idle,),
    103: (independent_tasks_take_the_time_of_the_longest,),
    110: (every_attempt_begins_from_the_checkpoint,),
    111: (transitions_follow_the_chain,),
    112: (metrics_count_workflows_and_agents,),
    113: (every_log_record_has_the_same_form,),
    114: (errors_are_caught_and_named,),
    121: (agents_are_traced_without_a_decorator,),
    122: (durations_are_measured,),
    123: (failures_are_logged_with_their_context,),
    157: (checkpoints_precede_every_agent,),
    158: (errors_are_caught_and_named,),
    159: (retry_count_meets_max_attempts,),
    160: (every_attempt_begins_from_the_checkpoint,),
    161: (waits_grow_between_attempts,),
    162: (retry_count_meets_max_attempts,),
    166: (independent_tasks_take_the_time_of_the_longest,),
    167: (failed_workflows_are_recovered,),
    168: (metrics_count_workflows_and_agents, every_log_record_has_the_same_form),
    169: (every_log_record_has_the_same_form, history_is_an_audit_trail),
    195: (versions_are_tracked_and_rolled_back_to,),
    199: (agents_are_spans_of_a_trace,),
    240: (errors_are_caught_and_named,),
    241: (waits_grow_between_attempts,),
    242: (states_survive_the_process,),
    243: (lost_servers_are_given_up_after_ten_attempts,),
    244: (independent_tasks_take_the_time_of_the_longest, places_are_never_idle),
    249: (metrics_count_workflows_and_agents,),
    250: (durations_are_measured,),
    251: (retries_are_counted,),
    252: (transitions_are_counted,),
    253: (connection_states_are_logged_and_counted,),
}


def bullets():
    """{line: text} of the document's lists."""
    lines = enumerate(seed_documents.text_of("001").splitlines(), 1)
    matches = ((number, BULLET.match(line)) for number, line in lines)
    return {number: match.group(1) or match.group(2) for number, match in matches if match}


def test_every_promise_is_checked():
    assert set(bullets()) == set(PROMISES) | NOT_PROMISED


@pytest.mark.parametrize("line, check", [
    pytest.param(line, check, id="001:%d %s-%s" % (line, bullets().get(line), check.__name__))
    for line, checks in PROMISES.items() for check in checks
])
def test_001_promise(line, check):
    check()
