"""Templates: `{{ path }}` in JSON values, filled from what a run knows.

A path is a way through mappings and lists, no code: `context.plan.tasks[0]`,
`context['Search GitHub']`, `input.topic`, `output.score`. Its first part is a root, or a key of
`context`. Braces around anything else stay as they are, and what a value holds is never looked
through again: an answer that contains `{{ input.secret }}` is text.
"""

import json
import re

from synthralos.core.errors import InvalidInput

MAX_RENDERED_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_PATH_CHARS = 500
# What a path may begin with. `context.input` is the input too.
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
    def __repr__(self):
        return "MISSING"


MISSING = _MissingType()


def render(template, roots, where="template"):
    """`template`, a JSON value, with the placeholders in its texts filled.

    A text that is one placeholder becomes the value itself, None when that is missing. In other
    texts a value stands as text: objects, lists, numbers and booleans as JSON, nothing for null and
    for what is missing.

    :param roots: {name of a root: JSON value}; `context` is a mapping.
    :raises InvalidInput: the result takes more than LARGEST bytes, or the template is too deep.
    """
    return _Renderer(roots, where).filled(template, 0)


class _Renderer:
    def __init__(self, roots, where):
        self._roots, self._where, self._left = roots, where, MAX_RENDERED_BYTES

    def filled(self, template, depth):
        if depth > MAX_DEPTH:
            way_out = "Keep it within %d levels" % MAX_DEPTH
            raise InvalidInput(self._where, None, "is nested too deeply", way_out)
        if isinstance(template, str):
            return self._text(template)
        if isinstance(template, dict):
            return {key: self.filled(value, depth + 1) for key, value in template.items()}
        if isinstance(template, list):
            return [self.filled(item, depth + 1) for item in template]
        return template

    def _text(self, template):
        alone = _PLACEHOLDER.fullmatch(template)
        if alone:
            found = lookup(alone.group(1), self._roots)
            found = None if found is MISSING else found
            self._take(as_text(found))
            return found
        self._take(template)
        return _PLACEHOLDER.sub(self._value, template)

    def _value(self, match):
        text = as_text(lookup(match.group(1), self._roots))
        self._take(text)
        return text

    def _take(self, text):
        self._left -= len(text.encode("utf-8", "surrogatepass"))
        if self._left < 0:
            way_out = "Pass on less: a part of it, such as context.plan.tasks[0], or a summary"
            why = "takes more than %d bytes once it is filled" % MAX_RENDERED_BYTES
            raise InvalidInput(self._where, None, why, way_out)


def as_text(value):
    """A value as it stands in a text."""
    if value is None or value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def path_of(field):
    """The parts of a condition's field, or None when it is no path."""
    text = field.strip()
    if len(text) > MAX_PATH_CHARS or _FIELD.match(text) is None:
        return None
    return _parts(text)


def lookup(path, roots):
    """What stands at `path`, or MISSING. Only keys of mappings and places of lists are looked at.
    """
    parts = _parts(path.strip())
    if parts[0] in roots:
        name, parts = parts[0], parts[1:]
        if name == "context" and parts[:1] == ["input"] and "input" not in roots["context"]:
            name, parts = "input", parts[1:]
        value = roots.get(name, MISSING)
    else:
        value = roots.get("context", MISSING)
    for part in parts:
        value = _below(value, part)
    return value


def _parts(text):
    """The keys and indices of a path, indices as text."""
    return [
        next(part for part in match.groups() if part is not None)
        for match in _STEP.finditer(text)
    ]


def _below(value, part):
    if isinstance(value, dict):
        return value.get(part, MISSING)
    if isinstance(value, list) and part.isascii() and part.isdigit() and len(part) < 10:
        at = int(part)
        return value[at] if at < len(value) else MISSING
    return MISSING
