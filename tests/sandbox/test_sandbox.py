"""The sandbox, judged over HTTP with requests: wires, steps, targets, record, control, command."""
import email.utils
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests
import yaml
from fixtures.waiting import ENDLESS_SECONDS, at_least, limit_under_test, until
from fixtures.waiting import PATIENCE_SECONDS as PATIENCE

import sandbox
from sandbox import Sandbox, scenario, schemas, steps
from sandbox.config import pack_config

DEV = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
HOSTILE = [
    "{{ config_context.x }} {% raw %} <% ctx() %> <% st2kv('system.x') %> <%= erb %>",
    "NUL \x00, a lone surrogate \ud800, \U0001f600, \u202eright to left\u202c, \r\n\t",
    '"quotes" and \\backslashes\\ {"json": ["like"]}',
    "long " * 200_000,
]
GOOD_OUTPUT = "Answer to: why?"


def ask_agent(box, query="why?", at="/platform", token="sandbox-token", **options):
    return requests.post(
        box.url(at + "/api/v1/agents/execute"),
        json={"query": query, "agentType": "simple", "config": {}},
        headers={"Authorization": "Bearer " + token},
        timeout=options.pop("timeout", PATIENCE),
        **options,
    )


def ask_openai(box, prompt="why?", model="gpt-4", key="sandbox-openai-key", **more):
    return requests.post(
        box.pack_config()["providers"][0]["base_url"] + "/chat/completions",
        json=dict(more, model=model, messages=[{"role": "user", "content": prompt}]),
        headers={"Authorization": "Bearer " + key},
        timeout=PATIENCE,
    )


def ask_anthropic(box, prompt="why?", model="claude-3-haiku", headers=None, **more):
    sent = {"x-api-key": "sandbox-anthropic-key", "anthropic-version": "2023-06-01"}
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
    return requests.post(
        box.pack_config()["providers"][1]["base_url"] + "/v1/messages",
        json=dict(body, **more),
        headers=sent if headers is None else headers,
        timeout=PATIENCE,
    )


def ask_region(box, provider="openai", region="us-east-1", path="/api/v1/llm", **options):
    options.setdefault("json", {"model": "gpt-4", "prompt": "why?"})
    url = box.url(f"/region/{provider}/{region}{path}")
    return requests.request(options.pop("method", "POST"), url, timeout=PATIENCE, **options)


ASKS = {
    "platform": ask_agent,
    "llm:openai/gpt-4": ask_openai,
    "llm:anthropic/claude-3-haiku": ask_anthropic,
    "route:openai/us-east-1": ask_region,
}


def answer_text(answer):
    """What an answer says, wherever its wire puts that."""
    body = answer.json()
    if "choices" in body:
        return body["choices"][0]["message"]["content"]
    if "content" in body:
        return "".join(block["text"] for block in body["content"])
    return body["output"] if "output" in body else body["response"]


def failure(answer):
    """(status, code or type, message) of an OpenAI, Anthropic or region error."""
    error = answer.json()["error"]
    return answer.status_code, error.get("code") or error.get("type"), error["message"]


class TestPlatform:
    def test_runs_an_agent(self, box):
        answer = ask_agent(box)
        assert answer.status_code == 200
        body = answer.json()
        assert sorted(body) == ["executionId", "metadata", "output", "status"]
        assert (body["status"], body["output"]) == ("completed", GOOD_OUTPUT)
        metadata = body["metadata"]
        assert metadata == {
            "framework": "auto",
            "executionTime": 5,
            "tokensUsed": 5,
            "cost": 0.00005,
            "intermediateSteps": [],
        }

    def test_ids_differ(self, box):
        assert ask_agent(box).json()["executionId"] != ask_agent(box).json()["executionId"]

    @pytest.mark.parametrize("path", ["/api/v1/agents/a/execute", "/api/v1/code-agents/7/execute"])
    def test_runs_an_agent_at_a_path_of_its_own(self, box, path):
        headers = {"Authorization": "Bearer sandbox-token"}
        url = box.url("/platform" + path)
        answer = requests.post(url, json={"input": "x"}, headers=headers, timeout=PATIENCE)
        assert answer.json()["output"] == "Answer to: x"

    def test_wants_a_query(self, box):
        answer = ask_agent(box, query="")
        assert (answer.status_code, answer.json()) == (400, {"error": "Query is required"})

    def test_wants_a_token(self, box):
        url = box.url("/platform/api/v1/agents/execute")
        answer = requests.post(url, json={}, timeout=PATIENCE)
        assert answer.status_code == 401
        message = "Missing or invalid authorization header"
        assert answer.json() == {"error": "Unauthorized", "message": message}
        answer = ask_agent(box, token="old")
        assert (answer.status_code, answer.json()["error"]) == (401, "Invalid token")
        assert sorted(answer.json()) == ["details", "error"]

    def test_health_and_unknown_routes(self, box):
        health = requests.get(box.url("/platform/health"), timeout=PATIENCE)
        assert health.json()["status"] == "ok"
        headers = {"Authorization": "Bearer sandbox-token"}
        unknown = requests.get(box.url("/platform/api/v1/no"), headers=headers, timeout=PATIENCE)
        assert (unknown.status_code, unknown.json()) == (404, {"error": "Not found"})
        assert requests.get(box.url("/nowhere"), timeout=PATIENCE).status_code == 404
        assert [call.target for call in box.calls] == [
            "platform/health", "platform/unknown", "unknown",
        ]

    def test_lists_the_errors_it_was_given(self, box):
        def get(at):
            url = box.url(at + "/api/v1/observability/errors?range=1h")
            headers = {"Authorization": "Bearer sandbox-token"}
            return requests.get(url, headers=headers, timeout=PATIENCE)

        assert get("/platform").json() == {"errors": []}
        box.set_errors([{"message": "broken", "traceId": "t"}])
        assert get("/platform").json() == {"errors": [{"message": "broken", "traceId": "t"}]}
        assert get("/platform-b").json() == {"errors": []}
        assert box.calls[0].query == {"range": "1h"}
        with pytest.raises(ValueError):
            box.set_errors("broken")

    def test_takes_webhooks_without_using_up_the_agents_steps(self, box):
        box.script("platform", [sandbox.status(500)])
        box.script("platform/webhooks", [sandbox.status(503)])
        url = box.url("/platform/webhooks/agent-failures")
        assert requests.post(url, json={"a": 1}, timeout=PATIENCE).status_code == 503
        assert requests.post(url, json={"a": 1}, timeout=PATIENCE).json()["success"] is True
        assert ask_agent(box).status_code == 500
        assert [call.target for call in box.calls] == ["platform/webhooks"] * 2 + ["platform"]
        assert box.calls_to("platform/webhooks")[0].body == {"a": 1}

    def test_replays_and_shows_an_execution(self, box):
        headers = {"Authorization": "Bearer sandbox-token"}
        url = box.url("/platform/api/v1/executions/e1")
        replay = requests.post(url + "/replay", json={}, headers=headers, timeout=PATIENCE)
        assert sorted(replay.json()) == ["executionId", "message"]
        assert box.calls[0].target == "platform"
        execution = requests.get(url, headers=headers, timeout=PATIENCE).json()
        assert (execution["id"], execution["status"]) == ("e1", "completed")
        assert execution["output"]

    def test_several_platforms(self, box):
        box.script("platform", [sandbox.status(500)])
        assert ask_agent(box, at="/platform-b").status_code == 200
        box.script("platform:b", [sandbox.status(502)])
        assert ask_agent(box, at="/platform-b").status_code == 502
        assert ask_agent(box).status_code == 500
        assert [call.target for call in box.calls] == ["platform:b", "platform:b", "platform"]
        assert len(box.calls_to("platform")) == 1
        assert len(box.calls_to("platform*")) == 3


class TestOpenAI:
    def test_completes(self, box):
        answer = ask_openai(box, temperature=0.1, max_tokens=5)
        body = answer.json()
        assert answer.status_code == 200
        assert (body["object"], body["model"]) == ("chat.completion", "gpt-4")
        choice = body["choices"][0]
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"] == "Answer from gpt-4: why?"
        assert choice["finish_reason"] == "stop"
        usage = {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}
        assert body["usage"] == usage
        assert box.calls[0].body["temperature"] == 0.1

    def test_reads_parts_of_content(self, box):
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        assert answer_text(ask_openai(box, prompt=parts)).endswith(": ab")

    def test_lists_models(self, box):
        headers = {"Authorization": "Bearer sandbox-openai-key"}
        url = box.url("/openai/openai/models")
        model_list = requests.get(url, headers=headers, timeout=PATIENCE).json()
        names = [model["id"] for model in model_list["data"]]
        assert names == ["gpt-4", "gpt-4o", "gpt-3.5-turbo"]

    def test_refuses(self, box):
        assert failure(ask_openai(box, key="no"))[:2] == (401, "invalid_api_key")
        assert ask_openai(box, model="").status_code == 400
        assert ask_openai(box, stream=True).status_code == 400
        headers = {"Authorization": "Bearer sandbox-openai-key"}
        url = box.url("/openai/openai/chat/completions")
        for sent in ({"json": {"model": "m"}}, {"data": "not json"}):
            answer = requests.post(url, headers=headers, timeout=PATIENCE, **sent)
            assert failure(answer)[0] == 400
        assert box.calls[-1].body == "not json"
        unknown = requests.get(box.url("/openai/openai/x"), headers=headers, timeout=PATIENCE)
        assert failure(unknown)[0] == 404

    @pytest.mark.parametrize(
        "step, expected",
        [
            (steps.rate_limit(), (429, "rate_limit_exceeded", "Rate limit reached")),
            (steps.quota(), (429, "insufficient_quota", "exceeded your current quota")),
            (steps.unauthorized(), (401, "invalid_api_key", "API key")),
            (steps.model_not_found(), (404, "model_not_found", "`gpt-4` does not exist")),
            (steps.context_length(), (400, "context_length_exceeded", "maximum context length")),
            (steps.content_policy(), (400, "content_filter", "filter")),
            (steps.overloaded(), (503, "server_error", "overloaded")),
            (steps.agent_failed("x"), (500, "server_error", "x")),
            (steps.status(500), (500, "server_error", "Internal Server Error")),
            (steps.status(503, error="{{ no }}"), (503, "server_error", "{{ no }}")),
            (steps.status(429), (429, "rate_limit_exceeded", "Too Many")),
            (steps.status(401), (401, "invalid_api_key", "Unauthorized")),
            (steps.status(400), (400, "invalid_request_error", "Bad Request")),
        ],
    )
    def test_errors(self, box, step, expected):
        box.script("llm:openai/gpt-4", [step])
        answer = ask_openai(box)
        status, code, message = failure(answer)
        assert (status, code) == expected[:2]
        assert expected[2] in message
        assert sorted(answer.json()["error"]) == ["code", "message", "param", "type"]


class TestJsonThatIsAskedFor:
    """What models say of whom JSON is asked, where no script says it."""

    WORDS = "Answer with one JSON value that matches this JSON Schema, and with nothing else:\n"
    SCORED = {
        "type": "object",
        "required": ["score", "passed", "problems", "note"],
        "properties": {
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "passed": {"type": "boolean"},
            "problems": {"type": "array", "items": {"type": "string"}},
            "note": {"type": "string"},
            "more": {"type": "string"},
        },
    }

    def test_both_wires_take_it_from_the_prompt(self, box):
        expected = {"score": 1, "passed": True, "problems": [], "note": "note"}
        system = "Be strict.\n\n" + self.WORDS + json.dumps(self.SCORED)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "why?"}]
        url = box.pack_config()["providers"][0]["base_url"] + "/chat/completions"
        answer = requests.post(
            url, json={"model": "gpt-4", "messages": messages}, timeout=PATIENCE,
            headers={"Authorization": "Bearer sandbox-openai-key"})
        assert json.loads(answer_text(answer)) == expected
        assert json.loads(answer_text(ask_anthropic(box, system=system))) == expected

    def test_openai_takes_it_from_the_response_format(self, box):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": self.SCORED}}
        assert json.loads(answer_text(ask_openai(box, response_format=form)))["score"] == 1
        echoed = answer_text(ask_openai(box, response_format={"type": "json_object"}))
        assert echoed == "Answer from gpt-4: why?"

    def test_a_script_goes_first(self, box):
        box.script("llm:openai", [steps.ok(text="no JSON")])
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": self.SCORED}}
        assert answer_text(ask_openai(box, response_format=form)) == "no JSON"

    @pytest.mark.parametrize("schema, expected", [
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number"}, 0),
        ({"type": ["null", "string"]}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string", "maxLength": 2}, "an"),
        ({"type": "string", "minLength": 8}, "answer.."),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "minItems": 2, "items": {"type": "number", "maximum": 1}}, [1, 1]),
        ({"properties": {"a": {"$ref": "#/definitions/n"}}, "required": ["a"],
          "definitions": {"n": {"type": "object"}}}, {"a": {}}),
        ({}, "answer"),
    ])
    def test_the_least_that_matches(self, schema, expected):
        assert json.loads(schemas.answer([self.WORDS + json.dumps(schema)])) == expected

    @pytest.mark.parametrize("schema", [
        {"type": "string", "pattern": "^[0-9]+$"}, {"$ref": "#"}, {"$ref": "#/nowhere"},
        {"type": "odd"}, {"enum": []}, {"type": 7}, {"anyOf": []}, [1],
    ])
    def test_what_is_beyond_it_is_echoed_as_ever(self, box, schema):
        assert schemas.answer([self.WORDS + json.dumps(schema)]) is None
        prompt = self.WORDS + json.dumps(schema)
        assert answer_text(ask_openai(box, prompt=prompt)) == "Answer from gpt-4: " + prompt

    def test_words_without_a_schema(self):
        for text in (self.WORDS, self.WORDS + "{not json", "none of it", "[" * 10_000):
            assert schemas.answer([text]) is None


class TestAnthropic:
    def test_answers(self, box):
        body = ask_anthropic(box, system="Be brief").json()
        assert (body["type"], body["role"], body["model"]) == (
            "message", "assistant", "claude-3-haiku",
        )
        text = "Answer from claude-3-haiku: why?"
        assert body["content"] == [{"type": "text", "text": text}]
        assert body["stop_reason"] == "end_turn"
        assert body["usage"] == {"input_tokens": 3, "output_tokens": 8}

    def test_translates_finish_reasons(self, box):
        box.script("llm:anthropic", [steps.ok(finish_reason="length"), steps.ok(finish_reason="x")])
        assert ask_anthropic(box).json()["stop_reason"] == "max_tokens"
        assert ask_anthropic(box).json()["stop_reason"] == "x"

    def test_checks_headers(self, box):
        assert failure(ask_anthropic(box, headers={}))[:2] == (401, "authentication_error")
        version = {"anthropic-version": "2023-06-01"}
        for wrong in ({"x-api-key": "no"}, {"Authorization": "Bearer no"}):
            answer = ask_anthropic(box, headers=dict(version, **wrong))
            assert failure(answer)[:2] == (401, "authentication_error")
        bearer = dict(version, Authorization="Bearer sandbox-anthropic-key")
        assert ask_anthropic(box, headers=bearer).status_code == 200
        unversioned = {"x-api-key": "sandbox-anthropic-key"}
        answer = ask_anthropic(box, headers=unversioned)
        assert failure(answer)[:2] == (400, "invalid_request_error")
        assert "anthropic-version" in answer.text

    def test_refuses(self, box):
        assert "max_tokens" in ask_anthropic(box, max_tokens=None).text
        assert "system" in ask_anthropic(box, messages=[{"role": "system", "content": "x"}]).text
        for wrong in ({"messages": []}, {"model": ""}, {"stream": True}):
            assert ask_anthropic(box, **wrong).status_code == 400
        headers = {"x-api-key": "sandbox-anthropic-key", "anthropic-version": "2023-06-01"}
        at = "/anthropic/anthropic/v1/"
        answer = requests.get(box.url(at + "x"), headers=headers, timeout=PATIENCE)
        assert failure(answer)[:2] == (404, "not_found_error")
        model_list = requests.get(box.url(at + "models"), headers=headers, timeout=PATIENCE).json()
        assert model_list["data"][0]["id"] == "claude-3-haiku"

    @pytest.mark.parametrize(
        "step, expected",
        [
            (steps.rate_limit(), (429, "rate_limit_error", "rate limit")),
            (steps.quota(), (400, "invalid_request_error", "credit balance is too low")),
            (steps.unauthorized(), (401, "authentication_error", "x-api-key")),
            (steps.model_not_found(), (404, "not_found_error", "model: claude-3-haiku")),
            (steps.context_length(), (400, "invalid_request_error", "is too long: 200001 tokens")),
            (steps.content_policy(), (400, "invalid_request_error", "content filtering policy")),
            (steps.overloaded(), (529, "overloaded_error", "Overloaded")),
            (steps.agent_failed("x"), (500, "api_error", "x")),
            (steps.status(500), (500, "api_error", "Internal Server Error")),
            (steps.status(529), (529, "overloaded_error", "Error")),
            (steps.status(403), (403, "permission_error", "Forbidden")),
            (steps.status(422), (422, "invalid_request_error", "Unprocessable")),
        ],
    )
    def test_errors(self, box, step, expected):
        box.script("llm:anthropic/claude-3-haiku", [step])
        answer = ask_anthropic(box)
        status, code, message = failure(answer)
        assert (status, code) == expected[:2]
        assert expected[2] in message
        assert answer.json()["type"] == "error"


class TestRegion:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_echoes_any_call(self, box, method):
        body = ask_region(box, "google", "eu-west-1", "/v2/a%20b?x=1", method=method).json()
        assert body == {
            "provider": "google",
            "region": "eu-west-1",
            "path": "/v2/a%20b",
            "method": method,
            "model": "gpt-4",
            "response": "Answer from google in eu-west-1: why?",
        }

    def test_head_has_no_body(self, box):
        with requests.Session() as session:
            url = box.url("/region/openai/us-east-1/x")
            assert session.head(url, timeout=PATIENCE).content == b""
            assert session.get(url, timeout=PATIENCE).json()["model"] is None

    @pytest.mark.parametrize(
        "sent, echoed",
        [
            ({"json": {"messages": [{"role": "user", "content": "hi"}]}}, "hi"),
            ({"json": {"query": "hi"}}, "hi"),
            ({"json": {"a": "\u00e9"}}, '{"a": "\u00e9"}'),
            ({"json": [1]}, "[1]"),
            ({"json": None, "data": "plain"}, "plain"),
            ({"json": None}, ""),
        ],
    )
    def test_echoes_any_body(self, box, sent, echoed):
        assert answer_text(ask_region(box, **sent)) == "Answer from openai in us-east-1: " + echoed

    @pytest.mark.parametrize(
        "step, expected",
        [
            (steps.rate_limit(), (429, "rate_limit_exceeded")),
            (steps.quota(), (429, "insufficient_quota")),
            (steps.unauthorized(), (401, "unauthorized")),
            (steps.model_not_found(), (404, "model_not_found")),
            (steps.context_length(), (400, "context_length_exceeded")),
            (steps.content_policy(), (400, "content_filter")),
            (steps.overloaded(), (503, "overloaded")),
            (steps.status(504), (504, 504)),
        ],
    )
    def test_errors(self, box, step, expected):
        box.script("route:openai/us-east-1", [step])
        assert failure(ask_region(box))[:2] == expected


class TestPrometheusAndHooks:
    def ask(self, box, **params):
        return requests.get(box.url("/prometheus/api/v1/query"), params=params, timeout=PATIENCE)

    def test_answers_with_nothing_until_something_is_down(self, box):
        empty = {"status": "success", "data": {"resultType": "vector", "result": []}}
        assert self.ask(box, query="up == 0").json() == empty
        box.script("prometheus", [sandbox.down(["a", "{{ b }}"], label="node")])
        result = self.ask(box, query="up == 0").json()["data"]["result"]
        assert [sample["metric"]["node"] for sample in result] == ["a", "{{ b }}"]
        assert box.calls_to("prometheus")[1].query == {"query": "up == 0"}

    def test_refuses_what_is_no_query(self, box):
        assert self.ask(box).status_code == 400
        assert requests.get(box.url("/prometheus/x"), timeout=PATIENCE).status_code == 404

    def test_fails_as_it_is_told(self, box):
        box.script("prometheus", [sandbox.status(503), sandbox.unauthorized()])
        response = self.ask(box, query="up")
        assert (response.status_code, response.json()["status"]) == (503, "error")
        assert self.ask(box, query="up").status_code == 401

    def test_returns_the_series_that_are_set(self, box):
        box.script("prometheus", [sandbox.status(503)], forever=True)
        query, labels = 'free{mountpoint="/"} > 0.15', [{"instance": "web-1"}]
        box.set_series(query, labels)
        (sample,) = self.ask(box, query=query).json()["data"]["result"]
        assert sample["metric"] == labels[0]
        assert self.ask(box, query="up").status_code == 503
        response = requests.get(
            box.url("/prometheus/api/v1/query_range"), timeout=PATIENCE,
            params={"query": query, "start": 10, "end": 14, "step": 2},
        )
        (series,) = response.json()["data"]["result"]
        assert series == {"metric": labels[0], "values": [[10, "1"], [12, "1"], [14, "1"]]}
        box.set_series(query, lambda: [{"instance": "web-%d" % len(box.calls)}])
        assert self.ask(box, query=query).json()["data"]["result"][0]["metric"] == {
            "instance": "web-3"}
        box.set_series(query, None)
        assert self.ask(box, query=query).status_code == 503

    @pytest.mark.parametrize("query, series", [("", []), (None, []), ("up", {}), ("up", ["a"])])
    def test_series_that_are_none_are_refused(self, box, query, series):
        with pytest.raises(ValueError):
            box.set_series(query, series)

    def test_a_hook_takes_anything(self, box):
        box.script("hook:team", [sandbox.status(500), sandbox.quota()])
        statuses = [
            requests.post(box.url("/hook/team"), json={"n": n}, timeout=PATIENCE).status_code
            for n in range(3)
        ]
        assert statuses == [500, 429, 200]
        assert [call.body["n"] for call in box.calls_to("hook:team")] == [0, 1, 2]


class TestSteps:
    """Steps that mean the same on every wire."""

    @pytest.mark.parametrize("target", sorted(ASKS))
    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_text_is_sent_verbatim_and_echoed_verbatim(self, box, target, text):
        box.script(target, [steps.ok(text=text)])
        assert answer_text(ASKS[target](box)) == text
        if target == "route:openai/us-east-1":
            echo = ask_region(box, json={"prompt": text})
        else:
            echo = ASKS[target](box, text)
        assert answer_text(echo).endswith(": " + text)

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_ok_with_a_body_and_headers(self, box, target):
        box.script(
            target,
            [
                steps.ok(body={"any": ["thing"]}, headers={"X-One": "1"}),
                steps.ok(body="<html>", headers={"content-type": "text/html"}),
                steps.ok(body=b"\xff\x00"),
                steps.status(201),
                steps.status(204),
            ],
        )
        ask = ASKS[target]
        answer = ask(box)
        assert (answer.json(), answer.headers["x-one"]) == ({"any": ["thing"]}, "1")
        answer = ask(box)
        assert (answer.text, answer.headers["content-type"]) == ("<html>", "text/html")
        assert ask(box).content == b"\xff\x00"
        answer = ask(box)
        assert (answer.status_code, "why?" in answer_text(answer)) == (201, True)
        answer = ask(box)
        assert (answer.status_code, answer.content) == (204, b"")

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_status_with_a_body_and_headers(self, box, target):
        box.script(target, [steps.status(418, headers={"X-Two": "2"}, body="teapot")])
        answer = ASKS[target](box)
        received = (answer.status_code, answer.text, answer.headers["x-two"])
        assert received == (418, "teapot", "2")

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_blank_and_invalid(self, box, target):
        box.script(target, [steps.blank(), steps.invalid(), steps.invalid({"wrong": 1})])
        ask = ASKS[target]
        assert answer_text(ask(box)) == ""
        assert answer_text(ask(box)) == "This is not what was asked for."
        assert answer_text(ask(box)) in ({"wrong": 1}, '{"wrong": 1}')

    def test_no_finish_reason(self, box):
        box.script("*", steps.no_finish_reason(), forever=True)
        assert ask_openai(box).json()["choices"][0]["finish_reason"] is None
        assert ask_anthropic(box).json()["stop_reason"] is None
        unfinished = ask_agent(box).json()
        assert (unfinished["status"], "output" in unfinished) == ("running", False)
        assert ask_region(box).json()["status"] == "running"

    def test_agent_failed(self, box):
        box.script("platform", [steps.agent_failed("no tool"), steps.agent_failed(status=500)])
        answer = ask_agent(box)
        assert answer.status_code == 200
        assert sorted(answer.json()) == ["error", "executionId", "status"]
        assert (answer.json()["status"], answer.json()["error"]) == ("failed", "no tool")
        answer = ask_agent(box)
        assert (answer.status_code, answer.json()["status"]) == (500, "failed")
        box.script("route:*", steps.agent_failed("no"))
        assert ask_region(box).json() == {"status": "failed", "error": "no"}

    @pytest.mark.parametrize(
        "step, status, message",
        [
            (steps.rate_limit(), 429, "Too many requests"),
            (steps.overloaded(), 503, "Service overloaded"),
            (steps.unauthorized(), 401, "Invalid token"),
            (steps.quota(), 500, "quota"),
            (steps.model_not_found(), 500, "model"),
            (steps.context_length(), 500, "context_length_exceeded"),
            (steps.content_policy(), 500, "content_filter"),
            (steps.status(500), 500, "Internal server error"),
            (steps.status(502, error="<% ctx() %>"), 502, "<% ctx() %>"),
        ],
    )
    def test_errors_of_a_platform(self, box, step, status, message):
        box.script("platform", [step])
        answer = ask_agent(box)
        assert answer.status_code == status
        assert message in answer.json()["error"]

    @pytest.mark.parametrize("target", sorted(ASKS))
    @pytest.mark.parametrize("constructor", [steps.rate_limit, steps.overloaded])
    def test_hints(self, box, target, constructor):
        box.script(
            target,
            [
                constructor(2),
                constructor(1.5),
                constructor(0.25, hint="ms"),
                constructor(60, hint="date"),
                constructor("soon"),
                constructor(30, hint="body"),
                constructor(None),
            ],
        )
        answers = [ASKS[target](box) for _ in range(7)]
        retry_headers = [answer.headers.get("retry-after") for answer in answers]
        assert retry_headers[:3] == ["2", "1.5", None]
        assert answers[2].headers["retry-after-ms"] == "250"
        date = email.utils.parsedate_to_datetime(retry_headers[3]).timestamp()
        # A date has whole seconds, and the answer was made at some time after the call came in.
        assert box.calls[3].time + 59 <= date <= time.time() + 60
        assert retry_headers[4:] == ["soon", None, None]
        assert '"retryDelay": "30s"' in answers[5].text
        assert "retryDelay" not in answers[6].text
        with pytest.raises(ValueError):
            constructor(1, hint="nowhere")

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_reset(self, box, target):
        box.script(target, [steps.reset()])
        with pytest.raises(requests.ConnectionError):
            ASKS[target](box)
        assert (box.calls[0].status, box.calls[0].step) == (None, "reset")
        assert ASKS[target](box).status_code == 200

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_cut(self, box, target):
        box.script(target, [steps.cut(), steps.cut(then=steps.ok(body=b""))])
        for _ in range(2):
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                ASKS[target](box)
        assert (box.calls[0].status, box.calls[0].step) == (200, "cut")

    @pytest.mark.parametrize("target", sorted(ASKS))
    def test_malformed(self, box, target):
        box.script(target, [steps.malformed()])
        answer = ASKS[target](box)
        assert answer.status_code == 200
        with pytest.raises(ValueError):
            answer.json()

    def test_delay(self, box):
        box.script("platform", [steps.delay(0.15), steps.delay(0.05, then=steps.quota())])
        assert at_least(0.15, lambda: ask_agent(box)).json()["output"] == GOOD_OUTPUT
        assert ask_agent(box).status_code == 500

    def test_delay_beyond_the_clients_patience(self, capfd):
        before = set(threading.enumerate())
        with Sandbox() as box:
            box.script("platform", [steps.delay(ENDLESS_SECONDS)])
            with pytest.raises(requests.exceptions.ReadTimeout):
                ask_agent(box, timeout=(PATIENCE, limit_under_test(0.1)))
            until(lambda: box.calls and box.calls[0].step == "delay", "the call is delayed")
            assert box.calls[0].status is None
            # To close it does not wait for the delay.
            closing = threading.Thread(target=box.close, daemon=True)
            closing.start()
            closing.join(PATIENCE)
            assert not closing.is_alive()
        until(lambda: not set(threading.enumerate()) - before, "the delay has been broken off")
        assert capfd.readouterr().err == ""

    def test_a_function_as_a_step(self, box):
        def by_token(call):
            return steps.unauthorized() if call.body["query"] == "bad" else None

        box.script("platform", by_token, forever=True)
        statuses = [ask_agent(box, query).status_code for query in ("bad", "good", "bad")]
        assert statuses == [401, 200, 401]
        box.script("platform", [steps.delay(0, then=by_token)])
        assert ask_agent(box, "bad").status_code == 401

    def test_a_function_that_fails_is_seen(self, box, capfd):
        box.script("platform", [lambda call: 1 / 0])
        answer = ask_agent(box)
        assert (answer.status_code, "ZeroDivisionError" in answer.text) == (500, True)
        assert "ZeroDivisionError" in capfd.readouterr().err
        assert ask_agent(box).status_code == 200

    @pytest.mark.parametrize(
        "make",
        [
            lambda: steps.status(99),
            lambda: steps.status("500"),
            lambda: steps.delay(-1),
            lambda: steps.delay("1"),
            lambda: steps.agent_failed(status=404),
        ],
    )
    def test_senseless_steps_are_refused(self, make):
        with pytest.raises(ValueError):
            make()


class TestScripts:
    def test_steps_in_order_then_well(self, box):
        box.script("platform", [steps.status(500), steps.status(502)])
        assert [ask_agent(box).status_code for _ in range(4)] == [500, 502, 200, 200]

    def test_forever_repeats_the_last(self, box):
        box.script("platform", [steps.status(500), steps.status(502)], forever=True)
        assert [ask_agent(box).status_code for _ in range(4)] == [500, 502, 502, 502]
        box.script("platform", [])
        assert ask_agent(box).status_code == 200

    def test_the_nearest_pattern_goes_first(self, box):
        box.script("llm:*", [steps.status(501)])
        box.script("llm:openai", [steps.status(502), steps.status(503)])
        box.script("llm:openai/gpt-4", [steps.status(504)])
        assert [ask_openai(box).status_code for _ in range(5)] == [504, 502, 503, 501, 200]
        box.script("llm:openai", [steps.status(502)])
        assert ask_anthropic(box).status_code == 200
        assert ask_openai(box, model="other").status_code == 502

    def test_routes(self, box):
        box.script("route:openai", [steps.status(500), steps.status(501)])
        box.script("route:*", [steps.status(503)])
        statuses = [
            ask_region(box, provider, region).status_code
            for provider, region in [
                ("openai", "a"), ("google", "a"), ("openai", "b"), ("google", "b"),
            ]
        ]
        assert statuses == [500, 503, 501, 200]

    def test_a_name_is_no_prefix(self, box):
        box.script("route:open", [steps.status(500)])
        assert ask_region(box).status_code == 200

    def test_wrong_requests_use_up_no_step(self, box):
        box.script("platform", [steps.status(500)])
        assert ask_agent(box, token="no").status_code == 401
        assert ask_agent(box, query="").status_code == 400
        assert ask_agent(box).status_code == 500
        assert [call.step for call in box.calls] == ["refused", "refused", "status"]

    def test_the_dead(self, box):
        box.kill("route:openai")
        box.kill("platform")
        for ask in (ask_region, ask_agent, ask_region):
            with pytest.raises(requests.ConnectionError):
                ask(box)
        with pytest.raises(requests.ConnectionError):
            requests.get(box.url("/platform/health"), timeout=PATIENCE)
        assert ask_region(box, "google").status_code == 200
        assert ask_agent(box, at="/platform-b").status_code == 200
        box.revive("route:openai")
        assert ask_region(box).status_code == 200
        with pytest.raises(ValueError, match="killed: platform"):
            box.revive("route:openai")

    @pytest.mark.parametrize("target", ["", "openai", "llm:", "route", "llm openai", None])
    def test_no_target(self, box, target):
        for refused in (box.kill, box.calls_to, lambda at: box.script(at, [])):
            with pytest.raises(ValueError, match="is not a valid target"):
                refused(target)

    def test_no_step(self, box):
        with pytest.raises(TypeError, match="is not a step"):
            box.script("platform", [500])
        with pytest.raises(TypeError, match=r"use blank\(\)"):
            box.script("platform", [steps.blank])
        with pytest.raises(ValueError):
            box.script("platform", [], forever=True)

    def test_every_call_gets_one_step_under_load(self, box):
        box.script("llm:openai", [steps.status(500)] * 40)
        statuses = []

        def work():
            statuses.extend(ask_openai(box).status_code for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (statuses.count(500), statuses.count(200)) == (40, 40)
        assert len(box.calls_to("llm:openai/gpt-4")) == 80


class TestRecord:
    def test_a_call(self, box):
        before = time.time()
        answer = requests.post(
            box.url("/region/openai/us-east-1/p?a=1&b="),
            json={"x": 1},
            headers={"X-Mixed": "Case", "Idempotency-Key": "k"},
            timeout=PATIENCE,
        )
        assert answer.status_code == 200
        call = box.calls[0]
        assert before <= call.time <= time.time()
        assert (call.target, call.method, call.status, call.step) == (
            "route:openai/us-east-1", "POST", 200, "ok",
        )
        assert (call.path, call.query) == ("/region/openai/us-east-1/p", {"a": "1", "b": ""})
        assert (call.headers["x-mixed"], call.headers["idempotency-key"]) == ("Case", "k")
        assert call.body == {"x": 1}

    def test_bodies_that_are_no_json(self, box):
        for data in ("{broken", "12", "[" * 100_000):
            ask_region(box, json=None, data=data)
            assert box.calls[-1].body == data

    def test_reset_calls_and_reset(self, box):
        box.script("platform", [steps.status(500)] * 2)
        box.kill("route:*")
        box.set_errors([{}])
        ask_agent(box)
        box.reset_calls()
        assert box.calls == []
        assert ask_agent(box).status_code == 500
        box.script("platform", [steps.status(500)])
        box.reset()
        assert box.calls == []
        assert (ask_agent(box).status_code, ask_region(box).status_code) == (200, 200)
        assert box.errors == {}

    def test_the_list_is_the_callers_own(self, box):
        box.calls.append("x")
        assert box.calls == []


class TestServer:
    def test_keeps_connections_alive(self, box):
        box.script("route:*", [steps.status(500), steps.ok(), steps.quota()])
        connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=PATIENCE)
        connection.connect()
        opened = connection.sock
        for _ in range(4):
            connection.request("POST", "/region/openai/us-east-1/x", body='{"prompt": "x"}')
            connection.getresponse().read()
            assert connection.sock is opened
        connection.close()

    def test_starts_fast_and_leaves_nothing(self, monkeypatch):
        # What makes a start slow on some hosts: to ask the resolver for the host's name.
        monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("the resolver was asked"))
        before = set(threading.enumerate())
        for _ in range(5):
            with Sandbox() as box, requests.Session() as session:
                session.get(box.url("/platform/health"), timeout=PATIENCE)
        until(lambda: not set(threading.enumerate()) - before, "its threads have ended")

    def test_port_and_life(self):
        box = Sandbox()
        with pytest.raises(RuntimeError):
            assert box.port
        with box:
            assert box.base_url == "http://127.0.0.1:%d" % box.port
            with pytest.raises(RuntimeError):
                box.start()
            with pytest.raises(OSError):
                Sandbox(port=box.port).start()
            url = box.url("/platform/health")
        box.close()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=PATIENCE)
        with box:
            assert requests.get(box.url("/platform/health"), timeout=PATIENCE).status_code == 200

    def test_wants_a_length(self, box):
        answer = requests.post(box.url("/platform/health"), data=iter([b"x"]), timeout=PATIENCE)
        assert answer.status_code == 411

    def test_answers_as_a_proxy(self, box):
        proxies = {"http": box.base_url}
        with requests.Session() as session:
            session.trust_env = False
            url = "http://upstream.invalid/region/openai/us-east-1/x"
            answer = session.get(url, proxies=proxies, timeout=PATIENCE)
        assert answer.json()["path"] == "/x"


def test_pack_config(box):
    config = box.pack_config()
    assert config == pack_config(box.base_url)
    assert config["platforms"][0] == {
        "base_url": box.base_url + "/platform",
        "token": "sandbox-token",
        "failure_webhook": "/webhooks/agent-failures",
        "restore_path": "/api/v1/agents/{agent_id}/restore",
        "fallbacks": [],
    }
    assert config["providers"][0] == {
        "name": "openai",
        "api": "openai",
        "base_url": box.base_url + "/openai/openai",
        "api_key": "sandbox-openai-key",
        "models": [
            {"name": "gpt-4", "context_window": 8192},
            {"name": "gpt-4o", "context_window": 128000},
            {"name": "gpt-3.5-turbo", "context_window": 16385},
        ],
    }
    assert config["providers"][1]["api_key"] == "sandbox-anthropic-key"
    assert len(config["routes"]) == 9
    assert config["routes"][5] == {
        "provider": "anthropic",
        "region": "us-west-2",
        "base_url": box.base_url + "/region/anthropic/us-west-2",
    }
    assert (config["default_provider"], config["default_region"]) == ("openai", "us-east-1")
    assert config["model_map"]["google"] == {"gpt-4": "gemini-1.5-pro"}
    for route in config["routes"]:
        assert requests.get(route["base_url"] + "/x", timeout=PATIENCE).status_code == 200


SCENARIO = """
scripts:
  platform: [agent_failed, {rate_limit: 2}, ok]
  llm:openai/gpt-4:
    steps: [{delay: {seconds: 0, then: overloaded}}, {status: {code: 503, error: Sorry}}]
    forever: true
  llm:anthropic/claude-3-haiku: {ok: {text: "Hello", finish_reason: length}}
kill: [route:openai]
errors:
  platform: [{message: Agent failed}]
"""


class TestScenario:
    @pytest.mark.parametrize("form", ["yaml", "json", "object"])
    def test_plays(self, tmp_path, form):
        data = yaml.safe_load(SCENARIO)
        path = tmp_path / "scenario"
        path.write_text(SCENARIO if form == "yaml" else json.dumps(data))
        with Sandbox(scenario=data if form == "object" else str(path)) as box:
            answers = [ask_agent(box) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 429, 200]
            assert answers[0].json()["status"] == "failed"
            assert answers[1].headers["retry-after"] == "2"
            assert [failure(ask_openai(box))[2] for _ in range(3)][1:] == ["Sorry", "Sorry"]
            answer = ask_anthropic(box)
            assert (answer_text(answer), answer.json()["stop_reason"]) == ("Hello", "max_tokens")
            assert box.errors == {"platform": [{"message": "Agent failed"}]}
            with pytest.raises(requests.ConnectionError):
                ask_region(box)

    @pytest.mark.parametrize("name", sorted(steps.CONSTRUCTORS))
    def test_knows_every_constructor(self, name):
        needed = {"status": {"code": 500}, "delay": {"seconds": 1}}.get(name)
        step = scenario.step_of({name: needed} if needed else name)
        assert step == steps.CONSTRUCTORS[name](**(needed or {}))

    @pytest.mark.parametrize(
        "data, message",
        [
            ({"scripts": {"platform": ["nothing"]}}, "'nothing' is not a valid step"),
            ({"scripts": {"platform": [{"quota": 1}]}}, "takes no argument"),
            ({"scripts": {"platform": [{"status": {"cod": 1}}]}}, "it takes code"),
            ({"scripts": {"platform": [{"status": 1}]}}, "must be between 200 and 599"),
            ({"scripts": {"nowhere": ["ok"]}}, "is not a valid target"),
            ({"scripts": {"platform": {"steps": ["ok"], "for": 1}}}, "unknown for"),
            ({"scripts": ["ok"]}, "scripts must be an object"),
            ({"script": {}}, "unknown script"),
            (["ok"], "a scenario must be an object"),
        ],
    )
    def test_says_what_is_wrong(self, data, message, tmp_path):
        path = tmp_path / "scenario.json"
        path.write_text(json.dumps(data))
        with pytest.raises(ValueError, match=message):
            Sandbox(scenario=str(path)).start()

    def test_no_file_and_no_data(self, tmp_path):
        with pytest.raises(OSError):
            Sandbox(scenario=str(tmp_path / "none")).start()
        (tmp_path / "bad").write_text("a: [")
        with pytest.raises(ValueError, match="neither JSON nor YAML"):
            Sandbox(scenario=str(tmp_path / "bad")).start()

    def test_without_yaml(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        (tmp_path / "a").write_text("kill: platform")
        with pytest.raises(ValueError, match="PyYAML"):
            scenario.load(str(tmp_path / "a"))
        (tmp_path / "b").write_text('{"kill": "platform"}')
        assert scenario.load(str(tmp_path / "b")) == {"kill": "platform"}


class TestControl:
    def post(self, box, command, data=None):
        return requests.post(box.url("/_sandbox/" + command), json=data, timeout=PATIENCE)

    def test_scripts_and_calls(self, box):
        script = {"target": "platform", "steps": [{"status": 500}, "agent_failed"], "forever": True}
        assert self.post(box, "script", script).json() == {"ok": True}
        assert [ask_agent(box).status_code for _ in range(3)] == [500, 200, 200]
        ask_openai(box)
        calls = requests.get(box.url("/_sandbox/calls"), timeout=PATIENCE).json()["calls"]
        assert [call["status"] for call in calls] == [500, 200, 200, 200]
        assert calls[0]["body"]["query"] == "why?"
        url = box.url("/_sandbox/calls?target=llm:openai")
        assert len(requests.get(url, timeout=PATIENCE).json()["calls"]) == 1
        self.post(box, "reset")
        assert box.calls == []
        assert ask_agent(box).json()["status"] == "completed"

    def test_the_other_commands(self, box):
        self.post(box, "kill", {"target": "platform"})
        with pytest.raises(requests.ConnectionError):
            ask_agent(box)
        self.post(box, "revive", {"target": "platform"})
        assert ask_agent(box).status_code == 200
        labels = {"instance": "web-1"}
        self.post(box, "series", {"query": "up == 1", "series": [labels]})
        assert box.series_by_query.get("up == 1") == [labels]
        self.post(box, "scenario", {"series": {"up == 2": [labels]}})
        assert box.series_by_query.get("up == 2") == [labels]
        self.post(box, "reset")
        assert box.series_by_query.get("up == 1") is None
        self.post(box, "errors", {"errors": [{"message": "x"}]})
        assert box.errors["platform"] == [{"message": "x"}]
        self.post(box, "scenario", {"scripts": {"route:*": {"steps": ["quota"], "forever": True}}})
        assert [ask_region(box).status_code for _ in range(2)] == [429, 429]
        about = requests.get(box.url("/_sandbox"), timeout=PATIENCE).json()
        assert about == {"base_url": box.base_url, "pack_config": box.pack_config()}

    @pytest.mark.parametrize(
        "command, data",
        [
            ("script", None),
            ("script", {"target": "platform"}),
            ("script", {"target": "nowhere", "steps": []}),
            ("script", {"target": "platform", "steps": ["nothing"]}),
            ("kill", {}),
            ("revive", {"target": "platform"}),
            ("errors", {"errors": 1}),
            ("scenario", {"scrpts": {}}),
        ],
    )
    def test_refuses(self, box, command, data):
        answer = self.post(box, command, data)
        assert answer.status_code == 400
        assert answer.json()["error"]

    def test_unknown(self, box):
        assert self.post(box, "nothing", {}).status_code == 404
        answer = requests.get(box.url("/_sandbox/calls?target=x"), timeout=PATIENCE)
        assert answer.status_code == 400


class TestCommand:
    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "sandbox", *arguments],
            env=dict(os.environ, PYTHONPATH=DEV),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
    def test_runs_until_interrupted(self, tmp_path, ending):
        script, config = tmp_path / "s.json", tmp_path / "c.yaml"
        script.write_text(json.dumps({"scripts": {"platform": [{"status": 503}, "reset"]}}))
        run = self.start("--scenario", str(script), "--write-config", str(config))
        first = run.stdout.readline()
        written = yaml.safe_load(config.read_text())
        base_url = written["platforms"][0]["base_url"]
        assert first == f"sandbox on {base_url[:-len('/platform')]} (Ctrl-C ends it)\n"
        headers = {"Authorization": "Bearer sandbox-token"}
        url = base_url + "/api/v1/agents/execute"
        requests.post(url, json={"query": "q"}, headers=headers, timeout=PATIENCE)
        with pytest.raises(requests.ConnectionError):
            requests.post(url, json={"query": "q"}, headers=headers, timeout=PATIENCE)
        # Each call is told when its own thread has ended it.
        lines = sorted(run.stdout.readline().split(" ", 1)[1] for _ in range(2))
        run.send_signal(ending)
        out, err = run.communicate(timeout=PATIENCE)
        assert lines == [
            "platform POST /platform/api/v1/agents/execute: 503 (status)\n",
            "platform POST /platform/api/v1/agents/execute: no answer (reset)\n",
        ]
        assert (run.returncode, out, err) == (0, "", "")

    def test_says_why_it_cannot_start(self, tmp_path, box):
        theirs = tmp_path / "theirs.yaml"
        theirs.write_text("precious: 1\n")
        for arguments, message in (
            (["--port", str(box.port)], "in use"),
            (["--scenario", str(tmp_path / "none")], "No such file"),
            (["--write-config", str(theirs)], "not the sandbox's"),
        ):
            run = self.start(*arguments)
            out, err = run.communicate(timeout=PATIENCE)
            assert (run.returncode, out) == (1, "")
            assert err.startswith("sandbox: ") and message in err
        assert theirs.read_text() == "precious: 1\n"

    def test_overwrites_its_own_config(self, tmp_path):
        from sandbox.__main__ import write_config

        path = tmp_path / "configs" / "c.yaml"
        for port in (1, 2):
            write_config(str(path), {"port": port})
        assert yaml.safe_load(path.read_text()) == {"port": 2}
