import pytest

from synthralos.calls import agent_run
from synthralos.calls.agent_platforms.protocol import (
    AUTHORIZATION,
    INPUT,
    Handle,
    NotSupported,
    Question,
)
from synthralos.calls.http import CallError
from synthralos.config.platforms import AgentEndpoint

from .agent_servers import SECONDS, Script, connected, lost, platform, request

HANDLE = Handle("a2a", "p", "bot", {"message": "key-1", "task": "t1", "context": "c1"})
CARD = "GET /.well-known/agent-card.json"
HERE = "https://agents.example/base"
RPC_10 = {"binding": "JSONRPC", "protocol_version": "1.0"}
REST_10 = {"binding": "HTTP+JSON", "protocol_version": "1.0"}
RPC_03 = {"binding": "JSONRPC", "protocol_version": "0.3"}
REST_03 = {"binding": "HTTP+JSON", "protocol_version": "0.3"}


def task(state="TASK_STATE_WORKING", words=None, **more):
    status = {"state": state}
    if words is not None:
        status["message"] = {"messageId": "m9", "role": "ROLE_AGENT", "parts": [{"text": words}]}
    return dict({"id": "t1", "contextId": "c1", "status": status}, **more)


def rpc(result):
    return {"jsonrpc": "2.0", "id": 1, "result": result}


def error(code, message="no", **more):
    return {"jsonrpc": "2.0", "id": 1, "error": dict(more, code=code, message=message)}


def not_found():
    return error(-32001, "Task not found", data=[{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TASK_NOT_FOUND"}])


def joined(body):
    a2a, _ = connected("a2a", {"POST ": body}, **RPC_10)
    return a2a.join(HANDLE, SECONDS)


def card(*interfaces, **more):
    return dict({"supportedInterfaces": [
        {"url": url, "protocolBinding": binding, "protocolVersion": version}
        for url, binding, version in interfaces
    ]}, **more)


# What is sent.


@pytest.mark.parametrize("entry, path, header, body", [
    (RPC_10, "", "1.0", {
        "jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {
            "message": {"messageId": "key-1", "role": "ROLE_USER", "parts": [{"text": "q"}]},
            "configuration": {"returnImmediately": True,
                              "acceptedOutputModes": ["text/plain", "application/json"]},
            "metadata": {"execution_id": "e", "config": {"model": "m"}}}}),
    (REST_10, "/message:send", "1.0", {
        "message": {"messageId": "key-1", "role": "ROLE_USER", "parts": [{"text": "q"}]},
        "configuration": {"returnImmediately": True,
                          "acceptedOutputModes": ["text/plain", "application/json"]},
        "metadata": {"execution_id": "e", "config": {"model": "m"}}}),
    (RPC_03, "", None, {
        "jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {
            "message": {"kind": "message", "messageId": "key-1", "role": "user",
                        "parts": [{"kind": "text", "text": "q"}]},
            "configuration": {"blocking": False,
                              "acceptedOutputModes": ["text/plain", "application/json"]},
            "metadata": {"execution_id": "e", "config": {"model": "m"}}}}),
    (REST_03, "/v1/message:send", None, {
        "message": {"messageId": "key-1", "role": "ROLE_USER", "content": [{"text": "q"}]},
        "configuration": {"blocking": False,
                          "acceptedOutputModes": ["text/plain", "application/json"]},
        "metadata": {"execution_id": "e", "config": {"model": "m"}}}),
])
def test_a_start_is_a_message_that_waits_for_nothing(entry, path, header, body):
    result = {"task": task()}
    reply = rpc(result) if entry["binding"] == "JSONRPC" else result
    a2a, client = connected("a2a", {"POST " + path: reply}, **entry)
    state = a2a.start(request(config={"model": "m"}, context={"execution_id": "e"}), SECONDS)
    assert (state.status, state.handle) == ("running", HANDLE)
    assert len(client.sent) == 1
    assert client.sent[0][2] == body and client.sent[0][3].get("A2A-Version") == header


@pytest.mark.parametrize("entry, calls", [
    (RPC_10, ["GetTask", "CancelTask"]), (RPC_03, ["tasks/get", "tasks/cancel"]),
    (REST_10, ["GET /tasks/t1", "POST /tasks/t1:cancel"]),
    (REST_03, ["GET /v1/tasks/t1", "POST /v1/tasks/t1:cancel"]),
])
def test_a_task_is_asked_for_and_cancelled(entry, calls):
    is_rpc = entry["binding"] == "JSONRPC"
    reply = rpc(task("canceled")) if is_rpc else task("TASK_STATE_CANCELLED")
    replies = {"POST ": reply} if is_rpc else dict.fromkeys(calls, reply)
    a2a, client = connected("a2a", replies, **entry)
    assert a2a.join(HANDLE, SECONDS).failure.cause == "cancelled"
    assert a2a.cancel(HANDLE, SECONDS).has_ended
    sent = [body["method"] if is_rpc else "%s %s" % (method, path)
            for method, path, body, _ in client.sent]
    assert sent == calls


@pytest.mark.parametrize("task_id", ["a/b#c", "../x", "x y?z=1", "%2F"])
def test_ids_stay_one_part_of_the_path(task_id):
    a2a, client = connected("a2a", {}, **REST_10)
    handle = Handle("a2a", "p", "bot", {"task": task_id})
    assert a2a.join(handle, SECONDS).status == "unknown"
    assert client.sent[0][1].count("/") == 2 and "#" not in client.sent[0][1]


# What comes back.


@pytest.mark.parametrize("state, status", [
    ("TASK_STATE_SUBMITTED", "running"), ("TASK_STATE_WORKING", "running"), ("working", "running"),
    ("TASK_STATE_COMPLETED", "completed"), ("completed", "completed"),
    ("TASK_STATE_FAILED", "failed"), ("failed", "failed"), ("TASK_STATE_REJECTED", "failed"),
    ("TASK_STATE_INPUT_REQUIRED", "asking"), ("input-required", "asking"),
    ("TASK_STATE_UNSPECIFIED", "unknown"), ("unknown", "unknown"), (None, "unknown"),
    (5, "unknown"),
])
def test_each_state_of_a_task_is_one_of_a_run(state, status):
    assert joined(rpc(task(state))).status == status


@pytest.mark.parametrize("state, words, cause, message", [
    ("TASK_STATE_FAILED", "rate limit exceeded at the model", "rate_limit", "rate limit exceeded"),
    ("TASK_STATE_FAILED", "it broke {{ x }}", "agent_failed", "it broke {{ x }}"),
    ("TASK_STATE_FAILED", None, "agent_failed", "the agent failed"),
    ("TASK_STATE_REJECTED", "not my job", "content_policy", "not my job"),
    ("TASK_STATE_REJECTED", None, "content_policy", "rejected"),
    ("TASK_STATE_CANCELED", "by hand", "cancelled", "by hand"),
])
def test_a_failed_agent_is_a_success_of_http(state, words, cause, message):
    failure = joined(rpc(task(state, words))).failure
    assert failure.cause == cause and message in failure.message


@pytest.mark.parametrize("parts, output", [
    ([{"text": "a"}, {"text": "b"}], "a\nb"), ([{"kind": "text", "text": "a"}], "a"),
    ([{"data": {"total": 5}}], {"total": 5}), ([{"data": {"data": {"total": 5}}}], {"total": 5}),
    ([{"data": 1}, {"data": 2}], [1, 2]), ([{"text": "t"}, {"data": 1}], "t"),
    ([{"url": "https://x/y", "filename": "y"}], {"url": "https://x/y", "filename": "y"}),
    ([], None), ([{}], None), ([5, None, "x"], None), ([{"text": 5}], None), ([{"text": ""}], None),
    ([{"text": "{{ 7*7 }} <% ctx() %>"}], "{{ 7*7 }} <% ctx() %>"),
])
def test_the_output_is_what_the_artifacts_contain(parts, output):
    artifacts = [{"artifactId": "a", "parts": parts}]
    assert joined(rpc(task("TASK_STATE_COMPLETED", artifacts=artifacts))).output == output


def test_without_artifacts_the_last_words_are_the_output_and_those_before_are_not():
    history = [{"role": "ROLE_AGENT", "parts": [{"text": "working on it"}]}]
    assert joined(rpc(task("TASK_STATE_COMPLETED", "42", history=history))).output == "42"
    assert joined(rpc(task("TASK_STATE_COMPLETED", history=history))).output is None


@pytest.mark.parametrize("result", [
    {"message": {"messageId": "m", "contextId": "c", "role": "ROLE_AGENT", "parts": [
        {"text": "at once"}]}},
    {"kind": "message", "messageId": "m", "contextId": "c", "role": "agent", "parts": [
        {"kind": "text", "text": "at once"}]},
])
def test_an_agent_may_answer_without_a_task(result):
    a2a, _ = connected("a2a", {"POST ": rpc(result)}, **RPC_10)
    state = a2a.start(request(), SECONDS)
    assert (state.status, state.output) == ("completed", "at once")
    assert state.handle.ids == {"message": "key-1", "context": "c"}


@pytest.mark.parametrize("result", [
    {}, {"task": {}}, {"task": {"id": "", "status": {"state": "x"}}}, {"task": {"id": "t"}},
    {"status": {"state": "TASK_STATE_WORKING"}}, {"message": "text"},
])
def test_what_is_neither_a_task_nor_a_message_is_malformed(result):
    a2a, _ = connected("a2a", {"POST ": rpc(result)}, **RPC_10)
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    assert failed.value.failure.cause == "malformed_answer"


@pytest.mark.parametrize("body", ["", "[]", "5", '{"jsonrpc": "2.0", "id": 1}', '{"result": []}'])
def test_what_is_no_response_is_malformed(body):
    a2a, _ = connected("a2a", {"POST ": body}, **RPC_10)
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    assert failed.value.failure.cause == "malformed_answer"


@pytest.mark.parametrize("code, message, cause", [
    (-32700, "x", "bad_request"), (-32600, "x", "bad_request"), (-32602, "x", "bad_request"),
    (-32601, "Method not found", "wrong_address"), (-32603, "it crashed", "server_error"),
    (-32603, "Could not find a Task/Message", "server_error"),
    (-32603, "rate limit exceeded", "rate_limit"), (-32001, "x", "not_found"),
    (-32002, "x", "conflict"), (-32004, "x", "configuration"), (-32005, "x", "bad_request"),
    (-32006, "x", "malformed_answer"), (-32009, "x", "configuration"),
    (-32099, "x", "server_error"), (7, "x", "server_error"),
])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_each_code_has_its_cause(code, message, cause, status):
    a2a, _ = connected("a2a", {"POST ": (status, error(code, message))}, **RPC_10)
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    failure = failed.value.failure
    assert failure.cause == cause and message in failure.message


@pytest.mark.parametrize("status, cause", [
    (401, "authentication"), (403, "permission"), (429, "rate_limit"), (503, "server_error"),
])
def test_a_gateway_s_status_counts_more_than_its_body(status, cause):
    a2a, _ = connected("a2a", {"POST ": (status, error(-32600, "refused"))}, **RPC_10)
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    assert failed.value.failure.cause == cause


def rest_error(code, status, reason):
    return (code, {"error": {"code": code, "status": status, "message": "no", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]}})


@pytest.mark.parametrize("reply, cause", [
    (rest_error(400, "INVALID_ARGUMENT", "INVALID_PARAMS"), "bad_request"),
    (rest_error(400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED"), "configuration"),
    (rest_error(500, "INTERNAL", "INTERNAL_ERROR"), "server_error"),
    ((404, "Not Found"), "not_found"), ((401, {"error": "Unauthorized"}), "authentication"),
])
def test_the_statuses_of_http_have_their_causes(reply, cause):
    a2a, _ = connected("a2a", {"POST /message:send": reply}, **REST_10)
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    assert failed.value.failure.cause == cause


def test_a_task_that_was_just_handed_out_may_be_unknown_for_a_while():
    replies = [rpc(task()), not_found(), rpc(task()), not_found(), rpc(task("completed", "42"))]
    a2a, _ = connected("a2a", {"POST ": replies}, **RPC_10)
    states = [a2a.join(HANDLE, SECONDS) for _ in replies]
    assert [state.status for state in states] == [
        "running", "unknown", "running", "unknown", "completed"
    ]
    rest, _ = connected("a2a", {"GET /tasks/t1": [rest_error(404, "NOT_FOUND", "TASK_NOT_FOUND"),
                                                  (404, "Not Found"), task()]}, **REST_10)
    assert [rest.join(HANDLE, SECONDS).status for _ in range(3)] == ["unknown"] * 2 + ["running"]


def test_a_task_is_found_by_the_message_that_began_it():
    theirs = task(id="t0", history=[{"messageId": "another"}])
    ours = task(history=[{"messageId": "key-1"}, {"messageId": "m9"}])
    replies = [rpc({"tasks": [theirs, None, {}, ours]}), rpc(task("completed", "42"))]
    a2a, client = connected("a2a", {"POST ": replies}, **RPC_10)
    state = a2a.join(a2a.handle_for(request()), SECONDS)
    assert (state.output, state.handle) == ("42", HANDLE)
    assert [body["method"] for _, _, body, _ in client.sent] == ["ListTasks", "GetTask"]


def test_a_start_that_failed_in_words_only_is_joined_where_the_task_completed():
    ours = task("completed", "42", history=[{"messageId": "key-1"}])
    replies = [error(-32603, "Could not find a Task/Message"), rpc({"tasks": [ours]}), rpc(ours)]
    client = Script({"POST ": replies})
    endpoint = AgentEndpoint(platform("a2a", **RPC_10), "bot")
    result = agent_run.run_agent(client, endpoint, request(), agent_run.Patience(SECONDS))
    assert result["output"] == "42"
    methods = [body["method"] for _, _, body, _ in client.sent]
    assert methods == ["SendMessage", "ListTasks", "GetTask"]


def test_where_tasks_cannot_be_listed_nothing_is_found():
    for entry, reply in ((RPC_03, {}), (RPC_10, error(-32004)), (RPC_10, error(-32601))):
        a2a, _ = connected("a2a", {"POST ": reply}, **entry)
        with pytest.raises(NotSupported):
            a2a.join(a2a.handle_for(request()), SECONDS)


def test_what_cannot_be_cancelled_is_looked_at():
    replies = [error(-32002, "Task cannot be canceled"), rpc(task("completed", "42"))]
    a2a, _ = connected("a2a", {"POST ": replies}, **RPC_10)
    assert a2a.cancel(HANDLE, SECONDS).output == "42"
    a2a, _ = connected("a2a", {"POST ": [error(-32004), rpc(task())]}, **RPC_10)
    assert not a2a.cancel(HANDLE, SECONDS).has_ended


@pytest.mark.parametrize("state, kind", [
    ("TASK_STATE_INPUT_REQUIRED", INPUT), ("auth-required", AUTHORIZATION)])
def test_a_question_is_answered_in_its_task(state, kind):
    asking = rpc(task(state, "May I {{ pay }}?"))
    a2a, client = connected("a2a", {"POST ": [asking, rpc({"task": task()})]}, **RPC_10)
    question = Question("May I {{ pay }}?", kind, "m9")
    assert a2a.answer(HANDLE, question, "yes", "key-2", SECONDS).status == "running"
    message = client.sent[-1][2]["params"]["message"]
    assert message == {"taskId": "t1", "contextId": "c1", "messageId": "key-2",
                       "role": "ROLE_USER", "parts": [{"text": "yes"}]}


@pytest.mark.parametrize("asks_now", [
    rpc(task("TASK_STATE_WORKING")), rpc(task("TASK_STATE_INPUT_REQUIRED", "And this?"))])
def test_an_answer_to_another_question_is_not_sent(asks_now):
    a2a, client = connected("a2a", {"POST ": asks_now}, **RPC_10)
    a2a.answer(HANDLE, Question("May I?", INPUT, "m9"), "yes", "k", SECONDS)
    assert [body["method"] for _, _, body, _ in client.sent] == ["GetTask"]


def test_an_answer_that_arrived_is_not_sent_again():
    """The reply to it was lost, and the agent has not begun to read it."""
    asking = rpc(task("TASK_STATE_INPUT_REQUIRED", "May I?", history=[{"messageId": "key-2"}]))
    a2a, client = connected("a2a", {"POST ": asking}, **RPC_10)
    question = Question("May I?", INPUT, "m9")
    assert a2a.answer(HANDLE, question, "yes", "key-2", SECONDS).question == question
    assert [body["method"] for _, _, body, _ in client.sent] == ["GetTask"]


def test_a_task_that_is_gone_takes_no_answer():
    a2a, client = connected("a2a", {"POST ": not_found()}, **RPC_10)
    question = Question("May I?", INPUT, "m9")
    assert a2a.answer(HANDLE, question, "yes", "k", SECONDS).status == "unknown"
    assert len(client.sent) == 1


def test_questions_without_a_message_are_told_apart_by_their_time():
    def asking_at(timestamp):
        body = task("TASK_STATE_AUTH_REQUIRED")
        body["status"]["timestamp"] = timestamp
        return joined(rpc(body)).question

    first, second = asking_at("2026-11-23T10:00:00Z"), asking_at("2026-11-23T11:00:00Z")
    assert first != second and first == asking_at("2026-11-23T10:00:00Z")


def test_progress_is_one_harmless_line():
    progress = joined(rpc(task(words="step 1\n{{ 7*7 }}\x1b[2J"))).progress
    assert "step 1" in progress and "{{" not in progress and "\n" not in progress


# The card.


def called(card_body, **entry):
    """(url, headers) of the first call after the card was read."""
    paths = ("", "/message:send", "/v1/message:send")
    replies = {"POST " + path: rpc({"task": task()}) for path in paths}
    a2a, client = connected("a2a", dict(replies, **{CARD: card_body}), **entry)
    try:
        a2a.start(request(), SECONDS)
    except CallError:
        pass
    return client.urls[-1], client.sent[-1][3]


@pytest.mark.parametrize("url, expected", [
    ("http://0.0.0.0:8000/", HERE), ("http://169.254.169.254/x", HERE),
    ("https://agents.example.evil.com/a", HERE), ("//evil.example/a", HERE), ("http://[", HERE),
    ("https://evil.example@agents.example/a", "https://agents.example/a"),
    ("http://agents.example/a2a", "https://agents.example/a2a"),
    ("https://agents.example:8443/a2a", "https://agents.example/a2a"),
    ("https://agents.example/other/path/", "https://agents.example/other/path"),
    ("https://agents.example/a?token=1#x", "https://agents.example/a"),
])
def test_the_card_chooses_a_path_on_the_configured_origin_and_nothing_else(url, expected):
    assert called(card((url, "JSONRPC", "1.0")))[0] == expected


def test_the_token_leaves_for_no_other_host():
    url, headers = called(card(("https://evil.example/a", "JSONRPC", "1.0")))
    assert url.startswith("https://agents.example/") and headers["Authorization"] == "secret"


@pytest.mark.parametrize("interfaces, entry, url, version", [
    ([("x:1", "GRPC", "1.0"), (HERE, "JSONRPC", "1.0")], {}, HERE, "1.0"),
    ([(HERE, "JSONRPC", "2.0"), (HERE, "HTTP+JSON", "1.0.1")], {}, HERE + "/message:send", "1.0"),
    ([(HERE, "JSONRPC", "0.3.0"), (HERE, "JSONRPC", "1.0")], {}, HERE, None),
    ([(HERE, "JSONRPC", "0.3"), (HERE, "JSONRPC", "1.0")], {"protocol_version": "1.0"}, HERE,
     "1.0"),
    ([(HERE, "JSONRPC", "1.0"), (HERE, "HTTP+JSON", "0.3")], {"binding": "HTTP+JSON"},
     HERE + "/v1/message:send", None),
])
def test_the_first_interface_that_the_pack_speaks_is_called(interfaces, entry, url, version):
    assert called(card(*interfaces), **entry)[0] == url
    assert called(card(*interfaces), **entry)[1].get("A2A-Version") == version


def test_a_card_of_0_3_has_an_address_of_its_own_and_further_ones():
    old = {"url": HERE, "protocolVersion": "0.3.0", "preferredTransport": "GRPC",
           "additionalInterfaces": [{"url": HERE, "transport": "HTTP+JSON"}]}
    assert called(old)[0] == HERE + "/v1/message:send"
    assert called({"url": HERE, "protocolVersion": "0.3.0"})[0] == HERE


@pytest.mark.parametrize("body", [
    {}, card(), card((HERE, "GRPC", "1.0")), card((HERE, "JSONRPC", "9")),
    {"supportedInterfaces": "x"}, {"supportedInterfaces": [None, 5]}, card((5, "JSONRPC", "1.0")),
])
def test_a_card_that_offers_nothing_known_is_a_matter_of_configuration(body):
    a2a, _ = connected("a2a", {CARD: body})
    with pytest.raises(CallError) as failed:
        a2a.start(request(), SECONDS)
    assert failed.value.failure.cause == "configuration"


def test_a_card_is_looked_for_below_the_address_then_at_the_root_and_read_once():
    replies = {CARD: [(404, ""), card((HERE, "JSONRPC", "1.0"))], "POST ": rpc(task())}
    a2a, client = connected("a2a", replies)
    for _ in range(3):
        a2a.join(HANDLE, SECONDS)
    assert client.urls[:2] == [HERE + "/.well-known/agent-card.json",
                               "https://agents.example/.well-known/agent-card.json"]
    assert client.urls[2:] == [HERE] * 3


def test_agents_that_share_an_address_have_paths_of_their_own():
    replies = {CARD: card(("http://internal/", "JSONRPC", "1.0")), "POST ": rpc({"task": task()})}
    a2a, client = connected("a2a", replies, agent_path="/agents/{agent}")
    a2a.start(request(agent="a/b"), SECONDS)
    assert client.urls == [HERE + "/agents/a%2Fb/.well-known/agent-card.json",
                           HERE + "/agents/a%2Fb"]


def test_a_tenant_of_the_card_is_named_in_every_call():
    interface = {"url": HERE, "protocolBinding": "JSONRPC", "protocolVersion": "1.0",
                 "tenant": "t/1"}
    replies = {CARD: {"supportedInterfaces": [interface]}, "POST ": rpc(task())}
    a2a, client = connected("a2a", replies)
    a2a.join(HANDLE, SECONDS)
    assert client.sent[-1][2]["params"] == {"id": "t1", "tenant": "t/1"}
    interface["protocolBinding"] = "HTTP+JSON"
    a2a, client = connected("a2a", {CARD: {"supportedInterfaces": [interface]}})
    a2a.join(HANDLE, SECONDS)
    assert client.sent[-1][1] == "/t%2F1/tasks/t1"


# The check.


@pytest.mark.parametrize("replies, passed, words", [
    ({CARD: card((HERE, "JSONRPC", "1.0")), "POST ": not_found()}, True, "JSONRPC, version 1.0"),
    ({CARD: card(("http://0.0.0.0/", "JSONRPC", "1.0")), "POST ": not_found()}, True,
     "another host"),
    ({CARD: card(("http://agents.example/base", "JSONRPC", "1.0")), "POST ": not_found()}, True,
     "scheme or port"),
    ({CARD: (401, "")}, False, ""), ({CARD: card((HERE, "GRPC", "1.0"))}, False, "offers"),
    ({CARD: card((HERE, "JSONRPC", "1.0")), "POST ": error(-32601, "Method not found")}, False,
     "Method not found"), ({}, False, ""),
])
def test_the_check_says_where_card_and_configuration_differ(replies, passed, words):
    result = connected("a2a", replies)[0].check("bot", SECONDS)
    assert result.passed is passed and words in result.details
    assert passed or result.hint


def test_a_check_that_reaches_nobody_is_a_failure_of_the_call():
    a2a, _ = connected("a2a", {CARD: lost("network")})
    with pytest.raises(CallError):
        a2a.check("bot", SECONDS)
