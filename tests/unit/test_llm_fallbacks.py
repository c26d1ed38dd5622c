"""llm_retry over all wires: each as the fallback of each other, and several accounts of one.

The providers are strict fakes: they refuse what their APIs have no field for.
"""
import json

import pytest

from synthralos.calls.http import Client, Response
from synthralos.calls.llm_wires import APIS
from synthralos.core.sealing import unseal
from synthralos.recovery import llm_retry

from .test_llm_wires import MODELS, PIXEL, SCHEMA, pairs

TOOL = {"type": "function", "function": {
    "name": "look_up", "description": "looks up", "parameters": {
        "type": "object", "properties": {"id": {"type": "string"}}}}}
PARAMETERS = {
    "max_tokens": 500, "temperature": 0.2, "tools": [TOOL],
    "response_format": {"type": "json_schema", "json_schema": {"name": "page", "schema": SCHEMA}},
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "What is in the picture, as JSON?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]},
]
CALLS = [("a", {"id": "1"}), ("b", {"id": "2"})]
FIELDS = {
    "openai": {"model", "messages", "max_tokens", "temperature", "tools", "response_format"},
    "openai_responses": {"model", "input", "max_output_tokens", "temperature", "tools", "text",
                         "store"},
    "anthropic": {"model", "messages", "system", "max_tokens", "temperature", "tools",
                  "output_config"},
    "gemini": {"contents", "systemInstruction", "generationConfig", "tools"},
    "bedrock": {"messages", "system", "inferenceConfig", "toolConfig", "outputConfig"},
}
DOWN = (503, {"error": {"message": "down"}}, {})


def calls_of(api):
    """The answer of a provider that calls the tool twice."""
    if api == "openai":
        return {"choices": [{"finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": None, "tool_calls": [
                {"id": call_id, "type": "function", "function": {
                    "name": "look_up", "arguments": json.dumps(arguments)}}
                for call_id, arguments in CALLS]}}]}
    if api == "openai_responses":
        return {"status": "completed", "output": [
            {"type": "function_call", "id": "fc_" + call_id, "call_id": call_id, "name": "look_up",
             "arguments": json.dumps(arguments)} for call_id, arguments in CALLS]}
    if api == "anthropic":
        return {"stop_reason": "tool_use", "content": [
            {"type": "tool_use", "id": call_id, "name": "look_up", "input": arguments}
            for call_id, arguments in CALLS]}
    if api == "gemini":
        return {"candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
            {"functionCall": {"name": "look_up", "args": arguments}} for _, arguments in CALLS]}}]}
    return {"stopReason": "tool_use", "output": {"message": {"role": "assistant", "content": [
        {"toolUse": {"toolUseId": call_id, "name": "look_up", "input": arguments}}
        for call_id, arguments in CALLS]}}}


def text_of(api, text):
    """The answer of a provider that says a text."""
    if api == "openai":
        return {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    if api == "openai_responses":
        return {"status": "completed", "output": [
            {"type": "message", "content": [{"type": "output_text", "text": text}]}]}
    if api == "anthropic":
        return {"stop_reason": "end_turn", "content": [{"type": "text", "text": text}]}
    if api == "gemini":
        return {"candidates": [
            {"finishReason": "STOP", "content": {"parts": [{"text": text}]}}]}
    return {"stopReason": "end_turn", "output": {"message": {"content": [{"text": text}]}}}


class Providers(Client):
    """All providers, without a network: {name: a callable (body) -> (status, answer, headers)}."""

    def __init__(self, answers, clock):
        super().__init__(lambda connection, fresh: (connection.secret_from, {}), clock)
        self.answers, self.bodies = answers, []

    def request(self, connection, method, path, seconds, body=None, headers=None, authorize=None):
        name = connection.base_url.rpartition("/")[2]
        self.bodies.append((name, connection.secret_from, body))
        status, answer, answer_headers = self.answers[name](body, connection.secret_from)
        return Response(status, answer_headers, json.dumps(answer), 0.1)


@pytest.fixture
def retry(make_env, clock):
    """retry(answers, models, **request) -> (succeeded, result, what was sent)."""

    def run(answers, models, providers=None, **request):
        config = {"providers": providers or [
            {"name": api, "api": api, "base_url": "http://h/" + api, "models": [MODELS[api]]}
            for api in APIS
        ], "backoff": {"strategy": "immediate"}, "ask_next_after": 0}
        env = make_env(config)
        client = Providers(answers, clock)
        env.client = client
        parameters = {
            "original_request": dict(request, model=models[0]), "failure_reason": "Server error",
            "fallback_models": models[1:], "max_retries": 1,
        }
        result = llm_retry.determine(env, parameters, env.now())
        case = unseal(result["next"]["carry"], env.store)
        succeeded, outcome = llm_retry.run_round(env, case)
        return succeeded, outcome, client.bodies

    return run


def strict(api, answer):
    """A provider that refuses fields that its API does not have, and blank texts."""

    def respond(body, key):
        unknown = sorted(set(body) - FIELDS[api])
        if unknown or '"text": ""' in json.dumps(body):
            return 400, {"error": {"message": "%s: Extra inputs are not permitted" % unknown}}, {}
        return 200, answer, {}

    return respond


def down(body, key):
    return DOWN


@pytest.mark.parametrize("primary", APIS)
@pytest.mark.parametrize("fallback", APIS)
def test_a_conversation_falls_over_from_each_wire_to_each_other(retry, primary, fallback):
    if primary == fallback:
        return
    models = ["%s/%s" % (api, MODELS[api]) for api in (primary, fallback)]
    answers = {primary: down, fallback: strict(fallback, calls_of(fallback))}
    succeeded, outcome, sent = retry(answers, models, messages=MESSAGES, parameters=PARAMETERS)
    assert succeeded, outcome
    assert [name for name, _, _ in sent] == [primary, fallback]
    result = outcome["result"]
    assert result["finish_reason"] == "tool_calls"
    functions = [call["function"] for call in result["tool_calls"]]
    assert [json.loads(function["arguments"]) for function in functions] == [
        {"id": "1"}, {"id": "2"}]
    # The follow-up, with the other as the one that is down.
    follow_up = MESSAGES + [
        {"role": "assistant", "content": result["response"], "tool_calls": result["tool_calls"]},
        {"role": "tool", "tool_call_id": result["tool_calls"][1]["id"], "content": "two"},
        {"role": "tool", "tool_call_id": result["tool_calls"][0]["id"], "content": "one"},
    ]
    answers = {fallback: down, primary: strict(primary, text_of(primary, '{"title": "T"}'))}
    succeeded, outcome, sent = retry(
        answers, models[::-1], messages=follow_up, parameters=PARAMETERS)
    assert succeeded and outcome["result"]["response"] == '{"title": "T"}', outcome
    for name, _, body in sent:
        pairings, _ = pairs(name, body)
        assert pairings == [({"id": "1"}, "one"), ({"id": "2"}, "two")]
        assert "AAAA" in json.dumps(body)


def test_a_model_without_eyes_is_passed_over_with_the_reason(retry):
    providers = [
        {"name": "p1", "base_url": "http://h/p1", "models": ["gpt-3.5-turbo"]},
        {"name": "p2", "base_url": "http://h/p2", "models": ["gpt-4o"]},
    ]
    answers = {"p1": down, "p2": lambda body, key: (200, text_of("openai", "a cat"), {})}
    succeeded, outcome, sent = retry(
        answers, ["gpt-3.5-turbo", "gpt-4o"], providers, messages=MESSAGES)
    assert succeeded and [name for name, _, _ in sent] == ["p2"]
    skipped = outcome["trail"][0]
    assert skipped["target"] == "llm:p1/gpt-3.5-turbo"
    assert skipped["cause"] == "unsupported_content"
    assert skipped["skipped"] == "messages[1].content[1]: the model takes no pictures"


def test_extras_of_a_provider_reach_only_it(retry):
    answers = {"openai": down, "gemini": lambda body, key: (200, text_of("gemini", "hi"), {})}
    models = ["openai/gpt-4o", "gemini/gemini-2.5-flash"]
    extras = {"gemini": {"cachedContent": "c"}, "openai": {"logit_bias": {"1": 2}}}
    succeeded, outcome, sent = retry(answers, models, prompt="hi", parameters=extras)
    bodies = {name: body for name, _, body in sent}
    assert succeeded and bodies["gemini"]["cachedContent"] == "c"
    assert bodies["openai"]["logit_bias"] == {"1": 2} and "cachedContent" not in bodies["openai"]


DEPRECATED = "`temperature` is deprecated for this model."
LITELLM = json.dumps({"error": {
    "message": "litellm.BadRequestError: BedrockException - %s" % json.dumps({
        "message": "The model returned the following errors: %s" % json.dumps({
            "type": "error",
            "error": {"type": "invalid_request_error", "message": DEPRECATED}})}),
    "type": "None", "param": "None", "code": "400"}})
BOTH = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


@pytest.mark.parametrize("api, model, refusal", [
    ("anthropic", "c1", {"type": "error", "error": {
        "type": "invalid_request_error", "message": DEPRECATED}}),
    ("anthropic", "c1", {"type": "error", "error": {
        "type": "invalid_request_error", "message": BOTH}}),
    ("bedrock", "anthropic.claude-x", {
        "message": "The model returned the following errors: " + DEPRECATED}),
    ("openai", "some-model", json.loads(LITELLM)),
    ("gemini", "other", [{"error": {
        "code": 400, "status": "INVALID_ARGUMENT",
        "message": "Unsupported parameter: generation_config.temperature"}}]),
])
def test_a_parameter_that_is_refused_in_words_only_is_left_out_once(retry, api, model, refusal):
    def respond(body, key):
        if '"temperature"' in json.dumps(body):
            return 400, refusal, {}
        return 200, text_of(api, "hi"), {}

    providers = [{"name": "p", "api": api, "base_url": "http://h/p", "models": [model]}]
    succeeded, outcome, sent = retry(
        {"p": respond}, [model], providers, prompt="hi",
        parameters={"temperature": 0.2, "top_p": 0.9})
    assert succeeded and len(sent) == 2
    assert outcome["trail"][0]["adapted"] == [
        {"field": "temperature", "reason": "the model refused it"}]
    assert "0.9" in json.dumps(sent[1][2])


@pytest.mark.parametrize("status, error", [
    (400, {"message": "The encrypted content gAAA could not be verified. Reason: Encrypted content "
           "organization_id did not match the target organization.", "param": None,
           "type": "invalid_request_error", "code": "invalid_encrypted_content"}),
    (404, {"message": "Item with id 'rs_1' not found. Items are not persisted when `store` is set "
           "to false.", "type": "invalid_request_error", "param": "input", "code": None}),
], ids=["of another organization", "not stored"])
def test_reasoning_that_a_model_cannot_read_is_left_out_once(retry, status, error):
    def respond(body, key):
        if "rs_1" in json.dumps(body):
            return status, {"error": error}, {}
        return 200, text_of("openai_responses", "hi"), {}

    extra = {"reasoning": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA"}],
             "id": "fc_1"}
    call = {"id": "call_1", "type": "function", "extra_content": {"openai_responses": extra},
            "function": {"name": "look_up", "arguments": "{}"}}
    messages = MESSAGES + [{"role": "assistant", "content": None, "tool_calls": [call]},
                           {"role": "tool", "tool_call_id": "call_1", "content": "4"}]
    providers = [
        {"name": "p", "api": "openai_responses", "base_url": "http://h/p", "models": ["gpt-5"]}]
    succeeded, outcome, sent = retry(
        {"p": respond}, ["gpt-5"], providers, messages=messages, parameters={"tools": [TOOL]})
    assert succeeded and len(sent) == 2
    assert outcome["trail"][0]["adapted"] == [
        {"field": "messages", "reason": "the model refused the reasoning before its calls"}]
    assert ["rs_1" in json.dumps(body) for _, _, body in sent] == [True, False]


def test_a_model_whose_answer_does_not_match_is_told_why_when_it_is_asked_again(
    make_env, clock
):
    texts = ["no JSON at all", '{"title": "T"}']

    def respond(body, key):
        return 200, text_of("openai", texts.pop(0)), {}

    env = make_env({
        "providers": [{"name": "p", "base_url": "http://h/p", "models": ["m"]}],
        "backoff": {"strategy": "immediate"},
    })
    client = env.client = Providers({"p": respond}, clock)
    request = {"prompt": "JSON, please", "model": "m", "parameters": {
        "response_format": PARAMETERS["response_format"]}}
    parameters = {"original_request": request, "failure_reason": "x", "max_retries": 1}
    carry = llm_retry.determine(env, parameters, env.now())["next"]["carry"]
    succeeded, outcome = llm_retry.run_round(env, unseal(carry, env.store))
    assert not succeeded and outcome["error"]["cause"] == "schema_mismatch"
    # Another round is another process: what it knows, it has from the case.
    case = unseal(outcome["next"]["carry"], env.store)
    succeeded, outcome = llm_retry.run_round(env, case)
    assert succeeded and outcome["result"]["response"] == '{"title": "T"}'
    messages = client.bodies[1][2]["messages"]
    assert messages[1]["content"] == "no JSON at all" and "no JSON value" in messages[2]["content"]


def test_a_schema_that_is_none_is_rejected_before_anything_is_sent(make_env):
    from synthralos.core.errors import InvalidInput

    schema = {"type": "object", "properties": {"a": {"$ref": "http://h/x"}}}
    request = {"prompt": "x", "model": "gpt-4", "parameters": {"response_format": {
        "type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}}
    env = make_env()
    with pytest.raises(InvalidInput) as refused:
        llm_retry.determine(
            env, {"original_request": request, "failure_reason": "x"}, env.now())
    assert refused.value.field == (
        "original_request.parameters.response_format.json_schema.schema")


# Accounts.


POOL = [{"name": "p", "base_url": "http://h/p", "models": ["m", "m2"],
         "api_keys_from": ["p_a", "p_b"]}]
SPENT = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
LIMITED = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
WRONG = {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}


@pytest.mark.parametrize("status, refusal, headers, seconds", [
    (429, SPENT, {}, 300), (429, LIMITED, {"retry-after": "120"}, 120), (401, WRONG, {}, 300),
    (402, {"error": {"message": "Payment required"}}, {}, 300),
])
def test_of_two_accounts_the_spent_one_rests_until_its_reset(
    retry, clock, status, refusal, headers, seconds
):
    def respond(body, key):
        return (status, refusal, headers) if key == "p_a" else (200, text_of("openai", "hi"), {})

    def keys():
        succeeded, outcome, sent = retry({"p": respond}, ["m"], POOL, prompt="hi")
        assert succeeded
        return [key for _, key, _ in sent], outcome

    first, outcome = keys()
    assert first == ["p_a", "p_b"]
    assert [entry["target"] for entry in outcome["trail"]] == ["llm:p/m@p_a", "llm:p/m@p_b"]
    clock.forward(seconds - 1)
    again, outcome = keys()
    assert again == ["p_b"]
    assert outcome["trail"][0]["target"] == "llm:p/m@p_a" and "skipped" in outcome["trail"][0]
    clock.forward(2)
    assert keys()[0] == ["p_a", "p_b"]


@pytest.mark.parametrize("status, refusal, headers, seconds", [
    (429, SPENT, {}, 300), (429, SPENT, {"retry-after": "3600"}, 3600), (401, WRONG, {}, 300),
    (402, {"error": {"message": "Payment required"}}, {}, 300),
])
def test_a_later_run_asks_a_spent_account_for_no_other_model_before_its_reset(
    retry, clock, status, refusal, headers, seconds
):
    def respond(body, key):
        return (status, refusal, headers) if key == "p_a" else (200, text_of("openai", "hi"), {})

    def keys(model):
        succeeded, outcome, sent = retry({"p": respond}, [model], POOL, prompt="hi")
        assert succeeded
        return [key for _, key, _ in sent], outcome["trail"][0]

    assert keys("m")[0] == ["p_a", "p_b"]
    clock.forward(seconds - 1)
    for model in ("m2", "m"):
        used_keys, first_entry = keys(model)
        assert used_keys == ["p_b"] and first_entry["target"] == "llm:p/%s@p_a" % model
        assert first_entry["skipped"].startswith("its account failed with ")
    clock.forward(2)
    assert keys("m2")[0] == ["p_a", "p_b"]


def test_a_rate_limit_of_an_account_speaks_of_one_model(retry):
    def respond(body, key):
        is_limited = key == "p_a" and body["model"] == "m"
        headers = {"retry-after": "120"}
        return (429, LIMITED, headers) if is_limited else (200, text_of("openai", "hi"), {})

    def keys(model):
        return [key for _, key, _ in retry({"p": respond}, [model], POOL, prompt="hi")[2]]

    assert keys("m") == ["p_a", "p_b"] and keys("m2") == ["p_a"] and keys("m") == ["p_b"]


def test_a_breaker_forced_closed_has_a_spent_account_asked(retry, make_env):
    def respond(body, key):
        return (429, SPENT, {}) if key == "p_a" else (200, text_of("openai", "hi"), {})

    def keys(model):
        return [key for _, key, _ in retry({"p": respond}, [model], POOL, prompt="hi")[2]]

    assert keys("m") == ["p_a", "p_b"]
    make_env({"providers": POOL}).ledger.force_state("llm:p/m2@p_a", "closed", 60)
    assert keys("m2") == ["p_a", "p_b"] and keys("m") == ["p_b"]


def test_a_quota_that_the_caller_reports_leaves_all_accounts(retry):
    def respond(body, key):
        return 200, text_of("openai", "hi"), {}

    _, outcome, sent = retry({"p": respond}, ["m"], POOL, prompt="hi")
    assert [key for _, key, _ in sent] == ["p_a"] and outcome["final_model"] == "m"


def test_health_names_accounts_and_shows_no_key(make_env):
    from synthralos.operations import health

    env = make_env({"providers": POOL})
    text = json.dumps(health.get(env))
    for account in ("p_a", "p_b"):
        assert "llm:p/m@" + account in text


@pytest.mark.parametrize("name", ["p/m", "llm:p/m", "p/m@p_a", "llm:p/m@p_a"])
def test_a_failure_of_an_account_leaves_the_other_one(make_env, name):
    from synthralos.operations import failure_explanation

    explanation = failure_explanation.explain(
        make_env({"providers": POOL}), {"failure": json.dumps(SPENT), "target": name})
    timings = {entry["target"]: entry["timing"] for entry in explanation["targets"]}
    assert timings["llm:p/m@p_a"] == timings["llm:p/m2@p_a"] == "never"
    assert timings["llm:p/m@p_b"] == "at once"
