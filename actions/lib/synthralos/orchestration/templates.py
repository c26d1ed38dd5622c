"""Templates: `{{ path }}` in JSON values, filled from the context of a run.

A path leads through mappings and lists and is never code: `context.plan.tasks[0]`,
`context['Search GitHub']`, `input.topic`, `output.score`. Its first part is a root, or a key of
`context`. Braces around anything else are unchanged, and inserted values are not rendered again: an
answer that contains `{{ input.secret }}` is text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Optional

from synthralos.core.errors import InvalidInput

# {name of a root: JSON value}; `context` is a mapping.
Roots = Mapping[str, Any]
MAX_RENDERED_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_PATH_CHARS = 500
# The roots of paths. `context.input` is the input too.
ROOTS = ("context", "input", "output")

_WORD = r"[\w$-]+"
_PART = r"(?:\.%s|\[\s*(?:\d{1,9}|'[^']{1,200}'|\"[^\"]{1,200}\")\s*\])" % _WORD
_PLACEHOLDER = re.compile(r"\{\{\s*((?:%s)%s*)\s*\}\}" % (_WORD, _PART))
# A condition's field is a path and nothing else, so names with spaces need no brackets there.
_SPACED = r"[\w$-]+(?: +[\w$-]+)*"
_FIELD = re.compile(r"(?:%s)(?:\.%s|%s)*\Z" % (_SPACED, _SPACED, _PART))
_STEP = re.compile(r"\.?(?P<word>%s)|\[\s*(?:(?P<index>\d+)|'(?P<one>[^']*)'|\"(?P<two>[^\"]*)\")"
                   r"\s*\]" % _SPACED)


class _MissingType:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _MissingType()


def render(template: Any, roots: Roots, path: str = "template") -> Any:
    """Return `template`, a JSON value, with the placeholders in its texts filled.

    A text that is a single placeholder becomes the value itself, or None if that is missing. In
    other texts a value is inserted as text: objects, lists, numbers and booleans as JSON; null and
    missing values as nothing.

    :raises InvalidInput: the result exceeds MAX_RENDERED_BYTES, or the template is too deep.
    """
    return _Renderer(roots, path).filled(template, 0)


class _Renderer:
    def __init__(self, roots: Roots, path: str) -> None:
        self._roots, self._path, self._bytes_left = roots, path, MAX_RENDERED_BYTES

    def filled(self, template: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            hint = "Keep it within %d levels" % MAX_DEPTH
            raise InvalidInput(self._path, None, "is nested too deeply", hint)
        if isinstance(template, str):
            return self._text(template)
        if isinstance(template, dict):
            return {key: self.filled(value, depth + 1) for key, value in template.items()}
        if isinstance(template, list):
            return [self.filled(item, depth + 1) for item in template]
        return template

    def _text(self, template: str) -> Any:
        whole_match = _PLACEHOLDER.fullmatch(template)
        if whole_match:
            value = lookup(whole_match.group(1), self._roots)
            value = None if value is MISSING else value
            self._take(as_text(value))
            return value
        self._take(template)
        return _PLACEHOLDER.sub(self._value, template)

    def _value(self, match: re.Match[str]) -> str:
        text = as_text(lookup(match.group(1), self._roots))
        self._take(text)
        return text

    def _take(self, text: str) -> None:
        self._bytes_left -= len(text.encode("utf-8", "surrogatepass"))
        if self._bytes_left < 0:
            hint = "Use less: a part of it, such as context.plan.tasks[0], or a summary"
            reason = "takes more than %d bytes once it is filled" % MAX_RENDERED_BYTES
            raise InvalidInput(self._path, None, reason, hint)


def as_text(value: Any) -> str:
    """Return a value as it is inserted into a text."""
    if value is None or value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def path_of(field: str) -> Optional[list[str]]:
    """Return the parts of a condition's field, or None if it is not a path."""
    text = field.strip()
    if len(text) > MAX_PATH_CHARS or _FIELD.match(text) is None:
        return None
    return _parts(text)


def lookup(path: str, roots: Roots) -> Any:
    """Return the value at `path`, or MISSING; only mapping keys and list indices are followed."""
    parts = _parts(path.strip())
    if parts[0] in roots:
        name, parts = parts[0], parts[1:]
        if name == "context" and parts[:1] == ["input"] and "input" not in roots["context"]:
            name, parts = "input", parts[1:]
        value = roots.get(name, MISSING)
    else:
        value = roots.get("context", MISSING)
    for part in parts:
        value = _child(value, part)
    return value


def _parts(text: str) -> list[str]:
    """Return the keys and indices of a path, indices as text."""
    return [
        next(part for part in match.groups() if part is not None)
        for match in _STEP.finditer(text)
    ]


def _child(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, MISSING)
    if isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 10:
        index = int(part)
        return value[index] if index < len(value) else MISSING
    return MISSING
