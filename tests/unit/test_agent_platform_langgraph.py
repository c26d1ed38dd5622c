import functools
from dataclasses import replace

import pytest

from synthralos.calls.agent_platforms.protocol import Checkpoint, Handle, NoCheckpoint, Question
from synthralos.calls.http import CallError

from .agent_servers import SECONDS, connected, lost, platform, request

THREAD = "5b8ac8d2-1111-5222-8333-444455556666"
HANDLE = Handle("langgraph", "p", "bot", {"thread": THREAD, "run": "r1"})
RUNS, RUN = "/threads/%s/runs" % THREAD, "/threads/%s/runs/r1" % THREAD
STATE = "/threads/%s/state" % THREAD


def run(status, run_id="r1"):
    return {"run_id": run_id, "status": status, "metadata": {}}


def state(values=None, following=(), interrupts=(), error=None):
    tasks = [{"id": "t", "name": "work", "error": error, "interrupts": list(interrupts)}]
    return {"values": values or {}, "next": list(following),
            "tasks": tasks if following else []}


def messages(*contents):
    return {"messages": [{"type": "human", "content": "q"}] + [
        {"type": "ai", "content": content} for content in contents
    ]}


def joined(run_status, thread=None, joined_body=None, **entry):
    replies = {"GET " + RUN: run(run_status), "GET " + STATE: thread or state(),
               "GET " + RUN + "/join": joined_body if joined_body is not None else {}}
    return connected("langgraph", replies, **entry)[0].join(HANDLE, SECONDS)


def test_a_start_is_one_run_in_the_background_on_the_thread_of_its_key():
    lg, client = connected("langgraph", {})
    thread = lg.handle_for(request()).ids["thread"]
    lg, client = connected("langgraph", {"POST /threads/%s/runs" % thread: run("pending")})
    started = lg.start(request(config={"maxIterations": 7, "model": "m", "thread_id": "x"},
                               context={"execution_id": "e"}), SECONDS)
    assert (started.status, started.handle.ids) == ("running", {"thread": thread, "run": "r1"})
    method, path, body, headers = client.sent[-1]
    assert headers == {"x-api-key": "secret"}
    assert body == {
        "assistant_id": "bot", "input": {"messages": [{"role": "user", "content": "q"}]},
        "if_not_exists": "create", "multitask_strategy": "reject", "on_disconnect": "continue",
        "durability": "sync", "config": {"configurable": {"model": "m"}, "recursion_limit": 7},
        "metadata": {"execution_id": "e", "idempotency_key": "key-1"},
    }
    assert lg.handle_for(request()) == lg.handle_for(request("another text"))
    assert lg.handle_for(request()) != lg.handle_for(request(key="key-2"))


def test_the_input_of_a_graph_may_have_another_key():
    lg, _ = connected("langgraph", {})
    path = "/threads/%s/runs" % lg.handle_for(request()).ids["thread"]
    lg, client = connected("langgraph", {"POST " + path: run("pending")}, input_key="question")
    lg.start(request(), SECONDS)
    assert client.sent[-1][2]["input"] == {"question": "q"}


def test_a_conflict_joins_the_run_that_is_there():
    lg, _ = connected("langgraph", {})
    path = "/threads/%s/runs" % lg.handle_for(request()).ids["thread"]
    lg, client = connected("langgraph", {
        "GET " + path: [(404, {"detail": "Thread not found"}), [run("running", "theirs")]],
        "POST " + path: (409, {"detail": "Thread is already running a task."})})
    started = lg.start(request(), SECONDS)
    assert (started.status, started.handle.ids["run"]) == ("running", "theirs")


def test_a_conflict_without_a_run_is_one():
    lg, _ = connected("langgraph", {})
    path = "/threads/%s/runs" % lg.handle_for(request()).ids["thread"]
    lg, _ = connected("langgraph", {"POST " + path: (409, {"detail": "busy"})})
    with pytest.raises(CallError) as failed:
        lg.start(request(), SECONDS)
    assert failed.value.failure.cause == "conflict"


@pytest.mark.parametrize("body", ["", "<html>", [], {}, {"run_id": "", "status": "pending"},
                                  {"run_id": 5, "status": "pending"}, {"run_id": "x"}])
def test_a_start_without_a_run_is_malformed(body):
    lg, _ = connected("langgraph", {})
    path = "/threads/%s/runs" % lg.handle_for(request()).ids["thread"]
    lg, _ = connected("langgraph", {"POST " + path: body if isinstance(body, str) else (200, body)})
    with pytest.raises(CallError) as failed:
        lg.start(request(), SECONDS)
    assert failed.value.failure.cause in ("malformed_answer", "wrong_address")


@pytest.mark.parametrize("contents, output", [
    (["a", "b"], "b"), ([[{"type": "text", "text": "x"}, {"type": "image"}]], "x"),
    ([], None), ([""], ""), ([5], ""), (["{{ 7*7 }} <% ctx() %>"], "{{ 7*7 }} <% ctx() %>"),
])
def test_the_output_is_the_last_message_of_the_agent(contents, output):
    ended = joined("success", state(messages(*contents)))
    assert (ended.status, ended.output) == ("completed", output)


def test_a_graph_without_messages_answers_with_its_state():
    assert joined("success", state({"total": 5})).output == {"total": 5}
    assert joined("success", state()).output is None
    assert joined("success", state(messages("a")), output="state").output == messages("a")


@pytest.mark.parametrize("status", ["pending", "running"])
def test_what_runs_is_running(status):
    assert joined(status).status == "running"


def test_a_failed_graph_is_a_success_of_http():
    ended = joined("error", joined_body={
        "__error__": {"error": "RuntimeError", "message": "no such order {{ x }}"}})
    assert ended.status == "failed" and ended.failure.cause == "agent_failed"
    assert "no such order {{ x }}" in ended.failure.message


def test_a_server_that_answers_nothing_for_a_failed_run_is_asked_for_the_tasks():
    ended = joined("error", state(following=["n"], error="RuntimeError('insufficient_quota')"), {})
    assert ended.failure.cause == "quota" and ended.failure.evidence["ran"]


@pytest.mark.parametrize("status", ["error", "timeout", "something new"])
def test_a_run_may_fail_without_words(status):
    ended = joined(status)
    assert (ended.status, ended.failure.cause) == ("failed", "agent_failed")
    assert ended.failure.type == ("timeout" if status == "timeout" else "error")


def test_cancelled_is_not_asking():
    ended = joined("interrupted", state({"messages": []}, following=["work"]))
    assert (ended.status, ended.failure.cause, ended.question) == ("failed", "cancelled", None)


@pytest.mark.parametrize("status", ["success", "interrupted"])
@pytest.mark.parametrize("value, text", [
    ({"question": "May I?"}, "May I?"), ("May I?", "May I?"), ({"a": 1}, '{"a": 1}'),
    (None, "null"), ({"question": 5}, '{"question": 5}'),
])
def test_a_question_is_one_where_there_are_interrupts(status, value, text):
    state_now = joined(status, state(following=["n"], interrupts=[{"id": "i1", "value": value}]))
    assert (state_now.status, state_now.question) == ("asking", Question(text, id="i1", run="r1"))


def test_a_run_that_the_server_does_not_know_is_unknown_and_not_failed():
    lg, _ = connected("langgraph", {"GET " + RUN: [(404, {"detail": "no"}), run("running")]})
    assert [lg.join(HANDLE, SECONDS).status for _ in range(2)] == ["unknown", "running"]


def test_a_platform_that_cannot_be_asked_is_no_state():
    lg, _ = connected("langgraph", {"GET " + RUN: [lost(), (503, "busy"), (401, {})]})
    causes = []
    for _ in range(3):
        with pytest.raises(CallError) as failed:
            lg.join(HANDLE, SECONDS)
        causes.append(failed.value.failure.cause)
    assert causes == ["timeout", "server_error", "authentication"]


@pytest.mark.parametrize("reply", [{}, (404, {"detail": "No matching runs"}), (409, {})])
def test_a_cancellation_is_confirmed_by_the_run_itself(reply):
    replies = {"POST " + RUN + "/cancel": reply, "GET " + RUN: run("interrupted"),
               "GET " + STATE: state()}
    ended = connected("langgraph", replies)[0].cancel(HANDLE, SECONDS)
    assert ended.has_ended and ended.failure.cause == "cancelled"
    replies["GET " + RUN] = run("running")
    assert not connected("langgraph", replies)[0].cancel(HANDLE, SECONDS).has_ended


def resumed(thread, newest="error", **checkpoint):
    replies = {"GET " + RUNS: (200, [run(newest)]), "GET " + STATE: thread,
               "POST " + STATE: {"checkpoint": {"checkpoint_id": "c2"}},
               "POST " + RUNS: run("pending", "r2")}
    lg, client = connected("langgraph", replies)
    return lg.resume(request("the query"), Checkpoint(HANDLE, **checkpoint), SECONDS), client


def test_a_checkpoint_is_continued_with_an_input_of_null():
    state_now, client = resumed(state(messages(), following=["n4"]))
    assert (state_now.status, state_now.handle.ids["run"]) == ("running", "r2")
    body = client.bodies("POST", "/runs")[0]
    assert body["input"] is None and "the query" not in str(body)
    assert body["multitask_strategy"] == "reject"
    assert body["metadata"]["idempotency_key"] == "key-1", "it is known for a run of the pack"


def test_a_corrected_state_is_written_before_the_run_goes_on():
    _, client = resumed(
        state(following=["n4"]), state={"city": "{{ x }}"}, as_node="n3", id="c1"
    )
    posts = [(path, body) for method, path, body, _ in client.sent if method == "POST"]
    assert posts[0] == (
        STATE, {"values": {"city": "{{ x }}"}, "as_node": "n3", "checkpoint_id": "c1"}
    )
    assert posts[1][0] == RUNS and posts[1][1]["checkpoint_id"] == "c2", "not the uncorrected one"


def test_a_resumed_run_is_looked_for_on_its_thread():
    lg, _ = connected("langgraph", {})
    chosen = lg.handle_for(request(checkpoint=Checkpoint(HANDLE)))
    assert chosen.ids == {"thread": HANDLE.ids["thread"]}


def test_without_a_checkpoint_nothing_is_sent():
    with pytest.raises(NoCheckpoint):
        resumed(state())


def test_a_question_that_is_open_is_not_answered_by_going_on():
    interrupts = [{"id": "i2", "value": "Delete?"}]
    state_now, client = resumed(state(following=["n"], interrupts=interrupts))
    assert state_now.status == "asking" and state_now.question.id == "i2"
    assert client.bodies("POST", "/runs") == []


@pytest.mark.parametrize("own, graph, is_own", [
    ({"graph_id": "bot"}, "bot", True), ((422, {"detail": "no UUID"}), "another", False),
    ({"graph_id": "another"}, "another", True), ((503, ""), "another", True),
    ((404, {"detail": "unknown"}), None, True),
])
def test_the_thread_of_another_agent_is_not_continued(own, graph, is_own):
    """`bot` is a graph, or the id of an assistant of a graph."""
    replies = {
        "GET " + RUNS: (200, [dict(run("error"), assistant_id="a-1")]),
        "GET /assistants/a-1": {"graph_id": graph} if graph else (404, {}),
        "GET /assistants/bot": own, "GET " + STATE: state(following=["n4"]),
        "POST " + RUNS: run("pending", "r2"),
    }
    lg, client = connected("langgraph", replies)
    resume = functools.partial(lg.resume, request(), Checkpoint(HANDLE), SECONDS)
    if is_own:
        assert resume().status == "running"
    else:
        with pytest.raises(NoCheckpoint, match="another agent"):
            resume()
        assert client.bodies("POST", "/runs") == []


def test_what_is_continued_is_the_configured_agent_whatever_a_handle_says():
    stranger = Checkpoint(replace(HANDLE, agent="stranger"))
    replies = {"GET " + RUNS: (200, [run("error")]), "GET " + STATE: state(following=["n4"]),
               "POST " + RUNS: run("pending", "r2")}
    lg, client = connected("langgraph", replies)
    lg.resume(request(agent="bot"), stranger, SECONDS)
    assert client.bodies("POST", "/runs")[0]["assistant_id"] == "bot"


def test_what_still_runs_is_not_resumed():
    state_now, client = resumed(state(following=["n"]), newest="running")
    assert state_now.status == "running" and client.bodies("POST", "/runs") == []


def commands_of(interrupts, question_id="i1", newest="r1"):
    replies = {"GET " + RUNS: (200, [run("success", newest)]), "POST " + RUNS: run("pending", "r2"),
               "GET " + STATE: state(following=["n"], interrupts=interrupts)}
    lg, client = connected("langgraph", replies)
    lg.answer(HANDLE, Question("May I?", id=question_id, run="r1"), "yes", "k", SECONDS)
    return [body["command"] for body in client.bodies("POST", "/runs")]


def test_an_answer_goes_to_the_question_that_was_asked():
    first, second = {"id": "i1", "value": "May I?"}, {"id": "i2", "value": "And this?"}
    assert commands_of([first]) == [{"resume": "yes"}]
    assert commands_of([first, second]) == [{"resume": {"i1": "yes"}}]
    assert commands_of([second]) == [], "the yes was not for this one"
    assert commands_of([first], newest="r2") == [], "it is asked once more, after an answer"


def test_a_question_is_the_one_of_the_newest_run_on_its_thread():
    replies = {"GET " + RUN: run("success"), "GET " + RUNS: (200, [run("running", "r2")]),
               "GET " + STATE: state(following=["n"], interrupts=[{"id": "i1", "value": "q"}])}
    state_now = connected("langgraph", replies)[0].join(HANDLE, SECONDS)
    assert (state_now.status, state_now.handle.ids["run"]) == ("running", "r2")


def test_ids_stay_one_part_of_the_path():
    handle = Handle("langgraph", "p", "bot", {"thread": "a/../b?c", "run": "../r#1"})
    lg, client = connected("langgraph", {})
    assert lg.join(handle, SECONDS).status == "unknown"
    assert client.sent[0][1] == "/threads/a%2F..%2Fb%3Fc/runs/..%2Fr%231"


def test_the_check_asks_for_a_list_of_assistants():
    lg, client = connected("langgraph", {"POST /assistants/search": (200, [])})
    assert lg.check("bot", SECONDS).passed and client.sent[0][2] == {"limit": 1}
    failing = connected("langgraph", {"POST /assistants/search": (503, "")})[0]
    assert not failing.check("bot", SECONDS).is_up
    assert platform("langgraph").token_header == "x-api-key"
