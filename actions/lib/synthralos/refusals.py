"""The one exception for bad input: it names the field, the value and the way out."""

SHOWN = 120


class Refused(ValueError):
    """Input that cannot be worked with.

    :param field: the parameter or config entry, dotted (`original_request.model`).
    :param value: what was there; shown shortened.
    :param why: what is wrong with it, without a full stop.
    :param way_out: what to do instead, as a sentence without a full stop.
    """

    def __init__(self, field, value, why, way_out):
        self.field, self.value, self.why, self.way_out = field, value, why, way_out
        named = field if value is None else "%s %s" % (field, shown(value))
        super().__init__("%s: %s. %s." % (named, why, way_out))

    def as_error(self):
        return {
            "cause": "refused",
            "message": str(self),
            "field": self.field,
            "value": None if self.value is None else shown(self.value),
            "hint": self.way_out,
        }


def shown(value):
    """`value` as a person may read it: `repr`, at most SHOWN characters."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
