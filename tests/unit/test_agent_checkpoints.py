"""A run that failed is continued from its checkpoint, where its platform keeps one."""
import pytest

from synthralos.calls.agent_platforms.protocol import Handle, NoCheckpoint
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.recovery import playbooks

from .agent_world import Executions, Server, World

RUN = "a" * 24
HANDLE = Handle("langgraph", "first", "bot", {"thread": "t0", "run": "r0"})


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
    world = World(make_env, api, clock, server)
    world.env = make_env(dict(world.config, agents={"bot": {"platform": "first"}}), api=api)
    return world


def steps(result):
    return [entry["step"] for entry in result["trail"] if "attempt" in entry]


def begin(world, run=RUN, **more):
    return world.begin(run, **dict({"max_retries": 3}, **more))


def test_what_failed_is_continued_on_its_thread_and_nothing_is_started_anew(world, server):
    server.fails("first")
    ok, result, case = world.round(begin(world))
    assert not ok and server.starts == ["first"] and server.resumes == []
    world.clock.forward(60)
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and server.starts == ["first"] and len(server.resumes) == 1
    assert steps(result) == ["retry_execution", "resume_checkpoint"]


def test_a_checkpoint_that_fails_twice_gets_another_repair(world, server):
    server.fails("first")
    ok, result = world.rounds(begin(world))[-1]
    assert not ok
    assert [entry["step"] for entry in result["round"]] == ["simplify_approach"]
    assert len(server.resumes) == 2 and server.starts == ["first", "first"]


def test_without_a_checkpoint_it_is_started_over_and_the_trail_says_so(world, server):
    server.on_resume = NoCheckpoint(make_failure("not_found", "nothing to continue from"))
    case = begin(world, context={"handle": HANDLE.as_dict()})
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and server.starts == ["first"] and len(server.resumes) == 1
    assert result["attempts"] == 1 and "started over" in result["trail"][0]["adapted"][0]


def test_the_run_that_was_reported_is_continued_at_once(world, server):
    case = begin(world, context={"handle": HANDLE.as_dict()})
    assert case["plan"]["steps"][0]["action"] == "resume_checkpoint"
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and server.starts == [] and server.resumes[0].handle == HANDLE
    assert result["recovery_result"]["step"] == "resume_checkpoint"


@pytest.mark.parametrize("failure_type, details", [
    ("invalid_output", {}), ("error", {"code": "content_policy_violation"}),
    ("llm_error", {"code": "context_length_exceeded"}),
])
def test_a_wrong_output_is_never_continued(world, server, failure_type, details):
    case = begin(
        world, failure_type=failure_type, failure_details=details,
        context={"handle": HANDLE.as_dict()},
    )
    assert "resume_checkpoint" not in [step["action"] for step in case["plan"]["steps"]]
    server.answers("first")
    world.round(case)
    assert server.resumes == [] and server.starts == ["first"]


def test_a_plan_that_asks_for_it_does_not_continue_a_wrong_output_either(world, server):
    plan = {"steps": [{"action": "resume_checkpoint"}, {"action": "regenerate_output"}]}
    case = begin(world, failure_type="invalid_output",
                 context={"handle": HANDLE.as_dict(), "repairPlan": plan})
    server.answers("first")
    assert world.round(case)[0] and server.resumes == [] and server.starts == ["first"]


def test_a_corrected_state_goes_with_it(world, server):
    step = {"action": "resume_checkpoint",
            "parameters": {"state": {"city": "{{ x }}"}, "as_node": "n3"}}
    case = begin(world, context={"handle": HANDLE.as_dict(), "repairPlan": {"steps": [step]}})
    server.answers("first")
    world.round(case)
    (checkpoint,) = server.resumes
    assert (checkpoint.state, checkpoint.as_node) == ({"city": "{{ x }}"}, "n3")


@pytest.mark.parametrize("state", [["x"], "text", {"x": "y" * 20_001}])
def test_a_state_that_is_none_is_refused(world, state):
    step = {"action": "resume_checkpoint", "parameters": {"state": state}}
    with pytest.raises(InvalidInput, match="state"):
        begin(world, context={"repairPlan": {"steps": [step]}})


def test_a_snapshot_is_restored_as_the_platforms_own_checkpoint(world, server):
    plan = {"steps": [{"action": "restore_snapshot", "parameters": {"snapshot_id": "cp-7"}}]}
    case = begin(world, context={"handle": HANDLE.as_dict(), "repairPlan": plan})
    server.answers("first")
    world.round(case)
    assert server.resumes[0].id == "cp-7"


def test_a_rerun_goes_on_where_its_first_run_failed(world, server):
    server.fails("first")
    world.rounds(begin(world, max_retries=0))
    world.ends(RUN, "failed")
    server.answers("first")
    again = begin(world, "b" * 24, execution={"context": {"re-run": {"ref": RUN}}})
    ok, result = world.rounds(again)[-1]
    assert ok and server.starts == ["first"] and len(server.resumes) == 1
    assert world.records() == []


def test_a_run_that_was_continued_is_joined_like_any_other(world, server):
    case = begin(world, context={"handle": HANDLE.as_dict()})
    _, result, case = world.round(case)
    assert result["status"] == "running" and len(world.records()) == 1
    server.answers("first")
    ok, result, _ = world.round(case)
    assert ok and result["attempts"] == 1 and len(server.resumes) == 1


@pytest.mark.parametrize("change", [
    {"platform": "elsewhere"}, {"api": "a2a"}, {"ids": {}}, {"ids": {"thread": " "}}, {"agent": 7},
    {"agent": "of_another_tenant"}, {"ids": {"run": "r0"}}, {"ids": {"thread": ".."}},
    {"ids": {"thread": "t0", "run": "."}}, {"ids": {"thread": "t" * 5000}},
])
def test_a_handle_that_is_none_is_refused(world, change):
    with pytest.raises(InvalidInput, match="context.handle"):
        begin(world, context={"handle": dict(HANDLE.as_dict(), **change)})


@pytest.fixture
def unsafe(world, make_env, api):
    agents = {"bot": {"platform": "first", "unsafe_to_repeat": True}}
    world.env = make_env(dict(world.config, agents=agents), api=api)
    return world


def test_an_agent_that_is_unsafe_to_repeat_is_not_continued_by_the_run_that_saw_it_fail(
    unsafe, server
):
    """The step that failed would begin again, and it may have had its effect."""
    server.fails("first")
    ok, result = unsafe.rounds(begin(unsafe))[-1]
    assert not ok and server.starts == ["first"] and server.resumes == []


def test_a_person_who_runs_it_again_continues_it_rather_than_starting_it_over(unsafe, server):
    server.fails("first")
    unsafe.rounds(begin(unsafe))
    unsafe.ends(RUN, "failed")
    server.answers("first")
    again = begin(unsafe, "b" * 24, execution={"context": {"re-run": {"ref": RUN}}})
    assert unsafe.rounds(again)[-1][0]
    assert server.starts == ["first"] and len(server.resumes) == 1


def test_what_may_still_have_an_effect_is_not_continued_either(unsafe, server):
    with pytest.raises(InvalidInput, match="unsafe_to_repeat"):
        begin(unsafe, failure_type="timeout", context={"handle": HANDLE.as_dict()})


@pytest.mark.parametrize("max_retries, resumed_at", [(0, set()), (2, {"first", "second"})])
def test_a_fallback_comes_before_the_checkpoint_and_the_checkpoint_before_a_second_start(
    make_env, api, clock, server, max_retries, resumed_at
):
    world = World(make_env, api, clock, server)
    server.fails("first")
    server.fails("second")
    world.rounds(begin(world, max_retries=max_retries))
    assert server.starts == ["first", "second"], "each once, whatever was continued"
    assert len(server.resumes) == max_retries
    assert {checkpoint.handle.platform for checkpoint in server.resumes} == resumed_at


def test_only_platforms_that_can_get_the_step(world):
    failure = {"cause": "timeout", "type": "timeout", "message": ""}
    assert "resume_checkpoint" not in [
        step["action"] for step in playbooks.plan(failure, "p")["steps"]
    ]
    steps_of = playbooks.plan(failure, "p", can_resume=True)["steps"]
    assert [step["priority"] for step in steps_of] == [1, 2, 3, 4]
    assert steps_of[0]["action"] == "resume_checkpoint"
