"""Runs of agents are started once and joined: by later rounds, re-runs, and the same request."""
import pytest

from synthralos.automation import agent_run_reaper
from synthralos.calls import agent_run
from synthralos.calls.agent_platforms.agent_failures import cancelled
from synthralos.calls.agent_platforms.langgraph import LangGraph
from synthralos.calls.agent_platforms.protocol import Handle, RunState
from synthralos.calls.http import CallError
from synthralos.core.failures import make_failure

from .agent_world import HOUR, Executions, Server, World, iso


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


def test_a_run_that_joined_gets_the_answer_that_another_has_returned_first(world, server):
    _, _, first = world.round(world.begin("a" * 24, context={"idempotency_key": "order 7"}))
    _, _, second = world.round(world.begin("b" * 24, context={"idempotency_key": "order 7"}))
    server.answers("first")
    assert world.round(first)[1]["success"]
    world.ends("a" * 24, "succeeded")
    ok, result, _ = world.round(second)
    assert ok and result["recovery_result"]["output"] == "42" and server.starts == ["first"]


def test_the_same_key_has_the_same_answer_and_only_a_re_run_asks_for_another(world, server):
    key = {"idempotency_key": "order 7"}
    server.answers("first")
    world.rounds(world.begin("a" * 24, context=key))
    world.ends("a" * 24, "succeeded")
    ok, result = world.rounds(world.begin("b" * 24, context=key))[-1]
    assert ok and result["recovery_result"]["output"] == "42" and server.starts == ["first"]
    world.ends("b" * 24, "succeeded")
    origin = {"context": {"re-run": {"ref": "b" * 24}}}
    rerun = world.begin("c" * 24, context=key, execution=origin)
    assert world.rounds(rerun)[-1][1]["success"] and server.starts == ["first", "first"]


def test_a_process_that_died_while_it_started_an_agent_costs_few_rounds(
    world, server, monkeypatch, datastore
):
    # An API that lets nobody choose an id; what died never released its lock.
    handle = Handle("langgraph", "first", "bot", {"thread": "t", "run": "r"})
    monkeypatch.setattr(LangGraph, "handle_for", lambda platform, request: None)
    server.on_start = KeyboardInterrupt()
    with monkeypatch.context() as dying:
        dying.setattr(datastore, "delete", lambda name: False)
        with pytest.raises(KeyboardInterrupt):
            world.round(world.begin("a" * 24))
    world.ends("a" * 24, "failed")
    keys = []

    def start(platform, request, seconds):
        keys.append(request.idempotency_key)
        return RunState("completed", handle, output="42")

    monkeypatch.setattr(LangGraph, "start", start)
    rerun = world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}})
    played = world.rounds(rerun)
    assert played[-1][1]["recovery_result"]["output"] == "42" and len(played) < 15
    assert keys == server.keys, "the start is repeated under the key of the one that was lost"


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


def test_a_start_that_never_arrived_is_repeated_at_once_under_its_key(world, server, monkeypatch):
    server.on_start = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.round(world.begin())
    server.on_start = None
    world.ends("a" * 24, "failed")
    start = LangGraph.start

    def start_and_answer(platform, request, seconds):
        server.answers("first")
        return start(platform, request, seconds)

    monkeypatch.setattr(LangGraph, "start", start_and_answer)
    server.ends["first"] = lambda handle: RunState("unknown", handle)
    before = world.clock()
    rerun = world.begin("b" * 24, execution={"context": {"re-run": {"ref": "a" * 24}}})
    assert world.rounds(rerun)[-1][1]["success"]
    assert len(server.keys) == 2 and len(set(server.keys)) == 1
    assert world.clock() - before < agent_run.MISSING_SECONDS


def test_a_run_that_only_one_of_two_workers_knows_is_joined(world, server):
    states = []

    def join(handle):
        states.append("unknown" if len(states) % 2 == 0 else "running")
        if world.clock() - started > 600:
            return RunState("completed", handle, output="42")
        return RunState(states[-1], handle)

    server.ends["first"] = join
    started, case = world.clock(), world.begin(timeout=1200)
    played = world.rounds(case)
    assert played[-1][1]["success"] and server.starts == ["first"]
    assert {"unknown", "running"} <= set(states)


@pytest.mark.parametrize("unsafe", [True, False])
def test_a_run_that_its_platform_has_forgotten_is_lost_after_minutes(
    world, server, make_env, unsafe
):
    agents = {"bot": {"platform": "first", "unsafe_to_repeat": unsafe}}
    world.env = make_env(dict(world.config, agents=agents), api=world.api)
    server.ends["first"] = lambda handle: RunState("unknown", handle)
    plan = {"steps": [{"action": "retry_execution"}]}
    case = world.begin(timeout=1200, max_retries=1, context={"repairPlan": plan})
    before = world.clock()
    while case is not None and len(server.starts) < 2:
        ok, result, case = world.round(case)
        lost_after = world.clock() - before
        if case is not None:
            world.clock.forward(result["next"]["delay"])
    assert lost_after >= agent_run.LOST_SECONDS
    if unsafe:
        assert not ok and server.starts == ["first"] and result["error"]["cause"] == "server_error"
    else:
        assert len(server.keys) == 2 and len(set(server.keys)) == 1


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
