"""Requests that are signed with AWS credentials, where botocore is not installed.

tests/judge/test_aws_signing.py has the signatures themselves.
"""
import json
import sys

import pytest

from synthralos.calls import aws_signing, llm_calls
from synthralos.calls.credentials import Credentials
from synthralos.calls.http import Client
from synthralos.calls.llm_providers import resolve_model
from synthralos.calls.llm_wires import chat_request
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import Redactor
from synthralos.operations import self_check

from .conftest import http_answer

KEYS = {"AccessKeyId": "AKID", "SecretAccessKey": "the-secret-key"}
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com"


@pytest.fixture
def no_botocore(monkeypatch):
    # An import of it fails, whether or not it is installed.
    monkeypatch.setitem(sys.modules, "botocore", None)


def provider(**entries):
    return dict({"name": "p", "api": "bedrock", "base_url": URL, "auth": "iam", "models": ["m"]},
                **entries)


def settings_of(**entries):
    return Settings.from_config({"providers": [provider(**entries)]})


@pytest.mark.parametrize("entries", [{}, {"iam_credentials_from": "aws"}])
def test_a_missing_botocore_is_reported_with_the_way_out(no_botocore, serve, entries):
    server = serve(http_answer())
    settings = settings_of(base_url=server.url, region="eu-west-1", **entries)
    client = Client(Credentials({"aws": json.dumps(KEYS)}.get, Redactor()))
    request = chat_request.parse({"prompt": "hi"})
    with pytest.raises(InvalidInput) as refused:
        llm_calls.complete(client, resolve_model(settings.providers, "m"), request, 60, "run")
    assert (refused.value.field, refused.value.value) == ("providers[0].auth", "iam")
    assert "needs botocore" in str(refused.value) and "pip install" in refused.value.hint
    assert server.requests == []


def test_pack_check_reports_a_missing_botocore(no_botocore, make_env):
    env = make_env(config={"providers": [provider()]})
    _, result = self_check.check(env)
    (entry,) = [check for check in result["checks"] if check["name"] == "llm:p"]
    assert entry["status"] == "failed" and "providers[0].auth" in entry["details"]
    assert "pip install botocore" in entry["hint"].replace("\n", " ")


@pytest.mark.parametrize("text, reason", [
    ("the-secret-key", "is not a JSON object"),
    ("[]", "is not a JSON object"),
    (json.dumps(dict(KEYS, AccessKeyId="")), "has no valid AccessKeyId"),
    (json.dumps({"AccessKeyId": "a", "aws_secret_access_key": "the-secret-key"}),
     "has no valid SecretAccessKey"),
    (json.dumps(dict(KEYS, SecretAccessKey="the-secret\nkey")), "has no valid SecretAccessKey"),
    (json.dumps(dict(KEYS, SessionToken=7)), "has no valid SessionToken"),
])
def test_credentials_that_are_not_valid_are_refused_without_being_quoted(text, reason):
    with pytest.raises(InvalidInput) as refused:
        aws_signing.parse_credentials(text, "aws_key")
    assert (refused.value.value, refused.value.field) == ("aws_key", "config iam_credentials_from")
    assert reason in str(refused.value) and "the-secret" not in str(refused.value)


@pytest.mark.parametrize("more, token", [({}, None), ({"SessionToken": " t\n"}, "t"),
                                         ({"SessionToken": None, "Version": 1}, None)])
def test_credentials_are_read_as_aws_prints_them(more, token):
    text = json.dumps(dict(KEYS, **more), indent=4)
    assert aws_signing.parse_credentials(text, "k") == ("AKID", "the-secret-key", token)


@pytest.mark.parametrize("url, region", [
    (URL, "eu-west-1"),
    ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("https://vpce-0a1b.bedrock-runtime.us-east-2.vpce.amazonaws.com", "us-east-2"),
    ("https://BEDROCK-RUNTIME.EU-WEST-1.amazonaws.com:443/x", "eu-west-1"),
])
def test_the_region_is_read_from_the_address(url, region):
    (account,) = settings_of(base_url=url).providers[0].accounts
    assert account.connection.signing.region == region
    (account,) = settings_of(base_url=url, region="ap-south-1").providers[0].accounts
    assert account.connection.signing.region == "ap-south-1"


@pytest.mark.parametrize("entries, field", [
    ({"base_url": "https://proxy.example.com"}, "region"),
    ({"region": "eu west"}, "region"),
    ({"auth": "sigv4"}, "auth"),
    ({"api": "anthropic"}, "auth"),
    ({"api_key": "k"}, "api_key"),
    ({"api_key_from": "k"}, "api_key_from"),
    ({"api_keys_from": ["k"]}, "api_keys_from"),
    ({"auth": "api_key", "iam_credentials_from": "k"}, "iam_credentials_from"),
    ({"auth": None, "region": "eu-west-1"}, "region"),
])
def test_entries_that_contradict_each_other_are_refused(entries, field):
    with pytest.raises(InvalidInput) as refused:
        settings_of(**entries)
    assert refused.value.field == "providers[0]." + field and refused.value.hint


def test_a_bedrock_api_key_needs_none_of_it():
    settings = settings_of(auth="api_key", api_key="k", iam_credentials_from="", region=None)
    (account,) = settings.providers[0].accounts
    assert (account.connection.signing, account.connection.secret) == (None, "k")
