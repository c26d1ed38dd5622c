"""A definition as an action is given it: an object, JSON text, or single fields."""

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

_WAY_OUT = "Give %s as an object, or definition as JSON, as base64:... where it has templates"


def read_definition(given, name, fields=()):
    """The object under `name`, or in the JSON text under `definition`; `fields` that were given
    beside it are over its own. {} when nothing was given. InvalidInput when both, or no JSON.
    """
    told, worded = given.get(name) or {}, given.get("definition")
    if worded is not None and worded != "":
        if told:
            raise InvalidInput("definition", None, "is given beside %s" % name, "Give one of them")
        told = _read(worded, name)
    found = dict(told)
    found.update((field, given[field]) for field in fields if given.get(field) is not None)
    return found


def require_name(given, alias=None):
    """The name or id that was given. InvalidInput when it is missing, or given twice.

    :param alias: the parameter that says the same, as the orchestration guide calls it.
    """
    name = given.get("name")
    if alias is not None and given.get(alias) is not None:
        if name is not None:
            raise InvalidInput(alias, given[alias], "is given beside name", "Give one of them")
        name = given[alias]
    if not isinstance(name, str) or not name.strip():
        raise InvalidInput("name", name, "is missing", "Give a name or an id")
    return name


def _read(text, name):
    try:
        told = bounded_json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            "definition", text, "is no JSON (%s)" % error, _WAY_OUT % name
        ) from error
    if not isinstance(told, dict):
        raise InvalidInput("definition", text, "is no JSON object", _WAY_OUT % name)
    return told
