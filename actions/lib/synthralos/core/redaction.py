"""Secrets out of everything that is shown, logged, sealed, stored or put in a ticket."""

import re
from dataclasses import dataclass

from synthralos.core import bounded_json, safe_regex
from synthralos.core.errors import InvalidInput

MASK = "********"
MIN_SECRET_CHARS = 6
_PATTERNS = [
    # Prose has "basic requirements": a credential is long, or has what words have not.
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
    """What the configuration wants masked besides.

    :ivar patterns: compiled; every match in a text. keys: names in lower case; the texts and
        numbers below keys of that name.
    """

    patterns: tuple = ()
    keys: frozenset = frozenset()

    @classmethod
    def from_config(cls, entry):
        """From the mapping under `redaction`. InvalidInput names the entry that is wrong."""
        given = _texts(entry, "patterns")
        found = [safe_regex.compile_bounded(where, pattern) for where, pattern in given]
        return cls(tuple(found), frozenset(key.lower() for _, key in _texts(entry, "keys")))


def _texts(entry, name):
    """[(where, text)] of the list under `name`."""
    where, given = "redaction." + name, entry.get(name)
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > MAX_PATTERNS:
        raise InvalidInput(
            where, given, "is no list, or a long one", "List at most %d texts" % MAX_PATTERNS
        )
    for n, text in enumerate(given):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(
                "%s[%d]" % (where, n), text, "is no text or blank", "Give it as text"
            )
    return [("%s[%d]" % (where, n), text) for n, text in enumerate(given)]


class Redactor:
    """Masks known secrets wherever they stand, what looks like one, and what the configuration
    names.

    :param secrets: the values to mask; those under SHORTEST characters are left, for masking
        `a` would destroy the text and protect nothing.
    """

    def __init__(self, secrets=(), redaction=Redaction()):
        self._secrets, self.redaction = set(), redaction
        for secret in secrets:
            self.add(secret)

    def add(self, secret):
        if isinstance(secret, str) and len(secret) >= MIN_SECRET_CHARS:
            self._secrets.add(secret)

    def redact_text(self, text):
        text = self._mask_secrets(text)
        for pattern, replacement in zip(_PATTERNS, _REPLACEMENTS):
            text = pattern.sub(replacement, text)
        for pattern in self.redaction.patterns:
            text = pattern.sub(MASK, text)
        return text

    def redact_value(self, value, key=None):
        """A copy of a JSON value, masked at every depth, keys too."""
        return self._copy(value, self.redact_text, key)

    def remove_secrets(self, value):
        """A copy of a JSON value without the known secrets; what merely looks like one stays, and
        so does what the configuration names.

        For what a caller asked for and must get as it is: answers of agents and models.
        """
        return self._copy(value, self._mask_secrets)

    def _mask_secrets(self, text):
        # Longest first: a secret may be part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def _copy(self, value, masked, key=None, depth=0):
        if key is not None and masked == self.redact_text and self._is_secret_key(key, value):
            return MASK
        if isinstance(value, str):
            return masked(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth > bounded_json.MAX_DEPTH:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                masked(str(k)): self._copy(v, masked, str(k), depth + 1) for k, v in value.items()
            }
        # What stands in a list stands below the list's key.
        below = key if self._is_named(key) else None
        return [self._copy(item, masked, below, depth + 1) for item in value]

    def _is_secret_key(self, key, value):
        if isinstance(value, str) and value and _SECRET_KEYS.match(key):
            return True
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._is_named(key) and (number or (isinstance(value, str) and value != ""))

    def _is_named(self, key):
        return key is not None and key.lower() in self.redaction.keys
