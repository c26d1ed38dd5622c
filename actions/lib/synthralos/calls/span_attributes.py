"""The spans of calls, by OpenTelemetry's conventions for generative AI and HTTP.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import urlsplit

from synthralos.telemetry import tracing

if TYPE_CHECKING:
    from synthralos.calls.llm_providers import ServedModel
    from synthralos.calls.llm_wires.completion import Completion
    from synthralos.config.connection import Connection
    from synthralos.config.platforms import Platform
    from synthralos.telemetry.tracing import AttributeValue, Span

_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty")


def chat(
    served_model: "ServedModel", parameters: Mapping[str, Any]
) -> "AbstractContextManager[Span]":
    """Return the span of a call to a model.

    :param parameters: of sampling.
    """
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": served_model.provider.name,
        "gen_ai.request.model": served_model.model.name,
    }
    attributes.update(
        ("gen_ai.request." + name, parameters[name])
        for name in _SAMPLING
        if isinstance(parameters.get(name), (int, float))
    )
    return _call("chat " + served_model.model.name, served_model.connection, attributes)


def record_completion(completion: "Completion") -> None:
    """Add the usage of a completion to the open span."""
    tracing.set_attributes(
        {
            "gen_ai.usage.input_tokens": completion.usage.input_tokens,
            "gen_ai.usage.output_tokens": completion.usage.output_tokens,
            "gen_ai.response.finish_reasons": [completion.finish_reason],
        }
    )


def invoke_agent(
    platform: "Platform", agent_id: Optional[str]
) -> "AbstractContextManager[Span]":
    """Return the span of the calls that run an agent."""
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": platform.name,
        "gen_ai.agent.id": agent_id,
    }
    name = "invoke_agent %s" % agent_id if agent_id else "invoke_agent"
    return _call(name, platform.connection, attributes)


def request(connection: "Connection", method: str) -> "AbstractContextManager[Span]":
    """Return the span of a request; its path is the caller's text and is left out."""
    return _call(method, connection, {"http.request.method": method})


def _call(
    name: str, connection: "Connection", attributes: "dict[str, AttributeValue]"
) -> "AbstractContextManager[Span]":
    address = urlsplit(connection.base_url)
    try:
        port = address.port
    except ValueError:
        port = None
    port = port or {"http": 80, "https": 443}.get(address.scheme)
    attributes.update({"server.address": address.hostname, "server.port": port})
    return tracing.span(name, attributes, tracing.CLIENT)
