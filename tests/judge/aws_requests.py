"""botocore as the judge of requests that are signed with AWS credentials, and the pack beside it.

Runs in the environment of peers.sdks(), which has botocore. Reads one JSON object a line:

- {"verify": {method, path, headers, body, region, credentials}} is answered with {"problem": null
  or a text}: whether botocore, given what a server received, computes the same signature.
- {"call": {provider, model, datastore: what each read of it sees}} is answered with {"completion"}
  or {"failure"}: what comes of one call that the pack makes; `list` in place of `call` requests the
  list of models.
- {"client": {url, model, region}}: one call that botocore's own client makes, with the credentials
  of the host.
"""
import datetime
import json
import math
import re
import sys
from types import SimpleNamespace

import botocore.auth
import botocore.awsrequest
import botocore.session
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.calls import llm_calls, llm_wires
from synthralos.calls.credentials import Credentials
from synthralos.calls.http import CallError, Client
from synthralos.calls.llm_providers import resolve_model
from synthralos.calls.llm_wires import chat_request
from synthralos.config.settings import Settings
from synthralos.core.errors import InvalidInput
from synthralos.core.redaction import Redactor

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})\Z"
)
MAX_SKEW_SECONDS = 300


def problem(method, path, headers, body, region, credentials):
    """What is wrong with the signature of a request, or None."""
    headers = {name.lower(): value for name, value in headers.items()}
    match = AUTHORIZATION.match(headers.get("authorization", ""))
    if match is None:
        return "there is no signature: %s" % headers.get("authorization")
    access_key, day, signed_region, service, signed_names, signature = match.groups()
    if (access_key, signed_region, service) != (credentials["access_key"], region, "bedrock"):
        return "signed by %s, for %s in %s" % (access_key, service, signed_region)
    if headers.get("x-amz-security-token") != credentials.get("token"):
        return "the session token is not that of the credentials"
    signed = signed_names.split(";")
    needed = {"host"} | {name for name in headers if name.startswith("x-amz-")}
    if not needed <= set(signed):
        return "not signed: %s" % ", ".join(sorted(needed - set(signed)))
    timestamp = headers["x-amz-date"]
    if timestamp[:8] != day or skew(timestamp) > MAX_SKEW_SECONDS:
        return "the time is %s" % timestamp
    request = botocore.awsrequest.AWSRequest(
        method, "http://%s%s" % (headers["host"], path), {name: headers[name] for name in signed},
        body.encode(),
    )
    request.context["timestamp"] = timestamp
    keys = SimpleNamespace(
        access_key=access_key, secret_key=credentials["secret_key"], token=credentials.get("token")
    )
    signer = botocore.auth.SigV4Auth(keys, "bedrock", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    if signer.signature(text, request) != signature:
        return "the signature does not match"
    return None


def skew(timestamp):
    """The seconds between a time as AWS writes it and now; infinite if it is none."""
    try:
        sent_at = datetime.datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return math.inf
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return abs((now - sent_at).total_seconds())


def outcome(provider, model, datastore, call):
    """What comes of a call of the pack, without secrets."""
    redactor, reads = Redactor(), iter(datastore)

    def read(key):
        return next(reads).get(key)

    client = Client(Credentials(read, redactor))
    try:
        settings = Settings.from_config({"providers": [provider]})
        served_model = resolve_model(settings.providers, model)
        return {"completion": call(client, served_model)}
    except (CallError, InvalidInput) as error:
        text = redactor.remove_secrets(str(error))
        failure = getattr(error, "failure", None)
        return {"failure": text, "cause": failure and failure.cause}


def chat(client, served_model):
    request = chat_request.parse({"prompt": "hi", "parameters": {"max_tokens": 20}})
    return llm_calls.complete(client, served_model, request, PATIENCE_SECONDS, "run")


def model_list(client, served_model):
    wire = llm_wires.wire_format(served_model.provider.api)
    connection, path = wire.listing(served_model.connection)
    response = client.request(connection, "GET", path, PATIENCE_SECONDS)
    return wire.model_names(response.json())


def of_client(url, model, region):
    """The text that botocore's own client reads."""
    client = botocore.session.get_session().create_client(
        "bedrock-runtime", region_name=region, endpoint_url=url
    )
    response = client.converse(
        modelId=model, messages=[{"role": "user", "content": [{"text": "hi"}]}]
    )
    return response["output"]["message"]["content"][0]["text"]


print("ready", flush=True)
for line in sys.stdin:
    [(kind, parameters)] = json.loads(line).items()
    if kind == "verify":
        answer = {"problem": problem(**parameters)}
    elif kind == "client":
        answer = {"text": of_client(**parameters)}
    else:
        answer = outcome(call={"call": chat, "list": model_list}[kind], **parameters)
    print(json.dumps(answer), flush=True)
