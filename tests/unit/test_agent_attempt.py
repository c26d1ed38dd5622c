"""Runs of agents are started once and joined: by later rounds, re-runs, and the same request."""
import pytest

from synthralos.automation import agent_run_reaper
from synthralos.calls import agent_run
from synthralos.calls.agent_platforms.agent_failures import agent_failure, cancelled
from synthralos.calls.agent_platforms.langgraph import LangGraph
from synthralos.calls.agent_platforms.protocol import Handle, RunState
from synthralos.calls.http import CallError
from synthralos.core.failures import make_failure
from synthralos.core.sealing import unseal
from synthralos.recovery import agent_recovery
from synthralos.storage import agent_runs
from synthralos.storage.stackstorm_api import ExecutionNotFound

from .conftest import CONFIG

HOUR = 3600
PLATFORMS = [
    {"name": "first", "api": "langgraph", "base_url": "http://127.0.0.1:9/first"},
    {"name": "second", "api": "langgraph", "base_url": "http://127.0.0.1:9/second"},
]
AGENTS = {"bot": {"platform": "first", "fallbacks": [{"platform": "second"}]}}


class Server:
    """What the agents at both platforms do, by their handles' platform.

    :ivar starts, cancels: the platforms at which a run was started, or cancelled.
    :ivar ends: {platform: what its run ends with: a RunState, or None while it works}.
    """

    def __init__(self):
        self.starts, self.cancels, self.joins, self.ends = [], [], 0, {}
        self.keys, self.on_start, self.on_cancel = [], None, cancelled()

    def install(self, monkeypatch):
        server = self

        def start(platform, request, seconds):
            server.starts.append(platform._platform.name)
            server.keys.append(request.idempotency_key)
            if server.on_start is not None:
                raise server.on_start
            return RunState("running", platform.handle_for(request).with_ids(run="r"))

        def join(platform, handle, seconds):
            server.joins += 1
            end = server.ends.get(handle.platform)
            return end(handle) if end else RunState("running", handle, progress="step 3 of 9")

        def cancel(platform, handle, seconds):
            server.cancels.append(handle.platform)
            if server.on_cancel is None:
                return RunState("running", handle)
            return RunState("failed", handle, failure=server.on_cancel)

        for name, function in (("start", start), ("join", join), ("cancel", cancel)):
            monkeypatch.setattr(LangGraph, name, function)

    def answers(self, platform, output="42"):
        self.ends[platform] = lambda handle: RunState("completed", handle, output=output)

    def fails(self, platform):
        failure = agent_failure({"message": "the tool broke"})
        self.ends[platform] = lambda handle: RunState("failed", handle, failure=failure)


class Executions:
    """StackStorm's API: {id: its fields}."""

    def __init__(self):
        self.rows = {}

    def execution(self, execution_id, attributes=None):
        if execution_id not in self.rows:
            raise ExecutionNotFound(execution_id)
        return self.rows[execution_id]


@pytest.fixture
def api():
    return Executions()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    server.install(monkeypatch)
    return server


@pytest.fixture
def world(make_env, api, clock, server):
    return World(make_env, api, clock, server)


class World:
    def __init__(self, make_env, api, clock, server):
        self.api, self.clock, self.server = api, clock, server
        self.config = dict(CONFIG, platforms=PLATFORMS, agents=AGENTS)
        self.env = make_env(self.config, api=api)

    def begin(self, run="a" * 24, execution=None, **more):
        """The first case of a run of agent_recovery."""
        self.env.run, self.env.is_workflow = run, True
        self.api.rows.setdefault(run, {"status": "running"})
        parameters = dict({"agent_id": "bot", "failure_type": "error", "original_query": "do it",
                           "timeout": 600, "max_retries": 0}, **more)
        result = agent_recovery.analyse(
            self.env, parameters, self.env.now(), execution=execution
        )
        return self.planned(result)

    def planned(self, result):
        case = unseal(result["next"]["carry"], self.env.store)
        return unseal(agent_recovery.plan_repair(self.env, case)["next"]["carry"], self.env.store)

    def round(self, case):
        """(ok, result, the next case or None)."""
        self.env.run = case["run"]
        clock = agent_run.Clock(self.clock, self.clock.forward)
        ok, result = agent_recovery.run_round(self.env, case, clock)
        following = result.get("next")
        return ok, result, unseal(following["carry"], self.env.store) if following else None

    def rounds(self, case):
        """Rounds as the workflow plays them, until the last: [(ok, result)]."""
        played = []
        while case is not None:
            ok, result, case = self.round(case)
            played.append((ok, result))
            if case is not None:
                self.clock.forward(result["next"]["delay"])
        return played

    def ends(self, run, status):
        self.api.rows[run] = {"status": status, "end_timestamp": iso(self.clock() - HOUR)}

    def records(self):
        return list(agent_runs.undelivered(self.env.store))


def iso(seconds):
    from synthralos.core.timestamps import to_iso

    return to_iso(seconds)


def test_an_agent_that_works_longer_than_a_round_is_joined_by_the_next(world, server):
    ok, result, case = world.round(world.begin())
    assert ok and result["status"] == "running" and result["running_seconds"] >= 20
    assert len(result["next"]["carry"]) < 200, "a poll carries the case by its key"
    server.answers("first")
    ok, result, case = world.round(case)
    assert ok and result["success"] and result["recovery_result"]["output"] == "42"
    assert server.starts == ["first"] and result["attempts"] == 1 and case is None


def test_the_first_round_waits_and_later_ones_only_ask(world, server):
    before = world.clock()
    _, _, case = world.round(world.begin())
    assert world.clock() - before == pytest.approx(20, abs=1)
    before = world.clock()
    world.round(case)
    assert world.clock() == before


def test_a_day_takes_few_polls(world, server):
    day = 24 * HOUR
    case = world.begin(timeout=day)
    started = world.clock()
    played = []
    while case is not None:
        if world.clock() - started > day - 600:
            server.answers("first")
        ok, result, case = world.round(case)
        played.append(result)
        if case is not None:
            world.clock.forward(result["next"]["delay"])
    assert played[-1]["success"] and server.starts == ["first"]
    assert len(played) <= 60


def test_ten_minutes_take_few_executions(world, server):
    case, started, rounds = world.begin(timeout=1200), world.clock(), 0
    while case is not None:
        if world.clock() - started >= 600:
            server.answers("first")
        ok, result, case = world.round(case)
        rounds += 1
        if case is not None:
            world.clock.forward(result["next"]["delay"])
    # The workflow itself, its analysis and its plan are executions, too.
    assert result["success"] and rounds + 3 <= 22


def test_a_rerun_joins_what_its_first_run_started(world, server):
    world.round(world.begin("a" * 24))
    world.ends("a" * 24, "failed")
    server.answers("first")
    rerun = world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}})
    (ok, result), = world.rounds(rerun)
    assert ok and result["recovery_result"]["output"] == "42"
    assert server.starts == ["first"]


def test_a_rerun_of_a_rerun_joins_too(world, server):
    world.round(world.begin("a" * 24))
    world.api.rows["b" * 24] = {"status": "failed", "context": {"re-run": {"ref": "a" * 24}}}
    server.answers("first")
    case = world.begin("c" * 24, execution={"context": {"re-run": {"ref": "b" * 24}}})
    assert world.rounds(case)[-1][1]["success"] and server.starts == ["first"]


def test_a_rerun_of_a_run_that_answered_starts_anew(world, server):
    server.answers("first")
    world.rounds(world.begin("a" * 24))
    world.ends("a" * 24, "succeeded")
    world.rounds(world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}}))
    assert server.starts == ["first", "first"] and len(set(server.keys)) == 2


def test_a_rerun_delivers_the_answer_that_its_first_run_lost(world, server):
    server.answers("first")
    world.rounds(world.begin("a" * 24))
    # Its process died between the answer and its result.
    world.ends("a" * 24, "failed")
    rerun = world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}})
    assert world.rounds(rerun)[-1][1]["success"] and server.starts == ["first"]


def test_the_same_idempotency_key_joins_and_another_does_not(world, server):
    world.round(world.begin("a" * 24, context={"idempotency_key": "order 7"}))
    server.answers("first")
    world.rounds(world.begin("b" * 24, context={"idempotency_key": "order 7"}))
    assert server.starts == ["first"]
    world.rounds(world.begin("c" * 24, context={"idempotency_key": "order 8"}))
    assert server.starts == ["first", "first"]


def test_another_query_of_the_same_agent_runs_beside_it(world, server):
    world.round(world.begin("a" * 24))
    world.round(world.begin("b" * 24))
    assert server.starts == ["first", "first"] and len(world.records()) == 2


def test_a_failed_agent_is_followed_by_the_fallback_in_the_same_round(world, server):
    _, _, case = world.round(world.begin())
    server.fails("first")
    server.answers("second")
    ok, result, _ = world.round(case)
    # The second needs a round of its own only if it works longer than that.
    assert server.starts == ["first", "second"] and ok and result["success"]


def test_an_agent_that_hangs_is_cancelled_before_the_fallback_is_asked(world, server):
    played = world.rounds(world.begin())
    assert server.cancels == ["first", "second"] and server.starts == ["first", "second"]
    assert not played[-1][0] and played[-1][1]["error"]["cause"] == "agent_timeout"
    assert world.records() == []


def test_nobody_else_is_asked_while_the_first_may_be_live(world, server):
    server.on_cancel = None
    ok, result = world.rounds(world.begin())[-1]
    assert not ok and server.starts == ["first"]
    assert "may still be running" in result["reason"]


def test_an_answer_that_comes_as_it_is_cancelled_counts(world, server, monkeypatch):
    def cancel(platform, handle, seconds):
        return RunState("completed", handle, output="just in time")

    monkeypatch.setattr(LangGraph, "cancel", cancel)
    ok, result = world.rounds(world.begin())[-1]
    assert ok and result["recovery_result"]["output"] == "just in time"


def test_a_start_whose_reply_was_lost_is_found(world, server):
    server.on_start = CallError(make_failure("timeout", "no answer in time"))
    _, _, case = world.round(world.begin())
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and server.starts == ["first"]


def test_a_process_that_died_before_the_reply_leaves_a_run_that_is_found(world, server):
    server.on_start = KeyboardInterrupt()
    case = world.begin()
    with pytest.raises(KeyboardInterrupt):
        world.round(case)
    (record,) = world.records()
    assert set(record.handle["ids"]) == {"thread"}
    server.on_start = None
    server.answers("first")
    world.ends("a" * 24, "failed")
    rerun = world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}})
    assert world.rounds(rerun)[-1][1]["success"] and server.starts == ["first"]


def test_two_processes_of_one_execution_start_it_once(world, server, monkeypatch):
    case = world.begin()
    other = dict(case)
    inner = []

    start = LangGraph.start

    def slow_start(platform, request, seconds):
        if not inner:
            # While the first is starting, the second looks for a run to join, and finds the claim.
            inner.append(world.round(other))
        return start(platform, request, seconds)

    monkeypatch.setattr(LangGraph, "start", slow_start)
    world.round(case)
    assert server.starts == ["first"]
    ok, result, following = inner[0]
    server.answers("first")
    assert ok and result["status"] == "running"
    assert world.round(following)[1]["success"] and server.starts == ["first"]


def test_without_a_datastore_the_agent_runs_all_the_same(world, server, datastore):
    case = world.begin()
    datastore.away = True
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and result["success"]


@pytest.mark.parametrize("status, waited", [("canceled", 0), ("failed", HOUR)])
def test_the_reaper_cancels_what_nobody_waits_for(world, server, status, waited):
    world.round(world.begin())
    world.clock.forward(waited)
    world.ends("a" * 24, status)
    (entry,) = agent_run_reaper.cancel_left_behind(world.env)
    assert entry == {
        "run": "a" * 24, "agent_id": "bot", "target": "platform:first", "confirmed": True,
    }
    assert server.cancels == ["first"] and world.records() == []


def test_the_reaper_leaves_a_run_that_somebody_waits_for(world, server):
    world.round(world.begin("a" * 24, context={"idempotency_key": "k"}))
    world.round(world.begin("b" * 24, context={"idempotency_key": "k"}))
    world.ends("a" * 24, "canceled")
    assert agent_run_reaper.cancel_left_behind(world.env) == []
    world.ends("b" * 24, "canceled")
    assert len(agent_run_reaper.cancel_left_behind(world.env)) == 1


def test_the_reaper_leaves_time_to_run_a_failed_run_again(world, server):
    world.round(world.begin())
    world.api.rows["a" * 24] = {"status": "failed", "end_timestamp": iso(world.clock() - 5)}
    assert agent_run_reaper.cancel_left_behind(world.env) == []


def test_the_reaper_cancels_again_what_was_not_confirmed(world, server):
    world.round(world.begin())
    world.ends("a" * 24, "canceled")
    server.on_cancel = None
    assert [e["confirmed"] for e in agent_run_reaper.cancel_left_behind(world.env)] == [False]
    server.on_cancel = cancelled()
    assert [e["confirmed"] for e in agent_run_reaper.cancel_left_behind(world.env)] == [True]


def test_a_record_of_a_target_that_is_gone_is_no_obstacle(world, server, make_env):
    world.round(world.begin("a" * 24, context={"idempotency_key": "k"}))
    world.env = make_env(
        dict(world.config, agents={"bot": {"platform": "second"}}), api=world.api
    )
    server.answers("second")
    ok, result, _ = world.round(world.begin("b" * 24, context={"idempotency_key": "k"}))
    assert ok and server.starts == ["first", "second"]


@pytest.mark.parametrize("key", ["", "  ", 7, "x" * 257])
def test_a_key_that_is_none_is_refused(world, key):
    from synthralos.core.errors import InvalidInput

    with pytest.raises(InvalidInput, match="idempotency_key"):
        world.begin(context={"idempotency_key": key})


def test_a_handle_is_restored_from_its_record():
    handle = Handle("langgraph", "p", "bot", {"thread": "t", "run": "r"})
    assert Handle.from_dict(handle.as_dict()) == handle
