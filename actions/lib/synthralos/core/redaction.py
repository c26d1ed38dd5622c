"""Removes secrets from everything that is shown, logged, sealed, stored or put in a ticket."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any, Callable, Optional

from synthralos.core import bounded_json, safe_regex
from synthralos.core.errors import InvalidInput
from synthralos.core.header_values import trim_secret

MASK = "********"
MIN_SECRET_CHARS = 6
_PATTERNS = [
    # Prose has "basic requirements": a credential is long, or has characters that words lack.
    re.compile(r"(?i)\b(bearer|basic)\s+(?=\S*[0-9_~+/=]|\S{24})[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"\b(?:sk|pk|rk|sos|xox[abprs])[-_][A-Za-z0-9_-]{12,}"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(
        r"(?i)\b((?:api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|password|passwd)"
        r"[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]{4,}"
    ),
    re.compile(r"(?i)(://[^/\s:@]*:)[^/\s@]+(@)"),
]
_REPLACEMENTS = [r"\1 " + MASK, MASK, MASK, MASK, r"\1" + MASK, r"\1" + MASK + r"\2"]
_SECRET_KEYS = re.compile(
    r"(?i)^(authorization|proxy-authorization|x-api-key|api[_-]?key|token|access[_-]?token|"
    r"secret|client[_-]?secret|password|passwd|st2-api-key|x-auth-token|cookie|set-cookie)$"
)
MAX_PATTERNS = 50


@dataclass(frozen=True)
class Redaction:
    """What the configuration wants masked in addition.

    :ivar patterns: every match in a text is masked.
    :ivar keys: names in lower case; texts and numbers under keys of that name are masked.
    """

    patterns: tuple[Pattern[str], ...] = ()
    keys: frozenset[str] = frozenset()

    @classmethod
    def from_config(cls, entry: Mapping[str, Any]) -> "Redaction":
        """Read the object under `redaction`.

        :raises InvalidInput: an entry is not valid; names it.
        """
        pattern_texts = _texts(entry, "patterns")
        patterns = [safe_regex.compile_bounded(path, pattern) for path, pattern in pattern_texts]
        return cls(tuple(patterns), frozenset(key.lower() for _, key in _texts(entry, "keys")))


def _texts(entry: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """Return (path, text) of each item of the list under `name`."""
    path, texts = "redaction." + name, entry.get(name)
    if texts is None:
        return []
    if not isinstance(texts, list) or len(texts) > MAX_PATTERNS:
        raise InvalidInput(
            path,
            texts,
            "must be a list of at most %d texts" % MAX_PATTERNS,
            "List at most %d texts" % MAX_PATTERNS,
        )
    for n, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(
                "%s[%d]" % (path, n), text, "must be text and not blank", "Give it as text"
            )
    return [("%s[%d]" % (path, n), text) for n, text in enumerate(texts)]


class Redactor:
    """Masks known secrets wherever they occur, text that looks like a secret, and what the
    configuration names.

    :param secrets: the values to mask. Values under MIN_SECRET_CHARS characters are ignored:
        masking `a` would destroy the text and protect nothing.
    """

    def __init__(self, secrets: Iterable[Any] = (), redaction: Redaction = Redaction()) -> None:
        self._secrets: set[str] = set()
        self.redaction = redaction
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Any) -> None:
        """Mask `secret` from now on; anything but a long enough text is ignored."""
        if not isinstance(secret, str):
            return
        # A secret is sent without what surrounds it, and that is how it comes back in messages.
        for text in (secret, trim_secret(secret)):
            if len(text) >= MIN_SECRET_CHARS:
                self._secrets.add(text)

    def redact_text(self, text: str) -> str:
        """Return `text` with everything masked that must not be shown."""
        text = self._mask_secrets(text)
        for pattern, replacement in zip(_PATTERNS, _REPLACEMENTS):
            text = pattern.sub(replacement, text)
        for pattern in self.redaction.patterns:
            text = pattern.sub(MASK, text)
        return text

    def redact_value(self, value: Any, key: Optional[str] = None) -> Any:
        """Return a copy of a JSON value, masked at every depth, keys included.

        :param key: the key that `value` is under, or None.
        """
        return self._copy(value, self.redact_text, key)

    def remove_secrets(self, value: Any) -> Any:
        """Return a copy of a JSON value without the known secrets.

        Text that only looks like a secret stays, and so does what the configuration names: this is
        for what a caller asked for and must get unchanged, such as answers of agents and models.
        """
        return self._copy(value, self._mask_secrets)

    def _mask_secrets(self, text: str) -> str:
        # Longest first: a secret may be part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def _copy(
        self, value: Any, mask: Callable[[str], str], key: Optional[str] = None, depth: int = 0
    ) -> Any:
        if key is not None and mask == self.redact_text and self._is_secret_key(key, value):
            return MASK
        if isinstance(value, str):
            return mask(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth > bounded_json.MAX_DEPTH:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                mask(str(k)): self._copy(v, mask, str(k), depth + 1) for k, v in value.items()
            }
        # The items of a list count as values of the list's key.
        item_key = key if self._is_named(key) else None
        return [self._copy(item, mask, item_key, depth + 1) for item in value]

    def _is_secret_key(self, key: str, value: Any) -> bool:
        if isinstance(value, str) and value and _SECRET_KEYS.match(key):
            return True
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._is_named(key) and (number or (isinstance(value, str) and value != ""))

    def _is_named(self, key: Optional[str]) -> bool:
        return key is not None and key.lower() in self.redaction.keys
