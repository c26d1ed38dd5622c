"""Where agents run: one module for each API, and the protocol that they share."""

import importlib
from typing import TYPE_CHECKING

from synthralos.calls.agent_platforms.protocol import AgentPlatform

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
    module_name, class_name = PLATFORM_CLASSES[platform.api]
    module = importlib.import_module("%s.%s" % (__name__, module_name))
    api: AgentPlatform = getattr(module, class_name)(client, platform)
    return api
