"""Text on its way out of the pack: to people's channels and to other StackStorm actions."""

import re

NOTE = " [template marks were broken]"
CUT = " [...]"
_OPENING = re.compile(r"\{(?=[{%#])|<(?=%)")
_CLOSING = re.compile(r"[}%#](?=\})|%(?=>)")
# Control characters, and those that turn the direction of what follows.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sanitize_text(text, redactor, longest):
    """`text` without secrets and without anything that Jinja, YAQL or a terminal would act on.

    A mark such as two opening braces gets a space between its characters, and NOTE says so at the
    end. Line breaks stay; every other control character becomes U+FFFD.

    :param longest: characters, notes included.
    """
    text = redactor.redact_text(str(text)).replace("\r\n", "\n")
    # First what is not seen: between two braces it would keep them from being found.
    text = _UNSEEN.sub("\ufffd", text)
    broken = break_template_marks(text)
    note = NOTE if broken != text else ""
    if len(broken) + len(note) > longest:
        note = CUT + note
        broken = broken[: max(0, longest - len(note))]
    return broken + note


def has_template_marks(text):
    """Whether a template begins somewhere in `text`; what only closes one is no template."""
    return _OPENING.search(text) is not None


def break_template_marks(text):
    """`text` with a space in every mark that Jinja or YAQL would act on."""
    return _CLOSING.sub(r"\g<0> ", _OPENING.sub(r"\g<0> ", text))


def sanitize_line(text, redactor, longest):
    """As `sanitize_text`, on one line: fit for a subject or a header."""
    return sanitize_text(" ".join(str(text).split()), redactor, longest)


def sanitize_value(value, redactor, longest, depth=0):
    """A copy of a JSON value whose texts, keys too, are harmless; nested at most 5 deep."""
    if isinstance(value, str):
        return sanitize_text(value, redactor, longest)
    if isinstance(value, (dict, list, tuple)):
        if depth >= 5:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                sanitize_line(key, redactor, 80): sanitize_value(item, redactor, longest, depth + 1)
                for key, item in redactor.redact_value(value).items()
            }
        return [sanitize_value(item, redactor, longest, depth + 1) for item in value]
    return value
