"""The one exception for bad input: it names the field, the value and the way out."""

MAX_CHARS_SHOWN = 120


class InvalidInput(ValueError):
    """Input that cannot be worked with.

    :param field: the parameter or config entry, dotted (`original_request.model`).
    :param value: what was there; shown shortened.
    :param why: what is wrong with it, without a full stop.
    :param way_out: what to do instead, as a sentence without a full stop.
    """

    def __init__(self, field, value, why, way_out):
        self.field, self.value, self.reason, self.hint = field, value, why, way_out
        named = field if value is None else "%s %s" % (field, shorten_repr(value))
        super().__init__("%s: %s. %s." % (named, why, way_out))

    def as_error(self):
        return {
            "cause": "refused",
            "message": str(self),
            "field": self.field,
            "value": None if self.value is None else shorten_repr(self.value),
            "hint": self.hint,
        }


def shorten_repr(value):
    """`value` as a person may read it: `repr`, at most SHOWN characters."""
    text = repr(value)
    return text if len(text) <= MAX_CHARS_SHOWN else text[: MAX_CHARS_SHOWN - 3] + "..."
