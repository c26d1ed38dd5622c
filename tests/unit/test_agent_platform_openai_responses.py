import pytest

from synthralos.calls.agent_platforms.protocol import (
    Checkpoint,
    Handle,
    NoCheckpoint,
    NotSupported,
    Question,
)
from synthralos.calls.http import CallError

from .agent_servers import SECONDS, connected, lost, request

# Of a response behind a gateway: base64, hundreds of characters.
LONG_ID = "resp_" + "Zm9v+/" * 40 + "=="
HANDLE = Handle("openai_responses", "p", "bot", {"response": "r1"})
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


def response(status="completed", *parts, **more):
    output = [{"type": "reasoning", "summary": []}]
    if parts:
        output.append({"type": "message", "role": "assistant", "content": list(parts)})
    body = {"id": "r1", "object": "response", "status": status, "error": None, "output": output}
    return dict(body, **more)


def text(content):
    return {"type": "output_text", "text": content, "annotations": []}


def started(body, agent="bot", **more):
    api, client = connected("openai_responses", {"POST /responses": body})
    return api.start(request(agent=agent, **more), SECONDS), client


def joined(body):
    api, _ = connected("openai_responses", {"GET /responses/r1": body})
    return api.join(HANDLE, SECONDS)


def test_a_start_is_a_response_in_the_background():
    state, client = started(response("queued"), config={
        "instructions": "Be brief", "tools": [{"type": "web_search"}], "maxIterations": 5,
        "input": "x", "stream": True, "background": False},
        context={"execution_id": "e" * 600, "empty": ""})
    assert (state.status, state.handle) == ("running", HANDLE)
    method, path, body, headers = client.sent[0]
    assert headers["Idempotency-Key"] == "key-1"
    assert body == {
        "model": "bot", "input": "q", "instructions": "Be brief", "background": True,
        "store": True, "tools": [{"type": "web_search"}],
        "metadata": {"execution_id": "e" * 512, "idempotency_key": "key-1"},
    }


@pytest.mark.parametrize("agent, config, expected", [
    ("gpt-r", {}, {"model": "gpt-r"}), ("gpt-r", {"model": "other"}, {"model": "other"}),
    ("pmpt_1", {}, {"prompt": {"id": "pmpt_1"}}),
    ("pmpt_1", {"prompt": {"id": "pmpt_1", "version": "2"}, "model": "m"},
     {"prompt": {"id": "pmpt_1", "version": "2"}, "model": "m"}),
])
def test_an_agent_is_a_model_or_a_prompt(agent, config, expected):
    body = started(response("queued"), agent=agent, config=config)[1].sent[0][2]
    assert {name: body[name] for name in ("model", "prompt") if name in body} == expected


def test_a_server_that_cannot_work_in_the_background_is_awaited():
    refusal = (400, {"error": {"message": "Unsupported parameter: 'background'",
                               "param": "background", "code": "unsupported_parameter"}})
    state, client = started([refusal, response("completed", text("42"))])
    assert state.output == "42"
    first, second = client.sent
    assert "background" not in second[2] and second[2]["input"] == "q"
    assert first[3]["Idempotency-Key"] != second[3]["Idempotency-Key"]


def test_the_background_is_not_asked_for_where_it_is_switched_off():
    api, client = connected("openai_responses", {
        "POST /responses": response("completed", text("42"))}, background=False)
    assert api.start(request(), SECONDS).output == "42"
    assert not {"background", "store"} & set(client.sent[0][2])


@pytest.mark.parametrize("status, body, cause", [
    (400, {"error": {"message": "bad input", "param": "input"}}, "bad_request"),
    (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, "authentication"),
    (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}},
     "model_not_found"),
    (429, {"error": {"message": "quota", "code": "insufficient_quota"}}, "quota"),
    (503, "", "server_error"), (200, "<html>", "wrong_address"), (200, "", "malformed_answer"),
    (200, {"output": []}, "malformed_answer"), (200, {"status": "queued"}, "malformed_answer"),
    (200, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}},
     "rate_limit"),
])
def test_a_start_that_is_refused_has_its_cause(status, body, cause):
    with pytest.raises(CallError) as failed:
        started((status, body))
    assert failed.value.failure.cause == cause


@pytest.mark.parametrize("parts, output", [
    ([text("42")], "42"), ([text("a"), text("b")], "ab"), ([text("")], ""), ([], ""),
    ([text("{{ 7*7 }} <% ctx() %>")], "{{ 7*7 }} <% ctx() %>"), ([{"type": "other"}, 5], ""),
    ([{"type": "output_text", "text": 5}], ""),
])
def test_the_output_is_the_text_of_its_messages(parts, output):
    state = joined(response("completed", *parts, usage=USAGE, model="gpt-r"))
    assert (state.status, state.output) == ("completed", output)
    assert state.metadata == {"usage": USAGE, "model": "gpt-r"}


@pytest.mark.parametrize("body, cause, words", [
    (response("failed", error={"code": "rate_limit_exceeded", "message": "Rate limit"}),
     "rate_limit", "Rate limit"),
    (response("failed", error={"code": "server_error", "message": "it broke {{ x }}"}),
     "server_error", "it broke {{ x }}"),
    (response("failed", error={"code": "invalid_prompt", "message": "flagged"}),
     "content_policy", "flagged"),
    (response("failed", error={"code": "vector_store_timeout"}), "timeout", "vector_store_timeout"),
    (response("failed"), "agent_failed", "failed"),
    (response("failed", error="insufficient_quota"), "quota", ""),
    (response("cancelled"), "cancelled", "cancelled"),
    (response("incomplete", incomplete_details={"reason": "max_output_tokens"}), "output_limit",
     "max_output_tokens"),
    (response("incomplete", text("half"), incomplete_details={"reason": "max_output_tokens"}),
     "truncated_stream", "max_output_tokens"),
    (response("incomplete", text("x"), incomplete_details={"reason": "content_filter"}),
     "content_policy", "filtered"),
    (response("incomplete", incomplete_details=None), "truncated_stream", "no reason"),
    (response("completed", {"type": "refusal", "refusal": "I cannot"}), "content_policy",
     "I cannot"),
    (response("completed", output=[{"type": "function_call", "name": "weather"}]),
     "invalid_output", "weather"),
    (response("something new"), "agent_failed", "something new"),
])
def test_a_failed_agent_is_a_success_of_http(body, cause, words):
    failure = joined(body).failure
    assert failure.cause == cause and words in failure.message


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_what_runs_is_running(status):
    assert joined(response(status)).status == "running"


def test_a_response_that_was_just_created_may_be_unknown_for_a_while():
    api, _ = connected("openai_responses", {"GET /responses/r1": [
        (404, {"error": {"message": "not found"}}), (404, ""), response("queued")]})
    assert [api.join(HANDLE, SECONDS).status for _ in range(3)] == ["unknown"] * 2 + ["running"]


def test_the_id_of_the_start_is_kept_whatever_later_ones_look_like():
    state, _ = started(response("queued", id=LONG_ID))
    assert state.handle.ids == {"response": LONG_ID}
    path = "/responses/" + LONG_ID.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    api, client = connected("openai_responses", {
        "GET " + path: [response("in_progress", id="other" * 90), response("completed", text("1"))],
        "POST " + path + "/cancel": response("cancelled", id="third")})
    states = [api.join(state.handle, SECONDS), api.join(state.handle, SECONDS),
              api.cancel(state.handle, SECONDS)]
    assert [now.status for now in states] == ["running", "completed", "failed"]
    assert all(now.handle == state.handle for now in states)
    assert Handle.from_dict(state.handle.as_dict()) == state.handle


@pytest.mark.parametrize("refusal", [(400, {"error": {"message": "Cannot cancel a completed one"}}),
                                     (404, ""), (409, "")])
def test_what_cannot_be_cancelled_is_looked_at(refusal):
    api, _ = connected("openai_responses", {
        "POST /responses/r1/cancel": refusal,
        "GET /responses/r1": response("completed", text("42"))})
    assert api.cancel(HANDLE, SECONDS).output == "42"


def test_a_cancellation_that_reaches_nobody_is_not_confirmed():
    api, _ = connected("openai_responses", {"POST /responses/r1/cancel": [lost(), (404, "")]})
    with pytest.raises(CallError):
        api.cancel(HANDLE, SECONDS)
    assert api.cancel(HANDLE, SECONDS).status == "unknown"


def test_what_the_api_cannot_do_it_says():
    api, _ = connected("openai_responses", {})
    assert api.handle_for(request()) is None
    with pytest.raises(NotSupported):
        api.answer(HANDLE, Question("?"), "yes", "k", SECONDS)


def test_a_response_is_continued_by_the_next_one():
    replies = {"POST /responses": response("queued", id="r2")}
    api, client = connected("openai_responses", replies)
    state = api.resume(request("the query"), Checkpoint(HANDLE), SECONDS)
    assert (state.status, state.handle.ids) == ("running", {"response": "r2"})
    (body,) = client.bodies("POST", "/responses")
    assert body["previous_response_id"] == "r1" and "the query" not in str(body)


@pytest.mark.parametrize("status", [400, 404])
def test_a_response_that_is_gone_is_no_checkpoint(status):
    refusal = {"error": {"code": "previous_response_not_found", "message": "not found"}}
    api, _ = connected("openai_responses", {"POST /responses": (status, refusal)})
    with pytest.raises(NoCheckpoint):
        api.resume(request(), Checkpoint(HANDLE), SECONDS)


def test_the_check_lists_models():
    api, _ = connected("openai_responses", {"GET /models": {"data": []}})
    assert api.check(None, SECONDS).passed
    assert not connected("openai_responses", {"GET /models": (401, "")})[0].check(
        None, SECONDS).passed
