"""Every response of the corpus is read right, over a real connection and in mutated forms."""
import json
import re

import pytest
from fixtures import corpus
from fixtures.check_each import check_each

pytest.importorskip("hypothesis", reason="hypothesis is not installed (requirements-tests.txt)")

import hypothesis
from fixtures.waiting import PATIENCE_SECONDS
from hypothesis import strategies as st

from synthralos.calls import llm_calls, llm_providers
from synthralos.calls.http import CallError, Client
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.config.settings import Settings
from synthralos.core import failures
from synthralos.core.causes import AT_ONCE, CAUSES, NEVER

from .conftest import Server

NOW = 1_800_000_000.0
ENTRIES = corpus.load()
BY_ID = {entry.id: entry for entry in ENTRIES}
PLAYED = [entry for entry in ENTRIES if entry.kind == "error" or entry.wire != "other"]
ERRORS = [entry for entry in ENTRIES if entry.kind == "error" and entry.status >= 400]
MESSAGES = [{"role": "user", "content": "hi"}]


def _send_entry(connection, request):
    """Answer a request to /<entry id>/... with that entry of the corpus."""
    response = BY_ID[request.split(" ")[1].split("/")[1]].response_at(NOW)
    headers = dict(response.headers, connection="close")
    headers["content-length"] = str(len(response.body))
    head = "".join("%s: %s\r\n" % header for header in headers.items())
    status_line = "HTTP/1.1 %d X\r\n" % response.status
    connection.sendall(("%s%s\r\n" % (status_line, head)).encode("latin-1") + response.body)


@pytest.fixture(scope="module")
def provider_url():
    server = Server(_send_entry)
    yield server.url
    server.close()


def call(url, entry):
    """The completion of a call that the entry answers, or its Failure."""
    api = "anthropic" if entry.wire == "anthropic" else "openai"
    config = {"name": "p", "api": api, "base_url": "%s/%s" % (url, entry.id), "models": ["m"]}
    settings = Settings.from_config({"providers": [config]})
    served_model = llm_providers.resolve_model(settings.providers, "m")
    client = Client(lambda connection, fresh: (None, {}), lambda: NOW)
    try:
        return llm_calls.complete(
            client, served_model, ChatRequest(MESSAGES), PATIENCE_SECONDS, "run"
        )
    except CallError as error:
        return error.failure


@check_each("entry", PLAYED, ids=lambda entry: entry.id)
def test_a_response_is_read_right(provider_url, entry):
    outcome = call(provider_url, entry)
    if entry.cause is None:
        assert isinstance(outcome, dict), outcome
        return
    assert isinstance(outcome, failures.Failure), outcome
    assert outcome.cause == entry.cause, outcome.message
    assert outcome.policy.scope == entry.speaks_of
    if entry.hint_seconds is None:
        assert outcome.retry_after is None
    else:
        assert outcome.retry_after == pytest.approx(entry.hint_seconds, abs=1.0)
    assert entry.message is None or entry.message in outcome.message


# Mutations: as proxies, SDKs and frameworks wrap and change what a provider says.


def _wrap_in_error(body):
    return {"error": body}


def _wrap_in_list(body):
    return [body]


def _wrap_in_detail(body):
    return {"detail": body, "request_id": "r-1"}


def _wrap_as_raw(body):
    metadata = {"raw": json.dumps(body), "provider_name": "X"}
    return {"error": {"message": "Provider returned error", "metadata": metadata}, "user_id": "u"}


def _wrap_as_message(body):
    return {"error": {"message": "litellm.APIError: OpenAIException - " + json.dumps(body)}}


def _wrap_as_repr(body):
    return {"error": "Upstream said: %r" % (body,)}


WRAPPINGS = (
    _wrap_in_error, _wrap_in_list, _wrap_in_detail, _wrap_as_raw, _wrap_as_message, _wrap_as_repr,
)


def _with_numbers_for_codes(body):
    """Every code as a number, as some gateways replace what they do not know."""
    if isinstance(body, list):
        return [_with_numbers_for_codes(item) for item in body]
    if not isinstance(body, dict):
        return body
    return {
        name: 9 if name in ("code", "type") and isinstance(value, str)
        else _with_numbers_for_codes(value)
        for name, value in body.items()
    }


def _parsed(entry):
    try:
        return json.loads(entry.response_at(NOW).body)
    except ValueError:
        return None


def _classify(entry, body):
    text = body if isinstance(body, str) else json.dumps(body)
    return failures.from_http(
        entry.status, entry.response_at(NOW).headers, text, NOW, "model"
    )


def _assert_no_worse(entry, mutated):
    """`mutated` ends no run that the entry would not, and repeats nothing that it would not."""
    scope, mutated_scope = CAUSES[entry.cause].speaks_of, mutated.policy.speaks_of
    if scope.other_providers == AT_ONCE:
        assert mutated_scope.other_providers == AT_ONCE, mutated
    if scope.same_target == NEVER:
        assert mutated_scope.same_target == NEVER, mutated
    if scope.same_account == NEVER and entry.speaks_of != "setup":
        assert mutated_scope.same_account == NEVER, mutated


JSON_ERRORS = [
    entry for entry in ERRORS
    if isinstance(_parsed(entry), (dict, list)) and entry.message is not None
]


@hypothesis.settings(max_examples=400)
@hypothesis.given(
    st.sampled_from(JSON_ERRORS), st.lists(st.sampled_from(WRAPPINGS), min_size=1, max_size=3)
)
def test_a_wrapped_error_is_treated_no_worse(entry, wrappings):
    body = _parsed(entry)
    for wrap in wrappings:
        body = wrap(body)
    failure = _classify(entry, body)
    _assert_no_worse(entry, failure)
    assert failure.cause == entry.cause


@check_each("entry", JSON_ERRORS, ids=lambda entry: entry.id)
def test_an_error_with_numbers_for_codes_is_treated_no_worse(entry):
    _assert_no_worse(entry, _classify(entry, _with_numbers_for_codes(_parsed(entry))))


@check_each("change", [str.upper, str.lower, str.title])
@check_each("entry", JSON_ERRORS, ids=lambda entry: entry.id)
def test_the_case_of_an_error_decides_nothing(entry, change):
    text = change(json.dumps(_parsed(entry)))
    _assert_no_worse(entry, _classify(entry, text))


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.sampled_from(JSON_ERRORS), st.floats(0, 1))
def test_an_error_that_is_cut_off_after_its_message_is_treated_no_worse(entry, share):
    text = json.dumps(_parsed(entry), ensure_ascii=False)
    message = json.dumps(entry.message, ensure_ascii=False)[1:-1]
    # Google's message is the same for all limits: which of them is spent stands in the quotaId.
    telling = r'%s(?:[^"\\]|\\.)*|"quotaId": "[^"]*"' % re.escape(message)
    ends = [match.end() for match in re.finditer(telling, text)]
    hypothesis.assume(ends)
    first = max(ends)
    _assert_no_worse(entry, _classify(entry, text[:first + int(share * (len(text) - first))]))


@hypothesis.settings(max_examples=300)
@hypothesis.given(
    st.sampled_from(ERRORS), st.floats(0, 1), st.integers(100, 599), st.binary(max_size=20)
)
def test_any_part_of_any_error_is_classified(entry, share, status, noise):
    body = entry.response_at(NOW).body
    cut = body[:int(share * len(body))] + noise
    assert failures.from_http(status, {}, cut, NOW, "model").cause in CAUSES
    assert failures.from_text(cut).cause in CAUSES
