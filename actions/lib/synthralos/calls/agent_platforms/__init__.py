"""Where agents run: one module for each API, and the protocol that they share."""

import importlib
from typing import TYPE_CHECKING, Any

from synthralos.calls.agent_platforms.protocol import AgentPlatform, Capabilities

if TYPE_CHECKING:
    from synthralos.calls.http import Client
    from synthralos.config.platforms import Platform

# {api: module, class}; imported where it is used, because each action is a process.
PLATFORM_CLASSES = {
    "synthralos": ("synthralos", "SynthralOS"),
    "langgraph": ("langgraph", "LangGraph"),
    "a2a": ("a2a", "A2A"),
    "openai_responses": ("openai_responses", "OpenAIResponses"),
}


def connect(client: "Client", platform: "Platform") -> AgentPlatform:
    """Return the platform, reached through its API; nothing is sent."""
    api: AgentPlatform = _class_of(platform.api)(client, platform)
    return api


def capabilities_of(api: str) -> Capabilities:
    """Return what an API can do."""
    capabilities: Capabilities = _class_of(api).capabilities
    return capabilities


def _class_of(api: str) -> Any:
    module_name, class_name = PLATFORM_CLASSES[api]
    module = importlib.import_module("%s.%s" % (__name__, module_name))
    return getattr(module, class_name)
