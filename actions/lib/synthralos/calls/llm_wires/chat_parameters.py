"""The parameters of a chat request: their names, and how their values are checked."""

from typing import Any, Callable, NamedTuple, Optional

from synthralos.calls.llm_wires.chat_messages import require_function_name
from synthralos.core.errors import InvalidInput
from synthralos.core.lazy_pattern import LazyPattern

# Of one limit: the first is OpenAI's older name, which most servers know; the last is Responses'.
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
TOOL_CHOICES = ("none", "auto", "required")
_NOT_SUPPORTED = {
    "stream": "Streaming is not used; leave it out",
    "n": "Only a single answer is requested; leave it out",
    "functions": "Give them as tools",
    "function_call": "Give it as tool_choice",
}
_BESIDE = ("model", "provider", "messages", "prompt", "system")
_CAMEL = LazyPattern(r"(?<=[a-z0-9])([A-Z])")


class _Rule(NamedTuple):
    """Whether a value is valid, and what to write instead."""

    accepts: Callable[[Any], bool]
    hint: str


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(minimum: float, maximum: float) -> _Rule:
    return _Rule(
        lambda value: _is_number(value) and minimum <= value <= maximum,
        "Give a number from %g to %g" % (minimum, maximum),
    )


def _integer(minimum: int, maximum: int = 2**63 - 1) -> _Rule:
    hint = "Give a whole number of at least %d" % minimum
    if maximum < 2**63 - 1:
        hint = "Give a whole number from %d to %d" % (minimum, maximum)
    return _Rule(lambda value: _is_int(value) and minimum <= value <= maximum, hint)


def _choice(*values: str) -> _Rule:
    return _Rule(lambda value: value in values, "Use one of " + ", ".join(values))


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _is_map(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(accepts, value.values()))


_TEXT = _Rule(lambda value: isinstance(value, str) and bool(value), "Give it as text")
_BOOLEAN = _Rule(lambda value: isinstance(value, bool), "Use true or false")
_THINKING = ("enabled", "disabled", "adaptive")
_RULES: dict[str, _Rule] = {
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _Rule(
        _is_map(lambda value: _is_int(value) and -100 <= value <= 100),
        "Give an object of whole numbers from -100 to 100",
    ),
    "logprobs": _BOOLEAN,
    "max_completion_tokens": _integer(1),
    "max_output_tokens": _integer(1),
    "max_tokens": _integer(1),
    "metadata": _Rule(
        _is_map(lambda value: isinstance(value, str)), "Give an object whose values are texts"
    ),
    "parallel_tool_calls": _BOOLEAN,
    "presence_penalty": _number(-2, 2),
    "prompt_cache_key": _TEXT,
    "reasoning_effort": _choice(*EFFORTS),
    "safety_identifier": _TEXT,
    "seed": _integer(-(2**63)),
    "service_tier": _choice("auto", "default", "flex", "scale", "priority"),
    "stop": _Rule(_is_stop, "Give a text or a list of texts"),
    "store": _BOOLEAN,
    "temperature": _number(0, 2),
    "thinking": _Rule(
        lambda value: isinstance(value, dict) and value.get("type") in _THINKING and
        _is_int(value.get("budget_tokens", 1)) and value.get("budget_tokens", 1) > 0 and
        set(value) <= {"type", "budget_tokens"},
        'Write {"type": "enabled", "budget_tokens": 4096}; type may be disabled or adaptive',
    ),
    "top_k": _integer(1, 2**31 - 1),
    "top_logprobs": _integer(0, 20),
    "top_p": _number(0, 1),
    "user": _TEXT,
    "verbosity": _choice("low", "medium", "high"),
}
ALLOWED = frozenset(_RULES) | {"tools", "tool_choice", "response_format"} | set(_NOT_SUPPORTED)


def snake_case(name: Any) -> str:
    """Return the name of a parameter in snake_case."""
    return _CAMEL.sub(lambda match: "_" + match.group(1).lower(), str(name))


def parse(
    beside: dict[str, Any],
    raw_parameters: Any,
    providers: tuple[str, ...],
    request_path: str,
    path: str,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return (parameters, extras): those of `parameters` and those beside it, by snake_case names.

    camelCase is accepted, both at once are not; null counts as left out.

    :param providers: names under which `parameters` may have fields for one provider only.
    :raises InvalidInput: a parameter is a duplicate, unknown or not valid; names it.
    """
    if raw_parameters is None:
        raw_parameters = {}
    if not isinstance(raw_parameters, dict):
        raise InvalidInput(
            path, raw_parameters, "is not an object", 'Write it as {"temperature": 0.2}'
        )
    parameters: dict[str, Any] = {}
    extras: dict[str, dict[str, Any]] = {}
    sources = [(request_path, beside), (path, raw_parameters)]
    for prefix, name, value in [
        (prefix, name, value) for prefix, source in sources for name, value in source.items()
    ]:
        field = "%s.%s" % (prefix, name)
        if name in providers and snake_case(name) not in ALLOWED:
            extras[name] = _extras(value, field)
            continue
        snake = snake_case(name)
        if snake in parameters:
            raise InvalidInput(field, value, "is a duplicate", "Give %s once" % snake)
        if value is not None:
            parameters[snake] = _value(snake, value, field)
    _check_limits(parameters, path)
    _check_tools(parameters, path)
    # What asks for nothing.
    return {name: value for name, value in parameters.items() if value is not None}, extras


def _value(name: str, value: Any, field: str) -> Any:
    if name in _NOT_SUPPORTED:
        if value is False or (name == "n" and value == 1):
            return None
        raise InvalidInput(field, value, "is not supported", _NOT_SUPPORTED[name])
    if name in _BESIDE:
        raise InvalidInput(field, value, "does not belong here", "Give it beside parameters")
    if name == "tools":
        return _tools(value, field)
    if name == "tool_choice":
        return _tool_choice(value, field)
    if name == "response_format":
        return _response_format(value, field)
    rule = _RULES.get(name)
    if rule is None:
        hint = "Give what only one provider knows under the name of that provider, as " \
            '"parameters": {"<provider>": {"%s": ...}}' % name
        raise InvalidInput(field, value, "is not a parameter of a chat request", hint)
    if not rule.accepts(value):
        raise InvalidInput(field, value, "is not valid", rule.hint)
    return value


def _extras(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(
            field, value, "is not an object", "Give the fields that only this provider gets"
        )
    return value


def _check_limits(parameters: dict[str, Any], path: str) -> None:
    limits = [name for name in TOKEN_LIMITS if name in parameters]
    if len(limits) > 1:
        raise InvalidInput(
            "%s.%s" % (path, limits[1]), parameters[limits[1]],
            "is the same limit as %s" % limits[0], "Give one of them",
        )


def _check_tools(parameters: dict[str, Any], path: str) -> None:
    """Check the choice of tools against the tools; drop what says nothing without tools."""
    tools, choice = parameters.get("tools"), parameters.get("tool_choice")
    names = [tool["function"]["name"] for tool in tools or []]
    is_forced = isinstance(choice, dict) or choice == "required"
    if is_forced and not names:
        raise InvalidInput(
            path + ".tool_choice", choice, "needs tools", "Give tools, or leave tool_choice out"
        )
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        raise InvalidInput(
            path + ".tool_choice.function.name", choice["function"]["name"],
            "is not the name of a tool", "The tools are " + ", ".join(names),
        )
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        if not names:
            parameters.pop(name, None)


def _tools(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InvalidInput(field, value, "is not a list", "Give a list of tools")
    tools = [_tool(tool, "%s[%d]" % (field, index)) for index, tool in enumerate(value)]
    names = [tool["function"]["name"] for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidInput(
                "%s[%d].function.name" % (field, index), name, "is a duplicate",
                "Names of tools must be unique",
            )
    return tools


def _tool(raw: Any, field: str) -> dict[str, Any]:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or raw.get("type") != "function" or not isinstance(function, dict):
        hint = 'Write {"type": "function", "function": {"name", "description", "parameters"}}'
        raise InvalidInput(field, raw, "is not a function", hint)
    result: dict[str, Any] = {
        "name": require_function_name(function.get("name"), field + ".function.name")
    }
    types: dict[str, type] = {"description": str, "parameters": dict, "strict": bool}
    for name, kind in types.items():
        value = function.get(name)
        if value is None:
            continue
        if not isinstance(value, kind):
            raise InvalidInput(
                "%s.function.%s" % (field, name), value, "is not valid",
                "Give %s" % {str: "a text", dict: "a JSON schema", bool: "true or false"}[kind],
            )
        result[name] = value
    unknown: Optional[str] = next((name for name in function if name not in (
        "name", "description", "parameters", "strict")), None)
    if unknown is not None:
        raise InvalidInput(
            "%s.function.%s" % (field, unknown), function[unknown], "is not a known field",
            "The fields are name, description, parameters, strict",
        )
    return {"type": "function", "function": result}


def _tool_choice(value: Any, field: str) -> Any:
    if value in TOOL_CHOICES:
        return value
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(function, dict) and value.get("type") == "function":
        name = require_function_name(function.get("name"), field + ".function.name")
        return {"type": "function", "function": {"name": name}}
    raise InvalidInput(
        field, value, "is not valid",
        'Use none, auto, required or {"type": "function", "function": {"name": "..."}}',
    )


def _response_format(value: Any, field: str) -> Optional[dict[str, Any]]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind != "json_schema":
        raise InvalidInput(
            field + ".type", kind, "is not valid", "Use text, json_object or json_schema"
        )
    description = value.get("json_schema")
    if not isinstance(description, dict) or not isinstance(description.get("schema"), dict):
        raise InvalidInput(
            field + ".json_schema", description, "has no schema",
            'Write {"name": "answer", "schema": {...}}',
        )
    fields: dict[str, Any] = {
        "name": require_function_name(
            description.get("name", "answer"), field + ".json_schema.name"
        ),
        "schema": description["schema"],
    }
    for name, accepted in (("description", str), ("strict", bool)):
        if description.get(name) is not None:
            if not isinstance(description[name], accepted):
                raise InvalidInput(
                    "%s.json_schema.%s" % (field, name), description[name], "is not valid",
                    "Give a text" if accepted is str else "Use true or false",
                )
            fields[name] = description[name]
    return {"type": "json_schema", "json_schema": fields}
