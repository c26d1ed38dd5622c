"""What an agent asks goes to a person; the answer goes back to the same run, and counts once."""
import base64

import pytest

from synthralos.automation import agent_run_reaper
from synthralos.calls.agent_platforms.protocol import AUTHORIZATION, Question
from synthralos.config.settings import Settings
from synthralos.storage import inquiries
from synthralos.storage.datastore import BestEffortDatastore
from synthralos.storage.retention_store import with_retention

from .agent_world import HOUR, PLATFORMS, Executions, Server, World

RUN, DAY = "a" * 24, 24 * HOUR
MAY_I = Question("May I delete {{ all }}?", id="q1")
LOG_IN = Question("Log in at https://desk.example", AUTHORIZATION, "q9")


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


@pytest.fixture
def asking(world, server):
    """asking(question) -> the case after the round in which the agent has asked it."""

    def begin(question=MAY_I, **more):
        server.asks("first", question)
        ok, result, case = world.round(world.begin(RUN, **more))
        assert ok and result["status"] == "asking"
        return result, case

    return begin


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


def test_the_question_is_stored_for_people_and_names_its_task(world, asking):
    result, case = asking()
    assert result["next_task"] == "ask" and result["target"] == "platform:first"
    stored = inquiries.get_inquiry(world.env.store, RUN)
    assert stored["question"] == result["question"] and "{{" not in result["question"]
    assert "bot asks: May I delete" in result["question"]
    assert len(result["next"]["carry"]) < 200
    assert asking(LOG_IN)[0]["next_task"] == "confirm"


@pytest.mark.parametrize("response, reply", [
    ({"approved": True}, "yes"),
    ({"approved": False}, "no"),
    ({"answer": "only the old ones"}, "only the old ones"),
    ({"answer": encoded("{{ 7*7 }} <% ctx() %> ü")}, "{{ 7*7 }} <% ctx() %> ü"),
    ({"answer": "base64:%%%"}, "base64:%%%"),
    ({"answer": "  ", "approved": True}, "yes"),
])
def test_the_answer_goes_back_to_the_run_that_asked(world, server, api, asking, response, reply):
    _, case = asking()
    api.ask(RUN, **response)
    (ok, result), = world.rounds(case)
    assert ok and result["recovery_result"]["output"] == "told: " + reply
    assert server.answers_given == [(MAY_I, reply)] and server.starts == ["first"]
    assert result["attempts"] == 1


@pytest.mark.parametrize("response, reply", [
    ({"approved": True}, "done"), ({"approved": True, "answer": "my password"}, "done"),
])
def test_an_authorization_is_confirmed_and_takes_no_credential(world, server, api, asking,
                                                               response, reply):
    _, case = asking(LOG_IN)
    api.ask(RUN, **response)
    world.rounds(case)
    assert server.answers_given == [(LOG_IN, reply)]


@pytest.mark.parametrize("question, status, response, words", [
    (MAY_I, "timeout", {}, "nobody has answered"),
    (MAY_I, "succeeded", {}, "nobody has answered"),
    (MAY_I, None, {}, "nobody could be asked"),
    (LOG_IN, "succeeded", {"approved": False}, "a person refused it"),
    (LOG_IN, "succeeded", {"answer": "my password"}, "nobody has answered"),
])
def test_without_an_answer_the_run_ends_and_nobody_else_is_asked(
    world, server, api, asking, question, status, response, words
):
    _, case = asking(question)
    if status is not None:
        api.ask(RUN, status, **response)
    ok, result = world.rounds(case)[-1]
    assert not ok and result["error"]["cause"] == "input_required"
    assert words in result["error"]["message"]
    assert server.starts == ["first"] and server.cancels == ["first"] and not world.records()


def test_the_time_of_people_does_not_count(world, server, api, asking):
    _, case = asking(timeout=60)
    before = case["deadline"]
    world.clock.forward(HOUR)
    api.ask(RUN, approved=True)
    ok, result, _ = world.round(case)
    assert ok and result["success"] and server.cancels == [], result
    assert inquiries.total_wait(world.env.store, RUN) == HOUR
    assert before < world.clock()


def test_a_second_question_is_asked_again(world, server, api, asking):
    _, case = asking()
    api.ask(RUN, approved=True)
    second = Question("And this?", id="q2")
    server.asks("first", second)
    ok, result, case = world.round(case)
    assert result["status"] == "asking", "the yes was not for this one"
    assert server.answers_given == []
    api.ask(RUN, approved=False)
    assert world.rounds(case)[-1][0] and server.answers_given == [(second, "no")]


def test_a_question_that_a_failed_run_has_left_is_asked_and_not_answered_by_going_on(
    world, server, api, asking, monkeypatch
):
    """One branch of a graph failed while another one asks: its yes was for an earlier question."""
    from synthralos.calls.agent_platforms.langgraph import LangGraph
    from synthralos.calls.agent_platforms.protocol import RunState

    second = Question("And delete the rest?", id="q2", run="r")
    _, case = asking(max_retries=1)
    api.ask(RUN, approved=True)

    def fail_after_the_answer(platform, handle, question, text, key, seconds):
        server.answers_given.append((question, text))
        server.fails("first")
        return RunState("running", handle)

    monkeypatch.setattr(LangGraph, "answer", fail_after_the_answer)
    monkeypatch.setattr(LangGraph, "resume", lambda platform, request, checkpoint, seconds:
                        RunState("asking", checkpoint.handle, question=second))
    while case is not None:
        _, result, case = world.round(case)
        if result.get("status") == "asking":
            break
        world.clock.forward(result["next"]["delay"])
    assert "delete the rest" in result["question"] and server.answers_given == [(MAY_I, "yes")]


def test_the_same_question_once_more_is_another_one(world, server, api, asking):
    """A step that was not satisfied with an answer asks again, in the same words."""
    server.asks_again = 1
    _, case = asking()
    api.ask(RUN, answer="soon")
    ok, result, case = world.round(case)
    assert result["status"] == "asking", "the first answer was not good enough"
    api.ask(RUN, answer="on Monday")
    assert world.rounds(case)[-1][0]
    assert [answer for _, answer in server.answers_given] == ["soon", "on Monday"]


@pytest.mark.parametrize("timeout, days", [(3 * DAY, 3), (0, 29)])
def test_an_answer_counts_as_long_as_an_approval_may_take(
    world, make_env, datastore, server, api, asking, timeout, days
):
    config = dict(world.config, automation={"approval_timeout": timeout})
    lasting = with_retention(datastore, Settings.from_config(config))
    world.env = make_env(config, api=api, store=BestEffortDatastore(lasting))
    _, case = asking()
    assert case["deadline"] < world.clock() + HOUR
    world.clock.forward(days * DAY - HOUR)
    assert inquiries.get_inquiry(world.env.store, RUN)["question"]
    api.ask(RUN, approved=True)
    assert world.rounds(case)[-1][0] and server.starts == ["first"]
    assert server.answers_given == [(MAY_I, "yes")]


@pytest.mark.parametrize("run_seconds", [None, 600])
def test_a_rerun_long_after_the_question_gives_the_answer_and_cancels_nothing(
    world, make_env, server, api, asking, run_seconds
):
    first = dict(PLATFORMS[0], run_seconds=run_seconds) if run_seconds else PLATFORMS[0]
    world.env = make_env(dict(world.config, platforms=[first, PLATFORMS[1]]), api=api)
    asking()
    world.clock.forward(2 * HOUR)
    api.ask(RUN, approved=True)
    world.ends(RUN, "failed")
    again = world.begin("b" * 24, execution={"context": {"re-run": {"ref": RUN}}})
    ok, result = world.rounds(again)[-1]
    assert ok and server.cancels == [] and server.answers_given == [(MAY_I, "yes")], result


def test_an_answer_counts_after_the_run_that_asked_has_died(world, server, api, asking):
    asking()
    api.ask(RUN, approved=True)
    world.ends(RUN, "failed")
    again = world.begin("b" * 24, execution={"context": {"re-run": {"ref": RUN}}})
    ok, result = world.rounds(again)[-1]
    assert ok and server.answers_given == [(MAY_I, "yes")] and server.starts == ["first"]


@pytest.mark.parametrize("closed", [None, "pending", "canceled", "timeout"])
def test_a_question_that_died_unanswered_is_asked_by_the_next_run(world, api, asking, closed):
    asking()
    if closed:
        api.ask(RUN, closed)
    world.ends(RUN, "canceled")
    again = world.begin("b" * 24, execution={"context": {"re-run": {"ref": RUN}}})
    assert world.round(again)[1]["status"] == "asking"


def test_a_run_that_joins_waits_for_the_answer_of_the_first(world, server, api, asking):
    key = {"idempotency_key": "k"}
    _, first = asking(context=key)
    api.ask(RUN)
    _, result, second = world.round(world.begin("b" * 24, context=key))
    assert result["status"] == "running", "a person is asked once"
    api.inquiries[0].update(status="succeeded", result={"response": {"approved": True}})
    assert world.rounds(second)[-1][1]["success"] and server.starts == ["first"]


def test_a_run_that_joins_waits_as_long_as_the_person_and_no_longer(world, server, api, asking):
    key = {"idempotency_key": "k"}
    _, first = asking(context=key)
    api.ask(RUN)
    case, waits = world.begin("b" * 24, context=key), []
    for _ in range(40):
        _, result, case = world.round(case)
        assert result["status"] == "running"
        waits.append(result["next"]["delay"])
        world.clock.forward(waits[-1])
        overdue = world.clock() - case["deadline"] - inquiries.total_wait(world.env.store, "b" * 24)
        assert overdue < 0, "the reaper would end it"
    assert (waits[0], waits[-1]) == (10, 300) and sum(waits) > HOUR
    api.inquiries[0].update(status="succeeded", result={"response": {"approved": True}})
    assert world.rounds(case)[-1][1]["success"] and world.rounds(first)[-1][1]["success"]
    assert server.answers_given == [(MAY_I, "yes")] and server.cancels == []


def test_a_run_that_joins_asks_by_itself_once_the_first_has_ended(world, server, api, asking):
    key = {"idempotency_key": "k"}
    asking(context=key)
    api.ask(RUN)
    _, result, case = world.round(world.begin("b" * 24, context=key))
    world.clock.forward(HOUR)
    api.inquiries[0].update(status="canceled")
    world.ends(RUN, "canceled")
    _, result, case = world.round(case)
    assert result["status"] == "asking" and server.cancels == []


def test_the_reaper_leaves_an_agent_that_waits_for_a_person(world, asking):
    asking()
    world.api.rows[RUN] = {"status": "paused"}
    world.clock.forward(HOUR)
    assert agent_run_reaper.cancel_left_behind(world.env) == []


def test_an_answer_that_did_not_get_through_is_given_again(world, server, api, asking, monkeypatch):
    from synthralos.calls.agent_platforms.langgraph import LangGraph
    from synthralos.calls.http import CallError
    from synthralos.core.failures import make_failure

    _, case = asking()
    api.ask(RUN, approved=True)
    deliver, tries = LangGraph.answer, []

    def flaky(*arguments):
        tries.append(1)
        if len(tries) == 1:
            raise CallError(make_failure("server_error", "503"))
        return deliver(*arguments)

    monkeypatch.setattr(LangGraph, "answer", flaky)
    assert world.rounds(case)[-1][1]["success"] and len(tries) == 2


def test_people_are_told_on_the_channels(world, make_env, api, asking):
    channels = {"notification_channels": {"announcement": True}}
    world.env = make_env(dict(world.config, escalation=channels), api=api)
    asking()
    ((ref, parameters),) = api.started
    assert ref == "core.announcement" and parameters["message"]["run"] == RUN
    assert "May I delete" in parameters["message"]["title"]
    assert "{{" not in str(parameters)


def test_a_single_action_can_ask_nobody(world, server):
    server.asks("first", MAY_I)
    case = dict(world.begin(RUN), alone=True)
    ok, result = world.rounds(case)[-1]
    assert not ok and result["error"]["cause"] == "input_required" and server.cancels == ["first"]
