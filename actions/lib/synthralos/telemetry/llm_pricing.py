"""The cost of LLM calls, by the prices of the configuration."""

TOKENS_PER_PRICE = 1_000_000


def call_cost(provider, model, usage, settings):
    """Return the cost of a call in `settings.currency`, or None if the model has no price.

    :param provider, model: as the configuration names them.
    :param usage: {input_tokens, output_tokens}, as llm_calls.complete returns it.
    """
    price = model_price(provider, model, settings)
    if price is None:
        return None
    read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    return (read * price.input + written * price.output) / TOKENS_PER_PRICE


def price_calls(calls, settings):
    """Return a row for each LLM call.

    :param calls: as calls.http.Client.llm_calls holds them.
    :returns: [[provider, model, milliseconds, cause, input tokens, output tokens, cost]]; tokens
        and cost are null if they are unknown, as for a call that failed without an answer.
    """
    rows = []
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


def model_price(provider, model, settings):
    """Return the settings.Price of a model, or None."""
    for candidate in settings.providers:
        if candidate.name == provider:
            for served_model in candidate.models:
                if served_model.name == model:
                    return served_model.price
    return None
