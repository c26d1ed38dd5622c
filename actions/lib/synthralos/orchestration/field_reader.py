"""Reads the fields of an object that a person wrote, in either spelling, with precise errors.

A field is snake_case or camelCase; both spellings of the same field are an error. Times are seconds
in snake_case and milliseconds in camelCase, as in the guide. `timeout` is spelled the same in both:
see `Fields.seconds`.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Callable, Optional, TypeVar, Union

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

CAMEL, SNAKE = "camelCase", "snake_case"
MAX_NAME_CHARS = 128
MAX_TEXT_CHARS = 100_000
MAX_ITEMS = 100
# Names exclude everything that could be read as a template, a tag or a quoted path.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/@+&,()#-]*[A-Za-z0-9._:/@+&)#-])?\Z")
# {field: its other names, in snake_case}
Allowed = Mapping[str, Iterable[str]]
T = TypeVar("T")


def is_title(value: object) -> bool:
    """Return whether `value` can be the name of a role, an orchestration, a step or a group."""
    return (
        isinstance(value, str) and len(value) <= MAX_NAME_CHARS and _NAME.match(value) is not None
    )


def require_title(path: str, value: object) -> str:
    """Return `value` if it is such a name; raise InvalidInput if it is not."""
    if isinstance(value, str) and is_title(value):
        return value
    raise InvalidInput(
        path,
        value,
        "is missing" if value is None else "is not a name",
        "Names are 1 to 128 of A-Z a-z 0-9 space . _ : / @ + & , ( ) # - and start with a letter "
        "or a digit",
    )


def style(raw: Iterable[object]) -> Optional[str]:
    """Return the spelling of the names in `raw`: CAMEL, SNAKE, or None if it is undecided."""
    names = [name for name in raw if isinstance(name, str)]
    if any(re.search(r"[a-z][A-Z]", name) for name in names):
        return CAMEL
    return SNAKE if any("_" in name for name in names) else None


def style_of_all(items: Iterable[object]) -> Optional[str]:
    """Return the style that all mappings in a list share, or None."""
    styles = {style(item) for item in items if isinstance(item, dict)} - {None}
    return styles.pop() if len(styles) == 1 else None


class Fields:
    """The fields of one object.

    :param raw: the mapping that a person wrote.
    :param base_path: its dotted path, for error messages.
    :param ignored: names that may be present and are dropped.
    :param parent_style: the style of the object around it, used if its own is undecided.
    :ivar style: CAMEL, SNAKE or None.
    :ivar blank: the fields that are null.
    """

    def __init__(
        self,
        raw: object,
        base_path: str,
        allowed: Allowed,
        ignored: Collection[str] = (),
        parent_style: Optional[str] = None,
    ) -> None:
        self.base_path = base_path
        values = _mapping(base_path, raw)
        self.style = style(values) or parent_style
        self._values: dict[str, Any] = {}
        self._spelled: dict[str, str] = {}
        # Fields set to null: in an update they reset a field to its default.
        self.blank: list[str] = []
        spellings: dict[str, str] = {}
        for field, aliases in allowed.items():
            for name in (field,) + tuple(aliases):
                spellings[name] = spellings[_camel(name)] = field
        for name, value in values.items():
            if name in ignored:
                continue
            spelled_field = spellings.get(name)
            if spelled_field is None:
                raise _unknown(base_path, name, list(spellings))
            # null is the same as a missing field.
            if value is None:
                self.blank.append(spelled_field)
                continue
            if spelled_field in self._values:
                hint = "Use %s or %s, not both" % (self._spelled[spelled_field], name)
                raise InvalidInput(self.path(name), value, "is a duplicate", hint)
            self._values[spelled_field], self._spelled[spelled_field] = value, name

    def path(self, name: str) -> str:
        """Return the dotted path of the field, as it was spelled."""
        return "%s.%s" % (self.base_path, self._spelled.get(name, name))

    def has(self, name: str) -> bool:
        return name in self._values

    def value(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def names(self) -> list[str]:
        return list(self._values)

    def title(self, name: str) -> str:
        return require_title(self.path(name), self.value(name))

    def optional_title(self, name: str) -> Optional[str]:
        value = self.value(name)
        return None if value is None else require_title(self.path(name), value)

    def text(
        self, name: str, default: Optional[str] = None, max_length: int = MAX_TEXT_CHARS
    ) -> Optional[str]:
        """Return text of at most `max_length` characters; blank text counts as missing."""
        value = self.value(name)
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            return default
        if not isinstance(value, str) or len(value) > max_length:
            hint = "Use text of at most %d characters" % max_length
            raise InvalidInput(self.path(name), value, "is not text, or is too long", hint)
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise InvalidInput(
                self.path(name), value, "is neither true nor false", "Use true or false"
            )
        return value

    def integer(self, name: str, default: T, minimum: int, maximum: int) -> Union[int, T]:
        value = self.value(name, default)
        if value is None:
            return default
        # Some serializers write 3 as 3.0; JSON does not distinguish them.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            hint = "Use a whole number from %d to %d" % (minimum, maximum)
            raise InvalidInput(self.path(name), value, "is out of range", hint)
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self.value(name, default)
        if not _is_number(value) or not minimum <= value <= maximum:
            hint = "Use a number from %s to %s" % (_plain(minimum), _plain(maximum))
            raise InvalidInput(self.path(name), value, "is out of range", hint)
        number: float = value
        return number

    def choice(self, name: str, default: T, choices: Collection[str]) -> Union[str, T]:
        value: Union[str, T] = self.value(name, default)
        if value is not None and value not in choices:
            raise InvalidInput(
                self.path(name),
                value,
                "is not an allowed value",
                "Use one of " + ", ".join(choices),
            )
        return value

    def list_of(
        self, name: str, check: Callable[[str, Any], T], max_items: int = MAX_ITEMS
    ) -> list[T]:
        """Return the list under `name`, each item as `check(path, item)` returns it.

        A missing list is [].
        """
        value = self.value(name, [])
        if not isinstance(value, list):
            raise InvalidInput(self.path(name), value, "must be a list", "Write it as [...]")
        if len(value) > max_items:
            hint = "At most %d are allowed" % max_items
            raise InvalidInput(self.path(name), None, "has %d items" % len(value), hint)
        return [check("%s[%d]" % (self.path(name), n), item) for n, item in enumerate(value)]

    def unique_list(
        self, name: str, check: Callable[[str, Any], T], max_items: int = MAX_ITEMS
    ) -> list[T]:
        """Like `list_of`, without duplicates, in the order of their first places."""
        return list(dict.fromkeys(self.list_of(name, check, max_items)))

    def mapping(self, name: str) -> Optional[dict[str, Any]]:
        """Return the object under `name`, a JSON value of bounded depth."""
        value = self.value(name)
        if value is None:
            return None
        return shallow(self.path(name), _mapping(self.path(name), value))

    def seconds(self, name: str, default: float, minimum: float, maximum: float) -> float:
        """Return a time in seconds; a whole number stays an integer.

        A field in camelCase is in milliseconds. A field that is spelled the same in both styles
        (`timeout`) follows the style of its object, then of the object around it; if that is
        undecided, a number above `maximum` must be milliseconds.
        """
        value = self.value(name)
        if value is None:
            return default
        spelled = self._spelled[name]
        naming_style = style([spelled]) or self.style
        hint = "Use a number of seconds from %s to %s" % (_plain(minimum), _plain(maximum))
        if naming_style == CAMEL:
            hint = "Use milliseconds from %s to %s, since the object is in camelCase; or %s" % (
                _plain(minimum * 1000), _plain(maximum * 1000), "write the object in snake_case"
            )
        milliseconds = naming_style == CAMEL or (
            naming_style is None and _is_number(value) and value > maximum
        )
        is_valid = _is_number(value)
        if is_valid and milliseconds:
            value = value / 1000
        if not is_valid or not minimum <= value <= maximum:
            raise InvalidInput(self.path(name), self.value(name), "is out of range", hint)
        return int(value) if value == int(value) else value

    def reject(self, names: Iterable[str], reason: str, hint: str) -> None:
        """Raise InvalidInput if one of `names` is present."""
        for name in names:
            if name in self._values:
                raise InvalidInput(self.path(name), self._values[name], reason, hint)


def text_item(path: str, value: object, max_length: int = MAX_TEXT_CHARS) -> str:
    """Return `value` if it is text that is not blank; raise InvalidInput if it is not."""
    if not isinstance(value, str) or not value.strip() or len(value) > max_length:
        raise InvalidInput(path, value, "is not text, is blank or is too long", "Write it as text")
    return value


def shallow(path: str, value: T, max_depth: int = 20) -> T:
    """Return `value` if it is not nested too deeply for a datastore and a result.

    :raises InvalidInput: it is nested more than `max_depth` levels deep.
    """
    if bounded_json.exceeds_depth(value, max_depth):
        raise InvalidInput(
            path, None, "is nested too deeply", "Keep it within %d levels" % max_depth
        )
    return value


def _mapping(path: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(path, value, "must be an object", "Write it as {...}")
    return value


def _unknown(path: str, name: object, spellings: list[str]) -> InvalidInput:
    import difflib

    near = difflib.get_close_matches(str(name), spellings, 1, 0.6)
    snake_names = sorted(spelling for spelling in spellings if spelling == spelling.lower())
    hint = "Did you mean %s" % near[0] if near else "Allowed fields: " + ", ".join(snake_names)
    return InvalidInput("%s.%s" % (path, name), None, "is not an allowed field", hint)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def _is_number(value: Any) -> bool:
    # No bound here is larger, and comparing such an integer with a float may raise.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and (isinstance(value, float) or abs(value) < 2**63) and math.isfinite(value)


def _plain(number: float) -> str:
    return "%d" % number if number == int(number) else "%s" % number
