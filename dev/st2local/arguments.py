"""Command-line parameters, `name=value`, cast as `st2 run` casts them."""
import ast
import json
import os

from st2local.errors import InvalidInput


def parse(words, action):
    """Return the parameters of a command line.

    :raises InvalidInput: for a value that cannot be cast.
    """
    specs, parameters = action.specs, {}
    for index, word in enumerate(words):
        if "=" not in word:
            # st2 takes the rest of the line for a command.
            parameters["cmd"] = " ".join(words[index:])
            break
        name, value = word.split("=", 1)
        if name.startswith("@"):
            name = name[1:]
            parameters[name] = _content(value)
            continue
        kind = (specs.get(name) or {}).get("type")
        try:
            cast = _CASTS.get(kind, str)(value)
        except (ValueError, SyntaxError) as error:
            raise InvalidInput(
                "%s: must be of type %s (got %r): %s" % (name, kind, value, error)
            ) from None
        if kind == "array" and name in parameters:
            cast = parameters[name] + cast
        parameters[name] = cast
    return parameters


def _content(path):
    if not os.path.isfile(path):
        raise InvalidInput('File "%s" doesn\'t exist' % path)
    with open(path, encoding="utf-8") as file:
        return file.read()


def _object(value):
    if value.startswith("{"):
        return json.loads(value)
    # As in st2, a value that is neither JSON nor pairs silently becomes an empty object.
    pairs = [part.split("=", 1) for part in value.split(",")]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _array(value):
    try:
        return [int(value)]
    except ValueError:
        pass
    try:
        return json.loads(value)
    except ValueError:
        return [part.strip() for part in value.split(",")]


def _boolean(value):
    try:
        return ast.literal_eval(value.capitalize())
    except (ValueError, SyntaxError):
        raise ValueError("valid values are true and false") from None


_CASTS = {
    "array": _array,
    "boolean": _boolean,
    "integer": int,
    "number": float,
    "object": _object,
}
