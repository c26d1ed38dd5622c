import json

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.calls import routes
from synthralos.calls.http import CallError, Response
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput

from .conftest import CONFIG
from .test_llm_providers import Fake

SETTINGS = Settings.from_config(CONFIG)


def read(endpoint="/api/v1/llm", settings=SETTINGS, **more):
    return routes.parse_request(dict(more, endpoint=endpoint), settings)


def targets(request, regions=(), providers=(), settings=SETTINGS):
    candidates, skipped = routes.candidate_routes(request, regions, providers, settings)
    return [candidate.target for candidate in candidates], {
        entry["target"]: entry["reason"] for entry in skipped
    }


def test_a_request_has_defaults():
    assert read() == {
        "endpoint": "/api/v1/llm", "method": "GET", "body": None, "headers": {}, "model": None,
        "provider": "openai", "region": "us",
    }


@pytest.mark.parametrize(
    "more, method",
    [({}, "GET"), ({"body": {}}, "POST"), ({"body": "x"}, "POST"), ({"model": "gpt-4"}, "POST"),
     ({"method": "put"}, "PUT"), ({"method": "DELETE", "body": {}}, "DELETE")],
)
def test_the_method_follows_from_the_body(more, method):
    assert read(**more)["method"] == method


def test_the_model_may_stand_in_the_body():
    assert read(body={"model": "gpt-4"})["model"] == "gpt-4"


@pytest.mark.parametrize(
    "more, field",
    [
        ({"endpoint": None}, "endpoint"), ({"endpoint": " "}, "endpoint"),
        ({"endpoint": 5}, "endpoint"), ({"method": "TRACE"}, "method"), ({"method": 5}, "method"),
        ({"region": "a b"}, "region"), ({"provider": "{{x}}"}, "provider"),
        ({"model": ""}, "model"), ({"body": {"model": "a b"}}, "body.model"),
        ({"headers": []}, "headers"),
    ],
)
def test_a_refusal_names_its_field(more, field):
    with pytest.raises(InvalidInput) as refused:
        read(**more)
    assert refused.value.field == "original_request." + field


def test_without_routes_the_configuration_is_named():
    with pytest.raises(InvalidInput) as refused:
        read(settings=Settings.from_config({}))
    assert refused.value.field == "config.routes"


# Where it may go.


def test_a_url_below_a_route_is_cut_to_its_path():
    assert read("http://eu.anthropic/v1/x?y=1")["endpoint"] == "/v1/x?y=1"


def test_a_url_is_cut_by_the_route_that_fits_it_best():
    settings = Settings.from_config({"routes": [
        {"provider": "p", "region": "a", "base_url": "http://gw"},
        {"provider": "p", "region": "b", "base_url": "http://gw/openai"},
    ]})
    names = read("http://gw/openai/v1/x", settings, provider="p", region="b")
    assert names["endpoint"] == "/v1/x"


@pytest.mark.parametrize(
    "endpoint",
    ["http://evil/x", "http://us.openai.evil/x", "http://us.openai@evil/x", "http://us.openai",
     "https://us.openai/x", "ftp://x", "x", "api/v1", "http://us.openai:80/x"],
)
def test_a_url_outside_the_routes_is_refused(endpoint):
    with pytest.raises(InvalidInput, match="outside"):
        read(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["/../x", "/a/../b", "/a/..", "/%2e%2e/x", "/%2E./x", "/a/%252e%252e/b", "/a%2f..%2fb",
     "/..\\x", "/a\\..\\b", "/%5c..%5c", "http://us.openai/../x", "/a b", "/a\nb", "/a\tb",
     "/a\x00", "/a\r\nX: y"],
)
def test_a_path_that_climbs_or_breaks_is_refused(endpoint):
    with pytest.raises(InvalidInput):
        read(endpoint)


@pytest.mark.parametrize("endpoint", ["/", "/a..b", "/...", "/a?b=../c", "/%41", "/a:b", "//x"])
def test_a_plain_path_is_taken(endpoint):
    assert read(endpoint)["endpoint"] == endpoint


# Headers.


def test_headers_are_taken():
    headers = {"X-Tenant": "a", "Accept": "text/plain"}
    assert read(headers=headers)["headers"] == headers


@pytest.mark.parametrize(
    "name, value",
    [
        ("Authorization", "x"), ("HOST", "x"), ("Content-Length", "5"), ("connection", "close"),
        ("Transfer-Encoding", "chunked"), ("Idempotency-Key", "x"), ("", "x"), ("a b", "x"),
        ("X\n", "x"), ("X:", "x"), ("é", "x"), ("X", "a\r\nY: z"), ("X", "é"), ("X", 5),
        ("X", None), ("X", "a\x00"), ("X", "a\n"),
    ],
)
def test_a_header_that_is_ours_or_broken_is_refused(name, value):
    with pytest.raises(InvalidInput):
        read(headers={name: value})


# Order.


def test_all_regions_of_a_provider_then_the_next_and_no_pair_left_out():
    names, skipped = targets(read(), ["eu"], ["anthropic"])
    assert names == [
        "route:openai/us", "route:openai/eu", "route:anthropic/us", "route:anthropic/eu"
    ]
    assert skipped == {}


def test_the_original_pair_comes_first_and_none_comes_twice():
    names, _ = targets(read(region="eu", provider="anthropic"), ["us", "eu", "us"],
                      ["openai", "anthropic"])
    assert names == [
        "route:anthropic/eu", "route:anthropic/us", "route:openai/eu", "route:openai/us"
    ]


def test_a_pair_that_is_not_configured_is_skipped_and_said():
    names, skipped = targets(read(), ["mars"], ["google"])
    assert names == ["route:openai/us"]
    assert set(skipped) == {"route:openai/mars", "route:google/us", "route:google/mars"}


def test_no_more_than_max_routes():
    settings = Settings.from_config(dict(CONFIG, max_routes=3))
    names, skipped = targets(read(), ["eu"], ["anthropic"], settings)
    assert len(names) == 3 and skipped == {"route:anthropic/eu": "beyond max_routes"}


def test_the_model_is_named_as_the_other_provider_names_it():
    legs, _ = routes.candidate_routes(read(model="gpt-4"), [], ["anthropic"], SETTINGS)
    assert [leg.model for leg in legs] == ["gpt-4", "claude"]


def test_a_provider_without_a_name_for_the_model_is_skipped():
    names, skipped = targets(read(model="gpt-4o"), [], ["anthropic"])
    assert names == ["route:openai/us"] and "model_map" in skipped["route:anthropic/us"]


def test_without_a_model_no_mapping_is_needed():
    assert len(targets(read(), [], ["anthropic"])[0]) == 2


NAMES = st.lists(st.sampled_from(["us", "eu", "mars", "openai", "anthropic"]), max_size=6)


@hypothesis.given(NAMES, NAMES, st.sampled_from([None, "gpt-4", "gpt-4o"]))
def test_every_pair_is_a_leg_or_skipped_once(regions, providers, model):
    names, skipped = targets(read(model=model), regions, providers)
    pairs = {"route:%s/%s" % (p, r) for p in {"openai", *providers} for r in {"us", *regions}}
    assert sorted(names + list(skipped)) == sorted(pairs)
    assert names[0] == "route:openai/us"


# The call.


def send(client, run="r", providers=(), leg=0, **more):
    request = read(**more)
    legs, _ = routes.candidate_routes(request, [], list(providers), SETTINGS)
    return routes.call(client, legs[leg], request, 5.0, run)


def test_a_request_is_sent_over_its_route():
    client = Fake({"response": "ok"})
    result = send(client, body={"q": 1}, headers={"X-Tenant": "a"})
    assert client.sent[0]["url"] == "http://us.openai/api/v1/llm"
    assert client.sent[0]["body"] == {"q": 1}
    assert client.sent[0]["headers"]["X-Tenant"] == "a"
    assert result == {
        "status_code": 200, "body": {"response": "ok"}, "response": "ok", "latency_ms": 250
    }


def test_the_mapped_model_goes_into_the_body_and_the_callers_body_stays():
    client, body = Fake({}), {"model": "gpt-4", "q": 1}
    send(client, providers=["anthropic"], leg=1, body=body)
    assert client.sent[0]["body"] == {"model": "claude", "q": 1}
    assert body == {"model": "gpt-4", "q": 1}


@pytest.mark.parametrize("body", ["text", [1], 5])
def test_a_body_that_is_no_object_stays_as_it_is(body):
    client = Fake({})
    send(client, body=body, model="gpt-4")
    assert client.sent[0]["body"] == body


def test_only_what_may_have_effects_bears_a_key_and_the_route_does_not_change_it():
    client = Fake({})
    send(client)
    send(client, body={"q": 1})
    send(client, body={"q": 1}, region="eu")
    keys = [sent["headers"].get("Idempotency-Key") for sent in client.sent]
    assert keys[0] is None and keys[1] == keys[2] is not None


@pytest.mark.parametrize(
    "status, body, more, cause",
    [
        (503, "", {}, "server_error"), (429, "", {}, "rate_limit"), (400, "", {}, "bad_request"),
        (404, "", {}, "not_found"),
        (404, {"error": {"message": "The model does not exist"}}, {"model": "gpt-4"},
         "model_not_found"),
    ],
)
def test_an_error_status_is_a_failure(status, body, more, cause):
    with pytest.raises(CallError) as failed:
        send(Fake(body, status), **more)
    assert failed.value.failure.cause == cause


def test_a_redirect_of_one_route_leaves_the_others():
    with pytest.raises(CallError) as failed:
        send(Fake("", 302))
    assert failed.value.failure.policy.retry_other_target


@pytest.mark.parametrize(
    "body, response",
    [
        ("plain text", "plain text"), ('"quoted"', "quoted"), ("[1]", None), ("", ""),
        ({"response": "a"}, "a"), ({"text": "a"}, "a"), ({"output": "a"}, "a"),
        ({"response": 5}, None), ({}, None),
        ({"choices": [{"message": {"content": "a"}}]}, "a"), ({"choices": [{"text": "a"}]}, "a"),
        ({"content": [{"type": "text", "text": "a"}]}, "a"), ({"choices": []}, None),
        ({"choices": [5]}, None), ({"choices": {}}, None),
    ],
)
def test_the_text_of_an_answer_is_found(body, response):
    assert send(Fake(body))["response"] == response


@hypothesis.given(st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["choices", "content", "message", "text", "response"]), inner, max_size=3),
    max_leaves=8))
def test_any_answer_is_read(body):
    result = send(Fake(json.dumps(body)))
    assert result["body"] == body and (
        result["response"] is None or isinstance(result["response"], str)
    )


@hypothesis.given(st.text(st.characters(), max_size=40) | st.text("/.%2eE5c\\?#@:a", max_size=20))
def test_any_endpoint_is_a_path_below_the_route_or_refused(endpoint):
    try:
        endpoint_path = read(endpoint)["endpoint"]
    except InvalidInput:
        return
    assert endpoint_path.startswith("/") and "/../" not in endpoint_path + "/"


def test_the_fake_answers_like_the_client():
    assert isinstance(Fake({}).request(SETTINGS.routes[0].connection, "GET", "/", 1), Response)
