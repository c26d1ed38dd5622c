"""The questions of a graph, as text for people, and their answers, in the form that it takes.

An interrupt's value may be anything. Two forms are known, those of LangChain's
HumanInTheLoopMiddleware: one interrupt for several tool calls, and one for each.
"""

import json
from collections.abc import Mapping
from typing import Any

YES, NO = "yes", "no"
# What a person who refuses a tool call tells the agent.
REFUSAL = "A person refused this tool call."


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


def resume_value(value: Any, answer: str) -> Any:
    """Return what the graph gets as the answer to an interrupt.

    :param value: of the interrupt.
    :param answer: a person's: `yes`, `no` or a text. To a tool call that has to be approved, a text
        is the reason why it is not, unless the tool only asks people.
    """
    if _is_review(value):
        allowed = _allowed_decisions(value)
        requests = value["action_requests"]
        names = [_name(request) for request in requests]
        return {"decisions": [_decision(answer, allowed.get(name, [])) for name in names]}
    if _is_tool_approval(value):
        return _decision(answer, [])
    return answer


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


def _decision(answer: str, allowed: list[Any]) -> dict[str, Any]:
    if "respond" in allowed and "approve" not in allowed:
        return {"type": "respond", "message": answer}
    if answer == YES:
        return {"type": "approve"}
    return {"type": "reject", "message": REFUSAL if answer == NO else answer}


def _call_text(request: Any) -> str:
    args = request.get("args") if isinstance(request, dict) else None
    return "%s(%s)" % (_name(request), json.dumps(args, ensure_ascii=False))
