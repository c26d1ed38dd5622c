"""The wire formats of LLM providers, one module each; see `wire.Wire`.

A process imports only those of the providers that it calls.
"""

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synthralos.calls.llm_wires.wire import Wire

# By the value of `api` in the configuration: the module and its class.
_WIRES = {
    "openai": ("openai", "OpenAI"),
    "openai_responses": ("openai_responses", "OpenAIResponses"),
    "anthropic": ("anthropic", "Anthropic"),
    "gemini": ("gemini", "Gemini"),
    "bedrock": ("bedrock", "Bedrock"),
}
APIS = tuple(_WIRES)


@functools.cache
def wire_format(api: str) -> "Wire":
    """Return the wire format of an `api`, one of APIS."""
    module, name = _WIRES[api]
    wire: Wire = getattr(importlib.import_module("%s.%s" % (__name__, module)), name)()
    return wire
