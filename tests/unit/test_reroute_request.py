import pytest

from synthralos.core.errors import InvalidInput
from synthralos.core.sealing import unseal
from synthralos.recovery import reroute_request

REQUEST = {"endpoint": "/api/v1/llm", "body": {"q": "{{ x }}"}}


def analysed(env, **more):
    parameters = dict({"original_request": REQUEST, "failure_reason": "Network error"}, **more)
    result = reroute_request.analyse(env, parameters, env.now())
    return result, unseal(result["next"]["carry"], env.store)


def test_the_analysis_names_the_routes(make_env, clock):
    result, case = analysed(
        make_env(), fallback_regions=["eu", "mars"], fallback_providers=["anthropic"])
    assert result["routes"] == [
        "route:openai/us", "route:openai/eu", "route:anthropic/us", "route:anthropic/eu"]
    assert [entry["target"] for entry in result["skipped"]] == [
        "route:openai/mars", "route:anthropic/mars"]
    assert case["http"]["body"] == {"q": "{{ x }}"} and case["deadline"] == clock.at + 110


@pytest.mark.parametrize(
    "more, field",
    [
        ({"original_request": "x"}, "original_request"),
        ({"original_request": dict(REQUEST, region="mars")}, "original_request"),
        ({"failure_reason": None}, "failure_reason"),
        ({"fallback_regions": "eu"}, "fallback_regions"),
        ({"fallback_regions": ["a b"]}, "fallback_regions[0]"),
        ({"fallback_providers": [5]}, "fallback_providers[0]"),
    ],
)
def test_a_refusal_names_its_field(make_env, more, field):
    with pytest.raises(InvalidInput) as refused:
        analysed(make_env(), **more)
    assert refused.value.field == field


def test_the_route_that_answered_is_named(make_env, monkeypatch):
    env = make_env()
    _, case = analysed(env, fallback_regions=["eu"])
    answer = {"status_code": 200, "body": {}, "response": None, "latency_ms": 1}
    monkeypatch.setattr(reroute_request.routes, "call", lambda *arguments: dict(answer))
    ok, result = reroute_request.run_round(env, case)
    assert ok and (result["final_region"], result["final_provider"]) == ("us", "openai")
    assert result["result"] == answer and result["attempts"] == 1


def test_a_route_that_is_gone_is_refused(make_env):
    env = make_env()
    _, case = analysed(env)
    case["legs"] = [["openai", "gone", None]]
    with pytest.raises(InvalidInput) as refused:
        reroute_request.run_round(env, case)
    assert refused.value.field == "config.routes"


def test_an_answer_nested_deeply_is_returned_or_a_failure(make_env, monkeypatch):
    env = make_env()
    _, case = analysed(env)
    deep = "x"
    for _ in range(700):
        deep = [deep]
    monkeypatch.setattr(
        reroute_request.routes, "call", lambda *_: {"status_code": 200, "body": deep,
                                                    "response": None, "latency_ms": 1})
    reroute_request.run_round(env, case)


def test_alone_there_is_one_route_and_no_retry(make_env):
    case = reroute_request.standalone_case(make_env(), {"request": REQUEST, "region": "eu"}, 1.7e9)
    assert case["legs"] == [["openai", "eu", None]] and case["rules"]["max_retries"] == 0
