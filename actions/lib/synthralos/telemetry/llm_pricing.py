"""The cost of LLM calls, by the prices of the configuration."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Optional, TypedDict, Union

if TYPE_CHECKING:
    from synthralos.config.settings import Price, Settings

TOKENS_PER_PRICE = 1_000_000

# [provider, model, milliseconds, cause, input tokens, output tokens, cost]; tokens and cost are
# null if they are unknown, as for a call that failed without an answer.
CallRow = list[Union[str, int, float, None]]


class Tokens(TypedDict):
    """The tokens of a call that have a price; a server may leave one out."""

    input_tokens: int
    output_tokens: int


class TokenUsage(Tokens, total=False):
    """The tokens of a call, as billed: those of reasoning and of caches are part of the others."""

    total_tokens: int
    reasoning_tokens: int
    cached_tokens: int


class LlmCall(TypedDict):
    """An LLM call that has ended.

    `provider` and `model` are as the configuration names them; `cause` is null if it succeeded;
    `usage` is null if it is unknown, as for a call that failed without an answer.
    """

    provider: str
    model: str
    seconds: float
    cause: Optional[str]
    usage: Optional[TokenUsage]


def call_cost(
    provider: str, model: str, usage: Tokens, settings: "Settings"
) -> Optional[float]:
    """Return the cost of a call in `settings.currency`, or None if the model has no price.

    :param provider, model: as the configuration names them.
    """
    price = model_price(provider, model, settings)
    if price is None:
        return None
    read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    return (read * price.input + written * price.output) / TOKENS_PER_PRICE


def price_calls(calls: Iterable[LlmCall], settings: "Settings") -> list[CallRow]:
    """Return a row for each LLM call."""
    rows: list[CallRow] = []
    for call in calls:
        usage, price = call["usage"], None
        if usage is not None:
            price = call_cost(call["provider"], call["model"], usage, settings)
        rows.append([
            call["provider"], call["model"], int(call["seconds"] * 1000), call["cause"],
            usage and usage["input_tokens"], usage and usage["output_tokens"],
            None if price is None else round(price, 9),
        ])
    return rows


def model_price(provider: str, model: str, settings: "Settings") -> "Optional[Price]":
    """Return the settings.Price of a model, or None."""
    for candidate in settings.providers:
        if candidate.name == provider:
            for served_model in candidate.models:
                if served_model.name == model:
                    return served_model.price
    return None
