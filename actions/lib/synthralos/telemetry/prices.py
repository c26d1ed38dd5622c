"""What tokens cost, by the prices of the configuration."""

PER = 1_000_000


def cost(provider, model, usage, settings):
    """What a call cost, in `settings.currency`, or None where the model has no price.

    :param provider, model: as the configuration names them.
    :param usage: {input_tokens, output_tokens}, as providers.call returns it.
    """
    price = price_of(provider, model, settings)
    if price is None:
        return None
    read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    return (read * price.input + written * price.output) / PER


def price_of(provider, model, settings):
    """The settings.Price of a model, or None."""
    for known in settings.providers:
        if known.name == provider:
            for served in known.models:
                if served.name == model:
                    return served.price
    return None
