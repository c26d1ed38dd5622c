"""Text that a template language would evaluate goes in at every entry, and is never evaluated."""
import base64
import json

import pytest

from sandbox import agent_failed, ok, status

SECRET = "canary-in-the-datastore"
TEXTS = {
    "jinja that resolves": "{{ config_context.platforms[0].token }} {{ st2kv.system.canary }}",
    "jinja that does not": "{{ foo }}",
    "yaql": "<% st2kv('system.canary') %> <% ctx() %> <% 1 + 1 %>",
    "other languages": "<%= erb %> {{.Values.x}} {% raw %} {% if %} ${x} $(id) %s %(x)s",
    "odd characters": "\x00 \u202e \u200f \U0001f600 \u00fc \\ \" '\n\t",
}
LARGE = "<% 1 + 1 %>" + "x" * 1_000_000


def encoded(text):
    return "base64:" + base64.b64encode(text.encode()).decode()


@pytest.fixture(params=TEXTS.values(), ids=TEXTS)
def text(request, world):
    """A hostile text; the datastore and the config hold secrets for it to reach."""
    world.local.keys.set("canary", SECRET)
    return request.param


def everything(world):
    """All that a run leaves where people and other programs read it."""
    executions = world.local.executions(top=False, limit=100)
    stored = world.local.keys.list(prefix="synthralos.")
    fired = [firing.payload for firing in world.local.triggers()]
    called = [[call.path, call.body] for call in world.box.calls]
    return json.dumps([executions, stored, fired, called], default=str)


def assert_inert(world):
    text = everything(world)
    assert SECRET not in text
    for secret in ("sandbox-token", "sandbox-openai-key", "sandbox-anthropic-key"):
        assert secret not in text


AGENT = {"agent_id": "a", "failure_type": "error", "retry_delay": 0}
RETRY_AS_IT_IS = {"repairPlan": {"steps": [{"action": "retry_execution"}]}}


def test_query(world, text):
    _, output = world.run(
        "agent_recovery", original_query=encoded(text), context=RETRY_AS_IT_IS, **AGENT
    )
    assert world.box.calls_to("platform")[0].body["query"] == text
    assert output["recovery_result"]["output"] == "Answer to: " + text
    assert_inert(world)


def test_failure_details_and_agent_config(world, text):
    context = dict(RETRY_AS_IT_IS, agentConfig={"systemPrompt": encoded(text)})
    run, output = world.run(
        "agent_recovery",
        original_query="q",
        failure_details={"message": encoded(text), "k": [encoded(text)]},
        context=context,
        **AGENT,
    )
    assert output["success"]
    assert world.box.calls_to("platform")[0].body["config"]["systemPrompt"] == text
    assert_inert(world)


def test_a_platform_s_answer(world, text):
    world.box.script("platform", [ok(text=text)])
    _, output = world.run("agent_recovery", original_query="q", **AGENT)
    assert output["recovery_result"]["output"] == text
    assert_inert(world)


def test_an_agent_s_error(world, text):
    world.box.script("platform", [agent_failed(error=text)], forever=True)
    run, output = world.run("agent_recovery", original_query="q", max_retries=1, **AGENT)
    assert run["status"] == "failed" and output["ticket"]
    assert output["trail"][0]["message"] == " ".join(text.split())
    assert_inert(world)


def test_a_plan_of_the_llm(world, text):
    world.config["planner"] = {"model": "gpt-4o"}
    plan = {"root_cause": text, "steps": [{"action": "rephrase", "description": text}]}
    world.box.script("llm:openai/gpt-4o", [ok(text=json.dumps(plan))])
    _, output = world.run("agent_recovery", original_query="q", **AGENT)
    assert output["plan"]["source"] == "llm" and output["plan"]["root_cause"] == text
    assert text not in world.box.calls_to("platform")[0].body["query"]
    assert_inert(world)


def test_a_plan_of_the_caller(world, text):
    step = {"action": "rephrase", "parameters": {"text": encoded(text)}}
    context = {"repairPlan": {"rootCause": encoded(text), "steps": [step]}}
    _, output = world.run("agent_recovery", original_query="q", context=context, **AGENT)
    assert text in world.box.calls_to("platform")[0].body["query"]
    assert output["plan"]["root_cause"] == text
    assert_inert(world)


def test_a_prompt_and_a_model_s_answer(world, text):
    world.box.script("llm:openai/gpt-4", [ok(text=text)])
    _, output = world.run(
        "llm_retry",
        original_request={"prompt": encoded(text), "model": "gpt-4"},
        failure_reason=encoded(text),
    )
    sent = world.box.calls_to("llm:*")[0].body["messages"][0]["content"]
    assert sent == text and output["result"]["response"] == text
    assert_inert(world)


def test_a_conversation_with_a_tool_over_two_wires(world, text):
    world.box.script("llm:openai/gpt-4", [status(503)])
    arguments = json.dumps({"q": text})
    call = {"id": "c1", "type": "function", "function": {
        "name": "f", "arguments": encoded(arguments)}}
    run, _ = world.run(
        "llm_retry",
        original_request={"model": "gpt-4", "messages": [
            {"role": "system", "content": encoded(text)},
            {"role": "user", "content": [{"type": "text", "text": encoded(text)}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": encoded(text)},
        ], "parameters": {"stop": [encoded(text)]}},
        failure_reason="timeout", fallback_models=["claude-3-haiku"],
    )
    assert run["status"] == "succeeded"
    first, second = (call.body for call in world.box.calls_to("llm:*"))
    assert first["messages"][0]["content"] == second["system"] == text
    assert first["messages"][2]["tool_calls"][0]["function"]["arguments"] == arguments
    assert second["messages"][1]["content"][0]["input"] == {"q": text}
    assert second["messages"][2]["content"][0]["content"] == text
    assert first["stop"] == second["stop_sequences"] == [text]
    assert_inert(world)


def test_a_provider_s_error(world, text):
    world.box.script("llm:openai/gpt-4", [status(400, error=text)])
    _, output = world.run(
        "llm_retry",
        original_request={"prompt": "Hello", "model": "gpt-4"},
        failure_reason="x",
    )
    assert output["trail"][0]["message"] == " ".join(text.split())
    assert_inert(world)


def test_a_body_and_a_route_s_answer(world, text):
    world.box.script("route:openai/us-east-1", [ok(text=text)])
    _, output = world.run(
        "reroute_request",
        original_request={"endpoint": "/x", "body": {"text": encoded(text)}},
        failure_reason=encoded(text),
    )
    assert world.box.calls_to("route:*")[0].body["text"] == text
    assert output["result"]["response"] == text
    assert_inert(world)


def test_a_route_s_error(world, text):
    world.box.script("route:openai/us-east-1", [status(400, body={"error": text})])
    _, output = world.run(
        "reroute_request", original_request={"endpoint": "/x"}, failure_reason="x"
    )
    assert output["trail"][0]["message"] == " ".join(text.split())
    assert_inert(world)


@pytest.mark.parametrize("text", [t for t in TEXTS.values() if "{{ " not in t])
def test_what_the_door_lets_through_arrives_plainly_too(world, text):
    world.run("agent_recovery", original_query=text, context=RETRY_AS_IT_IS, **AGENT)
    assert world.box.calls_to("platform")[0].body["query"] == text


def test_a_megabyte(world):
    world.box.script("platform", [ok(text=LARGE)])
    world.config["max_result_bytes"] = 2_000_000
    run, output = world.run(
        "agent_recovery", original_query=encoded(LARGE), context=RETRY_AS_IT_IS, **AGENT
    )
    assert world.box.calls_to("platform")[0].body["query"] == LARGE
    assert output["recovery_result"]["output"] == LARGE


def test_lone_surrogates_in_an_answer_are_replaced_visibly(world):
    world.box.script("llm:openai/gpt-4", [ok(text="a \ud800 b")])
    _, output = world.run(
        "llm_retry",
        original_request={"prompt": "Hello", "model": "gpt-4"},
        failure_reason="x",
    )
    assert output["result"]["response"] == "a \ufffd b"


def test_a_secret_that_an_answer_repeats_is_masked(world):
    world.box.script("llm:openai/gpt-4", [ok(text="Your key is sandbox-openai-key.")])
    _, output = world.run(
        "llm_retry",
        original_request={"prompt": "Hello", "model": "gpt-4"},
        failure_reason="x",
    )
    assert output["result"]["response"] == "Your key is ********."
    assert_inert(world)


def test_a_case_that_is_none_is_refused_at_the_door(world):
    from st2local import InvalidInput

    with pytest.raises(InvalidInput, match="does not match"):
        world.run("agent_recovery", original_query="q", case="<% 1 + 1 %>", **AGENT)
