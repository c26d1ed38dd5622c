"""What providers really answered, on a live StackStorm: it ends there as on st2local."""
import pytest
from fixtures import corpus

from sandbox import ok, status

NOW = 1_900_000_000.0
GPT4, HAIKU = "llm:openai/gpt-4", "llm:anthropic/claude-3-haiku"
ENTRIES = {entry.id: entry for entry in corpus.load()}


def answer(entry_id):
    """The step of the sandbox that sends an entry of the corpus, byte for byte."""
    response = ENTRIES[entry_id].response_at(NOW)
    if response.status == 200:
        return ok(body=response.body, headers=response.headers)
    return status(response.status, body=response.body, headers=response.headers)


def retry(st2, **more):
    inputs = {
        "original_request": {"prompt": "Hello", "model": "gpt-4"}, "failure_reason": "timeout",
        "fallback_models": ["claude-3-haiku"], "max_retries": 1,
    }
    return st2.run("llm_retry", **dict(inputs, **more))


@pytest.mark.parametrize("entry_id", [
    "gemini-api-key-invalid-list", "groq-model-decommissioned", "llamacpp-exceed-context-size",
    "openrouter-context-length-raw-json", "openrouter-200-insufficient-credits",
    "openrouter-200-finish-reason-error", "bedrock-unexpected-error-424", "openai-quota-gzip",
    "openai-insufficient-quota-numeric-code", "openai-unsupported-max-tokens",
    "litellm-budget-with-byte-order-mark", "openai-length-without-text", "cloudflare-522",
    "cloudflare-access-sign-in", "nginx-302-to-sign-in", "azure-utf-16-deployment-not-found",
])
def test_a_healthy_fallback_answers(st2, box, entry_id):
    entry = ENTRIES[entry_id]
    box.script(GPT4, [answer(entry_id)], forever=True)
    run, output = retry(st2)
    assert run["status"] == "succeeded" and output["final_model"] == "claude-3-haiku"
    first = output["trail"][0]
    assert (first["target"], first["cause"]) == (GPT4, entry.cause)
    assert entry.message is None or entry.message in first["message"]
    assert len(box.calls_to(GPT4)) == 1


def test_a_bad_generation_is_tried_again(st2, box):
    box.script(GPT4, [answer("groq-tool-use-failed")])
    run, output = retry(st2, fallback_models=[])
    assert run["status"] == "succeeded" and output["attempts"] == 2


def test_a_filtered_prompt_goes_nowhere_else(st2, box):
    box.script(GPT4, [answer("gemini-prohibited-content-no-message")], forever=True)
    run, output = retry(st2)
    assert run["status"] == "failed" and output["error"]["cause"] == "content_policy"
    assert output["attempts"] == 1 and not box.calls_to(HAIKU)


def test_a_refused_parameter_is_adapted(st2, box):
    box.script(GPT4, [answer("openai-unsupported-max-tokens")])
    request = {"prompt": "Hello", "model": "gpt-4", "parameters": {"max_tokens": 50}}
    run, output = retry(st2, original_request=request)
    assert run["status"] == "succeeded" and output["final_model"] == "gpt-4"
    assert output["trail"][0]["adapted"] == [
        {"parameter": "max_tokens", "sent_as": "max_completion_tokens"}]


def test_an_error_in_a_200_is_rerouted(st2, box):
    box.script("route:openai", [ok(body={"error": {"code": 400, "message": "x"}})], forever=True)
    run, output = st2.run(
        "reroute_request", original_request={"endpoint": "/x", "model": "gpt-4"},
        failure_reason="Region unavailable", fallback_providers=["anthropic"])
    assert run["status"] == "succeeded" and output["final_provider"] == "anthropic"


def test_failure_explain(st2, box):
    run, _ = st2.run("failure.explain", failure=(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 20\r\n\r\n"
        '{"error": {"message": "Rate limit reached on requests per min (RPM)"}}'))
    explanation = run["result"]["result"]
    assert run["status"] == "succeeded" and explanation["cause"] == "rate_limit"
    assert explanation["hint_seconds"] == 20 and explanation["failed_target"] == GPT4
    timings = {entry["target"]: entry["timing"] for entry in explanation["targets"]}
    assert timings[GPT4] == "after back-off" and timings[HAIKU] == "at once"
    assert box.calls == []
