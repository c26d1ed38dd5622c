import json

import pytest

from sandbox import (
    blank,
    content_policy,
    context_length,
    cut,
    malformed,
    no_finish_reason,
    ok,
    overloaded,
    quota,
    rate_limit,
    reset,
    status,
    unauthorized,
)

GPT4, GPT35, HAIKU = "llm:openai/gpt-4", "llm:openai/gpt-3.5-turbo", "llm:anthropic/claude-3-haiku"


def retry(world, reason="Server error", **parameters):
    inputs = {
        "original_request": {"prompt": "Hello", "model": "gpt-4"},
        "failure_reason": reason,
        "fallback_models": ["claude-3-haiku"],
    }
    inputs.update(parameters)
    return world.run("llm_retry", **inputs)


def targets(output):
    return [entry["target"] for entry in output["trail"] if "attempt" in entry]


def test_any_target_that_answers_takes_two_executions(world):
    world.box.script(GPT4, [status(500)], forever=True)
    run, output = retry(world)
    assert world.tasks(run) == ["determine_retry_strategy", "call_llm"]
    assert (output["final_model"], output["attempts"]) == ("claude-3-haiku", 2)
    result = output["result"]
    assert result["response"] == "Answer from claude-3-haiku: Hello"
    assert (result["provider"], result["finish_reason"]) == ("anthropic", "stop")
    assert result["provider_finish_reason"] == "end_turn"
    assert result["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    "fault",
    [
        rate_limit(retry_after=30), quota(), unauthorized(), overloaded(), blank(), cut(),
        malformed(), no_finish_reason(), reset(), status(500), status(503), status(404),
    ],
    ids=lambda step: getattr(step, "name", None) or str(step)[:30],
)
def test_the_fallback_is_asked_at_once(world, fault):
    world.box.script(GPT4, [fault], forever=True)
    run, output = retry(world)
    assert run["status"] == "succeeded" and world.local.delays == []
    assert targets(output) == [GPT4, HAIKU]


@pytest.mark.parametrize("first_key, scripted", [
    ("not-a-key", []), ("sandbox-openai-key", [quota()]),
], ids=["not valid", "spent"])
def test_a_later_run_asks_an_account_that_failed_for_no_other_model(world, first_key, scripted):
    provider = world.config["providers"][0]
    del provider["api_key"]
    provider["api_keys_from"] = ["openai_a", "openai_b"]
    world.local.keys.set("openai_a", first_key, encrypt=True)
    world.local.keys.set("openai_b", "sandbox-openai-key", encrypt=True)
    world.box.script(GPT4, scripted)
    world.box.script(HAIKU, [status(503)], forever=True)
    request = {"prompt": "Hello", "model": "claude-3-haiku"}
    _, first = retry(world, original_request=request, fallback_models=["gpt-4"])
    _, later = retry(world, original_request=request, fallback_models=["gpt-3.5-turbo"])
    assert targets(first)[-2:] == [GPT4 + "@openai_a", GPT4 + "@openai_b"]
    assert [name for name in targets(later) if "gpt" in name] == [GPT35 + "@openai_b"]
    (skipped,) = [entry for entry in later["trail"] if entry["target"] == GPT35 + "@openai_a"]
    assert skipped["skipped"].startswith("its account failed with ")
    assert len(world.box.calls_to(GPT35)) == 1
    check_reports_of_account(world, "openai@openai_a", first_key)


def check_reports_of_account(world, account, key):
    """health.get and the metrics name the account at rest, and until when; neither shows its key.
    """
    health = world.local.run("synthralos.health.get", {})["result"]["result"]
    resting = [entry for entry in health["accounts"] if entry["state"] == "resting"]
    assert [(entry["account"], entry["provider"]) for entry in resting] == [(account, "openai")]
    assert resting[0]["until"] > health["timestamp"]
    parameters = {"format": "prometheus", "prefix": "synthralos_account"}
    metrics = world.local.run("synthralos.metrics.get", parameters)["result"]["result"]
    labels = '{provider="openai",account="%s"}'
    assert "synthralos_account_resting%s 1" % labels % account in metrics["text"]
    assert "synthralos_account_resting%s 0" % labels % "openai@openai_b" in metrics["text"]
    assert metrics["text"].count("synthralos_account_rests_until_timestamp_seconds{") == 1
    assert key not in json.dumps([health, metrics])


def test_back_off_comes_before_a_target_is_tried_again(world):
    world.config["backoff"] = {"strategy": "fixed", "base_delay": 1}
    world.box.script(GPT4, [status(500), ok(text="Hi")])
    run, output = retry(world, fallback_models=[])
    assert targets(output) == [GPT4, GPT4] and output["result"]["response"] == "Hi"
    assert world.local.delays == [1]
    assert len(world.tasks(run)) == 3


def test_max_retries_bounds_the_repeats_and_not_the_fallbacks(world):
    world.box.script("llm:*", [status(500)], forever=True)
    run, output = retry(
        world, max_retries=1, fallback_models=["gpt-3.5-turbo", "claude-3-haiku"]
    )
    assert run["status"] == "failed"
    assert targets(output) == [GPT4, GPT35, HAIKU, GPT4]


def test_a_hint_that_does_not_fit_the_deadline_fails_now_and_says_when(world):
    world.box.script(GPT4, [rate_limit(retry_after=600)], forever=True)
    run, output = retry(world, fallback_models=[])
    assert run["status"] == "failed" and output["attempts"] == 1
    assert "the next retry is due in" in output["error"]["reason"]


def test_a_cooling_target_is_passed_over_by_the_next_run(world):
    world.box.script(GPT4, [rate_limit(retry_after=30)], forever=True)
    retry(world)
    _, output = retry(world)
    assert targets(output) == [HAIKU]
    assert output["trail"][0]["skipped"]
    assert len(world.box.calls_to(GPT4)) == 1


def test_a_dead_target_gets_no_more_than_five_calls(world):
    world.box.script(GPT4, [status(500)], forever=True)
    for _ in range(8):
        _, output = retry(world)
        assert output["final_model"] == "claude-3-haiku"
    assert len(world.box.calls_to(GPT4)) == 5


def test_a_prompt_that_is_too_long_goes_to_a_larger_window_only(world):
    world.box.script(GPT4, [context_length()], forever=True)
    _, output = retry(world, fallback_models=["openai/gpt-4", "gpt-3.5-turbo"])
    assert targets(output) == [GPT4, GPT35]
    world.box.script("llm:anthropic/claude-3-5-sonnet", [context_length()], forever=True)
    request = {"prompt": "Hello", "model": "claude-3-5-sonnet"}
    run, output = retry(world, original_request=request, fallback_models=["gpt-3.5-turbo"])
    assert run["status"] == "failed" and output["attempts"] == 1


def test_content_policy_goes_elsewhere_only_where_the_config_says_so(world):
    world.box.script(GPT4, [content_policy()], forever=True)
    run, output = retry(world)
    assert run["status"] == "failed" and output["attempts"] == 1


def test_content_policy_goes_elsewhere_where_the_config_says_so(world):
    world.config["fall_over"] = {"content_policy": True}
    world.box.script(GPT4, [content_policy()], forever=True)
    _, output = retry(world)
    assert output["final_model"] == "claude-3-haiku"


def test_a_bad_request_is_sent_to_each_provider_once(world):
    world.box.script("llm:*", [status(422, error="max_tokens must be positive")], forever=True)
    run, output = retry(world, fallback_models=["gpt-3.5-turbo", "claude-3-haiku"])
    assert run["status"] == "failed" and targets(output) == [GPT4, HAIKU]
    assert output["error"]["cause"] == "bad_request"


def test_a_model_that_cannot_answer_for_the_reason_given_is_passed_over(world):
    _, output = retry(world, reason="Quota exceeded")
    assert targets(output) == [HAIKU]
    assert output["trail"][0] == {"target": GPT4, "skipped": "failed with quota"}


def test_messages_and_parameters_arrive_in_both_wire_formats(world):
    request = {
        "model": "gpt-4",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "parameters": {"maxTokens": 7, "temperature": 0.5},
    }
    world.box.script(GPT4, [status(500)])
    retry(world, original_request=request)
    first, second = world.box.calls_to("llm:*")
    assert first.body["messages"] == request["messages"] and first.body["max_tokens"] == 7
    assert second.body["system"] == "Be brief" and second.body["max_tokens"] == 7
    assert second.body["messages"] == [{"role": "user", "content": "Hi"}]
    assert second.headers["x-api-key"] == "sandbox-anthropic-key"


def test_a_large_answer_is_stored_and_its_key_returned(world):
    world.config["max_result_bytes"] = 1000
    world.box.script(GPT4, [ok(text="x" * 5000)])
    _, output = retry(world)
    assert output["result"]["response"] is None
    assert output["result"]["response_bytes"] > 5000
    assert world.local.keys.get(output["result"]["response_key"]) is not None


def test_a_key_from_the_datastore_is_read_at_each_attempt(world):
    world.config["providers"][0].pop("api_key")
    world.config["providers"][0]["api_key_from"] = "openai_key"
    world.local.keys.set("openai_key", "sandbox-openai-key", encrypt=True)
    run, output = retry(world)
    assert output["final_model"] == "gpt-4"
    assert "sandbox-openai-key" not in str(world.local.executions(parent=run["id"]))


@pytest.mark.parametrize(
    "request_, field",
    [
        ({"model": "gpt-4"}, "original_request"),
        ({"prompt": "Hello"}, "original_request.model"),
        ({"prompt": "Hello", "model": "gpt-9"}, "original_request.model"),
        ({"prompt": "Hello", "model": "gpt-4", "provider": "acme"}, "original_request.provider"),
        ({"prompt": "Hello", "model": "gpt 4"}, "original_request.model"),
        (
            {"prompt": "Hello", "model": "gpt-4", "parameters": {"stream": True}},
            "original_request.parameters.stream",
        ),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_way_out(world, request_, field):
    run, output = retry(world, original_request=request_)
    assert run["status"] == "failed" and world.box.calls_to("llm:*") == []
    assert output["error"]["field"] == field and output["error"]["hint"]
