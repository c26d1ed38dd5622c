import json
import urllib.parse

import pytest
from fixtures import foreign_packs

from synthralos.calls.llm_wires import APIS, wire_format
from synthralos.config.connection import Connection
from synthralos.operations.self_check import check

from .conftest import http_answer

STATUS = {"uptime": "2023-11-14T20:00:00.000Z", "cluster": {"status": "ready"}}
RUNBOOK = {
    "name": "disk_full", "match": {"alertname": "HostDiskFull"},
    "steps": [{
        "name": "vacuum", "action": "core.remote", "check": "free > 0.15",
        "parameters": {"hosts": {"label": "instance"}, "cmd": "journalctl --vacuum-size=200M"},
    }],
}


def checked(env):
    succeeded, result = check(env)
    return succeeded, {entry["name"]: entry for entry in result["checks"]}


def test_all_that_is_configured_works(make_env, serve, api, datastore):
    url = serve(http_answer(200)).url
    succeeded, checks = checked(make_env({
        "platforms": [{"base_url": url}],
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
        "platforms": [{"base_url": serve(http_answer(401)).url}],
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
    ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
     "https://bedrock.cn-north-1.amazonaws.com.cn"),
    ("https://gateway.example/bedrock-runtime.x", "https://gateway.example/bedrock-runtime.x"),
    ("https://bedrock-runtime.eu-west-1.amazonaws.com.evil.example",
     "https://bedrock-runtime.eu-west-1.amazonaws.com.evil.example"),
])
def test_the_key_of_bedrock_goes_to_aws_or_to_the_configured_host(base_url, listing):
    connection, path = wire_format("bedrock").listing(Connection(base_url, "k"))
    assert connection.base_url == listing and path == "/foundation-models"


VERTEX = "https://europe-west1-aiplatform.googleapis.com/v1"
GLOBAL = "https://aiplatform.googleapis.com/v1beta1"


@pytest.mark.parametrize("base_url, listing", [
    (VERTEX + "/projects/acme/locations/europe-west1/publishers/google",
     "https://europe-west1-aiplatform.googleapis.com/v1beta1/publishers/google"),
    (GLOBAL + "/projects/acme/locations/global/publishers/google", GLOBAL + "/publishers/google"),
    ("https://generativelanguage.googleapis.com/v1beta",
     "https://generativelanguage.googleapis.com/v1beta"),
    ("http://gateway.example:8080/v1/projects/p/locations/l/publishers/google",
     "http://gateway.example:8080/v1beta1/publishers/google"),
    ("https://gateway.example/a/v1/projects/p/locations/l/publishers/google",
     "https://gateway.example/a/v1/projects/p/locations/l/publishers/google"),
])
def test_the_models_of_vertex_are_listed_by_publisher(base_url, listing):
    wire = wire_format("gemini")
    connection, path = wire.listing(Connection(base_url, "k"))
    assert connection.base_url == listing and path.startswith("/models?pageSize=")
    names = wire.model_names({"publisherModels": [
        {"name": "publishers/google/models/gemini-2.5-pro", "versionId": "default"}]})
    assert names == ["gemini-2.5-pro"]


def test_the_mode_of_automation_is_shown_and_an_invalid_one_fails(make_env, api):
    succeeded, checks = checked(make_env({"automation": {"mode": "approve"}}, api))
    assert succeeded and checks["automation"]["details"] == "approve (automation.mode)"
    succeeded, checks = checked(make_env({"automation": {"mode": "always"}}, api))
    assert not succeeded and "automation.mode" in checks["automation"]["details"]


@pytest.mark.parametrize("name", ["synthralos.mode", "synthralos.runbook_mode.disk"])
def test_an_override_that_is_no_mode_fails(make_env, api, store, name):
    store.put(name, "always")
    succeeded, checks = checked(make_env({"automation": {"mode": "observe"}}, api))
    assert not succeeded and checks["automation"]["details"].startswith(name + ": not a mode")
    assert "set_mode" in checks["automation"]["hint"]
    store.put(name, "act")
    assert checked(make_env({}, api))[1]["automation"]["status"] == "ok"


class Monitoring:
    """A Prometheus and an Alertmanager in one.

    :ivar rejected: {query: why Prometheus does not parse it}; kinds: {query: its resultType};
        queries: the instant queries so far; paths: what Alertmanager was asked.
    """

    def __init__(self):
        self.rejected, self.kinds, self.queries, self.paths = {}, {}, [], []
        self.alerts, self.status = [{"labels": {}}], STATUS

    def __call__(self, connection, request):
        path = request.split(" ", 2)[1]
        connection.sendall(http_answer(*self._answer(path)))

    def _answer(self, path):
        name, _, query = path.partition("?")
        if name == "/api/v1/query":
            (query,) = urllib.parse.parse_qs(query)["query"]
            self.queries.append(query)
            if query in self.rejected:
                error = {"status": "error", "errorType": "bad_data", "error": self.rejected[query]}
                return 400, json.dumps(error)
            data = {"resultType": self.kinds.get(query, "vector"), "result": []}
            return 200, json.dumps({"status": "success", "data": data})
        self.paths.append(path)
        if name == "/api/v2/status":
            return 200, json.dumps(self.status)
        return 200, json.dumps(self.alerts)


@pytest.fixture
def monitoring():
    return Monitoring()


@pytest.fixture
def checked_with(make_env, serve, api, monitoring):
    """checked_with(prometheus=..., alertmanager=..., runbooks=...) -> (succeeded, checks)."""
    url = serve(monitoring).url
    api.action = foreign_packs.action
    api.runner_parameters = foreign_packs.runner_parameters

    def run(prometheus=None, alertmanager=None, runbooks=(), **infrastructure):
        config = {"infrastructure": dict(
            {"runbooks": list(runbooks), "allowed_actions": ["core.remote"],
             "prometheus": dict({"base_url": url}, **(prometheus or {}))}, **infrastructure)}
        if alertmanager is not None:
            config["sensors"] = {"alertmanager": dict({"url": url}, **alertmanager)}
        return checked(make_env(config, api))

    return run


def test_prometheus_is_asked_each_query_and_check_once(checked_with, monitoring):
    succeeded, checks = checked_with(
        {"query": "up == 0", "check": "up == 1"}, runbooks=[RUNBOOK, dict(RUNBOOK, name="other")])
    assert succeeded and checks["prometheus"]["status"] == checks["runbooks"]["status"] == "ok"
    assert monitoring.queries == ["up == 0", "up == 1", "free > 0.15"]
    assert "3 queries" in checks["prometheus"]["details"]


@pytest.mark.parametrize("query, path", [
    ("up == 0", "infrastructure.prometheus.query"),
    ("up == 1", "infrastructure.prometheus.check"), ("free > 0.15", "disk_full/vacuum"),
])
def test_a_query_that_prometheus_cannot_parse_is_named(checked_with, monitoring, query, path):
    monitoring.rejected[query] = "1:4: parse error: unexpected <op:==>"
    succeeded, checks = checked_with({"query": "up == 0", "check": "up == 1"}, runbooks=[RUNBOOK])
    assert not succeeded and checks["prometheus"]["status"] == "failed"
    assert path in checks["prometheus"]["details"]
    assert "parse error" in checks["prometheus"]["details"] and checks["prometheus"]["hint"]


def test_a_query_for_no_single_things_is_named(checked_with, monitoring):
    monitoring.kinds["count(up)"] = "scalar"
    succeeded, checks = checked_with({"query": "count(up)", "check": "up == 1"})
    assert not succeeded and "scalar" in checks["prometheus"]["details"]


def test_a_query_without_an_opposite_needs_a_check(checked_with):
    succeeded, checks = checked_with({"query": "up == 0 or probe_success == 0"})
    assert succeeded and "infrastructure.prometheus.check" in checks["prometheus"]["hint"]


def test_what_is_no_prometheus_fails(make_env, serve, api):
    for answer in (http_answer(200, b"{}"), http_answer(503), http_answer(200, b"<html>")):
        entry = {"prometheus": {"base_url": serve(answer).url}}
        succeeded, checks = checked(make_env({"infrastructure": entry}, api))
        assert not succeeded and checks["prometheus"]["status"] == "failed"
        assert checks["prometheus"]["hint"]


def test_alertmanager_is_asked_with_its_filter(checked_with, monitoring):
    succeeded, checks = checked_with(alertmanager={"filter": ['severity="critical"']})
    assert succeeded and checks["alertmanager"]["details"] == "1 member, 1 alert"
    assert urllib.parse.quote('severity="critical"') in monitoring.paths[0]


def test_an_alertmanager_that_has_just_started_is_named(checked_with, monitoring):
    monitoring.status = dict(STATUS, uptime="2023-11-14T22:13:00.000Z")
    succeeded, checks = checked_with(alertmanager={})
    assert succeeded and "just started" in checks["alertmanager"]["details"]


def test_an_alertmanager_that_cannot_be_used_fails(checked_with, monitoring):
    monitoring.status = {}
    succeeded, checks = checked_with(alertmanager={})
    assert not succeeded and "when it was started" in checks["alertmanager"]["details"]
    monitoring.alerts = {"not": "a list"}
    assert not checked_with(alertmanager={})[0]
    succeeded, checks = checked_with(alertmanager={"url": "http://127.0.0.1:1"})
    assert not succeeded and "http://127.0.0.1:1" in checks["alertmanager"]["details"]


def test_the_problems_of_runbooks_are_named(checked_with):
    step = dict(RUNBOOK["steps"][0], action="ops.none")
    succeeded, checks = checked_with(
        runbooks=[RUNBOOK, dict(RUNBOOK, name="other", steps=[step])],
        allowed_actions=["core.remote", "ops.none"])
    assert not succeeded and checks["runbooks"]["status"] == "failed"
    details = checks["runbooks"]["details"]
    assert details == "1 problem; other/vacuum: action 'ops.none' does not exist"
    assert "st2 pack install" in checks["runbooks"]["hint"]


def test_an_invalid_entry_is_named(checked_with):
    succeeded, checks = checked_with(runbooks=[dict(RUNBOOK, steps=[])])
    assert not succeeded and "infrastructure.runbooks[0].steps" in checks[
        "infrastructure"]["details"]
