"""What is read from bodies, texts and exceptions, whatever wraps it."""
import json

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core import evidence
from synthralos.core.retry_hints import moment_or_seconds, retry_hint

NOW = 1_700_000_000.0
INNER = {"message": "the inner words", "code": "inner_code", "status": 429}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "status", "detail", "raw", "reason"]) |
        st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("value", [
    INNER,
    [INNER],
    {"error": INNER},
    {"detail": [{"error": INNER}]},
    json.dumps({"error": INNER}),
    json.dumps(json.dumps({"error": INNER})),
    {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(INNER)}}},
    "Error: upstream said %s (request 12)" % json.dumps({"error": INNER}),
    "openai.RateLimitError: Error code: 429 - %r" % {"error": INNER},
    ("﻿" + json.dumps(INNER)).encode(),
    json.dumps({"error": INNER})[:-2],
])
def test_the_innermost_comes_first(value):
    read = evidence.read(value)
    assert read.message == "the inner words"
    assert "inner_code" in read.names and read.statuses[0] == 429


def test_an_exception_and_what_caused_it():
    try:
        try:
            raise ValueError('{"error": {"message": "the inner words"}}')
        except ValueError as error:
            raise RuntimeError("it failed") from error
    except RuntimeError as error:
        read = evidence.read(error)
    assert read.message == "the inner words" and read.names[0] == "ValueError"
    assert "it failed" in read.messages


@pytest.mark.parametrize("value", [None, "", " ", "null", [], {}, b"", 5, True])
def test_what_says_nothing(value):
    assert evidence.read(value).names == () and evidence.read(value).statuses == ()


def test_a_page_is_known_and_its_title_is_the_message():
    read = evidence.read("<!DOCTYPE html><html><title>Sign &amp; go</title><b>404</b></html>")
    assert read.is_html and read.message == "Sign & go" and read.statuses == ()


@pytest.mark.parametrize("text, status", [
    ("HTTP/1.1 503 Service Unavailable", 503), ("status code: 429", 429), ("(529) busy", 529),
    ("429 RESOURCE_EXHAUSTED", 429), ("500 Server Error for url", 500), ("it took 429 ms", None),
    ("model 404b is fine", None),
])
def test_a_status_in_words(text, status):
    assert (evidence.read(text).statuses or (None,))[0] == status


def test_the_content_of_a_completion_is_no_error():
    message = {"role": "assistant", "content": "rate limit exceeded, HTTP 429"}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    assert evidence.read(body).messages == () and evidence.read(body).statuses == ()


@pytest.mark.parametrize("body, is_error", [
    ({"error": {"message": "x"}}, True), ([{"error": "x"}], True),
    ({"error": "x", "code": 5, "request_id": "r"}, True), ({"error": "x", "data": None}, True),
    ({"error": "x", "data": [1]}, False), ({"error": None}, False), ({"error": ""}, False),
    ({"error": {}, "id": 1}, False), ({"result": "error"}, False), ([], False), ("error", False),
])
def test_a_body_that_is_nothing_but_an_error(body, is_error):
    assert evidence.is_error_body(body) is is_error


@hypothesis.given(JSON)
def test_any_json_is_read(value):
    for form in (value, json.dumps(value), repr(value)):
        read = evidence.read(form)
        assert all(400 <= status < 600 for status in read.statuses)
        assert all(isinstance(message, str) and message.strip() for message in read.messages)


@pytest.mark.parametrize("value", [
    "[" * 100_000, "{" * 100_000, '{"error":' * 50_000, '"' * 100_000, "'{\"" * 50_000,
    json.dumps({"error": {"message": "{" * 50_000}}),
    {"errors": [{"message": "x" * 30_000}] * 5_000},
])
def test_hostile_values_are_read_in_part(value):
    assert sum(len(message) for message in evidence.read(value).messages) < 2_000_000


# Hints.


@pytest.mark.parametrize("value, seconds", [
    ("30", 30.0), (" 1.5 ", 1.5), ("30, 30", 30.0), ("7.66s", 7.66), ("2m59.56s", 179.56),
    ("1h0m0s", 3600.0), ("250ms", 0.25), (str(NOW + 30), 30.0), (str(int(NOW + 30) * 1000), 30.0),
    ("2023-11-14T22:13:50Z", 30.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
    ("999999999", 3600.0), (str(NOW + 9e6), 86400.0), (str(NOW - 5), 0.0), ("-5", 0.0),
    ("soon", None), ("", None), (None, None), (True, None), ("2023-99-99T00:00:00Z", None),
])
def test_a_moment_or_a_number_of_seconds(value, seconds):
    assert moment_or_seconds(value, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("headers, body, seconds", [
    ({"x-ms-retry-after-ms": "2500"}, None, 2.5),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s",
      "x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1h"}, None, 7.66),
    ({"x-ratelimit-reset-tokens": "7s", "x-ratelimit-reset-requests": "1h"},
     {"error": {"message": "Limit on tokens per min"}}, 7.0),
    ({"x-ratelimit-reset-tokens": "7s", "x-ratelimit-reset-requests": "1h"}, None, None),
    ({"anthropic-ratelimit-requests-remaining": "0",
      "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z"}, None, 30.0),
    ({"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "3600"}, None,
     None),
    ({}, {"error": {"metadata": {"headers": {"X-RateLimit-Reset": str(int(NOW + 9) * 1000)}}}},
     9.0),
    ({}, {"estimated_time": 20.5, "error": "Model is loading"}, 20.5),
    ({}, {"error": {"message": "Please try again in 1 minute and 5 seconds."}}, 65.0),
    ({"retry-after": "3"}, {"error": {"message": "try again in 9s"}}, 3.0),
])
def test_where_a_hint_stands(headers, body, seconds):
    hint = retry_hint(headers, evidence.read(body), NOW)
    assert hint == (None if seconds is None else pytest.approx(seconds))
