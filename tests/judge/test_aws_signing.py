"""Requests to Bedrock that are signed with AWS credentials, before a server that checks them.

The server has botocore compute each signature anew, from what it received. botocore is in an
environment of its own (`make judges`), in which the pack makes its calls, too.
"""
import contextlib
import http.server
import json
import os
import subprocess
import threading

import pytest
from benchmarks import peers
from fixtures import PACK
from fixtures.waiting import PATIENCE_SECONDS

SCRIPT = PACK / "tests" / "judge" / "aws_requests.py"
REGION = "eu-west-1"
MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"}
TEMPORARY = dict(KEYS, token="IQoJb3JpZ2luX2VjEXAMPLE//=token")
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    "metrics": {"latencyMs": 1},
}


class Worker:
    """aws_requests.py as a process, with nothing of this host that could hold credentials."""

    def __init__(self, python, home, **variables):
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("AWS_")
        }
        environment.update(
            variables, HOME=str(home), AWS_EC2_METADATA_DISABLED="true",
            PYTHONPATH=os.pathsep.join([str(PACK / "actions" / "lib"), str(PACK / "tests")]),
        )
        self._process = subprocess.Popen(
            [python, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, kind, **parameters):
        self._process.stdin.write(json.dumps({kind: parameters}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE_SECONDS)
        self._process.stdout.close()


class Bedrock:
    """A server that refuses whatever is not signed by `credentials`, as AWS does."""

    def __init__(self, verifier):
        self.credentials, self.problems, self.requests = KEYS, [], []
        bedrock = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                bedrock._respond(self, ANSWER)

            def do_GET(self):
                bedrock._respond(self, {"modelSummaries": [{"modelId": MODEL}]})

            def log_message(self, *_):
                pass

        self._verifier = verifier
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = "http://127.0.0.1:%d" % self._server.server_port

    def _respond(self, handler, answer):
        size = int(handler.headers.get("Content-Length") or 0)
        request = {
            "method": handler.command, "path": handler.path, "headers": dict(handler.headers),
            "body": handler.rfile.read(size).decode(),
        }
        self.requests.append(request)
        problem = self.problem(request)
        self.problems.append(problem)
        if problem is not None:
            # AWS quotes what it was sent.
            answer = {"message": "The signature does not match. The Canonical String should have "
                      "been 'x-amz-security-token:%s'" %
                      handler.headers.get("X-Amz-Security-Token")}
        content = json.dumps(answer).encode()
        handler.send_response(200 if problem is None else 403)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        if problem is not None:
            handler.send_header("x-amzn-ErrorType", "InvalidSignatureException")
        handler.end_headers()
        handler.wfile.write(content)

    def problem(self, request, region=REGION):
        parameters = dict(request, region=region, credentials=self.credentials)
        return self._verifier.ask("verify", **parameters)["problem"]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def python():
    try:
        return peers.existing_sdks(PACK / ".bench")
    except peers.NotInstalled as error:
        pytest.skip(str(error))


@pytest.fixture
def worker(python, tmp_path):
    """worker(**environment) -> Worker"""
    with contextlib.ExitStack() as stack:
        def start(**variables):
            return stack.enter_context(
                contextlib.closing(Worker(python, tmp_path, **variables)))

        yield start


@pytest.fixture
def bedrock(worker):
    server = Bedrock(worker())
    yield server
    server.close()


def provider(bedrock, **entries):
    return dict({"name": "p", "api": "bedrock", "base_url": bedrock.url, "models": [MODEL],
                 "auth": "iam", "region": REGION}, **entries)


def stored(credentials):
    """Credentials as `aws configure export-credentials` prints them."""
    names = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "token": "SessionToken"}
    return json.dumps(
        dict({names[name]: value for name, value in credentials.items()}, Version=1), indent=2)


@pytest.mark.parametrize("credentials", [KEYS, TEMPORARY], ids=["user", "role"])
@pytest.mark.parametrize("kind", ["call", "list"])
def test_requests_are_signed_with_the_keys_in_the_datastore(bedrock, worker, kind, credentials):
    bedrock.credentials = credentials
    result = worker().ask(
        kind, provider=provider(bedrock, iam_credentials_from="aws"), model=MODEL,
        datastore=[{"aws": stored(credentials)}])
    assert bedrock.problems == [None], result
    expected = [MODEL] if kind == "list" else "hello"
    completion = result["completion"]
    assert expected == (completion if kind == "list" else completion["response"])


def variables_of(credentials):
    return {"AWS_ACCESS_KEY_ID": credentials["access_key"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_key"],
            "AWS_SESSION_TOKEN": credentials["token"]}


def test_requests_are_signed_with_the_credentials_of_the_host(bedrock, worker, tmp_path):
    bedrock.credentials = TEMPORARY
    request = {"provider": provider(bedrock), "model": MODEL, "datastore": []}
    assert "completion" in worker(**variables_of(TEMPORARY)).ask("call", **request)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[bot]\naws_access_key_id = %(access_key)s\naws_secret_access_key = %(secret_key)s\n"
        "aws_session_token = %(token)s\n" % TEMPORARY)
    assert "completion" in worker(AWS_PROFILE="bot").ask("call", **request)
    assert bedrock.problems == [None, None]


def test_the_server_accepts_botocore_s_own_client_and_nothing_that_was_changed(bedrock, worker):
    bedrock.credentials = TEMPORARY
    own = worker(**variables_of(TEMPORARY))
    result = own.ask("client", url=bedrock.url, model=MODEL, region=REGION)
    assert (result, bedrock.problems) == ({"text": "hello"}, [None])
    own.ask("call", provider=provider(bedrock), model=MODEL, datastore=[])
    request = bedrock.requests[-1]
    assert bedrock.problem(request) is None
    assert bedrock.problem(request, region="us-east-1") is not None
    for name in ("method", "path", "body"):
        assert bedrock.problem(dict(request, **{name: request[name] + "x"})) is not None
    for name in ("X-Amz-Security-Token", "X-Amz-Date", "Authorization", "Content-Type"):
        headers = dict(request["headers"], **{name: request["headers"][name] + "1"})
        assert bedrock.problem(dict(request, headers=headers)) is not None, name


def test_a_wrong_key_is_reported_without_any_secret(bedrock, worker):
    result = worker().ask(
        "call", provider=provider(bedrock, iam_credentials_from="aws"), model=MODEL,
        datastore=[{"aws": stored(TEMPORARY)}] * 2)
    assert result["cause"] == "authentication" and "Canonical String" in result["failure"]
    assert TEMPORARY["token"] not in result["failure"]
    assert bedrock.problems == ["the session token is not that of the credentials"]


def test_credentials_that_were_renewed_are_read_again(bedrock, worker):
    bedrock.credentials = TEMPORARY
    expired = dict(TEMPORARY, token="expired")
    result = worker().ask(
        "call", provider=provider(bedrock, iam_credentials_from="aws"), model=MODEL,
        datastore=[{"aws": stored(expired)}, {"aws": stored(TEMPORARY)}])
    assert result["completion"]["response"] == "hello"
    assert [problem is None for problem in bedrock.problems] == [False, True]


@pytest.mark.parametrize("variables, reason", [
    ({}, "there are no AWS credentials"),
    ({"AWS_PROFILE": "missing"}, "AWS credentials cannot be read"),
], ids=["none", "unknown profile"])
def test_a_host_without_credentials_is_reported(bedrock, worker, variables, reason):
    result = worker(**variables).ask(
        "call", provider=provider(bedrock), model=MODEL, datastore=[])
    assert "providers[0].auth" in result["failure"] and reason in result["failure"]
    assert "iam_credentials_from" in result["failure"] and bedrock.requests == []
