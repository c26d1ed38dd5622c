"""Any bytes and any JSON: the parser agrees with a plain reading of the standard however the bytes
are cut, and every payload is one that StackStorm takes.

FUZZ=1 tries 10,000 examples of each, else 300.
"""
import copy
import json
import os

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from fixtures.sensor_world import check_payload
from hypothesis import settings
from hypothesis import strategies as st

from synthralos.core import timestamps
from synthralos.core.errors import InvalidInput
from synthralos.core.json_safe import to_json_safe
from synthralos.sensing import agent_payloads, alert_payloads, payload_limits, sse

EXAMPLES = 10_000 if os.environ.get("FUZZ") else 300
NOW = 1_700_000_000.0
fuzzed = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)

PIECES = [
    b"data", b"id", b"event", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\x00",
    b"\xef\xbb\xbf", b"7", b"3000", b"a", b"\xc3\xa9", b"\xff", b"\xe2\x80\xa8", b"x: y",
    b"data: d\n\n", b"id: 1\n", b"event: e\r", b"data\n\n",
]
STREAM = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=40).map(b"".join)
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from([
    "{{ config_context.x }}", "<% ctx() %>", "\x00", "\ud800", "a.b", "$x", "x" * 5000, "firing",
    "resolved", "suppressed", "2023-11-14T22:13:20Z", "0001-01-01T00:00:00Z", "high", "timeout",
])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def some(*names):
    """Objects with some of these names, and others."""
    return st.dictionaries(st.sampled_from(names) | TEXT, JSON, max_size=8)


STATUS = JSON | some("state", "silencedBy", "inhibitedBy", "mutedBy")
ALERT = JSON | st.fixed_dictionaries({}, optional={
    "labels": some("alertname", "severity"), "annotations": some("summary"), "status": STATUS,
    "startsAt": JSON, "endsAt": JSON, "fingerprint": JSON, "generatorURL": JSON, "values": JSON,
    "receivers": JSON, "silenceURL": JSON,
})
BODY = JSON | st.fixed_dictionaries({"alerts": st.lists(ALERT, max_size=4)}, optional={
    "orgId": JSON, "receiver": JSON, "groupKey": JSON, "truncatedAlerts": JSON,
})
BODIES = JSON | some(
    "agentId", "agent", "taskId", "id", "message", "error", "failureType", "errorType", "query",
    "failureDetails", "context", "timestamp", "kind", "severity", "details", "data", "payload",
    "traceId", "eventType",
)


def plainly(stream, last):
    """[(type, data, id)] of a whole stream, as the standard has it; the last id; retry."""
    text = stream.decode("utf-8", "replace")
    if text.startswith("\ufeff"):
        text = text[1:]
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events, data, kind, buffer, retry = [], "", "", last, None
    for line in lines:
        if not line:
            last = buffer
            if data:
                events.append((kind or "message", data[:-1], last))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            data += value + "\n"
        elif field == "event":
            kind = value
        elif field == "id" and "\x00" not in value:
            buffer = value
        elif field == "retry" and value and all(character in "0123456789" for character in value):
            retry = min(int(value), sse.MAX_RETRY_MS)
    return events, last, retry


@fuzzed
@hypothesis.given(STREAM, st.lists(st.integers(0, 60), max_size=5), st.sampled_from(["", "7"]))
def test_the_parser_reads_as_the_standard_says(stream, cuts, last):
    parser, events = sse.Parser(last), []
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for begin, end in zip(places, places[1:]):
        events += parser.feed(stream[begin:end])
    parsed = [(event.type, event.data, event.id) for event in events]
    assert (parsed, parser.last_event_id, parser.retry) == plainly(stream, last)
    assert parser.oversized == 0


@fuzzed
@hypothesis.given(ALERT)
def test_any_entry_of_alertmanager_s(alert):
    before = copy.deepcopy(alert)
    alert_payloads.is_silenced(alert)
    alert_payloads.is_inhibited(alert)
    try:
        payload = to_json_safe(alert_payloads.from_api(alert, NOW))
    except InvalidInput:
        assert not isinstance(alert, dict) or not isinstance(alert.get("labels"), dict)
        return
    check_payload("synthralos.metrics_alert", payload)
    assert (payload["status"] == "firing") == (payload["ends_at"] is None)
    check_payload("synthralos.metrics_alert", to_json_safe(alert_payloads.resolved(payload, NOW)))
    assert alert_payloads.identity(payload).isascii() and "." not in alert_payloads.identity(
        payload
    )
    assert repr(alert) == repr(before)


@fuzzed
@hypothesis.given(BODY)
def test_any_webhook_s_body(body):
    try:
        alerts = alert_payloads.from_webhook(body, NOW)
    except InvalidInput:
        return
    for payload in alerts:
        check_payload("synthralos.metrics_alert", to_json_safe(payload))
    assert len({alert_payloads.identity(payload) for payload in alerts}) == len(alerts)


@fuzzed
@hypothesis.given(BODIES | TEXT | BODIES.map(lambda body: json.dumps(body, default=str)))
def test_any_failure_and_any_loop(body):
    payload = to_json_safe(
        agent_payloads.failure_payload(body, "platform", NOW, agent_payloads.content_id(body))
    )
    check_payload("synthralos.agent_failure", payload)
    assert payload["error_id"]
    check_payload(
        "synthralos.agent_loop", to_json_safe(agent_payloads.loop_payload(body, "events", NOW))
    )
    assert agent_payloads.content_id(body) == agent_payloads.content_id(copy.deepcopy(body))


@fuzzed
@hypothesis.given(JSON)
def test_any_value(value):
    timestamps.parse_timestamp(value)
    assert len(json.dumps(payload_limits.limit_object({"a": value}, 200))) <= 400
    assert len(payload_limits.to_text(value, 50)) <= 50
    text = payload_limits.first_text([value], 50)
    assert text is None or text.strip()
