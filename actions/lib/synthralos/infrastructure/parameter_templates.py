"""Templates in the parameters of an action: which parameters become a part of which others.

StackStorm renders Jinja in the parameters of an execution and in the defaults that an action
declares, with the action's other parameters as variables. So a parameter can become a part of a
command line without being named like one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# StackStorm renders a text that contains one of the two.
_MARK = re.compile(r"\{[{%]")
# A variable, not an attribute of one: `host` is none in `config_context.host`.
_VARIABLE = re.compile(r"(?<![\w.])[A-Za-z_]\w*")


def has_templates(value: Any) -> bool:
    """Return whether a JSON value contains a template, so that its text says nothing of it."""
    return any(True for _ in _templates_in(value))


def variables_in(value: Any) -> set[str]:
    """Return the names that the templates in a JSON value may use as variables, and more."""
    return {name for text in _templates_in(value) for name in _VARIABLE.findall(text)}


def receivers_of(name: str, values: Mapping[str, Any]) -> set[str]:
    """Return the names of the values that `name` becomes a part of, directly or through others."""
    receivers: set[str] = set()
    added = {name}
    while added:
        added = {
            receiver for receiver, value in values.items()
            if not added.isdisjoint(variables_in(value))
        } - receivers
        receivers |= added
    return receivers


def _templates_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _MARK.search(value):
            yield value
        return
    items: Iterable[Any] = ()
    if isinstance(value, Mapping):
        items = [part for item in value.items() for part in item]
    elif isinstance(value, (list, tuple)):
        items = value
    for item in items:
        yield from _templates_in(item)
