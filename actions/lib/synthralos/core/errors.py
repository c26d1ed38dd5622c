"""The one exception for bad input: it names the field, the value, the reason and a hint."""

from typing import Any, TypedDict

MAX_CHARS_SHOWN = 120


class ErrorFields(TypedDict):
    """An InvalidInput as a result has it; `value` is shortened, null where none was given."""

    cause: str
    message: str
    field: str
    value: Any
    hint: str


class InvalidInput(ValueError):
    """Input that cannot be used.

    :param field: the parameter or configuration entry, dotted (`original_request.model`).
    :param value: the value that was passed, shown shortened; None hides it.
    :param reason: what is wrong with it, without a full stop.
    :param hint: what to do instead, as a sentence without a full stop.
    """

    def __init__(self, field: str, value: Any, reason: str, hint: str) -> None:
        self.field, self.value, self.reason, self.hint = field, value, reason, hint
        subject = field if value is None else "%s %s" % (field, shorten_repr(value))
        super().__init__("%s: %s. %s." % (subject, reason, hint))

    def as_error(self) -> ErrorFields:
        """Return the error as a JSON value."""
        return {
            "cause": "refused",
            "message": str(self),
            "field": self.field,
            "value": None if self.value is None else shorten_repr(self.value),
            "hint": self.hint,
        }


def shorten_repr(value: Any) -> str:
    """Return `repr(value)`, shortened to MAX_CHARS_SHOWN characters."""
    text = repr(value)
    return text if len(text) <= MAX_CHARS_SHOWN else text[: MAX_CHARS_SHOWN - 3] + "..."
