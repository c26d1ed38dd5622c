"""What a model refused of a request, and the request without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from synthralos.calls.llm_wires import responses_reasoning
from synthralos.calls.llm_wires.chat_parameters import TOKEN_LIMITS
from synthralos.calls.llm_wires.chat_request import ChatRequest
from synthralos.calls.llm_wires.wire import Adaptation
from synthralos.core.failures import SAMPLING_PARAMETERS, Failure
from synthralos.core.lazy_pattern import LazyPattern

_CAMEL = LazyPattern(r"(?<=[a-z0-9])([A-Z])")
# https://github.com/openai/codex/issues/8145, https://github.com/can1357/oh-my-pi/issues/41 and
# https://github.com/vercel/ai/issues/7099
_LOST_REASONING = LazyPattern(
    r"(?i)\bencrypted content\b.{0,500}\bcould not be (?:verified|decrypted)"
    r"|\bitem (?:with id )?['\"`]rs_"
)
# By the names that APIs have for them.
_PARAMETERS_OF_APIS = {
    "max_output_tokens": TOKEN_LIMITS,
    "max_completion_tokens": TOKEN_LIMITS,
    "max_tokens": TOKEN_LIMITS,
    "reasoning": ("reasoning_effort", "thinking"),
    "effort": ("reasoning_effort", "thinking"),
    "thinking": ("thinking", "reasoning_effort"),
    "thinking_config": ("reasoning_effort", "thinking"),
    "thinking_level": ("reasoning_effort", "thinking"),
    "thinking_budget": ("reasoning_effort", "thinking"),
    "budget_tokens": ("thinking", "reasoning_effort"),
    "stop_sequences": ("stop",),
    "user_id": ("user", "safety_identifier"),
    "response_logprobs": ("logprobs",),
}


@dataclass(frozen=True)
class Refusal:
    """A parameter that a model refused.

    :ivar name: in the request.
    :ivar replacement: the name under which the model takes it, or None.
    """

    name: str
    replacement: Optional[str]

    @property
    def adaptation(self) -> Adaptation:
        """How it is named in the trail."""
        if self.replacement is None:
            return {"field": self.name, "reason": "the model refused it"}
        return {
            "field": self.name, "reason": "the model refused it by this name",
            "sent_as": self.replacement,
        }

    def apply(self, request: ChatRequest) -> ChatRequest:
        """Return the request that the model may take."""
        if self.replacement is None:
            return request.without(self.name)
        return request.renamed(self.name, self.replacement)


class LostReasoning(Refusal):
    """The model cannot read the reasoning before the calls of a conversation.

    Another organization has encrypted it, or the provider has not stored it.
    """

    def __init__(self) -> None:
        super().__init__("messages", None)

    @property
    def adaptation(self) -> Adaptation:
        return {"field": self.name, "reason": "the model refused the reasoning before its calls"}

    def apply(self, request: ChatRequest) -> ChatRequest:
        return request.without_extra_content(responses_reasoning.NAME)


def read_refusal(
    failure: Failure, request: ChatRequest, earlier: Sequence[Refusal]
) -> Optional[Refusal]:
    """Return what to adapt after a failure, or None: each parameter is adapted once."""
    if _LOST_REASONING.search(failure.message):
        is_known = any(isinstance(refusal, LostReasoning) for refusal in earlier)
        has_reasoning = responses_reasoning.has_reasoning(request.messages)
        return LostReasoning() if has_reasoning and not is_known else None
    if failure.cause != "unsupported_parameter":
        return None
    named = failure.evidence.get("parameter")
    name = _parameter_of(named, request) if isinstance(named, str) else None
    settled = {refusal.name for refusal in earlier} | {refusal.replacement for refusal in earlier}
    if name is None or name in settled:
        return None
    replacement = failure.evidence.get("replacement")
    usable = replacement in SAMPLING_PARAMETERS and replacement not in request.parameters
    return Refusal(name, replacement if usable else None)


def _parameter_of(named: str, request: ChatRequest) -> Optional[str]:
    """Return the parameter of the request that an API means by a name, or None."""
    name = _CAMEL.sub(lambda match: "_" + match.group(1), named).lower().rpartition(".")[2]
    candidates = (name,) + tuple(_PARAMETERS_OF_APIS.get(name, ()))
    return next(
        (
            candidate for candidate in candidates
            if candidate in request.parameters and candidate in SAMPLING_PARAMETERS
        ),
        None,
    )
