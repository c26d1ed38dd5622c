"""The setups of providers in docs/llm-requests.md: addresses, headers and tokens that follow."""
import json
import re

import pytest
import yaml
from fixtures import PACK
from fixtures.waiting import PATIENCE_SECONDS

from synthralos.calls import llm_calls
from synthralos.calls.credentials import Credentials
from synthralos.calls.http import Client
from synthralos.calls.llm_providers import resolve_model
from synthralos.calls.llm_wires import chat_request, wire_format
from synthralos.config.settings import APIS, Settings
from synthralos.core.redaction import Redactor

from .conftest import http_answer

PAGE = (PACK / "docs" / "llm-requests.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| `(\w+)`[^|]* \| `(https?://[^`]+)` \|", PAGE, re.MULTILINE)
OPENAI = {"choices": [{"finish_reason": "stop", "message": {"content": "hello"}}]}
GEMINI = {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "hello"}]}}]}
ANSWERS = {
    "openai": OPENAI,
    "anthropic": {"stop_reason": "end_turn", "content": [{"type": "text", "text": "hello"}]},
    "gemini": GEMINI,
    "bedrock": {"stopReason": "end_turn", "output": {"message": {"content": [{"text": "hello"}]}}},
}
# What each setup sends: the path after the host, and the header of the key.
EXPECTED = {
    "OpenAI": ("/v1/chat/completions", "Authorization: Bearer k"),
    "Anthropic": ("/v1/messages", "x-api-key: k"),
    "Google Gemini": ("/v1beta/models/m:generateContent", "x-goog-api-key: k"),
    "Vertex AI": ("/v1/projects/PROJECT/locations/LOCATION/publishers/google/models/m"
                  ":generateContent", "Authorization: Bearer k"),
    "Amazon Bedrock": ("/model/m/converse", "Authorization: Bearer k"),
    "Azure OpenAI": ("/openai/v1/chat/completions", "Authorization: Bearer k"),
    "OpenRouter": ("/api/v1/chat/completions", "Authorization: Bearer k"),
    "vLLM": ("/v1/chat/completions", "Authorization: Bearer k"),
    "Ollama": ("/v1/chat/completions", "Authorization: Bearer k"),
    "LiteLLM's proxy": ("/v1/chat/completions", "Authorization: Bearer k"),
}


def test_every_setup_of_the_page_is_tried():
    assert {name for name, _, _ in ROWS} == set(EXPECTED)
    assert all(api in APIS for _, api, _ in ROWS)


def complete(client, entry):
    served_model = resolve_model(Settings.from_config({"providers": [entry]}).providers, "m")
    request = chat_request.parse({"prompt": "hi"})
    return llm_calls.complete(client, served_model, request, PATIENCE_SECONDS, "run")


@pytest.mark.parametrize("name, api, base_url", ROWS, ids=[row[0] for row in ROWS])
def test_a_setup_of_the_page_reaches_the_documented_path_with_its_key(serve, name, api, base_url):
    server = serve(http_answer(200, json.dumps(ANSWERS[api])))
    local = re.sub(r"^https?://[^/]+", server.url, base_url)
    entry = {"name": "p", "api": api, "base_url": local, "api_key": "k", "models": ["m"]}
    completion = complete(Client(Credentials({}.get, Redactor())), entry)
    path, header = EXPECTED[name]
    head = server.requests[0].split("\r\n\r\n")[0].split("\r\n")
    assert head[0] == "POST %s HTTP/1.1" % path and header in head
    assert completion["response"] == "hello"


def blocks_of_providers():
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    return [entry for block in blocks for entry in block["providers"]]


def test_the_examples_are_what_the_pack_reads():
    entries = blocks_of_providers()
    assert {entry.get("api", "openai") for entry in entries} == {"openai", "gemini", "bedrock"}
    for entry in entries:
        (provider,) = Settings.from_config({"providers": [entry]}).providers
        assert wire_format(provider.api).path(provider.models[0].name)
        assert "api_key" not in entry, "an example of a key in plain text gets copied"


class Vertex:
    """Vertex AI, which takes one token only, and a datastore in which a job renews it."""

    def __init__(self):
        self.valid_token, self.reads = "second", []
        self.stored = ["first", "second"]

    def respond(self, connection, request):
        is_valid = "Authorization: Bearer %s\r\n" % self.valid_token in request
        body = GEMINI if is_valid else {"error": {
            "code": 401, "status": "UNAUTHENTICATED", "message": "Request had invalid credentials"}}
        connection.sendall(http_answer(200 if is_valid else 401, json.dumps(body)))

    def read(self, key):
        self.reads.append(key)
        return self.stored.pop(0)


def test_a_token_of_vertex_that_has_expired_is_read_again_and_the_call_succeeds(serve):
    vertex = Vertex()
    server = serve(vertex.respond)
    (entry,) = [entry for entry in blocks_of_providers() if entry.get("api") == "gemini"]
    local = re.sub(r"^https://[^/]+", server.url, entry["base_url"])
    client = Client(Credentials(vertex.read, Redactor()))
    completion = complete(client, dict(entry, base_url=local, models=["m"]))
    assert completion["response"] == "hello"
    assert vertex.reads == ["vertex_token"] * 2 and len(server.requests) == 2
