import json

import pytest

from synthralos.calls.llm_wires import APIS, wire_format
from synthralos.config.settings import Connection
from synthralos.operations.self_check import check

from .conftest import http_answer


def checked(env):
    succeeded, result = check(env)
    return succeeded, {entry["name"]: entry for entry in result["checks"]}


def test_all_that_is_configured_works(make_env, serve, api, datastore):
    url = serve(http_answer(200)).url
    succeeded, checks = checked(make_env({
        "platform": {"base_url": url},
        "providers": [{"name": "p", "base_url": url, "models": ["m"]},
                      {"name": "a", "api": "anthropic", "base_url": url, "models": ["c"]}],
        "routes": [{"provider": "p", "region": "r", "base_url": url}],
    }, api))
    assert succeeded and {entry["status"] for entry in checks.values()} <= {"ok", "not_configured"}
    assert {"platform:synthralos", "llm:p", "llm:a", "route:p/r", "datastore"} <= set(checks)
    assert datastore.names() == []


def test_what_is_not_configured_fails_nothing(make_env, api):
    succeeded, checks = checked(make_env({}, api))
    assert succeeded and checks["platform"]["status"] == "not_configured"


def test_what_fails_is_named_with_the_way_out(make_env, serve, api):
    succeeded, checks = checked(make_env({
        "platform": {"base_url": serve(http_answer(401)).url},
        "providers": [{"name": "p", "base_url": "http://127.0.0.1:1", "models": ["m"]},
                      {"name": "q", "base_url": "http://127.0.0.1:1", "api_key_from": "gone"}],
        "routes": [{"provider": "p", "region": "r", "base_url": serve(http_answer(404)).url}],
    }, api))
    assert not succeeded
    for name in ("platform:synthralos", "llm:p", "llm:q"):
        assert checks[name]["status"] == "failed" and checks[name]["hint"]
    assert checks["route:p/r"]["status"] == "ok"


def test_a_datastore_that_is_away_fails(make_env, api, datastore):
    datastore.away = True
    succeeded, checks = checked(make_env({}, api))
    assert not succeeded and checks["datastore"]["status"] == "failed"


LISTINGS = {
    "openai": {"data": [{"id": "m"}, {"id": "x"}]},
    "openai_responses": {"data": [{"id": "m"}]},
    "anthropic": {"data": [{"type": "model", "id": "m"}]},
    "gemini": {"models": [{"name": "models/m"}]},
    "bedrock": {"modelSummaries": [{"modelId": "m"}]},
}


@pytest.mark.parametrize("wire", APIS)
def test_a_provider_is_reported_with_its_wire_and_the_models_that_it_lists(
    make_env, serve, api, wire
):
    server = serve(http_answer(200, json.dumps(LISTINGS[wire])))
    _, checks = checked(make_env({"providers": [
        {"name": "p", "api": wire, "base_url": server.url, "models": ["m", "n"]}]}, api))
    entry = checks["llm:p"]
    assert entry["status"] == "ok" and entry["details"].startswith(wire + ", answered 200")
    assert entry["models"] == {"m": True, "n": False}
    assert "1 of the 2 configured models" in entry["details"]
    assert entry["hint"].startswith("Not listed: n.")


def test_a_listing_in_another_form_fails_nothing(make_env, serve, api):
    server = serve(http_answer(200, b"pong"))
    _, checks = checked(make_env({"providers": [
        {"name": "p", "base_url": server.url, "models": ["m"]}]}, api))
    assert checks["llm:p"]["status"] == "ok" and checks["llm:p"]["models"] is None


def test_each_account_is_checked_and_none_shows_its_key(make_env, serve, api, datastore):
    def respond(connection, request):
        is_valid = "Bearer good" in request
        body = json.dumps(LISTINGS["openai"]) if is_valid else json.dumps(
            {"error": {"message": "Incorrect API key provided"}})
        connection.sendall(http_answer(200 if is_valid else 401, body))

    datastore.put("p_a", "good-secret")
    datastore.put("p_b", "bad-secret")
    succeeded, checks = checked(make_env({"providers": [
        {"name": "p", "base_url": serve(respond).url, "models": ["m"],
         "api_keys_from": ["p_a", "p_b"]}]}, api))
    assert not succeeded
    assert checks["llm:p@p_a"]["status"] == "ok" and checks["llm:p@p_b"]["status"] == "failed"
    assert checks["llm:p@p_b"]["hint"] == "Set the datastore key p_b to a valid key"
    assert "secret" not in json.dumps(checks)


def test_a_key_that_google_calls_invalid_in_a_400_is_named(make_env, serve, api):
    error = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT",
                       "details": [{"reason": "API_KEY_INVALID"}]}}
    _, checks = checked(make_env({"providers": [
        {"name": "g", "api": "gemini", "models": ["m"],
         "base_url": serve(http_answer(400, json.dumps(error))).url}]}, api))
    entry = checks["llm:g"]
    assert entry["status"] == "failed" and "api_key" in entry["hint"]
    assert "API key not valid" in entry["details"]


@pytest.mark.parametrize("base_url, listing", [
    ("https://bedrock-runtime.eu-west-1.amazonaws.com", "https://bedrock.eu-west-1.amazonaws.com"),
    ("https://bedrock-runtime-fips.us-east-1.amazonaws.com",
     "https://bedrock-fips.us-east-1.amazonaws.com"),
    ("https://gateway.example/bedrock-runtime.x", "https://gateway.example/bedrock-runtime.x"),
    ("https://bedrock-runtime.eu-west-1.amazonaws.com.evil.example",
     "https://bedrock-runtime.eu-west-1.amazonaws.com.evil.example"),
])
def test_the_key_of_bedrock_goes_to_aws_or_to_the_configured_host(base_url, listing):
    connection, path = wire_format("bedrock").listing(Connection(base_url, "k"))
    assert connection.base_url == listing and path == "/foundation-models"


def test_the_mode_of_automation_is_shown_and_an_invalid_one_fails(make_env, api):
    succeeded, checks = checked(make_env({"automation": {"mode": "approve"}}, api))
    assert succeeded and checks["automation"]["details"] == "approve (automation.mode)"
    succeeded, checks = checked(make_env({"automation": {"mode": "always"}}, api))
    assert not succeeded and "automation.mode" in checks["automation"]["details"]
