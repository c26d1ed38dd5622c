import json

import pytest
from fixtures.sensor_world import HOSTILE, check_payload

from synthralos.core.json_safe import to_json_safe
from synthralos.sensing import agent_payloads, payload_limits

NOW = 1_700_000_000.0
LISTED_ERROR = {
    "timestamp": "2023-11-14T22:10:00.000Z",
    "level": "error",
    "message": "OpenAI rate limit exceeded",
    "framework": "react",
    "errorType": "execution_error",
    "eventType": "agent_execution",
    "traceId": "trace-1",
}


def failure(body, **more):
    payload = to_json_safe(agent_payloads.failure_payload(body, "platform", NOW, **more))
    check_payload("synthralos.agent_failure", payload)
    return payload


def loop(body):
    payload = to_json_safe(agent_payloads.loop_payload(body, "events", NOW))
    check_payload("synthralos.agent_loop", payload)
    return payload


def test_an_error_as_the_platform_lists_it():
    payload = failure(LISTED_ERROR)
    assert payload == {
        "source": "platform",
        "error_id": agent_payloads.content_id(LISTED_ERROR),
        "agent_id": None,
        "task_id": None,
        "failure_type": "llm_error",
        "failure_details": {
            "message": "OpenAI rate limit exceeded", "errorType": "execution_error",
            "eventType": "agent_execution", "level": "error", "framework": "react",
            "traceId": "trace-1",
        },
        "original_query": None,
        "context": {"traceId": "trace-1"},
        "occurred_at": "2023-11-14T22:10:00.000Z",
    }


def test_an_error_that_says_all():
    payload = failure({
        "id": 17, "agentId": "invoice-bot", "taskId": "t1", "failureType": "timeout_error",
        "failureDetails": {"seconds": 60}, "originalQuery": "{{ book }} it", "error": "x",
        "context": {"a": 1}, "executionId": "e1", "occurredAt": 1_700_000_001_500,
    })
    assert payload["error_id"] == "17"
    assert (payload["agent_id"], payload["task_id"]) == ("invoice-bot", "t1")
    assert payload["failure_type"] == "timeout"
    assert payload["failure_details"] == {"seconds": 60, "message": "x"}
    assert payload["original_query"] == "{{ book }} it"
    assert payload["context"] == {"a": 1, "executionId": "e1"}
    assert payload["occurred_at"] == "2023-11-14T22:13:21.500Z"


@pytest.mark.parametrize("body, expected", [
    ({"agent_id": "a"}, "a"), ({"agent": {"id": "a", "name": "b"}}, "a"), ({"agent": "a"}, "a"),
    ({"agentId": None, "agentName": "b"}, "b"), ({"agentId": 5}, "5"), ({"agent": []}, None),
    ({"agent": {}}, None), ({"agentId": " "}, None), ({"agentId": True}, None),
    ({"data": {"agentId": "a"}, "type": "agent_failure"}, "a"),
])
def test_the_agent_stands_where_it_stands(body, expected):
    assert failure(body)["agent_id"] == expected


@pytest.mark.parametrize("body, expected", [
    ({"failure_type": "tool_failure"}, "tool_failure"),
    ({"failureType": "validation_error"}, "invalid_output"),
    ({"errorType": "timeout"}, "timeout"),
    ({"errorType": "execution_error", "message": "tool call failed"}, "tool_failure"),
    ({"message": "request timed out"}, "timeout"),
    ({"failure_type": "nonsense", "message": "request timed out"}, "timeout"),
    ({"failure_type": 5}, "unknown"), ({}, "unknown"), ("", "unknown"),
    ({"errorType": "execution_error", "message": "it broke"}, "error"),
])
def test_the_failure_s_type(body, expected):
    assert failure(body)["failure_type"] == expected


def test_text_that_is_json_is_read():
    assert failure(json.dumps({"agentId": "a", "error": "x"}))["agent_id"] == "a"
    assert failure("no json")["failure_details"] == {"message": "no json"}


def test_an_id_is_made_of_when_where_and_what():
    again = dict(LISTED_ERROR, framework="autogpt")
    assert agent_payloads.content_id(again) == agent_payloads.content_id(LISTED_ERROR)
    for name in ("timestamp", "traceId", "message"):
        assert agent_payloads.content_id(
            dict(LISTED_ERROR, **{name: "y"})
        ) != agent_payloads.content_id(LISTED_ERROR)
    assert agent_payloads.content_id({"a": 1}) != agent_payloads.content_id({"a": 2})


def test_a_loop():
    payload = loop({
        "type": "loop_detected", "agentId": "a", "taskId": "t", "loopType": "cycle",
        "severity": "critical", "details": {"period": 3}, "timestamp": "2023-11-14T22:10:00Z",
    })
    assert payload == {
        "source": "events", "agent_id": "a", "task_id": "t", "kind": "cycle",
        "severity": "critical", "details": {"period": 3}, "occurred_at": "2023-11-14T22:10:00.000Z",
    }


@pytest.mark.parametrize("body", [{}, "", "x", 5, None, [], {"severity": "awful", "details": 5}])
def test_a_loop_of_which_little_is_known(body):
    payload = loop(body)
    assert (payload["agent_id"], payload["kind"], payload["severity"]) == (
        "unknown", "unknown", "high"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text):
    body = {
        "id": text, "agentId": text, "taskId": text, "message": text, "query": text,
        "failureType": text, "failureDetails": {text: [text]}, "context": {text: {text: text}},
        "timestamp": text, "traceId": text, "kind": text, "severity": text,
    }
    payload = failure(body)
    if text.strip() and text.isascii():
        assert payload["original_query"] == text
    loop(body)
    failure(text)
    loop(text)


@pytest.mark.parametrize("value", [
    10**30, 10**400, float("nan"), -0.0, [[]], {"a": {"b": {}}}, True, "x" * 200_000,
])
def test_values_of_any_kind(value):
    names = ("id", "agentId", "taskId", "message", "query", "failureType", "failureDetails",
             "context", "timestamp", "traceId", "kind", "details", "data", "payload")
    for name in names:
        failure({name: value})
        loop({name: value})


def test_depth_is_bounded():
    deep = {"message": "x"}
    for _ in range(90):
        deep = {"deeper": [deep]}
    for name in ("context", "failureDetails", "data", "message", "agent"):
        failure({name: deep})
    for _ in range(5000):
        deep = [deep]
    failure({"context": {"a": deep}, "message": deep})


def test_size_is_bounded():
    wide = {"k%d" % n: "x" * 10_000 for n in range(500)}
    payload = failure({"failureDetails": wide, "context": wide, "message": "x" * 10_000})
    assert len(json.dumps(payload["failure_details"])) <= payload_limits.MAX_OBJECT_BYTES + 200
    assert len(json.dumps(payload)) < 60_000


def test_what_is_small_is_kept_as_it_is():
    body = {"a": [1, None, {"b": "{{ c }}"}], "d": 1.5}
    assert payload_limits.limit_object(body) == body
    assert payload_limits.limit_object([1]) == {}
