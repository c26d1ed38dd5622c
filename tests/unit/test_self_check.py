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


def test_the_mode_of_automation_is_shown_and_an_invalid_one_fails(make_env, api):
    succeeded, checks = checked(make_env({"automation": {"mode": "approve"}}, api))
    assert succeeded and checks["automation"]["details"] == "approve (automation.mode)"
    succeeded, checks = checked(make_env({"automation": {"mode": "always"}}, api))
    assert not succeeded and "automation.mode" in checks["automation"]["details"]
