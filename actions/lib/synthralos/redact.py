"""Secrets out of everything that is shown, logged, sealed, stored or put in a ticket."""

import re

MASK = "********"
SHORTEST = 6
_PATTERNS = [
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
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
        # Longest first: a secret may be part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, MASK)
        for pattern, replacement in zip(_PATTERNS, _REPLACEMENTS):
            text = pattern.sub(replacement, text)
        return text

    def value(self, value, key=None):
        """A copy of a JSON value, masked at every depth, keys too."""
        if isinstance(value, str):
            if key is not None and value and _SECRET_KEYS.match(key):
                return MASK
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self.value(v, str(k)) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def secrets_only(self, value):
        """A copy of a JSON value without the known secrets; what merely looks like one stays.

        For what a caller asked for and must get as it is: answers of agents and models.
        """
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {self.secrets_only(str(k)): self.secrets_only(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.secrets_only(item) for item in value]
        return value
