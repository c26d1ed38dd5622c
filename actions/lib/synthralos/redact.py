"""Secrets out of everything that is shown, logged, sealed, stored or put in a ticket."""

import re

from synthralos import jsontext

MASK = "********"
SHORTEST = 6
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


class Redactor:
    """Masks known secrets wherever they stand, and what looks like one.

    :param secrets: the values to mask; those under SHORTEST characters are left, for masking
        `a` would destroy the text and protect nothing.
    """

    def __init__(self, secrets=()):
        self._secrets = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret):
        if isinstance(secret, str) and len(secret) >= SHORTEST:
            self._secrets.add(secret)

    def text(self, text):
        text = self._without_secrets(text)
        for pattern, replacement in zip(_PATTERNS, _REPLACEMENTS):
            text = pattern.sub(replacement, text)
        return text

    def value(self, value, key=None):
        """A copy of a JSON value, masked at every depth, keys too."""
        return self._copy(value, self.text, key)

    def secrets_only(self, value):
        """A copy of a JSON value without the known secrets; what merely looks like one stays.

        For what a caller asked for and must get as it is: answers of agents and models.
        """
        return self._copy(value, self._without_secrets)

    def _without_secrets(self, text):
        # Longest first: a secret may be part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def _copy(self, value, masked, key=None, depth=0):
        if isinstance(value, str):
            if key is not None and value and masked == self.text and _SECRET_KEYS.match(key):
                return MASK
            return masked(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth > jsontext.DEEPEST:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                masked(str(k)): self._copy(v, masked, str(k), depth + 1) for k, v in value.items()
            }
        return [self._copy(item, masked, None, depth + 1) for item in value]
