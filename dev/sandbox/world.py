"""Routing: from a path to the wire that answers it."""
from urllib.parse import unquote

from sandbox import anthropic, config, hooks, openai, platform, prometheus, region
from sandbox.answers import Exchange, answer


def exchange(call, number, errors, nodes, series_by_query):
    """The Exchange of `call`.

    :param number: of the call.
    :param errors: platform's target -> what its observability route lists.
    :param nodes: what Prometheus has said is down; series_by_query: what is set for its queries.
    """
    parts = call.path.split("/")
    first = parts[1]
    if first == "platform" or first.startswith("platform-"):
        name = first.replace("-", ":", 1)
        return platform.exchange(name, _below(parts, 2), call, number, errors.get(name, []))
    if first in ("openai", "anthropic") and len(parts) > 3 and parts[2]:
        wire = openai if first == "openai" else anthropic
        provider = unquote(parts[2])
        return wire.exchange(provider, _below(parts, 3), call, number, config.models(provider))
    if first == "region" and len(parts) > 3 and parts[2] and parts[3]:
        return region.exchange(unquote(parts[2]), unquote(parts[3]), _below(parts, 4), call)
    if first == "prometheus":
        return prometheus.exchange(_below(parts, 2), call, nodes, series_by_query)
    if first == "hook" and len(parts) > 2 and parts[2]:
        return hooks.exchange(unquote(parts[2]), call)
    unknown = answer(404, {"error": "The sandbox has nothing at " + call.path})
    return Exchange("unknown", lambda step: unknown, unknown, scripted=False)


def _below(parts, depth):
    return "/" + "/".join(parts[depth:])
