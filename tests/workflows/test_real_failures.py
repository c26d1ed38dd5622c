"""Whole runs that meet what providers really answered, taken from public failure reports."""
import gzip
import json
import time

import pytest

from sandbox import ok, status

GPT4, GPT35 = "llm:openai/gpt-4", "llm:openai/gpt-3.5-turbo"
GPT4O, HAIKU = "llm:openai/gpt-4o", "llm:anthropic/claude-3-haiku"


def retry(world, fallbacks=("claude-3-haiku",), reason="timeout", parameters=None, **more):
    request = {"prompt": "Hello", "model": "gpt-4"}
    if parameters:
        request["parameters"] = parameters
    inputs = {
        "original_request": request, "failure_reason": reason, "fallback_models": list(fallbacks),
        "max_retries": 1,
    }
    return world.run("llm_retry", **dict(inputs, **more))


def attempts(output):
    return [entry for entry in output["trail"] if "attempt" in entry]


def targets(output):
    return [entry["target"] for entry in attempts(output)]


def error(message, **more):
    return {"error": dict({"message": message}, **more)}


def completion(content="hi", finish="stop", usage=None, **choice):
    body = {"choices": [dict({
        "index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content},
    }, **choice)]}
    return dict(body, usage=usage) if usage else body


UNSUPPORTED = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
    "'max_completion_tokens' instead.", type="invalid_request_error", param="max_tokens",
    code="unsupported_parameter")


# A fallback that does not take a parameter.


def test_a_fallback_that_refuses_a_parameter_does_not_end_the_run(world):
    world.box.script(GPT4, [status(503)], forever=True)
    world.box.script(GPT35, [status(400, body=UNSUPPORTED)], forever=True)
    run, output = retry(
        world, ("gpt-3.5-turbo", "claude-3-haiku"), parameters={"max_tokens": 100})
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    assert [entry.get("cause") for entry in attempts(output)] == [
        "server_error", "unsupported_parameter", None]


def test_a_refused_parameter_gets_the_name_that_the_refusal_suggests(world):
    world.box.script(GPT4, [status(400, body=UNSUPPORTED)])
    run, output = retry(world, parameters={"max_tokens": 100, "temperature": 0.2})
    assert targets(output) == [GPT4] and run["status"] == "succeeded"
    first, second = (call.body for call in world.box.calls_to(GPT4))
    assert first["max_tokens"] == second["max_completion_tokens"] == 100
    assert "max_tokens" not in second and second["temperature"] == 0.2
    adapted = [{
        "field": "max_tokens", "reason": "the model refused it by this name",
        "sent_as": "max_completion_tokens",
    }]
    assert attempts(output)[0]["adapted"] == output["result"]["adapted"] == adapted


@pytest.mark.parametrize("code", ["unsupported_value", None])
def test_a_refused_value_is_left_out(world, code):
    body = error(
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        param="temperature", code=code)
    world.box.script(GPT4, [status(400, body=body)])
    _, output = retry(world, parameters={"temperature": 0.2})
    assert targets(output) == [GPT4]
    assert "temperature" not in world.box.calls_to(GPT4)[-1].body


def test_what_changes_the_request_is_not_left_out(world):
    body = error("Unsupported parameter: 'tools'", param="tools", code="unsupported_parameter")
    world.box.script(GPT4, [status(400, body=body)], forever=True)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    _, output = retry(world, parameters={"tools": tools})
    assert len(world.box.calls_to(GPT4)) == 1 and targets(output) == [GPT4, HAIKU]


# Whole requests in OpenAI's shape that fall over to another wire.


ANTHROPIC_FIELDS = {
    "model", "messages", "max_tokens", "metadata", "stop_sequences", "stream", "system",
    "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
}


def test_parameters_of_openai_reach_anthropic_as_its_own(world):
    world.box.script(GPT4, [status(503)], forever=True)
    world.box.script(HAIKU, [ok(text='As you wish: {"a": 1}')])
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    run, output = retry(world, parameters={
        "max_completion_tokens": 100, "frequency_penalty": 0.5, "seed": 1,
        "response_format": {"type": "json_object"}, "tool_choice": "auto", "tools": tools,
    })
    body = world.box.calls_to(HAIKU)[-1].body
    assert set(body) <= ANTHROPIC_FIELDS and body["max_tokens"] == 100
    assert body["tool_choice"] == {"type": "auto"}
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    names = {entry["field"] for entry in attempts(output)[-1]["adapted"]}
    assert names == {"frequency_penalty", "seed", "response_format"}
    assert output["result"]["response"] == '{"a": 1}'


def test_messages_of_openai_reach_anthropic_as_its_own(world):
    world.box.script(GPT4, [status(503)], forever=True)
    request = {"model": "gpt-4", "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    ]}
    run, output = retry(world, original_request=request)
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    question, call, answer = world.box.calls_to(HAIKU)[-1].body["messages"]
    assert question["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {
            "type": "base64", "media_type": "image/png", "data": "AAAA"}},
    ]
    assert call["content"] == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]
    assert answer["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "42"}]


# Errors that speak of the account, the model or the size.


GOOGLE_KEY = error(
    "API key not valid. Please pass a valid API key.", code=400, status="INVALID_ARGUMENT",
    details=[{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}])


@pytest.mark.parametrize("body", [
    GOOGLE_KEY, [GOOGLE_KEY], error("API key expired. Please renew the API key.", code=400),
])
def test_a_wrong_key_in_a_400_excludes_the_account(world, body):
    world.box.script(GPT4, [status(400, body=body)], forever=True)
    run, output = retry(world, ("gpt-3.5-turbo", "claude-3-haiku"))
    assert run["status"] == "succeeded" and targets(output) == [GPT4, HAIKU]
    first = attempts(output)[0]
    assert first["cause"] == "authentication" and first["message"].startswith("API key")


@pytest.mark.parametrize("body", [
    error("The model `m1` has been decommissioned and is no longer supported.",
          type="invalid_request_error", code="model_decommissioned"),
    dict(error("m1 is not a valid model ID", code=400), user_id="u"),
    {"message": "The provided model identifier is invalid."},
    error("Model Not Exist", type="invalid_request_error"),
])
def test_a_model_that_is_gone_leaves_its_siblings(world, body):
    world.box.script(GPT4, [status(400, body=body)], forever=True)
    _, output = retry(world, ("gpt-3.5-turbo",))
    assert targets(output) == [GPT4, GPT35]
    assert attempts(output)[0]["cause"] == "model_not_found"


OVERFLOW = error(
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 "
    "tokens.", code="context_length_exceeded")


@pytest.mark.parametrize("body", [
    {"message": "Input is too long for requested model."},
    error("request (33056 tokens) exceeds the available context size (32768 tokens), try "
          "increasing it", code=400, type="exceed_context_size_error", n_ctx=32768),
    error("Context size has been exceeded.", code=400, type="server_error"),
    dict(error("Provider returned error", code=400, metadata={
        "raw": json.dumps(OVERFLOW), "provider_name": "X"}), user_id="u"),
    dict(error("Provider returned error", code=400, metadata={
        "raw": OVERFLOW["error"]["message"], "provider_name": "X"}), user_id="u"),
])
def test_what_is_too_long_goes_to_a_larger_window(world, body):
    world.box.script(GPT4, [status(400, body=body)], forever=True)
    _, output = retry(world, ("gpt-4o",))
    assert targets(output) == [GPT4, GPT4O]
    assert attempts(output)[0]["cause"] == "context_length"
    assert "Provider returned error" not in attempts(output)[0]["message"]


@pytest.mark.parametrize("reason", [
    "openai.RateLimitError: Error code: 429 - {'error': {'message': 'You exceeded your current "
    "quota, please check your plan and billing details.', 'type': 'insufficient_quota', 'param': "
    "None, 'code': 'insufficient_quota'}}",
    "litellm.RateLimitError: RateLimitError: OpenAIException - You exceeded your current quota, "
    "please check your plan and billing details.",
])
def test_a_spent_account_as_an_sdk_prints_it_is_passed_over(world, reason):
    _, output = retry(world, reason=reason)
    assert targets(output) == [HAIKU]


def test_a_hint_does_not_make_a_spent_account_a_rate_limit(world):
    body = error("You exceeded your current quota", type="insufficient_quota", code=429)
    world.box.script(GPT4, [status(429, body=body, headers={"Retry-After": "20"})], forever=True)
    run, output = retry(world, ())
    assert run["status"] == "failed" and targets(output) == [GPT4]
    assert attempts(output)[0]["cause"] == "quota" and world.local.delays == []


def test_googles_rate_limit_is_not_a_lack_of_memory(world):
    message = (
        "429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'Resource exhausted. Please "
        "try again later.', 'status': 'RESOURCE_EXHAUSTED'}}")
    run, output = world.run(
        "handle_error", agent_id="a", error={"type": "unknown", "message": message},
        original_query="Summarise")
    assert run["status"] == "succeeded" and output["strategy"] == "auto_retry"


# Answers that are none.


@pytest.mark.parametrize("finish, choice, cause", [
    ("error", {"error": {"code": 502, "message": "Provider disconnected"}}, "server_error"),
    ("network_error", {}, "truncated_stream"),
    ("insufficient_system_resource", {}, "overloaded"),
    ("model_context_window_exceeded", {}, "context_length"),
    ("malformed_function_call", {}, "invalid_output"),
])
def test_half_an_answer_is_none(world, finish, choice, cause):
    half = completion("The first half of the ans", finish, **choice)
    world.box.script(GPT4, [ok(body=half)], forever=True)
    run, output = retry(world)
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    assert attempts(output)[0]["cause"] == cause


@pytest.mark.parametrize("body", [
    {"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]},
    {"choices": [{"index": 0, "finish_reason": "content_filter: RECITATION"}]},
    {"choices": [{"index": 0, "finish_reason": "SAFETY", "message": {"role": "assistant"}}]},
    {"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
    completion("half", "guardrail_intervened"),
])
def test_a_filtered_answer_goes_nowhere_else_and_says_nothing_of_the_target(world, body):
    world.box.script(GPT4, [ok(body=body)] * 5)
    for _ in range(5):
        run, output = retry(world)
        assert run["status"] == "failed" and targets(output) == [GPT4]
        assert output["error"]["cause"] == "content_policy"
    run, output = retry(world)
    assert run["status"] == "succeeded" and targets(output) == [GPT4]


@pytest.mark.parametrize("code, message, cause", [
    (402, "Insufficient credits", "quota"),
    (401, "No auth credentials found", "authentication"),
    (400, "This endpoint's maximum context length is 8192 tokens", "context_length"),
])
def test_an_error_inside_a_200_is_what_it_says(world, code, message, cause):
    body = dict(error(message, code=code), user_id="u")
    world.box.script(GPT4, [ok(body=body)], forever=True)
    run, output = retry(world, ())
    assert run["status"] == "failed" and targets(output) == [GPT4]
    assert (output["error"]["cause"], attempts(output)[0]["message"]) == (cause, message)


def test_a_rate_limit_inside_a_200_has_its_hint(world):
    reset_at = int(time.time() * 1000) + 5_000
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset_at)}
    body = error("Rate limit exceeded", code=429, metadata={"headers": headers})
    world.box.script(GPT4, [ok(body=body)])
    run, output = retry(world, ())
    assert run["status"] == "succeeded" and targets(output) == [GPT4, GPT4]
    assert 1 <= world.local.delays[0] <= 5


@pytest.mark.parametrize("code", ["tool_use_failed", "json_validate_failed"])
def test_the_models_own_bad_output_may_be_better_next_time(world, code):
    body = error("Failed to call a function. Please adjust your prompt.", code=code,
                 type="invalid_request_error", failed_generation="<function=f>")
    world.box.script(GPT4, [status(400, body=body)])
    run, output = retry(world, ())
    assert run["status"] == "succeeded" and targets(output) == [GPT4, GPT4]
    assert attempts(output)[0]["cause"] == "invalid_output"


@pytest.mark.parametrize("answer", [
    status(424, body={"message": "The system encountered an unexpected error."}),
    status(498, body=error("Over capacity", type="capacity_exceeded")),
    status(499, body=[error("The operation was cancelled.", code=499, status="CANCELLED")]),
    status(499, body=""), status(425, body=""),
])
def test_4xx_that_are_the_servers_fault_are_tried_again(world, answer):
    world.box.script(GPT4, [answer])
    run, output = retry(world, ())
    assert run["status"] == "succeeded" and targets(output) == [GPT4, GPT4]
    world.box.script("route:openai", [answer], forever=True)
    request = {"endpoint": "/x", "model": "gpt-4"}
    _, output = world.run(
        "reroute_request", original_request=request, failure_reason="Region unavailable",
        fallback_providers=["anthropic"])
    assert output["final_provider"] == "anthropic"


def test_all_tokens_spent_on_thoughts_go_to_another_model(world):
    body = completion("", "length", usage={"prompt_tokens": 5, "completion_tokens": 100})
    world.box.script(GPT4, [ok(body=body)], forever=True)
    _, output = retry(world, ("gpt-3.5-turbo",), parameters={"max_tokens": 100})
    assert targets(output) == [GPT4, GPT35]
    assert "max_tokens, 100," in attempts(output)[0]["message"]


# Bytes.


ANSWER = json.dumps(completion("good"))


@pytest.mark.parametrize("body, headers", [
    (b"\xef\xbb\xbf" + ANSWER.encode(), {}),
    (ANSWER.encode("utf-16"), {}),
    (gzip.compress(ANSWER.encode(), mtime=0), {}),
    (ANSWER.encode(), {"Content-Type": "application/json; charset=iso-8859-1"}),
])
def test_a_good_answer_is_read_in_any_encoding(world, body, headers):
    world.box.script(GPT4, [ok(body=body, headers=headers or None)])
    _, output = retry(world)
    assert targets(output) == [GPT4] and output["result"]["response"] == "good"


def test_an_error_with_a_byte_order_mark_is_read(world):
    body = b"\xef\xbb\xbf" + json.dumps(error("Insufficient Balance")).encode()
    world.box.script(GPT4, [status(402, body=body)], forever=True)
    _, output = retry(world)
    assert attempts(output)[0]["message"] == "Insufficient Balance"


# Hints.


@pytest.mark.parametrize("headers, message, hint", [
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s",
      "x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "2ms"}, "slow", 7.66),
    ({}, "Rate limit reached for m1 on tokens per min (TPM). Please try again in 7.66s.", 7.66),
    ({}, "Please try again in 2m59.56s.", 179.56),
    ({}, "Please try again in 94ms.", 0.094),
    ({}, "Requests have exceeded the limit. Please retry after 43 seconds.", 43),
    ({"Retry-After": "30, 30"}, "slow", 30),
])
def test_the_wait_is_read_wherever_it_stands(world, headers, message, hint):
    body = error(message, type="tokens", code="rate_limit_exceeded")
    world.box.script(GPT4, [status(429, headers=headers or None, body=body)])
    _, output = retry(world)
    assert targets(output) == [GPT4, HAIKU]
    assert attempts(output)[0]["hint_seconds"] == pytest.approx(hint)


def test_without_a_fallback_the_wait_in_the_words_is_kept(world):
    body = error("Rate limit reached. Please try again in 2.4s.", code="rate_limit_exceeded")
    world.box.script(GPT4, [status(429, body=body)])
    run, output = retry(world, ())
    assert run["status"] == "succeeded" and targets(output) == [GPT4, GPT4]
    assert world.local.delays == [3]


@pytest.mark.parametrize("code, should_retry, expected", [
    (500, "false", [GPT4]), (500, "true", [GPT4, GPT4]), (418, "true", [GPT4, GPT4]),
    (418, None, [GPT4]),
])
def test_the_server_may_say_whether_to_call_it_again(world, code, should_retry, expected):
    headers = {"x-should-retry": should_retry} if should_retry else None
    world.box.script(GPT4, [status(code, headers=headers)])
    _, output = retry(world, ())
    assert targets(output) == expected


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_moment_is_no_number_of_seconds(world, unit):
    moment = str(int((time.time() + 600) * unit))
    world.box.script(GPT4, [status(429, headers={"Retry-After": moment})])
    _, output = retry(world)
    assert targets(output) == [GPT4, HAIKU]
    # A number of seconds would be cut off at an hour.
    assert 0 < attempts(output)[0]["hint_seconds"] <= 601


# Tokens as they are billed.


@pytest.mark.parametrize("usage, output_tokens, total", [
    ({"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 581}, 560, 581),
    ({"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81,
      "completion_tokens_details": {"reasoning_tokens": 60}}, 60, 81),
])
def test_tokens_that_completion_tokens_leaves_out_are_counted(world, usage, output_tokens, total):
    world.config["budget"] = {"per_day": {"tokens": 1500}, "assumed_output_tokens": 50}
    world.box.script(GPT4, [ok(body=completion(usage=usage))], forever=True)
    _, output = retry(world, (), parameters={"max_tokens": 50})
    counted = output["result"]["usage"]
    assert (counted["output_tokens"], counted["total_tokens"]) == (output_tokens, total)


def test_a_budget_ends_with_the_tokens_that_the_provider_counts(world):
    world.config["budget"] = {"per_day": {"tokens": 2000}, "assumed_output_tokens": 50}
    usage = {"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 581}
    world.box.script(GPT4, [ok(body=completion(usage=usage))], forever=True)
    runs = [retry(world, (), parameters={"max_tokens": 50}) for _ in range(5)]
    assert [run["status"] for run, _ in runs] == ["succeeded"] * 4 + ["failed"]
    assert runs[-1][1]["error"]["cause"] == "budget"


def test_the_tokens_of_the_cache_are_input(world):
    body = {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn", "usage": {
        "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 20000,
        "cache_creation_input_tokens": 3000}}
    world.box.script(GPT4, [status(503)], forever=True)
    world.box.script(HAIKU, [ok(body=body)])
    _, output = retry(world)
    assert output["result"]["usage"]["input_tokens"] == 23005


# Keys with line ends.


def store_key(world, value):
    provider = dict(world.config["providers"][0], api_key_from="p1_key")
    provider.pop("api_key", None)
    world.config["providers"] = [provider] + world.config["providers"][1:]
    world.local.keys.put("p1_key", {"name": "p1_key", "value": value, "secret": True})


@pytest.mark.parametrize("surrounded", ["%s\n", "\r\n %s\t", "\ufeff%s\x00"])
def test_a_stored_key_is_sent_without_what_surrounds_it(world, surrounded):
    store_key(world, surrounded % "sandbox-openai-key")
    run, output = retry(world)
    assert output["final_model"] == "gpt-4", output
    assert world.box.calls_to(GPT4)[0].headers["authorization"] == "Bearer sandbox-openai-key"


@pytest.mark.parametrize("value", [
    "sk-secret-1\nsk-secret-2", "sk-secret-\u20ac", "sk-secret-\x00-",
])
def test_a_stored_key_that_no_header_can_carry_is_named(world, value):
    store_key(world, value)
    run, output = retry(world)
    first = attempts(output)[0]
    assert output["final_model"] == "claude-3-haiku" and first["cause"] == "configuration"
    assert "providers[0].api_key_from: p1_key" in first["message"]
    assert "sk-secret" not in json.dumps(output)
    assert world.box.calls_to(GPT4) == []
