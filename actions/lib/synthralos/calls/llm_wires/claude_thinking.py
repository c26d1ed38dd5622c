"""The thinking of Claude models, at Anthropic and at Bedrock."""

from dataclasses import dataclass, field
from typing import Any, Optional

from synthralos.calls.llm_wires import reasoning
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.conversation import Conversation
from synthralos.calls.llm_wires.model_traits import ModelTraits
from synthralos.calls.llm_wires.wire import WireRequest

# The efforts of the API; it has neither none nor minimal.
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
# What a model that thinks on a budget cannot be told at the same time.
_WITHHELD = ("temperature", "top_p", "top_k")


@dataclass(frozen=True)
class Thinking:
    """What to send.

    :ivar fields: `thinking` and `output_config`, where the API gets them.
    :ivar enabled: whether the model was told to think.
    :ivar budget: tokens that it may think, if it was told a number.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    enabled: bool = False
    budget: int = 0


def choose(
    request: ChatRequest,
    traits: ModelTraits,
    turns: Conversation,
    provider: str,
    wire_request: WireRequest,
) -> Thinking:
    """Return what the model is told of thinking; what it is not told is added to `adapted`.

    :param provider: whose thoughts come with its calls.
    """
    requested = reasoning.requested(request)
    if requested is None:
        return Thinking()
    if traits.thinking == "none":
        if requested.effort != "none":
            wire_request.leave_out(requested.field, "the model does not reason")
        return Thinking()
    if requested.effort == "none":
        return _without(traits, requested, wire_request)
    if traits.thinking == "budget":
        return _on_budget(request, requested, turns, provider, wire_request)
    reason = _obstacle(request, turns)
    if reason is not None:
        wire_request.leave_out(requested.field, reason)
        return Thinking()
    effort = reasoning.nearest(requested.effort, _EFFORTS)
    if effort != requested.effort or requested.field == "thinking":
        wire_request.send_as(requested.field, effort, "the model takes it as an effort")
    fields = {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}
    return Thinking(fields, enabled=True)


def withhold(request: ChatRequest, wire_request: WireRequest) -> list[str]:
    """Return the parameters that a thinking model does not take; adds them to `adapted`."""
    names = [name for name in _WITHHELD if name in request.parameters]
    for name in names:
        wire_request.leave_out(name, "the model does not take it while it reasons")
    return names


def _without(
    traits: ModelTraits, requested: reasoning.Reasoning, wire_request: WireRequest
) -> Thinking:
    if not traits.always_thinks:
        return Thinking()
    wire_request.send_as(requested.field, _EFFORTS[0], "the model always reasons")
    return Thinking({"output_config": {"effort": _EFFORTS[0]}})


def _on_budget(
    request: ChatRequest,
    requested: reasoning.Reasoning,
    turns: Conversation,
    provider: str,
    wire_request: WireRequest,
) -> Thinking:
    reason = _obstacle(request, turns) or _lost_thoughts(turns, provider)
    if reason is not None:
        wire_request.leave_out(requested.field, reason)
        return Thinking()
    budget, limit = max(requested.budget, reasoning.MIN_BUDGET), request.max_tokens
    if limit is not None and budget >= limit:
        budget = limit // 2
        if budget < reasoning.MIN_BUDGET:
            wire_request.leave_out(
                requested.field, "the limit of the answer leaves no room for reasoning"
            )
            return Thinking()
    if budget != requested.budget:
        wire_request.send_as(
            requested.field, "%d tokens" % budget,
            "the API takes at least %d tokens, and fewer than the limit of the answer"
            % reasoning.MIN_BUDGET
        )
    return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, True, budget)


def _obstacle(request: ChatRequest, turns: Conversation) -> Optional[str]:
    choice = request.parameters.get("tool_choice")
    if choice == "required" or isinstance(choice, dict):
        return "the model does not reason where it must call a tool"
    if turns.ends_with_assistant:
        return "the model does not reason where it continues an answer"
    return None


def _lost_thoughts(turns: Conversation, provider: str) -> Optional[str]:
    for turn in turns.open_turns:
        if turn.calls and not turn.calls[0].thoughts(provider):
            return "the calls in progress come without the thoughts that led to them"
    return None
