"""The corpus of provider failures is well-formed, and speaks the language of CAUSES."""
import base64
import binascii
import email.utils
import json
import re
from collections import Counter
from datetime import datetime

import pytest
from fixtures import corpus
from fixtures.check_each import check_each

from synthralos.core.causes import CAUSES

DOCUMENT = json.loads(corpus.PATH.read_text(encoding="utf-8"))
ENTRIES = DOCUMENT["entries"]
PROVIDERS = (
    "openai", "azure", "anthropic", "gemini", "vertex", "bedrock", "groq", "mistral", "deepseek",
    "xai", "openrouter", "together", "cohere", "huggingface", "vllm", "ollama", "llamacpp",
    "litellm", "cloudflare", "nginx",
)
SOURCE_KINDS = ("documented", "reported", "source code", "unconfirmed")
FIELDS = {
    "id", "provider", "kind", "wire", "status", "headers", "cause", "speaks_of", "hint_seconds",
    "message", "source",
}
CONTENT_FIELDS = {"body", "text", "base64"}
NOW = 1_800_000_000.0
# Shapes of real keys; the invented ones are shorter, masked or spelled out.
SECRETS = re.compile(
    r"sk-[A-Za-z0-9_-]{20,}|AIza[A-Za-z0-9_-]{30,}|gsk_[A-Za-z0-9]{20,}|hf_[A-Za-z]{20,}"
)

each_entry = check_each("entry", ENTRIES, ids=[entry["id"] for entry in ENTRIES])


def texts_in(value):
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def test_it_is_large_and_every_provider_is_there():
    assert DOCUMENT["version"] == 1
    assert len(ENTRIES) >= 150
    counts = Counter(entry["provider"] for entry in ENTRIES)
    assert set(counts) == set(PROVIDERS)
    assert [name for name in PROVIDERS if counts[name] < 5] == []


def test_ids_are_unique_and_in_order():
    ids = [entry["id"] for entry in ENTRIES]
    assert len(set(ids)) == len(ids)
    assert ids == [entry["id"] for entry in sorted(
        ENTRIES, key=lambda entry: (PROVIDERS.index(entry["provider"]), entry["id"])
    )]


def test_few_wordings_are_unconfirmed():
    unconfirmed = [entry for entry in ENTRIES if entry["source"]["kind"] == "unconfirmed"]
    assert len(unconfirmed) <= 0.15 * len(ENTRIES)


def test_its_page_describes_what_is_in_it():
    page = (corpus.PATH.parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w ]+)` \| ([^|]+) \|", page, re.M))
    assert FIELDS | CONTENT_FIELDS | {"note"} | set(SOURCE_KINDS) <= set(rows)
    assert all("`%s`" % name in rows["provider"] for name in PROVIDERS)
    for cause in {entry["cause"] for entry in ENTRIES} - {None}:
        assert rows[cause] == CAUSES[cause].scope
        assert re.search(r"^\| %s \|" % CAUSES[cause].scope, page, re.M)


def test_some_answers_are_good():
    good_answers = [entry for entry in ENTRIES if entry["cause"] is None]
    assert len(good_answers) >= 10
    assert {entry["kind"] for entry in good_answers} == {"answer"}


@each_entry
def test_an_entry_has_its_fields(entry):
    assert set(entry) - {"note"} - CONTENT_FIELDS == FIELDS
    assert len(set(entry) & CONTENT_FIELDS) == 1
    assert re.match(r"[a-z0-9]+(-[a-z0-9]+)*\Z", entry["id"])
    assert entry["id"].split("-")[0] == entry["provider"]
    assert entry["wire"] in ("openai", "anthropic", "other")
    assert (entry["kind"], entry["status"] == 200) in (("answer", True), ("error", False))
    assert 200 <= entry["status"] < 600
    assert all(name == name.lower() for name in entry["headers"])
    assert "content-type" in entry["headers"]
    hint = entry["hint_seconds"]
    assert hint is None or 0 < hint <= 24 * 3600
    assert "note" not in entry or entry["note"].endswith(".")


@each_entry
def test_its_cause_and_scope_are_those_of_the_table(entry):
    if entry["cause"] is None:
        assert entry["speaks_of"] is None and entry["message"] is None
    else:
        assert entry["speaks_of"] == CAUSES[entry["cause"]].scope


@each_entry
def test_its_source_is_a_public_address(entry):
    assert set(entry["source"]) == {"kind", "url"}
    assert entry["source"]["kind"] in SOURCE_KINDS
    assert re.match(r"https://[a-z0-9.-]+\.[a-z]+/\S+\Z", entry["source"]["url"])


@each_entry
def test_its_message_stands_in_the_body(entry):
    message = entry["message"]
    if message is None:
        return
    texts = list(texts_in(entry.get("body", entry.get("text"))))
    # JSON inside a text escapes what it quotes.
    forms = (message, json.dumps(message)[1:-1], json.dumps(json.dumps(message)[1:-1])[1:-1])
    assert "base64" in entry or any(form in text for text in texts for form in forms)


@each_entry
def test_it_holds_no_secret(entry):
    assert SECRETS.search(json.dumps(entry)) is None


@each_entry
def test_its_templates_are_filled_in(entry):
    for text in texts_in([entry["headers"], entry.get("body"), entry.get("text")]):
        assert "{{" not in corpus.TEMPLATE.sub("", text)
    for field in set(entry) - CONTENT_FIELDS - {"headers"}:
        assert "{{" not in json.dumps(entry[field])


def test_the_loader_reads_every_entry():
    loaded = corpus.load()
    assert [entry.id for entry in loaded] == [entry["id"] for entry in ENTRIES]
    for fields, entry in zip(ENTRIES, loaded):
        response = entry.response_at(NOW)
        assert response.status == fields["status"]
        assert set(response.headers) == set(fields["headers"])
        assert b"{{" not in response.body
        if "base64" in fields:
            assert response.body == base64.b64decode(fields["base64"])
        elif "text" in fields:
            assert response.body.decode() == corpus.render(fields["text"], NOW)
        else:
            assert json.loads(response.body).__class__ is fields["body"].__class__


def test_a_time_is_counted_from_now():
    def rendered(text):
        return corpus.render(text, NOW)

    assert rendered("{{epoch_s+30}}") == "1800000030"
    assert rendered("{{epoch_ms+30}}") == "1800000030000"
    iso = datetime.strptime(rendered("{{iso+30}}") + "+0000", "%Y-%m-%dT%H:%M:%SZ%z")
    assert iso.timestamp() == NOW + 30
    http_date = email.utils.parsedate_to_datetime(rendered("{{http_date+30}}"))
    assert http_date.timestamp() == NOW + 30
    assert rendered("a {{epoch_s+1}} b {{epoch_s+2}} {{else+3}}") == (
        "a 1800000001 b 1800000002 {{else+3}}"
    )


def test_content_is_sent_in_each_form():
    fields = dict(ENTRIES[0], headers={"retry-after": "{{epoch_s+5}}"})
    for name in CONTENT_FIELDS:
        fields.pop(name, None)
    contents = (
        ({"text": "{{epoch_s+5}} \u00e9"}, "1800000005 \u00e9".encode()),
        ({"base64": "77u/e30="}, b"\xef\xbb\xbf{}"),
        ({"body": {"at": "{{epoch_s+5}}"}}, b'{"at": "1800000005"}'),
    )
    for content, expected in contents:
        response = corpus._entry_of(dict(fields, **content)).response_at(NOW)
        assert response.body == expected
        assert response.headers == {"retry-after": "1800000005"}
    with pytest.raises(binascii.Error):
        corpus._entry_of(dict(fields, base64="?"))


def test_an_error_plays_on_every_wire_and_an_answer_on_its_own():
    for entry in corpus.load():
        for wire in ("openai", "anthropic", "other"):
            assert entry.plays_on(wire) == (entry.kind == "error" or entry.wire == wire)
