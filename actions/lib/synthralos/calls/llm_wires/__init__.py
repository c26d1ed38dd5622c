"""The wire formats of LLM providers, one file each.

A wire is an object with `path` (of chats), `listing` (where GET lists the models), `headers`,
`authorize` (secret -> headers; None for a bearer token), `body` and `read`; see `completion.Wire`.
"""

from synthralos.calls.llm_wires.anthropic import Anthropic
from synthralos.calls.llm_wires.completion import Wire
from synthralos.calls.llm_wires.openai import OpenAI

# By the value of `api` in the configuration.
WIRE_FORMATS: dict[str, Wire] = {"openai": OpenAI(), "anthropic": Anthropic()}
