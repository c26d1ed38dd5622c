"""What people gave for one object, read field by field: both spellings, refusals that say where.

A field is snake_case or camelCase; the same one in both is refused. Times are seconds in snake_case
and milliseconds in camelCase, as the guide has them. `timeout` looks alike in both: see `seconds`.
"""

import math
import re

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

CAMEL, SNAKE = "camelCase", "snake_case"
MAX_NAME_CHARS = 128
MAX_TEXT_CHARS = 100_000
MAX_ITEMS = 100
# What would be a template, a tag or a quoted path somewhere is left out of names.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/@+&,()#-]*[A-Za-z0-9._:/@+&)#-])?\Z")
_MISSING = object()


def is_title(value):
    """Whether `value` may name a role, an orchestration, a step or a group."""
    return (
        isinstance(value, str) and len(value) <= MAX_NAME_CHARS and _NAME.match(value) is not None
    )


def titled(where, value):
    """`value` when it may be such a name, else InvalidInput."""
    if is_title(value):
        return value
    raise InvalidInput(
        where,
        value,
        "is missing" if value is None else "is not a name",
        "Names are 1 to 128 of A-Z a-z 0-9 space . _ : / @ + & , ( ) # - and start with a letter "
        "or a digit",
    )


def style(given):
    """How names are written: CAMEL, SNAKE, or None when they are neither."""
    names = [name for name in given if isinstance(name, str)]
    if any(re.search(r"[a-z][A-Z]", name) for name in names):
        return CAMEL
    return SNAKE if any("_" in name for name in names) else None


def style_of_all(items):
    """The style that the mappings in a list have, or None when it is none or both."""
    found = {style(item) for item in items if isinstance(item, dict)} - {None}
    return found.pop() if len(found) == 1 else None


class Fields:
    """:param given: the mapping that people gave.
    :param where: what it is called in refusals, dotted.
    :param known: {our name: further names that it may have, in snake_case}.
    :param ignored: names that may be there and are not kept.
    :param around: the style of what `given` stands in, for when its own tells nothing.
    """

    def __init__(self, given, where, known, ignored=(), around=None):
        self.where = where
        given = _mapping(where, given)
        self.style = style(given) or around
        self._values, self._spelled = {}, {}
        # What was given as null: an update means by it that the default is to hold again.
        self.blank = []
        spellings = {}
        for ours, others in known.items():
            for name in (ours,) + tuple(others):
                spellings[name] = spellings[_camel(name)] = ours
        for name, value in given.items():
            if name in ignored:
                continue
            ours = spellings.get(name)
            if ours is None:
                raise _unknown(where, name, list(spellings))
            # What is null was not given.
            if value is None:
                self.blank.append(ours)
                continue
            if ours in self._values:
                way_out = "Give %s or %s, not both" % (self._spelled[ours], name)
                raise InvalidInput(self.at(name), value, "is given twice", way_out)
            self._values[ours], self._spelled[ours] = value, name

    def at(self, name):
        """The dotted place of the field, as it was spelled."""
        return "%s.%s" % (self.where, self._spelled.get(name, name))

    def has(self, name):
        return name in self._values

    def value(self, name, default=None):
        return self._values.get(name, default)

    def names(self):
        return list(self._values)

    def title(self, name, default=_MISSING):
        value = self.value(name, None if default is _MISSING else default)
        if value is None and default is None:
            return None
        return titled(self.at(name), value)

    def text(self, name, default=None, longest=MAX_TEXT_CHARS):
        """Text of at most `longest` characters; what is blank was not given."""
        value = self.value(name)
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            return default
        if not isinstance(value, str) or len(value) > longest:
            way_out = "Give text of at most %d characters" % longest
            raise InvalidInput(self.at(name), value, "is no text or too long", way_out)
        return value

    def boolean(self, name, default):
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise InvalidInput(
                self.at(name), value, "is neither true nor false", "Give true or false"
            )
        return value

    def integer(self, name, default, least, most):
        value = self.value(name, default)
        if value is None:
            return None
        # 3.0 is how some write 3; JSON does not tell them apart.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            way_out = "Give a whole number from %d to %d" % (least, most)
            raise InvalidInput(self.at(name), value, "is no such number", way_out)
        return value

    def number(self, name, default, least, most):
        value = self.value(name, default)
        if not _is_number(value) or not least <= value <= most:
            way_out = "Give a number from %s to %s" % (_plain(least), _plain(most))
            raise InvalidInput(self.at(name), value, "is no such number", way_out)
        return value

    def choice(self, name, default, choices):
        value = self.value(name, default)
        if value is not None and value not in choices:
            raise InvalidInput(
                self.at(name), value, "is not known", "Use one of " + ", ".join(choices)
            )
        return value

    def list_of(self, name, check, most=MAX_ITEMS):
        """The list under `name`, each item through `check(where, item)`; [] when not given."""
        value = self.value(name, [])
        if not isinstance(value, list):
            raise InvalidInput(self.at(name), value, "is no list", "Write it as [...]")
        if len(value) > most:
            way_out = "At most %d may stand there" % most
            raise InvalidInput(self.at(name), None, "has %d items" % len(value), way_out)
        return [check("%s[%d]" % (self.at(name), n), item) for n, item in enumerate(value)]

    def unique_list(self, name, check, most=MAX_ITEMS):
        """`listed`, each item once, in the order of its first place."""
        return list(dict.fromkeys(self.list_of(name, check, most)))

    def mapping(self, name, default=None):
        """The object under `name`, a JSON value of bounded depth."""
        value = self.value(name)
        return default if value is None else shallow(self.at(name), _mapping(self.at(name), value))

    def seconds(self, name, default, least, most):
        """Seconds; a whole number stays one.

        Milliseconds when the field is in camelCase. A field that looks alike in both spellings
        (`timeout`) follows the style of its object, then of what it stands in; where nothing
        tells, a number above `most` can only be milliseconds.
        """
        value = self.value(name)
        if value is None:
            return default
        spelled = self._spelled[name]
        told = style([spelled]) or self.style
        way_out = "Give a number of seconds from %s to %s" % (_plain(least), _plain(most))
        if told == CAMEL:
            way_out = "Give milliseconds from %s to %s, as all of camelCase is; or %s" % (
                _plain(least * 1000), _plain(most * 1000), "write the object in snake_case"
            )
        milliseconds = told == CAMEL or (told is None and _is_number(value) and value > most)
        good = _is_number(value)
        if good and milliseconds:
            value = value / 1000
        if not good or not least <= value <= most:
            raise InvalidInput(self.at(name), self.value(name), "is out of bounds", way_out)
        return int(value) if value == int(value) else value

    def reject(self, names, why, way_out):
        """InvalidInput when one of `names` was given."""
        for name in names:
            if name in self._values:
                raise InvalidInput(self.at(name), self._values[name], why, way_out)


def text_item(where, value, longest=MAX_TEXT_CHARS):
    """`value` when it is text that is not blank, else InvalidInput."""
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise InvalidInput(where, value, "is no text, blank or too long", "Give it as text")
    return value


def shallow(where, value, deepest=20):
    """`value` when it is nested no deeper than a datastore and a result can hold, else InvalidInput."""
    if bounded_json.exceeds_depth(value, deepest):
        raise InvalidInput(
            where, None, "is nested too deeply", "Keep it within %d levels" % deepest
        )
    return value


def _mapping(where, value):
    if not isinstance(value, dict):
        raise InvalidInput(where, value, "is not an object", "Write it as {...}")
    return value


def _unknown(where, name, spellings):
    import difflib

    near = difflib.get_close_matches(str(name), spellings, 1, 0.6)
    known = sorted(known for known in spellings if known == known.lower())
    way_out = "Did you mean %s" % near[0] if near else "Known are " + ", ".join(known)
    return InvalidInput("%s.%s" % (where, name), None, "is not known here", way_out)


def _camel(name):
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def _is_number(value):
    # Beyond that no bound here reaches, and a comparison of such an integer with a float raises.
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return good and (isinstance(value, float) or abs(value) < 2**63) and math.isfinite(value)


def _plain(number):
    return "%d" % number if number == int(number) else "%s" % number
