import json

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from hypothesis import strategies as st

from synthralos.core import evidence, failures
from synthralos.core.causes import (
    ALIASES,
    AT_ONCE,
    CAUSE_OF_TYPE,
    CAUSES,
    NEVER,
    SEVERITIES,
    TYPES,
    resolve_type,
)
from synthralos.core.failures import cause_of, from_http, from_text, make_failure
from synthralos.core.retry_hints import MAX_HINT_SECONDS, MAX_UNDATED_SECONDS, retry_hint

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) |
    st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "status", "detail", "retryDelay"]) |
        st.text(max_size=5), inner, max_size=4
    ),
    max_leaves=10,
)


def openai(code, message, type_="invalid_request_error"):
    return json.dumps({"error": {"message": message, "type": type_, "param": None, "code": code}})


def anthropic(type_, message):
    return json.dumps({"type": "error", "error": {"type": type_, "message": message}})


def google(code, status, message, details=()):
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return json.dumps({"error": error})


def classified(status, body="", headers=None, of="model"):
    return from_http(status, headers or {}, body, NOW, of)


def hint_of(headers, body=None):
    return retry_hint(headers, evidence.read(body), NOW)


# The table: what may be tried again at the same target, and at another.


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 520, 529])
def test_timeouts_conflicts_and_server_errors_are_cured_by_the_same_target_or_another(status):
    curable = classified(status).policy
    assert curable.retry_same_target and curable.retry_other_target


@pytest.mark.parametrize("cause", ["timeout", "network", "truncated_stream", "rate_limit"])
def test_transient_causes_are_cured_by_the_same_target_or_another(cause):
    assert CAUSES[cause].retry_same_target and CAUSES[cause].retry_other_target


@pytest.mark.parametrize("cause", ["quota", "authentication", "permission", "model_not_found",
                                   "context_length"])
def test_what_the_target_will_refuse_again_is_cured_elsewhere_only(cause):
    assert not CAUSES[cause].retry_same_target and CAUSES[cause].retry_other_target


@pytest.mark.parametrize("cause", ["content_policy", "budget", "cancelled"])
def test_what_would_fail_everywhere_is_not_repeated(cause):
    assert not CAUSES[cause].retry_same_target and not CAUSES[cause].retry_other_target


@pytest.mark.parametrize("cause", ["bad_request", "not_found"])
def test_a_refused_request_may_please_another_provider_only(cause):
    scope = CAUSES[cause].speaks_of
    assert scope.other_providers == AT_ONCE
    assert {scope.same_target, scope.same_account, scope.same_host, scope.same_provider} == {NEVER}


def test_only_an_unanswered_or_broken_call_trips_the_breaker():
    tripping = {cause for cause, policy in CAUSES.items() if policy.counts_for_breaker}
    assert {"timeout", "network", "server_error", "overloaded", "truncated_stream"} <= tripping
    assert not tripping & {"rate_limit", "quota", "authentication", "permission", "bad_request",
                           "not_found", "conflict", "blank_output", "schema_mismatch"}


def test_every_cause_has_a_known_type_and_severity():
    assert all(c.type in TYPES and c.severity in SEVERITIES for c in CAUSES.values())
    assert set(CAUSE_OF_TYPE) == set(TYPES) and set(CAUSE_OF_TYPE.values()) <= set(CAUSES)
    assert all(t in TYPES and (c is None or c in CAUSES) for t, c in ALIASES.values())


# HTTP answers.


@pytest.mark.parametrize(
    "status, body, cause",
    [
        (429, openai("rate_limit_exceeded", "Rate limit reached for gpt-4", "tokens"),
         "rate_limit"),
        (429, openai("insufficient_quota",
                     "You exceeded your current quota, please check your plan and billing details.",
                     "insufficient_quota"), "quota"),
        (401, openai("invalid_api_key", "Incorrect API key provided: sk-x."), "authentication"),
        (403, openai("unsupported_country_region_territory", "Country not supported"),
         "permission"),
        (404, openai("model_not_found", "The model `gpt-9` does not exist"), "model_not_found"),
        (400, openai("context_length_exceeded",
                     "This model's maximum context length is 8192 tokens."), "context_length"),
        (400, openai("content_policy_violation", "Rejected by our safety system."),
         "content_policy"),
        (400, openai("content_filter", "The response was filtered"), "content_policy"),
        (400, openai("invalid_value", "Invalid value for 'temperature'"), "bad_request"),
        (422, openai(None, "Unprocessable"), "bad_request"),
        (500, openai("server_error", "The server had an error", "server_error"), "server_error"),
        (503, openai(None, "The engine is currently overloaded"), "overloaded"),
    ],
)
def test_openai_errors(status, body, cause):
    assert classified(status, body).cause == cause


REUSED_KEY = {
    "title": "Idempotency-Key is already used",
    "detail": "This operation is idempotent and it requires correct usage of Idempotency Key. "
    "Idempotency Key MUST not be reused across different payloads of this operation.",
}


@pytest.mark.parametrize("status, body, cause", [
    (422, REUSED_KEY, "idempotency_key_reused"),
    (400, {"error": {"type": "idempotency_error", "message": "Keys for idempotent requests can "
                     "only be used with the same parameters they were first used with."}},
     "idempotency_key_reused"),
    (400, {"errors": [{"category": "INVALID_REQUEST_ERROR", "code": "IDEMPOTENCY_KEY_REUSED",
                       "detail": "Different request parameters used for the same "
                       "idempotency_key."}]}, "idempotency_key_reused"),
    # The same request is under way, or the header is missing.
    (409, {"title": "A request is outstanding for this Idempotency-Key"}, "conflict"),
    (400, {"title": "Idempotency-Key is missing"}, "bad_request"),
])
@pytest.mark.parametrize("call_kind", failures.CALL_KINDS)
def test_a_key_of_the_pack_that_was_reused_is_no_fault_of_the_request(
    status, body, cause, call_kind
):
    failure = failures.from_http(status, {}, json.dumps(body), NOW, call_kind)
    assert failure.cause == cause
    assert not failure.policy.retry_same_target or status == 409


def test_a_key_that_an_agent_s_tool_has_reused_is_no_fault_of_the_pack():
    for report in ({"error": {"status": 422, "message": REUSED_KEY["title"]}}, REUSED_KEY["title"]):
        assert failures.cause_of(report) != "idempotency_key_reused"


@pytest.mark.parametrize(
    "status, body, cause",
    [
        (429, anthropic("rate_limit_error", "Number of request tokens has exceeded your limit"),
         "rate_limit"),
        (529, anthropic("overloaded_error", "Overloaded"), "overloaded"),
        (500, anthropic("overloaded_error", "Overloaded"), "overloaded"),
        (500, anthropic("api_error", "Internal server error"), "server_error"),
        (401, anthropic("authentication_error", "invalid x-api-key"), "authentication"),
        (403, anthropic("permission_error", "No permission"), "permission"),
        (404, anthropic("not_found_error", "model: claude-9"), "model_not_found"),
        (400, anthropic("invalid_request_error",
                        "prompt is too long: 200001 tokens > 200000 maximum"), "context_length"),
        (400, anthropic("invalid_request_error",
                        "Your credit balance is too low. Go to Plans & Billing."), "quota"),
        (400, anthropic("invalid_request_error", "max_tokens: field required"), "bad_request"),
        (413, anthropic("request_too_large", "Request exceeds the maximum size"),
         "request_too_large"),
        (504, anthropic("timeout_error", "Timed out"), "timeout"),
    ],
)
def test_anthropic_errors(status, body, cause):
    assert classified(status, body).cause == cause


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}


def test_a_google_limit_that_says_when_to_come_back_is_a_rate_limit():
    body = google(429, "RESOURCE_EXHAUSTED",
                  "Quota exceeded for metric generate_requests_per_minute", [RETRY_INFO])
    failure = classified(429, body)
    assert failure.retry_after == 36.0
    assert failure.cause == "rate_limit"


@pytest.mark.parametrize(
    "status, name, message, cause",
    [
        (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", "rate_limit"),
        (401, "UNAUTHENTICATED", "Request had invalid credentials", "authentication"),
        (403, "PERMISSION_DENIED", "The caller does not have permission", "permission"),
        (404, "NOT_FOUND", "models/gemini-9 is not found", "model_not_found"),
        (400, "INVALID_ARGUMENT", "Invalid JSON payload", "bad_request"),
        (400, "INVALID_ARGUMENT",
         "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)",
         "context_length"),
        (503, "UNAVAILABLE", "The model is overloaded", "overloaded"),
        (504, "DEADLINE_EXCEEDED", "Deadline expired", "timeout"),
    ],
)
def test_google_errors(status, name, message, cause):
    assert classified(status, google(status, name, message)).cause == cause


@pytest.mark.parametrize(
    "status, body, cause, message",
    [
        (400, {"error": "Query is required"}, "bad_request", "Query is required"),
        (401, {"error": "Unauthorized", "message": "Missing header"}, "authentication",
         "Unauthorized: Missing header"),
        (401, {"error": "Invalid token", "details": "expired"}, "authentication",
         "Invalid token: expired"),
        (404, {"error": "Not found"}, "not_found", "Not found"),
        (500, {"error": "Internal server error"}, "server_error", "Internal server error"),
        (422, {"detail": [{"msg": "x"}]}, "bad_request", "x"),
    ],
)
def test_platform_errors(status, body, cause, message):
    failure = classified(status, json.dumps(body), of="agent")
    assert (failure.cause, failure.message, failure.status) == (cause, message, status)


@pytest.mark.parametrize(
    "of, message, cause",
    [
        ("model", "Not found", "wrong_address"),
        ("model", "", "model_not_found"),
        ("model request", "The model does not exist", "model_not_found"),
        ("model request", "Not found", "not_found"),
        ("request", "The model does not exist", "not_found"),
        ("agent", "The model does not exist", "not_found"),
    ],
)
def test_a_404_means_the_model_only_where_one_was_asked_for(of, message, cause):
    assert classified(404, openai(None, message), of=of).cause == cause


def test_the_title_of_an_error_page_is_shown_once():
    page = "<html><title>502 Bad Gateway</title><body><h1>502 Bad\n Gateway</h1></body></html>"
    failure = failures.from_http(502, {}, page, NOW, "model")
    assert failure.message == "502 Bad Gateway"


@pytest.mark.parametrize("body", ["", "<html></html>", "null", "[]", '""', "[[" * 50_000])
def test_a_body_that_says_nothing_leaves_the_status(body):
    failure = classified(503, body)
    assert (failure.cause, failure.message) == ("server_error", "HTTP 503")


# Hints.


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "999999999"}, MAX_UNDATED_SECONDS),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 99 Nov 2023 99:99:99 GMT"}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "nan", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1"}, 0.0),
    ],
)
def test_hints_in_headers(headers, seconds):
    assert hint_of(headers) == seconds


@pytest.mark.parametrize(
    "delay_text, seconds",
    [("30s", 30.0), ("0.5s", 0.5), ("-3s", 0.0), ("xs", None), ("nans", None), (30, None),
     ("1m", None), (None, None), ("s", None)],
)
def test_a_retry_delay_in_the_body(delay_text, seconds):
    body = {"error": {"details": [{"@type": "RetryInfo", "retryDelay": delay_text}]}}
    assert hint_of({}, body) == seconds


def test_a_header_comes_before_the_body():
    assert hint_of({"retry-after": "7"}, {"retryDelay": "30s"}) == 7.0


def test_a_header_that_is_garbage_leaves_the_body():
    assert hint_of({"retry-after": "soon"}, {"retryDelay": "30s"}) == 30.0


# Text.


@pytest.mark.parametrize(
    "text, cause",
    [
        ("Rate limit exceeded", "rate_limit"),
        ("RATE_LIMIT_EXCEEDED", "rate_limit"),
        ("Too Many Requests", "rate_limit"),
        ("Request timeout", "timeout"),
        ("TIMEOUT", "timeout"),
        ("the call timed out", "timeout"),
        ("Network error", "network"),
        ("NETWORK_ERROR", "network"),
        ("connect ECONNREFUSED 127.0.0.1:80", "network"),
        ("Provider unavailable", "network"),
        ("Authentication error", "authentication"),
        ("AUTHENTICATION_ERROR", "authentication"),
        ("Quota exceeded", "quota"),
        ("QUOTA_EXCEEDED", "quota"),
        ("maximum context length is 8192", "context_length"),
        ("content policy violation", "content_policy"),
        ("The model `x` does not exist", "model_not_found"),
        ("Overloaded", "overloaded"),
        ("502 Bad Gateway", "server_error"),
        ("the search tool failed", "tool_failure"),
        ("Agent stopped: max iterations reached", "infinite_loop"),
        ("MemoryError", "resource"),
        ("no space left on device", "resource"),
        ("OPENAI_KEY is not configured", "configuration"),
        ("Agent returned empty output", "blank_output"),
        ("JSONDecodeError: line 1", "schema_mismatch"),
    ],
)
def test_words_name_the_cause(text, cause):
    assert cause_of(text) == cause


@pytest.mark.parametrize(
    "text, cause",
    [
        ("TimeoutError", "timeout"),
        ("ReadTimeout: HTTPSConnectionPool", "timeout"),
        ("openai.RateLimitError", "rate_limit"),
        ("openai.AuthenticationError", "authentication"),
        ("ConnectionRefusedError: [Errno 111]", "network"),
        ("ConnectionError", "network"),
    ],
)
def test_names_of_exceptions_name_the_cause(text, cause):
    assert cause_of(text) == cause


@pytest.mark.parametrize(
    "text, cause",
    [
        ("Request failed with status code 429", "rate_limit"),
        ("Request failed with status code 503", "server_error"),
        ("Request failed with status code 401", "authentication"),
    ],
)
def test_a_status_in_a_clients_message_names_the_cause(text, cause):
    assert cause_of(text) == cause


@pytest.mark.parametrize(
    "text",
    ["The capital of France", "a rapid answer", "stools and toolbox", "timeoutless",
     "overloading", "the accurate limitless", "adns", "", "everything is fine"],
)
def test_words_inside_words_name_nothing(text):
    assert cause_of(text) is None
    assert from_text(text).type == "unknown"


@pytest.mark.parametrize("text", ["the LLM broke", "OpenAI is odd", "API trouble", "a completion"])
def test_words_of_llms_make_an_llm_error(text):
    assert from_text(text).type == "llm_error"


def test_the_type_given_holds_and_the_words_give_the_cause():
    failure = from_text("connection lost", type="tool_failure")
    assert (failure.type, failure.cause) == ("tool_failure", "network")


def test_a_type_without_words_gives_its_own_cause():
    assert from_text("?", type="timeout").cause == "timeout"


def test_a_long_text_is_read_and_shown_in_part():
    failure = from_text("x " * 500_000 + "timeout")
    assert failure.cause == "unknown" and len(failure.message) == 300


# Aliases.


@pytest.mark.parametrize("type_", TYPES)
def test_a_type_is_itself(type_):
    assert resolve_type(type_.upper() + " ") == (type_, None)


@pytest.mark.parametrize(
    "alias, type_, cause",
    [
        ("communication_error", "llm_error", "network"),
        ("timeout_error", "timeout", "timeout"),
        ("validation_error", "invalid_output", "schema_mismatch"),
        ("infinite_loop", "error", "infinite_loop"),
        ("resource_error", "error", "resource"),
        ("configuration_error", "error", "configuration"),
        ("agent_failure", "error", "agent_failed"),
        ("unknown_error", "unknown", None),
    ],
)
def test_other_names_of_types_are_taken(alias, type_, cause):
    assert resolve_type(alias) == (type_, cause)


@pytest.mark.parametrize("raw_type", ["", "nonsense", None, 5, [], {}])
def test_what_is_no_type_is_none(raw_type):
    assert resolve_type(raw_type) is None


def test_a_failure_shows_itself():
    fields = make_failure("rate_limit", "slow\n down", 429, 3.0).as_dict()
    assert fields == {"type": "llm_error", "cause": "rate_limit", "severity": "medium",
                     "message": "slow down", "status": 429, "retry_after": 3.0}


def test_evidence_is_added_to_a_copy():
    plain = make_failure("network", "x")
    more = failures.with_evidence(plain, sent=False)
    assert more.as_dict()["evidence"] == {"sent": False} and "evidence" not in plain.as_dict()


# Whatever comes in.


@hypothesis.given(st.integers(100, 999), JSON,
       st.sampled_from(["model", "model request", "request", "agent"]),
       st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text()))
def test_any_answer_is_classified(status, body, of, headers):
    failure = from_http(status, headers, json.dumps(body), NOW, of)
    assert failure.cause in CAUSES and failure.type in TYPES and failure.severity in SEVERITIES
    assert len(failure.message) <= 300
    assert failure.retry_after is None or 0 <= failure.retry_after <= MAX_HINT_SECONDS


@hypothesis.given(st.text(st.characters()) | st.none() | st.integers() | st.binary())
def test_any_text_is_classified(text):
    assert from_text(text).cause in CAUSES
    assert classified(500, text).cause == "server_error"


@hypothesis.given(st.text(alphabet="0123456789 :,+-GMTueNovFri", max_size=40))
def test_any_retry_after_is_read(header_value):
    seconds = hint_of({"retry-after": header_value})
    assert seconds is None or 0 <= seconds <= MAX_HINT_SECONDS
