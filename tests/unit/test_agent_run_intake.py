"""Which webhooks about runs of agents start a recovery: what the platform confirms, and once."""
import copy
import json

import pytest
from fixtures.run_notifications import load

from synthralos.automation import agent_run_intake
from synthralos.automation.config import AutomationConfig
from synthralos.calls import idempotency
from synthralos.calls.agent_platforms.protocol import Handle
from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import unseal
from synthralos.core.timestamps import to_iso
from synthralos.storage import agent_runs, tickets
from synthralos.storage.agent_runs import AgentRun
from synthralos.storage.incidents import TTL_SECONDS

from .agent_servers import Script, lost
from .conftest import StartingApi

QUERY = "Sum up invoice 4711"
HOSTILE = [
    "{{ config_context.token }}", "<% ctx().st2 %>", "<%= erb %>", "{% raw %}", "a\u0000b",
    "\u202e\U0001f600", "__import__('os')",
]
RUN, TASK, RESPONSE = load("langgraph_run"), load("a2a_task"), load("openai_response")
THREAD, ASSISTANT = "/threads/" + RUN["thread_id"], load("langgraph_assistant")
RUN_PATH = "%s/runs/%s" % (THREAD, RUN["run_id"])
RESPONSE_PATH = "/responses/" + RESPONSE["id"]
WEBHOOKS = {
    "langgraph": load("langgraph_error"), "a2a": load("a2a_status_failed"),
    "openai_responses": load("openai_response_failed"),
}
AGENTS = {
    "langgraph": {"platform": "langgraph", "agent": "invoice_graph"},
    "a2a": {"platform": "a2a"},
    "openai_responses": {
        "platform": "openai_responses", "agent": "gpt-4o",
        "config": {"instructions": "You sum up invoices."},
    },
}
IDS = {
    "langgraph": {"thread": RUN["thread_id"], "run": RUN["run_id"]},
    "a2a": {"task": TASK["id"], "context": TASK["contextId"]},
    "openai_responses": {"response": RESPONSE["id"]},
}
APIS = sorted(WEBHOOKS)


def replies_of_langgraph(run=RUN, assistant=ASSISTANT, newest=None, state=None, error=None):
    error = error or {"error": "RuntimeError", "message": "the tool weather failed"}
    return {
        "GET " + RUN_PATH: run, "GET " + THREAD + "/runs": [[newest or run]],
        "GET " + RUN_PATH + "/join": {"__error__": error},
        "GET " + THREAD + "/state": state or {"values": {}, "next": [], "tasks": []},
        "GET /assistants/" + ASSISTANT["assistant_id"]: assistant,
    }


def replies_of_a2a(task=TASK):
    return {"POST ": {"jsonrpc": "2.0", "id": 1, "result": task}}


def replies_of_openai(response=RESPONSE, items=None):
    return {
        "GET " + RESPONSE_PATH: response,
        "GET " + RESPONSE_PATH + "/input_items": items or load("openai_input_items"),
    }


REPLIES = {
    "langgraph": replies_of_langgraph, "a2a": replies_of_a2a, "openai_responses": replies_of_openai,
}
# The same run in another state: (API, what the platform says of it).
COMPLETED = {
    "langgraph": lambda: replies_of_langgraph(
        dict(RUN, status="success"),
        state={"values": {"messages": [{"type": "ai", "content": "12.50"}]}, "tasks": []},
    ),
    "a2a": lambda: replies_of_a2a(dict(
        TASK, status={"state": "TASK_STATE_COMPLETED"},
        artifacts=[{"artifactId": "a", "parts": [{"text": "12.50"}]}],
    )),
    "openai_responses": lambda: replies_of_openai(with_output(
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "12.50"}]},
    )),
}
RUNNING = {
    "langgraph": lambda: replies_of_langgraph(dict(RUN, status="running")),
    "a2a": lambda: replies_of_a2a(dict(TASK, status={"state": "TASK_STATE_WORKING"})),
    "openai_responses": lambda: replies_of_openai(dict(RESPONSE, status="in_progress")),
}
ASKING = {
    "langgraph": lambda: replies_of_langgraph(
        dict(RUN, status="interrupted"),
        state={"values": {}, "tasks": [{"interrupts": [{"id": "i", "value": "May I pay?"}]}]},
    ),
    "a2a": lambda: replies_of_a2a(dict(TASK, status={"state": "TASK_STATE_INPUT_REQUIRED"})),
    "openai_responses": lambda: replies_of_openai(with_output(
        {"type": "function_call", "name": "weather", "arguments": "{}", "call_id": "c"},
    )),
}
CANCELLED = {
    "langgraph": lambda: replies_of_langgraph(dict(RUN, status="interrupted")),
    "a2a": lambda: replies_of_a2a(dict(TASK, status={"state": "TASK_STATE_CANCELED"})),
    "openai_responses": lambda: replies_of_openai(dict(RESPONSE, status="cancelled")),
}
BLANK = {
    "langgraph": lambda: replies_of_langgraph(
        dict(RUN, status="success"),
        state={"values": {"messages": [{"type": "ai", "content": " \n"}]}, "tasks": []},
    ),
    "a2a": lambda: replies_of_a2a(dict(TASK, status={"state": "TASK_STATE_COMPLETED"})),
    "openai_responses": lambda: replies_of_openai(with_output(
        {"type": "reasoning", "id": "rs_1", "summary": []},
    )),
}
UNKNOWN = {
    "langgraph": lambda: {},
    "a2a": lambda: {"POST ": {"jsonrpc": "2.0", "id": 1, "error": {
        "code": -32001, "message": "Task not found"}}},
    "openai_responses": lambda: {},
}


def with_output(*items):
    return dict(RESPONSE, status="completed", error=None, output=list(items))


@pytest.fixture
def api():
    return StartingApi()


class Intake:
    """The intake of one API, with its platform and one agent; each may be changed.

    :ivar replies: of the platform, as Script takes them.
    """

    def __init__(self, name, make_env, api, clock):
        self.name, self._make_env, self._api, self._clock = name, make_env, api, clock
        platform = {"name": name, "api": name, "base_url": "https://agents.example/base"}
        if name == "a2a":
            platform.update(binding="JSONRPC", protocol_version="1.0")
        self.platforms, self.agents = [platform], {"invoices": copy.deepcopy(AGENTS[name])}
        self.replies, self.client = REPLIES[name](), None

    def env(self):
        env = self._make_env({"platforms": self.platforms, "agents": self.agents}, api=self._api)
        self.client = Script(self.replies)
        env.client = self.client
        return env

    def receive(self, body=None, platform=None, mode="act", succeeded=True):
        self._clock.at += 1
        config = AutomationConfig.from_config({"mode": mode, "recoveries_per_hour": 50})
        payload = {"body": WEBHOOKS[self.name] if body is None else body}
        has_succeeded, result = agent_run_intake.receive(self.env(), config, payload, platform)
        assert has_succeeded is succeeded, result
        return result

    def request(self):
        """The request that was sealed for the only run that was started."""
        [(_, parameters)] = self._api.started
        return unseal(parameters["case"])["request"]


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    monkeypatch.setattr(agent_run_intake, "ASK_SECONDS", 9.0)


@pytest.fixture
def intake_of(make_env, api, clock):
    return lambda name: Intake(name, make_env, api, clock)


@pytest.fixture(params=APIS)
def intake(request, intake_of):
    return intake_of(request.param)


def test_a_run_that_the_platform_says_failed_starts_the_recovery_of_its_agent(intake, api):
    result = intake.receive()
    assert (result["outcome"], result["subject"]) == ("started", "invoices"), result
    [(action, parameters)] = api.started
    assert action == "synthralos.agent_recovery" and parameters["agent_id"] == "invoices"
    request = intake.request()
    assert request["original_query"] == QUERY
    handle = Handle.from_dict(request["context"]["handle"])
    name = AGENTS[intake.name].get("agent", "invoices")
    assert handle == Handle(intake.name, intake.name, name, IDS[intake.name])


@pytest.mark.parametrize("name, failure_type, message", [
    ("langgraph", "tool_failure", "the tool weather failed"),
    ("a2a", "llm_error", "rate limit exceeded at the model"),
    ("openai_responses", "error", "The model failed to generate a response."),
])
def test_what_failed_is_what_the_platform_says(intake_of, api, name, failure_type, message):
    intake = intake_of(name)
    body = json.loads(json.dumps(WEBHOOKS[name]).replace(message, "the disk is full"))
    intake.receive(body)
    assert api.started[0][1]["failure_type"] == failure_type
    assert message in intake.request()["failure_details"]["message"]


@pytest.mark.parametrize("states, reason", [
    (COMPLETED, "completed"), (RUNNING, "still working"), (ASKING, "waits for an answer"),
    (CANCELLED, "cancelled"),
])
def test_a_run_that_the_platform_does_not_say_failed_starts_nothing(intake, api, states, reason):
    intake.replies = states[intake.name]()
    result = intake.receive()
    assert result["outcome"] == "not_a_failure" and reason in result["reason"]
    assert (api.started, result["subject"], result["run"]) == ([], "invoices", None)


def test_a_completed_run_without_an_answer_failed(intake, api):
    intake.replies = BLANK[intake.name]()
    assert intake.receive()["outcome"] == "started"
    assert api.started[0][1]["failure_type"] == "invalid_output"


def test_a_run_that_the_platform_does_not_know_starts_nothing(intake, api):
    intake.replies = UNKNOWN[intake.name]()
    result = intake.receive()
    assert (result["outcome"], api.started) == ("unconfirmed", [])
    assert "knows this run" in result["reason"]


def test_a_run_that_our_credential_may_not_see_starts_nothing(intake, api):
    key = next(iter(intake.replies))
    intake.replies[key] = (403, {"detail": "Forbidden"})
    assert (intake.receive()["outcome"], api.started) == ("unconfirmed", [])


@pytest.mark.parametrize("reply", [(503, {}), (429, {}), (401, {}), lost()])
def test_a_platform_that_cannot_be_asked_fails_the_intake_and_the_next_webhook_counts(
    intake, api, reply
):
    key = next(iter(intake.replies))
    intake.replies[key] = reply
    result = intake.receive(succeeded=False)
    assert result["outcome"] == "failed" and "could not be asked" in result["error"]["message"]
    assert result["error"]["hint"] and api.started == []
    intake.replies = REPLIES[intake.name]()
    assert intake.receive()["outcome"] == "started"


def test_a_replay_starts_nothing_also_after_the_recovery_has_ended(intake, api):
    first = intake.receive()
    assert first["outcome"] == "started"
    assert intake.receive()["outcome"] == "running"
    for status in ("succeeded", "failed"):
        api.runs[first["run"]].update(status=status, end_timestamp=to_iso(1_700_000_100))
        again = intake.receive()
        assert (again["outcome"], again["run"]) == ("duplicate", first["run"])
    assert len(api.started) == 1


def test_a_replay_after_all_records_have_expired_starts_nothing(intake, api, clock):
    intake.receive()
    clock.forward(TTL_SECONDS + 3600)
    assert (intake.receive()["outcome"], len(api.started)) == ("expired", 1)


def test_other_spellings_of_an_id_are_the_same_run(intake_of, api):
    intake = intake_of("langgraph")
    intake.receive()
    body = dict(WEBHOOKS["langgraph"])
    body["run_id"] = "{%s}" % body["run_id"].upper()
    assert intake.receive(body)["outcome"] == "running" and len(api.started) == 1


def test_a_true_webhook_among_false_ones_starts_its_run(intake, api):
    key = next(iter(intake.replies))
    good, foreign = intake.replies, UNKNOWN[intake.name]()
    outcomes = []
    for replies in (foreign, RUNNING[intake.name](), good, foreign, good):
        intake.replies = replies
        outcomes.append(intake.receive()["outcome"])
    assert outcomes == ["unconfirmed", "not_a_failure", "started", "unconfirmed", "running"], key
    assert len(api.started) == 1


def test_an_agent_that_is_not_configured_starts_nothing(intake, api):
    if intake.name == "a2a":
        intake.platforms.append(dict(intake.platforms[0], name="other"))
        intake.agents["invoices"]["platform"] = "other"
        intake.replies = UNKNOWN["a2a"]()
        expected = "unconfirmed"
    else:
        intake.agents["invoices"]["agent"] = "another"
        expected = "not_configured"
    assert (intake.receive()["outcome"], api.started) == (expected, [])


def test_without_any_agent_no_platform_is_asked(intake, api):
    intake.agents = {}
    assert intake.receive()["outcome"] == "unconfirmed"
    assert intake.client.sent == []


@pytest.mark.parametrize("name", APIS)
def test_a_run_that_this_pack_has_started_starts_nothing(intake_of, api, name):
    intake = intake_of(name)
    key = idempotency.key("5f0c", "POST", "invoices", {})
    metadata = {"idempotency_key": key, "agent_id": "invoices", "execution_id": "5f0c"}
    history = [dict(TASK["history"][0], messageId=key)]
    intake.replies = {
        "langgraph": lambda: replies_of_langgraph(dict(RUN, metadata=metadata)),
        "a2a": lambda: replies_of_a2a(dict(TASK, history=history)),
        "openai_responses": lambda: replies_of_openai(dict(RESPONSE, metadata=metadata)),
    }[name]()
    result = intake.receive()
    assert (result["outcome"], api.started) == ("own_execution", [])
    # The webhook may say so; it decides nothing.
    intake.replies = REPLIES[name]()
    body = dict(WEBHOOKS[name], metadata=metadata)
    assert intake.receive(body)["outcome"] == "started"


def test_a_run_that_is_recorded_as_one_of_ours_starts_nothing(intake, api, clock, store):
    handle = Handle(intake.name, intake.name, "x", IDS[intake.name])
    record = AgentRun(
        "invoices", "run-1", "5f0c", "key", "target", handle.as_dict(), clock(), clock() + 60
    )
    agent_runs.save(store, record, clock())
    assert (intake.receive()["outcome"], api.started) == ("own_execution", [])


def test_a_run_without_a_query_is_left_to_a_person(intake, api, store):
    intake.replies = {
        "langgraph": lambda: replies_of_langgraph(
            dict(RUN, kwargs={"input": {"topic": "x"}}),
        ),
        "a2a": lambda: replies_of_a2a(dict(TASK, history=[])),
        "openai_responses": lambda: replies_of_openai(items={"data": []}),
    }[intake.name]()
    result = intake.receive()
    assert (result["outcome"], api.started) == ("no_query", [])
    assert tickets.get(store, result["ticket"])["subject"] == "invoices"


def test_a_run_of_an_agent_that_is_unsafe_to_repeat_is_left_to_a_person(intake, api, store):
    intake.agents["invoices"]["unsafe_to_repeat"] = True
    result = intake.receive()
    assert (result["outcome"], api.started) == ("unsafe_to_repeat", [])
    assert tickets.get(store, result["ticket"])["subject"] == "invoices"


def test_in_the_mode_observe_nothing_is_started(intake, api):
    result = intake.receive(mode="observe")
    assert (result["outcome"], result["would"]["outcome"]) == ("observed", "started")
    assert result["summary"].endswith("would start agent_recovery") and result["reason"] is None
    assert api.started == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_of_the_platform_are_data(intake_of, api, text):
    intake = intake_of("langgraph")
    graph_input = {"messages": [{"role": "user", "content": text}]}
    intake.replies = replies_of_langgraph(
        dict(RUN, kwargs={"input": graph_input}), error={"error": "E", "message": text},
    )
    assert intake.receive()["outcome"] == "started"
    request = intake.request()
    assert request["original_query"] == text
    plain = {name: value for name, value in api.started[0][1].items() if name != "case"}
    assert text not in json.dumps(plain)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name, field", [
    ("langgraph", "assistant_id"), ("langgraph", "status"), ("a2a", "metadata"),
    ("openai_responses", "object"),
])
def test_what_a_webhook_says_besides_the_id_reaches_no_run(intake_of, api, name, field, text):
    intake = intake_of(name)
    result = intake.receive(dict(WEBHOOKS[name], **{field: text}))
    assert result["outcome"] == "started" and text not in json.dumps(result)
    assert text not in json.dumps(intake.request())


@pytest.mark.parametrize("run_id", HOSTILE + ["../../admin", ".", "..", "a/b#c?d=e", "%2e%2e"])
@pytest.mark.parametrize("name", ["a2a", "openai_responses"])
def test_an_id_is_one_part_of_a_path_and_nothing_else(intake_of, api, name, run_id):
    intake = intake_of(name)
    intake.platforms[0].update({"binding": "HTTP+JSON"} if name == "a2a" else {})
    intake.replies = {}
    body = (
        {"task": {"id": run_id, "status": {"state": "TASK_STATE_FAILED"}}} if name == "a2a" else
        {"type": "response.failed", "data": {"id": run_id}}
    )
    try:
        outcome = intake.receive(body)["outcome"]
    except InvalidInput as error:
        assert run_id in (".", "..") and error.hint
    else:
        assert (outcome, api.started) == ("unconfirmed", [])
        for _, path, _, _ in intake.client.sent:
            assert path.startswith(("/tasks/", "/responses/"))
            assert not set(path.split("/", 2)[2]) & set("/#?<> {}")


@pytest.mark.parametrize("body, outcome", [
    ("a2a_task_submitted", "not_a_failure"), ("a2a_status_working", "not_a_failure"),
])
def test_a_task_that_is_said_to_work_is_not_asked_for(intake_of, body, outcome):
    intake = intake_of("a2a")
    assert intake.receive(load(body))["outcome"] == outcome
    assert intake.client.sent == []


@pytest.mark.parametrize("body", [
    {"artifactUpdate": {"taskId": TASK["id"], "artifact": {}}},
    {"kind": "artifact-update", "taskId": TASK["id"], "artifact": {}},
    {"message": {"messageId": "m", "role": "ROLE_AGENT", "parts": []}},
    {"kind": "message", "messageId": "m", "role": "agent", "parts": []},
])
def test_parts_of_answers_are_no_failures(intake_of, body):
    intake = intake_of("a2a")
    assert intake.receive(body)["outcome"] == "not_a_failure"
    assert intake.client.sent == []


@pytest.mark.parametrize("body", [
    load("a2a_03_task_failed"), {"task": TASK},
    {"kind": "status-update", "taskId": TASK["id"], "status": {"state": "failed"}},
])
def test_every_form_of_a_task_is_recognized(intake_of, body):
    assert intake_of("a2a").receive(body)["outcome"] == "started"


def test_a_task_of_0_3_is_confirmed_by_0_3(intake_of, api):
    intake = intake_of("a2a")
    intake.platforms[0].update(protocol_version="0.3")
    intake.replies = replies_of_a2a(load("a2a_03_task_failed"))
    assert intake.receive(load("a2a_03_task_failed"))["outcome"] == "started"
    assert intake.client.sent[0][2]["method"] == "tasks/get"
    assert intake.request()["original_query"] == QUERY


@pytest.mark.parametrize("event", ["failed", "incomplete", "completed", "cancelled"])
def test_every_event_about_a_response_asks_the_platform(intake_of, event):
    assert intake_of("openai_responses").receive(
        load("openai_response_" + event)
    )["outcome"] == "started"


def test_an_event_about_something_else_is_no_failure(intake_of):
    intake = intake_of("openai_responses")
    assert intake.receive(load("openai_batch_failed"))["outcome"] == "not_a_failure"
    assert intake.client.sent == []


@pytest.mark.parametrize("body", [
    {}, [], "run", {"run_id": "1", "thread_id": "2"}, {"run_id": 7, "thread_id": []},
    {"statusUpdate": {"taskId": "", "status": {}}}, {"type": "response.failed", "data": {}},
    {"alerts": []},
])
def test_what_is_no_such_notification_is_refused_in_words(intake_of, body):
    with pytest.raises(InvalidInput) as error:
        intake_of("langgraph").receive(body)
    assert error.value.field == "body" and "docs/webhooks.md" in error.value.hint


def test_a_body_nested_deeper_than_it_can_be_printed_is_refused(intake_of):
    nested = []
    for _ in range(5000):
        nested = [nested]
    for body in ({"a": nested}, {"taskId": "t", "kind": nested}):
        with pytest.raises(InvalidInput):
            intake_of("langgraph").receive(body)
    body = {"task": {"id": "t", "status": {"state": nested}}}
    assert intake_of("a2a").receive(body)["outcome"] == "not_a_failure"


def test_the_rule_names_the_platform(intake_of, api):
    intake = intake_of("openai_responses")
    intake.platforms.append(dict(intake.platforms[0], name="eu", base_url="https://eu.example"))
    intake.agents["eu_invoices"] = dict(AGENTS["openai_responses"], platform="eu")
    assert intake.receive(platform="eu")["subject"] == "eu_invoices"
    assert all(url.startswith("https://eu.example") for url in intake.client.urls)


@pytest.mark.parametrize("platform", ["nobody", "a2a", "{{ x }}"])
def test_a_platform_of_another_api_is_refused(intake_of, platform):
    intake = intake_of("openai_responses")
    intake.platforms.append({"name": "a2a", "api": "a2a", "base_url": "https://a.example"})
    with pytest.raises(InvalidInput) as error:
        intake.receive(platform=platform)
    assert error.value.field == "platform" and error.value.hint


def test_a_standby_is_asked_where_the_first_address_does_not_know_the_run(intake_of, api):
    intake = intake_of("openai_responses")
    intake.platforms[0]["fallbacks"] = [{"name": "standby", "base_url": "https://b.example"}]
    intake.replies["GET " + RESPONSE_PATH] = [(503, {}), RESPONSE]
    assert intake.receive(platform="openai_responses")["outcome"] == "started"
    handle = intake.request()["context"]["handle"]
    assert handle["platform"] == "standby"
    # It is one platform: the same run at its first address is the same failure.
    intake.replies = replies_of_openai()
    assert intake.receive()["outcome"] == "running"


@pytest.mark.parametrize("entry, outcome", [
    ({"agent": "gpt-4o"}, "started"),
    ({"agent": "gpt-4o-2024-08-06"}, "started"),
    ({"agent": "any", "config": {"model": "gpt-4o", "instructions": "You sum up invoices."}},
     "started"),
    ({"agent": "gpt-4"}, "not_configured"),
    ({"config": {"instructions": "You book flights."}}, "not_configured"),
    ({"config": {}}, "not_configured"),
    ({"agent": "pmpt_1"}, "not_configured"),
])
def test_a_model_is_an_agent_together_with_its_instructions(intake_of, entry, outcome):
    intake = intake_of("openai_responses")
    intake.agents["invoices"].update(entry)
    assert intake.receive()["outcome"] == outcome


def test_a_stored_prompt_is_an_agent(intake_of, api):
    intake = intake_of("openai_responses")
    prompt = {"id": "pmpt_7", "version": "2", "variables": None}
    intake.replies = replies_of_openai(dict(RESPONSE, prompt=prompt))
    # The agent that is the model is another one.
    assert intake.receive()["outcome"] == "not_configured"
    intake.agents["prompted"] = {"platform": "openai_responses", "agent": "pmpt_7"}
    assert intake.receive()["subject"] == "prompted"


def test_two_agents_that_cannot_be_told_apart_need_a_word_in_the_metadata(intake_of, api):
    intake = intake_of("openai_responses")
    intake.agents["twin"] = copy.deepcopy(intake.agents["invoices"])
    result = intake.receive()
    assert result["outcome"] == "not_configured" and "invoices, twin" in result["reason"]
    named = dict(RESPONSE, metadata={"agent_id": "twin"})
    intake.replies = replies_of_openai(named)
    assert intake.receive()["subject"] == "twin"


def test_the_graph_s_name_is_its_own_assistant_only(intake_of, api):
    intake = intake_of("langgraph")
    custom = dict(ASSISTANT, metadata={})
    intake.replies = replies_of_langgraph(assistant=custom)
    assert intake.receive()["outcome"] == "not_configured"
    intake.agents["invoices"]["agent"] = ASSISTANT["assistant_id"]
    assert intake.receive()["outcome"] == "started"


def test_a_run_that_another_one_has_followed_starts_nothing(intake_of, api):
    intake = intake_of("langgraph")
    newest = dict(RUN, run_id="0d5e4c1a-6f2b-4c3d-8e9f-102938475699", status="success")
    intake.replies = replies_of_langgraph(newest=newest)
    result = intake.receive()
    assert (result["outcome"], api.started) == ("not_a_failure", [])
    assert "later run" in result["reason"]


def test_a_replay_of_a_run_that_its_recovery_has_followed_is_a_repetition(intake_of, api):
    intake = intake_of("langgraph")
    # What was only observed has no recovery.
    assert intake.receive(mode="observe")["outcome"] == "observed"
    first = intake.receive()
    newest = dict(RUN, run_id="0d5e4c1a-6f2b-4c3d-8e9f-102938475699", status="success")
    intake.replies = replies_of_langgraph(newest=newest)
    api.runs[first["run"]].update(status="succeeded", end_timestamp=to_iso(1_700_000_100))
    again = intake.receive()
    assert (again["outcome"], again["run"]) == ("duplicate", first["run"])


def test_a_run_that_was_only_observed_and_then_followed_by_another_starts_nothing(intake_of, api):
    intake = intake_of("langgraph")
    assert intake.receive(mode="observe")["outcome"] == "observed"
    newest = dict(RUN, run_id="0d5e4c1a-6f2b-4c3d-8e9f-102938475699", status="success")
    intake.replies = replies_of_langgraph(newest=newest)
    assert (intake.receive()["outcome"], api.started) == ("not_a_failure", [])


@pytest.mark.parametrize("graph_input, query", [
    ({"messages": [{"type": "human", "content": "a"}, {"type": "ai", "content": "b"}]}, "a"),
    ({"messages": [["user", "a"]]}, "a"), ({"messages": "a"}, "a"), ({"messages": ["a"]}, "a"),
    ({"messages": {"role": "user", "content": [{"type": "text", "text": "a"}]}}, "a"),
    ("a", "a"),
])
def test_the_query_is_read_in_any_form_that_graphs_take(intake_of, graph_input, query):
    intake = intake_of("langgraph")
    intake.replies = replies_of_langgraph(dict(RUN, kwargs={"input": graph_input}))
    intake.receive()
    assert intake.request()["original_query"] == query


def test_a_run_that_continued_has_the_query_of_its_thread(intake_of):
    intake = intake_of("langgraph")
    values = {"messages": [{"type": "human", "content": QUERY}, {"type": "ai", "content": "n1"}]}
    intake.replies = replies_of_langgraph(
        dict(RUN, kwargs={"input": None}), state={"values": values, "next": ["n4"], "tasks": []},
    )
    intake.receive()
    assert intake.request()["original_query"] == QUERY


def test_a_query_under_another_key_of_the_input(intake_of):
    intake = intake_of("langgraph")
    intake.platforms[0]["input_key"] = "question"
    intake.replies = replies_of_langgraph(dict(RUN, kwargs={"input": {"question": QUERY}}))
    intake.receive()
    assert intake.request()["original_query"] == QUERY


def test_each_agent_of_an_a2a_platform_is_asked_at_its_own_address(intake_of, api):
    intake = intake_of("a2a")
    intake.platforms[0]["agent_path"] = "/agents/{agent}"
    intake.agents = {"first": {"platform": "a2a"}, "invoices": {"platform": "a2a"}}
    unknown = UNKNOWN["a2a"]()["POST "]
    intake.replies = {"POST ": [unknown, TASK_REPLY]}
    assert intake.receive()["subject"] == "invoices"
    assert [url.rsplit("/", 1)[1] for url in intake.client.urls] == ["first", "invoices"]


TASK_REPLY = replies_of_a2a()["POST "]
