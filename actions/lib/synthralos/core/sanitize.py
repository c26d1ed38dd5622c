"""Text on its way out of the pack: to people's channels and to other StackStorm actions."""

import re
from typing import Any

from synthralos.core.redaction import Redactor

NOTE = " [template marks were broken]"
TRUNCATION_MARK = " [...]"
MAX_DEPTH = 5
MAX_KEY_CHARS = 80
_OPENING = re.compile(r"\{(?=[{%#])|<(?=%)")
_CLOSING = re.compile(r"[}%#](?=\})|%(?=>)")
# Control characters, and those that change the direction of the text after them.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitize_text(text: Any, redactor: Redactor, max_chars: int) -> str:
    """Return `text` without secrets and without anything Jinja, YAQL or a terminal would act on.

    A template mark, such as two opening braces, gets a space between its characters, and NOTE is
    appended. Line breaks stay; every other control character becomes U+FFFD.

    :param max_chars: of the result, notes included.
    """
    text = redactor.redact_text(str(text)).replace("\r\n", "\n")
    # Invisible characters first: one between two braces would hide the mark.
    text = _INVISIBLE.sub("\ufffd", text)
    broken = break_template_marks(text)
    note = NOTE if broken != text else ""
    if len(broken) + len(note) > max_chars:
        note = TRUNCATION_MARK + note
        broken = broken[: max(0, max_chars - len(note))]
    return broken + note


def has_template_marks(text: str) -> bool:
    """Return whether a template begins anywhere in `text`; a closing mark alone does not count."""
    return _OPENING.search(text) is not None


def break_template_marks(text: str) -> str:
    """Return `text` with a space inside every mark that Jinja or YAQL would act on."""
    return _CLOSING.sub(r"\g<0> ", _OPENING.sub(r"\g<0> ", text))


def sanitize_line(text: Any, redactor: Redactor, max_chars: int) -> str:
    """Return `sanitize_text` of `text` on one line, fit for a subject or a header."""
    return sanitize_text(" ".join(str(text).split()), redactor, max_chars)


def sanitize_value(value: Any, redactor: Redactor, max_chars: int, depth: int = 0) -> Any:
    """Return a copy of a JSON value with every text and key sanitized, at most MAX_DEPTH deep.

    :param max_chars: of each text.
    """
    if isinstance(value, str):
        return sanitize_text(value, redactor, max_chars)
    if isinstance(value, (dict, list, tuple)):
        if depth >= MAX_DEPTH:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                sanitize_line(key, redactor, MAX_KEY_CHARS): sanitize_value(
                    item, redactor, max_chars, depth + 1
                )
                for key, item in redactor.redact_value(value).items()
            }
        return [sanitize_value(item, redactor, max_chars, depth + 1) for item in value]
    return value
