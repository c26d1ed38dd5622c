from synthralos.operations.self_check import check

from .conftest import http_answer


def checked(env):
    good, result = check(env)
    return good, {one["name"]: one for one in result["checks"]}


def test_all_that_is_configured_works(make_env, serve, api, datastore):
    url = serve(http_answer(200)).url
    good, found = checked(make_env({
        "platform": {"base_url": url},
        "providers": [{"name": "p", "base_url": url, "models": ["m"]},
                      {"name": "a", "api": "anthropic", "base_url": url, "models": ["c"]}],
        "routes": [{"provider": "p", "region": "r", "base_url": url}],
    }, api))
    assert good and {one["status"] for one in found.values()} <= {"ok", "not_configured"}
    assert {"platform:synthralos", "llm:p", "llm:a", "route:p/r", "datastore"} <= set(found)
    assert datastore.names() == []


def test_what_is_not_configured_fails_nothing(make_env, api):
    good, found = checked(make_env({}, api))
    assert good and found["platform"]["status"] == "not_configured"


def test_what_fails_is_named_with_the_way_out(make_env, serve, api):
    good, found = checked(make_env({
        "platform": {"base_url": serve(http_answer(401)).url},
        "providers": [{"name": "p", "base_url": "http://127.0.0.1:1", "models": ["m"]},
                      {"name": "q", "base_url": "http://127.0.0.1:1", "api_key_from": "gone"}],
        "routes": [{"provider": "p", "region": "r", "base_url": serve(http_answer(404)).url}],
    }, api))
    assert not good
    for what in ("platform:synthralos", "llm:p", "llm:q"):
        assert found[what]["status"] == "failed" and found[what]["hint"]
    assert found["route:p/r"]["status"] == "ok"


def test_a_datastore_that_is_away_fails(make_env, api, datastore):
    datastore.away = True
    good, found = checked(make_env({}, api))
    assert not good and found["datastore"]["status"] == "failed"
