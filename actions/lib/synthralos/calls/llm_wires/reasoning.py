"""How much a model is to reason: `reasoning_effort`, or `thinking` with a budget in tokens."""

from dataclasses import dataclass
from typing import Optional

from synthralos.calls.llm_wires.chat_parameters import EFFORTS
from synthralos.calls.llm_wires.chat_request import ChatRequest

# Tokens; those that Google's OpenAI-compatible API uses for these efforts.
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
# Anthropic accepts no smaller one.
MIN_BUDGET = 1024


@dataclass(frozen=True)
class Reasoning:
    """What a request says of reasoning.

    :ivar field: the parameter that says it.
    :ivar effort: one of EFFORTS.
    :ivar budget: tokens.
    """

    field: str
    effort: str
    budget: int


def requested(request: ChatRequest) -> Optional[Reasoning]:
    """Return what the request says of reasoning, or None."""
    effort: Optional[str] = request.parameters.get("reasoning_effort")
    thinking = request.parameters.get("thinking")
    if thinking is None:
        if effort is None:
            return None
        return Reasoning("reasoning_effort", effort, budget_of(effort))
    if thinking["type"] == "disabled":
        return Reasoning("thinking", "none", 0)
    budget = thinking.get("budget_tokens")
    if effort is None or effort == "none":
        effort = "high" if budget is None else _effort_of(budget)
    return Reasoning("thinking", effort, budget or budget_of(effort))


def budget_of(effort: str) -> int:
    """Return the tokens that an effort stands for."""
    return 0 if effort == "none" else _BUDGETS.get(effort, _BUDGETS["high"])


def nearest(effort: str, efforts: tuple[str, ...]) -> str:
    """Return the effort among `efforts` that comes nearest, the higher of two; empty: any."""
    if not efforts or effort in efforts:
        return effort
    rank = EFFORTS.index(effort)
    return min(
        efforts, key=lambda name: (abs(EFFORTS.index(name) - rank), -EFFORTS.index(name))
    )


def _effort_of(budget: int) -> str:
    for effort in ("low", "medium"):
        if budget <= _BUDGETS[effort]:
            return effort
    return "high"
