"""The questions of a graph, as text for people, and their answers, in the form that it takes.

An interrupt's value may be anything. Two forms are known, those of LangChain's
HumanInTheLoopMiddleware: one interrupt for several tool calls, and one for each.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from synthralos.calls import output_schema
from synthralos.core import json_extract
from synthralos.core.errors import InvalidInput

YES, NO = "yes", "no"
# What a person who refuses a tool call tells the agent.
REFUSAL = "A person refused this tool call."
# Keywords of a JSON schema: those with schemas under names of their own, and those with data.
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "definitions", "$defs")
_DATA = ("enum", "default", "examples")


@dataclass(frozen=True)
class Interrupt:
    """A question that is open on a thread.

    :ivar id: the server's, or an empty text.
    :ivar value: what the graph gave it.
    :ivar response_schema: a JSON schema of the answer, or None where any is taken.
    """

    id: str
    value: Any
    response_schema: Optional[dict[str, Any]] = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Interrupt":
        """Return the Interrupt that a server's `data` is."""
        schema = data.get("response_schema")
        return cls(
            str(data.get("id") or ""), data.get("value"),
            schema if isinstance(schema, dict) else None,
        )


def question_text(value: Any) -> str:
    """Return the value of an interrupt as a text for people."""
    if isinstance(value, str):
        return value
    if _is_review(value):
        return "May these tools be called? " + "; ".join(map(_call_text, value["action_requests"]))
    if _is_tool_approval(value):
        return "May this tool be called? " + _call_text(value)
    if isinstance(value, dict) and isinstance(value.get("question"), str):
        return str(value["question"])
    return json.dumps(value, ensure_ascii=False)


def resume_value(interrupt: Interrupt, answer: str) -> Any:
    """Return what the graph gets as the answer to an interrupt.

    :param answer: a person's: `yes`, `no` or a text. To a tool call that has to be approved, a text
        is the reason why it is not, unless the tool only asks people.
    """
    value = interrupt.value
    if _is_review(value):
        decisions = _allowed_decisions(value)
        allowed = [decisions.get(_name(request)) for request in value["action_requests"]]
        return {"decisions": [_decision(answer, names) for names in allowed]}
    if _is_tool_approval(value):
        return _first_valid(_decisions(answer), interrupt.response_schema)
    return _first_valid(_readings(answer), interrupt.response_schema)


def _is_review(value: Any) -> bool:
    requests = value.get("action_requests") if isinstance(value, dict) else None
    return isinstance(requests, list) and bool(requests)


def _is_tool_approval(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "tool_approval"


def _name(request: Any) -> str:
    return str(request.get("name")) if isinstance(request, dict) else ""


def _allowed_decisions(review: Mapping[str, Any]) -> dict[str, list[Any]]:
    configs = review.get("review_configs")
    return {
        str(config.get("action_name")): config["allowed_decisions"]
        for config in (configs if isinstance(configs, list) else ())
        if isinstance(config, dict) and isinstance(config.get("allowed_decisions"), list)
    }


def _decisions(answer: str) -> Iterator[dict[str, Any]]:
    """Yield the decisions that an answer may mean, the likeliest first."""
    if answer == YES:
        yield {"type": "approve"}
    else:
        yield {"type": "reject", "message": REFUSAL if answer == NO else answer}
    yield {"type": "respond", "message": answer}


def _decision(answer: str, allowed: Optional[list[Any]]) -> dict[str, Any]:
    """Return the first of these decisions that is allowed; None allows all of them."""
    decisions = list(_decisions(answer))
    if allowed is None:
        return decisions[0]
    return next((item for item in decisions if item["type"] in allowed), decisions[0])


def _readings(answer: str) -> Iterator[Any]:
    """Yield what an answer may mean, the likeliest first: also the JSON that is in it."""
    yield answer
    if answer in (YES, NO):
        yield answer == YES
    yield from json_extract.find_values(answer)


def _first_valid(candidates: Iterator[Any], schema: Optional[dict[str, Any]]) -> Any:
    """Return the first candidate that matches the schema, or the first one."""
    values = list(candidates)
    if schema is None:
        return values[0]
    try:
        # It is the agent's: it may refer to any address.
        output_schema.require_valid_schema(schema, "response_schema")
    except InvalidInput:
        return values[0]
    import jsonschema

    validator = jsonschema.Draft4Validator(_as_draft_4(schema))
    return next((value for value in values if validator.is_valid(value)), values[0])


def _as_draft_4(schema: Any) -> Any:
    """Return a schema whose `const`, which draft 4 does not know, says the same as an `enum`."""
    if isinstance(schema, list):
        return [_as_draft_4(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "const":
            result["enum"] = [value]
        elif keyword in _SCHEMAS_BY_NAME and isinstance(value, dict):
            result[keyword] = {name: _as_draft_4(item) for name, item in value.items()}
        else:
            result[keyword] = value if keyword in _DATA else _as_draft_4(value)
    return result


def _call_text(request: Any) -> str:
    args = request.get("args") if isinstance(request, dict) else None
    return "%s(%s)" % (_name(request), json.dumps(args, ensure_ascii=False))
