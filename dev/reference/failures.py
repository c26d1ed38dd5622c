"""The tables in docs/failures.md: the causes of failures, and the responses of the corpus.

Each table is written between two markers, so that the rest of the page stays as people wrote it.
"""
import json
from collections.abc import Iterable
from typing import Optional

from fixtures.corpus import CorpusEntry, load

from reference.markdown import code, excerpt, replace_between, table, text
from reference.metadata import PACK
from synthralos.core import error_names, evidence
from synthralos.core.causes import CAUSES, Cause
from synthralos.core.evidence import Evidence

PAGE = PACK / "docs" / "failures.md"
CAUSES_BEGIN = "<!-- causes: made by `make docs` from actions/lib/synthralos/core/causes.py -->"
CAUSES_END = "<!-- end of causes -->"
RESPONSES_BEGIN = "<!-- responses: made by `make docs` from tests/corpus/provider_failures.json -->"
RESPONSES_END = "<!-- end of responses -->"
MAX_WORDS = 72
# Any moment, so that the dates in messages are always the same.
SENT_AT = 1_800_000_000.0
PROVIDERS = {
    "openai": "OpenAI",
    "azure": "Azure OpenAI",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "vertex": "Vertex AI",
    "bedrock": "Amazon Bedrock",
    "groq": "Groq",
    "mistral": "Mistral",
    "deepseek": "DeepSeek",
    "xai": "xAI",
    "openrouter": "OpenRouter",
    "together": "Together AI",
    "cohere": "Cohere",
    "huggingface": "Hugging Face",
    "vllm": "vLLM",
    "ollama": "Ollama",
    "llamacpp": "llama.cpp",
    "litellm": "LiteLLM's proxy",
    "cloudflare": "Cloudflare",
    "nginx": "nginx",
}


def page(before: str) -> str:
    """Return the page `before` with both tables replaced.

    :raises ValueError: a marker is missing or a duplicate.
    """
    after = replace_between(before, CAUSES_BEGIN, CAUSES_END, _lines_of_causes(), PAGE.name)
    return replace_between(
        after, RESPONSES_BEGIN, RESPONSES_END, _lines_of_responses(load()), PAGE.name
    )


def _lines_of_causes() -> list[str]:
    head = (
        "cause", "meaning", "speaks of", "same target", "same account", "same address",
        "same host", "same provider", "other providers", "may have taken effect",
        "counts for the breaker", "redriven",
    )
    return table(head, [_row_of_cause(name, cause) for name, cause in CAUSES.items()])


def _row_of_cause(name: str, cause: Cause) -> tuple[str, ...]:
    scope = cause.speaks_of
    return (
        code(name),
        text(cause.description),
        scope.subject,
        scope.same_target,
        scope.same_account,
        scope.same_address,
        scope.same_host,
        scope.same_provider,
        scope.other_providers,
        "yes" if cause.may_have_taken_effect else "no",
        "yes" if cause.counts_for_breaker else "no",
        "yes" if cause.is_redrivable else "no",
    )


def _lines_of_responses(entries: Iterable[CorpusEntry]) -> list[str]:
    """Return a heading and a table for each provider; good answers have no row."""
    failed = [entry for entry in entries if entry.cause is not None]
    lines = []
    for provider, label in PROVIDERS.items():
        rows: dict[tuple[str, ...], list[str]] = {}
        for entry in sorted(failed, key=lambda entry: entry.status):
            if entry.provider == provider:
                source = "[%s](%s)" % (entry.source.kind, entry.source.url)
                sources = rows.setdefault(_facts_of(entry), [])
                if source not in sources:
                    sources.append(source)
        lines += ["### " + label, ""]
        lines += table(
            ("status", "name and words", "cause", "hint", "source"),
            [facts + (", ".join(sources),) for facts, sources in rows.items()],
        )
    return lines


def _facts_of(entry: CorpusEntry) -> tuple[str, ...]:
    """Return the cells of a row but for the source; entries that look alike share a row."""
    hint = "no" if entry.hint_seconds is None else "yes"
    return str(entry.status), _signs(entry), code(entry.cause), hint


def _signs(entry: CorpusEntry) -> str:
    """Return the name that tells the cause, if there is one, and the innermost message."""
    if not entry.content:
        return "(an empty body)"
    read = _evidence_of(entry)
    words = text(excerpt(read.message or entry.message or "", MAX_WORDS))
    name = _telling_name(read, entry)
    signs = ([code(name)] if name else []) + ([words] if words else [])
    return ": ".join(signs) or ("(a page without words)" if read.is_html else "(no words)")


def _evidence_of(entry: CorpusEntry) -> Evidence:
    """Return what the body says: nothing where its encoding is the point of the entry."""
    try:
        body = entry.response_at(SENT_AT).body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Evidence()
    try:
        return evidence.read(json.loads(body))
    except ValueError:
        return evidence.read(body)


def _telling_name(read: Evidence, entry: CorpusEntry) -> Optional[str]:
    """Return the innermost name that tells the cause; of an answer, why it ended."""
    telling = [name for name in read.names if error_names.telling_cause([name]) == entry.cause]
    if not telling and entry.kind == "answer" and not read.messages:
        telling = list(read.names)
    return telling[0] if telling else None
