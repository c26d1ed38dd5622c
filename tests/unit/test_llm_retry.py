import json

import pytest

from synthralos.calls import llm_calls
from synthralos.calls.llm_providers import ServedModel
from synthralos.config.connection import Connection
from synthralos.config.settings import Account, Model, Provider
from synthralos.core.errors import InvalidInput
from synthralos.core.failures import make_failure
from synthralos.core.sealing import unseal
from synthralos.recovery import llm_retry

REQUEST = {"prompt": "hi", "model": "gpt-4"}


def served(name, window=None, provider="p"):
    account = Account(None, Connection("http://h"))
    return ServedModel(Provider(provider, "openai", (account,), []), Model(name, window), account)


A, B, C = served("a", 8000), served("b", 8000), served("c", 16000)


def order(cause, *fallbacks, original=A):
    left, skipped = llm_retry.order_models(original, list(fallbacks), make_failure(cause))
    return [entry.model.name for entry in left], [entry["target"] for entry in skipped]


@pytest.mark.parametrize("cause", ["rate_limit", "timeout", "unknown", "server_error", "network"])
def test_the_original_comes_first_and_none_comes_twice(cause):
    assert order(cause, B, A, B) == (["a", "b"], [])


@pytest.mark.parametrize("cause", ["model_quota", "permission", "model_not_found"])
def test_an_original_that_will_fail_again_is_left_out(cause):
    assert order(cause, B, C) == (["b", "c"], ["llm:p/a"])


@pytest.mark.parametrize("cause", ["quota", "authentication"])
def test_what_shares_the_account_of_such_an_original_is_left_out_too(cause):
    other = served("d", provider="q")
    assert order(cause, B, other, C) == (["d"], ["llm:p/a", "llm:p/b", "llm:p/c"])
    assert order(cause, B) == (["a", "b"], [])


@pytest.mark.parametrize("cause", ["quota", "context_length"])
def test_without_a_fallback_the_original_is_tried_all_the_same(cause):
    assert order(cause) == (["a"], [])
    assert order(cause, A) == (["a"], [])


def test_a_context_that_was_too_long_leaves_the_larger_windows():
    assert order("context_length", B, C) == (["c"], ["llm:p/a", "llm:p/b"])
    assert order("context_length", served("d")) == (["d"], ["llm:p/a"])


def determined(env, **more):
    parameters = dict({"original_request": REQUEST, "failure_reason": "Request timeout"}, **more)
    result = llm_retry.determine(env, parameters, env.now())
    return result, unseal(result["next"]["carry"], env.store)


def test_the_strategy_names_targets_waits_and_deadline(make_env, clock):
    result, case = determined(make_env(), fallback_models=["claude", "openai/gpt-4o"])
    assert result["targets"] == ["llm:openai/gpt-4", "llm:anthropic/claude", "llm:openai/gpt-4o"]
    assert result["backoff"]["waits"] == [2.0, 4.0, 8.0]
    assert case["deadline"] == clock.at + 170 and case["chat"]["parameters"] == {}


@pytest.mark.parametrize(
    "more, field",
    [
        ({"original_request": None}, "original_request.model"),
        ({"original_request": {"prompt": "x"}}, "original_request.model"),
        ({"original_request": "x"}, "original_request"),
        ({"original_request": {"model": "gpt-4"}}, "original_request"),
        ({"failure_reason": ""}, "failure_reason"),
        ({"fallback_models": "gpt-4o"}, "fallback_models"),
        ({"fallback_models": ["gpt-4o", "gpt-9"]}, "fallback_models[1]"),
        ({"max_retries": 11}, "max_retries"),
    ],
)
def test_a_refusal_names_its_field(make_env, more, field):
    with pytest.raises(InvalidInput) as refused:
        determined(make_env(), **more)
    if more.get("original_request", 1) is None:
        assert refused.value.field.startswith("original_request")
    else:
        assert refused.value.field == field


def test_a_good_answer_is_returned_with_its_model(make_env, monkeypatch):
    env = make_env()
    _, case = determined(env)
    answer = {"response": "hello", "model": "gpt-4", "provider": "openai"}
    monkeypatch.setattr(llm_calls, "complete", lambda *arguments: dict(answer))
    ok, result = llm_retry.run_round(env, case)
    assert ok and result["result"] == answer and result["final_model"] == "gpt-4"
    assert result["attempts"] == 1


def test_a_large_answer_is_stored_and_its_key_returned(make_env, monkeypatch, store):
    env = make_env(dict(max_result_bytes=100, providers=[
        {"name": "openai", "base_url": "http://h", "models": ["gpt-4"]}]))
    _, case = determined(env)
    answer = {"response": "x" * 500}
    monkeypatch.setattr(llm_calls, "complete", lambda *arguments: dict(answer))
    result = llm_retry.run_round(env, case)[1]["result"]
    assert result["response"] is None and result["response_bytes"] == 502
    assert unseal(store.get(result["response_key"])) == "x" * 500


@pytest.mark.parametrize("beside", ["tool_calls", "metadata"])
def test_what_is_large_beside_the_answer_is_stored_too(make_env, monkeypatch, store, beside):
    env = make_env(dict(max_result_bytes=100, providers=[
        {"name": "openai", "base_url": "http://h", "models": ["gpt-4"]}]))
    _, case = determined(env)
    large = [{"function": {"name": "f", "arguments": "x" * 500}}]
    answer = {"response": "y" * 60, beside: large}
    monkeypatch.setattr(llm_calls, "complete", lambda *arguments: dict(answer))
    result = llm_retry.run_round(env, case)[1]["result"]
    assert result["response"] == "y" * 60 and result[beside] is None
    assert result[beside + "_bytes"] == len(json.dumps(large))
    assert json.loads(unseal(store.get(result[beside + "_key"]))) == large
    answer[beside] = "z" * 70
    result = llm_retry.run_round(env, case)[1]["result"]
    # Each would fit, but not both.
    assert result["response"] == "y" * 60 and result[beside] is None
    answer[beside] = "z" * 30
    assert llm_retry.run_round(env, case)[1]["result"] == answer


def test_both_may_be_too_large(make_env, monkeypatch, store):
    env = make_env(dict(max_result_bytes=100, providers=[
        {"name": "openai", "base_url": "http://h", "models": ["gpt-4"]}]))
    _, case = determined(env)
    answer = {"response": "y" * 600, "tool_calls": ["x" * 500]}
    monkeypatch.setattr(llm_calls, "complete", lambda *arguments: dict(answer))
    result = llm_retry.run_round(env, case)[1]["result"]
    assert (result["response"], result["tool_calls"]) == (None, None)
    assert unseal(store.get(result["response_key"])) == "y" * 600
    assert result["tool_calls_key"] != result["response_key"]


def test_a_configured_secret_is_in_no_case_and_no_answer(make_env, monkeypatch):
    env = make_env({"providers": [{"name": "openai", "base_url": "http://h",
                                   "api_key": "very-secret", "models": ["gpt-4"]}]})
    _, case = determined(env, original_request=dict(REQUEST, prompt="my key is very-secret"))
    assert "very-secret" not in str(case)
    monkeypatch.setattr(llm_calls, "complete", lambda *_: {"response": "very-secret"})
    assert "very-secret" not in str(llm_retry.run_round(env, case)[1])
